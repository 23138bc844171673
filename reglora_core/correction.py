"""The correction round: the paint changed, what was learned before it is kept.

After an adaptation the user paints one more slice, or repaints one, and adapts again. The
low-rank update of the earlier adapter stays as it is, its heads are fitted on to all of the paint
as it is now (an organ is told by its name, a new one starts afresh), the experts are done again,
and all are fused as ever. Heads before and after count the same, so that what was right elsewhere
is not unlearned for the sake of one slice. Alternatives, with figures: docs/corrections.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch  # noqa: TID253

from reglora_core.adapter import Adapter, load_adapter
from reglora_core.errors import AdapterError
from reglora_core.events import Report
from reglora_core.features import remembering
from reglora_core.fit import ExpertScores, Fitted, Task, WarmHeads, fit_heads, probabilities
from reglora_core.head import Groups, Head, HeadConfig
from reglora_core.job import AdaptJob
from reglora_core.methods.catalogue import method_entry
from reglora_core.methods.mask_decoder import MaskHead, matched_tokens
from reglora_core.models.base import BaseModel
from reglora_core.models.slices import axis_name
from reglora_core.organs import Organ

CORRECTION = HeadConfig(steps=100, learning_rate=2e-3)
HEADS = {"mlp": 2, "masks": 1}  # that an adaptation fits, of the kinds that are fitted on


@dataclass(frozen=True)
class WarmStart:
    """What a correction round starts from.

    Attributes:
        adapter: the earlier one; its update is on the model.
        new: names of organs that it does not know.
        gone: names of organs that it knows and that are not painted any more.
    """

    adapter: Adapter
    new: tuple[str, ...]
    gone: tuple[str, ...]

    @property
    def why(self) -> str:
        """Say what is kept, for the report."""
        parts = ["the earlier adapter's update is kept and its heads are fitted on"]
        if self.new:
            parts.append(f"new: {', '.join(self.new)}")
        if self.gone:
            parts.append(f"no longer there: {', '.join(self.gone)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Route:
    """How the paint is answered, and why; `start` is there for a correction round alone."""

    why: str
    start: WarmStart | None = None

    @property
    def path(self) -> str:
        return "full" if self.start is None else "correction"


def choose_route(job: AdaptJob, model: BaseModel, organs: Sequence[Organ], report: Report) -> Route:
    """Return a correction round where one is asked for and can be; the update is on the model.

    Where the earlier adapter does not fit, a warning says so, and the whole adaptation is done.
    """
    if not job.correct or job.from_adapter is None:
        return Route("no correction was asked for")
    try:
        if job.method == "scratch" or method_entry(job.method).head not in HEADS:
            message = f"{job.method}: a method without a correction round"
            raise AdapterError(message, "adapt in full")
        start = warm_start(job.from_adapter, model, organs)
    except AdapterError as error:
        report("warning", message=f"no correction round but a full adaptation: {error.message}")
        return Route(error.message)
    return Route(start.why, start)


def warm_start(path: Path, model: BaseModel, organs: Sequence[Organ]) -> WarmStart:
    """Read the earlier adapter and put its update on the model.

    Raises:
        AdapterError: it is gone, damaged, of another base network, or shares no organ with the
            paint. The model is as it was.
    """
    adapter = load_adapter(path)
    known, wanted = [o.name for o in adapter.organs], [o.name for o in organs]
    if not set(known) & set(wanted):
        message = f"{path.name}: none of its organs is painted ({', '.join(known)})"
        raise AdapterError(message, "adapt in full")
    if adapter.head not in HEADS:
        message = f"{path.name}: made by {adapter.method}, a method without a correction round"
        raise AdapterError(message, "adapt in full")
    if len(adapter.heads) != HEADS[adapter.head]:
        count = f"{len(adapter.heads)} heads instead of {HEADS[adapter.head]}"
        message = f"{path.name}: it has {count}"
        raise AdapterError(message, "adapt in full")
    if adapter.slice_axis != axis_name(model.slice_axis):
        message = f"{path.name}: made on slices along {adapter.slice_axis or 'no axis'}, the paint "
        message += f"is on slices along {axis_name(model.slice_axis) or 'no axis'}"
        raise AdapterError(message, "adapt in full")
    adapter.attach_to(model)
    return WarmStart(
        adapter,
        tuple(name for name in wanted if name not in known),
        tuple(name for name in known if name not in wanted),
    )


def correct(
    model: BaseModel, task: Task, start: WarmStart, generator: torch.Generator, report: Report
) -> Fitted:
    """Fit the earlier heads on to the paint as it is now, and fuse them with the experts.

    Args:
        model: with the earlier update, which stays as it is.
        task: the paint as it is now, for heads of the adapter's kind.
        start: from `warm_start`.
        generator: source of randomness.
        report: receives events, may stop the work.

    Returns:
        The result. Its held-out Dice are those of the earlier adapter: nothing is left out here.
    """
    model = remembering(model)
    earlier = warm_heads(start.adapter, model, task, generator)
    config = CORRECTION if not start.new else HeadConfig()
    warm = WarmHeads(earlier, config)
    heads = fit_heads(model, task, task.paintings, generator, report, warm)
    every = heads if start.new else [*earlier, *heads]  # the earlier ones know nothing of a new one
    own = probabilities(model, every, task.paintings, report)
    experts = ExpertScores(task, task.paintings)
    known = start.adapter.held_out_dice
    return Fitted(
        heads,
        experts,
        own,
        experts.fused(own, task.groups),
        held_out={o.name: known.get(o.name) for o in task.organs} if known else {},
        is_adapted=start.adapter.is_adapted,
    )


def warm_heads(
    adapter: Adapter, model: BaseModel, task: Task, generator: torch.Generator
) -> list[Head]:
    """Return an adapter's heads with the outputs of a task's organs, matched by name.

    Outputs of organs that it lacks start at random, or as SAM's first mask; a group's background is
    the mean of the backgrounds that its organs had.
    """
    if adapter.head == "masks":
        return [_warm_masks(adapter, model, task)]
    rows = _rows(adapter.groups)
    place = {organ.name: index for index, organ in enumerate(adapter.organs)}
    heads = []
    for old in adapter.build_heads(model):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            config = replace(CORRECTION, hidden=adapter.hidden)
            head = Head(model.widths, task.groups, config).to(model.device)
        state = old.state_dict()
        weight, bias = head.output.weight.detach().clone(), head.output.bias.detach().clone()
        row = 0
        for group in task.groups:
            known = [place[o.name] for o in (task.organs[k] for k in group) if o.name in place]
            sources = sorted({rows[index][0] for index in known}) or [0]
            weight[row] = state["output.weight"][sources].mean(0)
            bias[row] = state["output.bias"][sources].mean()
            for offset, index in enumerate(group, start=1):
                name = task.organs[index].name
                if name in place:
                    source = rows[place[name]][1]
                    weight[row + offset] = state["output.weight"][source]
                    bias[row + offset] = state["output.bias"][source]
            row += len(group) + 1
        head.load_state_dict({**state, "output.weight": weight, "output.bias": bias})
        heads.append(head.eval())
    return heads


def _warm_masks(adapter: Adapter, model: BaseModel, task: Task) -> MaskHead:
    (earlier,) = adapter.build_heads(model)
    assert isinstance(earlier, MaskHead)
    known = [adapter.organs[index].name for group in adapter.groups for index in group]
    wanted = [task.organs[index].name for group in task.groups for index in group]
    rows = [known.index(name) if name in known else None for name in wanted]
    return matched_tokens(MaskHead(model, task.groups).to(model.device), earlier, rows)


def _rows(groups: Groups) -> dict[int, tuple[int, int]]:
    """Return, per organ, the output of its group's background and its own."""
    rows, start = {}, 0
    for group in groups:
        for offset, organ in enumerate(group, start=1):
            rows[organ] = (start, start + offset)
        start += len(group) + 1
    return rows
