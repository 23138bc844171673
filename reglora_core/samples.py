"""Annotated voxels as training samples: where they are, and what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch  # noqa: TID253

from reglora_core.annotation import UNLABELLED, Annotation
from reglora_core.features import features_at
from reglora_core.head import Groups, Samples
from reglora_core.models.base import BaseModel
from reglora_core.scan import Scan

VOXELS = 24_000  # drawn per scan, and per head
MAX_CANDIDATES = 4_000_000  # voxels of the annotated slices looked at


@dataclass(frozen=True)
class Painting:
    """One scan with its annotation, in the terms of the organs that are fitted together.

    Attributes:
        organ_of: for each of the annotation's organs, its index among all fitted organs.
    """

    scan: Scan
    annotation: Annotation
    organ_of: tuple[int, ...]

    @property
    def painted_organs(self) -> frozenset[int]:
        """The organs, among all fitted ones, that are painted on any of the slices."""
        painted = (
            organ for own, organ in enumerate(self.organ_of) if self.annotation.slices_of(own)
        )
        return frozenset(painted)

    def on_slices(self, chosen: list[int]) -> Painting:
        """Return the painting reduced to some of its annotated slices."""
        return Painting(self.scan, self.annotation.on_slices(chosen), self.organ_of)


@dataclass(frozen=True)
class Voxels:
    """Drawn voxels of one painting.

    Attributes:
        points: float (n, 3), voxels of the body's box on the working grid, fractions allowed.
        targets: int64 (n, groups).
        is_known: bool (n, organs).
    """

    points: torch.Tensor
    targets: torch.Tensor
    is_known: torch.Tensor

    @classmethod
    def joined(cls, parts: Sequence[Voxels]) -> Voxels:
        """Return the voxels of all parts, one part after the other."""
        return cls(
            torch.cat([part.points for part in parts]),
            torch.cat([part.targets for part in parts]),
            torch.cat([part.is_known for part in parts]),
        )

    def to(self, device: torch.device) -> Voxels:
        return Voxels(*(part.to(device) for part in (self.points, self.targets, self.is_known)))

    def __getitem__(self, index: torch.Tensor) -> Voxels:
        return Voxels(self.points[index], self.targets[index], self.is_known[index])


def draw_voxels(
    painting: Painting,
    groups: Groups,
    organs: int,
    count: int,
    is_balanced: bool,
    generator: torch.Generator,
) -> Voxels:
    """Draw annotated voxels, with replacement.

    Args:
        painting: the annotated scan.
        groups: organ indices per group.
        organs: number of organs fitted together.
        count: number of voxels.
        is_balanced: draw a class with a probability ~ sqrt(its frequency); else uniformly.
        generator: source of randomness.
    """
    annotation, scan = painting.annotation, painting.scan
    index = _candidates(annotation, generator)
    points = _working_points(annotation, scan, index)
    inside = _is_inside(points, scan)
    index, points = index[inside], points[inside]
    targets = _targets(painting, groups, index)
    if is_balanced:
        weights = torch.zeros(len(targets))
        for column in targets.T:
            weights = torch.maximum(weights, torch.bincount(column + 1).float().rsqrt()[column + 1])
        cumulated = weights.double().cumsum(0)
        draw = torch.rand(count, generator=generator, dtype=torch.float64) * cumulated[-1]
        chosen = torch.searchsorted(cumulated, draw).clamp_max(len(targets) - 1)
    else:
        chosen = torch.randint(len(targets), (count,), generator=generator)
    return Voxels(points[chosen], targets[chosen], _is_known(painting, organs, index[chosen, 0]))


def _candidates(annotation: Annotation, generator: torch.Generator) -> torch.Tensor:
    """Return indices (n, 3) into the stack of slices: all organ voxels, and some background."""
    shape = annotation.layers[0].shape
    total = annotation.layers[0].numel()
    if total <= MAX_CANDIDATES:
        flat = torch.arange(total)
    else:
        flat = torch.randint(total, (MAX_CANDIDATES,), generator=generator)
    return torch.stack(torch.unravel_index(flat, shape), dim=1)


def _working_points(annotation: Annotation, scan: Scan, index: torch.Tensor) -> torch.Tensor:
    scale = torch.tensor(scan.grid.working_shape) / torch.tensor(scan.grid.shape)
    low = torch.tensor([part.start for part in scan.body])
    return (annotation.points(index) + 0.5) * scale - low


def _is_inside(points: torch.Tensor, scan: Scan) -> torch.Tensor:
    size = torch.tensor([part.stop - part.start for part in scan.body])
    return ((points >= 0) & (points <= size)).all(dim=1)


def _targets(painting: Painting, groups: Groups, index: torch.Tensor) -> torch.Tensor:
    """Return int64 (n, groups) of the voxels at indices into the stack of slices."""
    annotation = painting.annotation
    result = torch.zeros(len(index), len(groups), dtype=torch.long)
    for layer, planes in enumerate(annotation.layers):
        values = planes[index.unbind(1)].long()
        result[values == UNLABELLED] = UNLABELLED
        for own in annotation.organs_of(layer):
            number = next(g for g, group in enumerate(groups) if painting.organ_of[own] in group)
            place = groups[number].index(painting.organ_of[own]) + 1
            result[values == own + 1, number] = place
    return result


def _is_known(painting: Painting, organs: int, slices: torch.Tensor) -> torch.Tensor:
    """Return bool (n, organs); an organ that this scan's annotation lacks is unknown in it."""
    known = torch.zeros(organs, len(painting.annotation.slices), dtype=torch.bool)
    known[list(painting.organ_of)] = painting.annotation.is_known
    return known.T[slices]


def samples_of(model: BaseModel, paintings: list[Painting], voxels: list[Voxels]) -> Samples:
    """Return the features of drawn voxels with their targets, one painting after the other."""
    features = [
        features_at(model, painting.scan.inside, own.points)
        for painting, own in zip(paintings, voxels, strict=True)
    ]
    return Samples(
        torch.cat(features),
        torch.cat([own.targets for own in voxels]),
        torch.cat([own.is_known for own in voxels]),
    ).to(model.device)
