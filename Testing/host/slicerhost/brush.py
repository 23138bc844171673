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
    """A disc of the slice's thickness, or a sphere; lengths in mm, directions in world coordinates."""

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
    """Set to 1 the voxels of `labelmap` that `brush` covers at any of `centers` (n, 3), in world mm.

    `labelmap`: a vtkOrientedImageData, changed in place; `image_to_world`: its vtkMatrix4x4.
    Returns the extent that was changed, or None if the stroke is outside the labelmap.
    """
    to_world = _array(image_to_world)
    to_ijk = np.linalg.inv(to_world)
    extent = np.array(labelmap.GetExtent()).reshape(3, 2)
    shape = extent[::-1, 1] - extent[::-1, 0] + 1
    voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(shape)
    reach = brush.reach * np.sqrt((to_ijk[:3, :3] ** 2).sum(1))  # in voxels, along i, j and k
    changed = [
        painted
        for center in np.asarray(centers, dtype=float)
        if (painted := _stamp_once(voxels, extent, to_world, brush, center, to_ijk, reach))
        is not None
    ]
    labelmap.GetPointData().GetScalars().Modified()
    labelmap.Modified()
    if not changed:
        return None
    lows, highs = np.min(changed, axis=0)[:, 0], np.max(changed, axis=0)[:, 1]
    return [int(value) for pair in zip(lows, highs, strict=True) for value in pair]


def _stamp_once(voxels, extent, to_world, brush, center, to_ijk, reach):
    middle = to_ijk[:3, :3] @ center + to_ijk[:3, 3]
    low = np.maximum(np.ceil(middle - reach), extent[:, 0]).astype(int)
    high = np.minimum(np.floor(middle + reach), extent[:, 1]).astype(int)
    if (low > high).any():
        return None
    ranges = [np.arange(low[axis], high[axis] + 1) for axis in range(3)]
    k, j, i = (grid.ravel() for grid in np.meshgrid(*ranges[::-1], indexing="ij"))
    positions = np.stack([i, j, k], axis=1) @ to_world[:3, :3].T + to_world[:3, 3]
    inside = brush.covers(positions - center)
    first = extent[:, 0]
    voxels[k[inside] - first[2], j[inside] - first[1], i[inside] - first[0]] = 1
    return np.stack([low, high], axis=1)


def _array(matrix: vtkMatrix4x4):
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])
