"""What a run needs from the scene, checked before anything is started."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from reglora_core.errors import InputError, OutputError
from reglora_core.forecast import Setting, adapt_setting

from . import SceneExport
from .AdapterFile import describeAdapter
from .AnnotatedSlices import AnnotatedSlices
from .Grid import arrayOf, matrixOf
from .Paint import segmentTimes
from .Resources import checkDisk, checkMemory, neededMemory, threadCount
from .Run import Plan

_FOLLOWS_COSINE = 0.9999  # of less than one degree
_NOT_SETTINGS = ("threads", "device", "from_adapter", "correct")


def planAdapt(slices, volumeNode, segmentationNode, folder: Path, segmentIds, options: dict) -> Plan:
    """Return the plan of an adaptation; raise RegLoRAError if it cannot work."""
    SceneExport.checkVolume(volumeNode)
    SceneExport.checkSegmentation(segmentationNode)
    _checkDisk(volumeNode, folder)
    slices = slices.snapshot() if slices is not None else AnnotatedSlices(volumeNode, segmentationNode)
    used = [paint.segmentId for paint in SceneExport.checkPaint(slices, segmentIds)]
    options = {"threads": threadCount(), **options}
    job = SceneExport.adaptJob(folder, slices, used, **options)
    size = SceneExport.sizeOf(volumeNode)
    checkMemory(neededMemory(job.model, size, adapt_setting(job.method, len(used)), job.device))

    def export() -> Generator[None, None, None]:
        yield from SceneExport.exportVolume(volumeNode, folder / SceneExport.IMAGE_FILE)
        labels = folder / SceneExport.LABELS_FILE
        yield from SceneExport.exportPaint(volumeNode, slices, used, labels)
        SceneExport.writeJob(job, folder / SceneExport.JOB_FILE)

    result = folder / "result" / "segmentation_1.seg.nrrd"
    settings = {name: value for name, value in options.items() if name not in _NOT_SETTINGS}
    paint = paintState(segmentationNode)
    return Plan("adapt", volumeNode, segmentationNode, folder, export(), result, used, settings, paint)


def paintState(segmentationNode) -> tuple:
    """Return what changes whenever a segment, its voxels or what is said of its slices change."""
    segmentation = segmentationNode.GetSegmentation()
    return tuple(
        (name, segmentTimes(segmentation.GetSegment(name))) for name in segmentation.GetSegmentIDs()
    )


def canCorrect(run, volumeNode, segmentationNode, settings: dict) -> bool:
    """Tell whether a run's adapter is what a correction round starts from.

    That is where it has a result for this volume and segmentation, was asked to learn in the same way,
    and something was painted since.
    """
    plan = run.plan
    isSame = plan.command == "adapt" and plan.volumeNode is volumeNode
    isSame = isSame and plan.segmentationNode is segmentationNode and run.hasResult
    if not isSame or run.adapterPath is None:
        return False
    asked = {name: value for name, value in settings.items() if name not in _NOT_SETTINGS}
    return plan.settings == asked and plan.paint != paintState(segmentationNode)


def planPredict(volumeNode, folder: Path, adapterPath: Path, options: dict) -> Plan:
    """Return the plan of a prediction by an adapter; raise RegLoRAError if it cannot work."""
    SceneExport.checkVolume(volumeNode)
    _checkDisk(volumeNode, folder)
    job = SceneExport.predictJob(folder, adapterPath.resolve(), **{"threads": threadCount(), **options})
    adapter = describeAdapter(adapterPath)
    hasClasses = bool(adapter.metadata.get("known_classes"))
    setting = Setting("predict", organs=len(adapter.organs), has_classes=hasClasses)
    size = SceneExport.sizeOf(volumeNode)
    checkMemory(neededMemory(job.model or adapter.baseModel, size, setting, job.device))

    def export() -> Generator[None, None, None]:
        (folder / "result").mkdir(exist_ok=True)
        yield from SceneExport.exportVolume(volumeNode, folder / SceneExport.IMAGE_FILE)
        SceneExport.writeJob(job, folder / SceneExport.JOB_FILE)

    return Plan("predict", volumeNode, None, folder, export(), job.out)


def volumesOf(target) -> list:
    """Return the volumes of a volume node, a list of nodes, or a sequence node."""
    if isinstance(target, list | tuple):
        volumes = list(target)
    elif target is not None and target.IsA("vtkMRMLSequenceNode"):
        volumes = [target.GetNthDataNode(index) for index in range(target.GetNumberOfDataNodes())]
    else:
        volumes = [target]
    if not volumes:
        raise InputError(_("There is no volume to segment"), _("choose one or more"))
    for volume in volumes:
        SceneExport.checkVolume(volume)
    return volumes


def makeJobFolder(place: str, makeTemporary=tempfile.mkdtemp) -> Path:
    """Return a new, private folder; its name is short, for Windows' sake."""
    try:
        Path(place).mkdir(parents=True, exist_ok=True)
        return Path(makeTemporary(prefix="rls-", dir=place))
    except OSError as error:
        problem = _("{folder} cannot be written ({why})").format(folder=place, why=error.strerror)
        raise OutputError(problem, _("choose another temporary folder")) from error


def newSegmentation(volumeNode):
    """Return a new segmentation for a volume, placed as it is."""
    name = _("{volume} segmentation").format(volume=volumeNode.GetName())
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    if volumeNode.GetScene() is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(volumeNode)
    node.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    return node


def turnViewsTo(grid) -> None:
    """Turn the slice views that do not follow the volume's slices, so that these can be painted."""
    axes = grid.toWorld[:3, :3] / np.linalg.norm(grid.toWorld[:3, :3], axis=0)
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        toRas = arrayOf(node.GetSliceToRAS())
        normal = toRas[:3, 2] / np.linalg.norm(toRas[:3, 2])
        if np.abs(normal @ axes).max() < _FOLLOWS_COSINE:
            node.RotateToAxes(matrixOf(grid.toWorld))


def turnViewTo(plane, grid) -> None:
    """Turn the slice view that is nearest to an oblique plane into it."""
    center = (np.array(plane.low) + plane.high) / 2
    toMm = grid.arrayToMm
    normal = np.linalg.solve(toMm.T, plane.steps)
    normal /= np.linalg.norm(normal)
    position = toMm @ center + grid.toWorld[:3, 3]
    position += normal * (plane.offset - center @ plane.steps)
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceNode")
    matrices = [arrayOf(node.GetSliceToRAS())[:3, :3] for node in nodes]
    if not nodes:
        return
    nearest = int(np.argmax([abs(matrix[:, 2] @ normal) for matrix in matrices]))
    across = matrices[nearest][:, 0] - (matrices[nearest][:, 0] @ normal) * normal
    if matrices[nearest][:, 2] @ normal < 0:
        normal = -normal
    nodes[nearest].SetSliceToRASByNTP(*normal, *across, *position, 0)


def hardenedCopy(volumeNode):
    """Return a copy of a volume that stands where its transforms put it."""
    name = _("{volume} hardened").format(volume=volumeNode.GetName())
    copy = slicer.modules.volumes.logic().CloneVolume(slicer.mrmlScene, volumeNode, name)
    copy.SetAndObserveTransformNodeID(volumeNode.GetTransformNodeID())
    copy.HardenTransform()
    return copy


def _checkDisk(volumeNode, folder: Path) -> None:
    image = volumeNode.GetImageData()
    checkDisk(image.GetNumberOfPoints(), image.GetScalarSize(), folder)
