"""A scan made ready for the network: canonical, on the working grid, with its body's box."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.grids import Grid, Orientation, Spacing, canonical_array
from reglora_core.intensity import Modality, detect_modality, to_hounsfield

if TYPE_CHECKING:
    import SimpleITK as sitk

Box = tuple[slice, slice, slice]
BODY_HU = -400.0
MARGIN = 3  # working voxels kept around the body


@dataclass(frozen=True)
class Scan:
    """One image on the working grid.

    Attributes:
        path: where it came from.
        image: the image as read; the geometry of everything written is its.
        orientation: native to canonical.
        grid: canonical to working.
        modality: how its intensities were read.
        hounsfield: float (z, y, x) on the working grid.
        body: the part of the working grid that is not air.
    """

    path: Path
    image: sitk.Image
    orientation: Orientation
    grid: Grid
    modality: Modality
    hounsfield: torch.Tensor
    body: Box

    @property
    def inside(self) -> torch.Tensor:
        """Hounsfield values within the body's box."""
        return self.hounsfield[self.body]


def prepare_scan(
    path: Path,
    image: sitk.Image,
    working_mm: float | Spacing,
    modality: Modality | None = None,
) -> Scan:
    """Resample an image onto the working grid and find the body in it.

    Args:
        path: where it came from.
        image: as read.
        working_mm: spacing of the working grid, one number or one per axis (z, y, x).
        modality: how to read its intensities; found out if None.
    """
    array, spacing, orientation = canonical_array(image)
    grid = Grid.of(array.shape, spacing, working_mm)
    thinned = np.ascontiguousarray(array[::2, ::2, ::2]).astype(np.float32)
    modality = modality or detect_modality(torch.from_numpy(thinned))
    voxels = torch.from_numpy(np.array(array, np.float32, order="C"))  # a view is read-only
    if modality == "ct":  # before averaging: markers such as -3024 must not bleed into the skin
        voxels = voxels.clamp(-1024, 3071)
    hounsfield = to_hounsfield(grid.to_working(voxels), modality)
    body = _body_box(hounsfield) if modality == "ct" else _whole(hounsfield)
    return Scan(path, image, orientation, grid, modality, hounsfield, body)


def _whole(hounsfield: torch.Tensor) -> Box:
    return tuple(slice(0, size) for size in hounsfield.shape)  # type: ignore[return-value]


def _body_box(hounsfield: torch.Tensor) -> Box:
    """Return the box of the planes of which at least 1 % is denser than air and foam."""
    dense = hounsfield > BODY_HU
    box = []
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        inside = (dense.float().mean(dim=others) > 0.01).nonzero().flatten()
        if not len(inside):
            return _whole(hounsfield)
        low = max(0, int(inside[0]) - MARGIN)
        box.append(slice(low, min(hounsfield.shape[axis], int(inside[-1]) + 1 + MARGIN)))
    return tuple(box)  # type: ignore[return-value]
