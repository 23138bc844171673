"""Reads the .seg.nrrd files of the core, in steps, into a segmentation node of ours.

Slicer's own reader takes some tenths of a second at a time for a large volume, and on some damaged
files it aborts the whole process; here a damaged file is an error with a message.
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _
from vtk.util.numpy_support import numpy_to_vtk

from reglora_core.errors import InputError

from .Grid import BINARY_LABELMAP, matrixOf

_STEP_BYTES = 4 * 2**20
_TYPES = {"unsigned char": "uint8", "uchar": "uint8", "ushort": "uint16", "unsigned short": "uint16"}
_TYPES |= {"uint8": "uint8", "uint16": "uint16", "short": "int16", "int16": "int16"}
_MAX_VOXELS = 2**34


@dataclass(frozen=True)
class StoredSegment:
    name: str
    layer: int
    labelValue: int
    color: tuple[float, ...]
    terminology: str


@dataclass
class SegmentationFile:
    """What a file holds: layers (k, j, i), the matrix from (i, j, k) to RAS, and the segments."""

    layers: list[np.ndarray]
    toRas: np.ndarray
    segments: list[StoredSegment]
    images: list = field(default_factory=list)

    def fill(self, node) -> None:
        """Put the segments into a node of ours; what it held before is removed."""
        segmentation = slicer.vtkSegmentation()
        segmentation.CopyConversionParameters(node.GetSegmentation())
        segmentation.SetSourceRepresentationName(BINARY_LABELMAP)
        images = [_labelmap(layer, self.toRas) for layer in self.layers]
        for number, stored in enumerate(self.segments, start=1):
            segment = slicer.vtkSegment()
            segment.SetName(stored.name)
            segment.SetColor(*stored.color)
            if stored.terminology:
                segment.SetTag(segment.GetTerminologyEntryTagName(), stored.terminology)
            segment.SetLabelValue(stored.labelValue)
            segment.AddRepresentation(BINARY_LABELMAP, images[stored.layer])
            segmentation.AddSegment(segment, f"Segment_{number}")
        exchangeSegmentation(node, segmentation)


def exchangeSegmentation(node, segmentation) -> None:
    """Give a node of ours other content.

    A vtkSegmentation that goes away erases its segments from the layer that they share, one by one,
    which takes seconds for a large volume; so their voxels are taken from it before.
    """
    before = node.GetSegmentation()
    node.SetAndObserveSegmentation(segmentation)
    for index in range(before.GetNumberOfSegments()):
        before.GetNthSegment(index).RemoveAllRepresentations()


def readSteps(path: Path) -> Generator[None, None, SegmentationFile]:
    """Read a file in steps of a few ten milliseconds.

    Raises:
        InputError: the file is missing, damaged, or no segmentation.
    """
    path = Path(path)
    try:
        return (yield from _readSteps(path))
    except (OSError, ValueError, KeyError, IndexError, zlib.error) as error:
        problem = _("{name} cannot be read as a segmentation").format(name=path.name)
        raise InputError(problem, f"{type(error).__name__}: {error}") from error


def _readSteps(path: Path) -> Generator[None, None, SegmentationFile]:
    with path.open("rb") as file:
        fields, keys = _readHeader(file)
        sizes = [int(size) for size in fields["sizes"].split()]
        dtype = np.dtype(_TYPES[fields["type"]])
        if fields.get("endian") == "big":
            dtype = dtype.newbyteorder(">")
        if not 0 < math.prod(sizes) < _MAX_VOXELS or len(sizes) not in (3, 4):
            message = f"sizes {sizes}"
            raise ValueError(message)
        buffer = np.empty(math.prod(sizes) * dtype.itemsize, np.uint8)
        yield from _fillBuffer(file, buffer, fields["encoding"])
    voxels = buffer.view(dtype)
    layers = []
    layerCount = sizes[0] if len(sizes) == 4 else 1
    for number in range(layerCount):
        layers.append(np.ascontiguousarray(voxels[number::layerCount]).reshape(sizes[-1:-4:-1]))
        yield
    segments = _segments(keys, layerCount)
    if any(not 0 <= segment.layer < layerCount for segment in segments):
        message = "a segment is on a layer that is not there"
        raise ValueError(message)
    return SegmentationFile(layers, _toRas(fields), segments)


def _readHeader(file) -> tuple[dict[str, str], dict[str, str]]:
    if not file.readline(64).startswith(b"NRRD000"):
        message = "not an NRRD file"
        raise ValueError(message)
    fields, keys = {}, {}
    while line := file.readline(2**20).decode("utf-8", "replace").rstrip("\r\n"):
        name, separator, value = line.partition(":=")
        if separator:
            keys[name] = value.replace("\\n", "\n").replace("\\\\", "\\")
        elif not line.startswith("#"):
            name, _separator, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()
    return fields, keys


def _fillBuffer(file, buffer: np.ndarray, encoding: str) -> Generator[None, None, None]:
    target = memoryview(buffer)
    if encoding == "raw":
        if file.readinto(target) != len(target):
            message = "it ends too early"
            raise ValueError(message)
        return
    if encoding not in ("gzip", "gz"):
        message = f"encoding {encoding}"
        raise ValueError(message)
    decompressor = zlib.decompressobj(wbits=31)
    done, packed = 0, b""
    while done < len(target) or not decompressor.eof:
        packed = decompressor.unconsumed_tail or file.read(2**18)
        if not packed and not decompressor.eof:
            message = "it ends too early"
            raise ValueError(message)
        part = decompressor.decompress(packed, _STEP_BYTES)
        if decompressor.eof and done + len(part) != len(target):
            message = "it does not have as many voxels as its header says"
            raise ValueError(message)
        target[done : done + len(part)] = part
        done += len(part)
        yield


def _toRas(fields: dict[str, str]) -> np.ndarray:
    if fields["space"] not in ("left-posterior-superior", "LPS"):
        message = f"space {fields['space']}"
        raise ValueError(message)
    axes = [_vector(text) for text in fields["space directions"].split() if text != "none"]
    toLps = np.eye(4)
    toLps[:3, :3] = np.array(axes).T
    toLps[:3, 3] = _vector(fields["space origin"])
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ toLps


def _vector(text: str) -> list[float]:
    return [float(part) for part in text.strip("()").split(",")]


def _segments(keys: dict[str, str], layerCount: int) -> list[StoredSegment]:
    segments = []
    for number in itertools.count():
        prefix = f"Segment{number}_"
        if f"{prefix}ID" not in keys:
            return segments
        color = tuple(float(part) for part in keys.get(f"{prefix}Color", "0.5 0.5 0.5").split())
        tags = dict(tag.split(":", 1) for tag in keys.get(f"{prefix}Tags", "").split("|") if ":" in tag)
        segments.append(
            StoredSegment(
                keys.get(f"{prefix}Name", keys[f"{prefix}ID"]),
                int(keys.get(f"{prefix}Layer", number if layerCount > 1 else 0)),
                int(keys.get(f"{prefix}LabelValue", 1)),
                color if len(color) == 3 else (0.5, 0.5, 0.5),
                tags.get("TerminologyEntry", ""),
            )
        )
    return segments


def _labelmap(layer: np.ndarray, toRas: np.ndarray):
    image = slicer.vtkOrientedImageData()
    image.SetExtent([0, layer.shape[2] - 1, 0, layer.shape[1] - 1, 0, layer.shape[0] - 1])
    native = layer.astype(layer.dtype.newbyteorder("="), copy=False)
    scalars = numpy_to_vtk(native.ravel(), deep=False)  # the VTK array keeps the voxels alive
    image.GetPointData().SetScalars(scalars)
    image.SetGeometryFromImageToWorldMatrix(matrixOf(toRas))
    return image
