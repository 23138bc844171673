"""The panel's part for painting: the segment editor and the table of annotated slices."""

from __future__ import annotations

import contextlib

import qt
import slicer
from slicer.i18n import tr as _

from reglora_core.errors import RegLoRAError

from .AnnotatedSlices import AnnotatedSlices, Mark, Row
from .Paint import segmentTimes
from .Steps import Steps

EDITOR_TAG = "RegLoRASegmentEditor"
_UPDATE_SECONDS = 0.15
_EFFECTS = ("Paint", "Erase", "Draw", "Level tracing", "Threshold", "Islands", "Fill between slices")


class AnnotatePanel:
    """Keeps the table current while the user paints."""

    def __init__(self, widget) -> None:
        self._widget, self._ui, self._logic = widget, widget.ui, widget.logic
        self.slices: AnnotatedSlices | None = None
        self._rows: list[Row] = []
        self._segmentIds: list[str] = []
        self._shown = (None, None)
        self._observed: list[tuple[object, int]] = []
        self._times: dict[str, tuple] = {}
        self._steps: Steps | None = None
        self._isScheduled = self._isHeld = False
        self._suggestion = ""
        editor = self._ui.segmentEditor
        editor.setMaximumNumberOfUndoStates(10)
        editor.setEffectNameOrder(list(_EFFECTS))
        editor.unorderedEffectsVisible = False
        self._setEditorNode()
        self._ui.slicesTable.connect("cellClicked(int,int)", self.onCellClicked)
        self._ui.suggestNextSliceButton.connect("clicked()", self.onSuggestNextSlice)
        self._ui.setNotPaintedBox.connect("clicked(bool)", self.onSetNotPainted)
        self._ui.setUsedBox.connect("clicked(bool)", self.onSetUsed)

    @property
    def editorNode(self):
        return self._ui.segmentEditor.mrmlSegmentEditorNode()

    def enter(self) -> None:
        self._setEditorNode()
        self._ui.segmentEditor.setupViewObservations()
        self._ui.segmentEditor.installKeyboardShortcuts(self._widget.parent)
        self.update()

    def exit(self) -> None:
        self._ui.segmentEditor.setActiveEffect(None)
        self._ui.segmentEditor.uninstallKeyboardShortcuts()
        self._ui.segmentEditor.removeViewObservations()

    def close(self) -> None:
        self._observe(None)
        self._ui.segmentEditor.removeViewObservations()
        self._ui.segmentEditor.setMRMLSegmentEditorNode(None)

    def current(self) -> AnnotatedSlices | None:
        """Return the table of annotated slices, with what was painted a moment ago."""
        if self._isScheduled or self._steps is not None:
            self._stop()
            for _step in self._lookSteps():
                pass
            self._fill()
        return self.slices

    def hold(self) -> None:
        """Look at nothing while organs are written one after the other, until release()."""
        self._isHeld = True
        self._stop()

    def release(self) -> None:
        self._isHeld = False
        self._schedule()

    def saveStateForUndo(self) -> None:
        """Make an undo step in the embedded editor."""
        effect = self._ui.segmentEditor.effectByName("Paint")
        if effect is not None:
            effect.saveStateForUndo()

    def update(self) -> None:
        """Show the volume and the segmentation of the parameter node."""
        parameters = self._widget.parameters
        volume = parameters.inputVolume if parameters is not None else None
        segmentation = parameters.segmentation if parameters is not None else None
        if (volume, segmentation) == self._shown:
            return
        self._shown = (volume, segmentation)
        self._stop()
        self._setEditorNode()
        self._ui.segmentEditor.setSegmentationNode(segmentation)
        if segmentation is not None and volume is not None:
            if segmentation.GetDisplayNode() is None:
                segmentation.CreateDefaultDisplayNodes()
            self._ui.segmentEditor.setSourceVolumeNode(volume)
        self._observe(segmentation, volume)
        self.slices, self._times = None, {}
        self._fill()
        self._schedule()

    def onCellClicked(self, row: int, column: int) -> None:
        """Go to the slice, and choose the organ for painting."""
        slices = self.current()
        if slices is None or row >= len(self._rows):
            return  # what was clicked is gone
        self._logic.jumpToSlice(slices, self._rows[row].place)
        if column > 0:
            self._ui.segmentEditor.setCurrentSegmentID(self._segmentIds[column - 1])
        self._updateButtons()

    def onSuggestNextSlice(self) -> None:
        parameters = self._widget.parameters
        with self._widget.telling(self._ui.annotateMessage):
            slices = self.current() or self._logic.annotatedSlices(
                parameters.inputVolume, parameters.segmentation
            )
            place = self._logic.suggestNextSlice(parameters.inputVolume, parameters.segmentation, slices)
            label = slices.label(place) if place is not None else ""
            text = _("Paint every organ that you see on {slice}, the slice that is shown now.")
            self._suggestion = text.format(slice=label) if label else _("Every slice is painted.")
            self._tellState()

    def onSetNotPainted(self, isNotPainted: bool) -> None:
        row, column = self._selected()
        if column > 0:
            segmentId, place = self._segmentIds[column - 1], self._rows[row].place
            self._logic.setNotPainted(*self._shown, segmentId, place, isNotPainted, self.slices)
            self._fill()

    def onSetUsed(self, isUsed: bool) -> None:
        segmentId = self._ui.segmentEditor.currentSegmentID()
        if segmentId and self.slices is not None:
            self._logic.setUsed(*self._shown, segmentId, isUsed, self.slices)
            self._fill()

    def _setEditorNode(self) -> None:
        if self.editorNode is not None and self.editorNode.GetScene() is not None:
            return
        scene = slicer.mrmlScene
        node = scene.GetSingletonNode(EDITOR_TAG, "vtkMRMLSegmentEditorNode")
        if node is None:
            node = scene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)
            node.SetSingletonTag(EDITOR_TAG)
            node = scene.AddNode(node)
        self._ui.segmentEditor.setMRMLSegmentEditorNode(node)

    def _observe(self, segmentationNode, volumeNode=None) -> None:
        for observed, tag in self._observed:
            observed.RemoveObserver(tag)
        self._observed = []
        if segmentationNode is None:
            return
        moved = slicer.vtkMRMLTransformableNode.TransformModifiedEvent
        for node, event in (
            (segmentationNode, moved),
            (volumeNode, moved),
            (volumeNode, slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent),
        ):
            if node is not None:
                self._observed.append((node, node.AddObserver(event, self._onMoved)))
        segmentation = segmentationNode.GetSegmentation()
        for event in (
            slicer.vtkSegmentation.SourceRepresentationModified,
            slicer.vtkSegmentation.RepresentationModified,
            slicer.vtkSegmentation.SegmentAdded,
            slicer.vtkSegmentation.SegmentRemoved,
            slicer.vtkSegmentation.SegmentModified,
        ):
            self._observed.append((segmentation, segmentation.AddObserver(event, self._onPainted)))

    def _onMoved(self, *_arguments) -> None:
        """The volume or the segmentation stands elsewhere now: nothing that was seen holds."""
        self.slices, self._times = None, {}
        self._schedule()

    def _onPainted(self, *_arguments) -> None:
        self._schedule()

    def _schedule(self) -> None:
        """Update soon, once for a burst of changes."""
        if not self._isScheduled:
            self._isScheduled = True
            qt.QTimer.singleShot(int(1000 * _UPDATE_SECONDS), self._refresh)

    def _refresh(self) -> None:
        self._isScheduled = False
        if self._widget.logic is None or self._isHeld:
            return
        self._stop()
        self._steps = Steps(self._lookSteps(), self._onLooked, self._onLookError, self._logic.callLater)

    def _stop(self) -> None:
        if self._steps is not None:
            self._steps.stop()
        self._steps = None

    def _lookSteps(self):
        """Look at the segments that have changed, one at a time."""
        volume, segmentationNode = self._shown
        if volume is None or segmentationNode is None:
            self.slices = None
            return
        with contextlib.suppress(RegLoRAError):
            if self.slices is None:
                self.slices = self._logic.annotatedSlices(volume, segmentationNode, look=False)
            segmentation = segmentationNode.GetSegmentation()
            for segmentId in segmentation.GetSegmentIDs():
                times = segmentTimes(segmentation.GetSegment(segmentId))
                if self._times.get(segmentId) != times:
                    self.slices.update(segmentId)
                    self._times[segmentId] = times
                    yield
            self.slices.forgetRemoved()
            yield from self.slices.placeSteps()

    def _onLooked(self, _result) -> None:
        self._steps = None
        self._fill()
        self._widget.updateModel()
        self._widget.run.update()

    def _onLookError(self, error: Exception) -> None:
        self._steps = None
        self._tell(str(error), isError=True)

    def _fill(self) -> None:
        table = self._ui.slicesTable
        paints = self.slices.painted() if self.slices is not None else []
        self._rows = self.slices.rows() if self.slices is not None else []
        self._segmentIds = [paint.segmentId for paint in paints]
        selected = self._selected()
        table.clear()
        table.setRowCount(len(self._rows))
        table.setColumnCount(1 + len(paints))
        table.setHorizontalHeaderLabels([_("Slice"), *(paint.name for paint in paints)])
        table.verticalHeader().hide()
        for number, row in enumerate(self._rows):
            table.setItem(number, 0, qt.QTableWidgetItem(row.label))
            for column, paint in enumerate(paints, start=1):
                table.setItem(number, column, _cell(row.marks[paint.segmentId], paint.color))
        table.resizeColumnsToContents()
        table.setCurrentCell(*selected)
        self._updateButtons()
        self._suggestion = ""
        self._tellState()

    def _tellState(self) -> None:
        lines = [self._suggestion] if self._suggestion else []
        names = [paint.name for paint in self.slices.leftOut()] if self.slices is not None else []
        if names:
            text = _("Not learned: {names} (choose the organ and tick Learn this organ to change that).")
            lines.append(text.format(names=", ".join(names)))
        self._tell("\n".join(lines))

    def _updateButtons(self) -> None:
        row, column = self._selected()
        mark = None
        if 0 <= row < len(self._rows) and 0 < column <= len(self._segmentIds):
            isSlice = isinstance(self._rows[row].place, tuple)
            mark = self._rows[row].marks[self._segmentIds[column - 1]] if isSlice else None
        self._ui.setNotPaintedBox.enabled = mark in (Mark.ABSENT, Mark.NOT_PAINTED)
        self._ui.setNotPaintedBox.checked = mark is Mark.NOT_PAINTED
        known = self.slices.paints if self.slices is not None else []
        current = self._ui.segmentEditor.currentSegmentID()
        hasPaint = any(paint.segmentId == current and paint.block is not None for paint in known)
        self._ui.setUsedBox.enabled = hasPaint
        self._ui.setUsedBox.checked = current in self._segmentIds
        self._ui.suggestNextSliceButton.enabled = self.slices is not None

    def _selected(self) -> tuple[int, int]:
        table = self._ui.slicesTable
        return table.currentRow(), table.currentColumn()

    def _tell(self, text: str, isError: bool = False) -> None:
        from .Widget import show

        show(self._ui.annotateMessage, text, isError)


def _cell(mark: Mark, color) -> qt.QTableWidgetItem:
    texts = {
        Mark.PAINTED: _("painted"),
        Mark.ABSENT: _("not there"),
        Mark.NOT_PAINTED: _("not painted yet"),
    }
    item = qt.QTableWidgetItem(texts[mark])
    if mark is Mark.PAINTED:
        pale = [int(255 * (0.5 + 0.5 * channel)) for channel in color]
        item.setBackground(qt.QBrush(qt.QColor(*pale)))
        item.setForeground(qt.QBrush(qt.QColor(0, 0, 0)))
    return item
