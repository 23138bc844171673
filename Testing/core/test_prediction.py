"""Prediction: an adapter carries over to the next scan, whatever its size and orientation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253
from phantom import LIVER, SPLEEN

from reglora_core.adaptation import adapt
from reglora_core.adapter import load_adapter, save_adapter
from reglora_core.errors import AdapterError, InputError, ModelError, OutputError
from reglora_core.job import AdaptJob, PredictJob
from reglora_core.models.base import BaseModel
from reglora_core.prediction import PredictResult, predict
from reglora_core.volumes import read_image, read_labels

SLICES = (12, 17, 22, 27, 32, 37)


@pytest.fixture(scope="module")
def an_adapter(tmp_path_factory: pytest.TempPathFactory, small_weights: Path) -> Path:
    """An adapter of a liver and a spleen, fitted without the update."""
    folder = tmp_path_factory.mktemp("adapter")
    image, labels = phantom.write_case(folder, SLICES)
    with pytest.MonkeyPatch.context() as patch:
        from functools import partial

        from reglora_core import fit
        from reglora_core.head import HeadConfig

        patch.setattr(fit, "HeadConfig", partial(HeadConfig, steps=100, voxels=1024))
        job = AdaptJob((image,), (labels,), folder / "out", str(small_weights), "head")
        return adapt(replace(job, names=phantom.NAMES)).adapter


@pytest.fixture
def a_job(an_adapter: Path, small_weights: Path, tmp_path: Path) -> PredictJob:
    hounsfield, _ = phantom.body(seed=7, shift=3)
    image = phantom.write(tmp_path / "nächster Patient.nrrd", phantom.image_of(hounsfield))
    return PredictJob(an_adapter, image, tmp_path / "found.seg.nrrd", str(small_weights))


def found_by(job: PredictJob, result: PredictResult) -> np.ndarray:
    return read_labels(result.segmentation, read_image(job.image)).layers[0]


def test_an_adapter_segments_the_next_patient(a_job: PredictJob) -> None:
    result = predict(a_job)
    found, (_, truth) = found_by(a_job, result), phantom.body(seed=7, shift=3)
    for value in (LIVER, SPLEEN):
        assert phantom.dice(found == value, truth == value) > 0.7
    assert result.ml["liver"] == pytest.approx(np.count_nonzero(found == LIVER) * 0.027, abs=0.01)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".nii"])
def test_every_format_holds_the_same_values_on_the_images_grid(
    a_job: PredictJob, suffix: str
) -> None:
    expected = found_by(a_job, predict(a_job))
    result = predict(replace(a_job, out=a_job.out.with_name(f"found{suffix}")))
    written = sitk.ReadImage(str(result.segmentation))
    assert np.array_equal(sitk.GetArrayFromImage(written), expected)
    assert written.GetOrigin() == pytest.approx(sitk.ReadImage(str(a_job.image)).GetOrigin())


def test_a_scan_stored_otherwise_gives_the_same_voxels(a_job: PredictJob, tmp_path: Path) -> None:
    expected = sitk.ReadImage(str(predict(a_job).segmentation))
    turned = sitk.Flip(
        sitk.PermuteAxes(sitk.ReadImage(str(a_job.image)), (1, 2, 0)), (True, False, True)
    )
    path = phantom.write(tmp_path / "turned.nrrd", turned)
    job = replace(a_job, image=path, out=tmp_path / "turned.seg.nrrd")
    found = sitk.ReadImage(str(predict(job).segmentation))
    back = sitk.Resample(found, expected, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(expected))


def test_a_scan_larger_than_the_patch_is_cut_into_windows_without_air(
    a_job: PredictJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hounsfield, truth = phantom.body(seed=7, shift=3)
    tall = np.full((48 + 150 + 10, 48, 48), -1000, np.int16)
    tall[:48], tall[-10:] = hounsfield, hounsfield[:10]  # two pieces of a body, air between
    path = phantom.write(tmp_path / "tall.nrrd", phantom.image_of(tall))
    sizes: list[torch.Size] = []
    maps = BaseModel.feature_maps

    def counted(model: BaseModel, volume: torch.Tensor) -> list[torch.Tensor]:
        sizes.append(volume.shape)
        return maps(model, volume)

    monkeypatch.setattr(BaseModel, "feature_maps", counted)
    from reglora_core import prediction as module

    load = module.load_model
    monkeypatch.setattr(
        module, "load_model", lambda *given: replace(load(*given), patch=(64, 64, 64))
    )
    job = replace(a_job, image=path)
    found = found_by(job, predict(job))
    # windows of 64 planes at 0, 48, 96 and 144; the second and the third hold air alone;
    # once for the known classes, once for the heads
    assert sizes == [torch.Size((1, 64, 48, 48))] * 4
    assert not found[60:190].any()
    for value in (LIVER, SPLEEN):
        assert phantom.dice(found[:48] == value, truth == value) > 0.4


def test_a_finer_scan_gives_organs_of_the_same_volume(a_job: PredictJob, tmp_path: Path) -> None:
    expected = predict(a_job).ml
    image = sitk.ReadImage(str(a_job.image))
    finer = sitk.Resample(
        image, (72, 60, 48), sitk.Transform(), sitk.sitkLinear, (-70.5, -60.3, 10.0),
        (2.0, 2.4, 3.0), image.GetDirection(), -1000.0,
    )  # fmt: skip
    job = replace(a_job, image=phantom.write(tmp_path / "fine.nrrd", finer))
    found = predict(job).ml
    assert found == pytest.approx(expected, rel=0.3)


def test_prediction_needs_the_network_of_the_adapter(a_job: PredictJob) -> None:
    adapter = load_adapter(a_job.adapter)
    path = a_job.out.with_name("other.safetensors")
    save_adapter(replace(adapter, base_sha256="0" * 64), path)
    with pytest.raises(AdapterError, match="was made for"):
        predict(replace(a_job, adapter=path))
    save_adapter(replace(adapter, base="unheard-of"), path)
    with pytest.raises(ModelError, match="unheard-of"):
        predict(replace(a_job, adapter=path, model=""))
    assert not a_job.out.exists()


def test_the_image_and_the_adapter_are_never_written_over(a_job: PredictJob) -> None:
    before = a_job.image.read_bytes()
    with pytest.raises(OutputError, match="would be written over"):
        predict(replace(a_job, out=a_job.image))
    assert a_job.image.read_bytes() == before


def test_a_missing_image_or_folder_is_named(a_job: PredictJob) -> None:
    with pytest.raises(InputError, match=r"gone\.nrrd"):
        predict(replace(a_job, image=a_job.image.with_name("gone.nrrd")))
    with pytest.raises(OutputError, match="no folder"):
        predict(replace(a_job, out=a_job.out.parent / "no folder" / "a.nrrd"))


def test_a_scan_of_air_has_no_organs(a_job: PredictJob, tmp_path: Path) -> None:
    array = np.full((40, 40, 40), -1000, np.int16)
    array[0, 0, 0] = -990
    job = replace(a_job, image=phantom.write(tmp_path / "air.nrrd", phantom.image_of(array)))
    assert predict(job).ml == {"liver": 0.0, "spleen": 0.0}
