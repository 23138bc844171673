"""Which voxels a brush covers: the geometry of the Paint and Erase effects.

Slicer stamps a rasterized brush at the voxel nearest to each point of the stroke; here a voxel is
painted if its centre lies inside the brush at the exact position. At the rim the two may differ by
one voxel.
"""

from dataclasses import dataclass

import numpy as np
from vtk.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonMath import vtkMatrix4x4


@dataclass(frozen=True)
class Brush:
    """A disc of the slice's thickness, or a sphere; lengths in mm."""

    radius: float
    normal: np.ndarray
    thickness: float
    is_sphere: bool = False

    def covers(self, offsets):
        """Tell which `offsets` (n, 3), relative to the brush's centre, lie inside."""
        along = offsets @ self.normal
        if self.is_sphere:
            return (offsets**2).sum(1) <= self.radius**2
        across = offsets - along[:, None] * self.normal
        half = self.thickness / 2
        in_slice = (along >= -half) & (along < half)
        return in_slice & ((across**2).sum(1) <= self.radius**2)

    @property
    def reach(self):
        """Return the largest distance from the centre that the brush covers."""
        return self.radius if self.is_sphere else float(np.hypot(self.radius, self.thickness / 2))


def stamp(labelmap, image_to_world, brush, centers):
    """Set to 1 the voxels of `labelmap` that `brush` covers at any of `centers` (n, 3; mm).

    `labelmap`: a vtkOrientedImageData, changed in place; `image_to_world`: its vtkMatrix4x4.
    Returns the extent that was changed, or None if the stroke is outside the labelmap.
    """
    grid = _Grid(labelmap, image_to_world)
    changed = [extent for center in centers if (extent := grid.paint(brush, center)) is not None]
    labelmap.GetPointData().GetScalars().Modified()
    labelmap.Modified()
    if not changed:
        return None
    lows, highs = np.min(changed, axis=0)[:, 0], np.max(changed, axis=0)[:, 1]
    return [int(value) for pair in zip(lows, highs, strict=True) for value in pair]


class _Grid:
    """The voxels of a labelmap, as an array (k, j, i), and where they are."""

    def __init__(self, labelmap, image_to_world):
        self._to_world = _array(image_to_world)
        self._to_ijk = np.linalg.inv(self._to_world)
        self._extent = np.array(labelmap.GetExtent()).reshape(3, 2)
        shape = self._extent[::-1, 1] - self._extent[::-1, 0] + 1
        self._voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(shape)

    def paint(self, brush, center):
        """Paint once; return the extent (3, 2) that was looked at, or None if it is outside."""
        center = np.asarray(center, dtype=float)
        middle = self._to_ijk[:3, :3] @ center + self._to_ijk[:3, 3]
        reach = brush.reach * np.sqrt((self._to_ijk[:3, :3] ** 2).sum(1))  # in voxels
        low = np.maximum(np.ceil(middle - reach), self._extent[:, 0]).astype(int)
        high = np.minimum(np.floor(middle + reach), self._extent[:, 1]).astype(int)
        if (low > high).any():
            return None
        i, j, k = _all_voxels(low, high)
        positions = np.stack([i, j, k], axis=1) @ self._to_world[:3, :3].T + self._to_world[:3, 3]
        inside = brush.covers(positions - center)
        first = self._extent[:, 0]
        self._voxels[k[inside] - first[2], j[inside] - first[1], i[inside] - first[0]] = 1
        return np.stack([low, high], axis=1)


def _all_voxels(low, high):
    ranges = [np.arange(low[axis], high[axis] + 1) for axis in range(3)]
    return [grid.ravel() for grid in np.meshgrid(*ranges, indexing="ij")]


def _array(matrix: vtkMatrix4x4):
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
