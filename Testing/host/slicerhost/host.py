"""The test host: Slicer's surroundings of a scripted module, in one process, with real MRML.

    with Host() as host:
        host.load_module("RegLoRASegment/RegLoRASegment.py")
        panel = host.select_module("RegLoRASegment")
        host.paint("Red", [[0, 0, 10], [20, 0, 10]])
        host.wait_until(lambda: panel.ui.statusLabel.text == "Finished", timeout=60)
        host.grab("panel.png")

There is one host in a process: Qt, VTK and the module `slicer` are global.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

import slicer
import slicer.util
from PySide6 import QtCore, QtWidgets

from .application import qSlicerApplication
from .layout_manager import qSlicerLayoutManager
from .main_window import qSlicerAppMainWindow
from .mouse import click, drag
from .qt_messages import show_qt_messages
from .scene import MrmlApplication
from .scripted_modules import load_scripted_module
from .slot_errors import SlotErrors
from .stalls import StallMeter
from .stand_ins import EXTENSION_MODULES, install_stand_ins
from .vtk_errors import VtkErrors

_instance = None


class Host:
    """Start the application; show its main window unless `window` is False.

    `testing`: as Slicer's --testing, pop-ups answer themselves.
    """

    def __init__(self, testing=True, window=True):
        global _instance
        if _instance is not None:
            message = "there is a host already: use Host.instance()"
            raise RuntimeError(message)
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        install_stand_ins()
        self.errors = SlotErrors()
        self.vtk_errors = VtkErrors()
        self._prepare_qt()
        slicer.app = qSlicerApplication(self._application, MrmlApplication(), testing)
        self._current = None
        self.main_window = self._make_window() if window else None
        _instance = self
        slicer.app.startupCompleted.emit()

    @staticmethod
    def instance(**options):
        """Return the host of this process; start it if there is none."""
        return _instance or Host(**options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Quit as Slicer does: leave the module, let every module clean up, close the scene."""
        manager = slicer.app.moduleManager()
        if self._current is not None:
            manager.module(self._current).widgetRepresentation().exit()
            self._current = None
        slicer.app.aboutToQuit.emit()
        for name in manager.loadedModuleNames():
            manager.moduleAboutToBeUnloaded.emit(name)
        slicer.mrmlScene.Clear(0)
        self.process_events()

    def add_extension_modules(self):
        """Make the modules of other extensions importable: PyTorchUtils."""
        if str(EXTENSION_MODULES) not in sys.path:
            sys.path.append(str(EXTENSION_MODULES))

    def load_module(self, path):
        """Load a scripted module file, as Slicer does at its start; return the module."""
        return load_scripted_module(path)

    def select_module(self, name):
        """Show the module's panel, as the user does; return its Python widget."""
        manager = slicer.app.moduleManager()
        if self._current not in (None, name):
            manager.module(self._current).widgetRepresentation().exit()
        module = manager.module(name)
        widget = module.widgetRepresentation()
        if self.main_window is not None:
            self.main_window.showModule(module.title, widget)
        if self._current != name:
            self._current = name
            widget.enter()
        self.process_events()
        return widget.self()

    def selected_module(self):
        return self._current

    def new_scene(self):
        """Close the scene and show four views, as the user does with File, Close Scene."""
        slicer.mrmlScene.Clear(0)
        if slicer.app.layoutManager() is not None:
            slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def process_events(self, seconds=0.0):
        """Run the event loop at least once, for `seconds`; raise what a slot raised meanwhile."""
        end = time.monotonic() + seconds
        while True:
            self._application.processEvents()
            self.errors.raise_first()
            if time.monotonic() >= end:
                return
            time.sleep(0.002)

    def wait_until(self, condition, timeout=10.0):
        """Run the event loop until `condition()`; TimeoutError after `timeout` seconds."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                message = f"not true within {timeout} s: {condition}"
                raise TimeoutError(message)
            self.process_events()
            time.sleep(0.002)

    def run_until_closed(self):
        """Run the event loop until the user closes the main window."""
        self._application.exec()

    def paint(self, view, points, **options):
        """Drag the left button over `points` (RAS, mm); see mouse.drag."""
        drag(slicer.app.layoutManager().sliceWidget(view), points, **options)
        self.process_events()

    def click(self, widget):
        """Click the middle of a widget with the left mouse button."""
        click(widget)
        self.process_events()

    def measure_stalls(self):
        """Return a context manager whose `longest` is the longest block of the event loop, in s."""
        return StallMeter()

    def render(self):
        """Draw every view that MRML has marked as changed, now."""
        self.process_events()
        slicer.app.layoutManager().renderChangedViews()

    def grab(self, path, widget=None):
        """Write a picture of the whole window (or of `widget`) as PNG; views included."""
        self.process_events(0.1)
        self.render()
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (widget or self.main_window).grab().save(str(path)):
            message = f"{path}: cannot be written"
            raise OSError(message)

    def view_picture(self, view):
        """Return what a view ("Red", ..., "3D") shows: uint8, (height, width, 3)."""
        self.process_events()
        manager = slicer.app.layoutManager()
        widget = manager.threeDWidget(0) if view == "3D" else manager.sliceWidget(view)
        return widget.canvas().renderNow()

    def _prepare_qt(self):
        show_qt_messages()
        self._application = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
        self._application.setOrganizationName("RegLoRASegment")
        self._application.setApplicationName("TestHost")
        self._application.setStyle("Fusion")
        self._settings = tempfile.TemporaryDirectory(prefix="slicerhost-settings-")
        settings = QtCore.QSettings
        settings.setDefaultFormat(settings.IniFormat)
        settings.setPath(settings.IniFormat, settings.UserScope, self._settings.name)

    def _make_window(self):
        layout_manager = qSlicerLayoutManager(slicer.app.applicationLogic())
        window = qSlicerAppMainWindow(layout_manager.viewport(), ModuleSelector(self))
        slicer.app.showViews(layout_manager, window)
        window.show()
        return window


class ModuleSelector:
    """Stands for qSlicerModuleSelectorToolBar."""

    def __init__(self, host):
        self._host = host

    def selectModule(self, module):
        self._host.select_module(module if isinstance(module, str) else module.name)

    @property
    def selectedModule(self):
        return self._host.selected_module()
