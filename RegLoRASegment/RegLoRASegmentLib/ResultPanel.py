"""The panel's part for results: preview, table of organs, Apply, Discard, Save adapter."""

from __future__ import annotations

from pathlib import Path

import qt
from slicer.i18n import tr as _

from .Run import OrganResult, Run, State
from .SceneImport import Mode

_NAME, _DICE, _ML, _CHANGED = range(4)


class ResultPanel:
    """Shows one of the results that the logic has."""

    def __init__(self, widget) -> None:
        self._widget, self._ui, self._logic = widget, widget.ui, widget.logic
        self._chosen: Run | None = None
        self._isApplying = False
        self._names: set[str] = set()
        ui, table = self._ui, self._ui.resultTable
        ui.resultBox.connect("activated(int)", self.onChooseResult)
        ui.applyButton.connect("clicked()", self.onApply)
        ui.discardButton.connect("clicked()", self.onDiscard)
        ui.saveAdapterButton.connect("clicked()", self.onSaveAdapter)
        table.connect("itemChanged(QTableWidgetItem*)", lambda _item: self.update())
        table.setColumnCount(4)
        titles = [_("Organ"), _("Expected Dice"), _("Volume (ml)"), _("Changed (ml)")]
        table.setHorizontalHeaderLabels(titles)
        table.horizontalHeader().setStretchLastSection(True)
        table.verticalHeader().hide()
        table.resizeColumnsToContents()

    @property
    def results(self) -> list[Run]:
        return [run for run in self._logic.runs if run.hasResult]

    @property
    def shown(self) -> Run | None:
        """Return the run whose result is in the table: the chosen one, else the last one."""
        results = self.results
        return self._chosen if self._chosen in results else (results[-1] if results else None)

    @property
    def looking(self) -> Run | None:
        """Return the run whose preview is seen: the one that goes on, as soon as it has one."""
        run = self._logic.currentRun
        isFirst = run is not None and not run.isEnded and run.preview.node is not None
        return run if isFirst or self.shown is None else self.shown

    def onChooseResult(self, index: int) -> None:
        """Show another result, and its volume."""
        self._chosen = self.results[index]
        self._logic.showVolume(self._chosen)
        self._fillTable()
        self._widget.run.tell()

    def onApply(self) -> None:
        run, parameters = self.shown, self._widget.parameters
        isInEditor = run.segmentationNode is not None and run.segmentationNode is parameters.segmentation
        annotate = self._widget.annotate
        organs = self._ticked()  # before anything changes
        self._setApplying(True)
        isStarted = self._widget.run.attempt(
            lambda: self._logic.applyInSteps(
                lambda _segmentIds: self._onApplied(run),
                self._onApplyError,
                run=run,
                organs=organs,
                mode=Mode.REPLACE if parameters.replaceSameNamed else Mode.NEW,
                editorNode=annotate.editorNode,
                saveStateForUndo=annotate.saveStateForUndo if isInEditor else None,
            )
        )
        if not isStarted:
            self._setApplying(False)

    def onDiscard(self) -> None:
        self._logic.discard(self.shown or self._logic.currentRun)

    def onSaveAdapter(self) -> None:
        run = self.shown
        name = f"{run.volumeNode.GetName()}.safetensors"
        start = str(Path(self._widget.parameters.adapterPath).parent / name)
        path = qt.QFileDialog.getSaveFileName(
            self._widget.parent, _("Save adapter"), start, _("Adapters (*.safetensors)")
        )
        path = path[0] if isinstance(path, tuple) else path
        if path and self._widget.run.attempt(lambda: self._save(path, run)):
            self._widget.run.tell(_("Saved {path}").format(path=self._widget.parameters.adapterPath))

    def follow(self, run: Run, what: str) -> None:
        """Take note of what has happened to a run."""
        if what in ("state", "discarded"):
            if run.hasResult and not self._isApplying:
                self._chosen = run
            if run.state is State.FINISHED:
                self._ui.previewBox.checked = True
            self._fillBox()
        if what in ("discarded", "applied") or run.isEnded:
            self._fillTable()

    def update(self) -> None:
        """Enable what makes sense now, and show one preview: several would lie over each other."""
        ui, parameters = self._ui, self._widget.parameters
        shown, looking = self.shown, self.looking
        ui.resultBox.enabled = not self._isApplying
        ui.applyButton.enabled = shown is not None and not self._isApplying and bool(self._ticked())
        ui.discardButton.enabled = bool(self._logic.runs) and not self._isApplying
        ui.saveAdapterButton.enabled = shown is not None and shown.adapterPath is not None
        for run in self._logic.runs if parameters is not None else ():
            run.preview.setVisible(parameters.previewVisible and run is looking)
            run.preview.setOpacity(parameters.previewOpacity)

    def _save(self, path: str, run: Run) -> None:
        self._widget.parameters.adapterPath = self._logic.saveAdapter(path, run).path

    def _setApplying(self, isApplying: bool) -> None:
        self._isApplying = isApplying
        if isApplying:
            self._widget.annotate.hold()
        else:
            self._widget.annotate.release()
        self.update()

    def _onApplied(self, run: Run) -> None:
        self._setApplying(False)
        parameters, node = self._widget.parameters, run.segmentationNode
        notice = _("Applied. One Undo in the segment editor takes it back.")
        if parameters is not None and run.volumeNode is not parameters.inputVolume:
            notice = _("Applied to {segmentation}.").format(segmentation=node.GetName())
        elif parameters is not None and parameters.segmentation is None:
            parameters.segmentation = node
        self._ui.previewBox.checked = False
        self._widget.run.tell(notice)

    def _onApplyError(self, error: Exception) -> None:
        self._setApplying(False)
        self._widget.run.tell(error=str(error))

    def _fillBox(self) -> None:
        box, results = self._ui.resultBox, self.results
        box.clear()
        for number, run in enumerate(results, start=1):
            text = _("Result {number}: {volume}")
            box.addItem(text.format(number=number, volume=run.volumeNode.GetName()))
        if self.shown is not None:
            box.currentIndex = results.index(self.shown)
        box.visible = len(results) > 1

    def _fillTable(self) -> None:
        table, run = self._ui.resultTable, self.shown
        ticked = self._ticked() if table.rowCount else None
        organs = list(run.organs.values()) if run is not None else []
        wasBlocked = table.blockSignals(True)
        table.setRowCount(len(organs))
        for row, organ in enumerate(organs):
            name = qt.QTableWidgetItem(organ.name)
            name.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsSelectable)
            known = ticked is None or organ.name in ticked or organ.name not in self._names
            name.setCheckState(qt.Qt.Checked if known else qt.Qt.Unchecked)
            table.setItem(row, _NAME, name)
            table.setItem(row, _DICE, _diceCell(organ))
            table.setItem(row, _ML, _cell(_number(organ.ml, 1)))
            table.setItem(row, _CHANGED, _cell(_change(organ) if run.isApplied else ""))
        table.blockSignals(wasBlocked)
        table.resizeColumnsToContents()
        self._names = {organ.name for organ in organs}

    def _ticked(self) -> list[str]:
        table = self._ui.resultTable
        items = [table.item(row, _NAME) for row in range(table.rowCount)]
        return [item.text() for item in items if item is not None and item.checkState() == qt.Qt.Checked]


def _change(organ: OrganResult) -> str:
    """Return how much Apply changed of an organ's segment; a segment that was not written is kept."""
    return _("kept") if organ.changedMl is None else _number(organ.changedMl, 1)


def _diceCell(organ: OrganResult) -> qt.QTableWidgetItem:
    """Return the expected Dice with its range, marked where the organ is probably wrong."""
    text = _number(organ.expectedDice, 2)
    if organ.expectedRange is not None:
        text += " ({:.2f} - {:.2f})".format(*organ.expectedRange)
    item = _cell(f"\u26a0 {text}" if organ.isDoubtful else text)
    if organ.isDoubtful:
        item.setToolTip(_("Probably wrong: look at it, and paint it on one more slice."))
    elif organ.expectedDice is not None:
        item.setToolTip(_("An estimate; the true Dice lies in the range in four of five cases."))
    return item


def _cell(text: str) -> qt.QTableWidgetItem:
    item = qt.QTableWidgetItem(text)
    item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
    return item


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
