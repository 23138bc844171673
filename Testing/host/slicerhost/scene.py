"""The real MRML scene and logics of slicer-core, put together as qSlicerCoreApplication does.

No Qt in this file. Not modelled: command line modules, the cache manager's settings, the colour
tables and terminologies that come with Slicer (a few are in share/).
"""

import tempfile
import types
from pathlib import Path

import slicer
import vtk

SHARE = Path(__file__).parent.parent / "share"

# Module name -> logic class; Colors first, the other logics look for it.
LOGICS = {
    "Colors": "vtkSlicerColorLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Volumes": "vtkSlicerVolumesLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Models": "vtkSlicerModelsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Cameras": "vtkSlicerCamerasModuleLogic",
    "ViewControllers": "vtkSlicerViewControllersLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
}


class CoreModule:
    """A module with a C++ logic, as `slicer.modules.volumes`.

    Stands for qSlicerAbstractCoreModule; it has no widget.
    """

    def __init__(self, name, logic):
        self.name = self.title = name
        self._logic = logic

    def logic(self):
        return self._logic


class MrmlApplication:
    """The scene, the application logic and the logics of the core modules."""

    def __init__(self):
        self._temporary = tempfile.TemporaryDirectory(prefix="slicerhost-")
        self.temporary_path = self._temporary.name
        self.modules: dict[str, CoreModule] = {}
        scene = slicer.mrmlScene = slicer.vtkMRMLScene()
        self.logic = self._application_logic(scene)
        self._connect_data_io(scene)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene, True)
        for name, class_name in LOGICS.items():
            self.modules[name] = self._module(name, class_name)
        self.modules["Colors"].logic().AddDefaultColorNodes()
        _publish(self.modules)
        _fill_subject_hierarchy(scene)

    def _application_logic(self, scene):
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        scene.AddNode(crosshair)
        logic = slicer.vtkSlicerApplicationLogic()
        logic.SetMRMLScene(scene)
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.SetViewLogics(vtk.vtkCollection())
        logic.SetTemporaryPath(self.temporary_path)
        logic.SetHomeDirectory(str(SHARE.parent))  # colour tables: <home>/<share>/ColorFiles
        logic.SetShareDirectory(SHARE.name)
        return logic

    def _connect_data_io(self, scene):
        """Give the scene what vtkMRMLScene.ReadFromMRB needs."""
        self._remote_io = slicer.vtkMRMLRemoteIOLogic()
        self._data_io = slicer.vtkDataIOManagerLogic()
        self._remote_io.SetMRMLScene(scene)
        self._data_io.SetMRMLApplicationLogic(self.logic)
        self._data_io.SetAndObserveDataIOManager(self._remote_io.GetDataIOManager())
        cache = Path(self.temporary_path) / "RemoteIO"
        cache.mkdir()
        cache_manager = self._remote_io.GetDataIOManager().GetCacheManager()
        cache_manager.SetRemoteCacheDirectory(str(cache))
        self.logic.SetMRMLSceneDataIO(scene, self._remote_io, self._data_io)

    def _module(self, name, class_name):
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetModuleShareDirectory"):
            logic.SetModuleShareDirectory(str(SHARE / name))
        logic.SetMRMLApplicationLogic(self.logic)
        logic.SetMRMLScene(slicer.mrmlScene)
        self.logic.SetModuleLogic(name, logic)
        return CoreModule(name, logic)


def _publish(modules):
    """Make slicer.modules and slicer.moduleNames, by which scripts find the modules."""
    slicer.modules = types.SimpleNamespace()
    slicer.moduleNames = types.SimpleNamespace()
    for name, module in modules.items():
        setattr(slicer.modules, name.lower(), module)
        setattr(slicer.moduleNames, name, name)


def _fill_subject_hierarchy(scene):
    """Keep one item for each data node.

    Slicer's Qt plugins do so; folders and parents, which they make too, are not modelled.
    """
    find = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_node_added(scene, _event, node):
        if (
            node is not None
            and node.IsA("vtkMRMLDisplayableNode")
            and not node.GetHideFromEditors()
        ):
            hierarchy = find(scene)
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_node_about_to_be_removed(scene, _event, node):
        is_closing = scene.IsClosing() or scene.IsBatchProcessing()
        if node is not None and node.IsA("vtkMRMLDisplayableNode") and not is_closing:
            hierarchy = find(scene)
            item = hierarchy.GetItemByDataNode(node)
            if item:
                hierarchy.RemoveItem(item, False, False)

    find(scene)
    scene.AddObserver(scene.NodeAddedEvent, on_node_added)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, on_node_about_to_be_removed)
