"""A result that is being written into the scene, between the events of the application."""

from __future__ import annotations

from collections.abc import Callable, Generator

import slicer
from slicer.i18n import tr as _

from reglora_core.errors import InputError

from .Steps import Steps


class Applying:
    """Writes in steps; the views are drawn once, at the end, for that takes longer than the rest.

    `needed`: the nodes without which it cannot go on. One of onDone(ids) and onError(exception) is
    called at the end.
    """

    def __init__(
        self,
        steps: Generator,
        needed: list,
        onDone: Callable[[list[str]], None],
        onError: Callable[[Exception], None],
        callLater,
    ) -> None:
        self._needed, self._onDone, self._onError = needed, onDone, onError
        self._isEnded = False
        slicer.app.pauseRender()
        self._steps = Steps(steps, self._done, self._fail, callLater)

    def stop(self, problem: str) -> None:
        """End it where it is; what is written stays, and can be undone."""
        if not self._isEnded:
            self._steps.stop()
            self._fail(InputError(problem, _("the result was not applied as a whole")))

    def stopIfDeleted(self) -> None:
        for node in self._needed:
            if node.GetScene() is None:
                self.stop(_("{name} was deleted").format(name=node.GetName()))

    def _done(self, segmentIds: list[str]) -> None:
        self._end()
        self._onDone(segmentIds)

    def _fail(self, error: Exception) -> None:
        self._end()
        self._onError(error)

    def _end(self) -> None:
        self._isEnded = True
        slicer.app.resumeRender()
