"""Slices of a volume as a radiologist looks at them, whatever way the volume is stored.

The canonical array runs towards superior, posterior and left (see `reglora_core.grids`), so

    axial      rows from anterior to posterior, columns from the patient's right to the left
    coronal    rows from superior to inferior,  columns from right to left
    sagittal   rows from superior to inferior,  columns from anterior to posterior
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253
from scipy import ndimage  # noqa: TID253

from reglora_core.agreement import bounding_box
from reglora_core.grids import AXIS_NAMES, Orientation, canonical_array
from reglora_core.organs import Organ
from reglora_core.volumes import LabelMap

Array = NDArray[Any]
SOFT_TISSUE_HU = (-160.0, 240.0)  # level 40, width 400
AIR_HU = -150.0
MIN_AIR_SHARE = 0.02  # a scan with more of its voxels below AIR_HU is a CT
PERCENTILES = (1.0, 99.5)
_COARSE_MM = 3.0
_MARGIN_MM = 2.0
LEFT_AND_TOP = (("R", "A"), ("R", "S"), ("A", "S"))  # what is there, for each canonical axis


@dataclass(frozen=True)
class Anatomy:
    """An image in canonical orientation.

    Attributes:
        intensities: (z, y, x), towards superior, posterior and left.
        spacing_mm: likewise.
        orientation: how the image's own array became this one.
        window: intensities drawn black and white.
        own_directions: unit vectors of the canonical axes in the patient (LPS), one a row.
        origin: the patient's coordinates (LPS, mm) of the canonical array's first voxel.
    """

    intensities: Array
    spacing_mm: tuple[float, float, float]
    orientation: Orientation
    window: tuple[float, float]
    own_directions: Array
    origin: Array

    @classmethod
    def of(cls, image: sitk.Image) -> Anatomy:
        intensities, spacing_mm, orientation = canonical_array(image)
        columns = np.array(image.GetDirection()).reshape(3, 3).T[::-1]  # of native axes z, y, x
        signs = np.where(orientation.is_flipped, -1.0, 1.0)
        directions = columns[list(orientation.order)] * signs[:, None]
        first = [
            image.GetSize()[2 - axis] - 1 if is_flipped else 0
            for axis, is_flipped in zip(orientation.order, orientation.is_flipped, strict=True)
        ]
        index = [0, 0, 0]
        for axis, place in zip(orientation.order, first, strict=True):
            index[2 - axis] = place
        origin = np.array(image.TransformIndexToPhysicalPoint(index))
        window = choose_window(intensities)
        return cls(intensities, spacing_mm, orientation, window, directions, origin)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.intensities.shape

    def canonical_slice(self, axis: int, index: int) -> tuple[int, int]:
        """Return the canonical axis and index of a slice of the image's own array (z, y, x)."""
        place = self.orientation.order.index(axis)
        is_flipped = self.orientation.is_flipped[place]
        return place, self.shape[place] - 1 - index if is_flipped else index

    def own_slice(self, axis: int, index: int) -> int:
        """Return the image's own index of a canonical slice."""
        return self.shape[axis] - 1 - index if self.orientation.is_flipped[axis] else index

    def pixel_mm(self, axis: int) -> tuple[float, float]:
        """Return height and width in mm of a pixel of such a slice."""
        height, width = (mm for k, mm in enumerate(self.spacing_mm) if k != axis)
        return height, width

    def position(self, axis: int, index: int) -> str:
        """Return where a slice's centre is, as Slicer writes it: "S 12 mm"."""
        centre = [(n - 1) / 2 for n in self.shape]
        centre[axis] = index
        point = self.origin + (np.array(centre) * self.spacing_mm) @ self.own_directions
        along = float(point[2 - axis])
        letter = ("IS", "AP", "RL")[axis][int(along >= 0)]
        return f"{letter} {abs(along):.0f} mm"

    def title(self, axis: int, index: int) -> str:
        """Return a slice's name, its number in the file and its place in the patient."""
        return (
            f"{AXIS_NAMES[axis]}  ·  slice {self.own_slice(axis, index)}"
            f"  ·  {self.position(axis, index)}"
        )


def on_screen(array: Array, axis: int, index: int) -> Array:
    """Return a slice of a canonical array as it is drawn: first row on top."""
    picture: Array = np.moveaxis(array, axis, 0)[index]
    return picture if axis == 0 else picture[::-1]


def choose_window(intensities: Array) -> tuple[float, float]:
    """Return the intensities to draw black and white: soft tissue in CT, percentiles elsewhere."""
    sample = intensities[::2, ::4, ::4] if intensities.size > 1e6 else intensities
    if float((sample < AIR_HU).mean()) > MIN_AIR_SHARE:
        return SOFT_TISSUE_HU
    low, high = np.percentile(sample, PERCENTILES)
    return float(low), float(max(high, low + 1e-6))


@dataclass(frozen=True)
class Drawn:
    """One organ's mask in one slice."""

    organ: Organ
    mask: Array


def organs_in_slice(anatomy: Anatomy, label_map: LabelMap, axis: int, index: int) -> list[Drawn]:
    """Return the organs that a slice meets, the largest first, so that small ones lie on top."""
    layers = [
        on_screen(anatomy.orientation.canonical(layer), axis, index) for layer in label_map.layers
    ]
    drawn = [
        Drawn(organ, layers[layer] == organ.value)
        for organ, layer in zip(label_map.organs, label_map.layer_of, strict=True)
    ]
    present = [one for one in drawn if one.mask.any()]
    return sorted(present, key=lambda one: -int(one.mask.sum()))


def best_slices(
    anatomy: Anatomy, label_map: LabelMap, avoid: tuple[int, frozenset[int]] | None = None
) -> tuple[int, int, int]:
    """Return the axial, coronal and sagittal slices that show most organs well.

    An organ counts fully from half of its largest area on. Slices of the canonical axis and
    indices in `avoid` are taken only if nothing else is painted.
    """
    shown = [np.zeros(n) for n in anatomy.shape]
    values = np.array([organ.value for organ in label_map.organs])
    for layer in label_map.layers:
        canonical = anatomy.orientation.canonical(layer)
        painted = np.nonzero(canonical)
        numbers = np.searchsorted(values, canonical[painted])
        for axis, places in enumerate(painted):
            shown[axis] += _organs_shown(numbers, places, (len(values), anatomy.shape[axis]))
    if avoid is not None:
        axis, indices = avoid
        shown[axis][list(indices)] *= 1e-6
    axial, coronal, sagittal = (_middle_of_best(values) for values in shown)
    return axial, coronal, sagittal


def _organs_shown(numbers: Array, places: Array, shape: tuple[int, int]) -> Array:
    """Return how many organs each slice shows, from every voxel's organ and slice."""
    counts = np.bincount(numbers * shape[1] + places, minlength=shape[0] * shape[1])
    areas = counts.reshape(shape)
    largest = np.maximum(1, areas.max(axis=1, keepdims=True))
    shown: Array = np.minimum(1.0, 2.0 * areas / largest).sum(axis=0)
    return shown


def _middle_of_best(values: Array) -> int:
    best = np.flatnonzero(values >= values.max() - 1e-9)
    return int(best[len(best) // 2])


def body_box(anatomy: Anatomy) -> tuple[slice, slice, slice]:
    """Return the box around the body: the largest connected part that is brighter than black.

    It is found on a coarse grid after an erosion, which frees the body from table and blankets.
    """
    steps = [max(1, round(_COARSE_MM / mm)) for mm in anatomy.spacing_mm]
    coarse = anatomy.intensities[tuple(slice(None, None, step) for step in steps)]
    is_bright = coarse > anatomy.window[0]
    parts, count = ndimage.label(
        ndimage.binary_erosion(is_bright) if is_bright.any() else is_bright
    )
    if count == 0:
        first, second, third = (slice(0, n) for n in anatomy.shape)
        return first, second, third
    largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    found = bounding_box(parts == largest)
    assert found is not None
    margins = [
        step + max(1, round(_MARGIN_MM / mm))
        for step, mm in zip(steps, anatomy.spacing_mm, strict=True)
    ]
    first, second, third = (
        slice(max(0, side.start * step - margin), min(n, (side.stop - 1) * step + margin + 1))
        for side, step, margin, n in zip(found, steps, margins, anatomy.shape, strict=True)
    )
    return first, second, third
