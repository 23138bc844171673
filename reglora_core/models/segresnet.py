"""``segresnet`` and ``segresnet-ds``: MONAI's SegResNet, and the one that VISTA3D's encoder is.

Both are residual encoders and decoders with additive skips (Myronenko, arXiv 1810.11654); the
second has more levels, instance normalisation and transposed convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch  # noqa: TID253
from monai.networks.nets import SegResNet, SegResNetDS  # noqa: TID253

from reglora_core.models.inputs import InputRange, from_ras


def build(filters: int, classes: int = 2) -> SegResNet:
    """Return the network of SuPreM (16 filters) and of MONAI's whole-body bundle (32)."""
    return SegResNet(
        init_filters=filters,
        in_channels=1,
        out_channels=classes,
        blocks_down=(1, 2, 2, 4),
        blocks_up=(1, 1, 1),
    )


def build_deep(filters: int) -> SegResNetDS:
    """Return VISTA3D's encoder (48 filters) with one of its two decoders."""
    return SegResNetDS(
        init_filters=filters,
        in_channels=1,
        out_channels=filters,
        blocks_down=(1, 2, 2, 4, 4),
        norm="instance",
        dsdepth=1,
    )


@dataclass(frozen=True)
class _Residual:
    """What both have in common: a level has twice the channels of the one before it."""

    inputs: InputRange = field(default_factory=InputRange)

    def stride(self, network: Any) -> int:
        return int(2 ** (len(network.blocks_down) - 1))

    def widths(self, network: Any) -> tuple[int, ...]:
        levels = reversed(range(len(network.blocks_down)))
        return tuple(int(network.init_filters * 2**level) for level in levels)


class SegResNetFamily(_Residual):
    """SegResNet as a base network: features are its decoder's, before the output block."""

    def feature_maps(self, network: Any, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return the decoder's four maps, /8 to full resolution, in canonical orientation."""
        hidden, skips = network.encode(channels_last(self.inputs.ras(hounsfield)))
        maps = [hidden]
        for sample, layer, skip in zip(
            network.up_samples, network.up_layers, skips[-2::-1], strict=True
        ):
            maps.append(layer(sample(maps[-1]) + skip))
        return [from_ras(level) for level in maps]


def channels_last(inputs: torch.Tensor) -> torch.Tensor:
    """Return an input in the layout that the network is fastest in, its values unchanged.

    Convolutions and group normalisation keep it. Channels-last is faster on a CPU in 16 bits
    without gradients, and slower in float32 or with them (docs/benchmarks.md). On a GPU group
    normalisation returns channels-first whatever it gets (PyTorch 2.13).
    """
    is_faster = torch.is_autocast_enabled("cpu") and not torch.is_grad_enabled()
    if inputs.device.type != "cpu" or not is_faster:
        return inputs
    return inputs.contiguous(memory_format=torch.channels_last_3d)


class DeepSegResNetFamily(_Residual):
    """VISTA3D's encoder as a base network: features are those of its automatic branch."""

    def feature_maps(self, network: Any, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return the decoder's five maps, /16 to full resolution, in canonical orientation."""
        skips = network.encoder(self.inputs.ras(hounsfield))
        maps = [skips[-1]]
        for level, skip in zip(network.up_layers, skips[-2::-1], strict=True):
            maps.append(level["blocks"](level["upsample"](maps[-1]) + skip))
        return [from_ras(level) for level in maps]
