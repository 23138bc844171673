"""A progress bar for a terminal, fed by events; a few plain lines where there is no terminal."""

from __future__ import annotations

import signal
from typing import IO

from reglora_core.events import Event, Reporter

STAGES = {
    "read": "reading",
    "head": "fitting the head",
    "refine": "adapting",
    "windows": "running the network",
    "write": "writing",
    "pretrain": "pre-training",
    "download": "downloading (MB)",
    "check": "checking",
    "fits": "fits of the study",
    "scans": "scans",
    "records": "reading the records",
    "report": "drawing the report",
}
WIDTH = 28


class ProgressBar:
    """A sink of events."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.is_terminal = stream.isatty()
        self._stage = ""
        self._length = 0

    def __call__(self, event: Event) -> None:
        kind = event["event"]
        if kind == "progress":
            self._show(event)
        elif kind == "preview":
            self._line(f"[{event['time']:6.1f} s] first result: {event['file']}")
        elif kind == "warning":
            self._line(f"note: {event['message']}")
        elif kind == "failed":
            hint = f"; {event['hint']}" if event.get("hint") else ""
            self._line(f"reglora: {event['message']}{hint}")
        elif kind == "cancelled":
            self._line("cancelled; what was finished is kept")

    def _show(self, event: Event) -> None:
        key = str(event.get("stage", ""))
        stage = STAGES.get(key, key)
        step, steps = event.get("step", 0), max(event.get("steps", 1), 1)
        if not self.is_terminal:
            if stage != self._stage and key != "read":  # over before a line could be of use
                self._line(f"[{event['time']:6.1f} s] {stage}")
            self._stage = stage
            return
        filled = WIDTH * min(step, steps) // steps
        text = f"{stage:20} [{'#' * filled}{'.' * (WIDTH - filled)}] {step}/{steps}"
        if event.get("loss") is not None:
            text += f"  loss {event['loss']:.3f}"
        if event.get("seconds_left") is not None:
            text += f"  {event['seconds_left']:.0f} s left"
        self.stream.write("\r" + text.ljust(self._length))
        self.stream.flush()
        self._length = len(text)

    def _line(self, text: str) -> None:
        self.close()
        self.stream.write(text + "\n")
        self.stream.flush()

    def close(self) -> None:
        """End the bar's line, if there is one."""
        if self._length:
            self.stream.write("\r" + " " * self._length + "\r")
        self._length = 0


def cancel_on_interrupt(reporter: Reporter) -> None:
    """Let Ctrl-C stop at the next safe point, and a second one at once."""

    def stop(number: int, frame: object) -> None:
        del number, frame
        signal.signal(signal.SIGINT, signal.default_int_handler)
        reporter.cancel()

    signal.signal(signal.SIGINT, stop)
