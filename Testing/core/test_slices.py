"""Slices of a volume: which way is up, how they turn, and what their neighbours say."""

from __future__ import annotations

import pytest
import torch  # noqa: TID253

from reglora_core.features import Window, features_at, windows
from reglora_core.models.slices import (
    as_slices,
    as_volume,
    axis_name,
    axis_of,
    smoothed_across,
    turned,
)


def a_marked_volume() -> torch.Tensor:
    """Return (1, z, y, x) = (1, 2, 3, 4) whose voxels are 100 z + 10 y + x, canonical."""
    z, y, x = torch.meshgrid(torch.arange(2), torch.arange(3), torch.arange(4), indexing="ij")
    return (100 * z + 10 * y + x)[None].float()


@pytest.mark.parametrize(
    ("axis", "shape", "second", "top_left"),
    [
        (0, (2, 3, 4), 100, 0),  # anterior and the patient's right come first
        (1, (3, 2, 4), 10, 100),  # superior is up
        (2, (4, 2, 3), 1, 100),  # superior is up, anterior left
    ],
)
def test_slices_are_shown_upright(
    axis: int, shape: tuple[int, ...], second: int, top_left: int
) -> None:
    slices = as_slices(a_marked_volume(), axis)
    assert tuple(slices.shape[1:]) == shape
    assert float(slices[0, 0, 0, 0]) == top_left
    assert float(slices[0, 1, 0, 0]) == top_left + second


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_maps_of_slices_go_back_to_where_they_came_from(axis: int) -> None:
    volume = a_marked_volume()
    maps = torch.stack([as_slices(volume, axis), -as_slices(volume, axis)], dim=1)
    assert torch.equal(as_volume(maps, axis), torch.stack([volume, -volume], dim=1))


def test_what_differs_across_slices_turns_with_them() -> None:
    assert turned((3.0, 1.5, 1.5), 0, 1) == (1.5, 3.0, 1.5)
    assert turned((1.5, 3.0, 1.5), 1, 2) == (1.5, 1.5, 3.0)
    assert turned((64, 64, 1), 2, 0) == (1, 64, 64)


def test_patient_axes_have_names() -> None:
    assert [axis_name(axis) for axis in (0, 1, 2, None)] == ["S", "A", "R", ""]
    assert [axis_of(name) for name in ("S", "A", "R", "")] == [0, 1, 2, 0]
    with pytest.raises(ValueError, match="not in tuple"):
        axis_of("P")


def of_one_organ(organ: list[float]) -> torch.Tensor:
    """Return probabilities (2, slices, 1, 1) of background and organ."""
    own = torch.tensor(organ)
    return torch.stack([1 - own, own])[:, :, None, None]


def test_a_slice_between_two_that_disagree_gives_in() -> None:
    """Log-odds 0.5 * ln(1 / 4) + 2 * 0.25 * ln 9 = ln 1.5, so p = 0.6; at the ends likewise."""
    found = smoothed_across(of_one_organ([0.9, 0.2, 0.9]), 0, [(0,)])
    # 0.75 * ln 9 + 0.25 * ln(1 / 4) = ln(9^0.75 / 4^0.25)
    end = 9**0.75 / 4**0.25
    expected = torch.tensor([end / (1 + end), 0.6, end / (1 + end)])
    torch.testing.assert_close(found[1, :, 0, 0], expected)
    torch.testing.assert_close(found.sum(0), torch.ones(3, 1, 1))


def test_a_slice_that_is_wholly_sure_cannot_decide_alone() -> None:
    found = smoothed_across(of_one_organ([0.0, 1.0, 0.0]), 0, [(0,)])
    assert float(found[1, 1]) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_groups_of_organs_are_smoothed_each_by_itself_along_the_axis(axis: int) -> None:
    first, second = of_one_organ([0.9, 0.2, 0.9]), of_one_organ([0.5, 0.5, 0.5])
    both = torch.cat([first, second]).movedim(1, axis + 1)
    found = smoothed_across(both, axis, [(0,), (1,)]).movedim(axis + 1, 1)
    assert float(found[1, 1]) == pytest.approx(0.6)
    assert torch.equal(found[2:], second)


def test_a_point_is_taken_from_the_slice_it_lies_in_and_there_from_the_middle() -> None:
    """Two overlapping windows of one slice: that in which the point is deeper within the plane."""
    volume = torch.arange(12.0)[None, None].expand(3, 8, 12)
    parts = windows(volume, (1, 8, 8), 8)
    assert {window.hounsfield.shape for window in parts} == {(1, 8, 8)}
    assert [window.box[0].start for window in parts] == [0, 0, 1, 1, 2, 2]
    seen: list[Window] = []

    class Model:
        """Remembers which windows it was asked for."""

        patch, stride, widths, device = (1, 8, 8), 8, (1,), torch.device("cpu")

        def feature_maps(self, batch: torch.Tensor) -> list[torch.Tensor]:
            seen.append(next(w for w in parts if torch.equal(w.hounsfield, batch[0])))
            return [batch[:, None]]

    near_the_first_windows_edge = torch.tensor([[1.05, 4.0, 7.4]])
    features = features_at(Model(), volume, near_the_first_windows_edge)  # type: ignore[arg-type]
    assert float(features) == pytest.approx(6.9)  # voxel i covers [i, i + 1)
    assert [window.box[2].start for window in seen] == [4]
