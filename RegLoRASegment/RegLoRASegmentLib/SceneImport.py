"""Results -> scene: the preview, and the organs that the user takes over into a segmentation.

The user's drawing is never changed: on the slices that count as painted an organ keeps its voxels,
everywhere else it becomes what was predicted. The organs that are written lie on new layers, on one as
far as they do not overlap, so that no voxel of another segment is touched. Nothing is ever read from a
file into the user's segmentation node: that would remove its segments.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

from reglora_core.errors import InputError

from .AnnotatedSlices import AnnotatedSlices
from .Grid import BINARY_LABELMAP, Block, Grid, moveBlock, nodeToWorld, orientedImage, segmentBlock
from .Layers import TightLayers, leaveLayer, shareLayerSteps
from .Paint import getTag, markApplied
from .Planes import Plane, onPlanes
from .SegmentationFile import SegmentationFile, exchangeSegmentation, readSteps

PREVIEW_ATTRIBUTE = "RegLoRASegment.Preview"
CLOSED_SURFACE = "Closed surface"


class Mode(enum.Enum):
    """How an organ is written into the user's segmentation."""

    REPLACE = "replace"  # the segment of the same name; a new one if there is none
    NEW = "new"


def readSegmentation(path: Path, volumeNode, name: str):
    """Load a result as a segmentation node of its own, placed as the volume.

    Raises:
        InputError: the file is missing, damaged or no segmentation.
    """
    return newSegmentation(_finish(readSteps(path)), volumeNode, name)


def newSegmentation(content: SegmentationFile, volumeNode, name: str):
    """Return a new segmentation node with what was read from a file."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    fillSegmentation(node, content, volumeNode)
    return node


def fillSegmentation(node, content: SegmentationFile, volumeNode) -> None:
    """Show other content in a segmentation node of ours, placed as the volume."""
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    content.fill(node)


def removeSegmentation(node) -> None:
    """Remove a node of ours with all that belongs to it."""
    scene = node.GetScene()
    if scene is None:
        return
    exchangeSegmentation(node, slicer.vtkSegmentation())
    displays = [node.GetNthDisplayNode(n) for n in range(node.GetNumberOfDisplayNodes())]
    for part in [*displays, node.GetStorageNode(), node]:
        if part is not None and part.GetScene() is scene:
            scene.RemoveNode(part)


class Preview:
    """The result so far, in a node of its own that is not saved with the scene."""

    def __init__(self, volumeNode) -> None:
        self._volumeNode = volumeNode
        self.node = None
        self.opacity = 0.5
        self.isVisible = True

    def show(self, content: SegmentationFile) -> None:
        """Show a result instead of the one shown so far."""
        if self.node is not None and self.node.GetScene() is not None:
            fillSegmentation(self.node, content, self._volumeNode)
        else:
            name = _("{volume} preview").format(volume=self._volumeNode.GetName())
            self.node = newSegmentation(content, self._volumeNode, name)
            self.node.SetAttribute(PREVIEW_ATTRIBUTE, "1")
            self.node.SetSaveWithScene(False)
            self.node.SetHideFromEditors(True)  # it is no segmentation to paint in
            self.node.GetDisplayNode().SetSaveWithScene(False)
        self._updateDisplay()

    def setVisible(self, isVisible: bool) -> None:
        self.isVisible = isVisible
        self._updateDisplay()

    def setOpacity(self, opacity: float) -> None:
        self.opacity = opacity
        self._updateDisplay()

    def discard(self) -> None:
        if self.node is not None:
            removeSegmentation(self.node)
            self.node = None

    def _updateDisplay(self) -> None:
        if self.node is None or self.node.GetDisplayNode() is None:
            return
        display = self.node.GetDisplayNode()
        display.SetVisibility(self.isVisible)
        display.SetOpacity2DFill(self.opacity)
        display.SetOpacity2DOutline(min(1.0, 2 * self.opacity))


class SceneImport:
    """Writes organs of a result into the user's segmentation.

    `editorNode`: the segment editor's node, whose masking settings are honoured; None for none.
    `saveStateForUndo`: makes the one undo step; called once, before the first change.
    `changedMl`: per organ that was written, the volume of the voxels that differ from before.
    """

    def __init__(
        self,
        volumeNode,
        segmentationNode,
        editorNode=None,
        saveStateForUndo: Callable[[], object] | None = None,
    ) -> None:
        self._volumeNode = volumeNode
        self._segmentationNode = segmentationNode
        self._segmentation = segmentationNode.GetSegmentation()
        self._editorNode = editorNode
        self._saveStateForUndo = saveStateForUndo
        self._grid = Grid.ofVolume(volumeNode)
        self._ownToWorld = nodeToWorld(segmentationNode)
        self._places: frozenset = frozenset()
        self._planes: tuple[Plane, ...] = ()
        self.changedMl: dict[str, float] = {}

    def apply(self, resultNode, choices: dict[str, Mode]) -> list[str]:
        """Write the chosen organs; return the ids of the segments that hold them now.

        Raises:
            InputError: the result has no organ of that name, or no place for it can be made.
        """
        return _finish(self.applySteps(resultNode, choices))

    def applySteps(self, resultNode, choices: dict[str, Mode]) -> Generator[None, None, list[str]]:
        """Do the same organ by organ."""
        results = segmentIdsByName(resultNode)
        for name in choices:
            if name not in results:
                problem = _("{name} is not among the organs of the result").format(name=name)
                hint = _("choose among {names}").format(names=", ".join(results))
                raise InputError(problem, hint)
        target = self._targetGrid()
        slices = AnnotatedSlices(self._volumeNode, self._segmentationNode, look=False)
        yield from slices.updateSteps()
        self._places = frozenset(slices.places())
        self._planes = tuple(slices.planes())
        yield
        yield from self._undoSteps()
        written = []
        for name, mode in choices.items():
            wasModifying = self._segmentationNode.StartModify()
            try:
                written.append(self._write(resultNode, results[name], mode, slices, target))
            finally:
                self._segmentationNode.EndModify(wasModifying)
            yield
        yield from shareLayerSteps(self._segmentationNode, written)
        return written

    def _undoSteps(self) -> Generator[None, None, None]:
        """Make the one undo step."""
        if self._saveStateForUndo is None:
            return
        layers = TightLayers(self._segmentationNode)
        yield from layers.cutSteps()
        with layers.inPlace():
            self._saveStateForUndo()
        yield

    def _write(self, resultNode, resultId: str, mode: Mode, slices, target: Grid) -> str:
        result = resultNode.GetSegmentation().GetSegment(resultId)
        predicted = segmentBlock(resultNode, resultId, self._grid)
        own = segmentIdsByName(self._segmentationNode).get(" ".join(result.GetName().split()))
        known, planes = frozenset(), ()
        kept = None
        if own is not None:
            known, planes = self._known(slices, own)
            kept = self._kept(slices, own, target)
        if predicted is not None:
            predicted = predicted.without(known)
            if planes:
                predicted = predicted.withoutMask(onPlanes(predicted, planes))
            predicted = moveBlock(predicted, self._grid, target)
        block = predicted.united(kept) if predicted is not None else kept
        segmentId = own if mode is Mode.REPLACE and own is not None else None
        if self._isMasking():
            block = self._masked(block, segmentId, target)
        self._compare(result.GetName(), segmentId, block, target)
        segmentId = self._setLabelmap(segmentId, result, block, target)
        if mode is not Mode.REPLACE:
            known, planes = frozenset(), ()
        segment = self._segmentation.GetSegment(segmentId)
        seen = self._seen(segmentId, block, target)
        markApplied(segment, seen, known, planes, self._grid, slices.axis)
        return segmentId

    def _compare(self, name: str, segmentId: str | None, block: Block | None, target: Grid) -> None:
        """Note how much of a segment is about to change; all of it if the segment is new."""
        before = segmentBlock(self._segmentationNode, segmentId, target) if segmentId else None
        parts = [part for part in (before, block) if part is not None]
        if len(parts) == 2:
            both = before.united(block)
            changed = np.count_nonzero(both.filled(before) != both.filled(block))
        else:
            changed = sum(np.count_nonzero(part.mask) for part in parts)
        self.changedMl[name] = changed * target.voxelMl

    def _seen(self, segmentId: str, block: Block | None, target: Grid) -> Block | None:
        """Return what was just written as it is seen on the volume's grid."""
        if block is not None and target.coincidesWith(self._grid):
            return moveBlock(block, target, self._grid)
        return segmentBlock(self._segmentationNode, segmentId, self._grid)

    def _known(self, slices: AnnotatedSlices, segmentId: str):
        paint = next(paint for paint in slices.paints if paint.segmentId == segmentId)
        planes = tuple(plane for plane in self._planes if paint.knows(plane))
        return frozenset(place for place in self._places if paint.knows(place)), planes

    def _kept(self, slices: AnnotatedSlices, segmentId: str, target: Grid) -> Block | None:
        """Return the user's own voxels: all, unless a result was applied to the segment before."""
        paint = next(paint for paint in slices.paints if paint.segmentId == segmentId)
        if paint.applied is None and not target.coincidesWith(self._grid):
            return segmentBlock(self._segmentationNode, segmentId, target)
        if paint.block is None:
            return None
        return moveBlock(paint.block, self._grid, target)

    def _targetGrid(self) -> Grid:
        """Return the lattice of the segmentation's voxels; the volume's if it has none yet."""
        for image in self._labelmaps():
            return Grid.ofImage(image, self._ownToWorld).covering(self._grid)
        return self._grid.orthogonalIn(self._ownToWorld)

    def _labelmaps(self):
        for segmentId in self._segmentation.GetSegmentIDs():
            image = self._segmentation.GetSegment(segmentId).GetRepresentation(BINARY_LABELMAP)
            if image is not None and not image.IsEmpty():
                yield image

    def _setLabelmap(self, segmentId: str | None, result, block: Block | None, target: Grid) -> str:
        if block is None:
            block = Block(np.zeros((1, 1, 1), bool), (0, 0, 0))
        block = block.cropped() or Block(np.zeros((1, 1, 1), bool), (0, 0, 0))
        image = orientedImage(block, target, self._ownToWorld)
        if segmentId is None:
            return self._addSegment(result, image)
        segment = self._segmentation.GetSegment(segmentId)
        if sharing(self._segmentation, segmentId):
            leaveLayer(self._segmentation, segmentId)
        segment.SetLabelValue(1)
        segment.AddRepresentation(BINARY_LABELMAP, image)
        if segment.GetRepresentation(CLOSED_SURFACE) is not None:
            segment.AddRepresentation(CLOSED_SURFACE, self._surface(segment))
        if not segment.HasTag(segment.GetTerminologyEntryTagName()):
            _copyTerminology(result, segment)
        return segmentId

    def _surface(self, segment):
        """Return a segment's surface, made as the segmentation makes it, without the others'."""
        alone = slicer.vtkSegmentation()
        alone.SetSourceRepresentationName(BINARY_LABELMAP)
        alone.CopyConversionParameters(self._segmentation)
        copy = slicer.vtkSegment()
        copy.AddRepresentation(BINARY_LABELMAP, segment.GetRepresentation(BINARY_LABELMAP))
        alone.AddSegment(copy, "segment")
        alone.CreateRepresentation(CLOSED_SURFACE)
        return copy.GetRepresentation(CLOSED_SURFACE)

    def _addSegment(self, result, image) -> str:
        segment = slicer.vtkSegment()
        segment.SetName(self._freeName(result.GetName()))
        segment.SetColor(result.GetColor())
        _copyTerminology(result, segment)
        segment.SetLabelValue(1)
        segment.AddRepresentation(BINARY_LABELMAP, image)
        segmentId = self._segmentation.GenerateUniqueSegmentID(result.GetName())
        if not self._segmentation.AddSegment(segment, segmentId):
            problem = _("No segment could be added to {name}")
            raise InputError(problem.format(name=self._segmentationNode.GetName()))
        return segmentId

    def _freeName(self, name: str) -> str:
        taken = segmentIdsByName(self._segmentationNode)
        if name not in taken:
            return name
        candidates = [_("{name} (segmented)").format(name=name)]
        candidates += [_("{name} (segmented {number})").format(name=name, number=n) for n in range(2, 1000)]
        return next(candidate for candidate in candidates if candidate not in taken)

    def _isMasking(self) -> bool:
        node = self._editorNode
        if node is None or node.GetSegmentationNode() is not self._segmentationNode:
            return False
        everywhere = slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere
        return node.GetMaskMode() != everywhere or bool(node.GetSourceVolumeIntensityMask())

    def _masked(self, block: Block | None, segmentId: str | None, target: Grid) -> Block:
        """Return the block inside the editable region, and what was there before outside it."""
        before = segmentBlock(self._segmentationNode, segmentId, target) if segmentId else None
        nothing = Block(np.zeros((1, 1, 1), bool), (0, 0, 0))
        both = (block or before or nothing).united(before)
        forbidden = self._forbidden(both, segmentId, target)
        wanted = both.filled(block)
        return Block(np.where(forbidden, both.filled(before), wanted), both.first)

    def _forbidden(self, region: Block, segmentId: str | None, target: Grid) -> np.ndarray:
        node, editor = self._segmentationNode, self._editorNode
        geometry = orientedImage(region, target, self._ownToWorld)
        mask = slicer.vtkOrientedImageData()
        arguments = [mask, editor.GetMaskMode(), geometry, segmentId or ""]
        arguments.append(editor.GetMaskSegmentID() or "")
        if editor.GetSourceVolumeIntensityMask():
            logic = slicer.vtkSlicerSegmentEditorLogic()
            logic.SetMRMLScene(node.GetScene())
            logic.SetSegmentEditorNode(editor)
            logic.UpdateReferenceGeometryImage()
            logic.UpdateAlignedSourceVolume()
            arguments.append(logic.GetAlignedSourceVolume())
            arguments.append(list(editor.GetSourceVolumeIntensityMaskRange()))
        if not node.GenerateEditMask(*arguments):
            raise InputError(_("The editor's mask cannot be computed"), _("switch masking off"))
        values = vtk_to_numpy(mask.GetPointData().GetScalars())
        return values.reshape(region.mask.shape) != 0


def _finish(steps: Generator):
    """Do all steps at once; return their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def segmentIdsByName(segmentationNode) -> dict[str, str]:
    """Return segment ids by name; the first of those with one name."""
    segmentation = segmentationNode.GetSegmentation()
    found: dict[str, str] = {}
    for segmentId in segmentation.GetSegmentIDs():
        name = " ".join(segmentation.GetSegment(segmentId).GetName().split())
        found.setdefault(name, segmentId)
    return found


def segmentIdOf(segmentationNode, organ: str) -> str:
    """Return the id of a segment that is given by its id or its name; raise InputError if none is."""
    if segmentationNode.GetSegmentation().GetSegment(organ) is not None:
        return organ
    known = segmentIdsByName(segmentationNode)
    if organ not in known:
        problem = _("{segmentation} has no segment {organ}")
        names = ", ".join(known) or _("none")
        raise InputError(
            problem.format(segmentation=segmentationNode.GetName(), organ=organ),
            _("its segments: {names}").format(names=names),
        )
    return known[organ]


def sharing(segmentation, segmentId: str) -> list[str]:
    """Return the ids of the other segments on the same layer."""
    others: list[str] = []
    segmentation.GetSegmentIDsSharingBinaryLabelmapRepresentation(segmentId, others, False)
    return others


def _copyTerminology(source, target) -> None:
    name = source.GetTerminologyEntryTagName()
    if source.HasTag(name):
        target.SetTag(name, getTag(source, name))
