"""One run: from the scene to a job, through the worker, and back to a preview.

    WAITING -> EXPORTING -> WORKING -> READING -> FINISHED
        \\____________\\__________\\_________\\____-> CANCELLED | FAILED

A run that is cancelled keeps what the worker had finished by then: `hasResult` tells.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import shutil
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from slicer.i18n import tr as _

from reglora_core.errors import RegLoRAError
from reglora_core.events import Event

from .CoreProcess import CoreProcess, Ending, Outcome
from .SceneImport import Preview
from .SegmentationFile import SegmentationFile, readSteps
from .Steps import Steps


class State(enum.Enum):
    WAITING = "waiting"
    EXPORTING = "exporting"
    WORKING = "working"
    READING = "reading"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


NOTHING_LOST_SECONDS = 0.7  # grace of a worker that is cancelled before its first result
SILENCE_SECONDS = 60.0  # a worker that says nothing for longer is told of
ENDED = (State.FINISHED, State.CANCELLED, State.FAILED)


@dataclass
class OrganResult:
    """What is known about one organ of a result.

    `expectedDice`, `expectedRange`: an estimate, and the range of the true Dice in four of five
    cases; None for an organ of which nothing was found, and for a scan without paint.
    `isDoubtful`: whether the organ is probably wrong.
    `heldOutDice`: on slices that were left out, a lower bound.
    `changedMl`: what apply() changed of its segment; None as long as the segment is kept.
    """

    name: str
    expectedDice: float | None = None
    expectedRange: tuple[float, float] | None = None
    isDoubtful: bool = False
    heldOutDice: float | None = None
    ml: float | None = None
    changedMl: float | None = None


@dataclass(frozen=True)
class NextSlice:
    """The slice that the worker says is best painted next: "axial" and the like, from 0 as in the file."""

    axis: str
    index: int
    why: str


@dataclass
class Progress:
    stage: str = ""
    step: int = 0
    steps: int = 0
    secondsLeft: float | None = None


@dataclass
class Plan:
    """What a run is to do. `export`: makes the job folder's files; `result`: the file to read.

    `settings`: how an adaptation learns; `paint`: what changes with every stroke.
    """

    command: str
    volumeNode: object
    segmentationNode: object
    folder: Path
    export: Generator
    result: Path
    segmentIds: list[str] = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    paint: tuple = ()


class Run:
    """Runs a plan in the background. `notify(run, what)` is called after every change."""

    def __init__(
        self,
        plan: Plan,
        command: list[str],
        pythonPath: list[str],
        notify: Callable[[Run, str], None],
        makeProcess,
        callLater,
    ) -> None:
        self.plan = plan
        self.state = State.WAITING
        self.message = self.hint = ""
        self.warnings: list[str] = []
        self.progress = Progress()
        self.losses: dict[str, list[tuple[float, float]]] = {}  # by stage: (step, loss)
        self.ranks: list[tuple[float, dict[str, int]]] = []
        self.organs: dict[str, OrganResult] = {}
        self.nextSlice: NextSlice | None = None
        self.isApplied = False
        self.files: dict = {}
        self.preview = Preview(plan.volumeNode)
        self.content: SegmentationFile | None = None  # the result, once it is read
        self.silentSince = time.monotonic()
        self._pythonPath, self._notify, self._callLater = pythonPath, notify, callLater
        self._process = CoreProcess(command, self._onEvent, self._onEnd, makeProcess, callLater)
        self._steps: Steps | None = None
        self._previewSteps: Steps | None = None
        self._outcome: Outcome | None = None
        self._wasInScene = plan.volumeNode.GetScene() is not None

    @property
    def volumeNode(self):
        return self.plan.volumeNode

    @property
    def isVolumeInScene(self) -> bool:
        """Tell whether the volume was in the scene at the start (a sequence's frames are not)."""
        return self._wasInScene

    @property
    def segmentationNode(self):
        return self.plan.segmentationNode

    @property
    def isEnded(self) -> bool:
        return self.state in ENDED

    @property
    def hasResult(self) -> bool:
        return self.isEnded and self.content is not None

    @property
    def silentSeconds(self) -> float | None:
        """Return for how long a working run has said nothing, if that is unusually long."""
        silent = time.monotonic() - self.silentSince
        return silent if self.state is State.WORKING and silent > SILENCE_SECONDS else None

    @property
    def adapterPath(self) -> Path | None:
        """Return the adapter that the run has written, if it has."""
        path = self.plan.folder / "result" / "adapter.safetensors"
        return path if path.is_file() else None

    @property
    def log(self) -> str:
        return self._process.log()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def start(self) -> None:
        self._setState(State.EXPORTING)
        self._steps = Steps(self.plan.export, self._onExported, self._onError, self._callLater)

    def cancel(self) -> None:
        """Stop; what the worker has finished by then is kept."""
        if self.state in (State.WAITING, State.EXPORTING, State.READING):
            self._stopSteps()
            self._end(State.CANCELLED)
        elif self.state is State.WORKING:
            if not self.plan.result.is_file():  # there is nothing yet that could be kept
                self._process.graceSeconds = NOTHING_LOST_SECONDS
            self._process.cancel()
            self._notify(self, "progress")

    def abandon(self, message: str) -> None:
        """Stop because there is no place for the result any more."""
        if self.isEnded:
            return
        self._stopSteps()
        self._process.close()
        self.preview.discard()
        self._end(State.FAILED, message, _("the run was stopped"))

    def close(self) -> None:
        """Stop, and remove everything that the run has made."""
        self._stopSteps()
        self._process.close()
        self.discard()

    def discard(self) -> None:
        """Remove the preview and the files."""
        self.preview.discard()
        self.content = None
        shutil.rmtree(self.plan.folder, ignore_errors=True)

    def _onExported(self, _result) -> None:
        self.silentSince = time.monotonic()
        self._setState(State.WORKING)
        self._process.start(self.plan.folder, self._pythonPath)
        self._watch()

    def _watch(self) -> None:
        """Tell every few seconds of a worker that has fallen silent."""
        if self.state is State.WORKING:
            if self.silentSeconds is not None:
                self._notify(self, "silent")
            self._callLater(5.0, self._watch)

    def _onEvent(self, event: Event) -> None:
        self.silentSince = time.monotonic()
        take = getattr(self, f"_on_{event['event']}", None)
        if take is None:
            return
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):  # odd fields
            take(event)
            self._notify(self, event["event"])

    def _on_progress(self, event: Event) -> None:
        left = event.get("seconds_left")
        before = self.progress
        self.progress = Progress(
            str(event.get("stage") or ""),
            int(event.get("step") or 0),
            int(event.get("steps") or 0),
            None if left is None else float(left),
        )
        stage, step = self.progress.stage, self.progress.step
        if stage != before.stage or step < before.step:
            self.losses.pop(stage, None)  # the stage begins anew
        if event.get("loss") is not None:
            self.losses.setdefault(stage, []).append((step, float(event["loss"])))

    def _on_ranks(self, event: Event) -> None:
        ranks = {str(layer): int(rank) for layer, rank in event["ranks"].items()}
        self.ranks.append((float(event["time"]), ranks))

    def _on_organ(self, event: Event) -> None:
        lowHigh = event.get("expected_range")
        self.organs[str(event["name"])] = OrganResult(
            str(event["name"]),
            _numberOrNone(event.get("expected_dice")),
            None if lowHigh is None else (float(lowHigh[0]), float(lowHigh[1])),
            event.get("is_doubtful") is True,
            _numberOrNone(event.get("held_out_dice")),
            _numberOrNone(event.get("ml")),
        )

    def _on_next_slice(self, event: Event) -> None:
        self.nextSlice = NextSlice(str(event["axis"]), int(event["index"]), str(event.get("why") or ""))

    def _on_warning(self, event: Event) -> None:
        self.warnings.append(str(event["message"]))

    def _on_preview(self, event: Event) -> None:
        if self._previewSteps is not None:
            return  # the next one will be better anyway
        path = self.plan.folder / str(event["file"])
        self._previewSteps = Steps(readSteps(path), self._onPreview, self._onPreviewError, self._callLater)

    def _onPreview(self, content: SegmentationFile) -> None:
        self._previewSteps = None
        if self.state is State.WORKING:
            self.preview.show(content)
            self._notify(self, "shown")

    def _onPreviewError(self, error: Exception) -> None:
        self._previewSteps = None
        self.warnings.append(_("A preview could not be shown: {why}").format(why=error))

    def _onEnd(self, outcome: Outcome) -> None:
        self.files = outcome.files or {}
        self._stopSteps()
        if outcome.ending is Ending.FINISHED or self.plan.result.is_file():
            self._outcome = outcome
            self._setState(State.READING)
            self._steps = Steps(readSteps(self.plan.result), self._onRead, self._onError, self._callLater)
        elif outcome.ending is Ending.CANCELLED:
            self.preview.discard()
            self._end(State.CANCELLED)
        else:
            self.preview.discard()
            self._end(State.FAILED, outcome.message, outcome.hint)

    def _onRead(self, content: SegmentationFile) -> None:
        self.content = content
        self.preview.show(content)
        self._measure(content)
        ending = self._outcome.ending
        if ending is Ending.FINISHED:
            self._end(State.FINISHED)
        elif ending is Ending.CANCELLED:
            self._end(State.CANCELLED)
        else:
            self._end(State.FAILED, self._outcome.message, self._outcome.hint)

    def _measure(self, content: SegmentationFile) -> None:
        """List the organs of the file that no event has told of."""
        for segment in content.segments:
            self.organs.setdefault(segment.name, OrganResult(segment.name))

    def noteApplied(self, changedMl: dict[str, float]) -> None:
        """Remember how much apply() changed, per organ; what it did not write is kept."""
        self.isApplied = True
        for name, organ in self.organs.items():
            organ.changedMl = changedMl.get(name)

    def _onError(self, error: Exception) -> None:
        self.preview.discard()
        if isinstance(error, RegLoRAError):
            self._end(State.FAILED, error.message, error.hint)
        elif isinstance(error, OSError):
            problem = _("The job folder cannot be written: {why}").format(why=error.strerror or error)
            self._end(State.FAILED, problem, _("make room, or choose another temporary folder"))
        else:
            self._end(State.FAILED, f"{type(error).__name__}: {error}", _("this is a defect of ours"))

    def _end(self, state: State, message: str = "", hint: str = "") -> None:
        self.message, self.hint = message, hint
        self._removeInputs()
        self._setState(state)

    def _removeInputs(self) -> None:
        patterns = ("image.nrrd", "labels.seg.nrrd")
        for path in itertools.chain.from_iterable(self.plan.folder.glob(name) for name in patterns):
            path.unlink(missing_ok=True)

    def _stopSteps(self) -> None:
        for steps in (self._steps, self._previewSteps):
            if steps is not None:
                steps.stop()
        self._steps = self._previewSteps = None

    def _setState(self, state: State) -> None:
        self.state = state
        self._notify(self, "state")


def _numberOrNone(value: object) -> float | None:
    return None if value is None else float(value)
