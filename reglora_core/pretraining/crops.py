"""Random crops of a case: geometry, intensity, and images synthesised from its label map."""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253

from reglora_core.pretraining.cases import Case


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


@dataclass(frozen=True)
class Crop:
    """Attributes: hounsfield float (z, y, x), labels int64 (z, y, x), is_known bool (classes,)."""

    hounsfield: torch.Tensor
    labels: torch.Tensor
    is_known: torch.Tensor


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
    """Draw one augmented crop around a voxel of a random class of the case."""
    center = _center(case.labels, generator)
    grid = _sampling_grid(case.labels.shape, center, config, generator)
    # padding: outside the scan is air
    shifted = case.hounsfield.float()[None, None] + 1024
    hounsfield = F.grid_sample(shifted, grid, align_corners=False)[0, 0] - 1024
    labels = F.grid_sample(
        case.labels.float()[None, None], grid, mode="nearest", align_corners=False
    )[0, 0].long()
    is_known = case.is_known
    if _uniform(generator) < config.mirror:
        hounsfield, labels = hounsfield.flip(2), mirrored[labels.flip(2)]
        is_known = is_known[mirrored]
    if _uniform(generator) < config.synthetic:
        hounsfield = _synthesize(hounsfield, labels, generator)
    return Crop(_degrade(hounsfield, generator), labels, is_known)


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _center(labels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return the index (z, y, x) of a voxel of a random class, or of any voxel."""
    present = torch.unique(labels)
    present = present[present > 0]
    if len(present) and _uniform(generator) < 0.85:
        chosen = present[int(torch.randint(len(present), (), generator=generator))]
        voxels = torch.eq(labels, chosen).nonzero()
        return voxels[int(torch.randint(len(voxels), (), generator=generator))].float()
    return torch.rand(3, generator=generator) * torch.tensor(labels.shape)


def _rotation(angles: torch.Tensor) -> torch.Tensor:
    matrix = torch.eye(3)
    for axis in range(3):
        cosine, sine = torch.cos(angles[axis]), torch.sin(angles[axis])
        turn = torch.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = cosine, -sine, sine, cosine
        matrix = matrix @ turn
    return matrix


def _sampling_grid(
    shape: torch.Size, center: torch.Tensor, config: CropConfig, generator: torch.Generator
) -> torch.Tensor:
    """Return grid_sample's grid (1, size, size, size, 3) for one random similarity and warp."""
    size = config.size
    axis = torch.arange(size) - (size - 1) / 2
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    zoom = _uniform(generator, *config.zoom)
    zooms = zoom * (1 + config.stretch * (2 * torch.rand(3, generator=generator) - 1))
    angles = config.rotation * (2 * torch.rand(3, generator=generator) - 1)
    points = (points * zooms) @ _rotation(angles).T
    jitter = (torch.rand(3, generator=generator) - 0.5) * size * 0.6
    knots = torch.randn(1, 3, *[config.warp_knots] * 3, generator=generator)
    warp = F.interpolate(knots, [size] * 3, mode="trilinear", align_corners=True)[0]
    points = points + center + jitter + config.warp * _uniform(generator) * warp.movedim(0, -1)
    normalised = (points + 0.5) / torch.tensor(shape) * 2 - 1
    return normalised.flip(-1)[None]


def _smooth(field: torch.Tensor, passes: int) -> torch.Tensor:
    """Blur (z, y, x) by repeated box filters of width 3."""
    for _ in range(passes):
        field = F.avg_pool3d(field[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    return field


def _synthesize(
    hounsfield: torch.Tensor, labels: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Paint the label map with random intensities (after SynthSeg, Billot et al. 2023).

    What carries no label is divided into bins of its own intensity, so that unlabelled anatomy
    keeps its shape under another contrast.
    """
    edges = torch.tensor([-600.0, -150.0, -30.0, 40.0, 110.0, 250.0])
    tissue = torch.bucketize(_smooth(hounsfield, 1), edges)
    regions = torch.where(labels > 0, labels + len(edges), tissue)
    count = int(regions.max()) + 1
    means = torch.rand(count, generator=generator) * 500 - 200
    texture = torch.rand(count, generator=generator) * 0.6
    detail = (hounsfield - _smooth(hounsfield, 2)).clamp(-100, 100)
    painted = means[regions] + texture[regions] * detail
    noise = torch.randn(hounsfield.shape, generator=generator)
    return _smooth(painted + 15 * noise, int(_uniform(generator) < 0.5))


def _degrade(hounsfield: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Vary gain, offset, bias field, noise, sharpness and slice thickness."""
    gain = 1 + 0.12 * (2 * _uniform(generator) - 1)
    offset = 30 * (2 * _uniform(generator) - 1)
    hounsfield = hounsfield * gain + offset
    chance = torch.rand(4, generator=generator)
    if chance[0] < 0.3:
        hounsfield = _smooth(hounsfield, 1)
    elif chance[0] < 0.45:
        hounsfield = hounsfield + 0.7 * (hounsfield - _smooth(hounsfield, 1))
    if chance[1] < 0.2:
        knots = torch.randn(1, 1, 4, 4, 4, generator=generator)
        bias = F.interpolate(knots, hounsfield.shape, mode="trilinear", align_corners=True)[0, 0]
        hounsfield = hounsfield + 25 * bias
    if chance[2] < 0.2:
        thick = F.avg_pool3d(hounsfield[None, None], (2, 1, 1))
        hounsfield = F.interpolate(thick, hounsfield.shape, mode="trilinear")[0, 0]
    if chance[3] < 0.5:
        sigma = 30 * _uniform(generator)
        hounsfield = hounsfield + sigma * torch.randn(hounsfield.shape, generator=generator)
    return hounsfield
