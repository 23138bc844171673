"""Stand-ins of the small qMRML and qSlicer widgets, and their place in the module `slicer`."""

import slicer
from PySide6 import QtCore, QtWidgets

from .ctk_collapsible_button import ctkCollapsibleButton
from .ctk_slider_widget import ctkSliderWidget
from .dialect.ui_loader import STAND_INS, stand_in


@stand_in
class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the MRML scene."""

    mrmlSceneChanged = QtCore.Signal(object)
    SIGNALS = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


@stand_in
class qSlicerWidget(qMRMLWidget):
    pass


@stand_in
class qMRMLSliderWidget(ctkSliderWidget):
    """Not modelled: units from the selection node."""

    def setMRMLScene(self, scene):
        pass


@stand_in
class qMRMLSpinBox(QtWidgets.QDoubleSpinBox):
    """Not modelled: units from the selection node."""

    def setMRMLScene(self, scene):
        pass


@stand_in
class qMRMLCollapsibleButton(ctkCollapsibleButton):
    def setMRMLScene(self, scene):
        pass


def install_mrml_widgets():
    """Put every registered qMRML and qSlicer stand-in in the module `slicer`."""
    for name, cls in STAND_INS.items():
        if name.startswith(("qMRML", "qSlicer")):
            setattr(slicer, name, cls)
