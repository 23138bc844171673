"""Where to paint next: the middle of the widest gap between annotated slices.

Beyond the outermost slices a gap reaches to where the result's organs end, and counts twice,
because paint closes it on one side only. Rules that look at what the result is unsure of can be
compared with this one by Testing/benchmarks/bench_corrections.py (docs/corrections.md).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np  # noqa: TID253

from reglora_core.annotation import UNLABELLED, Annotation, native_slice
from reglora_core.grids import AXIS_NAMES
from reglora_core.samples import Painting
from reglora_core.volumes import LabelMap

MIN_GAP_MM = 5.0  # narrower ones are not worth a slice


@dataclass(frozen=True)
class NextSlice:
    """The slice to paint next.

    Attributes:
        image: number of the image, from 0.
        axis: axial, coronal or sagittal.
        index: of the slice, from 0 as in the file, along the file's axis nearest to that direction.
        mm: its middle in the patient's coordinates (x, y, z; LPS).
        gap_mm: width of the gap that it lies in.
        why: for people.
    """

    image: int
    axis: str
    index: int
    mm: tuple[float, float, float]
    gap_mm: float
    why: str


def suggest(paintings: Sequence[Painting], results: Sequence[LabelMap]) -> NextSlice | None:
    """Return the middle of the widest gap in all images; None where no gap is worth a slice.

    Args:
        paintings: the annotated scans.
        results: the label map of each, on its image's grid.
    """
    found = [
        own
        for number, (painting, result) in enumerate(zip(paintings, results, strict=True))
        if (own := _in_image(number, painting, result)) is not None
    ]
    return max(found, key=lambda own: own.gap_mm, default=None)


def _in_image(number: int, painting: Painting, result: LabelMap) -> NextSlice | None:
    annotation, scan = painting.annotation, painting.scan
    axis = annotation.axis
    spacing = scan.grid.spacing[axis]
    painted = _whole_slices(annotation)
    organs = scan.orientation.canonical(result.painted())
    others = tuple(k for k in range(3) if k != axis)
    planes = np.flatnonzero(organs.any(axis=others))
    if not painted or not len(planes):
        return None
    width, middle, where = _widest(painted, int(planes[0]), int(planes[-1]))
    if width * spacing < MIN_GAP_MM or middle in painted:
        return None
    index = native_slice(annotation, scan.orientation, middle)
    native_axis = scan.orientation.order[axis]
    center = [(size - 1) / 2 for size in result.shape]
    center[native_axis] = index
    mm = scan.image.TransformContinuousIndexToPhysicalPoint([float(c) for c in center[::-1]])
    gap = round(width * spacing, 1)
    return NextSlice(
        number,
        AXIS_NAMES[axis],
        index,
        (round(mm[0], 2), round(mm[1], 2), round(mm[2], 2)),
        gap,
        f"the middle of the widest gap, {gap:g} mm {where}",
    )


def _whole_slices(annotation: Annotation) -> list[int]:
    """Return the annotated slices that are labelled for the most part."""
    layer = annotation.layers[0]  # what is unlabelled is so on every layer
    share = (layer != UNLABELLED).flatten(1).float().mean(1).tolist()
    return [k for k, own in zip(annotation.slices, share, strict=True) if own >= 0.5]


def _widest(painted: list[int], first: int, last: int) -> tuple[int, int, str]:
    """Return the widest gap in slices, its middle, and where it is.

    Args:
        painted: annotated slices, ascending.
        first: first slice with an organ.
        last: last slice with an organ.
    """
    gaps = [
        (after - before, (before + after) // 2, "between painted slices")
        for before, after in itertools.pairwise(painted)
    ]
    for end, outermost in ((first, painted[0]), (last, painted[-1])):
        beyond = outermost - end if end == first else end - outermost
        if beyond > 0:
            middle = end if beyond == 1 else (end + outermost) // 2
            gaps.append((2 * beyond, middle, "to where the organs end, counted twice"))
    return max(gaps, default=(0, painted[0], ""))
