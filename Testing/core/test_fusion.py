"""Fusion: what weighs how much, and where."""

from __future__ import annotations

import pytest
import torch  # noqa: TID253

from reglora_core.experts import PaintedGrid
from reglora_core.fusion import FusionConfig, beyond, falling, fuse, gaps

CONFIG = FusionConfig(interpolation=0.5, interpolation_gap=(30.0, 70.0))


def a_paint(positions: list[float], axis: int = 0, spacing: float = 10.0) -> PaintedGrid:
    shape = [1, 1, 1]
    shape[axis] = 8
    planes = torch.zeros(len(positions), 1, 1, dtype=torch.long)
    return PaintedGrid(
        axis, torch.tensor(positions), planes, tuple(shape), (spacing,) * 3, organs=1
    )


def scores(background: float, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.stack([torch.full(shape, background), torch.full(shape, 1 - background)])


def test_a_gap_is_the_distance_between_the_slices_around_a_plane() -> None:
    # planes at 0.5 ... 7.5, slices at 1.5 and 5.5, 10 mm apart each
    expected = [20, 40, 40, 40, 40, 40, 20, 40]
    found = gaps(a_paint([1.5, 5.5])).tolist()
    assert found[2:6] == expected[2:6]
    assert [found[0], found[6], found[7]] == [20, 20, 40]


def test_a_weight_falls_linearly_between_its_limits() -> None:
    assert falling(torch.tensor([0.0, 30, 50, 70, 90]), (30, 70)).tolist() == [1, 1, 0.5, 0, 0]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_outlines_weigh_less_across_a_wider_gap(axis: int) -> None:
    paint = a_paint([0.5, 5.5], axis)  # a gap of 50 mm: half of the outlines' weight
    heads, propagated, outlines = (scores(p, paint.shape) for p in (0.9, 0.2, 0.6))
    fused = fuse(heads, propagated, outlines, paint, CONFIG).movedim(axis + 1, 1)
    expected = (0.9 + 0.2 + 0.25 * 0.6) / 2.25
    assert fused[0, 3].item() == pytest.approx(expected, abs=1e-6)


def test_fused_scores_still_sum_to_one() -> None:
    paint = a_paint([1.5, 5.5])
    parts = [scores(p, paint.shape) for p in (0.9, 0.2, 0.6)]
    assert torch.allclose(fuse(*parts, paint).sum(0), torch.ones(paint.shape))


def test_all_three_agreeing_is_the_result() -> None:
    paint = a_paint([1.5])
    same = scores(0.3, paint.shape)
    assert torch.allclose(fuse(same, same, same, paint), same)


def test_far_beyond_the_outermost_slices_propagation_overrules_the_heads() -> None:
    paint = a_paint([0.5, 1.5])  # the last plane lies 60 mm beyond
    heads, propagated = scores(0.0, paint.shape), scores(1.0, paint.shape)
    fused = fuse(heads, propagated, scores(0.5, paint.shape), paint)
    assert beyond(paint).tolist() == [0, 0, 10, 20, 30, 40, 50, 60]
    assert fused[0, 7].item() == pytest.approx(1 / 1.5)
    assert fused[0, 5].item() == pytest.approx(1 / 1.75)


def test_outlines_weigh_nothing_without_whole_slices() -> None:
    paint = a_paint([1.5, 5.5])
    paint.planes.fill_(-1)
    parts = torch.rand(3, 2, *paint.shape, generator=torch.Generator().manual_seed(0))
    expected = fuse(parts[0], parts[1], torch.zeros_like(parts[2]), paint)
    assert torch.equal(fuse(*parts, paint), expected)
    assert gaps(paint.whole_slices()).isinf().all()
