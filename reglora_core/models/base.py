"""A base network in use: its entry, its module, and its features in canonical orientation."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.errors import ModelError
from reglora_core.models.entry import ModelEntry
from reglora_core.models.slices import turned


class Family(Protocol):
    """What distinguishes one kind of network from another."""

    def stride(self, network: nn.Module) -> int:
        """Return the number that the sizes of an input must be multiples of."""

    def widths(self, network: nn.Module) -> tuple[int, ...]:
        """Return the channels of each feature map, coarse to fine."""

    def feature_maps(self, network: nn.Module, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return the feature maps, coarse to fine, of HU values (batch, D, H, W), canonical."""


@runtime_checkable
class SliceFamily(Family, Protocol):
    """A family whose networks see the slices of a volume one by one."""

    def along(self, axis: int) -> SliceFamily:
        """Return the family with its slices perpendicular to another canonical axis."""


SMALLEST_PATCH = 32


MIN_COARSE_VOXELS = 4  # along each axis at the coarsest level, to train in bfloat16


@dataclass(frozen=True)
class BaseModel:
    """A base network with frozen weights; the updates are added to its module.

    Attributes:
        sha256: of its file of weights; an adapter fits this base network alone.
        patch: the largest window (z, y, x) that goes through the network at once.
        slice_axis: the canonical axis that the slices are perpendicular to that the network
            sees; None where it sees volumes.
    """

    entry: ModelEntry
    network: nn.Module
    family: Family
    sha256: str
    patch: tuple[int, int, int]
    slice_axis: int | None = None

    def with_smaller_patch(self) -> BaseModel | None:
        """Return the model with windows of half the edge, or None where that is too small.

        Half is rounded up to whole strides, and two of them are the least: at the coarsest level
        one voxel has no variance to be normalised by.
        """
        depth, rows, columns = (-(-size // 2 // self.stride) * self.stride for size in self.patch)
        patch = (depth, rows, columns)
        if patch == self.patch or min(patch) < max(SMALLEST_PATCH, 2 * self.stride):
            return None
        return replace(self, patch=patch)

    def cut_along(self, axis: int) -> BaseModel:
        """Return the model with its slices perpendicular to a canonical axis.

        Its working grid turns with them. Networks that see volumes stay as they are.
        """
        before = self.slice_axis
        if before is None or before == axis:
            return self
        assert isinstance(self.family, SliceFamily)
        assert isinstance(self.entry.spacing_mm, tuple)
        spacing = turned(self.entry.spacing_mm, before, axis)
        return replace(
            self,
            entry=replace(self.entry, spacing_mm=spacing),
            family=self.family.along(axis),
            patch=turned(self.patch, before, axis),
            slice_axis=axis,
        )

    def crop(self, edge: int) -> tuple[int, int, int]:
        """Return the shape (z, y, x) of a crop to train on: a cube, or one slice.

        Args:
            edge: of the cube, in working voxels; at most the patch's shortest.
        """
        if self.slice_axis is not None:
            return self.patch
        edge = min(edge, *self.patch)
        return (edge, edge, edge)

    @property
    def stride(self) -> int:
        return self.family.stride(self.network)

    @property
    def widths(self) -> tuple[int, ...]:
        return self.family.widths(self.network)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def is_adapted_layer(self, name: str, module: nn.Module) -> bool:
        """Tell whether a layer of the network gets a low-rank update."""
        del module
        return re.search(self.entry.adapter_targets, name) is not None

    def feature_maps(self, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return the decoder's maps from coarse to fine, in float32.

        Shape: (batch, D, H, W) with sizes that are multiples of `stride`
        -> per level (batch, channels, D', H', W'); the last one has the input's size.
        """
        with mixed_precision(hounsfield, self.stride):
            return self.family.feature_maps(self.network, hounsfield)


def mixed_precision(volume: torch.Tensor, stride: int) -> torch.autocast:
    """Return a context in which a network computes in bfloat16 where that is fast and right.

    On CPUs, oneDNN's weight gradient of a 3 x 3 x 3 convolution of two planes reads memory that
    nothing was written to (torch 2.13, avx512_bf16: gradients differ from run to run, or are
    NaN); three planes are right. Networks that train on so little stay in float32.

    Args:
        volume: input (..., D, H, W).
        stride: of the network's coarsest level.
    """
    is_small = min(volume.shape[-3:]) < MIN_COARSE_VOXELS * stride
    is_risky = volume.device.type == "cpu" and is_small and torch.is_grad_enabled()
    enabled = has_fast_bfloat16(volume.device) and not is_risky
    return torch.autocast(volume.device.type, torch.bfloat16, enabled=enabled)


def has_fast_bfloat16(device: torch.device) -> bool:
    """Tell whether bfloat16 is faster than float32: on GPUs, and on CPUs that multiply it."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, probe, bool)() for probe in probes)


def choose_device(name: str) -> torch.device:
    """Return the device of that name; ``auto`` takes the best one there is.

    Raises:
        ModelError: this computer has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        message = f"device {name!r} is not there"
        raise ModelError(message, "choose auto or cpu") from error
    return device
