"""Events: what a running job tells its parent, one JSON object a line.

    {"event": "started",   "time": 0.0, "pid": 4711, "version": "0.1.0", "command": "adapt"}
    {"event": "memory",    "time": 2.0, "needed": 2600000000, "free": 9100000000, ...}
    {"event": "inference", "time": 3.0, "is_captured": true, "plain_seconds": 0.034, ...}
    {"event": "progress",  "time": 3.2, "stage": "head", "step": 40, "steps": 200,
                           "loss": 0.41, "seconds_left": 21.0}
    {"event": "ranks",     "time": 9.0, "ranks": {"layer": 7, ...}}
    {"event": "preview",   "time": 9.1, "file": "/job/preview.seg.nrrd"}
    {"event": "organ",     "time": 30.0, "name": "liver", "expected_dice": 0.94, "ml": 1432.0}
    {"event": "next_slice", "time": 30.1, "image": 0, "axis": "axial", "index": 56, ...}
    {"event": "warning",   "time": 1.0, "message": "..."}
    {"event": "finished",  "time": 30.2, "files": {...}}
    {"event": "failed",    "time": 2.0, "message": "...", "hint": "..."}
    {"event": "cancelled", "time": 2.0, "files": {...}}

``time`` is seconds since the start. Lines that are not such an object are log text. On the other
side, a line ``cancel`` on the job's standard input, or its end, asks the job to stop.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

from reglora_core.errors import Cancelled

Event = dict[str, Any]
NAMES = frozenset(
    [
        "started",
        "memory",
        "inference",
        "progress",
        "ranks",
        "preview",
        "organ",
        "next_slice",
        "warning",
        "finished",
        "failed",
        "cancelled",
    ]
)


class Report(Protocol):
    """Receives events; may raise `Cancelled` to stop the work at the next safe point."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...


def ignore(event: str, /, **fields: Any) -> None:
    """Report to nobody."""


def parse(line: str) -> Event | None:
    """Return the event in one line of output, or None if the line is log text."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(event, dict):
        return None
    name = event.get("event")
    return event if isinstance(name, str) and name in NAMES else None


def _finite(value: Any) -> Any:
    """Replace what JSON has no word for (NaN, infinity) by null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


class Reporter:
    """Stamps events with their time and hands them to every sink; stops the work when asked.

    Calling it is the safe point of a long computation: after `cancel()` the next call raises
    `Cancelled`, except for the closing events, which always pass.
    """

    CLOSING = frozenset(
        {"finished", "failed", "cancelled", "organ", "next_slice", "preview", "warning"}
    )

    def __init__(self, *sinks: Callable[[Event], None]) -> None:
        self.sinks = sinks
        self.start = time.monotonic()
        self._cancelled = threading.Event()

    def __call__(self, event: str, /, **fields: Any) -> None:
        if self._cancelled.is_set() and event not in self.CLOSING:
            raise Cancelled
        stamped: Event = {"event": event, "time": round(time.monotonic() - self.start, 3)}
        stamped.update(_finite(fields))
        for sink in self.sinks:
            sink(stamped)

    @property
    def is_cancelled(self) -> bool:
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Ask the work to stop at its next report; safe from any thread or signal handler."""
        self._cancelled.set()


class JsonLines:
    """A sink that writes one JSON object a line, flushed, to a text stream.

    Once nobody reads the stream any more it stays silent: whether the work goes on without a
    reader is not for it to say.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.is_broken = False
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        with self._lock:
            if self.is_broken:
                return
            try:
                self.stream.write(json.dumps(event, ensure_ascii=True, allow_nan=False) + "\n")
                self.stream.flush()
            except ConnectionError:
                self.is_broken = True


def watch_for_cancel(stream: IO[str], cancel: Callable[[], None]) -> threading.Thread:
    """Call `cancel` when the stream says ``cancel`` or ends; returns the (daemon) thread."""

    def wait() -> None:
        with suppress(OSError, ValueError):  # what cannot be read says no more than its end
            for line in stream:
                if line.strip() == "cancel":
                    break
        cancel()

    thread = threading.Thread(target=wait, name="watch-for-cancel", daemon=True)
    thread.start()
    return thread
