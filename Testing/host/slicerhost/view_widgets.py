"""Stand-ins of qMRMLSliceWidget, qMRMLSliceView, qMRMLSliceControllerWidget and qMRMLThreeDWidget.

Not modelled: pinned controller bars, link buttons, layer menus and orientation menus.
"""

import vtk
from PySide6 import QtCore, QtWidgets

from .dialect.ui_loader import stand_in
from .observations import Observations
from .view_canvas import ViewCanvas
from .views import SliceView, ThreeDView

_OFFSET_STEPS = 1000


class ViewWidget(QtWidgets.QWidget):
    """A coloured bar with the name of the view, and the view below it."""

    def __init__(self, view, canvas, title, color):
        super().__init__()
        self._view = view
        self._canvas = canvas
        self._bar = QtWidgets.QWidget()
        self._bar.setStyleSheet(f"background: {color}; color: black")
        self._bar.setAutoFillBackground(True)
        self._bar_layout = QtWidgets.QHBoxLayout(self._bar)
        self._bar_layout.setContentsMargins(6, 0, 6, 0)
        self._title = QtWidgets.QLabel(title)
        self._bar_layout.addWidget(self._title)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self._bar)
        layout.addWidget(canvas, 1)

    def canvas(self):
        """Return the surface that takes the mouse (not in the real class)."""
        return self._canvas


class qMRMLSliceView(ViewCanvas):
    def mrmlSliceNode(self):
        return self._view.node

    def sliceViewInteractorStyle(self):
        return self._view.interaction

    def convertDeviceToXYZ(self, position):
        return [position[0], position[1], 0]

    def convertXYZToRAS(self, xyz):
        return list(self._view.node.GetXYToRAS().MultiplyPoint([*xyz[:3], 1])[:3])

    def convertRASToXYZ(self, ras):
        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._view.node.GetXYToRAS(), to_xy)
        return list(to_xy.MultiplyPoint([*ras[:3], 1])[:3])


class qMRMLThreeDView(ViewCanvas):
    def mrmlViewNode(self):
        return self._view.node

    def resetFocalPoint(self):
        self._view.reset_camera()

    def resetCamera(self):
        self._view.reset_camera()


class qMRMLSliceControllerWidget(QtWidgets.QWidget):
    """The offset slider of a slice view."""

    is_stand_in = True

    def __init__(self, view):
        super().__init__()
        self._view = view
        self._is_updating = False
        self._slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        self._slider.setRange(0, _OFFSET_STEPS)
        self._offset = QtWidgets.QLabel()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._offset)
        self._slider.valueChanged.connect(self._on_slider)
        self._observations = Observations()
        self._observations.add(view.node, "ModifiedEvent", self._show_offset)

    def mrmlSliceNode(self):
        return self._view.node

    def fitSliceToBackground(self):
        self._view.fit()

    def _bounds(self):
        bounds = [0.0] * 6
        self._view.logic.GetLowestVolumeSliceBounds(bounds)
        return bounds[4], bounds[5]

    def _on_slider(self, position):
        if not self._is_updating:
            low, high = self._bounds()
            self._view.logic.SetSliceOffset(low + (high - low) * position / _OFFSET_STEPS)
            self._view.logic.SnapSliceOffsetToIJK()

    def _show_offset(self, *_):
        offset = self._view.logic.GetSliceOffset()
        low, high = self._bounds()
        self._is_updating = True
        if high > low:
            self._slider.setValue(round((offset - low) / (high - low) * _OFFSET_STEPS))
        self._is_updating = False
        self._offset.setText(f"{offset:.1f} mm")


@stand_in
class qMRMLSliceWidget(ViewWidget):
    """A slice view with its controller bar."""

    def __init__(self, application_logic, name, orientation, color):
        view = SliceView(application_logic, name, orientation, _rgb(color))
        super().__init__(view, qMRMLSliceView(view), name, color)
        self._controller = qMRMLSliceControllerWidget(view)
        self._bar_layout.addWidget(self._controller, 1)
        self._observations = Observations()
        self._observations.add(view.node, "ModifiedEvent", self._show_orientation)
        self._show_orientation()

    def sliceLogic(self):
        return self._view.logic

    def mrmlSliceNode(self):
        return self._view.node

    def mrmlSliceCompositeNode(self):
        return self._view.logic.GetSliceCompositeNode()

    def sliceView(self):
        return self._canvas

    def sliceController(self):
        return self._controller

    def interactorStyle(self):
        return self._view.interaction

    def fitSliceToBackground(self):
        self._view.fit()

    def _show_orientation(self, *_):
        node = self._view.node
        self._title.setText(f"{node.GetLayoutName()[:1]}  {node.GetOrientation()}")


@stand_in
class qMRMLThreeDWidget(ViewWidget):
    """The 3D view."""

    def __init__(self, application_logic):
        view = ThreeDView(application_logic)
        super().__init__(view, qMRMLThreeDView(view), "1", "#b1b8e0")

    def threeDView(self):
        return self._canvas

    def mrmlViewNode(self):
        return self._view.node

    def viewLogic(self):
        return self._view.logic


def _rgb(color):
    return [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
