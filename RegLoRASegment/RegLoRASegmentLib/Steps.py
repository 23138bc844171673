"""Work cut into steps, done between the events of the application."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

SLICE_SECONDS = 0.02


class Steps:
    """Runs a generator in short turns of the event loop.

    `onDone(result)` or `onError(exception)` is called at the end; neither after stop().
    """

    def __init__(
        self,
        generator: Generator,
        onDone: Callable[[object], None],
        onError: Callable[[Exception], None],
        callLater: Callable[[float, Callable[[], None]], None],
    ) -> None:
        self._generator = generator
        self._onDone, self._onError, self._callLater = onDone, onError, callLater
        self._isStopped = False
        callLater(0.0, self._turn)

    def stop(self) -> None:
        self._isStopped = True
        self._generator.close()

    def _turn(self) -> None:
        if self._isStopped:
            return
        end = time.monotonic() + SLICE_SECONDS
        try:
            while time.monotonic() < end:
                next(self._generator)
        except StopIteration as finished:
            self._isStopped = True
            self._onDone(finished.value)
            return
        except Exception as error:
            self._isStopped = True
            self._onError(error)
            return
        self._callLater(0.0, self._turn)
