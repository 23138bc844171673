"""``swinunetr``: MONAI's SwinUNETR in FSEFT's configuration (Silva-Rodriguez et al., MedIA 2025).

feature_size 48, depths 2/2/2/2, heads 3/6/12/24, window 7, one input channel, 62.19 M parameters;
its input is oriented to RAS, 1.5 mm isotropic, HU [-175, 250] mapped onto [0, 1].
"""

from __future__ import annotations

from typing import Any

import torch  # noqa: TID253
from monai.networks.nets import SwinUNETR  # noqa: TID253

HU_WINDOW = (-175.0, 250.0)


def build(feature_size: int = 48, classes: int = 1) -> SwinUNETR:
    """Return the network, untrained; an output of `classes` stands for the trained one."""
    return SwinUNETR(in_channels=1, out_channels=classes, feature_size=feature_size)


class SwinFamily:
    """SwinUNETR as a base network."""

    def stride(self, network: Any) -> int:
        del network
        return 32

    def widths(self, network: Any) -> tuple[int, ...]:
        size = network.out.conv.conv.in_channels
        return (16 * size, 8 * size, 4 * size, 2 * size, size, size)

    def feature_maps(self, network: Any, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return the decoder's six maps, /32 to full resolution, in canonical orientation."""
        low, high = HU_WINDOW
        inputs = ((hounsfield - low) / (high - low)).clamp(0, 1)[:, None]
        states = network.swinViT(_to_ras(inputs), network.normalize)
        skips = [
            network.encoder1(_to_ras(inputs)),
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
        return [_from_ras(level) for level in maps]


def _to_ras(canonical: torch.Tensor) -> torch.Tensor:
    """Turn axes (z to S, y to P, x to L) into (x to R, y to A, z to S)."""
    return canonical.flip(-1, -2).transpose(-1, -3)


def _from_ras(ras: torch.Tensor) -> torch.Tensor:
    return ras.transpose(-1, -3).flip(-1, -2)
