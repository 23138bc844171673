"""What the user painted: which voxels are known, for which organ.

A slice that counts as annotated is known completely: what is not painted there is background.
All other voxels are unlabelled and never enter a loss. Organs that may overlap are kept on
separate layers; the organs of one layer exclude each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.grids import AXIS_NAMES, Orientation, Shape
from reglora_core.job import Annotated
from reglora_core.organs import Organ

if TYPE_CHECKING:
    from reglora_core.volumes import LabelMap

UNLABELLED = -1


@dataclass(frozen=True)
class Annotation:
    """The annotated slices of one scan, in canonical orientation.

    Attributes:
        organs: in the order of the label values.
        shape: of the canonical image (z, y, x).
        axis: canonical axis that the slices are perpendicular to.
        slices: canonical indices of the annotated slices, ascending.
        layers: per layer int16 (slices, *in-plane): 0 background, k + 1 for organ k, -1 unlabelled.
        layer_of: the layer of each organ.
        is_known: bool (organs, slices); False where an organ was not painted yet.
    """

    organs: tuple[Organ, ...]
    shape: Shape
    axis: int
    slices: tuple[int, ...]
    layers: tuple[torch.Tensor, ...]
    layer_of: tuple[int, ...]
    is_known: torch.Tensor

    def on_slices(self, chosen: Sequence[int]) -> Annotation:
        """Return the annotation reduced to some of its slices, by position in `slices`."""
        index = torch.tensor(list(chosen), dtype=torch.long)
        return replace(
            self,
            slices=tuple(self.slices[i] for i in chosen),
            layers=tuple(layer[index] for layer in self.layers),
            is_known=self.is_known[:, index],
        )

    def organs_of(self, layer: int) -> list[int]:
        """Return the indices of the organs on a layer."""
        return [index for index, own in enumerate(self.layer_of) if own == layer]

    def slices_of(self, organ: int) -> list[int]:
        """Return the positions in `slices` at which an organ has paint."""
        planes = self.layers[self.layer_of[organ]]
        return (planes == organ + 1).flatten(1).any(1).nonzero().flatten().tolist()

    def points(self, index: torch.Tensor) -> torch.Tensor:
        """Return canonical voxel indices (n, 3) of indices (n, 3) into the stack of slices."""
        points = index.clone()
        points[:, 0] = torch.tensor(self.slices)[index[:, 0]]
        order = [0, 1, 2]
        order.insert(self.axis, order.pop(0))
        return points[:, order]


def detect_axis(painted: np.ndarray[Any, Any]) -> int:
    """Return the array axis that painted slices are perpendicular to.

    Sparse painted slices have no painted neighbours in front of or behind them, so the axis with
    the smallest share of painted voxels that have one is taken; where no axis stands out
    (adjacent slices, or whole volumes) it is the axis with the fewest painted slices.

    Args:
        painted: bool (z, y, x) with at least one voxel.
    """
    total = np.count_nonzero(painted)
    shares, counts = [], []
    for axis in range(3):
        moved = np.moveaxis(painted, axis, 0)
        shares.append(np.count_nonzero(moved[1:] & moved[:-1]) / total)
        others = tuple(k for k in range(3) if k != axis)
        counts.append(int(np.count_nonzero(painted.any(axis=others))))
    sparse = int(np.argmin(shares))
    if shares[sparse] < 0.5:
        return sparse
    return int(np.argmin(counts))


def annotation_of(
    labels: LabelMap,
    orientation: Orientation,
    annotated: Annotated,
    not_painted: Mapping[str, Sequence[int]] | None = None,
) -> Annotation:
    """Read the annotation off a label map on the image's grid.

    Args:
        labels: the painted organs.
        orientation: of the image.
        annotated: which slices count as fully annotated.
        not_painted: organ name -> native slice numbers where it was not painted yet.

    Raises:
        InputError: a slice outside the image, slices without any paint, an unknown organ.
    """
    painted = orientation.canonical(labels.painted())
    axis, slices = _slices(painted, orientation, annotated)
    stacks = []
    for number, layer in enumerate(labels.layers):
        stack = np.moveaxis(orientation.canonical(layer), axis, 0)[list(slices)]
        stacks.append(_organ_planes(labels, number, stack))
    if labels.ignored is not None:
        ignored = np.moveaxis(orientation.canonical(labels.ignored), axis, 0)[list(slices)]
        for stack in stacks:
            stack[ignored] = UNLABELLED
    is_known = torch.ones(len(labels.organs), len(slices), dtype=torch.bool)
    annotation = Annotation(
        labels.organs,
        painted.shape,
        axis,
        slices,
        tuple(torch.from_numpy(stack) for stack in stacks),
        labels.layer_of,
        is_known,
    )
    _mark_not_painted(annotation, orientation, not_painted or {})
    return annotation


def native_slice(annotation: Annotation, orientation: Orientation, index: int) -> int:
    """Return a canonical slice's number in the file, along the axis it has there."""
    is_flipped = orientation.is_flipped[annotation.axis]
    return annotation.shape[annotation.axis] - 1 - index if is_flipped else index


def _slices(
    painted: np.ndarray[Any, Any], orientation: Orientation, annotated: Annotated
) -> tuple[int, tuple[int, ...]]:
    if annotated.kind == "slices":
        axis = AXIS_NAMES.index(annotated.axis)
        count = painted.shape[axis]
        if annotated.slices[-1] >= count:
            message = f"annotated: slice {annotated.slices[-1]} is outside the image"
            raise InputError(message, f"its {annotated.axis} slices are 0 to {count - 1}")
        slices = annotated.slices
        if orientation.is_flipped[axis]:
            slices = tuple(sorted(count - 1 - index for index in slices))
        if not np.moveaxis(painted, axis, 0)[list(slices)].any():
            message = f"annotated: nothing is painted on {annotated}"
            raise InputError(message, "check the slice numbers, which count from 0 in the file")
        return axis, slices
    if annotated.kind == "all":
        return 0, tuple(range(painted.shape[0]))
    axis = detect_axis(painted)
    others = tuple(k for k in range(3) if k != axis)
    return axis, tuple(np.flatnonzero(painted.any(axis=others)).tolist())


def _organ_planes(
    labels: LabelMap, layer: int, stack: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Replace label values by organ index + 1, and foreign values by 0."""
    table = np.zeros(int(stack.max(initial=0)) + 1, dtype=np.int16)
    for index, organ in enumerate(labels.organs):
        if labels.layer_of[index] == layer and organ.value < len(table):
            table[organ.value] = index + 1
    planes: np.ndarray[Any, Any] = table[stack]
    return planes


def _mark_not_painted(
    annotation: Annotation, orientation: Orientation, not_painted: Mapping[str, Sequence[int]]
) -> None:
    names = [organ.name for organ in annotation.organs]
    numbers = [native_slice(annotation, orientation, index) for index in annotation.slices]
    for name, slices in not_painted.items():
        if name not in names:
            message = f"not_painted: {name!r} is not among the painted organs"
            raise InputError(message, f"they are {', '.join(names)}")
        for number in slices:
            if number in numbers:
                annotation.is_known[names.index(name), numbers.index(number)] = False
