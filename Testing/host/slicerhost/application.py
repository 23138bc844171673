"""Stand-ins of qSlicerApplication (`slicer.app`) and qSlicerModuleManager."""

import os
import sys
import tempfile
from pathlib import Path

import slicer
from PySide6 import QtCore, QtWidgets

from .io_manager import CoreIOManager

DOCUMENTATION_URL = "https://slicer.readthedocs.io/en/latest/"


class qSlicerModuleManager(QtCore.QObject):
    moduleLoaded = QtCore.Signal(str)
    moduleAboutToBeUnloaded = QtCore.Signal(str)
    SIGNALS = {
        "moduleLoaded(QString)": "moduleLoaded",
        "moduleAboutToBeUnloaded(QString)": "moduleAboutToBeUnloaded",
    }
    is_stand_in = True

    def __init__(self, modules):
        super().__init__()
        self._modules = modules

    def module(self, name):
        return self._modules.get(name)

    def modulesNames(self):
        return tuple(self._modules)

    def isLoaded(self, name):
        return name in self._modules

    def factoryManager(self):
        return self

    def loadedModuleNames(self):
        return tuple(self._modules)

    def registerModule(self, module):
        """Make a module known as slicer.modules.<name> (not in the real class)."""
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)
        setattr(slicer.moduleNames, module.name, module.name)
        self.moduleLoaded.emit(module.name)


class CommandOptions:
    """Stands for qSlicerCommandOptions."""

    def __init__(self, no_main_window, testing_enabled):
        self.noMainWindow = no_main_window
        self.testingEnabled = testing_enabled


class qSlicerApplication(QtCore.QObject):
    """Not modelled: extensions manager, error log, style, translation files, restart."""

    startupCompleted = QtCore.Signal()
    aboutToQuit = QtCore.Signal()
    lastWindowClosed = QtCore.Signal()
    mrmlSceneChanged = QtCore.Signal(object)
    SIGNALS = {
        "startupCompleted()": "startupCompleted",
        "aboutToQuit()": "aboutToQuit",
        "lastWindowClosed()": "lastWindowClosed",
        "mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged",
    }
    is_stand_in = True
    applicationName = "Slicer"
    applicationVersion = "5.12.0-2026-01-01"
    documentationBaseUrl = DOCUMENTATION_URL
    documentationVersion = "latest"
    majorVersion, minorVersion, patchVersion = 5, 12, 4
    revision, repositoryRevision = "34045", "34045"
    os = "linux"
    platform = "linux-amd64"

    def __init__(self, qt_application, mrml, testing):
        super().__init__()
        self._qt, self._mrml, self._is_testing = qt_application, mrml, testing
        self._module_manager = qSlicerModuleManager(dict(mrml.modules))
        self._io_manager = CoreIOManager()
        self._layout_manager = self._main_window = None
        self._temporary_path = str(Path(tempfile.gettempdir()) / "Slicer-host")
        Path(self._temporary_path).mkdir(exist_ok=True)
        qt_application.aboutToQuit.connect(self.aboutToQuit.emit)

    def _get_temporary_path(self):
        return self._temporary_path

    def setTemporaryPath(self, path):
        self._temporary_path = path

    temporaryPath = QtCore.Property(str, _get_temporary_path, setTemporaryPath)
    slicerHome = QtCore.Property(str, lambda _: sys.prefix)
    extensionsInstallPath = QtCore.Property(str, lambda self: self._mrml.temporary_path)
    cachePath = QtCore.Property(str, lambda self: self._mrml.temporary_path)
    slicerSharePath = QtCore.Property(str, lambda _: "share")

    def mrmlScene(self):
        return slicer.mrmlScene

    def applicationLogic(self):
        return self._mrml.logic

    def moduleManager(self):
        return self._module_manager

    def moduleLogic(self, name):
        return self._module_manager.module(name).logic()

    def coreIOManager(self):
        return self._io_manager

    def ioManager(self):
        return self._io_manager

    def layoutManager(self):
        return self._layout_manager

    def mainWindow(self):
        return self._main_window

    def showViews(self, layout_manager, main_window):
        """Take the views and the window (not in the real class)."""
        self._layout_manager, self._main_window = layout_manager, main_window

    def commandOptions(self):
        return CommandOptions(self._main_window is None, self._is_testing)

    def testingEnabled(self):
        return self._is_testing

    def processEvents(self, *_):
        self._qt.processEvents()

    def settings(self):
        return QtCore.QSettings()

    userSettings = revisionUserSettings = settings

    def startupEnvironment(self):
        return QtCore.QProcessEnvironment.systemEnvironment()

    def pauseRender(self):
        if self._layout_manager is not None:
            self._layout_manager.pauseRender()

    def resumeRender(self):
        if self._layout_manager is not None:
            self._layout_manager.resumeRender()

    def setRenderPaused(self, paused):
        if paused:
            self.pauseRender()
        else:
            self.resumeRender()

    def setOverrideCursor(self, cursor):
        self._qt.setOverrideCursor(cursor)

    def restoreOverrideCursor(self):
        self._qt.restoreOverrideCursor()

    def keyboardModifiers(self):
        return self._qt.keyboardModifiers()

    def clipboard(self):
        return self._qt.clipboard()

    def font(self, *arguments):
        return self._qt.font(*arguments)

    def palette(self, *arguments):
        return self._qt.palette

    def topLevelWidgets(self):
        return tuple(QtWidgets.QApplication.topLevelWidgets())

    def translate(self, _context, text, *_):
        return text

    def moduleDocumentationUrl(self, name):
        return f"{DOCUMENTATION_URL}user_guide/modules/{name.lower()}.html"

    def applicationPid(self):
        return os.getpid()

    def openUrl(self, url):
        message = f"the test host opens no web page: {url}"
        raise NotImplementedError(message)

    def isInstalled(self):
        return True

    def quit(self):
        self._qt.quit()

    def exit(self, code=0):
        self._qt.exit(code)
