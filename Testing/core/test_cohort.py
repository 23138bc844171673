"""Prediction over a folder of scans: what counts as one, what fails by name, going on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest

from reglora_core.adaptation import adapt
from reglora_core.cli import main
from reglora_core.cohort import CohortJob, cohort_scans, is_cohort, predict_cohort
from reglora_core.errors import InputError
from reglora_core.job import AdaptJob, PredictJob
from reglora_core.pool import RayConfig, has_ray
from reglora_core.prediction import predict
from reglora_core.volumes import read_image, read_labels


@pytest.fixture(scope="module")
def an_adapter(tmp_path_factory: pytest.TempPathFactory, small_weights: Path) -> Path:
    from reglora_core import fit
    from reglora_core.head import HeadConfig

    folder = tmp_path_factory.mktemp("adapter")
    image, labels = phantom.write_case(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "HeadConfig", partial(HeadConfig, steps=20, voxels=512))
        names = phantom.NAMES
        job = AdaptJob((image,), (labels,), folder / "out", str(small_weights), "head", names=names)
        return adapt(job).adapter


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three scans, and a file that is none."""
    folder = tmp_path / "scans"
    for number, name in enumerate(("a.nii.gz", "b.nrrd", "c.mha")):
        phantom.write(folder / name, phantom.image_of(phantom.body(number)[0]))
    (folder / "notes.txt").write_text("of no use")
    return folder


def test_a_folder_of_volumes_or_of_series_is_a_cohort(scans: Path, tmp_path: Path) -> None:
    assert is_cohort(scans)
    assert list(cohort_scans(scans)) == ["a", "b", "c"]
    series = tmp_path / "series"
    for patient in ("one", "two"):
        (series / patient).mkdir(parents=True)
        (series / patient / "slice1.dcm").write_bytes(b"x")
    assert is_cohort(series)
    assert cohort_scans(series) == {"one": series / "one", "two": series / "two"}
    assert not is_cohort(series / "one")
    assert not is_cohort(scans / "a.nii.gz")


def test_scans_that_would_have_one_name_are_refused(scans: Path) -> None:
    phantom.write(scans / "a.nrrd", phantom.image_of(phantom.body()[0]))
    with pytest.raises(InputError, match=r"a\.nii\.gz and a\.nrrd would both become a"):
        cohort_scans(scans)
    empty = scans / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="holds no scan"):
        cohort_scans(empty)


def test_each_scan_is_segmented_as_it_is_alone(
    an_adapter: Path, small_weights: Path, scans: Path, tmp_path: Path
) -> None:
    job = CohortJob(an_adapter, scans, tmp_path / "found", str(small_weights))
    cohort = predict_cohort(job)
    alone = predict(
        PredictJob(an_adapter, scans / "b.nrrd", tmp_path / "b.seg.nrrd", str(small_weights))
    )
    assert list(cohort.ml) == ["a", "b", "c"]
    assert cohort.ml["b"] == alone.ml
    image = read_image(scans / "b.nrrd")
    found = read_labels(tmp_path / "found" / "b.seg.nrrd", image).layers[0]
    np.testing.assert_array_equal(found, read_labels(alone.segmentation, image).layers[0])


def test_a_scan_that_cannot_be_read_fails_alone_and_is_tried_again(
    an_adapter: Path,
    small_weights: Path,
    scans: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = (scans / "b.nrrd").read_bytes()
    (scans / "b.nrrd").write_bytes(whole[:500])
    paths = ["--image", str(scans), "--out", str(tmp_path / "found"), "--model", str(small_weights)]
    call = ["predict", "--adapter", str(an_adapter), *paths, "--plain"]
    assert main(call) == 2
    captured = capsys.readouterr()
    assert "failed: b: b.nrrd: " in captured.out
    assert "3 scans: 0 were segmented before, 2 now, 1 failed" in captured.out
    first = (tmp_path / "found" / "a.seg.nrrd").stat().st_mtime_ns
    (scans / "b.nrrd").write_bytes(whole)
    assert main(call) == 0
    assert "3 scans: 2 were segmented before, 1 now, 0 failed" in capsys.readouterr().out
    assert (tmp_path / "found" / "a.seg.nrrd").stat().st_mtime_ns == first


def test_segmentations_by_two_adapters_do_not_mix(
    an_adapter: Path, small_weights: Path, scans: Path, tmp_path: Path
) -> None:
    out = tmp_path / "found"
    out.mkdir()
    (out / "cohort.json").write_text(json.dumps({"format": 1, "adapter": "0" * 64, "scans": {}}))
    job = CohortJob(an_adapter, scans, out, str(small_weights))
    with pytest.raises(InputError, match="by another adapter"):
        predict_cohort(job)
    (out / "cohort.json").write_text("{")
    with pytest.raises(InputError, match="record of this folder is damaged"):
        predict_cohort(job)
    with pytest.raises(InputError, match="would lie among the scans"):
        predict_cohort(CohortJob(an_adapter, scans, scans, str(small_weights)))


@pytest.mark.skipif(not has_ray(), reason="Ray is not installed")
def test_ray_gives_the_same_as_one_after_the_other(
    an_adapter: Path, small_weights: Path, scans: Path, tmp_path: Path
) -> None:
    plain = predict_cohort(CohortJob(an_adapter, scans, tmp_path / "plain", str(small_weights)))
    ray = RayConfig(workers=1)
    job = CohortJob(an_adapter, scans, tmp_path / "ray", str(small_weights), "cpu", ray)
    assert predict_cohort(job).ml == plain.ml
