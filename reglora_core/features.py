"""Multi-scale features of a base network: at points, and window by window.

A scan is cut into windows of at most the network's patch; one window covers it where memory
allows. Features are interpolated from every level of the decoder only where they are needed, so
that a volume of hundreds of channels is never stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from monai.data.utils import dense_patch_slices  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.captured import FEWEST, CudaGraphs, Forward, fastest_forward
from reglora_core.events import Report, ignore
from reglora_core.intensity import AIR_HU
from reglora_core.models.base import BaseModel, Family
from reglora_core.scan import Box

OVERLAP = 0.25
MANY = 20  # windows: fewer are soon done
AIR_ONLY_HU = -700.0  # a window without anything denser holds no body


@dataclass(frozen=True)
class Window:
    """A part of a volume, and the volume padded to whole windows.

    Attributes:
        box: in voxels of the padded volume.
        hounsfield: (D, H, W) of the window.
    """

    box: Box
    hounsfield: torch.Tensor


def patch_shape(shape: torch.Size, patch: tuple[int, int, int], stride: int) -> tuple[int, ...]:
    """Return the window's shape: the volume's, rounded up to `stride`, or the patch if smaller.

    A volume of one stride along every axis gets two along the last: one voxel at the coarsest
    level has no variance to be normalised by.
    """
    rounded = [-(-size // stride) * stride for size in shape]
    if max(rounded) == stride:
        rounded[-1] = 2 * stride
    return tuple(min(size, limit) for size, limit in zip(rounded, patch, strict=True))


def windows(hounsfield: torch.Tensor, patch: tuple[int, int, int], stride: int) -> list[Window]:
    """Cut a volume (D, H, W) into overlapping windows; its far ends are padded by air."""
    shape = patch_shape(hounsfield.shape, patch, stride)
    missing = [max(0, size - have) for size, have in zip(shape, hounsfield.shape, strict=True)]
    padding = [amount for size in reversed(missing) for amount in (0, size)]
    padded = F.pad(hounsfield, padding, value=AIR_HU)
    step = [max(1, int(size * (1 - OVERLAP))) for size in shape]
    boxes = dense_patch_slices(padded.shape, shape, step)
    return [Window(tuple(box), padded[tuple(box)]) for box in boxes]


def sample_maps(maps: list[torch.Tensor], points: torch.Tensor) -> torch.Tensor:
    """Interpolate feature maps at relative positions.

    Shape: maps per level (1, channels, D', H', W'); points (n, 3), z, y, x in [0, 1]
    -> (n, sum of channels), coarse levels first.
    """
    grid = (points * 2 - 1).flip(-1)[None, :, None, None].to(maps[0].device)
    columns = [
        F.grid_sample(level.float(), grid, align_corners=False, padding_mode="border")
        for level in maps
    ]
    return torch.cat([column[0, :, :, 0, 0].T for column in columns], dim=1)


def features_at(model: BaseModel, hounsfield: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return the features at positions of a volume.

    Each point is taken from the window in which it lies deepest.

    Args:
        model: the base network, adapted or not.
        hounsfield: (D, H, W).
        points: (n, 3) in voxels, fractions allowed, voxel i covering [i, i + 1).

    Returns:
        Float features (n, channels) on the CPU.
    """
    features = torch.empty(len(points), sum(model.widths))
    for own, relative, maps in maps_around(model, hounsfield, points):
        features[own] = sample_maps(maps, relative).cpu()
    return features


@torch.no_grad()
def maps_around(
    model: BaseModel, hounsfield: torch.Tensor, points: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]]:
    """Yield, per window that holds any, which points are its own, where, and its feature maps.

    Args and sources of windows as in `features_at`; the places (n, 3) are shares of the window.
    """
    parts = windows(hounsfield, model.patch, model.stride)
    owner = torch.stack([_depth(window, points) for window in parts]).argmax(dim=0)
    for index, window in enumerate(parts):
        own = owner == index
        if bool(own.any()):
            low, size = _corner_and_size(window)
            maps = model.feature_maps(window.hounsfield[None].to(model.device))
            yield own, (points[own] - low) / size, maps


@dataclass
class _Remembering:
    """A family that computes the maps of the same window once."""

    family: Family
    known: list[tuple[torch.Tensor, list[torch.Tensor]]] = field(default_factory=list)

    def stride(self, network: nn.Module) -> int:
        return self.family.stride(network)

    def widths(self, network: nn.Module) -> tuple[int, ...]:
        return self.family.widths(network)

    def feature_maps(self, network: nn.Module, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        for window, maps in self.known:
            if torch.equal(window, hounsfield):
                return maps
        maps = self.family.feature_maps(network, hounsfield)
        self.known.append((hounsfield, maps))
        return maps


def remembering(model: BaseModel) -> BaseModel:
    """Return the model, which now remembers each window's maps: the network must not change.

    At 3 mm a torso's maps take some 100 MB, and as much for each half metre more.
    """
    return replace(model, family=_Remembering(model.family))


def inner_weight(shape: torch.Size) -> torch.Tensor:
    """Return Gaussian weights (D, H, W) for a window's middle, as MONAI's sliding window."""
    from monai.data.utils import compute_importance_map

    weights: torch.Tensor = compute_importance_map(tuple(shape), mode="gaussian")
    return weights.clamp_min(1e-3)


def each_window(
    model: BaseModel, hounsfield: torch.Tensor, report: Report = ignore
) -> Iterator[tuple[Box, list[torch.Tensor] | None]]:
    """Yield each window's box and its feature maps, or None where it holds nothing but air.

    As many windows go through the network together as the model says. Where there are many, the
    report is told after each, and may raise to stop.
    """
    parts = windows(hounsfield, model.patch, model.stride)
    for number, found in enumerate(_maps_of_each(model, parts, report), start=1):
        yield found
        if len(parts) >= MANY:
            report("progress", stage="windows", step=number, steps=len(parts))


def _maps_of_each(
    model: BaseModel, parts: list[Window], report: Report
) -> Iterator[tuple[Box, list[torch.Tensor] | None]]:
    are_air = [float(window.hounsfield.max()) < AIR_ONLY_HU for window in parts]
    bodies = [window for window, is_air in zip(parts, are_air, strict=True) if not is_air]
    forward = _forward_for(model, bodies, report)
    together: list[Window] = []
    for window, is_air in zip(parts, are_air, strict=True):
        if is_air:
            yield window.box, None
            continue
        together.append(window)
        if len(together) == model.windows_at_once:
            yield from _maps_of(model, forward, together)
            together = []
    if together:
        yield from _maps_of(model, forward, together)


def _forward_for(model: BaseModel, bodies: list[Window], report: Report) -> Forward:
    """Return what puts windows through the network: on a GPU captured, where that pays.

    SAM looks its positions up on the CPU in each pass, and a model that remembers looks at its
    windows: neither can be captured.
    """
    passes = len(bodies) // model.windows_at_once
    can_be = model.slice_axis is None and not isinstance(model.family, _Remembering)
    if model.device.type != "cuda" or not can_be or passes < FEWEST:
        return model.feature_maps
    first = _batch(model, bodies[: model.windows_at_once])
    return fastest_forward(model.feature_maps, first, CudaGraphs(model.device), report)


def _batch(model: BaseModel, together: list[Window]) -> torch.Tensor:
    return torch.stack([window.hounsfield for window in together]).to(model.device)


def _maps_of(
    model: BaseModel, forward: Forward, together: list[Window]
) -> Iterator[tuple[Box, list[torch.Tensor] | None]]:
    with torch.no_grad():
        maps = forward(_batch(model, together))
    for number, window in enumerate(together):
        yield window.box, [level[number : number + 1] for level in maps]


def _corner_and_size(window: Window) -> tuple[torch.Tensor, torch.Tensor]:
    low = torch.tensor([part.start for part in window.box])
    return low, torch.tensor([part.stop - part.start for part in window.box])


def _depth(window: Window, points: torch.Tensor) -> torch.Tensor:
    """Return how deep points lie inside a window, in voxels; negative outside.

    Along an axis on which the window is one voxel thick, they are in it or not.
    """
    low, size = _corner_and_size(window)
    depth = torch.minimum(points - low, low + size - points)
    is_thin_and_inside = (size == 1) & (depth >= 0)
    return depth.masked_fill(is_thin_and_inside, torch.inf).amin(dim=1)
