"""The comparison with Slicer's own tools, on a small volume and in a process of its own."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np  # noqa: TID253
import pytest
import SimpleITK as sitk  # noqa: TID253

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "slicer_anchors.py"
pytestmark = pytest.mark.skipif(
    find_spec("slicer") is None or find_spec("vtk") is None,
    reason="slicer-core is not installed: pip install slicer-core",
)
SHAPE = (25, 40, 40)
ANNOTATED = [6, 12, 18]


def an_ellipsoid(centre, radii):
    places = np.indices(SHAPE)
    terms = [((p - c) / r) ** 2 for p, c, r in zip(places, centre, radii, strict=True)]
    return sum(terms) <= 1


def write(path, array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.5, 1.5, 3.0))
    image.SetOrigin((10.0, -20.0, 5.0))
    image.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def a_reference():
    """Two bright organs, values 7 and 300, in a darker body."""
    reference = np.zeros(SHAPE, dtype=np.uint16)
    reference[an_ellipsoid((12, 20, 12), (10, 9, 7))] = 7
    reference[an_ellipsoid((12, 20, 29), (9, 8, 6))] = 300
    return reference


@pytest.fixture
def an_image(tmp_path, a_reference):
    noise = np.random.default_rng(0).normal(0, 5, SHAPE)
    intensities = np.select([a_reference == 7, a_reference == 300], [120.0, 200.0], 0.0) + noise
    return write(tmp_path / "image.nii.gz", intensities.astype(np.float32))


def run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def read(path):
    image = sitk.ReadImage(str(path))
    return image, sitk.GetArrayFromImage(image)


@pytest.mark.parametrize("spacing", ["native", "3"])
def test_the_anchors_fill_the_organs_from_the_annotated_slices(
    tmp_path, an_image, a_reference, spacing
):
    painted = np.zeros_like(a_reference)
    painted[ANNOTATED] = a_reference[ANNOTATED]
    labels = write(tmp_path / "labels.nii.gz", painted)
    out = tmp_path / "out"

    done = run(an_image, labels, "--spacing", spacing, "--out", out)

    assert done.returncode == 0, done.stderr
    record = json.loads((out / "anchors.json").read_text())
    assert record["annotated_slices"] == ANNOTATED
    source = sitk.ReadImage(str(an_image))
    for name in ("grow_from_seeds", "fill_between_slices"):
        image, array = read(out / record[name]["file"])
        assert np.allclose(image.GetOrigin(), source.GetOrigin())
        assert np.allclose(image.GetDirection(), source.GetDirection())
        assert np.unique(array).tolist() == [0, 7, 300]
        assert (array[ANNOTATED] == a_reference[ANNOTATED]).all()
        between = slice(ANNOTATED[0], ANNOTATED[-1])
        found, expected = array[between] == 7, a_reference[between] == 7
        assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.85
        assert record[name]["peak_memory_mib"] > 0


def test_a_thinned_reference_is_scored_on_the_other_slices(tmp_path, an_image, a_reference):
    labels = write(tmp_path / "reference.nii.gz", a_reference)
    out = tmp_path / "out"

    done = run(an_image, labels, "--spacing", "native", "--thin-to", 3, "--out", out)

    assert done.returncode == 0, done.stderr
    record = json.loads((out / "anchors.json").read_text())
    # organs on slices 2 to 22: 2 + 20 (i + 1/2) / 3
    assert record["annotated_slices"] == [5, 12, 19]
    _, grown = read(out / "grow_from_seeds.nii.gz")
    others = np.setdiff1d(np.arange(SHAPE[0]), [5, 12, 19])
    found, expected = grown[others] == 300, a_reference[others] == 300
    dice = 2 * (found & expected).sum() / (found.sum() + expected.sum())
    assert record["grow_from_seeds"]["dice"]["300"] == pytest.approx(dice, abs=1e-3)
    assert record["grow_from_seeds"]["mean_dice"] > 0.9


def test_a_slice_between_those_of_the_working_grid_is_not_lost(tmp_path, an_image, a_reference):
    painted = np.zeros_like(a_reference)
    painted[[7, 11, 17]] = a_reference[[7, 11, 17]]
    labels = write(tmp_path / "labels.nii.gz", painted)

    done = run(an_image, labels, "--spacing", "6", "--out", tmp_path / "out")

    assert done.returncode == 0, done.stderr
    _, grown = read(tmp_path / "out" / "grow_from_seeds.nii.gz")
    assert (grown[13] == 7).any()


def test_a_slice_that_is_said_to_be_annotated_is_background_where_it_has_no_paint(
    tmp_path, an_image, a_reference
):
    # the second organ ends at x = 35: slice 38 is empty, and says so
    painted = np.zeros_like(a_reference)
    painted[:, :, [12, 28]] = a_reference[:, :, [12, 28]]
    labels = write(tmp_path / "labels.nii.gz", painted)
    out = tmp_path / "out"

    done = run(an_image, labels, "--spacing", "native", "--annotated", "x:12,28,38", "--out", out)

    assert done.returncode == 0, done.stderr
    record = json.loads((out / "anchors.json").read_text())
    assert (record["annotated_axis"], record["annotated_slices"]) == ("x", [12, 28, 38])
    _, grown = read(out / "grow_from_seeds.nii.gz")
    assert not grown[:, :, 38].any()
    assert (grown[:, :, 28] == painted[:, :, 28]).all()


def test_an_annotated_slice_outside_the_image_is_refused(tmp_path, an_image, a_reference):
    labels = write(tmp_path / "labels.nii.gz", a_reference)

    done = run(an_image, labels, "--annotated", "z:3,25", "--out", tmp_path / "out")

    assert done.returncode == 2
    assert "slice 25 is outside the image" in done.stderr


def test_labels_without_paint_are_refused(tmp_path, an_image):
    labels = write(tmp_path / "empty.nii.gz", np.zeros(SHAPE, dtype=np.uint8))

    done = run(an_image, labels, "--out", tmp_path / "out")

    assert done.returncode == 2
    assert "0 organs painted" in done.stderr
