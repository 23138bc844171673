"""Real scans: a DICOM series with flipped labels, thick slices, and an MR.

Organs are painted by thinning the reference to a few slices; the bars only tell a result that is
in its place from one that is not. How good results are is measured by the benchmarks.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253

from reglora_core.adaptation import adapt
from reglora_core.job import AdaptJob
from reglora_core.volumes import read_image, read_labels

pytestmark = [pytest.mark.data, pytest.mark.usefixtures("quick_fits")]


def painted_from(reference: Path, values: list[int], slices: list[int], path: Path) -> Path:
    """Write some organs of a reference on some slices, on the reference's own grid."""
    image = sitk.ReadImage(str(reference))
    array = sitk.GetArrayFromImage(image)
    array = np.where(np.isin(array, values), array, 0).astype(np.uint8)
    sparse = sitk.GetImageFromArray(phantom.on_slices(array, slices))
    sparse.CopyInformation(image)
    return phantom.write(path, sparse)


def hidden_dice(job: AdaptJob, reference: Path, slices: list[int]) -> dict[int, float]:
    """Adapt; return each organ's Dice on the image's slices that were not painted."""
    result = adapt(job)
    image = read_image(job.images[0])
    written = sitk.ReadImage(str(result.segmentations[0]))
    assert written.GetSize() == image.GetSize()
    assert written.GetOrigin() == image.GetOrigin()
    assert written.GetDirection() == image.GetDirection()
    found = read_labels(result.segmentations[0], image).layers[0]
    truth = sitk.GetArrayFromImage(
        sitk.Resample(
            sitk.ReadImage(str(reference)), image, sitk.Transform(), sitk.sitkNearestNeighbor
        )
    )
    painted = read_labels(job.labels[0], image).layers[0]
    is_painted = painted.any(axis=(1, 2))
    assert np.count_nonzero(is_painted) == len(slices)
    assert np.array_equal(found[is_painted], painted[is_painted])
    hidden = ~is_painted
    return {
        organ.value: phantom.dice(found[hidden] == organ.value, truth[hidden] == organ.value)
        for organ in result.organs
    }


def test_a_dicom_series_with_flipped_labels(data_folder: Path, tmp_path: Path) -> None:
    case = data_folder / "ct_upper_abdomen_dicom"
    reference = next(path for path in case.rglob("*.nii.gz") if "label" in path.name)
    series = next(path.parent for path in sorted(case.rglob("*.dcm")))
    slices = [3, 10, 16]
    labels = painted_from(reference, [1, 5, 52], slices, tmp_path / "painted.nii.gz")
    job = AdaptJob((series,), (labels,), tmp_path / "out", method="head", seed=0)
    dice = hidden_dice(job, reference, slices)
    assert min(dice.values()) > 0.6
    assert np.mean(list(dice.values())) > 0.75


def test_thick_slices(data_folder: Path, tmp_path: Path) -> None:
    case = data_folder / "ct_crlm_1004"
    reference = case / "pseudo_labels.nii.gz"
    slices = [10, 17, 24, 31]
    labels = painted_from(reference, [1, 5], slices, tmp_path / "painted.nii.gz")
    job = AdaptJob((case / "ct.nii.gz",), (labels,), tmp_path / "out", steps=2, seed=0)
    dice = hidden_dice(replace(job, method="head"), reference, slices)
    assert np.mean(list(dice.values())) > 0.6


def test_a_magnetic_resonance_image(data_folder: Path, tmp_path: Path) -> None:
    case = data_folder / "mr_abdomen_3mm"
    reference = case / "labels.nii.gz"
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(reference)))
    values = [
        int(value) for value in np.argsort(np.bincount(array.ravel()))[::-1][:4] if value
    ]  # the three largest
    slices = [4, 9, 14]
    labels = painted_from(reference, values, slices, tmp_path / "painted.nii.gz")
    images = [path for path in case.glob("*.nii.gz") if path != reference]
    job = AdaptJob((images[0],), (labels,), tmp_path / "out", method="head", seed=0)
    dice = hidden_dice(job, reference, slices)
    assert np.mean(list(dice.values())) > 0.6
