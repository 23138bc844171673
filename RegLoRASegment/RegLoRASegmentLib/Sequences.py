"""Segmentations of a sequence of volumes, as a sequence of their own."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from .Run import State


def newSegmentationSequence(volumeSequence):
    """Return an empty sequence; the browsers that show the volumes show it along with them."""
    name = _("{volumes} segmentation").format(volumes=volumeSequence.GetName())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    node.SetIndexName(volumeSequence.GetIndexName())
    node.SetIndexUnit(volumeSequence.GetIndexUnit())
    node.SetIndexType(volumeSequence.GetIndexType())
    return node


class SequenceFiller:
    """A listener that puts the result of each run at its place in the sequence."""

    def __init__(self, volumeSequence, segmentationSequence, runs, logic) -> None:
        indices = range(volumeSequence.GetNumberOfDataNodes())
        values = [volumeSequence.GetNthIndexValue(index) for index in indices]
        self._values = dict(zip(runs, values, strict=True))
        self._volumes, self._result, self._logic = volumeSequence, segmentationSequence, logic

    def __call__(self, run, what: str) -> None:
        if what != "state" or not run.isEnded or run not in self._values:
            return
        value = self._values.pop(run)
        isInScene = self._result.GetScene() is not None
        if run.state is State.FINISHED and isInScene:
            run.preview.node.SetSaveWithScene(True)
            run.preview.node.SetHideFromEditors(False)
            self._result.SetDataNodeAtValue(run.preview.node, value)
            self._logic.discard(run)
        if not self._values:
            self._logic.listeners.remove(self)
            if isInScene:
                self._show()

    def _show(self) -> None:
        for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
            if browser.IsSynchronizedSequenceNode(self._volumes, True):
                browser.AddSynchronizedSequenceNode(self._result)
