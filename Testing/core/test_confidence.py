"""The estimate of each organ's Dice: its evidence, and the regression on it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np  # noqa: TID253
import pytest
import torch  # noqa: TID253

from fit_confidence import Known, best_threshold, fit, left_out_errors
from reglora_core.confidence import (
    FEATURES,
    Evidence,
    Regression,
    _add,
    _Sums,
    logit,
    shipped,
)
from reglora_core.experts import PaintedGrid

GOOD = Evidence(
    certainty=0.92, heads=0.93, propagation=0.9, experts=0.88, gap_mm=25.0, beyond=0.05,
    slices=4, ml=200.0,
)  # fmt: skip
BAD = Evidence(
    certainty=0.45, heads=0.4, propagation=0.35, experts=0.1, gap_mm=90.0, beyond=0.7,
    slices=1, ml=3.0,
)  # fmt: skip


def test_what_all_agree_on_is_believed_and_what_nothing_speaks_for_is_doubted() -> None:
    good, bad = shipped()(GOOD), shipped()(BAD)
    assert good.dice > 0.75
    assert not good.is_doubtful
    assert bad.dice < 0.55
    assert bad.is_doubtful
    for estimate in (good, bad):
        assert 0 <= estimate.range[0] <= estimate.dice <= estimate.range[1] <= 1


@pytest.mark.parametrize("field", ["certainty", "heads", "propagation", "experts"])
def test_extreme_evidence_gives_finite_estimates(field: str) -> None:
    for value in (0.0, 1.0):
        estimate = shipped()(replace(GOOD, **{field: value}, gap_mm=1e6, ml=0.0, slices=0))
        assert 0 < estimate.dice < 1
        assert all(math.isfinite(bound) for bound in estimate.range)


def test_the_shipped_coefficients_say_what_they_were_fitted_on() -> None:
    assert len(shipped().fitted_on) >= 10
    assert "sample" not in shipped().fitted_on
    assert shipped().errors[0] < 0 < shipped().errors[1]


def painted_grid(**changes: object) -> PaintedGrid:
    """Return a grid of 8 planes of 4 x 4; planes 2 and 5 are painted with organ 1 in a corner."""
    planes = torch.zeros(2, 4, 4, dtype=torch.long)
    planes[:, :2, :2] = 1
    grid = PaintedGrid(0, torch.tensor([2.5, 5.5]), planes, (8, 4, 4), (10.0, 3.0, 3.0), 1)
    return replace(grid, **changes)  # type: ignore[arg-type]


def scores_of(mask: torch.Tensor, certainty: float) -> torch.Tensor:
    """Return scores (2, z, y, x) that give the mask's voxels to the organ."""
    own = torch.where(mask, certainty, 1 - certainty)
    return torch.stack([1 - own, own])


def sums_for(fused: torch.Tensor, heads: torch.Tensor, carried: torch.Tensor) -> Evidence:
    sums = [_Sums()]
    _add(sums, fused, heads, carried, painted_grid(), 0.09)
    evidence = sums[0].evidence()
    assert evidence is not None
    return evidence


def test_the_evidence_is_of_voxels_without_paint() -> None:
    organ = torch.zeros(8, 4, 4, dtype=torch.bool)
    organ[1:7, :2, :2] = True  # planes 1 and 6 lie beyond the painted ones
    only_half = organ.clone()
    only_half[3:5, 1] = False
    evidence = sums_for(scores_of(organ, 0.9), scores_of(organ, 0.7), scores_of(only_half, 1.0))

    # off the paint: planes 1, 3, 4, 6 of 4 voxels each
    assert evidence.heads == 1.0
    assert evidence.propagation == pytest.approx(2 * 12 / (12 + 16))
    assert evidence.experts == evidence.propagation
    assert evidence.beyond == pytest.approx(8 / 16)
    assert evidence.gap_mm == pytest.approx((30 + 30 + 20 + 20) / 4)
    assert evidence.slices == 2
    assert evidence.ml == pytest.approx(24 * 0.09)
    # 16 voxels at .9 within, and 6 planes of 16 voxels less those at .1 outside
    score = 16 * 0.9 + (6 * 16 - 16) * 0.1
    assert evidence.certainty == pytest.approx(2 * 16 * 0.9 / (score + 16))


def test_an_organ_that_was_not_found_has_no_evidence() -> None:
    nothing = torch.zeros(8, 4, 4, dtype=torch.bool)
    sums = [_Sums()]
    _add(sums, *(scores_of(nothing, 0.9) for _ in range(3)), painted_grid(), 0.09)
    assert sums[0].evidence() is None


def known_organs(seed: int) -> list[Known]:
    """Return organs whose Dice follows from two kinds of evidence, with noise."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(120):
        certainty, experts = random.uniform(0.2, 0.95, 2)
        own = replace(GOOD, certainty=certainty, experts=experts)
        score = 0.3 + 0.7 * logit(certainty) + 0.4 * logit(experts) + random.normal(0, 0.3)
        found.append(Known(f"case_{number % 8}", 5, "liver", own, 1 / (1 + math.exp(-score))))
    return found


def test_the_fit_finds_what_the_dice_follows_from() -> None:
    regression = fit(known_organs(0))
    weights = dict(zip(FEATURES, regression.weights, strict=True))
    assert weights["certainty"] == pytest.approx(0.7, abs=0.12)
    assert weights["experts"] == pytest.approx(0.4, abs=0.12)
    fresh = known_organs(1)
    said = [regression(own.evidence) for own in fresh]
    inside = [own.range[0] <= k.dice <= own.range[1] for own, k in zip(said, fresh, strict=True)]
    assert 0.65 < np.mean(inside) < 0.95


def test_errors_are_those_of_scans_that_were_left_out() -> None:
    known = known_organs(0)
    odd = [replace(own, dice=0.05) if own.case == "case_0" else own for own in known]
    errors = left_out_errors(odd, 1.0)
    assert len(errors) == len(known)
    is_odd = np.array([own.case == "case_0" for own in known])
    assert errors[is_odd].mean() < -1.5
    assert abs(errors[~is_odd].mean()) < 0.8


def test_the_flag_is_set_where_it_finds_most_of_what_is_wrong() -> None:
    known = known_organs(0)
    exact = np.zeros(len(known))
    assert best_threshold(known, exact) == 0.5
    # estimates that are too high by half a logit: the threshold follows
    assert best_threshold(known, exact - 0.5) > 0.5


def test_coefficients_are_read_as_they_were_written(tmp_path) -> None:
    import json

    path = tmp_path / "confidence.json"
    path.write_text(json.dumps(shipped().to_dict()))
    assert Regression.read(path) == shipped()
