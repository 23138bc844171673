"""The GPU's benchmark, unchanged, on a CPU with a tiny network."""

from __future__ import annotations

import pytest
import torch  # noqa: TID253
from torch import nn  # noqa: TID253

import bench_gpu

CPU = torch.device("cpu")
TINY = bench_gpu.Sizes(
    entry="reglora-tiny",
    feature_size=0,
    edge=32,
    painted=(40, 64, 64),
    large=(40, 64, 64),
    spacing=(3.0, 3.0, 3.0),
    product=64,
    repeats=1,
    most_steps=10,
)


@pytest.fixture(scope="module")
def measured() -> dict:
    return bench_gpu.measure(TINY, CPU, dice=0.9)


def test_all_loops_are_measured(measured: dict) -> None:
    for name in ("ours", "straightforward"):
        row = measured[name]
        assert row["step_seconds"] > 0
        assert 1 < row["steps_to_dice"] <= 11
        assert row["seconds_to_dice"] > 0
        assert 0 <= row["dice"] <= 1
        assert row["predict_seconds"] > 0
        assert row["peak_bytes"] > 32**3 * 8 * 2  # a map of 8 channels, in 16 bits
        assert row["share_of_ceiling"] > 0
    assert measured["straightforward"]["precision"] == "float32"
    assert ("peft" in measured) == bench_gpu.has_peft()


def test_the_table_has_the_ratio_to_the_straightforward_loop(measured: dict) -> None:
    faster = {**measured, "ours": {**measured["ours"], "step_seconds": 0.5}}
    faster["straightforward"] = {**measured["straightforward"], "step_seconds": 2.0}
    text = bench_gpu.table(faster)
    ours = next(line for line in text.splitlines() if line.startswith("ours"))
    assert ours.split()[1:3] == ["0.500", "4.00"]
    assert "ceiling, 10^12 operations/s: " in text


def test_the_table_tells_whether_the_forward_was_captured(measured: dict) -> None:
    told = {"windows": 4, "plain_seconds": 0.5, "captured_seconds": 0.25, "why": "faster"}
    captured = {**measured, "ours": {**measured["ours"], "is_captured": True, "a_pass": told}}
    lines = bench_gpu.table(captured).splitlines()
    ours, plain, *_ = [line for line in lines if ": a pass of" in line]
    assert ours.startswith("ours: a pass of 4 windows 0.5000 s, captured 0.2500 s (faster); ")
    assert ours.endswith("; the prediction was captured")
    assert plain.endswith("captured not measured (no GPU); the prediction was plain")


def test_both_loops_draw_the_same_crops_and_lose_the_same(tmp_path) -> None:
    bench_gpu.synthetic_case(tmp_path, TINY.painted, TINY.spacing)
    losses = []
    for name in ("ours", "straightforward"):
        loop = bench_gpu.make_loop(name, TINY, CPU, "", tmp_path)
        loop.refiner.model = bench_gpu.in_precision(loop.refiner.model, "float32")
        losses.append(float(loop.refiner._loss(loop.inside, loop.pool).detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_operations_are_those_of_the_products() -> None:
    class OneProduct:
        def step(self) -> None:
            layer = nn.Linear(30, 50)
            layer(torch.ones(20, 30)).sum().backward()

    # forward, and the gradient of the weights; the input needs none
    assert bench_gpu.operations(OneProduct()) == 2 * (2 * 20 * 30 * 50)
