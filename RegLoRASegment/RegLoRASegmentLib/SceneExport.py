"""Scene -> job folder: the volume, the paint and the job, as files that the core reads.

Everything is written in steps of a few milliseconds to a few tenths of a second, so that the
application stays usable. The files lie in the volume's own coordinates: what transforms the volume
and the segmentation stand under is taken into account when the paint is put on the volume's grid.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from slicer.i18n import tr as _
from slicer.util import arrayFromVolume

from reglora_core.errors import InputError
from reglora_core.job import AdaptJob, Job, PredictJob, job_to_dict

from .AnnotatedSlices import AnnotatedSlices
from .Grid import BINARY_LABELMAP, Block, Grid, isLinearlyPlaced
from .Paint import SegmentPaint
from .Planes import onPlanes
from .Resources import VolumeSize
from .Slices import onSlices

IMAGE_FILE, LABELS_FILE, JOB_FILE = "image.nrrd", "labels.seg.nrrd", "job.json"
UNLABELLED = 65535
_LOOKED_AT = 64  # voxels along each axis
_BODY_HU, _BODY_SHARE = -400.0, 0.01  # as reglora_core.scan has them, which needs torch
_STEP_BYTES = 24 * 2**20
_NRRD_TYPES = {
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "float32": "float",
    "float64": "double",
}


def checkVolume(volumeNode) -> None:
    """Raise InputError if the volume cannot be segmented."""
    if volumeNode is None:
        raise InputError(_("No volume is chosen"), _("choose the scan to segment"))
    name = volumeNode.GetName()
    if volumeNode.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(_("{name} is a label map").format(name=name), _("choose the scan"))
    image = volumeNode.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        raise InputError(_("{name} holds no image").format(name=name), _("load a scan into it"))
    if image.GetNumberOfScalarComponents() != 1 or not volumeNode.IsA("vtkMRMLScalarVolumeNode"):
        problem = _("{name} has {count} values per voxel")
        count = image.GetNumberOfScalarComponents()
        hint = _("choose a volume with one: a CT, an MR, or one frame of a sequence")
        raise InputError(problem.format(name=name, count=count), hint)
    if min(image.GetDimensions()) < 2:
        raise InputError(_("{name} is a single slice").format(name=name), _("choose a volume"))
    if not isLinearlyPlaced(volumeNode):
        problem = _("{name} stands under a transform that bends space").format(name=name)
        raise InputError(problem, _("use its hardened copy (button Harden)"))


def sizeOf(volumeNode) -> VolumeSize:
    """Return the size of a volume with an image.

    Its body lies between the outermost planes that are not air, in which the core cuts it, too; they
    are looked for on some of the voxels.
    """
    voxels = arrayFromVolume(volumeNode)
    thin = [max(1, size // _LOOKED_AT) for size in voxels.shape]
    isDense = voxels[tuple(slice(None, None, step) for step in thin)] > _BODY_HU
    extents = []
    for axis, (step, mm) in enumerate(zip(thin, volumeNode.GetSpacing()[::-1], strict=True)):
        others = tuple(k for k in range(3) if k != axis)
        planes = np.flatnonzero(isDense.mean(axis=others) > _BODY_SHARE)
        count = (planes[-1] - planes[0] + 1) * step if len(planes) else voxels.shape[axis]
        extents.append(float(min(count, voxels.shape[axis]) * mm))
    return VolumeSize(voxels.size, tuple(extents))


def checkPlace(segmentationNode) -> None:
    """Raise InputError if there is no segmentation, or if it cannot be placed on a volume."""
    if segmentationNode is None:
        raise InputError(_("No segmentation is chosen"), _("choose one, or create it"))
    if not isLinearlyPlaced(segmentationNode):
        problem = _("{name} stands under a transform that bends space")
        raise InputError(problem.format(name=segmentationNode.GetName()), _("harden that transform"))


def checkSegmentation(segmentationNode) -> None:
    """Raise InputError if there can be no paint in the segmentation."""
    checkPlace(segmentationNode)
    name = segmentationNode.GetName()
    segmentation = segmentationNode.GetSegmentation()
    if segmentation.GetNumberOfSegments() == 0:
        problem = _("{name} has no segment").format(name=name)
        raise InputError(problem, _("add one per organ and paint it on a few slices"))
    if not segmentation.ContainsRepresentation(BINARY_LABELMAP):
        problem = _("{name} holds surfaces only").format(name=name)
        raise InputError(problem, _("create its binary labelmap in the module Segmentations"))


def checkPaint(slices: AnnotatedSlices, segmentIds: list[str] | None = None) -> list[SegmentPaint]:
    """Return the painted segments among those asked for; raise InputError if there are none."""
    painted = [paint for paint in slices.painted() if segmentIds is None or paint.segmentId in segmentIds]
    if not painted:
        problem = _("Nothing is painted on this volume")
        raise InputError(problem, _("paint at least one organ on a few slices"))
    names = [paint.name for paint in painted]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        problem = _("Two painted segments are called {name}").format(name=twice)
        raise InputError(problem, _("rename one of them"))
    return painted


def exportVolume(volumeNode, path: Path) -> Iterator[None]:
    """Write the volume as NRRD, in steps."""
    checkVolume(volumeNode)
    voxels = arrayFromVolume(volumeNode)  # keeps the voxels alive if the node is deleted meanwhile
    header = _header(voxels.dtype, voxels.shape, Grid.ofVolume(volumeNode, inWorld=False))
    return _writeRaw(path, voxels, header)


def exportPaint(volumeNode, slices, segmentIds: list[str], path: Path) -> Iterator[None]:
    """Write the paint of some segments as .seg.nrrd on the volume's grid, in steps."""
    grid = Grid.ofVolume(volumeNode, inWorld=False)
    paints = [paint for paint in slices.painted() if paint.segmentId in segmentIds]
    annotation = slices.annotation(segmentIds)
    terminology = {paint.segmentId: slices.terminologyOf(paint.segmentId) for paint in paints}
    return _writePaint(path, grid, paints, annotation, terminology)


def writeJob(job: Job, path: Path) -> None:
    """Write the job file; its paths are relative to its folder where they lie in it."""
    entries = job_to_dict(job)
    text = json.dumps(entries, indent=1, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")


def adaptJob(folder: Path, slices: AnnotatedSlices, segmentIds: list[str], **options) -> AdaptJob:
    """Return the job for what exportVolume and exportPaint write to `folder`."""
    annotation = slices.annotation(segmentIds)
    return AdaptJob(
        images=(folder / IMAGE_FILE,),
        labels=(folder / LABELS_FILE,),
        out=folder / "result",
        annotated=(annotation.annotated,),
        not_painted=(annotation.notPainted,) if annotation.notPainted else (),
        ignore_label=UNLABELLED if annotation.isScattered else None,
        **options,
    )


def predictJob(folder: Path, adapter: Path, **options) -> PredictJob:
    """Return the job that segments the volume in `folder` by an adapter."""
    out = folder / "result" / "segmentation_1.seg.nrrd"
    return PredictJob(adapter=adapter, image=folder / IMAGE_FILE, out=out, **options)


def _writePaint(path, grid, paints, annotation, terminology) -> Iterator[None]:
    layers: list[np.ndarray] = []
    places = []
    for number, paint in enumerate(paints, start=1):
        places.append(_paintOnFreeLayer(layers, paint, number, grid.shape))
        yield
    if annotation.isScattered:
        known = onSlices(grid.shape, annotation.slices)
        yield
        known |= onPlanes(Block(known, (0, 0, 0)), annotation.planes)
        for paint in paints:
            _forgetUnseen(known, paint, annotation)
            yield
        for layer in layers:
            known |= layer != 0
            yield
        layers[0][~known] = UNLABELLED
        yield
    header = _header(layers[0].dtype, grid.shape, grid, len(layers), encoding="gzip")
    header += _segmentHeader(paints, places, grid.shape, terminology)
    yield from _writeCompressed(path, layers, header)


def _forgetUnseen(known: np.ndarray, paint: SegmentPaint, annotation) -> None:
    """Leave out a result's own voxels where another organ was corrected: nobody has looked at them."""
    if paint.result is None:
        return
    first, part = paint.result.first, known[paint.result.place]
    slices = [place for place in annotation.slices if not paint.knows(place)]
    planes = [plane for plane in annotation.planes if not paint.knows(plane)]
    moved = [(axis, index - first[axis]) for axis, index in slices]
    part &= ~(paint.result.mask & (onSlices(part.shape, moved) | onPlanes(paint.result, planes)))


def _paintOnFreeLayer(layers, paint: SegmentPaint, value: int, shape) -> int:
    """Segments that overlap get layers of their own, as in Slicer; return the layer's number."""
    for number, layer in enumerate(layers):
        part = layer[paint.block.place]
        if not np.any(part[paint.block.mask]):
            part[paint.block.mask] = value
            return number
    layer = np.zeros(shape, np.uint16)
    layer[paint.block.place][paint.block.mask] = value
    layers.append(layer)
    return len(layers) - 1


def _header(dtype, shape, grid: Grid, layerCount: int = 1, encoding: str = "raw") -> list[str]:
    if dtype.name not in _NRRD_TYPES:
        raise InputError(_("Voxels of type {type} cannot be exported").format(type=dtype.name))
    if not grid.isOrthogonal():
        raise InputError(_("The volume's axes are not at right angles"), _("resample the volume"))
    toLps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ grid.toWorld
    axes = [_vector(toLps[:3, axis]) for axis in range(3)]
    sizes = [str(length) for length in shape[::-1]]
    kinds = ["domain"] * 3
    if layerCount > 1:
        axes, sizes, kinds = ["none", *axes], [str(layerCount), *sizes], ["list", *kinds]
    return [
        "NRRD0004",
        f"type: {_NRRD_TYPES[dtype.name]}",
        f"dimension: {len(sizes)}",
        "space: left-posterior-superior",
        f"sizes: {' '.join(sizes)}",
        f"space directions: {' '.join(axes)}",
        f"kinds: {' '.join(kinds)}",
        f"endian: {'big' if dtype.byteorder == '>' else 'little'}",
        f"encoding: {encoding}",
        f"space origin: {_vector(toLps[:3, 3])}",
    ]


def _segmentHeader(paints, places, shape, terminology) -> list[str]:
    extent = " ".join(f"0 {length - 1}" for length in shape[::-1])
    lines = [
        "Segmentation_ContainedRepresentationNames:=Binary labelmap|",
        "Segmentation_MasterRepresentation:=Binary labelmap",
        "Segmentation_SourceRepresentation:=Binary labelmap",
        "Segmentation_ReferenceImageExtentOffset:=0 0 0",
    ]
    for number, (paint, layer) in enumerate(zip(paints, places, strict=True)):
        tag = terminology[paint.segmentId]
        fields = {
            "ID": f"Segment_{number + 1}",
            "Name": " ".join(paint.name.split()).replace("\\", "\\\\"),
            "Color": " ".join(f"{channel:.6g}" for channel in paint.color),
            "LabelValue": number + 1,
            "Layer": layer,
            "Extent": extent,
            "Tags": f"TerminologyEntry:{tag}|" if tag else "|",
        }
        lines += [f"Segment{number}_{key}:={value}" for key, value in fields.items()]
    return lines


def _writeRaw(path: Path, voxels: np.ndarray, header: list[str]) -> Iterator[None]:
    step = _slicesPerStep(voxels[0].nbytes)
    with path.open("wb") as file:
        file.write(("\n".join(header) + "\n\n").encode("utf-8"))
        for start in range(0, len(voxels), step):
            file.write(np.ascontiguousarray(voxels[start : start + step]).data)
            yield


def _writeCompressed(path: Path, layers, header: list[str]) -> Iterator[None]:
    step = _slicesPerStep(layers[0][0].nbytes * len(layers))
    compressor = zlib.compressobj(level=1, wbits=31)  # gzip, quick
    with path.open("wb") as file:
        file.write(("\n".join(header) + "\n\n").encode("utf-8"))
        for start in range(0, len(layers[0]), step):
            parts = [layer[start : start + step] for layer in layers]
            voxels = np.stack(parts, axis=-1) if len(parts) > 1 else parts[0]
            file.write(compressor.compress(np.ascontiguousarray(voxels).data))
            yield
        file.write(compressor.flush())


def _slicesPerStep(sliceBytes: int) -> int:
    return max(1, _STEP_BYTES // max(1, sliceBytes))


def _vector(values) -> str:
    return "(" + ",".join(repr(float(value)) for value in values) + ")"
