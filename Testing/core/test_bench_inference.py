"""The benchmark of ways through a network, on a small one."""

from __future__ import annotations

import pytest

import bench_inference

SMALL = bench_inference.Case("suprem-segresnet", 8, 32)


@pytest.mark.parametrize("what", ["forward", "step"])
def test_ways_are_measured_beside_the_first_one(what: str) -> None:
    first, last = bench_inference.measure(SMALL, ("first", "last"), what, 1, "bfloat16")
    assert (first.ratio, first.cpu_ratio) == (1, 1)
    assert last.ratio == pytest.approx(last.seconds / first.seconds)
    if what == "step":
        assert (first.off, last.off) == (None, None)
    else:
        assert first.off is not None
        assert 0 < first.off < 0.03  # of 16 bits from 32
    assert bench_inference.line("small", last).split()[:2] == ["small", "last"]
