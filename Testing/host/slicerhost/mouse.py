"""Real Qt mouse events, sent through the application to a widget."""

import itertools

import numpy as np
from PySide6 import QtCore, QtGui, QtWidgets

_LEFT = QtCore.Qt.LeftButton


def click(widget, position=None):
    """Press and release the left button in the middle of `widget` (or at `position`)."""
    position = position or QtCore.QPointF(widget.rect.center())
    press, release = QtCore.QEvent.MouseButtonPress, QtCore.QEvent.MouseButtonRelease
    _send(widget, press, position, _LEFT, _LEFT)
    _send(widget, release, position, _LEFT, QtCore.Qt.NoButton)


def drag(slice_widget, points, step=1.0):
    """Scroll `slice_widget` to the first of `points` (n, 3; RAS in mm) and drag over all of them.

    `step`: largest distance between two mouse positions, in pixels.
    Raises ValueError if a point is not visible in that slice.
    """
    points = np.atleast_2d(np.asarray(points, dtype=float))
    slice_widget.mrmlSliceNode().JumpSliceByOffsetting(*points[0])
    canvas = slice_widget.sliceView()
    pixels = _densify(np.array([_pixel(slice_widget, point) for point in points]), step)
    positions = [QtCore.QPointF(float(x), float(y)) for x, y in pixels]
    _send(canvas, QtCore.QEvent.MouseMove, positions[0], QtCore.Qt.NoButton, QtCore.Qt.NoButton)
    _send(canvas, QtCore.QEvent.MouseButtonPress, positions[0], _LEFT, _LEFT)
    for position in positions[1:]:
        _send(canvas, QtCore.QEvent.MouseMove, position, QtCore.Qt.NoButton, _LEFT)
    _send(canvas, QtCore.QEvent.MouseButtonRelease, positions[-1], _LEFT, QtCore.Qt.NoButton)


def _pixel(slice_widget, point):
    """Return the widget position (x, y), y down, that shows a point."""
    view = slice_widget.sliceView()
    x, y, off_plane = view.convertRASToXYZ(point)
    height, width = view.height, view.width
    spacing = slice_widget.sliceLogic().GetLowestVolumeSliceSpacing()[2]
    if not (0 <= x < width and 0 <= y < height) or abs(off_plane) > max(spacing, 1e-3):
        message = f"{point.tolist()} is not visible in {slice_widget.mrmlSliceNode().GetName()}"
        raise ValueError(message)
    return x, height - 1 - y


def _densify(pixels, step):
    pieces = [pixels[:1]]
    for start, end in itertools.pairwise(pixels):
        count = max(int(np.ceil(np.linalg.norm(end - start) / step)), 1)
        pieces.append(start + (end - start) * np.arange(1, count + 1)[:, None] / count)
    return np.concatenate(pieces)


def _send(widget, kind, position, button, buttons):
    event = QtGui.QMouseEvent(
        kind, position, widget.mapToGlobal(position), button, buttons, QtCore.Qt.NoModifier
    )
    QtWidgets.QApplication.sendEvent(widget, event)


def scroll(widget, steps):
    """Turn the wheel over the middle of `widget`; positive is away from the user."""
    position = QtCore.QPointF(widget.rect.center())
    event = QtGui.QWheelEvent(
        position,
        widget.mapToGlobal(position),
        QtCore.QPoint(),
        QtCore.QPoint(0, 120 * steps),
        QtCore.Qt.NoButton,
        QtCore.Qt.NoModifier,
        QtCore.Qt.NoScrollPhase,
        False,
    )
    QtWidgets.QApplication.sendEvent(widget, event)
