"""``swinunetr`` and ``swinvit``: MONAI's SwinUNETR, and its Swin transformer alone.

The published ones have feature_size 48, depths 2/2/2/2, heads 3/6/12/24, window 7 and one input
channel: 62.19 M parameters, 8.06 M of them in the transformer (Hatamizadeh et al., arXiv
2201.01266).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch  # noqa: TID253
from monai.networks.nets import SwinUNETR  # noqa: TID253
from monai.networks.nets.swin_unetr import SwinTransformer  # noqa: TID253

from reglora_core.models.inputs import InputRange, from_ras


def build(feature_size: int = 48, classes: int = 1) -> SwinUNETR:
    """Return the network, untrained; an output of `classes` stands for the trained one."""
    return SwinUNETR(in_channels=1, out_channels=classes, feature_size=feature_size)


def build_encoder(feature_size: int = 48) -> SwinTransformer:
    """Return the network's transformer alone, untrained."""
    return build(feature_size).swinViT


@dataclass(frozen=True)
class SwinFamily:
    """SwinUNETR as a base network: features are its decoder's."""

    inputs: InputRange = field(default_factory=InputRange)

    def stride(self, network: Any) -> int:
        del network
        return 32

    def widths(self, network: Any) -> tuple[int, ...]:
        size = network.out.conv.conv.in_channels
        return (16 * size, 8 * size, 4 * size, 2 * size, size, size)

    def feature_maps(self, network: Any, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return the decoder's six maps, /32 to full resolution, in canonical orientation."""
        inputs = self.inputs.ras(hounsfield)
        states = network.swinViT(inputs, network.normalize)
        skips = [
            network.encoder1(inputs),
            network.encoder2(states[0]),
            network.encoder3(states[1]),
            network.encoder4(states[2]),
            states[3],
        ]
        maps = [network.encoder10(states[4])]
        blocks = (
            network.decoder5, network.decoder4, network.decoder3, network.decoder2,
            network.decoder1,
        )  # fmt: skip
        for block, skip in zip(blocks, reversed(skips), strict=True):
            maps.append(block(maps[-1], skip))
        return [from_ras(level) for level in maps]


@dataclass(frozen=True)
class SwinEncoderFamily:
    """SwinUNETR's transformer as a base network, for weights that come without a decoder.

    Features are its five normalised states, /32 to /2, and the input itself.
    """

    inputs: InputRange = field(default_factory=InputRange)

    def stride(self, network: Any) -> int:
        del network
        return 32

    def widths(self, network: Any) -> tuple[int, ...]:
        size = network.embed_dim
        return (16 * size, 8 * size, 4 * size, 2 * size, size, 1)

    def feature_maps(self, network: Any, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return the states, coarse to fine, and the input, in canonical orientation."""
        inputs = self.inputs.ras(hounsfield)
        states = network(inputs, normalize=True)
        return [from_ras(level) for level in (*states[::-1], inputs)]
