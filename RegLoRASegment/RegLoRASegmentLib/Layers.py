"""The layers of a segmentation: the label maps that its segments share.

The segment editor's undo state is a copy of every layer, as large as the layer is and not as what it
holds: ten layers of 512x512x300 voxels are 0.8 GB, and up to seconds. `TightLayers` lets it copy the
boxes that hold something.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator

import numpy as np
import slicer
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .Grid import BINARY_LABELMAP, usedPlace

_WORTHWHILE = 0.8  # of a layer's voxels: a cut copy with more of them saves nothing


class TightLayers:
    """Copies of the layers, cut to what they hold.

    A state that is saved inPlace() brings back every voxel, with less around it.
    """

    def __init__(self, segmentationNode) -> None:
        self._node = segmentationNode
        self._segmentation = segmentationNode.GetSegmentation()
        self._cut: dict[object, tuple[int, object]] = {}  # by layer: its time, its copy

    def cutSteps(self) -> Generator[None, None, None]:
        """Make the copies, a layer at a time."""
        for image in {image: None for _segment, image in self._layers()}:
            copy = _cut(image)
            if copy is not None:
                self._cut[image] = (image.GetMTime(), copy)
            yield

    @contextlib.contextmanager
    def inPlace(self) -> Iterator[None]:
        """Let the segments lie on the copies; afterwards they lie on the very same layers again.

        Layers that have changed since they were copied stay where they are.
        """
        moved = []
        wasModifying = self._node.StartModify()
        try:
            for segment, image in self._layers():
                time, copy = self._cut.get(image, (None, None))
                if time == image.GetMTime():
                    segment.AddRepresentation(BINARY_LABELMAP, copy)
                    moved.append((segment, image))
            yield
        finally:
            for segment, image in moved:
                segment.AddRepresentation(BINARY_LABELMAP, image)
            self._node.EndModify(wasModifying)

    def _layers(self) -> list[tuple]:
        """Return the segments with voxels, each with its layer."""
        segments = [self._segmentation.GetSegment(name) for name in self._segmentation.GetSegmentIDs()]
        pairs = [(segment, segment.GetRepresentation(BINARY_LABELMAP)) for segment in segments]
        return [(segment, image) for segment, image in pairs if hasVoxels(image)]


def hasVoxels(image) -> bool:
    return image is not None and not image.IsEmpty() and image.GetPointData().GetScalars() is not None


def layerArray(image) -> np.ndarray:
    """Return the voxels (k, j, i) of a layer, not a copy."""
    shape = image.GetDimensions()[::-1]
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)


def leaveLayer(segmentation, segmentId: str) -> None:
    """Erase a segment from the layer that it shares with others; their voxels stay as they are.

    vtkSegmentation.SeparateSegmentLabelmap does the same by several passes through the whole layer.
    The segment is to be given voxels of its own right after.
    """
    segment = segmentation.GetSegment(segmentId)
    image = segment.GetRepresentation(BINARY_LABELMAP)
    if not hasVoxels(image):
        return
    labels = layerArray(image)
    place = usedPlace(labels, segment.GetLabelValue())
    if place is not None:
        part = labels[place]
        part[part == segment.GetLabelValue()] = 0
        # the scalars, not the image: the others' surfaces are still right
        image.GetPointData().GetScalars().Modified()


def shareLayerSteps(segmentationNode, segmentIds: list[str]) -> Generator[None, None, None]:
    """Put segments, each alone on a layer of one lattice, together on a new one, a segment at a time.

    A view resamples every layer that it shows, so that ten of them take about ten times as long. A
    segment that overlaps one before it stays where it is, as one without voxels does; and so do all of
    them if they change meanwhile.
    """
    segmentation = segmentationNode.GetSegmentation()
    segments = {name: segmentation.GetSegment(name) for name in segmentIds}
    images = {
        name: segment.GetRepresentation(BINARY_LABELMAP)
        for name, segment in segments.items()
        if segment is not None
    }
    if len(images) < 2:
        return
    before = [(image, image.GetMTime()) for image in images.values()]
    labels, low, values = yield from _unitedSteps(images)
    now = [segments[name].GetRepresentation(BINARY_LABELMAP) for name in images]
    if len(values) < 2 or [(image, image.GetMTime()) for image in now] != before:
        return
    layer = _like(images[next(iter(values))], labels, low)
    wasModifying = segmentationNode.StartModify()
    for name, value in values.items():
        segments[name].SetLabelValue(value)
        segments[name].AddRepresentation(BINARY_LABELMAP, layer)
    segmentationNode.EndModify(wasModifying)


def _unitedSteps(images: dict[str, object]) -> Generator[None, None, tuple]:
    """Return the voxels (k, j, i) of several layers, the first one's place, and the value of each layer.

    A layer that overlaps one before it has no value.
    """
    extents = np.array([image.GetExtent() for image in images.values()]).reshape(-1, 3, 2)[:, ::-1]
    low, high = extents[..., 0].min(axis=0), extents[..., 1].max(axis=0)
    labels = np.zeros(high - low + 1, np.uint8 if len(images) < 256 else np.uint16)
    values: dict[str, int] = {}
    for (name, image), extent in zip(images.items(), extents, strict=True):
        mask = layerArray(image) != 0
        part = labels[tuple(slice(start, end + 1) for start, end in extent - low[:, None])]
        if mask.any() and not part.any(where=mask):
            values[name] = len(values) + 1
            np.copyto(part, values[name], where=mask, casting="unsafe")
        yield
    return labels, low, values


def _cut(image):
    """Return a copy of a layer with nothing but what it holds; None if that is hardly smaller."""
    labels = layerArray(image)
    place = usedPlace(labels) or (slice(0, 1),) * 3
    part = labels[place]
    if part.size > _WORTHWHILE * labels.size:
        return None
    low = [start + used.start for start, used in zip(image.GetExtent()[::2][::-1], place, strict=True)]
    return _like(image, part, low)


def _like(image, labels: np.ndarray, low):
    """Return an image on the same lattice, with other voxels (k, j, i), of which `low` is the first."""
    scalars = image.GetPointData().GetScalars()
    isSame = labels.dtype == vtk_to_numpy(scalars).dtype
    kind = scalars.GetDataType() if isSame else None  # char and signed char are one in numpy
    voxels = numpy_to_vtk(np.ascontiguousarray(labels).ravel(), deep=True, array_type=kind)
    voxels.SetName(scalars.GetName())
    copy = slicer.vtkOrientedImageData()
    copy.ShallowCopy(image)  # the geometry to the last bit
    bounds = zip(low[::-1], labels.shape[::-1], strict=True)
    copy.SetExtent([int(end) for first, size in bounds for end in (first, first + size - 1)])
    copy.GetPointData().SetScalars(voxels)
    return copy
