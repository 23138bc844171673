"""The panel: its life in Slicer, and which part handles what.

Arithmetic, files and the scene are the logic's; here values are shown, and buttons call the methods
of the logic that have their names.
"""

from __future__ import annotations

import contextlib

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from reglora_core.errors import RegLoRAError
from reglora_core.forecast import adapt_setting

from . import Install, SceneExport
from .AdapterPanel import AdapterPanel
from .AnnotatePanel import AnnotatePanel
from .Resources import describeModel, neededMemory
from .ResultPanel import ResultPanel
from .RunPanel import RunPanel


class Widget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Shows the parameter node; owns the parts of the panel."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self.parameters = None
        self._guiTag = None
        self._workerPython = ""
        self._isInstallShown = False

    def setup(self) -> None:
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/RegLoRASegment.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        self.logic = self._makeLogic()
        self.annotate = AnnotatePanel(self)
        self.run = RunPanel(self)
        self.result = ResultPanel(self)
        self.adapter = AdapterPanel(self)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneEndClose)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneEndClose)
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
        self.ui.hardenTransformButton.connect("clicked()", self.onHardenTransform)
        self.ui.installButton.connect("clicked()", self.onInstall)
        self.ui.installFromFolderButton.connect("clicked()", self.onInstallFromFolder)
        slicer.app.connect("aboutToQuit()", self.cleanup)
        self.setParameterNode(self.logic.getParameterNode())
        self._chooseDefaults()
        self.ui.installFrame.visible = False
        self.logic.callLater(0.0, self.updateInstall)

    def cleanup(self) -> None:
        """Slicer closes, or the module is reloaded: end the workers, leave nothing behind."""
        if self.logic is None:
            return
        slicer.app.disconnect("aboutToQuit()", self.cleanup)
        self.annotate.close()
        self._disconnect()
        self.removeObservers()
        self.logic.close()
        self.logic = None

    def enter(self) -> None:
        if self.logic is None:
            return
        if self.parameters is None:
            self.setParameterNode(self.logic.getParameterNode())
        self._chooseDefaults()
        self.annotate.enter()
        if self._isInstallShown:
            self.updateInstall()

    def exit(self) -> None:
        if self.logic is not None:
            self.annotate.exit()

    def setParameterNode(self, parameters) -> None:
        """Show another parameter node (or none)."""
        self._disconnect()
        self.parameters = parameters
        if parameters is not None:
            self._guiTag = parameters.connectGui(self.ui)
            node = parameters.parameterNode
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
        self._onParametersModified()

    def onHardenTransform(self) -> None:
        with self.telling(self.ui.inputsMessage):
            self.parameters.inputVolume = self.logic.hardenTransform(self.parameters.inputVolume)

    def onInstall(self) -> None:
        with self.telling(self.ui.installLabel):
            self.logic.install()
            self.updateInstall()

    def onInstallFromFolder(self) -> None:
        import qt

        folder = qt.QFileDialog.getExistingDirectory(self.parent, _("Folder of wheels"))
        if folder:
            with self.telling(self.ui.installLabel):
                self.logic.installFromFolder(folder)
                self.updateInstall()

    def updateInstall(self) -> None:
        """Show what is missing for the computation; another interpreter has its own packages.

        After setup it is looked for when the panel is there already: that takes as long again.
        """
        if self.logic is None:
            return
        self._isInstallShown = True
        ownPython = self.parameters is None or not self.parameters.workerPython
        names = Install.missing() if ownPython and self.logic.workerCommand is None else []
        self.ui.installFrame.visible = bool(names)
        if names:
            text = _("To compute, these Python packages are still needed: {names}.")
            self.ui.installLabel.text = text.format(names=", ".join(names))

    @contextlib.contextmanager
    def telling(self, label):
        """Show errors that the user can act on in a label; no pop-up."""
        show(label, "")
        try:
            yield
        except RegLoRAError as error:
            show(label, str(error), isError=True)

    def _makeLogic(self):
        """Return the logic class of the module file, whose name Slicer's base class reads."""
        from RegLoRASegment import RegLoRASegmentLogic

        return RegLoRASegmentLogic()

    def _chooseDefaults(self) -> None:
        if self.parameters is None or self.parameters.inputVolume is not None:
            return
        for volume in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode"):
            with contextlib.suppress(RegLoRAError):
                SceneExport.checkVolume(volume)
                self.parameters.inputVolume = volume
                return

    def _onParametersModified(self, *_arguments) -> None:
        parameters = self.parameters
        if parameters is not None:
            python = parameters.workerPython.strip()
            if python != self._workerPython:  # what the console has set is left alone otherwise
                self._workerPython = python
                self.logic.workerCommand = [python, "-m", "reglora_core"] if python else None
        self.updateInputs()
        self.annotate.update()
        self.updateModel()
        self.run.update()
        self.adapter.update()

    def updateInputs(self) -> None:
        volume = self.parameters.inputVolume if self.parameters is not None else None
        self.ui.hardenTransformButton.visible = volume is not None and not SceneExport.isLinearlyPlaced(
            volume
        )
        segmentation = self.parameters.segmentation if self.parameters is not None else None
        with self.telling(self.ui.inputsMessage):
            if volume is not None:
                SceneExport.checkVolume(volume)
            if segmentation is not None:
                SceneExport.checkPlace(segmentation)

    def updateModel(self) -> None:
        """Show what the base model is, and whether the memory suffices."""
        parameters = self.parameters
        if parameters is None:
            return
        needed = None
        with contextlib.suppress(RegLoRAError):
            SceneExport.checkVolume(parameters.inputVolume)
            size = SceneExport.sizeOf(parameters.inputVolume)
            slices = self.annotate.slices
            organs = len(slices.painted()) if slices is not None else 0
            setting = adapt_setting(parameters.method, organs)
            needed = neededMemory(parameters.baseModel, size, setting, parameters.device)
        show(self.ui.modelMessage, describeModel(parameters.baseModel, needed))

    def _onSceneStartClose(self, *_arguments) -> None:
        self.setParameterNode(None)

    def _onSceneEndClose(self, *_arguments) -> None:
        self.setParameterNode(self.logic.getParameterNode())
        self._chooseDefaults()

    def _onNodeRemoved(self, *_arguments) -> None:
        """Follow the deletion of the parameter node itself (an undo, or another module)."""
        parameters = self.parameters
        if parameters is not None and parameters.parameterNode.GetScene() is None:
            isClosing = slicer.mrmlScene.IsClosing()
            self.setParameterNode(None if isClosing else self.logic.getParameterNode())

    def _disconnect(self) -> None:
        if self.parameters is not None:
            self.parameters.disconnectGui(self._guiTag)
            node = self.parameters.parameterNode
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
        self.parameters = self._guiTag = None


def show(label, text: str, isError: bool = False) -> None:
    """Show a line in a label, which is hidden while there is none."""
    label.text = text
    label.styleSheet = "color: #b00020" if isError else ""
    label.visible = bool(text)
