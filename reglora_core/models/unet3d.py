"""``unet3d``: the 3D U-Net of Models Genesis, the Universal Model and SuPreM.

Rebuilt from the names and shapes of the published weights (19.07 M parameters with 32 filters):
four levels of two 3 x 3 x 3 convolutions, max pooling between them, 2 x 2 x 2 transposed
convolutions on the way up, skips by concatenation. The published network normalises by the
statistics of its own batch, also at inference; with windows one by one that is instance
normalisation, which is what stands here, so that training and prediction agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.models.inputs import InputRange, from_ras

DOWN = ("down_tr64", "down_tr128", "down_tr256", "down_tr512")
UP = ("up_tr256", "up_tr128", "up_tr64")


class _Step(nn.Module):
    """Convolution, normalisation, ReLU; the names are those of the published weights."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.bn1 = nn.InstanceNorm3d(outputs, affine=True)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return F.relu(self.bn1(self.conv1(hidden)))


class _Level(nn.Module):
    """Two steps; on the way up, after a transposed convolution and the skip."""

    def __init__(self, widths: tuple[int, int, int], up_from: int = 0) -> None:
        super().__init__()
        inputs, middle, outputs = widths
        if up_from:
            self.up_conv = nn.ConvTranspose3d(up_from, up_from, 2, stride=2)
        self.ops = nn.Sequential(_Step(inputs, middle), _Step(middle, outputs))

    def forward(self, hidden: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
        if skip is not None:
            hidden = torch.cat([self.up_conv(hidden), skip], dim=1)
        result: torch.Tensor = self.ops(hidden)
        return result


class UNet3D(nn.Module):
    """The U-Net without its output layer.

    Args:
        filters: of the first convolution; the levels have 2, 4, 8 and 16 times as many channels.

    Shape:
        input (batch, 1, D, H, W) with D, H, W multiples of 8; gives four maps, /8 to full
        resolution, with 16, 8, 4 and 2 times `filters` channels.
    """

    def __init__(self, filters: int = 32) -> None:
        super().__init__()
        self.filters = filters
        outputs = [filters * 2**level for level in range(1, 5)]
        for name, before, own in zip(DOWN, (1, *outputs), outputs, strict=False):
            self.add_module(name, _Level((before, own // 2, own)))
        for name, below, own in zip(UP, outputs[:0:-1], outputs[-2::-1], strict=True):
            self.add_module(name, _Level((below + own, own, own), up_from=below))

    def forward(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        skips: list[torch.Tensor] = []
        for name in DOWN:
            hidden = F.max_pool3d(skips[-1], 2) if skips else inputs
            skips.append(self.get_submodule(name)(hidden))
        maps = [skips[-1]]
        for name, skip in zip(UP, skips[-2::-1], strict=True):
            maps.append(self.get_submodule(name)(maps[-1], skip))
        return maps


@dataclass(frozen=True)
class UNetFamily:
    """The U-Net as a base network."""

    inputs: InputRange = field(default_factory=InputRange)

    def stride(self, network: nn.Module) -> int:
        del network
        return 8

    def widths(self, network: nn.Module) -> tuple[int, ...]:
        assert isinstance(network, UNet3D)
        return tuple(network.filters * times for times in (16, 8, 4, 2))

    def feature_maps(self, network: nn.Module, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        """Return the decoder's four maps, /8 to full resolution, in canonical orientation."""
        return [from_ras(level) for level in network(self.inputs.ras(hounsfield))]
