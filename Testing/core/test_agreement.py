"""Agreement of two masks, against values worked out by hand and against MONAI's own functions."""

import math

import numpy as np  # noqa: TID253
import pytest
import torch  # noqa: TID253
from monai.metrics import (  # noqa: TID253
    compute_dice,
    compute_hausdorff_distance,
    compute_surface_dice,
)

from reglora_core.agreement import KeptSlices, bounding_box, score_masks

SPACING_MM = (5.0, 4.0, 3.0)  # z, y, x


def box(shape, *sides):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def blob(seed):
    noise = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 1, 14, 20, 18)))
    smooth = torch.nn.functional.avg_pool3d(noise, 5, stride=1, padding=2)
    return (smooth > 0.03)[0, 0].numpy()


@pytest.fixture
def a_cube():
    return box((8, 8, 10), (2, 6), (2, 6), (2, 6))


@pytest.fixture
def the_cube_one_voxel_to_the_left():
    return box((8, 8, 10), (2, 6), (2, 6), (3, 7))


def test_a_cube_shifted_by_one_voxel_of_3_mm(a_cube, the_cube_one_voxel_to_the_left):
    score = score_masks(the_cube_one_voxel_to_the_left, a_cube, SPACING_MM)

    assert score.dice == pytest.approx(3 / 4)
    assert score.hd95_mm == pytest.approx(3.0)
    # of a cube's 56 surface voxels, 16 on the far face and 4 inside the other cube are 3 mm away
    assert score.surface_dice == pytest.approx(36 / 56)


def test_a_cube_shifted_by_less_than_the_tolerance(a_cube, the_cube_one_voxel_to_the_left):
    score = score_masks(the_cube_one_voxel_to_the_left, a_cube, (5.0, 4.0, 1.5))

    assert score.dice == pytest.approx(3 / 4)
    assert score.hd95_mm == pytest.approx(1.5)
    assert score.surface_dice == pytest.approx(1.0)


def test_spacing_belongs_to_the_axes_z_y_x(a_cube):
    higher = np.roll(a_cube, 1, axis=0)

    assert score_masks(higher, a_cube, SPACING_MM).hd95_mm == pytest.approx(5.0)
    assert score_masks(higher, a_cube, (3.0, 9.0, 9.0)).hd95_mm == pytest.approx(3.0)


def test_volumes_are_in_ml(a_cube):
    score = score_masks(a_cube[:, :, ::-1], a_cube, (10.0, 5.0, 2.0))

    assert score.prediction_ml == pytest.approx(64 * 0.1)
    assert score.reference_ml == pytest.approx(64 * 0.1)
    assert score.reference_voxels == 64


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI calls itself
@pytest.mark.parametrize("seeds", [(0, 1), (2, 3), (4, 4)])
def test_with_every_slice_the_scores_are_those_of_monai(seeds):
    prediction, reference = blob(seeds[0]), blob(seeds[1])
    one_hot = [torch.from_numpy(mask)[None, None] for mask in (prediction, reference)]
    options = {"include_background": True, "spacing": SPACING_MM}

    score = score_masks(prediction, reference, SPACING_MM)

    dice = compute_dice(*one_hot)
    hd95_mm = compute_hausdorff_distance(*one_hot, percentile=95, **options)
    surface_dice = compute_surface_dice(*one_hot, class_thresholds=[2.0], **options)
    assert score.dice == pytest.approx(float(dice))
    assert score.hd95_mm == pytest.approx(
        float(hd95_mm), rel=1e-5
    )  # MONAI computes in single precision
    assert score.surface_dice == pytest.approx(float(surface_dice))


def test_a_mask_that_touches_the_border_has_its_surface_there():
    everything = np.ones((3, 3, 3), dtype=bool)
    centre_only = box((3, 3, 3), (1, 2), (1, 2), (1, 2))

    score = score_masks(centre_only, everything, (1.0, 1.0, 1.0))

    # the centre is no surface voxel of the whole cube: its nearest one is 1 mm away
    assert score.surface_dice == pytest.approx(1.0)
    assert score.hd95_mm == pytest.approx(math.sqrt(3))


def test_slices_left_out_do_not_count():
    reference = box((9, 8, 8), (0, 9), (2, 6), (2, 6))
    prediction = reference.copy()
    prediction[4] = np.roll(prediction[4], 3, axis=1)

    score = score_masks(prediction, reference, SPACING_MM, KeptSlices.all_but(0, [4], 9))

    assert score.dice == pytest.approx(1.0)
    assert score.reference_voxels == 8 * 16


def test_leaving_slices_out_makes_no_surface_at_the_cut():
    """With slice 3 alone, only its ring is surface: a cut would make a surface of all of it."""
    reference = box((9, 7, 7), (0, 9), (1, 6), (1, 6))
    prediction = box((9, 7, 7), (0, 9), (1, 6), (1, 4))  # two voxels of 3 mm are missing

    score = score_masks(
        prediction, reference, SPACING_MM, KeptSlices.all_but(0, {*range(9)} - {3}, 9)
    )

    assert score.dice == pytest.approx(2 * 15 / (25 + 15))
    # the reference's ring: 9 voxels at 0, 2 at 3 mm, 5 at 6 mm; the prediction's: 9 at 0, 3 beyond
    assert score.surface_dice == pytest.approx((9 + 9) / (16 + 12))
    assert score.hd95_mm == pytest.approx(6.0)


def test_the_nearest_surface_may_lie_on_a_slice_that_is_left_out():
    """The prediction ends one slice early; the reference's last slice finds it on the one below."""
    reference = box((6, 5, 5), (1, 5), (1, 4), (1, 4))
    prediction = box((6, 5, 5), (1, 4), (1, 4), (1, 4))

    score = score_masks(prediction, reference, SPACING_MM, KeptSlices.all_but(0, [3], 6))

    assert score.hd95_mm == pytest.approx(5.0)


def test_slices_can_be_left_out_along_any_axis():
    reference = box((6, 6, 9), (1, 5), (1, 5), (0, 9))
    prediction = reference.copy()
    prediction[:, :, 7] = False

    assert score_masks(prediction, reference, SPACING_MM).dice < 1
    kept = KeptSlices.all_but(2, [7], 9)
    assert score_masks(prediction, reference, SPACING_MM, kept).dice == pytest.approx(1.0)


def test_two_empty_masks_have_no_scores():
    empty = np.zeros((4, 4, 4), dtype=bool)

    score = score_masks(empty, empty, SPACING_MM)

    assert math.isnan(score.dice)
    assert math.isnan(score.hd95_mm)
    assert math.isnan(score.surface_dice)
    assert (score.prediction_ml, score.reference_ml, score.reference_voxels) == (0, 0, 0)


@pytest.mark.parametrize("is_predicted", [True, False])
def test_an_organ_in_one_mask_only_scores_zero_at_an_infinite_distance(a_cube, is_predicted):
    empty = np.zeros_like(a_cube)
    masks = (a_cube, empty) if is_predicted else (empty, a_cube)

    score = score_masks(*masks, SPACING_MM)

    assert score.dice == 0
    assert score.surface_dice == 0
    assert math.isinf(score.hd95_mm)


def test_an_organ_that_lies_only_on_slices_left_out_has_no_scores(a_cube):
    score = score_masks(a_cube, a_cube, SPACING_MM, KeptSlices.all_but(0, [2, 3, 4, 5], 8))

    assert math.isnan(score.dice)
    assert math.isnan(score.hd95_mm)
    assert score.reference_voxels == 0
    assert score.reference_ml == pytest.approx(64 * 0.06)


def test_the_bounding_box_is_the_smallest():
    assert bounding_box(box((5, 6, 7), (1, 3), (2, 6), (4, 5))) == (
        slice(1, 3),
        slice(2, 6),
        slice(4, 5),
    )
    assert bounding_box(np.zeros((2, 2), dtype=bool)) is None
