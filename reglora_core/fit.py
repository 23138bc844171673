"""Fitting organs to the painted slices of one or several scans.

heads      on frozen features, in seconds: the first result
held out   some annotated slices are left out and predicted from the others
refine     the low-rank updates, first on the reduced paint, to see whether they help there,
           then on all of it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch  # noqa: TID253

from reglora_core.events import Report, ignore
from reglora_core.experts import (
    Interpolation,
    PaintedGrid,
    Propagation,
    given_expert,
    paint_on_grid,
)
from reglora_core.fusion import fuse
from reglora_core.head import Groups, Head, HeadConfig, Samples, fit_head
from reglora_core.islands import without_unpainted_islands_
from reglora_core.methods.catalogue import HeadKind
from reglora_core.methods.heads import zero_shot_head
from reglora_core.methods.mask_decoder import MaskHead, fit_masks, slices_around
from reglora_core.methods.probe import fit_probe
from reglora_core.methods.trained import load_trained_state, remove_trained, trained_state
from reglora_core.models.base import BaseModel
from reglora_core.organs import Organ
from reglora_core.refine import RefineConfig, Refiner
from reglora_core.samples import VOXELS, Painting, Voxels, draw_voxels, samples_of
from reglora_core.scores import head_scores, split_groups

FRACTION_OF_DENSE = 5  # of densely annotated volumes one fifth is held out, in one block
DENSE = 20  # annotated slices from which on a volume counts as densely annotated
# of the held-out Dice; with less the update went wrong (docs/decisions/held-out.md)
MUST_KEEP = 0.5

Probabilities = list[torch.Tensor]  # per painting (outputs, z, y, x) in the body's box


@dataclass(frozen=True)
class Task:
    """What is fitted: organs, which of them exclude each other, and where they are painted.

    `given` is a propagation result per painting (see experts); `head` says what reads the organs
    off the features.
    """

    organs: tuple[Organ, ...]
    groups: Groups
    paintings: tuple[Painting, ...]
    given: tuple[torch.Tensor | None, ...] = ()
    head: HeadKind = "mlp"


@dataclass
class Fitted:
    """What the fit found.

    Attributes:
        heads: on the features of the network as it is now.
        experts: of the whole paint.
        by_heads: the heads' probabilities per painting.
        scores: per painting and group, fused scores (organs + 1, z, y, x) in the body's box.
        held_out: per organ, its Dice on annotated slices that were left out; a lower bound,
            because leaving a slice out doubles the gap. None where nothing could be left out.
        is_adapted: whether the low-rank updates are in use.
        remarks: what the user should know.
    """

    heads: list[Head]
    experts: ExpertScores
    by_heads: Probabilities
    scores: list[list[torch.Tensor]]
    held_out: dict[str, float | None] = field(default_factory=dict)
    is_adapted: bool = False
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class WarmHeads:
    """Heads to go on from, with the statistics that they standardise by, and how."""

    heads: Sequence[Head]
    config: HeadConfig


def fit_heads(
    model: BaseModel,
    task: Task,
    paintings: Sequence[Painting],
    generator: torch.Generator,
    report: Report,
    start: WarmHeads | None = None,
) -> list[Head]:
    """Fit two heads on frozen features: one on uniform voxels, one with small organs favoured.

    Or the one of the task's kind, where that is another.

    Args:
        model: whose features; stays as it is.
        task: organs and groups.
        paintings: where they are painted.
        generator: source of randomness.
        report: receives events, may stop the work.
        start: heads to go on from; they stay as they are.
    """
    if task.head == "classes":
        return [zero_shot_head(model, [organ.name for organ in task.organs], task.groups)]
    config = HeadConfig() if start is None else start.config
    if task.head == "masks":
        draws = [
            draw_voxels(painting, task.groups, len(task.organs), VOXELS, True, generator)
            for painting in paintings
        ]
        around = slices_around(model, paintings, draws, report)
        masks = MaskHead(model, task.groups) if start is None else start.heads[0].twin()
        assert isinstance(masks, MaskHead)
        return [fit_masks(masks, around, config, generator, report)]
    config = replace(config, precision=model.precision)
    pools = _pools(model, task, paintings, generator)
    if task.head == "linear":
        return [fit_probe(model, task.groups, pools, generator, report)]
    features = torch.cat([pool.features for pool in pools])
    heads = []
    for number, pool in enumerate(pools):
        if start is not None:
            head = start.heads[number].twin()
        else:
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


def _pools(
    model: BaseModel, task: Task, paintings: Sequence[Painting], generator: torch.Generator
) -> list[Samples]:
    """Return two sets of samples, uniform and balanced, by one pass of the network per scan."""
    drawn = [
        draw_voxels(painting, task.groups, len(task.organs), VOXELS, is_balanced, generator)
        for painting in paintings
        for is_balanced in (False, True)
    ]
    pairs = [Voxels.joined(drawn[k : k + 2]) for k in range(0, len(drawn), 2)]
    samples = samples_of(model, list(paintings), pairs)
    is_balanced = (torch.arange(len(samples)) // VOXELS % 2).bool().to(samples.features.device)
    return [samples[~is_balanced], samples[is_balanced]]


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
        """Return the fused scores per painting and group, without islands that hold no paint."""
        return [
            [
                without_unpainted_islands_(
                    fuse(own, propagated, interpolated, paint), paint.seeds()
                )
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
    model: BaseModel,
    heads: Sequence[Head],
    paintings: Sequence[Painting],
    report: Report = ignore,
) -> Probabilities:
    """Return the heads' mean probabilities per painting."""
    return [head_scores(model, heads, painting.scan, report) for painting in paintings]


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
    reductions = [kept for painting in paintings if (kept := reduced(painting)) is not None]
    taught = {organ for kept in reductions for organ in kept.painted_organs}
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


@dataclass(frozen=True)
class Trial:
    """A fit to part of the annotated slices, tested on the others.

    Attributes:
        whole: the paintings of which some slices can be left out.
        kept: the same without their held-out slices.
        heads: fitted to what was kept.
        experts: of what was kept.
        by_heads: the heads' probabilities, per kept painting.
        dice: of the fused result on the held-out slices, per organ.
    """

    whole: tuple[Painting, ...]
    kept: tuple[Painting, ...]
    heads: list[Head]
    experts: ExpertScores
    by_heads: Probabilities
    dice: dict[str, float | None]


def try_out(
    model: BaseModel, task: Task, generator: torch.Generator, report: Report
) -> Trial | None:
    """Fit to part of the slices and test on the others; None where none can be left out."""
    whole = tuple(own for own in task.paintings if reduced(own) is not None)
    kept = tuple(own for painting in whole if (own := reduced(painting)) is not None)
    if not kept:
        return None
    heads = fit_heads(model, task, kept, generator, report)
    experts = ExpertScores(replace(task, given=()), kept)
    by_heads = probabilities(model, heads, kept, report)
    dice = held_out_dice(task, whole, experts.fused(by_heads, task.groups))
    return Trial(whole, kept, heads, experts, by_heads, dice)


class Refinement:
    """Trains the low-rank updates; drops them where they ruin the result on held-out slices.

    Args:
        model: gets the updates; what it had before comes back where they are not kept.
        task: what is fitted.
        config: how the updates are trained.
        generator: source of randomness.
        report: receives events, may stop the work.
    """

    def __init__(
        self,
        model: BaseModel,
        task: Task,
        config: RefineConfig,
        generator: torch.Generator,
        report: Report,
    ) -> None:
        self.model, self.task, self.config = model, task, config
        self.generator, self.report = generator, report

    def pace(self, first: Fitted) -> float:
        """Return the seconds that a step of training takes here; nothing changes."""
        before = trained_state(self.model.network)
        seconds = self._refiner(first.heads).pace(self.task.paintings[0])
        self._take_back(before)
        return seconds

    def __call__(self, first: Fitted, trial: Trial | None) -> Fitted:
        """Return what was found.

        Args:
            first: the result of the heads.
            trial: the test of it; None where no slice can be left out.
        """
        before = trained_state(self.model.network)
        result = replace(first, remarks=list(first.remarks))
        refiner = self._refiner(first.heads if trial is None else trial.heads)
        if trial is not None:
            adapted = self._tried(refiner, trial)
            if mean_dice(adapted) < MUST_KEEP * mean_dice(trial.dice):
                self._take_back(before)
                result.remarks.append(
                    f"{self.config.method.entry.update} was dropped: held-out Dice "
                    f"{mean_dice(adapted):.3f} with it, {mean_dice(trial.dice):.3f} without"
                )
                return result
            result.held_out = adapted
            for head, fitted in zip(refiner.heads, first.heads, strict=True):
                head.load_state_dict(fitted.state_dict())
        result.remarks += [
            f"{layer}: rank {asked} is larger than the layer; {possible} used"
            for layer, (asked, possible) in refiner.clipped.items()
        ]
        refiner.train(list(self.task.paintings), self.config.steps, self.report)
        refined = probabilities(self.model, refiner.heads, self.task.paintings, self.report)
        result.heads = list(refiner.heads)
        result.by_heads = _mean_(refined, first.by_heads)
        result.scores = first.experts.fused(result.by_heads, self.task.groups)
        result.is_adapted = True
        return result

    def _tried(self, refiner: Refiner, trial: Trial) -> dict[str, float | None]:
        """Train half the steps on the reduced paint; return the held-out Dice with the update."""
        refiner.train(list(trial.kept), self.config.steps // 2, self.report)
        after = probabilities(self.model, refiner.heads, trial.kept, self.report)
        mixed = _mean_(after, trial.by_heads)
        fused = trial.experts.fused(mixed, self.task.groups)
        return held_out_dice(self.task, trial.whole, fused)

    def _refiner(self, heads: list[Head]) -> Refiner:
        copies = [head.twin() for head in heads]
        return Refiner(self.model, copies, self.task.groups, self.config, self.generator)

    def _take_back(self, state: dict[str, torch.Tensor]) -> None:
        remove_trained(self.model.network)
        if state:
            load_trained_state(self.model.network, state)


def _mean_(some: Probabilities, others: Probabilities) -> Probabilities:
    """Return the mean of two, in place of the first: of large scans each takes gigabytes."""
    return [a.add_(b).div_(2) for a, b in zip(some, others, strict=True)]
