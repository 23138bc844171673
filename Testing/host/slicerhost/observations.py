"""Observers of MRML nodes that do not keep a widget alive, nor outlive it.

A cycle of node, observer and widget is dangerous: Python's garbage collector may take the observer
while the C++ node still calls it, and the process crashes.
"""

import weakref

import shiboken6
from PySide6 import QtCore


class Observations:
    """What one widget observes; ends with the widget."""

    def __init__(self):
        self._tags = []  # (VTK object, tag)

    def __del__(self):
        self.clear()

    def add(self, observed, event, method, priority=0.0):
        """Call the bound method `method` (caller, event) after each `event` of `observed`.

        If it returns True, observers of lower priority do not get the event.
        """
        weak = weakref.WeakMethod(method)

        def on_event(caller, event):
            target = weak()
            is_alive = target is not None and _is_alive(target.__self__)
            if is_alive and target(caller, event) is True:
                caller.GetCommand(tag).SetAbortFlag(1)

        tag = observed.AddObserver(event, on_event, priority)
        self._tags.append((observed, tag))

    def clear(self):
        for observed, tag in self._tags:
            observed.RemoveObserver(tag)
        self._tags = []


def _is_alive(owner):
    return not isinstance(owner, QtCore.QObject) or shiboken6.isValid(owner)
