"""Random crops of a case: geometry, intensity, and images synthesised from its label map."""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253

from reglora_core.pretraining.cases import Case
from reglora_core.pretraining.draws import paint, rotation, smooth, smooth_fields, uniform
from reglora_core.pretraining.generated import generated_anatomy


@dataclass(frozen=True)
class CropConfig:
    """How crops are drawn; lengths in working voxels."""

    size: int = 64
    zoom: tuple[float, float] = (0.75, 1.3)  # voxel size relative to the working grid's
    stretch: float = 0.12  # further zoom per axis
    rotation: float = 0.2  # radians, about every axis
    warp: float = 3.0  # deviation of the smooth displacement
    warp_knots: int = 5
    mirror: float = 0.2  # probability of swapping left and right, names included
    synthetic: float = 0.2  # probability of painting the label map with random intensities
    generated: float = 0.0  # probability of an anatomy that no patient has


@dataclass(frozen=True)
class Crop:
    """A crop with what is known of it.

    Attributes:
        hounsfield: float (z, y, x).
        labels: int64 class ids (z, y, x).
        is_known: bool (classes,).
        regions: int64 (z, y, x), what the few-slice episode is to find: the labels, or the shapes
            of a generated anatomy, which are no classes.
    """

    hounsfield: torch.Tensor
    labels: torch.Tensor
    is_known: torch.Tensor
    regions: torch.Tensor


def mirrored_classes(classes: tuple[str, ...]) -> torch.Tensor:
    """Return the class id that each class becomes when left and right are swapped."""
    ids = {name: index for index, name in enumerate(classes)}

    def other(name: str) -> str:
        words = name.split("_")
        swapped = {"left": "right", "right": "left"}
        return "_".join(swapped.get(word, word) for word in words)

    return torch.tensor([ids.get(other(name), ids[name]) for name in classes])


def draw_crop(
    case: Case, config: CropConfig, mirrored: torch.Tensor, generator: torch.Generator
) -> Crop:
    """Draw one augmented crop around a voxel of a random class of the case, or a generated one."""
    if config.generated > 0 and uniform(generator) < config.generated:
        hounsfield, regions = generated_anatomy(config.size, generator)
        nothing = torch.zeros_like(case.is_known)
        nothing[0] = True
        hounsfield = _degrade(hounsfield, generator)
        return Crop(hounsfield, torch.zeros_like(regions), nothing, regions)
    center = _center(case.labels, generator)
    grid = _sampling_grid(case.labels.shape, center, config, generator)
    # padding: outside the scan is air
    shifted = case.hounsfield.float()[None, None] + 1024
    hounsfield = F.grid_sample(shifted, grid, align_corners=False)[0, 0] - 1024
    labels = F.grid_sample(
        case.labels.float()[None, None], grid, mode="nearest", align_corners=False
    )[0, 0].long()
    is_known = case.is_known
    if uniform(generator) < config.mirror:
        hounsfield, labels = hounsfield.flip(2), mirrored[labels.flip(2)]
        is_known = is_known[mirrored]
    if uniform(generator) < config.synthetic:
        hounsfield = _synthesize(hounsfield, labels, generator)
    return Crop(_degrade(hounsfield, generator), labels, is_known, labels)


def _center(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the index (z, y, x) of a voxel of a random class, or of any voxel."""
    present = torch.unique(labels)
    present = present[present > 0]
    if len(present) and uniform(generator) < 0.85:
        chosen = present[int(torch.randint(len(present), (), generator=generator))]
        voxels = torch.eq(labels, chosen).nonzero()
        return voxels[int(torch.randint(len(voxels), (), generator=generator))].float()
    return torch.rand(3, generator=generator) * torch.tensor(labels.shape)


def _sampling_grid(
    shape: torch.Size, center: torch.Tensor, config: CropConfig, generator: torch.Generator
) -> torch.Tensor:
    """Return grid_sample's grid (1, size, size, size, 3) for one random similarity and warp."""
    size = config.size
    axis = torch.arange(size) - (size - 1) / 2
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    zoom = uniform(generator, *config.zoom)
    zooms = zoom * (1 + config.stretch * (2 * torch.rand(3, generator=generator) - 1))
    angles = config.rotation * (2 * torch.rand(3, generator=generator) - 1)
    points = (points * zooms) @ rotation(angles).T
    jitter = (torch.rand(3, generator=generator) - 0.5) * size * 0.6
    warp = smooth_fields(3, config.warp_knots, size, generator)
    points = points + center + jitter + config.warp * uniform(generator) * warp.movedim(0, -1)
    normalised = (points + 0.5) / torch.tensor(shape) * 2 - 1
    return normalised.flip(-1)[None]


def _synthesize(
    hounsfield: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Paint the label map with random intensities (after SynthSeg, Billot et al. 2023).

    What carries no label is divided into bins of its own intensity, so that unlabelled anatomy
    keeps its shape under another contrast.
    """
    edges = torch.tensor([-600.0, -150.0, -30.0, 40.0, 110.0, 250.0])
    tissue = torch.bucketize(smooth(hounsfield, 1), edges)
    regions = torch.where(labels > 0, labels + len(edges), tissue)
    detail = (hounsfield - smooth(hounsfield, 2)).clamp(-100, 100)
    return paint(regions, detail, generator)


def _degrade(hounsfield: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Vary gain, offset, bias field, noise, sharpness and slice thickness."""
    gain = 1 + 0.12 * (2 * uniform(generator) - 1)
    offset = 30 * (2 * uniform(generator) - 1)
    hounsfield = hounsfield * gain + offset
    chance = torch.rand(4, generator=generator)
    if chance[0] < 0.3:
        hounsfield = smooth(hounsfield, 1)
    elif chance[0] < 0.45:
        hounsfield = hounsfield + 0.7 * (hounsfield - smooth(hounsfield, 1))
    if chance[1] < 0.2:
        knots = torch.randn(1, 1, 4, 4, 4, generator=generator)
        bias = F.interpolate(knots, hounsfield.shape, mode="trilinear", align_corners=True)[0, 0]
        hounsfield = hounsfield + 25 * bias
    if chance[2] < 0.2:
        thick = F.avg_pool3d(hounsfield[None, None], (2, 1, 1))
        hounsfield = F.interpolate(thick, hounsfield.shape, mode="trilinear")[0, 0]
    if chance[3] < 0.5:
        sigma = 30 * uniform(generator)
        hounsfield = hounsfield + sigma * torch.randn(hounsfield.shape, generator=generator)
    return hounsfield
