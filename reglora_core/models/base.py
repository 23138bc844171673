"""A base network in use: its entry, its module, and its features in canonical orientation."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.device import choose_precision, mixed_precision
from reglora_core.models.checkpointing import checkpointed
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


@dataclass(frozen=True)
class BaseModel:
    """A base network with frozen weights; the updates are added to its module.

    Attributes:
        sha256: of its file of weights; an adapter fits this base network alone.
        patch: the largest window (z, y, x) that goes through the network at once.
        slice_axis: the canonical axis that the slices are perpendicular to that the network
            sees; None where it sees volumes.
        precision: that it computes in (`reglora_core.device`).
        windows_at_once: how many go through it together.
        is_checkpointed: whether activations are computed anew for the gradients, to save memory.
    """

    entry: ModelEntry
    network: nn.Module
    family: Family
    sha256: str
    patch: tuple[int, int, int]
    slice_axis: int | None = None
    precision: str = "auto"
    windows_at_once: int = 1
    is_checkpointed: bool = False

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

    def on_cpu(self) -> BaseModel:
        """Move the network to the CPU; return the model there, with its own windows again."""
        patch = self.entry.patch_size if self.slice_axis is None else self.patch
        return BaseModel(
            self.entry, self.network.to("cpu"), self.family, self.sha256, patch, self.slice_axis
        )

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
        # one attention to a whole image of 1024 x 1024 pixels takes 0.8 GB in ViT-B
        is_short = self.is_checkpointed or self.slice_axis is not None
        kept = checkpointed(self.network) if is_short else nullcontext()
        with kept, mixed_precision(hounsfield, self.stride, self.precision):
            return self.family.feature_maps(self.network, hounsfield)


def in_precision(model: BaseModel, precision: str) -> BaseModel:
    """Return the model computing in a precision.

    Raises:
        ModelError: its device cannot train in it.
    """
    return replace(model, precision=choose_precision(precision, model.device))
