"""A small scripted module for the tests of the test host: it uses each part once."""

import sys
from typing import Annotated

import qt
import slicer
import vtk
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin


class ExamplePanel(ScriptedLoadableModule):
    def __init__(self, parent):
        super().__init__(parent)
        parent.title = _("Example panel")
        parent.categories = ["Testing"]


@parameterNodeWrapper
class ExamplePanelParameterNode:
    volume: slicer.vtkMRMLScalarVolumeNode
    segmentation: slicer.vtkMRMLSegmentationNode
    steps: Annotated[int, WithinRange(1, 100)] = 5
    opacity: Annotated[float, WithinRange(0, 1)] = 0.5
    isPreviewShown: bool = True


class ExamplePanelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.parameterNode = None
        self.guiTag = None

    def setup(self):
        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/ExamplePanel.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = ExamplePanelLogic()
        self.logic.onLine = self.onLine
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.ui.runButton.connect("clicked(bool)", self.onRun)
        self.setParameterNode(self.logic.getParameterNode())

    def enter(self):
        self.ui.segmentEditor.setupViewObservations()

    def exit(self):
        self.ui.segmentEditor.setActiveEffectByName("")
        self.ui.segmentEditor.removeViewObservations()

    def cleanup(self):
        self.setParameterNode(None)
        self.removeObservers()

    def onSceneStartClose(self, caller, event):
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        modified = vtk.vtkCommand.ModifiedEvent
        if self.parameterNode is not None:
            self.parameterNode.disconnectGui(self.guiTag)
            self.removeObserver(self.parameterNode.parameterNode, modified, self.updateButtons)
        self.parameterNode = parameterNode
        if parameterNode is None:
            return
        editorNode = slicer.mrmlScene.GetSingletonNode("ExamplePanel", "vtkMRMLSegmentEditorNode")
        if editorNode is None:
            editorNode = slicer.vtkMRMLSegmentEditorNode()
            editorNode.SetSingletonTag("ExamplePanel")
            editorNode = slicer.mrmlScene.AddNode(editorNode)
        self.ui.segmentEditor.setMRMLSegmentEditorNode(editorNode)
        self.guiTag = parameterNode.connectGui(self.ui)
        self.addObserver(parameterNode.parameterNode, modified, self.updateButtons)
        self.updateButtons()

    def updateButtons(self, caller=None, event=None):
        self.ui.runButton.enabled = self.parameterNode.volume is not None

    def onRun(self):
        self.ui.progressBar.value = 0
        self.logic.run(self.parameterNode.steps)

    def onLine(self, line):
        self.ui.statusLabel.text = line
        self.ui.progressBar.value = self.ui.progressBar.value + 1


class ExamplePanelLogic(ScriptedLoadableModuleLogic):
    def __init__(self):
        super().__init__()
        self.process = None
        self.exitCode = None
        self.onLine = lambda line: None

    def getParameterNode(self):
        return ExamplePanelParameterNode(super().getParameterNode())

    @property
    def isRunning(self):
        return self.process is not None

    def run(self, steps):
        """Count in another process; tell each line by onLine."""
        code = f"for i in range({steps}): print('step', i + 1, flush=True)"
        self.process = qt.QProcess()
        self.process.connect("readyReadStandardOutput()", self._onOutput)
        self.process.connect("finished(int,QProcess::ExitStatus)", self._onFinished)
        self.process.start(sys.executable, ["-c", code])

    def _onOutput(self):
        while self.process.canReadLine():
            self.onLine(self.process.readLine().data().decode().strip())

    def _onFinished(self, exitCode, exitStatus):
        self._onOutput()
        self.process, self.exitCode = None, exitCode


class ExamplePanelTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_default_parameters()

    def test_default_parameters(self):
        assert ExamplePanelLogic().getParameterNode().steps == 5
