"""What the user painted: slices and planes of segments, told apart from what was applied to them.

A segment in which a result was applied carries tags: which slices and planes are the user's, and what
it looked like as it was applied, so that slices that were corrected since count as painted. They
survive saving as .seg.nrrd.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import vtk

from .AppliedResult import AppliedResult
from .Grid import Block, Grid, segmentBlock
from .Planes import Plane, formatPlanes, onPlanes, parsePlanes, tiltedPieces
from .Slices import (
    Slice,
    countLonely,
    formatSlices,
    onSlices,
    paintedSlices,
    parseSlices,
    usedIndices,
)

NOT_PAINTED_TAG = "RegLoRASegment.NotPainted"
USE_TAG = "RegLoRASegment.Use"
PAINTED_TAG = "RegLoRASegment.Painted"
APPLIED_TAG = "RegLoRASegment.Applied"
PLANES_TAG = "RegLoRASegment.Planes"
_WHOLE_SLICES = 12  # a segment with fewer along some axis may be painted slice by slice


@dataclass
class SegmentPaint:
    """One segment's paint on a grid.

    `block`: where the user painted; None if nowhere. `lonely`: per axis, the number of voxels
    without a painted neighbour in front or behind. `applied`: the user's slices of a segment that
    holds a result; None for a segment that is paint only. `pieces`: the paint's flat pieces if it lies
    on oblique planes; it is then on no slice. `isJoined`: they lie on the planes of other organs, and
    are too little to show one. `appliedPlanes`: the user's planes of a segment that holds a result;
    `result`: all its voxels, the user's and the others.
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
    result: Block | None = field(default=None, repr=False)
    _traces: dict = field(default_factory=dict, repr=False)

    def slices(self, axis: int) -> frozenset[Slice]:
        """Return the painted slices, where `axis` is the one that most paint is perpendicular to."""
        if self.applied is not None:
            return self.applied
        if self.block is None or self.pieces:
            return frozenset()
        if axis not in self._traces:
            used = {(axis, index) for index in usedIndices(self.block, axis)}
            self._traces[axis] = frozenset(used if isWhole(self) else paintedSlices(self.block, axis))
        return self._traces[axis]

    def knows(self, place: Slice | Plane) -> bool:
        """Tell whether an annotated slice or plane says where this organ is.

        Where another organ was corrected after a result was applied, nobody has looked at this one.
        """
        if isinstance(place, Plane):
            return self.applied is None or place in self.appliedPlanes
        return place not in self.notPainted and (self.applied is None or place in self.applied)


def readPaint(segmentationNode, segmentId: str, grid: Grid) -> SegmentPaint:
    """Look at one segment on a grid (some 0.05 s for a whole organ at 512x512x300)."""
    segment = segmentationNode.GetSegmentation().GetSegment(segmentId)
    block = segmentBlock(segmentationNode, segmentId, grid)
    paint = SegmentPaint(
        segmentId,
        " ".join(segment.GetName().split()),
        tuple(segment.GetColor()),
        block,
        frozenset(parseSlices(getTag(segment, NOT_PAINTED_TAG))),
        use=getTag(segment, USE_TAG),
    )
    record = AppliedResult.fromText(getTag(segment, APPLIED_TAG))
    if record is not None and record.shape == grid.shape:
        _keepUsersPart(paint, segment, record, grid)
    elif block is not None:
        paint.pieces = tiltedPieces(block, grid)
    if paint.block is not None:
        paint.total = int(np.count_nonzero(paint.block.mask))
        paint.lonely = tuple(countLonely(paint.block.mask, axis, paint.total) for axis in range(3))
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
    counts = [len({i for paint in paints for i in usedIndices(paint.block, axis)}) for axis in range(3)]
    return int(np.argmin(counts))


def markApplied(segment, block: Block | None, painted, planes, grid: Grid, axis: int) -> None:
    """Remember which slices and planes are the user's, and what the segment looks like on the grid."""
    segment.SetTag(PAINTED_TAG, formatSlices(painted))
    segment.SetTag(PLANES_TAG, formatPlanes(planes))
    segment.SetTag(APPLIED_TAG, AppliedResult(axis, grid.shape, block).toText())


def takeAsPainted(segment, place: Slice) -> None:
    """Count a slice of a segment that holds a result as the user's, as it is now."""
    segment.SetTag(PAINTED_TAG, formatSlices({*parseSlices(getTag(segment, PAINTED_TAG)), place}))


def getTag(segment, name: str) -> str:
    value = vtk.reference("")
    return str(value) if segment.GetTag(name, value) else ""


def _keepUsersPart(paint: SegmentPaint, segment, record: AppliedResult, grid: Grid) -> None:
    """Reduce the paint of a segment with an applied result to what is the user's in it."""
    since = record.corrections(paint.block, grid)
    paint.result = paint.block
    paint.applied = since.slices | frozenset(parseSlices(getTag(segment, PAINTED_TAG)))
    paint.appliedPlanes = (*parsePlanes(getTag(segment, PLANES_TAG)), *since.planes)
    if paint.result is not None:
        region = paint.result.united(since.changed)
        moved = [(axis, index - region.first[axis]) for axis, index in paint.applied]
        users = onSlices(region.mask.shape, moved) | onPlanes(region, paint.appliedPlanes)
        users |= region.filled(since.changed)
        paint.block = Block(region.filled(paint.result) & users, region.first).cropped()


def segmentTimes(segment) -> tuple:
    """Return what changes whenever a segment or its voxels do."""
    image = segment.GetRepresentation("Binary labelmap")
    value = vtk.reference("")
    tags = tuple(
        str(value) if segment.GetTag(f"RegLoRASegment.{name}", value) else ""
        for name in ("Applied", "Painted", "Planes", "Use", "NotPainted")
    )
    return (
        None if image is None else image.GetMTime(),  # no two images have the same
        segment.GetLabelValue(),
        segment.GetName(),
        segment.GetColor(),
        tags,
    )
