"""Fitting organs to the painted slices of one or several scans.

heads      on frozen features, in seconds: the first result
held out   some annotated slices are left out and predicted from the others
refine     the low-rank updates, first on the reduced paint, to see whether they help there,
           then on all of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch  # noqa: TID253

from reglora_core import lora
from reglora_core.events import Report
from reglora_core.experts import (
    Interpolation,
    PaintedGrid,
    Propagation,
    given_expert,
    paint_on_grid,
)
from reglora_core.fusion import fuse
from reglora_core.head import Groups, Head, HeadConfig, fit_head
from reglora_core.models.base import BaseModel
from reglora_core.organs import Organ
from reglora_core.refine import RefineConfig, Refiner
from reglora_core.samples import Painting, draw_voxels, samples_of
from reglora_core.scores import head_scores, split_groups

FRACTION_OF_DENSE = 5  # of densely annotated volumes one fifth is held out, in one block
DENSE = 20  # annotated slices from which on a volume counts as densely annotated
MAY_LOSE = 0.005  # held-out Dice that the update may cost before it is dropped

Probabilities = list[torch.Tensor]  # per painting (outputs, z, y, x) in the body's box


@dataclass(frozen=True)
class Task:
    """What is fitted: organs, which of them exclude each other, and where they are painted."""

    organs: tuple[Organ, ...]
    groups: Groups
    paintings: tuple[Painting, ...]
    given: tuple[torch.Tensor | None, ...] = ()  # per painting: a propagation result, see experts


@dataclass
class Fitted:
    """What the fit found.

    Attributes:
        heads: on the features of the network as it is now.
        scores: per painting and group, fused scores (organs + 1, z, y, x) in the body's box.
        held_out: per organ, its Dice on annotated slices that were left out; a lower bound,
            because leaving a slice out doubles the gap. None where nothing could be left out.
        is_adapted: whether the low-rank updates are in use.
        remarks: what the user should know.
    """

    heads: list[Head]
    scores: list[list[torch.Tensor]]
    held_out: dict[str, float | None] = field(default_factory=dict)
    is_adapted: bool = False
    remarks: list[str] = field(default_factory=list)


def fit_heads(
    model: BaseModel,
    task: Task,
    paintings: Sequence[Painting],
    generator: torch.Generator,
    report: Report,
) -> list[Head]:
    """Fit two heads on frozen features: one on uniform voxels, one with small organs favoured."""
    config = HeadConfig()
    pools = []
    for is_balanced in (False, True):
        voxels = [
            draw_voxels(p, task.groups, len(task.organs), 24_000, is_balanced, generator)
            for p in paintings
        ]
        pools.append(samples_of(model, list(paintings), voxels))
    features = torch.cat([pool.features for pool in pools])
    heads = []
    for number, pool in enumerate(pools):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
            head = Head(model.widths, task.groups, config).to(model.device)
        head.standardise_by(features)

        def at_step(step: int, loss: float, first: int = number * config.steps) -> None:
            if step % 10 == 9:
                report(
                    "progress",
                    stage="head",
                    step=first + step + 1,
                    steps=2 * config.steps,
                    loss=loss,
                )

        heads.append(fit_head(head, pool, config, generator, at_step))
    return heads


class ExpertScores:
    """The experts' scores of every painting; they depend on the paint, not on the network."""

    def __init__(self, task: Task, paintings: Sequence[Painting]) -> None:
        self.paints: list[list[PaintedGrid]] = []
        self.propagated: list[list[torch.Tensor]] = []
        self.interpolated: list[list[torch.Tensor]] = []
        for number, painting in enumerate(paintings):
            scan = painting.scan
            paints = [
                paint_on_grid(painting.annotation, scan.grid, painting.organ_of, group).cropped(
                    scan.body
                )
                for group in task.groups
            ]
            given = task.given[number] if number < len(task.given) else None
            self.paints.append(paints)
            self.interpolated.append([Interpolation()(scan.inside, paint) for paint in paints])
            if given is None:
                self.propagated.append([Propagation()(scan.inside, paint) for paint in paints])
            else:
                self.propagated.append([given_expert(given[scan.body], paints[0])])

    def fused(self, probabilities: Probabilities, groups: Groups) -> list[list[torch.Tensor]]:
        """Return the fused scores per painting and group."""
        return [
            [
                fuse(own, propagated, interpolated, paint)
                for own, propagated, interpolated, paint in zip(
                    split_groups(scores, groups),
                    self.propagated[number],
                    self.interpolated[number],
                    self.paints[number],
                    strict=True,
                )
            ]
            for number, scores in enumerate(probabilities)
        ]


def probabilities(
    model: BaseModel, heads: Sequence[Head], paintings: Sequence[Painting]
) -> Probabilities:
    """Return the heads' mean probabilities per painting."""
    return [head_scores(model, heads, painting.scan) for painting in paintings]


def held_out_slices(painting: Painting) -> list[int]:
    """Return positions of annotated slices that can be left out: every other inner slice.

    Of densely annotated volumes it is one block, because a neighbour gives a slice away.
    """
    count = len(painting.annotation.slices)
    if count >= DENSE:
        start = (count - count // FRACTION_OF_DENSE) // 2
        return list(range(start, start + count // FRACTION_OF_DENSE))
    return list(range(1, count - 1, 2))


def reduced(painting: Painting) -> Painting | None:
    """Return the painting without its held-out slices, or None where none can be left out."""
    out = held_out_slices(painting)
    kept = [k for k in range(len(painting.annotation.slices)) if k not in out]
    return painting.on_slices(kept) if out else None


def held_out_dice(
    task: Task, paintings: Sequence[Painting], scores: list[list[torch.Tensor]]
) -> dict[str, float | None]:
    """Return each organ's Dice on the held-out slices of all paintings, on the working grid.

    An organ that is not painted on the slices that were kept has none: nothing could predict it.
    """
    taught = {
        painting.organ_of[own]
        for painting in paintings
        if (kept := reduced(painting)) is not None
        for own in range(len(kept.annotation.organs))
        if kept.annotation.slices_of(own)
    }
    overlap = torch.zeros(len(task.organs))
    total = torch.zeros(len(task.organs))
    for painting, own in zip(paintings, scores, strict=True):
        out = painting.on_slices(held_out_slices(painting))
        for group, group_scores in zip(task.groups, own, strict=True):
            paint = paint_on_grid(out.annotation, out.scan.grid, out.organ_of, group).cropped(
                out.scan.body
            )
            labels = group_scores.argmax(0).movedim(paint.axis, 0)[paint.indices]
            for place, organ in enumerate(group):
                truth, found = paint.planes == place + 1, labels == place + 1
                found &= paint.planes >= 0
                overlap[organ] += (truth & found).sum()
                total[organ] += truth.sum() + found.sum()
    return {
        organ.name: float(2 * overlap[k] / total[k]) if total[k] > 0 and k in taught else None
        for k, organ in enumerate(task.organs)
    }


def mean_dice(dice: dict[str, float | None]) -> float:
    """Return the mean over the organs that have one; NaN where none has."""
    known = [value for value in dice.values() if value is not None]
    return sum(known) / len(known) if known else float("nan")


def refine(  # noqa: PLR0913
    model: BaseModel,
    task: Task,
    first: Fitted,
    experts: ExpertScores,
    config: RefineConfig,
    generator: torch.Generator,
    report: Report,
) -> Fitted:
    """Train the low-rank updates, and keep them if they do not hurt on held-out slices.

    Args:
        model: gets the updates; they are removed again where they are not kept.
        first: the heads on frozen features with their scores.
        experts: of the whole paint.
    """
    simple = probabilities(model, first.heads, task.paintings)
    testable = [p for p in task.paintings if reduced(p) is not None]
    result = Fitted(first.heads, first.scores, remarks=list(first.remarks))
    half = config.steps // 2 if testable else 0
    refiner: Refiner
    if testable:
        fewer = [kept for p in testable if (kept := reduced(p)) is not None]
        trial_heads = fit_heads(model, task, fewer, generator, report)
        trial_experts = ExpertScores(task, fewer)
        before = probabilities(model, trial_heads, fewer)
        plain = held_out_dice(task, testable, trial_experts.fused(before, task.groups))
        result.held_out = plain
        refiner = Refiner(model, trial_heads, task.groups, config, generator)
        refiner.train(fewer, half, report)
        after = probabilities(model, trial_heads, fewer)
        mixed = [(a + b) / 2 for a, b in zip(before, after, strict=True)]
        adapted = held_out_dice(task, testable, trial_experts.fused(mixed, task.groups))
        if mean_dice(adapted) < mean_dice(plain) - MAY_LOSE:
            lora.remove_adapters(model.network)
            result.remarks.append(
                f"the low-rank update was dropped: held-out Dice {mean_dice(adapted):.3f} with it, "
                f"{mean_dice(plain):.3f} without"
            )
            return result
        result.held_out = adapted
        for head, fitted in zip(trial_heads, first.heads, strict=True):
            head.load_state_dict(fitted.state_dict())
    else:
        copies = [_copy(head) for head in first.heads]
        refiner = Refiner(model, copies, task.groups, config, generator)
    for layer, (asked, possible) in refiner.clipped.items():
        result.remarks.append(f"{layer}: rank {asked} is larger than the layer; {possible} used")
    refiner.train(list(task.paintings), config.steps, report)
    adapted_p = probabilities(model, refiner.heads, task.paintings)
    mixed = [(a + b) / 2 for a, b in zip(simple, adapted_p, strict=True)]
    result.heads = list(refiner.heads)
    result.scores = experts.fused(mixed, task.groups)
    result.is_adapted = True
    return result


def _copy(head: Head) -> Head:
    copy = Head(head.widths, head.groups, HeadConfig()).to(head.mean.device)
    copy.load_state_dict(head.state_dict())
    return copy
