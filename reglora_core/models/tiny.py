"""``reglora-tiny``: the embedded base network, a small residual U-Net of MONAI's blocks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch  # noqa: TID253
from monai.networks.blocks.dynunet_block import (  # noqa: TID253
    UnetResBlock,
    UnetUpBlock,
)
from torch import nn  # noqa: TID253

NORM = ("batch", {"affine": True})


@dataclass(frozen=True)
class TinyConfig:
    """Shape of the network; stored with its weights."""

    widths: tuple[int, ...] = (16, 32, 64, 128, 160)  # multiples of 16 suit vector units
    inputs: int = 2
    classes: tuple[str, ...] = ()  # trained classes, background first
    embedding: int = 64  # width of the space in which voxels are compared

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class TinyUNet(nn.Module):
    """Residual U-Net with stride-2 convolutions and batch normalisation.

    Args:
        config: widths from the finest to the coarsest level.

    Shape:
        input (batch, 2, D, H, W) with D, H, W multiples of `stride`; `feature_maps` gives one
        tensor per level from coarse (stride 16) to fine (stride 1).
    """

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.encoder = nn.ModuleList(
            UnetResBlock(3, before, after, 3, stride, NORM)
            for before, after, stride in zip(
                (config.inputs, *widths[:-1]), widths, (1, *[2] * (len(widths) - 1)), strict=True
            )
        )
        self.decoder = nn.ModuleList(
            UnetUpBlock(3, below, width, 3, 2, 2, NORM)
            for below, width in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.classifier = nn.Linear(widths[0], len(config.classes))
        self.embedding = nn.Linear(sum(widths), config.embedding)

    @property
    def stride(self) -> int:
        """Sizes of the input must be multiples of this."""
        return int(2 ** (len(self.config.widths) - 1))

    @property
    def feature_widths(self) -> tuple[int, ...]:
        """Channels of each feature map, coarse to fine."""
        return self.config.widths[::-1]

    def feature_maps(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Return the decoder's maps from coarse to fine, for inputs (batch, 2, D, H, W)."""
        skips: list[torch.Tensor] = []
        hidden = inputs
        for block in self.encoder:
            hidden = block(hidden)
            skips.append(hidden)
        maps = [hidden]
        for block, skip in zip(self.decoder, skips[-2::-1], strict=True):
            hidden = block(hidden, skip)
            maps.append(hidden)
        return maps

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits of the trained classes (batch, classes, D, H, W)."""
        fine = self.feature_maps(inputs)[-1]
        logits: torch.Tensor = self.classifier(fine.movedim(1, -1))
        return logits.movedim(-1, 1)


def network_inputs(hounsfield: torch.Tensor) -> torch.Tensor:
    """Return the two input channels of HU values: soft tissue in detail, and the whole range.

    Shape: (..., D, H, W) -> (..., 2, D, H, W), inserted before the last three axes.
    """
    soft = torch.tanh((hounsfield - 40) / 150)
    wide = (hounsfield / 1000).clamp(-1, 1.5)
    return torch.stack([soft, wide], dim=-4)


class TinyFamily:
    """`TinyUNet` as a base network."""

    def stride(self, network: nn.Module) -> int:
        assert isinstance(network, TinyUNet)
        return network.stride

    def widths(self, network: nn.Module) -> tuple[int, ...]:
        assert isinstance(network, TinyUNet)
        return network.feature_widths

    def feature_maps(self, network: nn.Module, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        assert isinstance(network, TinyUNet)
        inputs = network_inputs(hounsfield).contiguous(memory_format=torch.channels_last_3d)
        return network.feature_maps(inputs)
