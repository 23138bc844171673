"""The panel's part for runs: Adapt, progress, and what the user is told."""

from __future__ import annotations

from slicer.i18n import tr as _

from reglora_core.errors import RegLoRAError

from .Run import Run, State


class RunPanel:
    """Shows the current run of the logic."""

    def __init__(self, widget) -> None:
        self._widget, self._ui, self._logic = widget, widget.ui, widget.logic
        self._error = self._notice = ""
        self._logic.listeners.append(self._onRun)
        ui = self._ui
        ui.adaptButton.connect("clicked()", self.onAdapt)
        ui.cancelButton.connect("clicked()", self.onCancel)
        ui.plotLossButton.connect("clicked()", self.onPlotLoss)
        ui.plotRanksButton.connect("clicked()", self.onPlotRanks)

    @property
    def _run(self) -> Run | None:
        """Return the run that goes on, else the last one."""
        return self._logic.currentRun

    def onAdapt(self) -> None:
        self.attempt(self._adapt)

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
        volume, segmentation = parameters.inputVolume, parameters.segmentation
        earlier = self._logic.runToCorrect(volume, segmentation, **options)
        if parameters.warmStart:
            options["from_adapter"] = self._widget.adapter.startAdapter()
        elif earlier is not None and not parameters.startAnew:
            options.update(from_adapter=earlier.adapterPath, correct=True)
        slices = self._widget.annotate.current()
        self._logic.adapt(volume, segmentation, slices=slices, **options)

    def onCancel(self) -> None:
        self._logic.cancel()
        self._ui.cancelButton.enabled = False
        self._ui.statusLabel.text = _("Stopping...")

    def onPlotLoss(self) -> None:
        self._logic.plotLoss(self._widget.result.looking)

    def onPlotRanks(self) -> None:
        self._logic.plotRanks(self._widget.result.looking)

    def update(self) -> None:
        """Show the run, and enable what makes sense now."""
        run = self._run
        self._updateButtons(run)
        self._updateProgress(run)
        self._updateStatus(run)
        self._widget.result.update()

    def attempt(self, action) -> bool:
        """Do something; tell an error that the user can act on, and return whether it worked."""
        self.tell()
        try:
            action()
        except RegLoRAError as error:
            self.tell(error=str(error))
            return False
        self.update()
        return True

    def tell(self, notice: str = "", error: str = "") -> None:
        """Show a line in place of the run's state; an empty one shows the state again."""
        self._notice, self._error = notice, error
        self.update()

    def _onRun(self, run: Run, what: str) -> None:
        if self._widget.logic is None:
            return
        if what in ("progress", "ranks") and run is self._run:
            self._logic.plots.update(run)
        if what in ("state", "discarded"):
            self._error = self._notice = ""
        self._widget.result.follow(run, what)
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
        looking = self._widget.result.looking
        ui.plotLossButton.enabled = looking is not None and bool(looking.losses)
        ui.plotRanksButton.enabled = looking is not None and bool(looking.ranks)

    def _updateProgress(self, run: Run | None) -> None:
        bar = self._ui.progressBar
        isGoing = run is not None and not run.isEnded
        if not isGoing:
            bar.setRange(0, 1)
            bar.value = 1 if run is not None and run.state is State.FINISHED else 0
            bar.textVisible = run is not None
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
            self._show(self._nextStep())
        elif run.state is State.FAILED:
            text = f"{run.message}; {run.hint}" if run.hint else run.message
            self._show(text, isError=True)
            self._ui.logText.plainText = run.log
        else:
            lines = [_statusText(run), *(_sentence(text) for text in run.warnings[-2:])]
            lines += self._paintNext(run)
            waiting = sum(other.state is State.WAITING for other in self._logic.runs)
            if waiting and run.state is not State.WAITING:
                lines.append(_("Waiting: {count} more.").format(count=waiting))
            self._show("\n".join(lines))
            if run.isEnded:
                self._ui.logText.plainText = run.log

    def _paintNext(self, run: Run) -> list[str]:
        """Return the line that says where a result is best corrected, if it does and that is open."""
        parameters, slices = self._widget.parameters, self._widget.annotate.slices
        if not run.hasResult or slices is None or parameters is None:
            return []
        if (
            run.segmentationNode is not parameters.segmentation
            or run.volumeNode is not parameters.inputVolume
        ):
            return []
        place = self._logic.nextSliceOf(run, slices)
        text = _("Paint next: {slice} (Suggest next slice goes there), then Adapt again: it takes seconds.")
        return [] if place is None else [text.format(slice=slices.label(place))]

    def _nextStep(self) -> str:
        """Return what the user is to do before Adapt can be pressed; empty if all is there."""
        parameters, slices = self._widget.parameters, self._widget.annotate.slices
        if parameters is None or parameters.inputVolume is None:
            return _("Choose the volume to segment.")
        if parameters.segmentation is None:
            return _("Choose a segmentation, or create one.")
        if not parameters.segmentation.GetSegmentation().GetNumberOfSegments():
            return _("Press Add once for each organ, and name it.")
        if slices is None or not slices.painted():
            return _("Paint every organ that you see on a few slices; five are a good start.")
        if len(slices.rows()) < 2:
            return _("One slice is painted. Paint at least two; five are a good start.")
        return ""

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
        "windows": _("running the network"),
        "write": _("writing the result"),
    }
    stage = stages.get(run.progress.stage, run.progress.stage) or _("starting")
    left = run.progress.secondsLeft
    if left is None:
        return _("{volume}: {stage}...").format(volume=volume, stage=stage)
    text = _("{volume}: {stage}, about {left} left.")
    return text.format(volume=volume, stage=stage, left=_duration(left))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return _("{count} s").format(count=round(seconds))
    return _("{count} min").format(count=round(seconds / 60))
