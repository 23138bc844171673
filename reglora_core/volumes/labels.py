"""Reading labels: which organs were painted where, on the image's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.organs import MAX_LABEL_VALUE, Organ, organ
from reglora_core.volumes.files import check_geometry, read_file
from reglora_core.volumes.images import drop_single_time_point
from reglora_core.volumes.label_maps import LabelMap
from reglora_core.volumes.seg_nrrd import Segment, read_segments

MAX_ORGANS = 254
_SAME_PLACE = 0.01  # of a voxel: grids whose corners differ by less are one grid
_PAINT = "paint at least one slice of one segment"


def read_labels(
    path: Path,
    image: sitk.Image,
    names: Mapping[int, str] | None = None,
    ignore_label: int | None = None,
) -> LabelMap:
    """Read a label map or a .seg.nrrd segmentation onto the image's grid (nearest neighbour).

    Args:
        path: any file that SimpleITK reads; segments of a .seg.nrrd may overlap.
        image: the image that was painted on.
        names: names by label value, instead of those in the file. For a plain label map they
            must cover every value that occurs; without them value 3 is called "label_3".
        ignore_label: the value of voxels about which nothing is said.

    Returns:
        The organs that have voxels. Segments of different layers that share a label value are
        told apart: the first keeps it, the others get the lowest free ones.

    Raises:
        InputError: the file cannot be read, does not hold labels, lies beside the image, has
            fewer than two painted voxels, more than 254 organs or a value without a name.
    """
    labels = read_file(path)
    segments = read_segments(_header(labels), labels.GetNumberOfComponentsPerPixel())
    in_file = _layers(path.name, labels, segments)
    layers = [_on_grid_of(image, layer) for layer in in_file]
    _check_paint_is_kept(path.name, in_file, layers, image)
    ignored = _ignored(layers, ignore_label)
    if ignored is not None:
        layers = [np.where(layer == ignore_label, 0, layer).astype(np.uint16) for layer in layers]
    _check_paint(path.name, layers)
    found = _Found(path.name, names or {})
    if segments:
        found.add_segments(layers, segments)
    else:
        found.add_values(layers[0])
    return found.label_map(layers, ignored)


def _header(labels: sitk.Image) -> dict[str, str]:
    """Return the file's header fields; bytes that are no UTF-8 become question marks."""
    fields = {key: labels.GetMetaData(key) for key in labels.GetMetaDataKeys()}
    return {
        key: text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        for key, text in fields.items()
    }


def _layers(name: str, labels: sitk.Image, segments: Sequence[Segment]) -> list[sitk.Image]:
    """Return the file's layers as images of whole numbers."""
    components = labels.GetNumberOfComponentsPerPixel()
    if components > 1 and not segments:
        message = f"{name}: has {components} values per voxel"
        raise InputError(message, "give a label map with one value per voxel, or a .seg.nrrd")
    if components > 1:
        layers = [sitk.VectorIndexSelectionCast(labels, index) for index in range(components)]
    else:
        layers = [drop_single_time_point(name, labels)]
    check_geometry(name, layers[0])
    return [_whole_numbers(name, layer) for layer in layers]


def _whole_numbers(name: str, layer: sitk.Image) -> sitk.Image:
    if "complex" in layer.GetPixelIDTypeAsString():
        message = f"{name}: holds complex numbers"
        raise InputError(message, "give a label map with whole numbers from 0 up")
    values = sitk.GetArrayViewFromImage(layer)
    if np.issubdtype(values.dtype, np.floating):
        broken = values[values != np.floor(values)]  # NaN is not equal to itself
        if broken.size or not np.isfinite(values).all():
            shown = f"{broken[0]:g}" if broken.size else "infinity"
            message = f"{name}: holds the value {shown}, so it is not a label map"
            raise InputError(message, "give whole numbers from 0 up")
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > MAX_LABEL_VALUE:
        message = f"{name}: holds the label value {lowest if lowest < 0 else highest}"
        raise InputError(message, f"label values go from 0 to {MAX_LABEL_VALUE}; is this an image?")
    return sitk.Cast(layer, sitk.sitkUInt16)


def _on_grid_of(image: sitk.Image, layer: sitk.Image) -> NDArray[np.uint16]:
    if not _is_same_grid(image, layer):
        layer = sitk.Resample(layer, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    on_grid: NDArray[np.uint16] = sitk.GetArrayFromImage(layer)
    return on_grid


def _is_same_grid(image: sitk.Image, labels: sitk.Image) -> bool:
    if image.GetSize() != labels.GetSize():
        return False
    apart = np.abs(_corners(image) - _corners(labels)).max()
    return bool(apart <= _SAME_PLACE * min(image.GetSpacing()))


def _corners(image: sitk.Image) -> NDArray[np.float64]:
    """Return the centres of the eight corner voxels, (8, xyz) in mm."""
    last = [length - 1 for length in image.GetSize()]
    ends = [(i, j, k) for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])]
    return np.array([image.TransformIndexToPhysicalPoint(end) for end in ends])


def _check_paint_is_kept(
    name: str,
    in_file: Sequence[sitk.Image],
    layers: Sequence[NDArray[np.uint16]],
    image: sitk.Image,
) -> None:
    if any(layer.any() for layer in layers):
        return
    for labels in in_file:
        if sitk.GetArrayViewFromImage(labels).any():
            message = (
                f"{name}: does not lie on the image: painted at {_extent(_painted_part(labels))}, "
                f"the image covers {_extent(image)}"
            )
            raise InputError(message, "give the labels that were painted on this image")


def _painted_part(labels: sitk.Image) -> sitk.Image:
    values = sitk.GetArrayViewFromImage(labels)
    where = np.argwhere(values)[:, ::-1]
    first, last = where.min(axis=0), where.max(axis=0)
    size = [int(length) for length in last - first + 1]
    return sitk.RegionOfInterest(labels, size, [int(start) for start in first])


def _extent(image: sitk.Image) -> str:
    corners = _corners(image)
    lowest, highest = corners.min(axis=0), corners.max(axis=0)
    ranges = zip("xyz", lowest, highest, strict=True)
    return ", ".join(f"{axis} {low:.0f}..{high:.0f}" for axis, low, high in ranges) + " mm"


def _ignored(
    layers: Sequence[NDArray[np.uint16]], ignore_label: int | None
) -> NDArray[np.bool_] | None:
    if ignore_label is None:
        return None
    anywhere: NDArray[np.bool_] = np.any([layer == ignore_label for layer in layers], axis=0)
    return anywhere


def _check_paint(name: str, layers: Sequence[NDArray[np.uint16]]) -> None:
    painted = max(int(np.count_nonzero(layer)) for layer in layers)
    if painted == 0:
        message = f"{name}: label map has 0 labelled voxels"
        raise InputError(message, _PAINT)
    if painted == 1 and np.count_nonzero(np.maximum.reduce(list(layers))) == 1:
        message = f"{name}: label map has 1 labelled voxel"
        raise InputError(message, _PAINT)


class _Found:
    """The organs of one file, gathered one by one under values that are all different."""

    def __init__(self, file_name: str, names: Mapping[int, str]) -> None:
        self._file_name = file_name
        self._names = names
        self._organs: dict[int, Organ] = {}
        self._places: dict[int, tuple[int, int]] = {}  # by value: layer and value in the file

    def add_values(self, layer: NDArray[np.uint16]) -> None:
        """Take every value of a plain label map for an organ."""
        for value in _values_in(layer):
            if self._names and value not in self._names:
                self._raise_no_name(value)
            name = self._names.get(value, f"label_{value}")
            self._add(organ(value, name), 0, value)

    def add_segments(
        self, layers: Sequence[NDArray[np.uint16]], segments: Sequence[Segment]
    ) -> None:
        """Take every segment that has voxels for an organ."""
        unclaimed = {
            (place, value) for place, layer in enumerate(layers) for value in _values_in(layer)
        }
        taken = {segment.label_value for segment in segments}
        for segment in segments:
            here = (segment.layer, segment.label_value)
            if here in unclaimed:
                unclaimed.remove(here)
                value = self._free_value(segment.label_value, taken)
                self._add(self._organ_of(segment, value), *here)
        for _, value in sorted(unclaimed):
            self._raise_no_name(value)

    def label_map(
        self, layers: Sequence[NDArray[np.uint16]], ignored: NDArray[np.bool_] | None
    ) -> LabelMap:
        """Return the organs on layers that hold the organs' values."""
        if len(self._organs) > MAX_ORGANS:
            message = f"{self._file_name}: holds {len(self._organs)} labels"
            raise InputError(message, f"at most {MAX_ORGANS} are possible; keep the ones wanted")
        organs = tuple(self._organs[value] for value in sorted(self._organs))
        layer_of = tuple(self._places[item.value][0] for item in organs)
        return LabelMap(organs, tuple(self._renumbered(layers)), layer_of, ignored)

    def _renumbered(self, layers: Sequence[NDArray[np.uint16]]) -> list[NDArray[np.uint16]]:
        if all(value == place[1] for value, place in self._places.items()):
            return list(layers)
        tables = [np.zeros(MAX_LABEL_VALUE + 1, np.uint16) for _ in layers]
        for value, (layer, value_in_file) in self._places.items():
            tables[layer][value_in_file] = value
        return [table[layer] for table, layer in zip(tables, layers, strict=True)]

    def _organ_of(self, segment: Segment, value: int) -> Organ:
        if value in self._names:
            return organ(value, self._names[value])
        known = organ(value, segment.name or f"label_{value}")
        return replace(
            known,
            color=segment.color or known.color,
            terminology=segment.terminology or known.terminology,
        )

    def _free_value(self, wanted: int, taken: set[int]) -> int:
        if wanted not in self._organs:
            return wanted
        return next(value for value in count(1) if value not in taken and value not in self._organs)

    def _add(self, item: Organ, layer: int, value_in_file: int) -> None:
        self._organs[item.value] = item
        self._places[item.value] = (layer, value_in_file)

    def _raise_no_name(self, value: int) -> None:
        message = f"{self._file_name}: label value {value} has no name"
        raise InputError(message, f"add {value}=NAME to the names, or erase it")


def _values_in(layer: NDArray[np.uint16]) -> list[int]:
    """Return the values that occur, without 0, in order."""
    occurs = np.zeros(MAX_LABEL_VALUE + 1, np.bool_)
    for plane in layer:
        occurs[plane.ravel()] = True
    occurs[0] = False
    return [int(value) for value in np.flatnonzero(occurs)]
