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


def _cut(image):
    """Return a copy of a layer with nothing but what it holds; None if that is hardly smaller."""
    labels = layerArray(image)
    place = usedPlace(labels) or (slice(0, 1),) * 3
    part = labels[place]
    if part.size > _WORTHWHILE * labels.size:
        return None
    scalars = image.GetPointData().GetScalars()
    voxels = numpy_to_vtk(np.ascontiguousarray(part).ravel(), deep=True, array_type=scalars.GetDataType())
    voxels.SetName(scalars.GetName())
    copy = slicer.vtkOrientedImageData()
    copy.ShallowCopy(image)  # the geometry to the last bit
    first = image.GetExtent()[::2]
    ends = zip(first, place[::-1], strict=True)
    copy.SetExtent([value for low, used in ends for value in (low + used.start, low + used.stop - 1)])
    copy.GetPointData().SetScalars(voxels)
    return copy
