"""One grid for two label files: the reference's, with room for the prediction."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.agreement import bounding_box
from reglora_core.volumes.files import check_geometry, read_file
from reglora_core.volumes.images import drop_single_time_point

MAX_VOXELS = 1e9  # a larger grid than this is not made to hold all of a prediction
_ON_THE_EDGE = 0.01  # voxels: as good as inside
_SAME_MM = 1e-3

Index = NDArray[np.float64]


def read_layers(path: Path) -> sitk.Image:
    """Return the file as it is: only its grid and where it is painted are used."""
    labels = read_file(path)
    if labels.GetNumberOfComponentsPerPixel() == 1:
        labels = drop_single_time_point(path.name, labels)
    check_geometry(path.name, labels)
    return labels


def extended(own: sitk.Image, other: sitk.Image) -> sitk.Image:
    """Return the own grid with room for the other's paint, as an image of whole numbers.

    Slicer saves segmentations cropped to their paint; what a prediction has around them counts.
    Paint that lies wholly beside the grid does not: it is a mistake, which reading it will tell.
    """
    low, high = _paint_corners(own, other)
    size = np.array(own.GetSize())
    before = np.maximum(0, np.ceil(-low - _ON_THE_EDGE)).astype(int)
    after = np.maximum(0, np.ceil(high - (size - 1) - _ON_THE_EDGE)).astype(int)
    is_beside = bool((high < -0.5).any() or (low > size - 0.5).any())
    if is_beside or np.prod((before + size + after).astype(float)) > MAX_VOXELS:
        before = after = np.zeros(3, dtype=int)
    grid = sitk.Image([int(n) for n in before + size + after], sitk.sitkUInt8)
    grid.SetSpacing(own.GetSpacing())
    grid.SetDirection(own.GetDirection())
    first = own.TransformContinuousIndexToPhysicalPoint([float(-n) for n in before])
    grid.SetOrigin(first if before.any() else own.GetOrigin())
    return grid


def _paint_corners(own: sitk.Image, other: sitk.Image) -> tuple[Index, Index]:
    """Return the least and the greatest continuous index (x, y, z) of own in the other's paint."""
    painted = sitk.GetArrayViewFromImage(other) != 0
    box = bounding_box(painted.any(axis=3) if painted.ndim == 4 else painted)
    if box is None:
        return np.zeros(3), np.zeros(3)
    ends = [(side.start, side.stop - 1) for side in box[::-1]]
    corners = [
        own.TransformPhysicalPointToContinuousIndex(other.TransformIndexToPhysicalPoint(corner))
        for corner in itertools.product(*ends)
    ]
    return np.min(corners, axis=0), np.max(corners, axis=0)


def grid_remarks(own: sitk.Image, other: sitk.Image, grid: sitk.Image) -> tuple[str, ...]:
    """Say what had to be done to compare a prediction on `other` with a reference on `own`."""
    remarks = []
    if not _is_same_grid(own, other):
        remarks.append(
            f"The prediction ({_described(other)}) was resampled (nearest neighbour) "
            f"onto the reference's grid ({_described(grid)})."
        )
    if grid.GetSize() != own.GetSize():
        remarks.append("The reference's grid was extended to hold all of the prediction.")
    return tuple(remarks)


def _is_same_grid(one: sitk.Image, other: sitk.Image) -> bool:
    first, second = (
        (*image.GetOrigin(), *image.GetSpacing(), *image.GetDirection()) for image in (one, other)
    )
    return one.GetSize() == other.GetSize() and np.allclose(first, second, atol=_SAME_MM)


def _described(image: sitk.Image) -> str:
    size = " x ".join(map(str, image.GetSize()))
    return f"{size} voxels of {' x '.join(f'{mm:.4g}' for mm in image.GetSpacing())} mm"
