"""The panel's part for runs: Adapt, progress, and what comes of it."""

from __future__ import annotations

from pathlib import Path

import qt
from slicer.i18n import tr as _

from reglora_core.errors import RegLoRAError

from .Run import Run, State
from .SceneImport import Mode

_NAME, _DICE, _ML, _APPLIED = range(4)


class RunPanel:
    """Shows the current run of the logic."""

    def __init__(self, widget) -> None:
        self._widget, self._ui, self._logic = widget, widget.ui, widget.logic
        self._error = self._notice = ""
        self._isApplying = False
        self._logic.listeners.append(self._onRun)
        ui = self._ui
        ui.adaptButton.connect("clicked()", self.onAdapt)
        ui.cancelButton.connect("clicked()", self.onCancel)
        ui.applyButton.connect("clicked()", self.onApply)
        ui.discardButton.connect("clicked()", self.onDiscard)
        ui.saveAdapterButton.connect("clicked()", self.onSaveAdapter)
        ui.lossPlotButton.connect("clicked()", self.onLossPlot)
        ui.rankPlotButton.connect("clicked()", self.onRankPlot)
        table = ui.resultTable
        table.setColumnCount(4)
        table.setHorizontalHeaderLabels([_("Organ"), _("Held-out Dice"), _("Volume (ml)"), _("Applied")])
        table.horizontalHeader().setStretchLastSection(True)
        table.verticalHeader().hide()

    @property
    def _run(self) -> Run | None:
        return self._logic.currentRun

    def onAdapt(self) -> None:
        self._attempt(self._adapt)

    def _adapt(self) -> None:
        parameters = self._widget.parameters
        options = {
            "model": parameters.baseModel,
            "device": parameters.device,
            "method": parameters.method,
            "rank": parameters.rank,
            "budget": float(parameters.budgetSeconds),
            "seed": parameters.seed,
        }
        if parameters.warmStart:
            options["from_adapter"] = self._widget.adapter.startAdapter()
        slices = self._widget.annotate.current()
        self._logic.adapt(parameters.inputVolume, parameters.segmentation, slices=slices, **options)

    def onCancel(self) -> None:
        self._logic.cancel()
        self._ui.cancelButton.enabled = False
        self._ui.statusLabel.text = _("Stopping...")

    def onApply(self) -> None:
        organs = self._ticked()
        mode = Mode.REPLACE if self._widget.parameters.replaceSameNamed else Mode.NEW
        self._setApplying(True)
        self.update()
        self._attempt(
            lambda: self._logic.applyInSteps(
                self._onApplied,
                self._onApplyError,
                organs=organs,
                mode=mode,
                editorNode=self._widget.annotate.editorNode,
                saveStateForUndo=self._widget.annotate.saveStateForUndo,
            )
        )

    def onDiscard(self) -> None:
        self._logic.discard()

    def onSaveAdapter(self) -> None:
        name = f"{self._run.volumeNode.GetName()}.safetensors"
        start = str(Path(self._widget.parameters.adapterPath).parent / name)
        path = qt.QFileDialog.getSaveFileName(
            self._widget.parent, _("Save adapter"), start, _("Adapters (*.safetensors)")
        )
        path = path[0] if isinstance(path, tuple) else path
        if path:
            self._attempt(lambda: self._save(path))

    def onLossPlot(self) -> None:
        self._logic.showPlots(kind="loss")

    def onRankPlot(self) -> None:
        self._logic.showPlots(kind="rank")

    def update(self) -> None:
        """Show the run, and enable what makes sense now."""
        run = self._run
        self._updateButtons(run)
        self._updateProgress(run)
        self._updateStatus(run)
        parameters = self._widget.parameters
        if run is not None and parameters is not None:
            run.preview.setVisible(parameters.previewVisible)
            run.preview.setOpacity(parameters.previewOpacity)

    def _save(self, path: str) -> None:
        description = self._logic.saveAdapter(path)
        self._widget.parameters.adapterPath = description.path
        self._notice = _("Saved {path}").format(path=description.path)

    def _attempt(self, action) -> None:
        self._error = self._notice = ""
        try:
            action()
        except RegLoRAError as error:
            self._error = str(error)
            self._setApplying(False)
        self.update()

    def _setApplying(self, isApplying: bool) -> None:
        self._isApplying = isApplying
        if isApplying:
            self._widget.annotate.hold()
        else:
            self._widget.annotate.release()

    def _onApplied(self, _segmentIds) -> None:
        self._setApplying(False)
        node = self._run.segmentationNode if self._run is not None else None
        if node is not None and self._widget.parameters.segmentation is None:
            self._widget.parameters.segmentation = node
        self._ui.previewBox.checked = False
        self._notice = _("Applied. One Undo in the segment editor takes it back.")
        self.update()

    def _onApplyError(self, error: Exception) -> None:
        self._setApplying(False)
        self._error = str(error)
        self.update()

    def _onRun(self, run: Run, what: str) -> None:
        if self._widget.logic is None:
            return
        if what in ("organ", "discarded", "applied") or run.isEnded:
            self._fillTable(self._run)
        if what in ("progress", "ranks") and run is self._run:
            self._logic.plots.update(run)
        if what in ("state", "discarded"):
            self._error = self._notice = ""
            if run.state is State.FINISHED:
                self._ui.previewBox.checked = True
        self.update()

    def _updateButtons(self, run: Run | None) -> None:
        ui, parameters = self._ui, self._widget.parameters
        slices = self._widget.annotate.slices
        isReady = parameters is not None and parameters.inputVolume is not None
        hasPaint = isReady and slices is not None and bool(slices.painted())
        isGoing = (
            any(
                not other.isEnded and other.volumeNode is parameters.inputVolume
                for other in self._logic.runs
            )
            if isReady
            else False
        )
        ui.adaptButton.enabled = hasPaint and not isGoing
        ui.adaptButton.toolTip = (
            _("Learns from the painted slices in the background, and segments the volume.")
            if hasPaint
            else _("Choose a volume and a segmentation, and paint organs on a few slices.")
        )
        isGoing = run is not None and not run.isEnded
        ui.cancelButton.enabled = isGoing
        hasResult = run is not None and run.hasResult and not self._isApplying
        ui.applyButton.enabled = hasResult and bool(self._ticked())
        ui.discardButton.enabled = run is not None and not self._isApplying
        ui.saveAdapterButton.enabled = run is not None and run.isEnded and run.adapterPath is not None
        ui.lossPlotButton.enabled = run is not None and bool(run.losses)
        ui.rankPlotButton.enabled = run is not None and bool(run.ranks)

    def _updateProgress(self, run: Run | None) -> None:
        bar = self._ui.progressBar
        isGoing = run is not None and not run.isEnded
        if not isGoing:
            bar.setRange(0, 1)
            bar.value = 1 if run is not None and run.state is State.FINISHED else 0
        elif run.state is State.WORKING and run.progress.secondsLeft is not None:
            bar.setRange(0, max(1, run.progress.steps))
            bar.value = min(run.progress.step, run.progress.steps)
        else:
            bar.setRange(0, 0)  # busy, how long is not known

    def _updateStatus(self, run: Run | None) -> None:
        if self._error:
            self._show(self._error, isError=True)
        elif self._notice:
            self._show(self._notice)
        elif run is None:
            self._show("")
        elif run.state is State.FAILED:
            text = f"{run.message}; {run.hint}" if run.hint else run.message
            self._show(text, isError=True)
            self._ui.logText.plainText = run.log
        else:
            self._show("\n".join([_statusText(run), *(_sentence(text) for text in run.warnings[-2:])]))
            if run.isEnded:
                self._ui.logText.plainText = run.log

    def _fillTable(self, run: Run | None) -> None:
        table = self._ui.resultTable
        ticked = self._ticked() if table.rowCount else None
        organs = list(run.organs.values()) if run is not None else []
        table.setRowCount(len(organs))
        for row, organ in enumerate(organs):
            name = qt.QTableWidgetItem(organ.name)
            name.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable | qt.Qt.ItemIsSelectable)
            known = ticked is None or organ.name in ticked or organ.name not in self._names
            name.setCheckState(qt.Qt.Checked if known else qt.Qt.Unchecked)
            table.setItem(row, _NAME, name)
            table.setItem(row, _DICE, qt.QTableWidgetItem(_number(organ.heldOutDice, 2)))
            table.setItem(row, _ML, qt.QTableWidgetItem(_number(organ.ml, 1)))
            applied = _change(organ) if run.isApplied else ""
            table.setItem(row, _APPLIED, qt.QTableWidgetItem(applied))
        table.resizeColumnsToContents()
        self._names = {organ.name for organ in organs}

    _names: frozenset | set = frozenset()

    def _ticked(self) -> list[str]:
        table = self._ui.resultTable
        items = [table.item(row, _NAME) for row in range(table.rowCount)]
        return [item.text() for item in items if item is not None and item.checkState() == qt.Qt.Checked]

    def _show(self, text: str, isError: bool = False) -> None:
        from .Widget import show

        show(self._ui.statusLabel, text, isError)


def _statusText(run: Run) -> str:
    volume = run.volumeNode.GetName()
    texts = {
        State.WAITING: _("{volume}: waiting for the run before it."),
        State.EXPORTING: _("{volume}: writing the job..."),
        State.READING: _("{volume}: reading the result..."),
        State.FINISHED: _("{volume}: finished. Look at the preview, then Apply or Discard."),
        State.CANCELLED: _("{volume}: cancelled."),
    }
    if run.state is State.CANCELLED and run.hasResult:
        return _("{volume}: stopped early; the best result so far is shown.").format(volume=volume)
    if run.state is not State.WORKING:
        return texts[run.state].format(volume=volume)
    if run.silentSeconds is not None:
        text = _("{volume}: no sign of the worker for {time}; it may lack memory. Cancel stops it.")
        return text.format(volume=volume, time=_duration(run.silentSeconds))
    stages = {
        "read": _("reading the volume"),
        "head": _("learning a first result"),
        "refine": _("refining it"),
        "write": _("writing the result"),
    }
    stage = stages.get(run.progress.stage, run.progress.stage) or _("starting")
    left = run.progress.secondsLeft
    if left is None:
        return _("{volume}: {stage}...").format(volume=volume, stage=stage)
    text = _("{volume}: {stage}, about {left} left.")
    return text.format(volume=volume, stage=stage, left=_duration(left))


def _change(organ) -> str:
    """Return what Apply did to an organ's segment."""
    if organ.changedMl is None:
        return _("kept")
    if not organ.changedMl:
        return _("applied, no change")
    return _("changed, {ml} ml").format(ml=_number(organ.changedMl, 1))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return _("{count} s").format(count=round(seconds))
    return _("{count} min").format(count=round(seconds / 60))


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
