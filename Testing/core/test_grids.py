"""Grids: orientation without interpolation, and working grids over exactly the same box."""

from __future__ import annotations

import itertools

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.grids import Grid, Orientation, canonical_array

RAMP = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
ALL_48 = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]


def axis_aligned(order: tuple[int, ...], flips: tuple[bool, ...]) -> list[float]:
    """Return the direction (row-major) of an image whose index axis i runs along order[i]."""
    matrix = np.zeros((3, 3))
    for index_axis, (physical, flip) in enumerate(zip(order, flips, strict=True)):
        matrix[physical, index_axis] = -1 if flip else 1
    return matrix.flatten().tolist()


@pytest.mark.parametrize(("order", "flips"), ALL_48)
def test_every_orientation_becomes_what_itk_calls_lps(
    order: tuple[int, ...], flips: tuple[bool, ...]
) -> None:
    image = phantom.image_of(RAMP, (0.5, 1.5, 2.5), direction=axis_aligned(order, flips))
    expected = sitk.DICOMOrient(image, "LPS")
    array, spacing, orientation = canonical_array(image)
    assert np.array_equal(array, sitk.GetArrayFromImage(expected))
    assert spacing == expected.GetSpacing()[::-1]
    assert np.array_equal(orientation.native(array), RAMP)


def test_an_oblique_image_is_permuted_but_not_rotated() -> None:
    turn = np.deg2rad(20)
    tilted = [np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, -1]
    orientation = Orientation.of(tilted)
    assert orientation.order == (0, 1, 2)
    assert orientation.is_flipped == (True, False, False)


def test_two_axes_that_are_nearest_to_the_same_direction_are_told_apart() -> None:
    # columns: x at 46 degrees from L towards P, y at 46 degrees from P towards -L
    turn = np.deg2rad(46)
    direction = [np.cos(turn), -np.sin(turn), 0, np.sin(turn), np.cos(turn), 0, 0, 0, 1]
    assert sorted(Orientation.of(direction).order) == [0, 1, 2]


def test_the_working_grid_has_the_wanted_spacing_as_nearly_as_whole_voxels_allow() -> None:
    grid = Grid.of((10, 100, 100), (5.0, 0.7, 0.7), 3.0)
    assert grid.working_shape == (17, 23, 23)
    assert grid.working_spacing == pytest.approx((50 / 17, 70 / 23, 70 / 23))


def test_a_volume_thinner_than_a_working_voxel_keeps_one() -> None:
    assert Grid.of((2, 40, 40), (0.5, 3.0, 3.0), 3.0).working_shape == (1, 40, 40)


def test_shrinking_takes_the_mean_of_the_voxels_within() -> None:
    grid = Grid((4, 2, 2), (1.0, 1.0, 1.0), (2, 1, 1))
    image = torch.arange(16.0).reshape(4, 2, 2)
    # planes 0 and 1 hold 0..7, planes 2 and 3 hold 8..15
    assert torch.equal(grid.to_working(image).flatten(), torch.tensor([3.5, 11.5]))


def test_growing_is_linear_between_voxel_centres() -> None:
    grid = Grid((2, 1, 1), (2.0, 1.0, 1.0), (4, 1, 1))
    image = torch.tensor([0.0, 8.0]).reshape(2, 1, 1)
    # centres 0.25, 0.75, 1.25, 1.75 of voxels with centres at 0.5 and 1.5
    assert grid.to_working(image).flatten().tolist() == [0.0, 2.0, 6.0, 8.0]


def test_the_nearest_voxel_is_that_with_the_same_relative_position() -> None:
    grid = Grid((10, 1, 1), (1.0, 1.0, 1.0), (4, 1, 1))
    # working centres at 1.25, 3.75, 6.25, 8.75 canonical voxels
    assert grid.nearest_native(0).tolist() == [1, 3, 6, 8]
    assert grid.nearest_working(0).tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    labels = torch.arange(10).reshape(10, 1, 1)
    assert grid.nearest_to_working(labels).flatten().tolist() == [1, 3, 6, 8]
