"""How good is each organ of a result? An estimate of its Dice, from what the run itself saw.

Evidence, per organ and off the paint: how certain the fused score is, how far the heads, the
propagation and the result agree, how wide the gaps between the painted slices are, how often the
organ is painted, and how large it is. (Its Dice on slices that were left out added nothing.) A
ridge regression on the logit of the Dice turns that into an estimate, and the quantiles of its
errors on scans that took no part in the fit into a range that holds the true Dice four times in
five. The coefficients are in `confidence.json`, with the scans that they were fitted on;
Testing/benchmarks/fit_confidence.py makes that file. How well it does is in docs/benchmarks.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch  # noqa: TID253

from reglora_core.experts import UNSEEN, PaintedGrid
from reglora_core.fit import Fitted, Task
from reglora_core.fusion import gaps
from reglora_core.scores import split_groups

COEFFICIENTS = Path(__file__).with_name("confidence.json")
WRONG = 0.5  # an organ whose true Dice is below counts as wrong
SMALLEST, LARGEST = 0.02, 0.99  # Dice, before the logit is taken
WIDEST_GAP_MM = 300.0


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against an organ; all of voxels without paint, on the working grid.

    Attributes:
        certainty: expected Dice of the result if the fused scores were true probabilities.
        heads, propagation: Dice of what each of them says alone with the result.
        experts: Dice of these two with each other.
        gap_mm: mean over the organ of the distance between the painted slices around a voxel.
        beyond: share of the organ outside the outermost slices on which it is painted.
        slices: annotated slices that show it, over all scans.
        ml: its volume.
    """

    certainty: float
    heads: float
    propagation: float
    experts: float
    gap_mm: float
    beyond: float
    slices: int
    ml: float

    def features(self) -> list[float]:
        """Return what the regression sees, a constant first."""
        gap = math.log(min(max(self.gap_mm, 1.0), WIDEST_GAP_MM) / 30.0)
        return [
            1.0,
            logit(self.certainty),
            logit(self.heads),
            logit(self.propagation),
            logit(self.experts),
            gap,
            self.beyond,
            1.0 / max(self.slices, 1),
            math.log(max(self.ml, 0.05)),
        ]


FEATURES = (
    "constant", "certainty", "heads", "propagation", "experts", "gap", "beyond", "slices",
    "volume",
)  # fmt: skip


@dataclass(frozen=True)
class Estimate:
    """The expected Dice of an organ.

    Attributes:
        dice: the estimate.
        range: holds the true Dice in four of five cases of the fit.
        is_doubtful: whether the organ is probably wrong.
        evidence: the reasons.
    """

    dice: float
    range: tuple[float, float]
    is_doubtful: bool
    evidence: Evidence


Estimates = dict[str, Estimate | None]  # by organ; None where nothing of it was found


@dataclass(frozen=True)
class Regression:
    """Coefficients of the estimate.

    Attributes:
        weights: one per feature, for the logit of the Dice.
        errors: 10 % and 90 % quantile of truth minus estimate on the logit scale.
        doubtful_below: an organ whose estimate is below is probably wrong.
        fitted_on: the scans.
        organs: number of organs among them.
        ridge: penalty on all weights but the constant.
    """

    weights: tuple[float, ...]
    errors: tuple[float, float]
    doubtful_below: float
    fitted_on: tuple[str, ...]
    organs: int
    ridge: float

    @classmethod
    def read(cls, path: Path = COEFFICIENTS) -> Regression:
        """Read the file that Testing/benchmarks/fit_confidence.py writes."""
        entries = json.loads(path.read_text(encoding="utf-8"))
        low, high = entries["errors"]
        return cls(
            weights=tuple(float(entries["weights"][name]) for name in FEATURES),
            errors=(float(low), float(high)),
            doubtful_below=float(entries["doubtful_below"]),
            fitted_on=tuple(entries["fitted_on"]),
            organs=int(entries["organs"]),
            ridge=float(entries["ridge"]),
        )

    def to_dict(self) -> dict[str, object]:
        return {**asdict(self), "weights": dict(zip(FEATURES, self.weights, strict=True))}

    def __call__(self, evidence: Evidence) -> Estimate:
        """Return the estimate for an organ."""
        score = sum(w * x for w, x in zip(self.weights, evidence.features(), strict=True))
        low, high = (round(logistic(score + error), 3) for error in self.errors)
        dice = round(logistic(score), 3)
        return Estimate(dice, (low, high), dice < self.doubtful_below, evidence)


@cache
def shipped() -> Regression:
    """Return the regression that comes with the library."""
    return Regression.read()


def estimates(task: Task, fitted: Fitted) -> Estimates:
    """Return each organ's estimate."""
    regression = shipped()
    found = evidence_of(task, fitted)
    return {name: regression(own) if own is not None else None for name, own in found.items()}


def evidence_of(task: Task, fitted: Fitted) -> dict[str, Evidence | None]:
    """Return the evidence per organ; None where no voxel off the paint was given to it."""
    sums = [_Sums() for _ in task.organs]
    for number, painting in enumerate(task.paintings):
        own_heads = split_groups(fitted.by_heads[number], task.groups)
        for place, group in enumerate(task.groups):
            _add(
                [sums[organ] for organ in group],
                fitted.scores[number][place],
                own_heads[place],
                fitted.experts.propagated[number][place],
                fitted.experts.paints[number][place],
                math.prod(painting.scan.grid.working_spacing) / 1000,
            )
    return {organ.name: own.evidence() for organ, own in zip(task.organs, sums, strict=True)}


@dataclass
class _Sums:
    """What is added up over the scans for one organ; voxels unless said otherwise."""

    result: float = 0.0
    score: float = 0.0  # sum of the fused score
    score_within: float = 0.0  # of it, within the result
    heads: float = 0.0
    propagation: float = 0.0
    heads_and_result: float = 0.0
    propagation_and_result: float = 0.0
    heads_and_propagation: float = 0.0
    gap_mm: float = 0.0  # sum over the result
    beyond: float = 0.0
    slices: int = 0
    ml: float = 0.0

    def evidence(self) -> Evidence | None:
        if not self.result:
            return None
        return Evidence(
            certainty=_dice(self.score_within, self.score, self.result),
            heads=_dice(self.heads_and_result, self.heads, self.result),
            propagation=_dice(self.propagation_and_result, self.propagation, self.result),
            experts=_dice(self.heads_and_propagation, self.heads, self.propagation),
            gap_mm=self.gap_mm / self.result,
            beyond=self.beyond / self.result,
            slices=self.slices,
            ml=self.ml,
        )


def _add(
    sums: Sequence[_Sums],
    fused: torch.Tensor,
    heads: torch.Tensor,
    propagated: torch.Tensor,
    paint: PaintedGrid,
    voxel_ml: float,
) -> None:
    """Add one scan's voxels to the organs of a group; scores are (organs + 1, z, y, x)."""
    is_free = torch.eq(paint.seeds(), UNSEEN)
    result, by_heads, by_propagation = (s.argmax(0) for s in (fused, heads, propagated))
    shape = [1, 1, 1]
    shape[paint.axis] = -1
    gap = gaps(paint.whole_slices()).clamp_max(WIDEST_GAP_MM).view(shape).expand(result.shape)
    planes = torch.arange(paint.shape[paint.axis]) + 0.5
    for label, own in enumerate(sums, start=1):
        found, seen, carried = (
            torch.eq(labels, label) & is_free for labels in (result, by_heads, by_propagation)
        )
        own.result += float(found.sum())
        own.score += float(fused[label][is_free].sum())
        own.score_within += float(fused[label][found].sum())
        own.heads += float(seen.sum())
        own.propagation += float(carried.sum())
        own.heads_and_result += float((seen & found).sum())
        own.propagation_and_result += float((carried & found).sum())
        own.heads_and_propagation += float((seen & carried).sum())
        own.gap_mm += float(gap[found].sum())
        shows = (paint.planes == label).flatten(1).any(1)
        own.slices += int(shows.sum())
        if bool(shows.any()):
            places = paint.positions[shows]
            outside = ((planes < places.min()) | (planes > places.max())).view(shape)
            own.beyond += float((found & outside).sum())
        else:
            own.beyond += float(found.sum())
        own.ml += float(torch.eq(result, label).sum()) * voxel_ml


def _dice(both: float, one: float, other: float) -> float:
    return 2 * both / (one + other) if one + other > 0 else 0.0


def logit(dice: float) -> float:
    """Return log(d / (1 - d)) of a Dice, kept between SMALLEST and LARGEST."""
    clipped = min(max(dice, SMALLEST), LARGEST)
    return math.log(clipped / (1 - clipped))


def logistic(value: float) -> float:
    """Return the number whose logit is the value."""
    return 1 / (1 + math.exp(-value))
