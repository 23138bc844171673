"""How well two masks of one organ agree.

    Dice            2 |P n R| / (|P| + |R|), over the kept voxels
    HD95            the 95th percentile of the distances from one surface to the other, the larger
                    of the two directions, in mm (Taha and Hanbury, BMC Medical Imaging 2015)
    surface Dice    the share of both surfaces that lies within 2 mm of the other one
                    (Nikolov et al., arXiv 1809.04430; the surface counted in voxels)
    volume          voxels times the voxel's volume, in ml, of the whole masks

Voxels of a surface are the voxels of the mask with a face neighbour outside it, as in MONAI, whose
`get_mask_edges` and `get_surface_distance` do the work; with every slice kept, the results are
those of MONAI's `compute_dice`, `compute_hausdorff_distance` (percentile 95) and
`compute_surface_dice`.

**Only some slices.** Where the annotated slices are left out, Dice counts the voxels of the other
slices. Surfaces are found on the whole masks, because cutting slices out would make false ones at
every cut; then only the surface voxels *on the kept slices* are asked for their distance, and that
is the distance to the whole other surface, on whichever slice its nearest voxel lies.

**Empty masks.** Where nothing is there in either mask, every score is NaN and enters no mean. Where
the organ is in one mask only, Dice and surface Dice are 0 and HD95 is infinite. Where both exist
but a score finds no voxel on the kept slices, that score alone is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np  # noqa: TID253
import torch  # noqa: TID253
from monai.metrics import compute_dice  # noqa: TID253
from monai.metrics.utils import get_mask_edges, get_surface_distance  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

Mask = NDArray[np.bool_]
TOLERANCE_MM = 2.0
PERCENTILE = 95.0


@dataclass(frozen=True)
class KeptSlices:
    """Which slices count, along one axis of the array.

    Attributes:
        axis: axis of the array (z, y, x).
        is_kept: one boolean a slice.
    """

    axis: int
    is_kept: Mask

    @classmethod
    def all_but(cls, axis: int, slices: Iterable[int], length: int) -> KeptSlices:
        """Keep every slice but these."""
        is_kept = np.ones(length, dtype=bool)
        is_kept[list(slices)] = False
        return cls(axis, is_kept)

    def crop(self, box: tuple[slice, ...]) -> KeptSlices:
        """Return what is left within a box of the array."""
        return KeptSlices(self.axis, self.is_kept[box[self.axis]])

    def of(self, mask: Mask) -> Mask:
        """Return the mask's voxels on the kept slices."""
        shape = [1] * mask.ndim
        shape[self.axis] = -1
        return mask & self.is_kept.reshape(shape)


@dataclass(frozen=True)
class MaskScore:
    """The agreement of two masks; NaN where a score has no meaning (see the module)."""

    dice: float
    hd95_mm: float
    surface_dice: float
    prediction_ml: float
    reference_ml: float
    reference_voxels: int  # on the kept slices


def score_masks(
    prediction: Mask,
    reference: Mask,
    spacing_mm: Sequence[float],
    kept_slices: KeptSlices | None = None,
) -> MaskScore:
    """Compare two masks of one organ.

    Args:
        prediction: boolean array (z, y, x).
        reference: boolean array of the same shape.
        spacing_mm: of the axes (z, y, x).
        kept_slices: what counts; everything by default.
    """
    ml = math.prod(spacing_mm) / 1000.0
    box = bounding_box(prediction | reference)
    if box is None:
        return MaskScore(math.nan, math.nan, math.nan, 0.0, 0.0, 0)
    prediction, reference = prediction[box], reference[box]
    kept = kept_slices.crop(box) if kept_slices else KeptSlices.all_but(0, (), len(reference))
    hd95_mm, surface_dice = _surface_scores(prediction, reference, spacing_mm, kept)
    return MaskScore(
        dice=_dice(kept.of(prediction), kept.of(reference)),
        hd95_mm=hd95_mm,
        surface_dice=surface_dice,
        prediction_ml=float(prediction.sum() * ml),
        reference_ml=float(reference.sum() * ml),
        reference_voxels=int(kept.of(reference).sum()),
    )


def bounding_box(mask: Mask) -> tuple[slice, ...] | None:
    """Return the smallest box around a mask, or None if it is empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        filled = np.flatnonzero(mask.any(axis=others))
        if not len(filled):
            return None
        box.append(slice(int(filled[0]), int(filled[-1]) + 1))
    return tuple(box)


def _dice(prediction: Mask, reference: Mask) -> float:
    if not prediction.any() and not reference.any():
        return math.nan
    one_hot = (
        torch.from_numpy(np.ascontiguousarray(m))[None, None] for m in (prediction, reference)
    )
    return float(compute_dice(*one_hot, ignore_empty=False))


def _surface_scores(
    prediction: Mask, reference: Mask, spacing_mm: Sequence[float], kept: KeptSlices
) -> tuple[float, float]:
    """Return HD95 in mm and surface Dice, of the surface voxels on the kept slices."""
    if not prediction.any() or not reference.any():
        is_counted = kept.of(prediction | reference).any()
        return (math.inf, 0.0) if is_counted else (math.nan, math.nan)
    surfaces = [
        np.asarray(edges, dtype=bool) for edges in get_mask_edges(prediction, reference, crop=False)
    ]
    distances_mm = [
        _distances_mm(kept.of(one), other, spacing_mm) for one, other in (surfaces, surfaces[::-1])
    ]
    everything = np.concatenate(distances_mm)
    if not len(everything):
        return math.nan, math.nan
    hd95_mm = max(float(np.percentile(d, PERCENTILE)) for d in distances_mm if len(d))
    return hd95_mm, float((everything <= TOLERANCE_MM).mean())


def _distances_mm(one: Mask, other: Mask, spacing_mm: Sequence[float]) -> NDArray[Any]:
    """Return the distance from each voxel of one surface to the nearest of the other."""
    if not one.any():
        return np.zeros(0)
    return np.asarray(get_surface_distance(one, other, spacing=tuple(spacing_mm)))
