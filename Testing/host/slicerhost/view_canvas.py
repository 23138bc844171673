"""The Qt surface of a view: shows the picture and hands real mouse and key events to VTK."""

from PySide6 import QtCore, QtGui, QtWidgets

_PRESS = {
    QtCore.Qt.LeftButton: ("LeftButtonPressEvent", "LeftButtonReleaseEvent"),
    QtCore.Qt.MiddleButton: ("MiddleButtonPressEvent", "MiddleButtonReleaseEvent"),
    QtCore.Qt.RightButton: ("RightButtonPressEvent", "RightButtonReleaseEvent"),
}


class ViewCanvas(QtWidgets.QWidget):
    """Stands for the ctkVTKRenderView below qMRMLSliceView and qMRMLThreeDView."""

    is_stand_in = True

    def __init__(self, view):
        super().__init__()
        self._view = view
        self._picture = QtGui.QImage()
        self.setMinimumSize(120, 120)
        self.setMouseTracking(True)
        self.setFocusPolicy(QtCore.Qt.StrongFocus)
        policy = QtWidgets.QSizePolicy.Expanding
        self.setSizePolicy(policy, policy)

    def needsRender(self):
        return self._view.needs_render and self.isVisible()

    def renderWindow(self):
        return self._view.window

    def renderer(self):
        return self._view.renderer

    def interactor(self):
        return self._view.interactor

    def scheduleRender(self):
        self._view.needs_render = True

    def forceRender(self):
        self.renderNow()

    def renderNow(self):
        """Draw, show and return the picture: uint8, (height, width, 3) (not in the real class)."""
        rgb = self._view.render()
        height, width, _ = rgb.shape
        picture = QtGui.QImage(rgb.data, width, height, 3 * width, QtGui.QImage.Format_RGB888)
        self._picture = picture.copy()
        self.repaint()
        return rgb

    def paintEvent(self, _event):
        painter = QtGui.QPainter(self)
        painter.drawImage(0, 0, self._picture)
        painter.end()

    def resizeEvent(self, event):
        self._view.set_size(event.size().width(), event.size().height())

    def mousePressEvent(self, event):
        self._forward(event, _PRESS[event.button()][0])

    def mouseDoubleClickEvent(self, event):
        self._forward(event, _PRESS[event.button()][0], repeat=1)

    def mouseReleaseEvent(self, event):
        self._forward(event, _PRESS[event.button()][1])

    def mouseMoveEvent(self, event):
        self._forward(event, "MouseMoveEvent")

    def wheelEvent(self, event):
        forward = event.angleDelta().y() > 0
        self._forward(event, "MouseWheelForwardEvent" if forward else "MouseWheelBackwardEvent")

    def enterEvent(self, _event):
        self._view.interactor.InvokeEvent("EnterEvent")

    def leaveEvent(self, _event):
        self._view.interactor.InvokeEvent("LeaveEvent")

    def keyPressEvent(self, event):
        self._forward_key(event, "KeyPressEvent")

    def keyReleaseEvent(self, event):
        self._forward_key(event, "KeyReleaseEvent")

    def _forward(self, event, vtk_event, repeat=0):
        position = event.position()
        modifiers = event.modifiers()
        self._view.interactor.SetEventInformationFlipY(
            round(position.x()),
            round(position.y()),
            int(bool(modifiers & QtCore.Qt.ControlModifier)),
            int(bool(modifiers & QtCore.Qt.ShiftModifier)),
            "\0",
            repeat,
            None,
        )
        self._view.interactor.InvokeEvent(vtk_event)
        event.accept()

    def _forward_key(self, event, vtk_event):
        self._view.interactor.SetKeySym(QtGui.QKeySequence(event.key()).toString())
        self._view.interactor.InvokeEvent(vtk_event)
        event.accept()
