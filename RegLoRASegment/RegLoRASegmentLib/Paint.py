"""What the user painted: slices of segments, told apart from what was applied to them.

A slice is a pair (array axis, index) of the volume's grid. A segment in which a result was applied
carries two tags: which slices are the user's, and a checksum of every slice as it was applied, so
that a slice that was corrected since counts as painted. Both survive saving as .seg.nrrd.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

import numpy as np
import vtk

from .Grid import Block, Grid, segmentBlock
from .Planes import Plane, formatPlanes, onPlanes, parsePlanes, tiltedPieces

NOT_PAINTED_TAG = "RegLoRASegment.NotPainted"
USE_TAG = "RegLoRASegment.Use"
PAINTED_TAG = "RegLoRASegment.Painted"
APPLIED_TAG = "RegLoRASegment.Applied"
PLANES_TAG = "RegLoRASegment.Planes"
Slice = tuple[int, int]
_WHOLE_SLICES = 12  # a segment with fewer along some axis may be painted slice by slice
_MAX_SPARSE_SLICES = 80  # more painted slices than that along every axis: a whole volume


@dataclass
class SegmentPaint:
    """One segment's paint on a grid.

    `block`: where the user painted; None if nowhere. `lonely`: per axis, the number of voxels
    without a painted neighbour in front or behind. `applied`: the user's slices of a segment that
    holds a result; None for a segment that is paint only. `pieces`: the paint's flat pieces if it lies
    on oblique planes; it is then on no slice. `isJoined`: they lie on the planes of other organs, and
    are too little to show one. `appliedPlanes`: the user's planes of a segment that holds a result.
    """

    segmentId: str
    name: str
    color: tuple[float, float, float]
    block: Block | None
    notPainted: frozenset[Slice] = frozenset()
    applied: frozenset[Slice] | None = None
    use: str = ""  # "1" or "0" as the user chose; empty if the user did not choose
    lonely: tuple[int, int, int] = (0, 0, 0)
    total: int = 0
    pieces: list[np.ndarray] = field(default_factory=list, repr=False)
    isJoined: bool = False
    appliedPlanes: tuple[Plane, ...] = ()
    _traces: dict = field(default_factory=dict, repr=False)

    def slices(self, axis: int) -> frozenset[Slice]:
        """Return the painted slices, where `axis` is the one that most paint is perpendicular to."""
        if self.applied is not None:
            return self.applied
        if self.block is None or self.pieces:
            return frozenset()
        if axis not in self._traces:
            self._traces[axis] = frozenset(_slicesOf(self.block, axis))
        return self._traces[axis]


def readPaint(segmentationNode, segmentId: str, grid: Grid) -> SegmentPaint:
    """Look at one segment on a grid (some 0.05 s for a whole organ at 512x512x300)."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    block = segmentBlock(segmentationNode, segmentId, grid)
    applied = _usersSlices(segment, block, grid)
    planes = ()
    if applied is not None:
        planes = parsePlanes(getTag(segment, PLANES_TAG))
        block = _restricted(block, applied, planes)
    paint = SegmentPaint(
        segmentId,
        " ".join(segment.GetName().split()),
        tuple(segment.GetColor()),
        block,
        frozenset(parseSlices(getTag(segment, NOT_PAINTED_TAG))),
        applied,
        getTag(segment, USE_TAG),
    )
    if block is not None:
        paint.appliedPlanes = planes
        paint.pieces = [] if applied is not None else tiltedPieces(block, grid)
        paint.total = int(np.count_nonzero(block.mask))
        paint.lonely = tuple(_countLonely(block.mask, axis, paint.total) for axis in range(3))
    return paint


def isWhole(paint: SegmentPaint) -> bool:
    """Tell whether an organ is segmented throughout, and not on single slices.

    It has many slices along every axis, and hardly any of its voxels lack a neighbour.
    """
    if paint.block is None or paint.applied is not None:
        return False
    isLong = min(paint.block.mask.shape) >= _WHOLE_SLICES
    return isLong and max(paint.lonely) < 0.25 * paint.total


def mainAxis(paints) -> int:
    """Return the axis that most paint is perpendicular to.

    The same rule as the core's: sparse slices have no painted neighbours; where no axis stands out
    (neighbouring slices, whole volumes) it is the one with the fewest painted slices.
    """
    paints = [paint for paint in paints if paint.block is not None and not paint.pieces]
    total = sum(paint.total for paint in paints)
    if not total:
        return 0
    lonely = [sum(paint.lonely[axis] for paint in paints) / total for axis in range(3)]
    if max(lonely) > 0.5:
        return int(np.argmax(lonely))
    counts = [len({i for paint in paints for i in _used(paint.block, axis)}) for axis in range(3)]
    return int(np.argmin(counts))


def markApplied(segment, block: Block | None, painted, planes, grid: Grid) -> None:
    """Remember which slices and planes are the user's, and what the segment looks like on the grid."""
    axis = next(iter(sorted(painted)), (0, 0))[0]
    sums = checksums(block, axis, grid.shape)
    segment.SetTag(PAINTED_TAG, formatSlices(painted))
    segment.SetTag(PLANES_TAG, formatPlanes(planes))
    text = " ".join(f"{index}={value:08x}" for index, value in sorted(sums.items()))
    segment.SetTag(APPLIED_TAG, f"{axis};{' '.join(map(str, grid.shape))};{text}")


def checksums(block: Block | None, axis: int, shape) -> dict[int, int]:
    """Return a checksum of every slice with voxels; it does not depend on how the block is cut."""
    if block is None:
        return {}
    planes = np.moveaxis(block.mask, axis, 0)
    row, column = (other for other in range(3) if other != axis)
    rows = np.arange(planes.shape[1]) + block.first[row]
    columns = np.arange(planes.shape[2]) + block.first[column]
    places = (rows[:, None] * shape[column] + columns).astype(np.int32)
    sums = {}
    for number, plane in enumerate(planes):
        painted = places[plane]
        if painted.size:
            sums[number + block.first[axis]] = zlib.crc32(painted)
    return sums


def parseSlices(text: str) -> list[Slice]:
    """Read "0/12 0/40"; what is no such pair is left out."""
    pairs = (part.split("/") for part in text.split())
    return [
        (int(pair[0]), int(pair[1]))
        for pair in pairs
        if len(pair) == 2 and pair[0] in "012" and pair[1].isdecimal()
    ]


def formatSlices(slices) -> str:
    return " ".join(f"{axis}/{index}" for axis, index in sorted(slices))


def getTag(segment, name: str) -> str:
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def onSlices(shape, slices) -> np.ndarray:
    """Return a mask (k, j, i) of the voxels on any of the slices."""
    mask = np.zeros(shape, bool)
    for axis, index in slices:
        if 0 <= index < shape[axis]:
            np.moveaxis(mask, axis, 0)[index] = True
    return mask


def _usersSlices(segment, block: Block | None, grid: Grid) -> frozenset[Slice] | None:
    """Return the user's slices of a segment with an applied result; None if there is no result."""
    axis, shape, sums = _parseApplied(getTag(segment, APPLIED_TAG))
    if shape != grid.shape:
        return None
    painted = set(parseSlices(getTag(segment, PAINTED_TAG)))
    now = checksums(block, axis, grid.shape)
    changed = {index for index in sums.keys() | now.keys() if sums.get(index) != now.get(index)}
    return frozenset(painted | {(axis, index) for index in changed})


def _parseApplied(text: str):
    try:
        axis, shape, sums = text.split(";")
        pairs = (part.split("=") for part in sums.split())
        values = {int(index): int(value, 16) for index, value in pairs}
        return int(axis), tuple(int(length) for length in shape.split()), values
    except ValueError:
        return 0, None, {}


def _restricted(block: Block | None, slices, planes) -> Block | None:
    if block is None:
        return None
    moved = [(axis, index - block.first[axis]) for axis, index in slices]
    users = onSlices(block.mask.shape, moved) | onPlanes(block, planes)
    return Block(block.mask & users, block.first).cropped()


def _neighbours(mask: np.ndarray, axis: int) -> np.ndarray:
    """Return which voxels of the mask have a neighbour in it, in front or behind along `axis`."""
    result = np.zeros_like(mask)
    planes, moved = np.moveaxis(mask, axis, 0), np.moveaxis(result, axis, 0)
    pairs = planes[1:] & planes[:-1]
    moved[1:] |= pairs
    moved[:-1] |= pairs
    return result


def _countLonely(mask: np.ndarray, axis: int, total: int) -> int:
    """Count pairs as the core does, which is cheaper than marking voxels."""
    planes = np.moveaxis(mask, axis, 0)
    return total - int(np.count_nonzero(planes[1:] & planes[:-1]))


def _used(block: Block, axis: int) -> list[int]:
    others = tuple(other for other in range(3) if other != axis)
    return [int(index) + block.first[axis] for index in np.flatnonzero(block.mask.any(axis=others))]


def _slicesOf(block: Block, axis: int) -> set[Slice]:
    """Return the painted slices of any axis.

    A slice painted across another axis leaves a trace on every slice that it crosses: voxels thin
    along that axis, continued along this one. A slice that holds mostly traces was not painted.
    """
    used = _used(block, axis)
    if len(used) == 1 or len(used) > _MAX_SPARSE_SLICES:
        return {(axis, index) for index in used}
    continued = block.mask & _neighbours(block.mask, axis)
    others = [other for other in range(3) if other != axis]
    thin = [continued & ~_neighbours(block.mask, other) for other in others]
    planes, traces = np.moveaxis(block.mask, axis, 0), np.moveaxis(thin[0] | thin[1], axis, 0)
    first = block.first[axis]
    painted = {
        (axis, index)
        for index in used
        if 2 * np.count_nonzero(traces[index - first]) < np.count_nonzero(planes[index - first])
    }
    moved = [(axis, index - first) for _, index in painted]
    rest = block.mask & ~onSlices(block.mask.shape, moved)
    for other, trace in zip(others, thin, strict=True):
        counts = np.count_nonzero(np.moveaxis(trace & rest, other, 0), axis=(1, 2))
        kept = np.flatnonzero((counts > 0) & (4 * counts >= counts.max()))
        painted |= {(other, int(index) + block.first[other]) for index in kept}
    return painted
