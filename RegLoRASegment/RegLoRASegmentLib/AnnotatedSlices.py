"""The table of annotated slices: which slices are painted, for which organs, and where to paint next."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
from slicer.i18n import tr as _

from .Grid import Grid
from .Paint import (
    NOT_PAINTED_TAG,
    USE_TAG,
    SegmentPaint,
    getTag,
    isWhole,
    mainAxis,
    readPaint,
    takeAsPainted,
)
from .Planes import Plane, liesOn, onPlanes, planesThrough
from .Slices import Slice, formatSlices


class Mark(enum.Enum):
    """What a slice says about an organ."""

    PAINTED = "painted"
    ABSENT = "absent"  # the slice is annotated, the organ is not on it
    NOT_PAINTED = "not painted yet"  # nothing is known about the organ there


@dataclass(frozen=True)
class Row:
    """One annotated slice or oblique plane: its place, its name for people, its mark per segment id."""

    place: Slice | Plane
    label: str
    marks: dict[str, Mark]


@dataclass(frozen=True)
class Annotation:
    """What the core needs to know about the paint, besides the paint.

    `annotated`: the core's text form. `slices` and `planes`: set only if there are slices of several
    orientations or oblique planes; then every voxel off them is to be written as unlabelled.
    """

    annotated: str
    notPainted: dict[str, list[int]]
    slices: tuple[Slice, ...] = ()
    planes: tuple[Plane, ...] = ()

    @property
    def isScattered(self) -> bool:
        return bool(self.slices or self.planes)


class AnnotatedSlices:
    """Looks at a segmentation on the grid of a volume; call update() after changes."""

    def __init__(self, volumeNode, segmentationNode, look: bool = True) -> None:
        self.grid = Grid.ofVolume(volumeNode)
        self._fileAxes = Grid.ofVolume(volumeNode, inWorld=False).axisNames()
        self._segmentationNode = segmentationNode
        self._paints: dict[str, SegmentPaint] = {}
        if look:
            self.update()

    def update(self, segmentId: str | None = None) -> None:
        """Look again at one segment, or at all."""
        known = list(self._segmentationNode.GetSegmentation().GetSegmentIDs())
        wanted = known if segmentId is None else [segmentId]
        for name in wanted:
            if name in known:
                self._paints[name] = readPaint(self._segmentationNode, name, self.grid)
        self.forgetRemoved()

    def updateSteps(self) -> Generator[None, None, None]:
        """Look again at all segments, one at a time; then places() and planes() take no time."""
        for segmentId in self._segmentationNode.GetSegmentation().GetSegmentIDs():
            self.update(segmentId)
            yield
        yield from self.placeSteps()

    def placeSteps(self) -> Generator[None, None, None]:
        """Find the slices of the segments that are used, one at a time, before places() and rows()."""
        axis = self.axis
        for paint in self.painted():
            paint.slices(axis)
            yield

    def snapshot(self) -> AnnotatedSlices:
        """Return a copy that stays as it is while the user paints on."""
        copied = AnnotatedSlices.__new__(AnnotatedSlices)
        vars(copied).update(vars(self))
        copied._paints = {name: replace(paint) for name, paint in self._paints.items()}
        return copied

    def forgetRemoved(self) -> None:
        """Forget segments that are gone; keep the segmentation's order."""
        known = self._segmentationNode.GetSegmentation().GetSegmentIDs()
        self._paints = {name: self._paints[name] for name in known if name in self._paints}
        self._joinPlanes()

    def _joinPlanes(self) -> None:
        """Count paint that is too little to show an oblique plane to the planes of other organs."""
        paints = [
            paint for paint in self._paints.values() if paint.block is not None and paint.applied is None
        ]
        for paint in paints:
            if paint.isJoined:
                paint.pieces, paint.isJoined = [], False
        planes = planesThrough([piece for paint in paints for piece in paint.pieces], self.grid)
        for paint in paints:
            if not paint.pieces and liesOn(paint.block, planes):
                paint.pieces = [np.argwhere(paint.block.mask) + paint.block.first]
                paint.isJoined = True

    @property
    def paints(self) -> list[SegmentPaint]:
        """Return every segment's paint, in the segmentation's order."""
        return list(self._paints.values())

    def painted(self) -> list[SegmentPaint]:
        """Return the segments that have paint and are used.

        Beside organs painted on single slices one that is segmented throughout is not used unless
        the user says so: by its slices, all the others would count as absent nearly everywhere.
        """
        painted = [paint for paint in self._paints.values() if paint.block is not None]
        isSparse = [not isWhole(paint) for paint in painted]
        byRule = [sparse or not any(isSparse) for sparse in isSparse]
        choice = {"1": True, "0": False}
        return [
            paint for paint, isUsed in zip(painted, byRule, strict=True) if choice.get(paint.use, isUsed)
        ]

    def leftOut(self) -> list[SegmentPaint]:
        """Return the segments that have paint and are not used."""
        used = {paint.segmentId for paint in self.painted()}
        paints = self._paints.values()
        return [paint for paint in paints if paint.block is not None and paint.segmentId not in used]

    def planes(self, segmentIds: list[str] | None = None) -> list[Plane]:
        """Return the oblique planes that are painted, those of segments that are used."""
        paints = [paint for paint in self.painted() if segmentIds is None or paint.segmentId in segmentIds]
        pieces = [piece for paint in paints for piece in paint.pieces]
        known = {plane: None for paint in paints for plane in paint.appliedPlanes}
        return [*known, *planesThrough(pieces, self.grid)]

    def setUsed(self, segmentId: str, isUsed: bool) -> None:
        """Take a segment into the adaptation, or leave it out; saved with the segmentation."""
        segment = self._segmentationNode.GetSegmentation().GetSegment(segmentId)
        segment.SetTag(USE_TAG, str(int(isUsed)))
        self._paints[segmentId].use = str(int(isUsed))

    @property
    def axis(self) -> int:
        """Return the array axis that most slices are perpendicular to."""
        return mainAxis(self.painted())

    def slicesOf(self, segmentId: str) -> frozenset[Slice]:
        return self._paints[segmentId].slices(self.axis)

    def places(self) -> list[Slice]:
        """Return the annotated slices, those of the main axis first."""
        axis = self.axis
        found = {place for paint in self.painted() for place in paint.slices(axis)}
        return sorted(found, key=lambda place: (place[0] != axis, place))

    def rows(self) -> list[Row]:
        axis = self.axis
        painted = self.painted()
        slices = {paint.segmentId: paint.slices(axis) for paint in painted}
        rows = [
            Row(
                place,
                self.label(place),
                {paint.segmentId: _mark(paint, place, slices) for paint in painted},
            )
            for place in self.places()
        ]
        for number, plane in enumerate(self.planes(), start=1):
            marks = {paint.segmentId: _markOnPlane(paint, plane) for paint in painted}
            rows.append(Row(plane, _("oblique {number}").format(number=number), marks))
        return rows

    def label(self, place: Slice) -> str:
        """Return "axial 41": the number of the slice counts from 1, as in Slicer's views."""
        return f"{self.grid.axisNames()[place[0]]} {place[1] + 1}"

    def terminologyOf(self, segmentId: str) -> str:
        """Return the segment's serialised terminology entry; empty if it has none."""
        segment = self._segmentationNode.GetSegmentation().GetSegment(segmentId)
        return getTag(segment, segment.GetTerminologyEntryTagName())

    def setNotPainted(self, segmentId: str, place: Slice, isNotPainted: bool = True) -> None:
        """Say that an organ has not been painted yet on a slice (or that it is right as it is)."""
        marked = set(self._paints[segmentId].notPainted)
        marked = marked | {place} if isNotPainted else marked - {place}
        segment = self._segmentationNode.GetSegmentation().GetSegment(segmentId)
        if not isNotPainted and self._paints[segmentId].applied is not None:
            takeAsPainted(segment, place)
        if marked:
            segment.SetTag(NOT_PAINTED_TAG, formatSlices(marked))
        else:
            segment.RemoveTag(NOT_PAINTED_TAG)
        self.update(segmentId)

    def suggestNext(self) -> Slice | None:
        """Return the slice to paint next: the middle of the widest gap; None if there is no gap.

        Beyond the first and the last painted slice the organs may end soon, so that a step outwards
        is no wider than the typical gap, and comes after the gaps between.
        """
        axis = self.axis
        count = self.grid.shape[axis]
        painted = [index for place, index in self.places() if place == axis]
        if not painted:
            return (axis, count // 2)
        gaps = [
            (after - before, -before, (before + after) // 2)
            for before, after in itertools.pairwise(painted)
        ]
        if gaps and max(gaps)[0] >= 2:
            widest = max(gaps)
            return (axis, widest[2])
        step = max(1, count // 8)
        room = {painted[0] - step: painted[0], painted[-1] + step: count - 1 - painted[-1]}
        outwards = max(room, key=room.__getitem__)
        return (axis, outwards) if 0 <= outwards < count else None

    def openPlace(self, axisName: str, index: int) -> Slice | None:
        """Return the slice that the worker calls so, or None if it is painted or is not there."""
        axis = self._fileAxes.index(axisName)
        isThere = 0 <= index < self.grid.shape[axis]
        return (axis, index) if isThere and (axis, index) not in self.places() else None

    def annotation(self, segmentIds: list[str]) -> Annotation:
        """Return what the core has to know when these segments are exported."""
        axis = self.axis
        paints = [self._paints[segmentId] for segmentId in segmentIds]
        places = {place for paint in paints for place in paint.slices(axis)}
        planes = self.planes(segmentIds)
        if planes or {place[0] for place in places} - {axis}:
            known = places - {place for paint in paints for place in paint.notPainted}
            return Annotation("all", {}, tuple(sorted(known)), tuple(planes))
        indices = sorted(index for _, index in places)
        unknown = {
            paint.name: sorted(i for _, i in places if not paint.knows((axis, i))) for paint in paints
        }
        notPainted = {name: numbers for name, numbers in unknown.items() if numbers}
        text = f"{self._fileAxes[axis]}:{','.join(map(str, indices))}"
        return Annotation(text, notPainted)


def _mark(paint: SegmentPaint, place: Slice, slices) -> Mark:
    if not paint.knows(place):
        return Mark.NOT_PAINTED
    if place in slices[paint.segmentId] and _hasVoxels(paint, place):
        return Mark.PAINTED
    return Mark.ABSENT


def _markOnPlane(paint: SegmentPaint, plane: Plane) -> Mark:
    if not paint.knows(plane):
        return Mark.NOT_PAINTED
    if paint.applied is not None:
        return Mark.PAINTED if np.any(paint.block.mask & onPlanes(paint.block, [plane])) else Mark.ABSENT
    isOn = any(plane.distance(piece).mean() < 1 for piece in paint.pieces)
    return Mark.PAINTED if isOn else Mark.ABSENT


def _hasVoxels(paint: SegmentPaint, place: Slice) -> bool:
    index = place[1] - paint.block.first[place[0]]
    planes = np.moveaxis(paint.block.mask, place[0], 0)
    return 0 <= index < len(planes) and bool(planes[index].any())
