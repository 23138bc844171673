"""Anatomies that no patient has: random shapes in random tissue, for the few-slice episode.

After the generated shapes of SynthMorph (Hoffmann et al., IEEE TMI 2022) and AnyStar (Dey et al.,
WACV 2024): what the features are to learn from them is to follow *any* body that somebody
outlines, whatever its intensity, and not only the organs of the scans at hand.
"""

from __future__ import annotations

import torch  # noqa: TID253

from reglora_core.pretraining.draws import paint, rotation, smooth, smooth_fields, uniform

AIR_HU = -1000.0


def generated_anatomy(size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Return intensities (HU) and shapes (int64, 0 is background), both (size, size, size).

    Tissue is the strongest of several smooth random fields: some of its kinds are shapes to find,
    the others background of another intensity. In it lie warped ellipsoids, from nodules to
    tubes, and around it, half of the time, air.
    """
    kinds = 3 + int(torch.randint(6, (), generator=generator))
    knots = 3 + int(torch.randint(5, (), generator=generator))
    tissue = smooth_fields(kinds, knots, size, generator).argmax(dim=0)
    wanted = torch.arange(1, kinds + 1) * (torch.rand(kinds, generator=generator) < 0.35)
    regions, shapes = tissue, wanted[tissue]

    axis = torch.arange(size) - (size - 1) / 2
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    warp = smooth_fields(3, 6, size, generator).movedim(0, -1)
    points = points + 3 * uniform(generator) * warp
    for index in range(3 + int(torch.randint(7, (), generator=generator))):
        inside = _ellipsoid(points, size, generator)
        regions = torch.where(inside, kinds + index, regions)
        shapes = torch.where(inside, kinds + 1 + index, shapes)

    detail = 60 * smooth(torch.randn(regions.shape, generator=generator), 1)
    hounsfield = paint(regions, detail, generator)
    if uniform(generator) < 0.5:
        radius = size * (0.35 + 0.2 * torch.rand(2, generator=generator))
        outside = (points[..., 1:] / radius).square().sum(dim=-1) > 1
        hounsfield = hounsfield.masked_fill(outside, AIR_HU)
        shapes = shapes.masked_fill(outside, 0)
    return hounsfield, shapes


def _ellipsoid(points: torch.Tensor, size: int, generator: torch.Generator) -> torch.Tensor:
    """Return where a random ellipsoid is: radii 2 to 14 voxels, one in three a tube."""
    center = (torch.rand(3, generator=generator) - 0.5) * 0.8 * size
    radius = 2 * (14 / 2) ** uniform(generator)
    radii = radius * (0.7 + 0.6 * torch.rand(3, generator=generator))
    if uniform(generator) < 1 / 3:
        radii[int(torch.randint(3, (), generator=generator))] *= 4
    turn = rotation(3.14 * torch.rand(3, generator=generator))
    inside: torch.Tensor = (((points - center) @ turn) / radii).square().sum(dim=-1) < 1
    return inside
