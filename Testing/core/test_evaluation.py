"""Comparing label files: which organs are paired, on which grid, and what the table says."""

import json

import numpy as np  # noqa: TID253
import pytest
import SimpleITK as sitk  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.evaluation import compare, evaluate, find_annotated_slices
from reglora_core.organs import Organ
from reglora_core.volumes import LabelMap, write_segmentation

SHAPE = (10, 12, 14)
LIVER = Organ(1, "liver", (200, 100, 100))
SPLEEN = Organ(2, "spleen", (100, 100, 200))


def an_image(shape=SHAPE, spacing=(1.0, 2.0, 3.0), origin=(5.0, -7.0, 30.0)):
    image = sitk.Image(shape[::-1], sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    return image


def write_labels(path, labels, **geometry):
    image = an_image(labels.shape, **geometry)
    written = sitk.GetImageFromArray(labels.astype(np.uint8))
    written.CopyInformation(image)
    sitk.WriteImage(written, str(path))
    return path


@pytest.fixture
def two_organs():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:9, 2:6, 2:6] = 1
    labels[1:9, 7:11, 8:12] = 2
    return labels


@pytest.fixture
def a_reference(tmp_path, two_organs):
    return write_labels(tmp_path / "reference.nii.gz", two_organs)


def masks(*sides):
    return [np.pad(np.ones((2, 2, 2), dtype=bool), [(start, 6 - start)] * 3) for start in sides]


def test_a_perfect_prediction(a_reference):
    evaluation = evaluate(a_reference, a_reference)

    assert [score.name for score in evaluation.scores] == ["label_1", "label_2"]
    assert evaluation.mean_dice == 1
    assert evaluation.mean_hd95_mm == 0
    assert evaluation.mean_surface_dice == 1
    assert evaluation.scores[0].score.reference_ml == pytest.approx(8 * 4 * 4 * 6 / 1000)
    assert evaluation.remarks == ()


def test_an_organ_that_is_not_predicted_counts_with_dice_zero(tmp_path, a_reference, two_organs):
    prediction = write_labels(tmp_path / "p.nii.gz", np.where(two_organs == 2, 0, two_organs))

    evaluation = evaluate(prediction, a_reference)

    assert evaluation.scores[1].score.dice == 0
    assert evaluation.scores[1].remark == "not predicted"
    assert evaluation.mean_dice == pytest.approx(0.5)
    assert evaluation.mean_hd95_mm == 0  # of the one organ for which it is finite
    assert evaluation.to_dict()["mean"]["organs_with_hd95"] == 1


def test_an_organ_that_the_reference_lacks_is_listed_and_not_counted(
    tmp_path, a_reference, two_organs
):
    two_organs[0, 0, :5] = 7
    prediction = write_labels(tmp_path / "p.nii.gz", two_organs)

    evaluation = evaluate(prediction, a_reference)

    assert [score.value for score in evaluation.scores] == [1, 2, 7]
    assert evaluation.scores[2].remark == "not in the reference"
    assert evaluation.scores[2].score.prediction_ml == pytest.approx(5 * 6 / 1000)
    assert evaluation.mean_dice == 1


def test_organs_are_paired_by_name_before_value():
    prediction = LabelMap.from_masks(
        [Organ(1, "Spleen", (0, 0, 0)), Organ(2, "liver", (0, 0, 0))], masks(1, 4)
    )
    reference = LabelMap.from_masks([LIVER, SPLEEN], masks(4, 1))

    scores = compare(prediction, reference, (1.0, 1.0, 1.0))

    assert [(score.name, score.score.dice) for score in scores] == [("liver", 1), ("spleen", 1)]


def test_organs_without_names_are_paired_by_value():
    unnamed = [Organ(1, "label_1", (0, 0, 0)), Organ(2, "label_2", (0, 0, 0))]

    scores = compare(
        LabelMap.from_masks(unnamed, masks(4, 1)),
        LabelMap.from_masks([LIVER, SPLEEN], masks(4, 1)),
        (1.0, 1.0, 1.0),
    )

    assert [(score.name, score.score.dice) for score in scores] == [("liver", 1), ("spleen", 1)]


def test_organs_of_different_names_are_not_paired_by_value():
    prediction = LabelMap.from_masks([Organ(1, "heart", (0, 0, 0))], masks(4))
    reference = LabelMap.from_masks([LIVER], masks(4))

    scores = compare(prediction, reference, (1.0, 1.0, 1.0))

    assert [score.remark for score in scores] == ["not predicted", "not in the reference"]


def test_names_and_overlapping_organs_are_read_from_segmentations(tmp_path):
    overlapping = LabelMap.from_masks([LIVER, SPLEEN], masks(2, 3))
    image = an_image((8, 8, 8))
    path = tmp_path / "segmentation.seg.nrrd"
    write_segmentation(path, overlapping, image)

    evaluation = evaluate(path, path)

    assert [score.name for score in evaluation.scores] == ["liver", "spleen"]
    assert evaluation.mean_dice == 1


def test_annotated_slices_are_left_out(tmp_path, a_reference, two_organs):
    painted = np.zeros_like(two_organs)
    painted[[2, 5, 7]] = two_organs[[2, 5, 7]]
    wrong_there = np.where(painted > 0, 0, two_organs)

    evaluation = evaluate(
        write_labels(tmp_path / "p.nii.gz", wrong_there),
        a_reference,
        write_labels(tmp_path / "painted.nii.gz", painted),
    )

    assert evaluation.mean_dice == 1
    assert evaluation.scores[0].score.reference_voxels == 5 * 16
    assert evaluation.to_dict()["slices_left_out"] == {"axis": "z", "slices": [2, 5, 7]}
    assert "3 annotated slices (axis z) are left out" in evaluation.to_table()


def test_an_organ_only_on_annotated_slices_is_not_counted(tmp_path, two_organs):
    two_organs[5, 0, 0] = 3
    reference = write_labels(tmp_path / "r.nii.gz", two_organs)
    painted = np.where(np.arange(10)[:, None, None] == 5, two_organs, 0)

    evaluation = evaluate(reference, reference, write_labels(tmp_path / "painted.nii.gz", painted))

    assert evaluation.scores[2].remark == "reference empty on these slices"
    assert evaluation.to_dict()["mean"]["organs"] == 2


def test_labels_on_every_slice_leave_nothing_to_compare(tmp_path):
    everywhere = write_labels(tmp_path / "all.nii.gz", np.ones(SHAPE, dtype=np.uint8))

    with pytest.raises(InputError, match=r"all.nii.gz: all 10 slices are painted"):
        evaluate(everywhere, everywhere, everywhere)


def test_a_prediction_on_another_grid_is_resampled_and_it_says_so(
    tmp_path, a_reference, two_organs
):
    finer = two_organs.repeat(2, axis=1)
    # half a voxel back, so that two fine voxels cover one coarse voxel
    path = write_labels(
        tmp_path / "fine.nii.gz", finer, spacing=(1.0, 1.0, 3.0), origin=(5.0, -7.5, 30.0)
    )

    evaluation = evaluate(path, a_reference)

    assert evaluation.mean_dice == 1
    assert "14 x 24 x 10 voxels of 1 x 1 x 3 mm" in evaluation.remarks[0]
    assert "resampled (nearest neighbour)" in evaluation.remarks[0]


def test_a_cropped_reference_does_not_hide_what_is_predicted_around_it(tmp_path, two_organs):
    cropped = two_organs[1:9, 2:11, 2:12]
    reference = write_labels(
        tmp_path / "cropped.nii.gz", cropped, origin=(5.0 + 2, -7.0 + 4, 30.0 + 3)
    )
    two_organs[0, 0, 0] = 1  # one voxel too many, beyond the cropped grid
    two_organs[9, 11, 13] = 1

    evaluation = evaluate(write_labels(tmp_path / "p.nii.gz", two_organs), reference)

    assert evaluation.scores[0].score.dice == pytest.approx(2 * 128 / (128 + 130))
    assert evaluation.remarks[-1].startswith("The reference's grid was extended")


def test_files_that_do_not_overlap_are_refused(tmp_path, a_reference, two_organs):
    far = write_labels(tmp_path / "far.nii.gz", two_organs, origin=(90_000.0, 0.0, 0.0))

    with pytest.raises(InputError):
        evaluate(far, a_reference)


def test_a_missing_file_is_an_input_error(tmp_path, a_reference):
    with pytest.raises(InputError, match="no such file"):
        evaluate(tmp_path / "nothing.nii.gz", a_reference)


def test_the_dictionary_is_json_without_nan_or_infinity(tmp_path, a_reference, two_organs):
    prediction = write_labels(tmp_path / "p.nii.gz", np.where(two_organs == 2, 0, two_organs))

    content = evaluate(prediction, a_reference).to_dict()

    json.dumps(content, allow_nan=False)
    assert content["organs"][1]["hd95_mm"] is None
    assert content["organs"][0]["dice"] == 1
    assert content["slices_left_out"] is None


def test_the_table_has_a_line_an_organ_and_the_mean(tmp_path, a_reference, two_organs):
    prediction = write_labels(tmp_path / "p.nii.gz", np.where(two_organs == 2, 0, two_organs))

    lines = evaluate(prediction, a_reference).to_table().splitlines()

    assert lines[0].split("  ")[0] == "organ"
    assert lines[2].split() == ["label_1", "1.000", "0.0", "1.000", "0.8", "0.8"]
    assert lines[3].split() == ["label_2", "0.000", "-", "0.000", "0.0", "0.8", "not", "predicted"]
    assert lines[5].split() == ["mean", "of", "2", "0.500", "0.0", "0.500"]
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        (([2, 5, 7], slice(3, 9), slice(4, 12)), (0, (2, 5, 7))),
        ((slice(1, 9), [2, 6, 10], slice(4, 12)), (1, (2, 6, 10))),
        ((slice(1, 9), slice(3, 9), [4, 9]), (2, (4, 9))),
        (([4], slice(3, 9), slice(4, 12)), (0, (4,))),
    ],
)
def test_the_annotated_axis_is_the_one_that_was_painted_across(sides, expected):
    painted = np.zeros(SHAPE, dtype=bool)
    painted[sides] = True

    assert find_annotated_slices(painted) == expected


def test_nothing_painted_means_no_annotated_slice():
    assert find_annotated_slices(np.zeros(SHAPE, dtype=bool)) == (0, ())
