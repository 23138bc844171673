"""Experts that carry paint from the annotated slices to the others without learning.

Each gives, per organ group, scores (organs + 1, z, y, x) in [0, 1] on the working grid, the
background first. They look at one scan; what an expert such as Slicer's own Grow from seeds has
found elsewhere can come with the job (`given_expert`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np  # noqa: TID253
import torch  # noqa: TID253
from scipy import ndimage  # noqa: TID253

from reglora_core.annotation import UNLABELLED, Annotation
from reglora_core.grids import Grid
from reglora_core.scan import Box

UNSEEN = -1


@dataclass(frozen=True)
class PaintedGrid:
    """A group's paint on the working grid.

    Attributes:
        axis: that the annotated slices are perpendicular to.
        positions: where along it they lie, in working voxels (fractions), ascending.
        planes: int64 (slices, *in-plane working voxels): 0 background, j + 1 the group's j-th
            organ, -1 unlabelled.
        shape, spacing: of the working grid.
        organs: number of organs in the group.
    """

    axis: int
    positions: torch.Tensor
    planes: torch.Tensor
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    organs: int

    @property
    def indices(self) -> torch.Tensor:
        """The working plane nearest to each annotated slice."""
        return self.positions.floor().long().clamp(0, self.shape[self.axis] - 1)

    def cropped(self, box: Box) -> PaintedGrid:
        """Return the paint on a part of the working grid; slices outside keep their position."""
        in_plane = [box[k] for k in range(3) if k != self.axis]
        shape = tuple(part.stop - part.start for part in box)
        return replace(
            self,
            positions=self.positions - box[self.axis].start,
            planes=self.planes[:, in_plane[0], in_plane[1]],
            shape=shape,
        )

    def seeds(self) -> torch.Tensor:
        """Return int64 (z, y, x): the paint on its nearest planes, -1 elsewhere."""
        seeds = torch.full(self.shape, UNSEEN)
        planes = self.planes.numpy()
        plane, row, column = np.nonzero(planes >= 0)  # several slices may share a plane: paint wins
        # numpy: where an index comes twice the last value counts, each time
        target = seeds.movedim(self.axis, 0).numpy()
        target[self.indices.numpy()[plane], row, column] = planes[plane, row, column]
        return seeds

    def whole_slices(self) -> PaintedGrid:
        """Return the slices that are labelled for the most part.

        Of slices across this axis and paint in other planes these alone have outlines.
        """
        is_whole = (self.planes >= 0).flatten(1).float().mean(1) >= 0.5
        return replace(self, positions=self.positions[is_whole], planes=self.planes[is_whole])


class Expert(Protocol):
    """Carries a group's paint through a scan."""

    name: str

    def __call__(self, hounsfield: torch.Tensor, paint: PaintedGrid) -> torch.Tensor:
        """Return scores (organs + 1, z, y, x) in [0, 1]."""


def paint_on_grid(
    annotation: Annotation, grid: Grid, organ_of: Sequence[int], group: Sequence[int]
) -> PaintedGrid:
    """Bring one group's annotated slices onto the working grid, in-plane by the nearest voxel.

    Args:
        annotation: of one scan.
        grid: of that scan.
        organ_of: for each of the annotation's organs, its index among all fitted organs.
        group: indices, among all fitted organs, of those that exclude each other.
    """
    axis = annotation.axis
    in_plane = [k for k in range(3) if k != axis]
    planes = torch.zeros(1, dtype=torch.long)
    for layer, stack in enumerate(annotation.layers):
        table = torch.zeros(len(annotation.organs) + 2, dtype=torch.long)
        table[0] = UNLABELLED  # value -1 is looked up at index 0
        for own in annotation.organs_of(layer):
            if organ_of[own] in group:
                table[own + 2] = list(group).index(organ_of[own]) + 1
        values = table[_on_working_voxels(stack, grid, in_plane) + 1]
        planes = torch.where(values != 0, values, planes)
    for own, organ in enumerate(organ_of):
        if organ in group and not bool(annotation.is_known[own].all()):
            # a slice on which an organ is not painted yet says nothing where nothing is painted
            unknown = ~annotation.is_known[own]
            planes[unknown] = torch.where(planes[unknown] == 0, UNLABELLED, planes[unknown])
    scale = grid.working_shape[axis] / grid.shape[axis]
    return PaintedGrid(
        axis,
        (torch.tensor(annotation.slices) + 0.5) * scale,
        planes,
        grid.working_shape,
        grid.working_spacing,
        len(group),
    )


def _on_working_voxels(stack: torch.Tensor, grid: Grid, in_plane: list[int]) -> torch.Tensor:
    """Return slices (slices, rows, columns) on the working grid, int64, by the nearest voxel.

    Where that one is unlabelled any labelled voxel that lies in the working voxel counts: a line
    one voxel wide, where another painted plane crosses the slice, would be lost otherwise.
    """
    small = stack
    for position, k in enumerate(in_plane):
        small = small.index_select(position + 1, grid.nearest_native(k))
    small = small.long()
    if not bool((small == UNLABELLED).any()):
        return small
    voxels, found = stack.numpy(), small.numpy()
    plane, row, column = np.nonzero(voxels != UNLABELLED)
    values = voxels[plane, row, column]
    row = grid.nearest_working(in_plane[0]).numpy()[row]
    column = grid.nearest_working(in_plane[1]).numpy()[column]
    is_missing = found[plane, row, column] == UNLABELLED
    found[plane[is_missing], row[is_missing], column[is_missing]] = values[is_missing]
    return small


@dataclass(frozen=True)
class Propagation:
    """Label by the nearest seed along a path of little contrast (as Grow from seeds does).

    The length of a step between neighbours is sqrt(d^2 + (contrast * difference in HU)^2), d in
    mm. The shortest paths are found by raster scans (Toivanen, Pattern Recognition Letters 17,
    1996; Criminisi et al., ECCV 2008), all organs at once, and an organ's score is
    softmax(-length / temperature).
    """

    name: str = "propagation"
    contrast: float = 0.3  # mm per HU; chosen on the torso CT of docs/experiments.md
    window: tuple[float, float] = (-250.0, 350.0)
    temperature: float = 2.0  # mm
    scans: int = 1  # two give the same Dice (docs/experiments.md)

    def __call__(self, hounsfield: torch.Tensor, paint: PaintedGrid) -> torch.Tensor:
        seeds = paint.seeds()
        lengths = torch.full((paint.organs + 1, *paint.shape), 1e4)
        for label in range(paint.organs + 1):
            lengths[label][seeds == label] = 0
        heat = self.contrast * hounsfield.clamp(*self.window)
        for _ in range(self.scans):
            for axis in range(3):
                order = [axis, *[k for k in range(3) if k != axis]]
                spacing = [paint.spacing[k] for k in order]
                _sweep_(lengths.movedim(axis + 1, 1), heat.movedim(axis, 0), spacing)
        return lengths.neg_().div_(self.temperature).softmax(dim=0)


def _sweep_(lengths: torch.Tensor, heat: torch.Tensor, spacing: list[float]) -> None:
    """Relax the lengths (labels, planes, rows, columns) plane by plane, forwards and back."""
    count = heat.shape[0]
    for planes in (range(1, count), range(count - 2, -1, -1)):
        step = planes.step
        for plane in planes:
            _relax_plane_(lengths, heat, plane, plane - step, spacing)


def _relax_plane_(
    lengths: torch.Tensor, heat: torch.Tensor, plane: int, before: int, spacing: list[float]
) -> None:
    """Shorten a plane's lengths by paths through the nine neighbours in the plane before."""
    target, source = lengths[:, plane], lengths[:, before]
    rows, columns = heat.shape[1:]
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            to = (
                slice(max(0, -row), rows - max(0, row)),
                slice(max(0, -column), columns - max(0, column)),
            )
            of = (
                slice(max(0, row), rows - max(0, -row)),
                slice(max(0, column), columns - max(0, -column)),
            )
            square = spacing[0] ** 2 + (row * spacing[1]) ** 2 + (column * spacing[2]) ** 2
            step = (heat[plane][to] - heat[before][of]).square_().add_(square).sqrt_()
            part = target[:, to[0], to[1]]
            torch.minimum(part, source[:, of[0], of[1]] + step, out=part)


@dataclass(frozen=True)
class Interpolation:
    """Interpolate the in-plane signed distance to each organ's outline between slices.

    Distances (mm, clipped to +-40, absent organs -40) are linear along the axis between annotated
    slices and constant beyond the outermost; scores are softmax(distance / temperature), with the
    background as one more label. Slices that are largely unlabelled have no outlines and are left
    out; without any other all scores are equal.
    """

    name: str = "interpolation"
    limit: float = 40.0  # mm
    temperature: float = 2.0  # mm

    def __call__(self, hounsfield: torch.Tensor, paint: PaintedGrid) -> torch.Tensor:
        paint = paint.whole_slices()
        if not len(paint.positions):
            return torch.full((paint.organs + 1, *paint.shape), 1 / (paint.organs + 1))
        distances = self._distances(paint)  # (organs + 1, slices, rows, columns)
        low, high, share = between(paint.positions, paint.shape[paint.axis])
        mixed = torch.lerp(distances[:, low], distances[:, high], share[:, None, None])
        return (mixed / self.temperature).softmax(0).movedim(1, paint.axis + 1)

    def _distances(self, paint: PaintedGrid) -> torch.Tensor:
        spacing = [mm for k, mm in enumerate(paint.spacing) if k != paint.axis]
        planes = paint.planes
        result = torch.full((paint.organs + 1, *planes.shape), -self.limit)
        for label in range(paint.organs + 1):
            for number, plane in enumerate(planes == label):
                if bool(plane.all()):
                    result[label, number] = self.limit
                elif bool(plane.any()):
                    result[label, number] = self._signed_distance(plane, spacing)
        return result

    def _signed_distance(self, mask: torch.Tensor, spacing: list[float]) -> torch.Tensor:
        inside = ndimage.distance_transform_edt(mask.numpy(), sampling=spacing)
        outside = ndimage.distance_transform_edt(~mask.numpy(), sampling=spacing)
        distance = torch.from_numpy(inside - outside).float()
        return distance.clamp(-self.limit, self.limit)


def between(positions: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return, per plane, the annotated slices before and after it and its share of the way."""
    planes = torch.arange(count) + 0.5
    high = torch.searchsorted(positions, planes).clamp(max=len(positions) - 1)
    low = (torch.searchsorted(positions, planes) - 1).clamp(min=0)
    gap = (positions[high] - positions[low]).clamp_min(1e-6)
    share = ((planes - positions[low]) / gap).clamp(0, 1)
    return low, high, torch.where(high == low, 0.0, share)


def given_expert(labels: torch.Tensor, paint: PaintedGrid) -> torch.Tensor:
    """Return the scores of labels (z, y, x) on the working grid that came with the job."""
    scores = torch.nn.functional.one_hot(labels.clamp_min(0), paint.organs + 1)
    return scores.movedim(-1, 0).float()
