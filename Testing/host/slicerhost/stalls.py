"""How long the event loop was blocked: what a user feels as a frozen window."""

import time

from PySide6 import QtCore


class StallMeter:
    """Context manager: notes the time between two turns of the event loop.

    The host's own drawing happens in the event loop too, as in Slicer. It counts only what
    happens while the event loop is asked to run (wait_until, process_events).
    """

    def __init__(self, interval_ms=1):
        self._timer = QtCore.QTimer()
        self._timer.setTimerType(QtCore.Qt.PreciseTimer)
        self._timer.setInterval(interval_ms)
        self._timer.timeout.connect(self._on_turn)
        self.stalls = []  # seconds, one for each turn
        self.longest_span = (0.0, 0.0)  # when the longest began and ended, by time.perf_counter

    def __enter__(self):
        self._last = time.perf_counter()
        self._timer.start()
        return self

    def __exit__(self, *_):
        self._on_turn()
        self._timer.stop()

    @property
    def longest(self):
        """Return the longest stall, in seconds."""
        return self.longest_span[1] - self.longest_span[0]

    def _on_turn(self):
        now = time.perf_counter()
        if now - self._last > self.longest:
            self.longest_span = (self._last, now)
        self.stalls.append(now - self._last)
        self._last = now
