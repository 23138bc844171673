"""Adaptation from painted slices to written files, on a small body."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253
from phantom import LIVER, SPLEEN
from quick import Events

from reglora_core import adaptation
from reglora_core.adaptation import AdaptResult, adapt, read_task
from reglora_core.adapter import load_adapter, save_adapter
from reglora_core.errors import AdapterError, Cancelled, InputError, OutputError, ResourceError
from reglora_core.fit import ExpertScores, Fitted, Refinement, Trial, fit_heads
from reglora_core.job import AdaptJob
from reglora_core.methods.adaptation import MethodConfig
from reglora_core.models.base import BaseModel
from reglora_core.refine import RefineConfig
from reglora_core.volumes import read_image, read_labels

pytestmark = pytest.mark.usefixtures("quick_fits")

SLICES = (14, 21, 28, 35)
HIDDEN = [index for index in range(phantom.SIZE) if index not in SLICES]


@pytest.fixture
def a_job(tmp_path: Path, small_weights: Path) -> AdaptJob:
    image, labels = phantom.write_case(tmp_path / "case", SLICES)
    return AdaptJob(
        (image,),
        (labels,),
        tmp_path / "out",
        model=str(small_weights),
        steps=4,
        names=phantom.NAMES,
    )


def segmented(result: AdaptResult, image: Path, number: int = 0) -> np.ndarray:
    """Return the written label values (z, y, x) of organs that do not overlap."""
    labels = read_labels(result.segmentations[number], read_image(image))
    return labels.with_layers_merged().layers[0]


def test_four_painted_slices_of_a_body_give_its_organs(a_job: AdaptJob) -> None:
    events = Events()
    result = adapt(a_job, events)
    found, (_, truth) = segmented(result, a_job.images[0]), phantom.body()
    for value in (LIVER, SPLEEN):
        assert phantom.dice(found[HIDDEN] == value, truth[HIDDEN] == value) > 0.85
    assert np.array_equal(found[list(SLICES)], truth[list(SLICES)])
    by_name = {organ.name: organ for organ in result.organs}
    assert by_name["liver"].value == LIVER
    assert by_name["liver"].voxels == np.count_nonzero(found == LIVER)
    assert by_name["liver"].ml == pytest.approx(by_name["liver"].voxels * 0.027, abs=0.01)
    assert [entry["name"] for entry in events.named("organ")] == ["liver", "spleen"]
    assert events.named("preview")[0]["file"] == str(result.segmentations[0])
    assert len(events.named("ranks")) > 0
    assert not list(a_job.out.glob(".*"))  # neither lock nor temporary files


def test_the_report_says_what_was_done(a_job: AdaptJob) -> None:
    result = adapt(replace(a_job, annotated=("axial:14,28,35",), seed=5))
    report = json.loads(result.report.read_text(encoding="utf-8"))
    assert report["is_final"] is True
    assert report["annotated"] == [{"axis": "axial", "slices": [14, 28, 35]}]
    assert report["seed"] == 5
    assert report["base_sha256"] == load_adapter(result.adapter).base_sha256
    assert [organ["name"] for organ in report["organs"]] == ["liver", "spleen"]
    assert 0 <= report["organs"][0]["held_out_dice"] <= 1
    assert report["versions"]["torch"] == torch.__version__


def test_the_same_seed_gives_the_same_files_bit_for_bit(a_job: AdaptJob) -> None:
    first = adapt(a_job)
    torch.rand(5)  # whatever else the program draws
    second = adapt(replace(a_job, out=a_job.out.with_name("again")))
    other = adapt(replace(a_job, out=a_job.out.with_name("other"), seed=1))
    contents = [run.adapter.read_bytes() for run in (first, second, other)]
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]
    assert first.segmentations[0].read_bytes() == second.segmentations[0].read_bytes()


def stored(
    array: np.ndarray, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> sitk.Image:
    """Return the canonical array stored with its axes permuted and flipped, in the same place."""
    image = phantom.image_of(array)
    permuted = sitk.PermuteAxes(image, order)
    return sitk.Flip(permuted, flips)


@pytest.mark.parametrize(
    ("order", "flips"),
    [((0, 1, 2), (True, False, True)), ((2, 0, 1), (False, True, False))],
)
def test_a_permuted_and_flipped_file_gives_the_same_voxels(
    a_job: AdaptJob,
    tmp_path: Path,
    order: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
) -> None:
    expected = sitk.ReadImage(str(adapt(replace(a_job, method="head")).segmentations[0]))
    hounsfield, labels = phantom.body()
    image = phantom.write(tmp_path / "turned.nrrd", stored(hounsfield, order, flips))
    painted = stored(phantom.on_slices(labels, SLICES), order, flips)
    turned = adapt(
        replace(
            a_job,
            method="head",
            images=(image,),
            labels=(phantom.write(tmp_path / "turned labels.nrrd", painted),),
            out=tmp_path / "turned",
        )
    )
    found = sitk.ReadImage(str(turned.segmentations[0]))
    assert found.GetSize() == sitk.ReadImage(str(image)).GetSize()
    assert found.GetDirection() == sitk.ReadImage(str(image)).GetDirection()
    assert found.GetOrigin() == sitk.ReadImage(str(image)).GetOrigin()
    back = sitk.Resample(found, expected, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(expected))


def test_an_oblique_file_gives_the_voxels_of_a_straight_one(
    a_job: AdaptJob, tmp_path: Path
) -> None:
    expected = segmented(adapt(replace(a_job, method="head")), a_job.images[0])
    turn = np.deg2rad(17)
    direction = (np.cos(turn), 0, np.sin(turn), 0, 1, 0, -np.sin(turn), 0, np.cos(turn))
    hounsfield, labels = phantom.body()
    image = phantom.image_of(hounsfield, direction=direction, origin=(3.25, -7.5, 1e3))
    painted = phantom.image_of(
        phantom.on_slices(labels, SLICES), direction=direction, origin=(3.25, -7.5, 1e3)
    )
    job = replace(
        a_job,
        method="head",
        images=(phantom.write(tmp_path / "oblique.nrrd", image),),
        labels=(phantom.write(tmp_path / "oblique labels.nrrd", painted),),
        out=tmp_path / "oblique",
    )
    result = adapt(job)
    assert np.array_equal(segmented(result, job.images[0]), expected)
    written = sitk.ReadImage(str(result.segmentations[0]))
    assert written.GetDirection() == pytest.approx(direction, abs=1e-12)


def test_an_anisotropic_scan_with_labels_on_another_grid_gives_the_same_organs(
    a_job: AdaptJob, tmp_path: Path
) -> None:
    hounsfield, labels = phantom.body()
    whole = phantom.image_of(labels)
    image = sitk.Resample(
        phantom.image_of(hounsfield), (56, 66, 30), sitk.Transform(), sitk.sitkLinear,
        (-70.0, -60.0, 11.0), (2.5, 2.1, 4.7), whole.GetDirection(), -1000.0,
    )  # fmt: skip
    truth = sitk.GetArrayFromImage(
        sitk.Resample(whole, image, sitk.Transform(), sitk.sitkNearestNeighbor)
    )
    painted = sitk.GetImageFromArray(phantom.on_slices(truth, (8, 13, 18, 23)))
    painted.CopyInformation(image)
    finer = sitk.Resample(  # twice as fine in the plane, upside down, the same slices
        painted, (112, 132, 30), sitk.Transform(), sitk.sitkNearestNeighbor,
        (-70.0, -60.0, 11.0 + 29 * 4.7), (1.25, 1.05, 4.7), (1, 0, 0, 0, 1, 0, 0, 0, -1),
    )  # fmt: skip
    job = replace(
        a_job,
        method="head",
        images=(phantom.write(tmp_path / "flat.nii.gz", image),),
        labels=(phantom.write(tmp_path / "fine.nii.gz", finer),),
    )
    found = segmented(adapt(job), job.images[0])
    hidden = [k for k in range(30) if k not in (8, 13, 18, 23)]
    for value in (LIVER, SPLEEN):
        assert phantom.dice(found[hidden] == value, truth[hidden] == value) > 0.8


@pytest.mark.parametrize(("axis", "name"), [(1, "coronal"), (2, "sagittal")])
def test_painting_may_be_coronal_or_sagittal(
    a_job: AdaptJob, tmp_path: Path, axis: int, name: str
) -> None:
    slices = (15, 20, 26, 32) if axis == 1 else (12, 16, 30, 35)
    image, labels = phantom.write_case(tmp_path / name, slices, axis)
    result = adapt(replace(a_job, images=(image,), labels=(labels,), steps=2))
    report = json.loads(result.report.read_text(encoding="utf-8"))
    assert report["annotated"] == [{"axis": name, "slices": list(slices)}]
    found, (_, truth) = segmented(result, image), phantom.body()
    for value in (LIVER, SPLEEN):
        assert phantom.dice(found == value, truth == value) > 0.7


def test_organs_that_overlap_may_overlap_in_the_result(a_job: AdaptJob, tmp_path: Path) -> None:
    hounsfield, labels = phantom.body()
    whole = labels == LIVER
    inner = phantom.ellipsoid((25, 20, 16), (12, 6, 5))
    layers = np.stack([whole * 1, inner * 2], axis=-1).astype(np.uint8)
    layers[[k for k in range(48) if k not in SLICES]] = 0
    image = sitk.GetImageFromArray(layers, isVector=True)
    image.CopyInformation(phantom.image_of(hounsfield))
    for number, name in enumerate(("liver", "core")):
        image.SetMetaData(f"Segment{number}_ID", name)
        image.SetMetaData(f"Segment{number}_Name", name)
        image.SetMetaData(f"Segment{number}_LabelValue", str(number + 1))
        image.SetMetaData(f"Segment{number}_Layer", str(number))
    path = phantom.write(tmp_path / "two layers.seg.nrrd", image)
    result = adapt(replace(a_job, labels=(path,), names={}, steps=2))
    found = read_labels(result.segmentations[0], read_image(a_job.images[0]))
    by_name = {organ.name: found.mask(index) for index, organ in enumerate(found.organs)}
    assert found.has_overlap
    assert phantom.dice(by_name["liver"][HIDDEN], whole[HIDDEN]) > 0.85
    assert phantom.dice(by_name["core"][HIDDEN], inner[HIDDEN]) > 0.6
    assert np.array_equal(by_name["core"][list(SLICES)], inner[list(SLICES)])


def test_several_scans_are_fitted_together(a_job: AdaptJob, tmp_path: Path) -> None:
    other = phantom.write_case(tmp_path / "other", (12, 20, 30), seed=1)
    # the second file paints the spleen alone, under the liver's value
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(other[1])))
    spleen = phantom.write(tmp_path / "spleen.nrrd", phantom.image_of((array == SPLEEN) * 1))
    first = replace(a_job, names={})
    result = adapt(
        replace(first, images=(a_job.images[0], other[0]), labels=(a_job.labels[0], spleen))
    )
    assert [path.name for path in result.segmentations] == [
        "segmentation_1.seg.nrrd",
        "segmentation_2.seg.nrrd",
    ]
    assert [organ.name for organ in result.organs] == ["label_1", "label_2"]
    found = segmented(result, other[0], 1)
    assert np.array_equal(found[[12, 20, 30]] == 1, (array == SPLEEN)[[12, 20, 30]])


def test_an_organ_on_one_slice_alone_works_with_a_warning(a_job: AdaptJob, tmp_path: Path) -> None:
    _, labels = phantom.body()
    sparse = phantom.on_slices(labels, SLICES)
    sparse[[14, 28, 35]] = np.where(sparse[[14, 28, 35]] == SPLEEN, 0, sparse[[14, 28, 35]])
    path = phantom.write(tmp_path / "one.nrrd", phantom.image_of(sparse))
    events = Events()
    result = adapt(replace(a_job, labels=(path,), method="head"), events)
    assert "painted on one slice only: spleen;" in events.warnings
    assert {organ.name: organ.held_out_dice for organ in result.organs}["spleen"] is None


def test_a_single_slice_works_and_has_no_held_out_dice(a_job: AdaptJob, tmp_path: Path) -> None:
    image, labels = phantom.write_case(tmp_path / "single", (24,))
    events = Events()
    result = adapt(replace(a_job, images=(image,), labels=(labels,), steps=2), events)
    assert "painted on one slice only: liver, spleen;" in events.warnings
    assert [organ.held_out_dice for organ in result.organs] == [None, None]
    assert np.array_equal(segmented(result, image)[24], phantom.body()[1][24])


def test_whole_volumes_can_be_given(a_job: AdaptJob, tmp_path: Path) -> None:
    image, labels = phantom.write_case(tmp_path / "whole", range(48))
    job = replace(a_job, images=(image,), labels=(labels,), annotated=("all",), method="head")
    assert np.array_equal(segmented(adapt(job), image), phantom.body()[1])


def test_voxels_to_ignore_are_predicted(a_job: AdaptJob, tmp_path: Path) -> None:
    _, truth = phantom.body()
    sparse = phantom.on_slices(truth, SLICES)
    sparse[21, :, 24:] = 9
    path = phantom.write(tmp_path / "partly.nrrd", phantom.image_of(sparse))
    job = replace(a_job, labels=(path,), ignore_label=9, method="head")
    result = adapt(job)
    found = segmented(result, job.images[0])
    assert {organ.name for organ in result.organs} == {"liver", "spleen"}
    assert np.array_equal(found[21, :, :24], truth[21, :, :24])
    assert phantom.dice(found[21, :, 24:] == SPLEEN, truth[21, :, 24:] == SPLEEN) > 0.7


def test_slices_of_several_orientations(a_job: AdaptJob, tmp_path: Path) -> None:
    """The rest is unlabelled; a tilted plane counts like any other voxels."""
    _, truth = phantom.body()
    z, y, x = np.indices(truth.shape)
    is_painted = (z == 24) | (x == 16) | (y == 28) | (np.abs(z + x - 57) < 1)
    path = phantom.write(
        tmp_path / "planes.nrrd", phantom.image_of(np.where(is_painted, truth, 9).astype(np.uint8))
    )
    job = replace(a_job, labels=(path,), ignore_label=9, annotated=("all",), method="head")
    found = segmented(adapt(job), job.images[0])
    assert np.array_equal(found[is_painted], truth[is_painted])
    for organ in (LIVER, SPLEEN):
        assert phantom.dice(found == organ, truth == organ) > 0.8


@pytest.mark.parametrize("method", ["lora", "arena", "head"])
def test_every_method_gives_an_adapter_of_its_kind(a_job: AdaptJob, method: str) -> None:
    result = adapt(replace(a_job, method=method, steps=2, rank=2))
    adapter = load_adapter(result.adapter)
    assert result.is_adapted == (method != "head")
    assert adapter.method == method
    assert bool(adapter.update) == (method != "head")
    assert all(0 <= rank <= 2 for rank in adapter.ranks.values())


def test_a_rank_above_a_layers_is_clipped_and_said(a_job: AdaptJob) -> None:
    events = Events()
    adapt(replace(a_job, method="lora", rank=20, steps=2), events)
    assert "rank 20 is larger than the layer; 16 used" in events.warnings


@pytest.mark.parametrize("method", ["head", "arena+", "lora"])
def test_a_warm_start_goes_on_from_an_earlier_adapter(a_job: AdaptJob, method: str) -> None:
    earlier = adapt(replace(a_job, method="arena", steps=4))
    assert earlier.is_adapted
    again = replace(a_job, from_adapter=earlier.adapter, method=method, steps=2)
    result = adapt(replace(again, out=a_job.out.with_name("again")))
    adapter = load_adapter(result.adapter)
    assert result.is_adapted
    assert adapter.update.keys() == load_adapter(earlier.adapter).update.keys()
    found, (_, truth) = segmented(result, a_job.images[0]), phantom.body()
    assert phantom.dice(found[HIDDEN] == LIVER, truth[HIDDEN] == LIVER) > 0.85


def test_an_adapter_for_another_network_is_refused_before_anything_is_written(
    a_job: AdaptJob, tmp_path: Path
) -> None:
    earlier = adapt(replace(a_job, method="head"))
    other = replace(load_adapter(earlier.adapter), base_sha256="f" * 64)
    save_adapter(other, tmp_path / "other.safetensors")
    before = {path: path.read_bytes() for path in a_job.out.iterdir()}
    with pytest.raises(AdapterError, match="was made for base network"):
        adapt(replace(a_job, from_adapter=tmp_path / "other.safetensors"))
    assert {path: path.read_bytes() for path in a_job.out.iterdir()} == before


def test_labels_are_never_written_over_by_the_result(a_job: AdaptJob) -> None:
    a_job.out.mkdir()
    mine = a_job.out / "segmentation_1.seg.nrrd"
    mine.write_bytes(a_job.labels[0].read_bytes())
    with pytest.raises(OutputError, match="would be written over"):
        adapt(replace(a_job, labels=(mine,)))
    assert mine.read_bytes() == a_job.labels[0].read_bytes()


def test_a_folder_that_another_run_uses_is_refused(a_job: AdaptJob) -> None:
    class Nested(Events):
        def __call__(self, event: str, /, **fields: object) -> None:
            super().__call__(event, **fields)
            if event == "preview":
                with pytest.raises(OutputError, match="another run"):
                    adapt(a_job)

    assert adapt(replace(a_job, method="head"), Nested()).adapter.exists()


def test_a_propagation_result_from_elsewhere_can_come_with_the_job(
    a_job: AdaptJob, tmp_path: Path
) -> None:
    _, truth = phantom.body()
    given = phantom.write(tmp_path / "grown.nrrd", phantom.image_of(truth))
    result = adapt(replace(a_job, experts=(given,), method="head"))
    found = segmented(result, a_job.images[0])
    assert phantom.dice(found[HIDDEN] == LIVER, truth[HIDDEN] == LIVER) > 0.95


def memory_for(voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the network run out of memory on windows of more voxels than this."""
    maps = BaseModel.feature_maps

    def limited(model: BaseModel, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        if hounsfield.numel() > voxels:
            message = "DefaultCPUAllocator: can't allocate memory"
            raise RuntimeError(message)
        return maps(model, hounsfield)

    monkeypatch.setattr(BaseModel, "feature_maps", limited)


def test_too_little_memory_is_answered_by_smaller_windows(
    a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(32**3, monkeypatch)
    events = Events()
    result = adapt(replace(a_job, steps=2), events)
    assert "going on with windows of (64, 64, 64) voxels" in events.warnings
    assert "going on with windows of (32, 32, 32) voxels" in events.warnings
    found, (_, truth) = segmented(result, a_job.images[0]), phantom.body()
    assert phantom.dice(found[HIDDEN] == LIVER, truth[HIDDEN] == LIVER) > 0.8


def test_too_little_memory_for_the_smallest_window_is_a_clear_failure(
    a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory_for(1000, monkeypatch)
    with pytest.raises(ResourceError, match=r"memory ran out with windows of \(32, 32, 32\)"):
        adapt(a_job)
    assert not list(a_job.out.iterdir())


def test_other_errors_of_the_network_are_not_taken_for_memory(
    a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(model: BaseModel, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        message = "shapes do not match"
        raise RuntimeError(message)

    monkeypatch.setattr(BaseModel, "feature_maps", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        adapt(a_job)


def test_a_spent_budget_keeps_the_first_result(a_job: AdaptJob) -> None:
    events = Events()
    result = adapt(replace(a_job, steps=None, budget=0.01), events)
    assert not result.is_adapted
    assert "budget of 0.01 s" in events.warnings
    found, (_, truth) = segmented(result, a_job.images[0]), phantom.body()
    assert phantom.dice(found[HIDDEN] == LIVER, truth[HIDDEN] == LIVER) > 0.85
    assert load_adapter(result.adapter).update == {}


@pytest.mark.parametrize(("pace", "fewest", "most"), [(1e-3, 120, 120), (0.3, 20, 40)])
def test_the_update_has_as_many_steps_as_the_budget_allows(
    a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch, pace: float, fewest: int, most: int
) -> None:
    monkeypatch.setattr(Refinement, "pace", lambda *_: pace)
    monkeypatch.setattr(adaptation._Run, "_seconds_to_train", lambda _: 12.0)
    events = Events()
    adapt(replace(a_job, steps=None), events)
    refining = [entry for entry in events.named("progress") if entry["stage"] == "refine"]
    assert {fewest <= int(entry["steps"]) <= most for entry in refining} == {True}
    assert ("steps of the update instead of 120" in events.warnings) == (most < 120)


def test_an_update_that_would_not_be_done_in_time_is_not_begun(
    a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Refinement, "pace", lambda *_: 10.0)
    events = Events()
    result = adapt(replace(a_job, steps=None, budget=100), events)
    assert not result.is_adapted
    assert "the budget of 100 s was spent before the low-rank update" in events.warnings
    assert {entry["stage"] for entry in events.named("progress")} == {"read", "head"}


@pytest.mark.parametrize(("share", "is_kept"), [(0.6, True), (0.4, False)])
def test_an_update_is_dropped_where_half_of_the_held_out_dice_is_lost(
    a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch, share: float, is_kept: bool
) -> None:
    def tried(self: Refinement, refiner: object, trial: Trial) -> dict[str, float | None]:
        return {name: dice and share * dice for name, dice in trial.dice.items()}

    monkeypatch.setattr(Refinement, "_tried", tried)
    events = Events()
    result = adapt(a_job, events)
    assert result.is_adapted is is_kept
    assert bool(load_adapter(result.adapter).update) is is_kept
    assert ("the low-rank update was dropped" in events.warnings) is not is_kept


def test_the_pace_is_measured_without_a_trace(a_job: AdaptJob, small_model: BaseModel) -> None:
    task, _ = read_task(a_job, small_model, Events())
    generator = torch.Generator().manual_seed(0)
    before = {name: value.clone() for name, value in small_model.network.state_dict().items()}
    heads = fit_heads(small_model, task, task.paintings, generator, Events())
    first = Fitted(heads, ExpertScores(task, task.paintings), [], [])
    config = RefineConfig(MethodConfig("arena+", 4), crop=32)
    work = Refinement(small_model, task, config, generator, Events())
    weights = [parameter.clone() for head in heads for parameter in head.parameters()]
    assert 0 < work.pace(first) < 60
    after = small_model.network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(map(torch.equal, weights, (p for head in heads for p in head.parameters())))


def test_too_little_memory_for_the_update_keeps_the_first_result(
    a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starved(*_: object) -> None:
        message = "DefaultCPUAllocator: can't allocate memory"
        raise RuntimeError(message)

    monkeypatch.setattr(Refinement, "__call__", starved)
    events = Events()
    result = adapt(replace(a_job, steps=2), events)
    assert not result.is_adapted
    assert "before the low-rank update; the result is the first one" in events.warnings
    assert load_adapter(result.adapter).update == {}


def test_cancelling_the_update_keeps_the_first_result(a_job: AdaptJob) -> None:
    class Impatient(Events):
        def __call__(self, event: str, /, **fields: object) -> None:
            super().__call__(event, **fields)
            if fields.get("stage") == "refine":
                raise Cancelled

    events = Impatient()
    with pytest.raises(Cancelled):
        adapt(a_job, events)
    assert [entry["name"] for entry in events.named("organ")] == ["liver", "spleen"]
    assert load_adapter(a_job.out / "adapter.safetensors").method == "head"
    assert (a_job.out / "segmentation_1.seg.nrrd").exists()
    assert not (a_job.out / ".reglora.lock").exists()


def test_organs_not_painted_yet_on_a_slice_are_predicted_there(
    a_job: AdaptJob, tmp_path: Path
) -> None:
    _, truth = phantom.body()
    sparse = phantom.on_slices(truth, SLICES)
    sparse[21][sparse[21] == SPLEEN] = 0
    path = phantom.write(tmp_path / "partly.nrrd", phantom.image_of(sparse))
    job = replace(a_job, labels=(path,), not_painted=({"spleen": [21]},), method="head")
    found = segmented(adapt(job), job.images[0])
    assert phantom.dice(found[21] == SPLEEN, truth[21] == SPLEEN) > 0.7
    assert np.array_equal(found[21] == LIVER, truth[21] == LIVER)


def test_a_slice_outside_the_image_is_refused_before_anything_is_written(a_job: AdaptJob) -> None:
    with pytest.raises(InputError, match="slice 60 is outside"):
        adapt(replace(a_job, annotated=("axial:60",)))
    assert not list(a_job.out.iterdir())
