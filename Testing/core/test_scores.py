"""Scores: windows blended, and labels on the image's own grid."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253
from quick import Events

from reglora_core.errors import Cancelled
from reglora_core.features import MANY
from reglora_core.grids import Grid
from reglora_core.head import Head, HeadConfig
from reglora_core.models.base import BaseModel
from reglora_core.scan import prepare_scan
from reglora_core.scores import head_scores, native_labels, split_groups


def smooth_scores(shape: tuple[int, ...], organs: int = 2, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, organs + 1, 3, 3, 3, generator=generator) * 3
    coarse[:, 0] += 1
    fine = torch.nn.functional.interpolate(coarse, shape, mode="trilinear")[0]
    scores = fine.softmax(0)
    edge = torch.ones(shape)
    edge[1:-1, 1:-1, 1:-1] = 0
    scores[0] += 2 * edge  # background at the box's faces
    return scores


def by_itk(scores: torch.Tensor, grid: Grid) -> np.ndarray:
    """Return the labels that ITK's linear interpolation gives on the canonical grid."""
    reference = sitk.Image([int(n) for n in grid.shape[::-1]], sitk.sitkFloat32)
    reference.SetSpacing(grid.spacing[::-1])
    reference.SetOrigin([mm / 2 for mm in grid.spacing[::-1]])
    resampled = []
    for channel in scores:
        image = sitk.GetImageFromArray(channel.numpy())
        image.SetSpacing(grid.working_spacing[::-1])
        image.SetOrigin([mm / 2 for mm in grid.working_spacing[::-1]])
        resample = sitk.ResampleImageFilter()
        resample.SetReferenceImage(reference)
        resample.SetUseNearestNeighborExtrapolator(True)
        resampled.append(sitk.GetArrayFromImage(resample.Execute(image)))
    return np.stack(resampled)


@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((20, 22, 24), (3.0, 3.0, 3.0)), ((13, 50, 44), (5.0, 1.1, 1.3)), ((60, 41, 30), (0.9, 2, 3))],
)
def test_labels_are_those_of_linear_interpolation(
    shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    grid = Grid.of(shape, spacing, 3.0)
    scores = smooth_scores(grid.working_shape)
    whole = tuple(slice(0, n) for n in grid.working_shape)
    labels = native_labels(scores, grid, whole)
    expected = by_itk(scores, grid)
    is_inner = np.ones(shape, bool)
    is_inner[1:-1, 1:-1, 1:-1] = False
    top = np.sort(expected, axis=0)
    is_clear = (top[-1] - top[-2] > 1e-4) & ~is_inner
    assert np.array_equal(labels[is_clear], expected.argmax(0)[is_clear])
    assert set(np.unique(labels)) == {0, 1, 2}


def test_labels_of_a_part_of_the_grid_lie_at_its_place() -> None:
    grid = Grid((20, 20, 20), (3.0, 3.0, 3.0), (20, 20, 20))
    scores = torch.zeros(2, 6, 6, 6)
    scores[0], scores[1, 2:4, 2:4, 2:4] = 0.5, 1.0
    labels = native_labels(scores, grid, (slice(5, 11), slice(6, 12), slice(7, 13)))
    expected = np.zeros((20, 20, 20))
    expected[7:9, 8:10, 9:11] = 1
    assert np.array_equal(labels, expected)


def test_scores_without_organs_give_an_empty_map() -> None:
    grid = Grid((8, 8, 8), (3.0, 3.0, 3.0), (8, 8, 8))
    scores = torch.zeros(3, 8, 8, 8)
    scores[0] = 1
    assert not native_labels(scores, grid, (slice(0, 8),) * 3).any()


def test_an_organ_that_fills_the_scan_reaches_its_faces() -> None:
    grid = Grid.of((9, 17, 17), (5.0, 1.0, 1.0), 3.0)
    scores = torch.zeros(2, *grid.working_shape)
    scores[1] = 1
    whole = tuple(slice(0, n) for n in grid.working_shape)
    assert native_labels(scores, grid, whole).all()


def test_scores_are_split_by_group() -> None:
    parts = split_groups(torch.arange(5.0)[:, None], ((0, 2), (1,)))
    assert [part.flatten().tolist() for part in parts] == [[0, 1, 2], [3, 4]]


@pytest.fixture
def heads(small_model: BaseModel) -> list[Head]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return [Head(small_model.widths, ((0, 1),), HeadConfig(hidden=8)).eval() for _ in range(2)]


def test_the_scores_of_two_heads_are_their_mean(small_model: BaseModel, heads: list[Head]) -> None:
    scan = prepare_scan(Path("ct"), phantom.image_of(phantom.body()[0]), 3.0)
    both = head_scores(small_model, heads, scan)
    each = [head_scores(small_model, [head], scan) for head in heads]
    assert both.shape == (3, *scan.inside.shape)
    assert torch.allclose(both, (each[0] + each[1]) / 2, atol=1e-6)
    assert torch.allclose(both.sum(0), torch.ones(scan.inside.shape), atol=1e-5)


def test_windows_are_blended_to_nearly_the_scores_of_the_whole(
    small_model: BaseModel, heads: list[Head]
) -> None:
    scan = prepare_scan(Path("ct"), phantom.image_of(phantom.body()[0]), 3.0)
    whole = head_scores(small_model, heads, scan)
    parts = head_scores(replace(small_model, patch=(32, 32, 32)), heads, scan)
    assert float((whole - parts).abs().mean()) < 0.02
    assert torch.allclose(parts.sum(0), torch.ones(scan.inside.shape), atol=1e-5)


def test_windows_of_air_are_background(small_model: BaseModel, heads: list[Head]) -> None:
    array = np.full((96, 32, 32), -1000, np.int16)
    array[:16], array[-2:] = 40, 40
    scan = prepare_scan(Path("ct"), phantom.image_of(array), 3.0, "ct")
    scores = head_scores(replace(small_model, patch=(32, 32, 32)), heads, scan)
    # windows of 32 planes at 0, 24, 48, 64: planes 32 to 47 lie in windows of air alone
    assert (scores[0, 33:47] == 1).all()
    assert (scores[1:, 33:47] == 0).all()


def test_many_windows_are_told_of_and_can_be_stopped_between(
    small_model: BaseModel, heads: list[Head]
) -> None:
    scan = prepare_scan(Path("ct"), phantom.image_of(phantom.body()[0]), 3.0)
    events = Events()
    head_scores(small_model, heads, scan, events)  # one window
    assert events.seen == []
    slices = replace(small_model, patch=(16, 16, 32))
    head_scores(slices, heads, scan, events)
    assert [event["stage"] for event in events.seen] == ["windows"] * len(events.seen)
    steps = [(event["step"], event["steps"]) for event in events.seen]
    assert len(steps) >= MANY
    assert steps == [(k + 1, len(steps)) for k in range(len(steps))]

    def stop(event: str, /, **fields: object) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        head_scores(slices, heads, scan, stop)
