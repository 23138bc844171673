"""Fusion: what the heads see, what propagation carries over, and what the outlines suggest.

Which of heads and propagation deserves more trust differs from scan to scan: in a contrast CT of
the abdomen an organ can be followed along the image across wide gaps; in the neck it cannot, but
the network knows the region. Slices that were left out tell which case it is (`trust_of`).
Interpolated outlines help where annotated slices are close.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch  # noqa: TID253

from reglora_core.experts import PaintedGrid, between

EVEN = 0.5  # trust in heads and propagation alike, while nothing is known


@dataclass(frozen=True)
class FusionConfig:
    """Weights of the three; heads and propagation share 2, in proportion to the trust in them."""

    interpolation: float = 0.5
    interpolation_gap: tuple[float, float] = (30.0, 70.0)  # mm over which its weight falls to 0
    sharpness: float = 0.05  # difference of held-out Dice that moves the trust from 1/2 to 0.73
    trust_limits: tuple[float, float] = (0.1, 0.9)  # neither heads nor propagation is silenced


def trust_of(
    heads_dice: float, propagation_dice: float, config: FusionConfig | None = None
) -> float:
    """Return the share of the heads, from the Dice of both on slices that were left out.

    Leaving slices out widens the gaps, so both are far below what they will be; which of them is
    ahead is a property of the scan that the gap changes little.
    """
    if math.isnan(heads_dice) or math.isnan(propagation_dice):
        return EVEN
    config = config or FusionConfig()
    difference = (heads_dice - propagation_dice) / config.sharpness
    low, high = config.trust_limits
    return min(max(1 / (1 + math.exp(-difference)), low), high)


def gaps(paint: PaintedGrid) -> torch.Tensor:
    """Return, per plane, the distance in mm between the annotated slices that enclose it.

    Beyond the outermost slice it is twice the distance to it.
    """
    count, spacing = paint.shape[paint.axis], paint.spacing[paint.axis]
    low, high, _ = between(paint.positions, count)
    planes = torch.arange(count) + 0.5
    nearest = (planes[:, None] - paint.positions).abs().amin(dim=1)
    inner = paint.positions[high] - paint.positions[low]
    return torch.where(low == high, 2 * nearest, inner) * spacing


def falling(gap: torch.Tensor, limits: tuple[float, float]) -> torch.Tensor:
    """Return 1 up to the first limit, 0 from the second on, linear between."""
    start, end = limits
    return ((end - gap) / (end - start)).clamp(0, 1)


def fuse(
    heads: torch.Tensor,
    propagated: torch.Tensor,
    interpolated: torch.Tensor,
    paint: PaintedGrid,
    trust: float = EVEN,
    config: FusionConfig | None = None,
) -> torch.Tensor:
    """Return the weighted mean of three scores (organs + 1, z, y, x), `trust` being the heads'."""
    config = config or FusionConfig()
    shape = [1, 1, 1, 1]
    shape[paint.axis + 1] = -1
    share = config.interpolation * falling(gaps(paint), config.interpolation_gap).view(shape)
    total = 2 * trust * heads + 2 * (1 - trust) * propagated + share * interpolated
    return total / (2 + share)
