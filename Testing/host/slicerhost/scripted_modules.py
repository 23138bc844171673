"""Loads <Name>.py as Slicer's factory does: qSlicerScriptedLoadableModule and its widget."""

import importlib.util
import sys
from pathlib import Path

import slicer
from PySide6 import QtGui, QtWidgets

from .dialect.ui_loader import stand_in
from .mrml_widgets import qMRMLWidget


class qSlicerScriptedLoadableModule:
    """`parent` of the Python module class, and slicer.modules.<name>.

    Setting an attribute that the real class does not have raises AttributeError.
    """

    __slots__ = (
        "_logic",
        "_widget",
        "acknowledgementText",
        "associatedNodeTypes",
        "categories",
        "contributors",
        "dependencies",
        "helpText",
        "hidden",
        "icon",
        "index",
        "name",
        "path",
        "title",
        "widgetRepresentationCreationEnabled",
    )

    def __init__(self, name, path):
        self.name = self.title = name
        self.path = str(path)
        self.categories, self.dependencies, self.contributors = [], [], []
        self.associatedNodeTypes = []
        self.helpText = self.acknowledgementText = ""
        self.hidden, self.index, self.widgetRepresentationCreationEnabled = False, -1, True
        self.icon = QtGui.QIcon()
        self._logic = self._widget = None

    def logic(self):
        """Return a vtkSlicerScriptedLoadableModuleLogic in Slicer; nothing here."""
        return self._logic

    def mrmlScene(self):
        return slicer.mrmlScene

    def inherits(self, name):
        return name in (
            "qSlicerScriptedLoadableModule",
            "qSlicerLoadableModule",
            "qSlicerAbstractModule",
        )

    def widgetRepresentation(self):
        if self._widget is None:
            self._widget = qSlicerScriptedLoadableModuleWidget(self)
            self._widget.create()
        return self._widget

    def createNewWidgetRepresentation(self):
        widget = qSlicerScriptedLoadableModuleWidget(self)
        widget.create()
        return widget


@stand_in
class qSlicerScriptedLoadableModuleWidget(qMRMLWidget):
    """The widget that is `parent` of the Python widget class."""

    def __init__(self, module):
        super().__init__()
        self._module = module
        self._python_widget = None
        self._is_entered = False
        self.setObjectName(f"{module.name}ModuleWidget")
        QtWidgets.QVBoxLayout(self)
        self.setMRMLScene(slicer.mrmlScene)

    isEntered = property(lambda self: self._is_entered)

    def create(self):
        """Instantiate <Name>Widget and run its setup() (done by setPythonSource in Slicer)."""
        name = self._module.name
        widget_class = getattr(sys.modules[name], f"{name}Widget")
        self._python_widget = widget_class(self)
        setattr(slicer.modules, f"{name}Widget", self._python_widget)
        self._python_widget.setup()

    def reload(self):
        """Make the Python widget anew, after slicer.util.reloadScriptedModule has emptied it."""
        self.create()
        if self._is_entered:
            self.enter()

    def self(self):
        return self._python_widget

    def module(self):
        return self._module

    def enter(self):
        self._is_entered = True
        self._call("enter")

    def exit(self):
        self._is_entered = False
        self._call("exit")

    def _call(self, name):
        method = getattr(self._python_widget, name, None)
        if method is not None:
            method()


slicer.qSlicerScriptedLoadableModule = qSlicerScriptedLoadableModule


def load_scripted_module(path):
    """Import the file and instantiate the class named like it; return the module."""
    path = Path(path).resolve()
    name = path.stem
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    code = importlib.util.module_from_spec(spec)
    sys.modules[name] = code
    spec.loader.exec_module(code)
    module = qSlicerScriptedLoadableModule(name, path)
    slicer.app.moduleManager().registerModule(module)
    instance = getattr(code, name)(module)
    setattr(slicer.modules, f"{name}Instance", instance)
    return module
