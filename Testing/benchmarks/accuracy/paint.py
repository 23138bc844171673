"""What is painted: a reference on a few evenly spaced slices of one direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np  # noqa: TID253

from reglora_core.agreement import KeptSlices
from reglora_core.grids import AXIS_NAMES, Orientation
from reglora_core.sample import evenly_spaced
from reglora_core.volumes import LabelMap

if TYPE_CHECKING:
    import SimpleITK as sitk


@dataclass(frozen=True)
class Paint:
    """Some slices of a reference.

    Attributes:
        direction: axial, coronal or sagittal.
        axis: axis (z, y, x) of the image's own array that is nearest to it.
        slices: their indices along it; a slice without any organ is painted as background.
        labels: the organs that meet one of the slices, on those slices.
        shape: of the image's array.
    """

    direction: str
    axis: int
    slices: tuple[int, ...]
    labels: LabelMap
    shape: tuple[int, ...]

    @property
    def annotated(self) -> str:
        """The slices as `reglora adapt --annotated` takes them."""
        return f"{self.direction}:{','.join(map(str, self.slices))}"

    @property
    def kept_slices(self) -> KeptSlices:
        """The slices that are not painted: what is scored."""
        return KeptSlices.all_but(self.axis, self.slices, self.shape[self.axis])

    def slices_of_organs(self) -> dict[str, int]:
        """Return on how many of the slices each organ is seen."""
        others = tuple(axis for axis in range(3) if axis != self.axis)
        return {
            organ.name: int(self.labels.mask(index).any(axis=others).sum())
            for index, organ in enumerate(self.labels.organs)
        }


def paint(image: sitk.Image, reference: LabelMap, direction: str, count: int) -> Paint:
    """Paint `count` slices by the rule of `reglora_core.sample.evenly_spaced`.

    Raises:
        InputError: so many slices cannot be painted.
    """
    axis = array_axis(image, direction)
    along = np.moveaxis(reference.painted(), axis, 0)
    slices = tuple(sorted(set(evenly_spaced(along, count))))
    return Paint(direction, axis, slices, on_slices(reference, axis, slices), reference.shape)


def array_axis(image: sitk.Image, direction: str) -> int:
    """Return the array axis (z, y, x) whose slices are nearest to that direction."""
    return Orientation.of(image.GetDirection()).order[AXIS_NAMES.index(direction)]


def on_slices(reference: LabelMap, axis: int, slices: tuple[int, ...]) -> LabelMap:
    """Return the organs that meet some slices, on those slices alone."""
    kept = KeptSlices.all_but(axis, slices, reference.shape[axis])
    painted = KeptSlices(axis, ~kept.is_kept)
    organs, masks = [], []
    for index, organ in enumerate(reference.organs):
        mask = painted.of(reference.mask(index))
        if mask.any():
            organs.append(organ)
            masks.append(mask)
    return LabelMap.from_masks(organs, masks)
