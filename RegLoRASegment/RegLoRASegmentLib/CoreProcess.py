"""The background process that adapts and predicts: `python -m reglora_core run JOB.json`.

It tells what it does in JSON, one event a line on its standard output; everything else it prints is
log text. A line "cancel" on its standard input asks it to stop, and so does the end of that stream,
which is what it sees when Slicer is closed or crashes. If it does not stop within the grace period,
it is killed with its children. In Slicer, PythonSlicer is a launcher that forwards neither signals
nor its death, so that the process to kill is the one whose number the worker itself has told.
"""

from __future__ import annotations

import contextlib
import enum
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from reglora_core.events import Event, parse

GRACE_SECONDS = 5.0
_MAX_LINE_BYTES = 4 * 2**20
_MAX_LOG_LINES = 200


class Ending(enum.Enum):
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"  # the worker says what is wrong
    CRASHED = "crashed"  # the worker is gone without a word


@dataclass(frozen=True)
class Outcome:
    """How a worker ended; `files` is what it says it has written."""

    ending: Ending
    message: str = ""
    hint: str = ""
    files: dict[str, Any] | None = None


def findPython() -> str:
    """Return the interpreter for the worker: PythonSlicer in Slicer, this one outside."""
    return shutil.which("PythonSlicer") or sys.executable


def makeProcess():
    import qt

    return qt.QProcess()


def callLater(seconds: float, function: Callable[[], None]) -> None:
    import qt

    qt.QTimer.singleShot(int(1000 * seconds), function)


class CoreProcess:
    """One worker. `onEvent(event)` is called for each event, `onEnd(outcome)` once.

    `command`: interpreter and arguments; `makeProcess` and `callLater` can be replaced in tests.
    """

    def __init__(
        self,
        command: list[str],
        onEvent: Callable[[Event], None],
        onEnd: Callable[[Outcome], None],
        makeProcess=makeProcess,
        callLater=callLater,
    ) -> None:
        self.command = command
        self.pid: int | None = None
        self.logLines: list[str] = []
        self.graceSeconds = GRACE_SECONDS
        self._onEvent, self._onEnd = onEvent, onEnd
        self._makeProcess, self._callLater = makeProcess, callLater
        self._process = self._ended = None
        self._closing: Event | None = None
        self._isCancelled = self._isSkipping = False
        self._logPath: Path | None = None

    @property
    def isRunning(self) -> bool:
        return self._process is not None

    def start(self, folder: Path, pythonPath: list[str]) -> None:
        """Start the worker in `folder`; its standard error goes to the file worker.log there."""
        import qt

        process = self._process = self._makeProcess()
        self._logPath = Path(folder) / "worker.log"
        process.setProcessChannelMode(qt.QProcess.SeparateChannels)
        process.setStandardErrorFile(str(self._logPath))
        process.setWorkingDirectory(str(folder))
        process.setProcessEnvironment(_environment(pythonPath))
        process.connect("readyReadStandardOutput()", self._onOutput)
        process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        process.connect("errorOccurred(QProcess::ProcessError)", self._onError)
        process.start(self.command[0], self.command[1:])

    def cancel(self) -> None:
        """Ask the worker to stop; kill it after the grace period."""
        if not self.isRunning or self._isCancelled:
            return
        self._isCancelled = True
        self._process.write(b"cancel\n")
        process = self._process
        self._callLater(self.graceSeconds, lambda: self._killIfStill(process))

    def close(self) -> None:
        """End the worker's input, at which it stops by itself; nothing is reported any more."""
        process = self._process
        self._retire()
        self._onEvent, self._onEnd = (lambda event: None), (lambda outcome: None)
        if process is not None:
            process.write(b"cancel\n")
            process.closeWriteChannel()
            process.waitForBytesWritten(200)
            if not process.waitForFinished(1000):
                self._kill(process)

    def log(self) -> str:
        """Return the end of what the worker has printed besides events."""
        lines = list(self.logLines)
        with contextlib.suppress(OSError):
            text = self._logPath.read_text(encoding="utf-8", errors="replace") if self._logPath else ""
            lines += text.splitlines()[-_MAX_LOG_LINES:]
        return "\n".join(lines)

    def _onOutput(self) -> None:
        while self._process is not None and self._process.canReadLine():
            self._take(bytes(self._process.readLine().data()))
        # A line without end would fill the memory: what is there of it is thrown away.
        if self._process is not None and self._process.bytesAvailable() > _MAX_LINE_BYTES:
            self._process.readAllStandardOutput()
            self._isSkipping = True

    def _take(self, line: bytes) -> None:
        if self._isSkipping:
            self._isSkipping = False
            return
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        event = parse(text) if len(line) <= _MAX_LINE_BYTES else None
        if event is None:
            self.logLines = [*self.logLines[1 - _MAX_LOG_LINES :], text[:1000]]
            return
        if event["event"] == "started":
            self.pid = event.get("pid") if isinstance(event.get("pid"), int) else None
        if event["event"] in ("finished", "failed", "cancelled"):
            self._closing = event
        else:
            self._onEvent(event)

    def _onFinished(self, exitCode: int, _exitStatus=None) -> None:
        if self._process is None:
            return
        self._onOutput()
        rest = bytes(self._process.readAllStandardOutput().data())
        if rest:
            self._take(rest)
        self._retire()
        self._onEnd(self._outcome(int(exitCode)))

    def _onError(self, error) -> None:
        import qt

        if self._process is None or error != qt.QProcess.FailedToStart:
            return
        self._retire()
        problem = _("The worker cannot be started: {program}").format(program=self.command[0])
        self._onEnd(Outcome(Ending.CRASHED, problem, _("check the interpreter in section Advanced")))

    def _retire(self) -> None:
        """Keep the QProcess: deleted in a slot of its own signal, it would crash."""
        self._ended, self._process = self._process, None

    def _outcome(self, exitCode: int) -> Outcome:
        closing = self._closing or {}
        kind, files = closing.get("event"), closing.get("files")
        files = files if isinstance(files, dict) else {}
        if kind == "finished" and exitCode == 0:
            return Outcome(Ending.FINISHED, files=files)
        if kind == "cancelled" or (self._isCancelled and kind is None):
            return Outcome(Ending.CANCELLED, files=files)
        if kind == "failed":
            message = str(closing.get("message") or _("The worker failed"))
            return Outcome(Ending.FAILED, message, str(closing.get("hint") or ""), files)
        problem = _("The worker ended unexpectedly (exit code {code})").format(code=exitCode)
        lines = [line for line in self.log().splitlines() if line.strip()]
        hint = lines[-1][:300] if lines else _("it left no message")
        return Outcome(Ending.CRASHED, problem, hint, files)

    def _killIfStill(self, process) -> None:
        if self._process is process:
            self._kill(process)

    def _kill(self, process) -> None:
        if self.pid is not None:
            killTree(self.pid)
        process.kill()


def killTree(pid: int) -> None:
    """Kill a process with its children; one that is gone already is no error."""
    if os.name == "nt":
        command = ["taskkill", "/T", "/F", "/PID", str(pid)]
        subprocess.run(command, check=False, capture_output=True, timeout=10)
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:  # the worker leads no group of its own: never kill ours
            os.kill(pid, signal.SIGKILL)


def _environment(pythonPath: list[str]):
    import qt

    environment = qt.QProcessEnvironment.systemEnvironment()
    inherited = environment.value("PYTHONPATH")
    paths = [*pythonPath, *([inherited] if inherited else [])]
    environment.insert("PYTHONPATH", os.pathsep.join(paths))
    environment.insert("PYTHONIOENCODING", "utf-8")
    return environment
