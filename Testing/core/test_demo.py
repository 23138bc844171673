"""The demo's sample, its painted slices and its table; the whole of it is `make demo`."""

import math

import numpy as np  # noqa: TID253
import pytest
import SimpleITK as sitk  # noqa: TID253

from reglora_core import cli
from reglora_core.demo import comparison_table
from reglora_core.errors import InputError
from reglora_core.pictures import MethodDice
from reglora_core.sample import IMAGE, LABELS, ORGANS, STRUCTURES, evenly_spaced, read_sample


@pytest.fixture
def a_sample(tmp_path):
    """A folder like the sample's: each organ on its own two slices, ids from 11 on, one other."""
    labels = np.zeros((24, 6, 6), np.uint8)
    for place, _ in enumerate(ORGANS):
        labels[2 * place : 2 * place + 2, 2:4, 2:4] = 11 + place
    labels[:, 0, 0] = 99
    for name, array in ((IMAGE, labels.astype(np.int16) - 1000), (LABELS, labels)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    rows = [f"organs,{place},{name},{11 + place}" for place, name in enumerate(ORGANS)]
    table = ["group,original_idx,structure,id", *rows, "bones,99,rib,99"]
    (tmp_path / STRUCTURES).write_text("\n".join(table) + "\n")
    return tmp_path


def test_painted_slices_lie_in_the_middles_of_equal_parts():
    painted = np.zeros((140, 2, 2), bool)
    painted[10:111, 0, 0] = True  # 10 to 110: parts of 20 slices

    assert evenly_spaced(painted, 5) == (20, 40, 60, 80, 100)
    assert evenly_spaced(painted, 1) == (60,)


@pytest.mark.parametrize("count", [0, -1, 101])
def test_a_number_of_slices_that_cannot_be_painted_is_refused(count):
    painted = np.zeros((140, 2, 2), bool)
    painted[10:111, 0, 0] = True

    with pytest.raises(InputError, match=f"slices: {count} cannot be painted; give 1 to 100"):
        evenly_spaced(painted, count)


def test_the_sample_holds_the_ten_organs_by_the_ids_of_its_last_column(a_sample):
    sample = read_sample(a_sample)

    assert [organ.name for organ in sample.reference.organs] == list(ORGANS)
    assert [organ.value for organ in sample.reference.organs] == list(range(1, 11))
    stomach = sample.reference.mask(ORGANS.index("stomach"))
    assert np.flatnonzero(stomach.any(axis=(1, 2))).tolist() == [8, 9]


def test_only_the_chosen_slices_are_painted(a_sample):
    sample = read_sample(a_sample)

    painted = sample.painted_on((3, 8)).painted()

    assert np.flatnonzero(painted.any(axis=(1, 2))).tolist() == [3, 8]
    assert sample.reference.painted().sum() == 20 * 4


def test_a_missing_sample_is_said_in_one_line_with_what_to_do(tmp_path, capsys):
    code = cli.main(["demo", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "out")])

    error = capsys.readouterr().err.splitlines()[-1]
    assert code == 2
    assert "cxr.nii.gz: the sample CT is not there" in error
    assert "`make demo` fetches it" in error
    assert not (tmp_path / "out").exists()


def test_the_table_has_a_column_per_method_and_the_mean_of_known_organs():
    rows = [
        MethodDice("Ours", {"liver": 0.9, "spleen": 0.8}, 41.27),
        MethodDice("Grow from seeds", {"liver": 0.7, "spleen": math.nan}, None),
    ]

    assert comparison_table(rows) == (
        "organ      Ours  Grow from seeds\n"
        "--------------------------------\n"
        "liver     0.900            0.700\n"
        "spleen    0.800                -\n"
        "--------------------------------\n"
        "mean      0.850            0.700\n"
        "seconds    41.3                -\n"
    )
