"""Grids of voxels in the scene, and segments seen on them.

Array axes are (k, j, i), as in slicer.util.arrayFromVolume; indices written out are (i, j, k).
A segment is seen on a grid by nearest neighbour. Where its own voxels coincide with the grid's, they
are copied, so that nothing is lost on the way out and back.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

BINARY_LABELMAP = "Binary labelmap"
_SAME_PLACE = 0.01  # of a voxel: lattices closer than this are one
_AXIS_NAMES = ("sagittal", "coronal", "axial")  # nearest to R, A, S


@dataclass(frozen=True)
class Grid:
    """Voxels of `shape` (k, j, i), placed in the world (RAS, mm) by a 4x4 matrix from (i, j, k)."""

    shape: tuple[int, int, int]
    toWorld: np.ndarray

    @classmethod
    def ofVolume(cls, volumeNode, inWorld: bool = True) -> Grid:
        """Return the grid of a volume; its linear transform is left out unless `inWorld`."""
        matrix = vtk.vtkMatrix4x4()
        volumeNode.GetIJKToRASMatrix(matrix)
        shape = tuple(reversed(volumeNode.GetImageData().GetDimensions()))
        placed = nodeToWorld(volumeNode) if inWorld else np.eye(4)
        return cls(shape, placed @ arrayOf(matrix))

    @classmethod
    def ofImage(cls, image, toWorld: np.ndarray) -> Grid:
        """Return the grid of a vtkOrientedImageData whose own coordinates `toWorld` places."""
        extent = image.GetExtent()
        shape = tuple(extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0))
        shift = np.eye(4)
        shift[:3, 3] = extent[::2]
        return cls(shape, toWorld @ imageToOwn(image) @ shift)

    def coincidesWith(self, other: Grid) -> bool:
        """Tell whether the voxels of both lie on one lattice."""
        return _wholeShift(np.linalg.inv(self.toWorld) @ other.toWorld, other.shape) is not None

    def axisName(self, axis: int) -> str:
        """Return the anatomical name of slices across array axis `axis` (0 is k)."""
        return self.axisNames()[axis]

    def axisNames(self) -> tuple[str, str, str]:
        """Return the three names, each once: the assignment that is nearest to the body's axes."""
        axes = np.abs(self.toWorld[:3, :3] / np.linalg.norm(self.toWorld[:3, :3], axis=0))

        def likeness(order):
            return sum(axes[direction, 2 - axis] for axis, direction in enumerate(order))

        best = max(itertools.permutations(range(3)), key=likeness)
        return tuple(_AXIS_NAMES[direction] for direction in best)

    def sliceCenter(self, axis: int, index: float) -> np.ndarray:
        """Return the world position of the middle of a slice."""
        middle = [(length - 1) / 2 for length in self.shape[::-1]]
        middle[2 - axis] = index
        return self.toWorld[:3, :3] @ middle + self.toWorld[:3, 3]

    def spacing(self, axis: int) -> float:
        return float(np.linalg.norm(self.toWorld[:3, 2 - axis]))

    @property
    def arrayToMm(self) -> np.ndarray:
        """Return the 3x3 matrix from steps along the array's axes (k, j, i) to mm in the world."""
        return self.toWorld[:3, 2::-1]

    @property
    def voxelMl(self) -> float:
        """Return the volume of a voxel in millilitres."""
        return float(abs(np.linalg.det(self.toWorld[:3, :3]))) / 1000

    def covering(self, other: Grid) -> Grid:
        """Return this lattice, starting and ending where it covers all of another grid."""
        last = np.array(other.shape[::-1]) - 1.0
        corners = [[last[axis] * (bit >> axis & 1) for axis in range(3)] for bit in range(8)]
        toOwn = np.linalg.inv(self.toWorld) @ other.toWorld
        places = np.array(corners) @ toOwn[:3, :3].T + toOwn[:3, 3]
        low = np.minimum(np.floor(places.min(0) + _SAME_PLACE), 0).astype(int)
        high = np.ceil(places.max(0) - _SAME_PLACE).astype(int)
        high = np.maximum(high, np.array(self.shape[::-1]) - 1)
        shift = np.eye(4)
        shift[:3, 3] = low
        shape = tuple(int(length) for length in (high - low + 1)[::-1])
        return Grid(shape, self.toWorld @ shift)

    def orthogonalIn(self, ownToWorld: np.ndarray) -> Grid:
        """Return this grid if a node with that transform can hold it, else the nearest it can."""
        own = np.linalg.inv(ownToWorld) @ self.toWorld
        if Grid(self.shape, own).isOrthogonal():
            return self
        spacing = np.linalg.norm(own[:3, :3], axis=0).min()
        straight = np.diag([spacing, spacing, spacing, 1.0])
        straight[:3, 3] = own[:3, 3]
        return Grid((1, 1, 1), ownToWorld @ straight).covering(self)

    def isOrthogonal(self) -> bool:
        """Tell whether the axes are at right angles, as image files need them."""
        axes = self.toWorld[:3, :3] / np.linalg.norm(self.toWorld[:3, :3], axis=0)
        return bool(np.allclose(axes.T @ axes, np.eye(3), atol=1e-3))


@dataclass(frozen=True)
class Block:
    """A mask (k, j, i) whose first voxel is at `first` (k, j, i) of some grid."""

    mask: np.ndarray
    first: tuple[int, int, int]

    @property
    def place(self) -> tuple[slice, ...]:
        """Return where the block lies in an array of the whole grid."""
        ends = zip(self.first, self.mask.shape, strict=True)
        return tuple(slice(start, start + length) for start, length in ends)

    def cropped(self) -> Block | None:
        """Return the smallest block with all its true voxels; None if there are none."""
        mask, first = self.mask, list(self.first)
        for axis in range(3):
            others = tuple(other for other in range(3) if other != axis)
            used = np.flatnonzero(mask.any(axis=others))
            if not used.size:
                return None
            mask = np.moveaxis(np.moveaxis(mask, axis, 0)[used[0] : used[-1] + 1], 0, axis)
            first[axis] += int(used[0])
        return Block(mask, tuple(first))

    def without(self, slices) -> Block:
        """Return the block without the voxels of some slices, given as (axis, index of the grid)."""
        mask = self.mask.copy()
        for axis, index in slices:
            if 0 <= index - self.first[axis] < mask.shape[axis]:
                np.moveaxis(mask, axis, 0)[index - self.first[axis]] = False
        return Block(mask, self.first)

    def withoutMask(self, mask: np.ndarray) -> Block:
        """Return the block without the voxels of a mask of its shape."""
        return Block(self.mask & ~mask, self.first)

    def filled(self, other: Block | None) -> np.ndarray:
        """Return a mask of this block's shape with the voxels of a block that lies inside it."""
        result = np.zeros(self.mask.shape, bool)
        if other is not None:
            result[Block(other.mask, tuple(np.subtract(other.first, self.first))).place] = other.mask
        return result

    def united(self, other: Block | None) -> Block:
        """Return the voxels of both."""
        if other is None:
            return self
        low = np.minimum(self.first, other.first)
        high = np.maximum(np.add(self.first, self.mask.shape), np.add(other.first, other.mask.shape))
        result = Block(np.zeros(high - low, bool), (0, 0, 0))
        for block in (self, other):
            moved = Block(block.mask, tuple(np.subtract(block.first, low)))
            result.mask[moved.place] |= block.mask
        return Block(result.mask, tuple(int(value) for value in low))

    def whole(self, shape) -> np.ndarray:
        """Return the mask on the whole grid."""
        result = np.zeros(shape, bool)
        result[self.place] = self.mask
        return result


def arrayOf(matrix) -> np.ndarray:
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def matrixOf(array: np.ndarray):
    matrix = vtk.vtkMatrix4x4()
    for row in range(4):
        for column in range(4):
            matrix.SetElement(row, column, float(array[row, column]))
    return matrix


def isLinearlyPlaced(node) -> bool:
    """Tell whether the node stands under no transform, or under linear ones only."""
    parent = node.GetParentTransformNode()
    return parent is None or bool(parent.IsTransformToWorldLinear())


def nodeToWorld(node) -> np.ndarray:
    """Return the 4x4 matrix of a node's (linear) transforms."""
    parent = node.GetParentTransformNode()
    if parent is None:
        return np.eye(4)
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return arrayOf(matrix)


def imageToOwn(image) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return arrayOf(matrix)


def segmentBlock(segmentationNode, segmentId: str, grid: Grid) -> Block | None:
    """Return where a segment is on a grid, cropped; None if it has no voxel there."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    image = segment.GetRepresentation(BINARY_LABELMAP)
    if image is None or image.IsEmpty() or image.GetPointData().GetScalars() is None:
        return None
    own = Grid.ofImage(image, nodeToWorld(segmentationNode))
    scalars = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(own.shape)
    inner = _blockOf(scalars, segment.GetLabelValue())
    if inner is None:
        return None
    moved = moveBlock(inner, own, grid)
    return moved.cropped() if moved is not None else None


def usedPlace(labels: np.ndarray, value: int | None = None) -> tuple[slice, ...] | None:
    """Return the box of the voxels with a value (of all that are not 0); None if there are none.

    Empty slices, which most are, cost hardly anything.
    """
    rows, columns = np.zeros(labels.shape[1], bool), np.zeros(labels.shape[2], bool)
    planes = []
    for index in np.flatnonzero(labels.reshape(len(labels), -1).max(axis=1)):
        hit = labels[index] != 0 if value is None else labels[index] == value
        inRow = hit.any(axis=1)
        if inRow.any():
            planes.append(int(index))
            rows |= inRow
            columns |= hit.any(axis=0)
    if not planes:
        return None
    used = (np.array(planes), np.flatnonzero(rows), np.flatnonzero(columns))
    return tuple(slice(int(indices[0]), int(indices[-1]) + 1) for indices in used)


def _blockOf(labels: np.ndarray, value: int) -> Block | None:
    """Return the voxels with a value, cropped."""
    place = usedPlace(labels, value)
    if place is None:
        return None
    return Block(labels[place] == value, tuple(part.start for part in place))


def moveBlock(block: Block, source: Grid, target: Grid) -> Block | None:
    """Return a block of grid `source` as seen on grid `target`; None if it lies outside."""
    toSource = np.linalg.inv(source.toWorld) @ target.toWorld
    shift = _wholeShift(toSource, target.shape)
    if shift is not None:
        first = tuple(int(start - move) for start, move in zip(block.first, shift[::-1], strict=True))
        return _clipped(Block(block.mask, first), target.shape)
    return _resliced(block, toSource, target.shape)


def _wholeShift(toSource: np.ndarray, shape) -> np.ndarray | None:
    """Return the shift in whole voxels between two lattices that coincide, or None."""
    last = np.array(shape[::-1]) - 1
    shift = np.rint(toSource[:3, 3])
    turned = np.abs(toSource[:3, :3] - np.eye(3)) @ last
    apart = turned + np.abs(toSource[:3, 3] - shift)
    return shift.astype(int) if apart.max() < _SAME_PLACE else None


def _clipped(block: Block, shape) -> Block | None:
    lows = [max(0, first) for first in block.first]
    sizes = zip(block.first, block.mask.shape, shape, strict=True)
    highs = [min(first + length, limit) for first, length, limit in sizes]
    if any(low >= high for low, high in zip(lows, highs, strict=True)):
        return None
    bounds = zip(lows, highs, block.first, strict=True)
    inner = tuple(slice(low - first, high - first) for low, high, first in bounds)
    return Block(block.mask[inner], tuple(lows))


def _resliced(block: Block, toSource: np.ndarray, shape) -> Block | None:
    bounds = _boundsInTarget(block, toSource, shape)
    if bounds is None:
        return None
    image = vtk.vtkImageData()
    image.SetDimensions(*block.mask.shape[::-1])
    voxels = np.ascontiguousarray(block.mask, np.uint8)
    image.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=False))
    toBlock = toSource.copy()
    toBlock[:3, 3] -= block.first[::-1]
    transform = vtk.vtkMatrixToLinearTransform()
    transform.SetInput(matrixOf(toBlock))
    reslice = vtk.vtkImageReslice()
    reslice.SetInputData(image)
    reslice.SetResliceTransform(transform)
    reslice.SetInterpolationModeToNearestNeighbor()
    reslice.SetOutputOrigin(0, 0, 0)
    reslice.SetOutputSpacing(1, 1, 1)
    reslice.SetOutputExtent([int(value) for value in bounds.ravel()])
    reslice.Update()
    low, high = bounds.T
    scalars = vtk_to_numpy(reslice.GetOutput().GetPointData().GetScalars())
    mask = scalars.reshape((high - low + 1)[::-1]).astype(bool)
    return Block(mask, tuple(int(value) for value in low[::-1]))


def _boundsInTarget(block: Block, toSource: np.ndarray, shape) -> np.ndarray | None:
    """Return the inclusive bounds ((i, j, k), (low, high)) that may hold voxels of the block."""
    first = np.array(block.first[::-1]) - 1
    last = first + np.array(block.mask.shape[::-1]) + 1
    corners = [[(first, last)[bit >> axis & 1][axis] for axis in range(3)] for bit in range(8)]
    toTarget = np.linalg.inv(toSource)
    places = np.array(corners) @ toTarget[:3, :3].T + toTarget[:3, 3]
    low = np.maximum(np.floor(places.min(0)), 0).astype(int)
    high = np.minimum(np.ceil(places.max(0)), np.array(shape[::-1]) - 1).astype(int)
    return None if (low > high).any() else np.stack([low, high], axis=1)


def orientedImage(block: Block, grid: Grid, ownToWorld: np.ndarray):
    """Return the block as a segment's labelmap (0 and 1) in a node whose transform is given."""
    image = slicer.vtkOrientedImageData()
    first = block.first[::-1]
    size = block.mask.shape[::-1]
    extent = [value for pair in zip(first, size, strict=True) for value in (pair[0], sum(pair) - 1)]
    image.SetExtent(extent)
    scalars = numpy_to_vtk(np.ascontiguousarray(block.mask, np.uint8).ravel(), deep=True)
    image.GetPointData().SetScalars(scalars)
    image.SetGeometryFromImageToWorldMatrix(matrixOf(np.linalg.inv(ownToWorld) @ grid.toWorld))
    return image
