"""The head: partial labels, groups, and whole maps against single points."""

from __future__ import annotations

import math

import pytest
import torch  # noqa: TID253

from reglora_core.features import sample_maps
from reglora_core.head import (
    Head,
    HeadConfig,
    Samples,
    fit_head,
    organ_loss,
    partial_log_probabilities,
)

CONFIG = HeadConfig(hidden=32, steps=150, voxels=256, learning_rate=1e-2)


def a_head(widths: tuple[int, ...] = (4,), groups: tuple[tuple[int, ...], ...] = ((0, 1),)) -> Head:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Head(widths, groups, CONFIG).eval()


def logs(*probabilities: float) -> torch.Tensor:
    return torch.tensor([[math.log(p) for p in probabilities]])


def test_with_all_organs_known_probabilities_are_a_softmax() -> None:
    found = partial_log_probabilities(logs(0.5, 0.3, 0.2) + 7, torch.ones(1, 2, dtype=torch.bool))
    assert torch.allclose(found.exp(), torch.tensor([[0.5, 0.3, 0.2]]))


def test_an_unknown_organ_is_merged_into_the_background() -> None:
    found = partial_log_probabilities(logs(0.5, 0.3, 0.2), torch.tensor([[True, False]]))
    assert torch.allclose(found.exp(), torch.tensor([[0.7, 0.3, 0.7]]))


def test_each_voxel_has_its_own_unknown_organs() -> None:
    logits = logs(0.5, 0.3, 0.2).repeat(3, 1)
    known = torch.tensor([[True, True], [False, True], [False, False]])
    found = partial_log_probabilities(logits, known).exp()
    expected = torch.tensor([[0.5, 0.3, 0.2], [0.8, 0.8, 0.2], [1.0, 1.0, 1.0]])
    assert torch.allclose(found, expected)


def test_the_gradient_says_nothing_about_an_unknown_organ_against_the_background() -> None:
    logits = logs(0.5, 0.3, 0.2).requires_grad_()
    log_p = partial_log_probabilities(logits, torch.tensor([[True, False]]))
    (-log_p[0, 0]).backward()
    gradient = logits.grad
    assert gradient is not None
    # d -log(p0 + p2) / dz = p - p_merged share: both fall, in proportion to their own share
    share = torch.tensor([0.5, 0.0, 0.2]) / 0.7
    assert torch.allclose(gradient[0], torch.tensor([0.5, 0.3, 0.2]) - share, atol=1e-6)


def test_the_loss_is_cross_entropy_plus_dice_over_known_organs() -> None:
    head = a_head()
    logits = torch.cat([logs(0.5, 0.3, 0.2), logs(0.1, 0.8, 0.1)])
    targets = torch.tensor([[0], [1]])
    loss = organ_loss(head, logits, targets, torch.ones(2, 2, dtype=torch.bool))
    entropy = -(math.log(0.5) + math.log(0.8)) / 2
    dice = (2 * 0.8 + 1) / (0.3 + 0.8 + 1 + 1)  # of the one organ that is present
    assert float(loss) == pytest.approx(entropy + 1 - dice, abs=1e-5)


def test_unlabelled_voxels_have_no_part_in_the_loss() -> None:
    head = a_head()
    known = torch.ones(3, 2, dtype=torch.bool)
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    two = organ_loss(head, logits[:2], torch.tensor([[0], [1]]), known[:2])
    three = organ_loss(head, logits, torch.tensor([[0], [1], [-1]]), known)
    assert torch.equal(two, three)


def test_the_loss_of_two_groups_is_their_mean() -> None:
    head = a_head(groups=((0,), (1,)))
    known = torch.ones(1, 2, dtype=torch.bool)
    logits = torch.cat([logs(0.75, 0.25), logs(0.5, 0.5)], dim=1)
    loss = organ_loss(head, logits, torch.tensor([[0, 0]]), known)
    assert float(loss) == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2, abs=1e-6)


def test_probabilities_sum_to_one_within_each_group() -> None:
    head = a_head(groups=((0, 2), (1,)))
    p = head.probabilities(torch.randn(7, 5, generator=torch.Generator().manual_seed(1)))
    assert torch.allclose(p[:, :3].sum(1), torch.ones(7))
    assert torch.allclose(p[:, 3:].sum(1), torch.ones(7))


def test_features_are_standardised_by_the_annotated_voxels() -> None:
    head = a_head((2,))
    head.standardise_by(torch.tensor([[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]]))
    assert head.mean.tolist() == [3.0, 5.0]
    assert head.deviation[0] == pytest.approx(2.0)
    assert head.deviation[1] > 0  # a constant feature does not divide by zero
    assert torch.isfinite(head(torch.tensor([[1e6, 5.0]]))).all()


@pytest.mark.parametrize("size", [8, 40])
@pytest.mark.parametrize("has_full_size_twice", [False, True])
def test_whole_maps_give_the_same_as_their_points(size: int, has_full_size_twice: bool) -> None:
    widths = (5, 4, 3, 2)
    sizes = (size // 4, size // 2, size, size) if has_full_size_twice else (
        size // 8, size // 4, size // 2, size,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(1, width, n, n, n, generator=generator)
        for width, n in zip(widths, sizes, strict=True)
    ]
    head = a_head(widths, ((0, 2), (1,)))
    whole = head.on_maps(maps)
    assert whole.shape == (5, size, size, size)
    index = torch.randint(size // 4, size - size // 4, (200, 3), generator=generator)
    points = (index + 0.5) / size
    single = head.probabilities(head(sample_maps(maps, points)))
    z, y, x = index.unbind(1)
    # levels are enlarged step by step, which is a little smoother than in one step
    assert float((whole[:, z, y, x].T - single).detach().abs().mean()) < 0.02


def test_constant_maps_give_exactly_the_probabilities_of_the_point() -> None:
    head = a_head((3, 2))
    maps = [torch.full((1, 3, 4, 4, 4), 0.7), torch.full((1, 2, 8, 8, 8), -0.4)]
    single = head.probabilities(head(torch.tensor([[0.7] * 3 + [-0.4] * 2])))[0]
    whole = head.on_maps(maps)
    assert torch.allclose(whole, single[:, None, None, None].expand_as(whole), atol=1e-5)


def separable(count: int = 900) -> Samples:
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(3, (count, 1), generator=generator)
    features = torch.randn(count, 4, generator=generator) * 0.3
    features[:, 0] += targets[:, 0] * 2.0
    return Samples(features, targets, torch.ones(count, 2, dtype=torch.bool))


def test_a_head_learns_what_can_be_told_apart() -> None:
    samples = separable()
    head = a_head()
    head.standardise_by(samples.features)
    losses: list[float] = []
    fitted = fit_head(
        head, samples, CONFIG, torch.Generator().manual_seed(0), lambda _, loss: losses.append(loss)
    )
    assert len(losses) == CONFIG.steps
    assert not fitted.training
    right = fitted(samples.features).argmax(1) == samples.targets[:, 0]
    assert float(right.float().mean()) > 0.97


def test_the_same_seed_fits_the_same_head_whatever_was_drawn_before() -> None:
    def fit() -> torch.Tensor:
        torch.rand(3)  # moves the global generator
        head = a_head()
        return fit_head(head, separable(), CONFIG, torch.Generator().manual_seed(5)).output.weight

    assert torch.equal(fit(), fit())


def test_fitting_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    fit_head(a_head(), separable(), CONFIG, torch.Generator().manual_seed(5))
    assert torch.equal(torch.random.get_rng_state(), before)
