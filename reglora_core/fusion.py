"""Fusion: what the heads see, what propagation carries over, and what the outlines suggest.

Heads and propagation weigh the same between annotated slices. Far beyond the outermost ones,
where nothing tells the heads of what is unlike all that was painted (a full bladder has the
liver's grey), propagation overrules them. Interpolated outlines help where annotated slices are
close. Weights chosen by leaving slices out were worse (docs/experiments.md): that doubles the
gaps, and what is ahead across a doubled gap need not be ahead across a single one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253

from reglora_core.experts import PaintedGrid, between


@dataclass(frozen=True)
class FusionConfig:
    """Weights of the three scores."""

    heads: float = 1.0
    heads_beyond: float = 0.5  # of that weight, what is left far beyond the outermost slices
    heads_reach: tuple[float, float] = (20.0, 60.0)  # mm beyond them over which it falls
    propagation: float = 1.0
    interpolation: float = 0.5
    interpolation_gap: tuple[float, float] = (10.0, 30.0)  # mm over which its weight falls to 0


def gaps(paint: PaintedGrid) -> torch.Tensor:
    """Return, per plane, the distance in mm between the annotated slices that enclose it.

    Beyond the outermost slice it is twice the distance to it, and infinite without any slice.
    """
    if not len(paint.positions):
        return torch.full((paint.shape[paint.axis],), torch.inf)
    count, spacing = paint.shape[paint.axis], paint.spacing[paint.axis]
    low, high, _ = between(paint.positions, count)
    planes = torch.arange(count) + 0.5
    nearest = (planes[:, None] - paint.positions).abs().amin(dim=1)
    inner = paint.positions[high] - paint.positions[low]
    return torch.where(low == high, 2 * nearest, inner) * spacing


def beyond(paint: PaintedGrid) -> torch.Tensor:
    """Return, per plane, how far in mm it lies beyond the outermost annotated slices."""
    planes = torch.arange(paint.shape[paint.axis]) + 0.5
    outside = torch.maximum(paint.positions[0] - planes, planes - paint.positions[-1])
    return outside.clamp_min(0) * paint.spacing[paint.axis]


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
    """Return the weighted mean of three scores (organs + 1, z, y, x).

    One label after the other, so that nothing beside the result is as large as the scores.
    """
    config = config or FusionConfig()
    shape = [1, 1, 1]
    shape[paint.axis] = -1
    gap = gaps(paint.whole_slices())
    share = config.interpolation * falling(gap, config.interpolation_gap).view(shape)
    inner = falling(beyond(paint), config.heads_reach).view(shape)
    own = config.heads * (config.heads_beyond + (1 - config.heads_beyond) * inner)
    weight = own + config.propagation + share
    fused = torch.empty_like(propagated)
    for label, target in enumerate(fused):
        total = own * heads[label] + config.propagation * propagated[label]
        total += share * interpolated[label]
        torch.div(total, weight, out=target)
    return fused
