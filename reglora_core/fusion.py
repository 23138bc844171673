"""Fusion: what the heads see, and what the experts carry over, weighed by the gap to bridge.

Near an annotated slice all three agree and complement each other; far from one, the heads have
seen too little of the organ's surroundings and interpolation has nothing to hold on to, while
propagation along the image still works. So the weights depend on the gap in which a plane lies.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253

from reglora_core.experts import PaintedGrid, between


@dataclass(frozen=True)
class FusionConfig:
    """Weights, and the gaps (mm) between annotated slices over which they fall from 1 to 0."""

    heads: float = 2.0
    propagation: float = 1.0
    interpolation: float = 1.0
    heads_gap: tuple[float, float] = (50.0, 110.0)
    heads_floor: float = 0.0  # part of the weight that is left in the widest gaps
    interpolation_gap: tuple[float, float] = (30.0, 70.0)


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
    config: FusionConfig | None = None,
) -> torch.Tensor:
    """Return the weighted mean of three scores (organs + 1, z, y, x); propagation as one-hot."""
    config = config or FusionConfig()
    gap = gaps(paint)
    shape = [1, 1, 1, 1]
    shape[paint.axis + 1] = -1
    floor = config.heads_floor
    by_heads = config.heads * (floor + (1 - floor) * falling(gap, config.heads_gap)).view(shape)
    by_outline = config.interpolation * falling(gap, config.interpolation_gap).view(shape)
    winner = torch.nn.functional.one_hot(propagated.argmax(0), propagated.shape[0])
    total = by_heads * heads + by_outline * interpolated
    total += config.propagation * winner.movedim(-1, 0)
    return total / (by_heads + by_outline + config.propagation)
