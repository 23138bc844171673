"""Compare a predicted segmentation with a reference, organ by organ.

The measures, and what they say where a mask is empty or slices are left out, are in
`reglora_core.agreement`. Here files are read, organs are paired and scores are put in a table.

Organs are paired by name where both files name them, by label value otherwise. An organ that only
the reference has counts with Dice 0. An organ that only the prediction has is listed, and so is
one whose reference is empty on the kept slices; neither enters the means.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253

from reglora_core.agreement import KeptSlices, Mask, MaskScore, score_masks
from reglora_core.annotation import detect_axis
from reglora_core.common_grid import extended, grid_remarks, read_layers
from reglora_core.errors import InputError
from reglora_core.organs import Organ
from reglora_core.volumes import LabelMap, read_labels

__all__ = [
    "Evaluation",
    "KeptSlices",
    "MaskScore",
    "OrganScore",
    "compare",
    "evaluate",
    "find_annotated_slices",
    "score_masks",
]


@dataclass(frozen=True)
class OrganScore:
    """The agreement on one organ.

    Attributes:
        name: as in the reference, or as in the prediction where the reference lacks the organ.
        value: label value, likewise.
        score: Dice, HD95, surface Dice and volumes.
        is_predicted: whether the prediction has the organ.
        is_in_reference: whether the reference has it.
    """

    name: str
    value: int
    score: MaskScore
    is_predicted: bool = True
    is_in_reference: bool = True

    @property
    def is_counted(self) -> bool:
        """Whether the means count it: the reference has voxels of it on the kept slices."""
        return self.score.reference_voxels > 0

    @property
    def remark(self) -> str:
        """What a reader of the table should know about this line."""
        if not self.is_in_reference:
            return "not in the reference"
        if not self.is_predicted:
            return "not predicted"
        return "" if self.is_counted else "reference empty on these slices"


@dataclass(frozen=True)
class Evaluation:
    """The agreement on every organ.

    Attributes:
        scores: one an organ, in the reference's order, then those that only the prediction has.
        kept_slices: the slices that count; None for all.
        remarks: what was done to compare the files, one sentence each.
    """

    scores: tuple[OrganScore, ...]
    kept_slices: KeptSlices | None = None
    remarks: tuple[str, ...] = ()

    @property
    def mean_dice(self) -> float:
        return _mean([score.score.dice for score in self._counted()])

    @property
    def mean_surface_dice(self) -> float:
        return _mean([score.score.surface_dice for score in self._counted()])

    @property
    def mean_hd95_mm(self) -> float:
        """The mean over the organs for which it is finite."""
        return _mean(self._finite_hd95_mm())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; null where a number is NaN or infinite."""
        return {
            "organs": [
                {
                    "name": score.name,
                    "value": score.value,
                    **{key: _plain(number) for key, number in asdict(score.score).items()},
                    "remark": score.remark,
                }
                for score in self.scores
            ],
            "mean": {
                "dice": _plain(self.mean_dice),
                "hd95_mm": _plain(self.mean_hd95_mm),
                "surface_dice": _plain(self.mean_surface_dice),
                "organs": len(self._counted()),
                "organs_with_hd95": len(self._finite_hd95_mm()),
            },
            "slices_left_out": self._left_out(),
            "remarks": list(self.remarks),
        }

    def to_table(self) -> str:
        """Return the scores as lines of text for a terminal."""
        rows = [_row(score) for score in self.scores]
        heading = ("organ", "Dice", "HD95 mm", "surface Dice", "predicted ml", "reference ml", "")
        means = (self.mean_dice, self.mean_hd95_mm, self.mean_surface_dice)
        mean = (f"mean of {len(self._counted())}", *_numbers(*means), "", "", "")
        widths = [max(map(len, column)) for column in zip(heading, mean, *rows, strict=True)]
        rule = "-" * (sum(widths[:-1]) + 2 * (len(widths) - 2))
        lines = [_line(row, widths) for row in (heading, *rows, mean)]
        table = [lines[0], rule, *lines[1:-1], rule, lines[-1]]
        return "\n".join([*table, *self._notes()])

    def _notes(self) -> list[str]:
        left_out = self._left_out()
        if left_out is None:
            return list(self.remarks)
        count = f"{len(left_out['slices'])} annotated slices (axis {left_out['axis']})"
        return [f"{count} are left out, except from the volumes.", *self.remarks]

    def _left_out(self) -> dict[str, Any] | None:
        if self.kept_slices is None:
            return None
        kept = self.kept_slices
        return {"axis": "zyx"[kept.axis], "slices": np.flatnonzero(~kept.is_kept).tolist()}

    def _counted(self) -> list[OrganScore]:
        return [score for score in self.scores if score.is_counted]

    def _finite_hd95_mm(self) -> list[float]:
        numbers = [score.score.hd95_mm for score in self._counted()]
        return [number for number in numbers if math.isfinite(number)]


def evaluate(prediction: Path, reference: Path, slices_not_in: Path | None = None) -> Evaluation:
    """Compare two label files.

    A prediction on another grid is resampled (nearest neighbour) onto the reference's, which is
    first extended by whole voxels where the prediction reaches beyond it; a remark says so.

    Args:
        prediction: label map or .seg.nrrd.
        reference: label map or .seg.nrrd.
        slices_not_in: labels with paint on some slices; those slices do not count.

    Raises:
        InputError: a file cannot be read or holds no labels, or they lie in different places.
    """
    own, other = read_layers(reference), read_layers(prediction)
    grid = extended(own, other)
    remarks = grid_remarks(own, other, grid)
    kept = _kept_slices(slices_not_in, grid) if slices_not_in else None
    maps = (read_labels(prediction, grid), read_labels(reference, grid))
    return Evaluation(compare(*maps, grid.GetSpacing()[::-1], kept), kept, remarks)


def compare(
    prediction: LabelMap,
    reference: LabelMap,
    spacing_mm: Sequence[float],
    kept_slices: KeptSlices | None = None,
) -> tuple[OrganScore, ...]:
    """Compare two label maps on one grid, spacing along (z, y, x); see `score_masks`."""
    scores = []
    nothing = np.zeros(reference.shape, dtype=bool)
    for ours, theirs in _pairs(prediction.organs, reference.organs):
        predicted = prediction.mask(prediction.organs.index(ours)) if ours else nothing
        expected = reference.mask(reference.organs.index(theirs)) if theirs else nothing
        organ = theirs or ours
        assert organ is not None
        score = score_masks(predicted, expected, spacing_mm, kept_slices)
        is_paired = (ours is not None, theirs is not None)
        scores.append(OrganScore(organ.name, organ.value, score, *is_paired))
    return tuple(scores)


def find_annotated_slices(is_painted: Mask) -> tuple[int, tuple[int, ...]]:
    """Return the axis (of z, y, x) that was painted across, and its slices with any paint."""
    if not is_painted.any():
        return 0, ()
    axis = detect_axis(is_painted)
    others = tuple(a for a in range(3) if a != axis)
    slices = np.flatnonzero(is_painted.any(axis=others))
    return axis, tuple(int(index) for index in slices)


def _pairs(
    predicted: Sequence[Organ], expected: Sequence[Organ]
) -> Iterator[tuple[Organ | None, Organ | None]]:
    """Yield (predicted, expected); one of them is None where the other has no partner."""
    partners: dict[int, Organ] = {}  # by the reference's label value
    for is_partner in (_has_same_name, _has_same_value):
        for organ in expected:
            taken = partners.values()
            free = [other for other in predicted if other not in taken and is_partner(other, organ)]
            if organ.value not in partners and free:
                partners[organ.value] = free[0]
    for organ in expected:
        yield partners.get(organ.value), organ
    for organ in predicted:
        if organ not in partners.values():
            yield organ, None


def _has_same_name(one: Organ, other: Organ) -> bool:
    return _is_named(one) and _words(one) == _words(other)


def _has_same_value(one: Organ, other: Organ) -> bool:
    return one.value == other.value and not (_is_named(one) and _is_named(other))


def _is_named(organ: Organ) -> bool:
    """Return False for the names that plain label maps get: "label_3"."""
    return organ.name != f"label_{organ.value}"


def _words(organ: Organ) -> list[str]:
    return sorted(re.findall(r"[^\W_]+", organ.name.casefold()))


def _kept_slices(path: Path, grid: sitk.Image) -> KeptSlices:
    """Return the slices that these labels leave unpainted.

    Raises:
        InputError: none.
    """
    is_painted = read_labels(path, grid).painted()
    axis, slices = find_annotated_slices(is_painted)
    kept = KeptSlices.all_but(axis, slices, is_painted.shape[axis])
    if not kept.is_kept.any():
        message = f"{path.name}: all {len(slices)} slices are painted, so none is left to compare"
        raise InputError(message, "give the labels that were painted on a few slices")
    return kept


def _mean(numbers: Sequence[float]) -> float:
    valid = [number for number in numbers if not math.isnan(number)]
    return sum(valid) / len(valid) if valid else math.nan


def _plain(number: float) -> float | None:
    return round(number, 4) if math.isfinite(number) else None


def _row(organ: OrganScore) -> tuple[str, ...]:
    score = organ.score
    numbers = _numbers(score.dice, score.hd95_mm, score.surface_dice)
    volumes = (f"{score.prediction_ml:.1f}", f"{score.reference_ml:.1f}")
    return (organ.name, *numbers, *volumes, organ.remark)


def _numbers(dice: float, hd95_mm: float, surface_dice: float) -> tuple[str, str, str]:
    formats = ((dice, ".3f"), (hd95_mm, ".1f"), (surface_dice, ".3f"))
    first, second, third = (
        format(number, how) if math.isfinite(number) else "-" for number, how in formats
    )
    return first, second, third


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *middle, last = row
    numbers = [text.rjust(width) for text, width in zip(middle, widths[1:-1], strict=True)]
    return "  ".join([first.ljust(widths[0]), *numbers, last]).rstrip()
