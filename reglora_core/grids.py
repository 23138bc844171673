"""Voxel grids: an image's own grid, its canonical orientation, and the network's working grid.

    native     the array as stored, axes (z, y, x), any orientation
    canonical  the same voxels with axes permuted and flipped so that they run towards
               superior, posterior and left (LPS, array axes z, y, x); nothing is interpolated
    working    canonical, resampled to about the network's spacing over exactly the same extent

Oblique images keep their obliquity: axes are permuted and flipped, never rotated. All three cover
the same box, so a point has the same relative position u in [0, 1]^3 on each (voxel i of n has
its centre at (i + 0.5) / n).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253
import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253

if TYPE_CHECKING:
    import SimpleITK as sitk

Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
AXIS_NAMES = ("axial", "coronal", "sagittal")  # the canonical axis a slice is perpendicular to


@dataclass(frozen=True)
class Orientation:
    """How native array axes become canonical ones.

    order[k] is the native array axis that becomes canonical array axis k (z, y, x);
    is_flipped[k] says whether it is then reversed.
    """

    order: tuple[int, int, int]
    is_flipped: tuple[bool, bool, bool]

    @classmethod
    def of(cls, direction: Sequence[float]) -> Orientation:
        """Read the orientation off a 3 x 3 direction matrix (row-major, columns are x, y, z)."""
        # rows: physical L, P, S -> canonical z, y, x; columns: index x, y, z -> array axes z, y, x
        cosines = np.asarray(direction, dtype=float).reshape(3, 3)[::-1, ::-1]
        order = max(
            itertools.permutations(range(3)),
            key=lambda axes: sum(abs(cosines[k, axes[k]]) for k in range(3)),
        )
        is_flipped = tuple(bool(cosines[k, order[k]] < 0) for k in range(3))
        return cls(order, is_flipped)  # type: ignore[arg-type]

    def canonical(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return a canonical view of a native array (z, y, x)."""
        return self._flipped(array.transpose(self.order))

    def native(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return the native view of a canonical array: the inverse of `canonical`."""
        return self._flipped(array).transpose([self.order.index(k) for k in range(3)])

    def _flipped(self, canonical: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        turned: np.ndarray[Any, Any] = canonical[
            tuple(slice(None, None, -1) if flip else slice(None) for flip in self.is_flipped)
        ]
        return turned


@dataclass(frozen=True)
class Grid:
    """A canonical image's shape and spacing, and the working grid over the same box.

    Attributes:
        shape: voxels of the canonical array (z, y, x).
        spacing: mm between them (z, y, x).
        working_shape: voxels of the working array; its spacing is as near to the network's as
            whole voxels allow.
    """

    shape: Shape
    spacing: Spacing
    working_shape: Shape

    @classmethod
    def of(
        cls, shape: Sequence[int], spacing: Sequence[float], working_mm: float | Spacing
    ) -> Grid:
        wanted = working_mm if isinstance(working_mm, tuple) else (working_mm,) * 3
        working = [
            max(1, round(n * mm / to_mm))
            for n, mm, to_mm in zip(shape, spacing, wanted, strict=True)
        ]
        return cls(tuple(shape), tuple(spacing), tuple(working))  # type: ignore[arg-type]

    @property
    def working_spacing(self) -> Spacing:
        """Spacing of the working grid in mm (z, y, x)."""
        return tuple(  # type: ignore[return-value]
            n * mm / m
            for n, mm, m in zip(self.shape, self.spacing, self.working_shape, strict=True)
        )

    def to_working(self, image: torch.Tensor) -> torch.Tensor:
        """Resample a canonical image (z, y, x): box average where it shrinks, linear elsewhere."""
        depth, rows, columns = (
            min(n, m) for n, m in zip(self.shape, self.working_shape, strict=True)
        )
        shrunk = (depth, rows, columns)
        batch = image[None, None].float()
        if shrunk != self.shape:
            batch = F.adaptive_avg_pool3d(batch, shrunk)
        if shrunk != self.working_shape:
            batch = F.interpolate(batch, self.working_shape, mode="trilinear", align_corners=False)
        return batch[0, 0]

    def nearest_to_working(self, labels: torch.Tensor) -> torch.Tensor:
        """Resample a canonical label array (z, y, x) by the nearest voxel."""
        for axis in range(3):
            labels = labels.index_select(axis, self.nearest_native(axis))
        return labels

    def nearest_native(self, axis: int) -> torch.Tensor:
        """Return, per working index along `axis`, the nearest canonical index."""
        n, m = self.shape[axis], self.working_shape[axis]
        return ((torch.arange(m) + 0.5) * n / m).long().clamp(0, n - 1)

    def nearest_working(self, axis: int) -> torch.Tensor:
        """Return, per canonical index along `axis`, the nearest working index."""
        n, m = self.shape[axis], self.working_shape[axis]
        return ((torch.arange(n) + 0.5) * m / n).long().clamp(0, m - 1)


def canonical_array(image: sitk.Image) -> tuple[np.ndarray[Any, Any], Spacing, Orientation]:
    """Return an image's voxels in canonical orientation, their spacing (z, y, x), and how."""
    import SimpleITK as sitk

    orientation = Orientation.of(image.GetDirection())
    spacing = image.GetSpacing()[::-1]
    array = orientation.canonical(sitk.GetArrayViewFromImage(image))
    return array, tuple(spacing[k] for k in orientation.order), orientation
