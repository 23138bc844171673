"""Stand-in of qSlicerCoreIOManager over the real logics and storage nodes."""

from pathlib import Path

import slicer

_SUFFIXES = {
    "SegmentationFile": (".seg.nrrd", ".seg.nhdr", ".seg.vtm"),
    "SceneFile": (".mrml", ".mrb"),
    "ModelFile": (".vtk", ".vtp", ".stl", ".ply", ".obj"),
    "TableFile": (".csv", ".tsv"),
    "TextFile": (".txt", ".json"),
    "TransformFile": (".h5", ".tfm"),
    "SequenceFile": (".seq.nrrd", ".seq.nhdr", ".mha.seq"),
}
_NODES = {
    "SegmentationFile": ("vtkMRMLSegmentationNode", "vtkMRMLSegmentationStorageNode"),
    "TableFile": ("vtkMRMLTableNode", "vtkMRMLTableStorageNode"),
    "TextFile": ("vtkMRMLTextNode", "vtkMRMLTextStorageNode"),
    "TransformFile": ("vtkMRMLTransformNode", "vtkMRMLTransformStorageNode"),
    "SequenceFile": ("vtkMRMLSequenceNode", "vtkMRMLVolumeSequenceStorageNode"),
}
_COMPOUND = (".seg.nrrd", ".seg.nhdr", ".seg.vtm", ".seq.nrrd", ".seq.nhdr", ".nii.gz")


class CoreIOManager:
    """Loads and saves nodes by file type. Not modelled: file dialogs, user messages, DICOM."""

    def fileType(self, path):
        lower = str(path).lower()
        for file_type, suffixes in _SUFFIXES.items():
            if lower.endswith(suffixes):
                return file_type
        return "VolumeFile"

    def loadNodes(self, file_type, properties, loaded=None, _messages=None):
        path = Path(properties["fileName"])
        if not path.exists():
            return False
        if file_type == "SceneFile":
            return _load_scene(path, bool(properties.get("clear", True)))
        node = self._load(file_type, path, properties)
        if node is not None and loaded is not None:
            loaded.AddItem(node)
        return node is not None

    def saveNodes(self, file_type, properties, _messages=None):
        path = str(properties["fileName"])
        if file_type == "SceneFile":
            return _save_scene(path)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None and not node.AddDefaultStorageNode(path):
            return False
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(int(properties["useCompression"]))
        return bool(storage.WriteData(node))

    def fileWriterFileType(self, node, *_):
        return node.GetClassName()

    def _load(self, file_type, path, properties):
        name = properties.get("name") or _base_name(path)
        if file_type == "VolumeFile":
            return _load_volume(path, name, properties)
        if file_type == "ModelFile":
            return slicer.modules.models.logic().AddModel(str(path))
        if file_type in _NODES:
            return _load_node(*_NODES[file_type], path, name)
        message = f"the test host cannot load a {file_type}"
        raise NotImplementedError(message)


def _base_name(path):
    for suffix in _COMPOUND:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def _load_volume(path, name, properties):
    is_label_map = 1 if properties.get("labelmap") else 0
    is_single_file = 4 if properties.get("singleFile") else 0
    logic = slicer.modules.volumes.logic()
    node = logic.AddArchetypeVolume(str(path), name, is_label_map | is_single_file)
    if node is not None and properties.get("show", True):
        application_logic = slicer.app.applicationLogic()
        selection = application_logic.GetSelectionNode()
        if is_label_map:
            selection.SetActiveLabelVolumeID(node.GetID())
        else:
            selection.SetActiveVolumeID(node.GetID())
        application_logic.PropagateVolumeSelection()
    return node


def _load_node(node_class, storage_class, path, name):
    scene = slicer.mrmlScene
    node = scene.AddNewNodeByClass(node_class, name)
    storage = scene.AddNewNodeByClass(storage_class)
    storage.SetFileName(str(path))
    node.SetAndObserveStorageNodeID(storage.GetID())
    if not storage.ReadData(node):
        scene.RemoveNode(node)
        scene.RemoveNode(storage)
        return None
    if hasattr(node, "CreateDefaultDisplayNodes"):
        node.CreateDefaultDisplayNodes()
    return node


def _load_scene(path, clear):
    scene = slicer.mrmlScene
    if path.suffix.lower() == ".mrb":
        return bool(scene.ReadFromMRB(str(path), clear))
    scene.SetURL(str(path))
    return bool(scene.Connect() if clear else scene.Import())


def _save_scene(path):
    scene = slicer.mrmlScene
    if path.endswith(".mrb"):
        return bool(scene.WriteToMRB(path))
    scene.SetRootDirectory(str(Path(path).parent))
    return bool(scene.Commit(path))
