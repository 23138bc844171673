"""Random numbers, turns and smooth fields that crops are drawn with."""

from __future__ import annotations

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253


def uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    """Return one number between low and high."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def rotation(angles: torch.Tensor) -> torch.Tensor:
    """Return the turn (3, 3) by three angles, in radians."""
    matrix = torch.eye(3)
    for axis in range(3):
        cosine, sine = torch.cos(angles[axis]), torch.sin(angles[axis])
        turn = torch.eye(3)
        i, j = [k for k in range(3) if k != axis]
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = cosine, -sine, sine, cosine
        matrix = matrix @ turn
    return matrix


def smooth(field: torch.Tensor, passes: int) -> torch.Tensor:
    """Blur (z, y, x) by repeated box filters of width 3."""
    for _ in range(passes):
        field = F.avg_pool3d(field[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    return field


def smooth_fields(count: int, knots: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return `count` fields (count, size, size, size): normal at knots^3 points, linear between."""
    values = torch.randn(1, count, knots, knots, knots, generator=generator)
    return F.interpolate(values, [size] * 3, mode="trilinear", align_corners=True)[0]


def paint(regions: torch.Tensor, detail: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Give each region a random intensity (HU), and a random share of the detail and of noise.

    Shape: regions int64 (z, y, x), detail float (z, y, x).
    """
    count = int(regions.max()) + 1
    means = torch.rand(count, generator=generator) * 500 - 200
    texture = torch.rand(count, generator=generator) * 0.6
    painted = means[regions] + texture[regions] * detail
    noise = torch.randn(regions.shape, generator=generator)
    return smooth(painted + 15 * noise, int(uniform(generator) < 0.5))
