"""The base network's own classes: matched with the paint, carried over, mixed in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253
from phantom import LIVER
from quick import shorten_fits
from torch import nn  # noqa: TID253

from reglora_core import adaptation, known_classes, lora
from reglora_core.adaptation import adapt, read_task
from reglora_core.adapter import Adapter, load_adapter, save_adapter
from reglora_core.errors import AdapterError
from reglora_core.events import ignore
from reglora_core.job import AdaptJob, PredictJob
from reglora_core.known_classes import (
    KnownClass,
    KnownHead,
    best_threshold,
    log_odds,
    match_classes,
    mixed,
)
from reglora_core.models.base import BaseModel
from reglora_core.models.loading import load_model
from reglora_core.prediction import predict
from reglora_core.volumes import read_image, read_labels

SLICES = (14, 21, 28, 35)
CPU = torch.device("cpu")


class ByIntensity:
    """A family whose first channel tells the liver, of 130 HU, from all that is below 75."""

    def stride(self, network: nn.Module) -> int:
        return 16

    def widths(self, network: nn.Module) -> tuple[int, ...]:
        return (8,)

    def feature_maps(self, network: nn.Module, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        channels = torch.zeros(len(hounsfield), 8, *hounsfield.shape[1:])
        channels[:, 0] = (hounsfield - 75) / 20
        return [channels]


@pytest.fixture
def knowing(small_model: BaseModel) -> BaseModel:
    """A base network that knows the liver."""
    classifier = small_model.network.classifier
    assert isinstance(classifier, nn.Linear)
    with torch.no_grad():
        classifier.weight.zero_()
        classifier.weight[1, 0] = 1
        classifier.bias.zero_()
    return replace(small_model, family=ByIntensity())


def job_in(folder: Path, weights: Path) -> AdaptJob:
    image, labels = phantom.write_case(folder / "case", SLICES)
    out = folder / "out"
    return AdaptJob((image,), (labels,), out, str(weights), "head", names=phantom.NAMES)


@pytest.fixture
def a_job(tmp_path: Path, small_weights: Path) -> AdaptJob:
    return job_in(tmp_path, small_weights)


def test_log_odds_are_those_of_the_probabilities() -> None:
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3
    p = logits.softmax(1).double()
    torch.testing.assert_close(
        log_odds(logits, True).double(), (p / (1 - p)).log(), atol=1e-4, rtol=1e-4
    )
    assert torch.equal(log_odds(logits, False), logits)
    sure = log_odds(torch.tensor([[500.0, 0.0]]), True)
    assert bool(sure.isfinite().all())


def test_the_best_threshold_is_that_of_the_largest_dice() -> None:
    scores = torch.tensor([[0.0, 9], [1, 4], [2, 7], [3, 1], [4, 3]])
    is_organ = torch.tensor([False, False, True, False, True])
    # first column: above 3.5 one of two is found, 2/3; above 1.5 both and one other, 4/5
    # second column: 4/7 at best, above 2 (9, 4, 7, 3 hold both and two others: 4/6)
    dice, column, threshold = best_threshold(scores, is_organ)
    assert (dice, column, threshold) == (pytest.approx(4 / 5), 0, 1.5)


def test_no_threshold_lies_between_equal_scores() -> None:
    scores = torch.tensor([[1.0], [1.0], [0.0]])
    dice, _, threshold = best_threshold(scores, torch.tensor([True, False, False]))
    assert dice == pytest.approx(2 / 3)
    assert 0 <= threshold < 1


def test_an_organ_finds_its_class_by_the_paint_and_not_by_its_name(
    knowing: BaseModel, a_job: AdaptJob
) -> None:
    job = replace(a_job, names={1: "Leber", 2: "liver"})
    task, _ = read_task(job, knowing, ignore)
    names = [organ.name for organ in task.organs]
    found = match_classes(knowing, task.paintings, task.groups, names, 0)
    assert set(found) == {"Leber"}  # the spleen, here named liver, is darker than all the rest
    assert (found["Leber"].row, found["Leber"].name) == (1, "liver")
    assert found["Leber"].dice > 0.95
    assert abs(found["Leber"].offset) < 2.5  # between the two intensities
    assert found == match_classes(knowing, task.paintings, task.groups, names, 0)


def test_voxels_where_an_organ_is_unknown_say_nothing_of_it(
    knowing: BaseModel, a_job: AdaptJob
) -> None:
    job = replace(a_job, not_painted=({"liver": (14, 21)},))
    task, _ = read_task(job, knowing, ignore)
    found = match_classes(knowing, task.paintings, task.groups, ["liver", "spleen"], 0)
    assert found["liver"].dice > 0.95


def test_a_network_whose_classes_are_not_known_gives_none(
    knowing: BaseModel, a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, _ = read_task(a_job, knowing, ignore)
    monkeypatch.setattr(known_classes, "trained_classes", lambda model: None)
    assert match_classes(knowing, task.paintings, task.groups, ["liver", "spleen"], 0) == {}
    with pytest.raises(KeyError):
        KnownHead(knowing, task.groups, {0: KnownClass(1, "liver", 0.0, 0.9)})


def test_a_known_class_is_read_off_whole_maps(knowing: BaseModel) -> None:
    hounsfield, truth = phantom.body()
    head = KnownHead(knowing, ((0, 1),), {0: KnownClass(1, "liver", 0.5, 0.9)})
    volume = torch.from_numpy(hounsfield[None].astype(np.float32))
    scores = head.on_maps(knowing.feature_maps(volume))
    assert scores.shape == (3, *hounsfield.shape)
    torch.testing.assert_close(scores[1], ((volume[0] - 75) / 20 + 0.5).sigmoid())
    assert float(scores[2].max()) == 0
    torch.testing.assert_close(scores.sum(0), torch.ones(hounsfield.shape))
    assert phantom.dice(scores.argmax(0).numpy() == 1, truth == LIVER) > 0.95


def test_only_organs_with_a_class_are_mixed() -> None:
    heads = torch.tensor([0.2, 0.7, 0.1, 0.6, 0.4])[:, None, None, None]  # two groups
    classes = torch.tensor([0.8, 0.0, 0.2, 1.0, 0.0])[:, None, None, None]
    known = {1: KnownClass(1, "liver", 0.0, 0.9)}
    found = mixed(heads, classes, ((0, 1), (2,)), known).flatten()
    torch.testing.assert_close(found, torch.tensor([0.15, 0.7, 0.15, 0.6, 0.4]))
    everything = mixed(heads, 1 - classes, ((0, 1), (2,)), known).flatten()
    torch.testing.assert_close(everything, torch.tensor([0, 0.7, 0.45, 0.6, 0.4]))


@pytest.fixture(scope="module")
def an_adapter(tmp_path_factory: pytest.TempPathFactory, small_weights: Path) -> Adapter:
    with pytest.MonkeyPatch.context() as patch:
        shorten_fits(patch)
        return load_adapter(adapt(job_in(tmp_path_factory.mktemp("once"), small_weights)).adapter)


def written(adapter: Adapter, folder: Path, **known: KnownClass) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "with classes.safetensors"
    save_adapter(replace(adapter, known_classes=known), path)
    return path


def test_the_adapter_file_keeps_them_and_says_so_by_its_format(
    an_adapter: Adapter, tmp_path: Path
) -> None:
    own = KnownClass(1, "liver", -0.75, 0.9)
    read = load_adapter(written(an_adapter, tmp_path, liver=own))
    assert (read.format, read.known_classes) == (3, {"liver": own})
    assert load_adapter(written(an_adapter, tmp_path)).format == 1
    with pytest.raises(AdapterError, match="unknown organs"):
        load_adapter(written(an_adapter, tmp_path, kidney=own))


def test_a_class_that_the_base_network_lacks_is_refused(
    an_adapter: Adapter, a_job: AdaptJob, tmp_path: Path
) -> None:
    path = written(an_adapter, tmp_path, liver=KnownClass(7, "heart", 0.0, 0.9))
    job = PredictJob(path, a_job.images[0], tmp_path / "found.nrrd", a_job.model)
    with pytest.raises(AdapterError, match="names a class that"):
        predict(job)
    assert not job.out.exists()


def test_classes_are_read_off_the_features_without_the_update(
    an_adapter: Adapter, a_job: AdaptJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_classes, "SHARE", 1.0)
    known = {name: KnownClass(1, "liver", 0.1, 0.9) for name in ("liver", "spleen")}
    model = load_model(a_job.model, CPU)
    lora.add_adapters(
        model.network,
        model.is_adapted_layer,
        lora.LowRankConfig("arena", rank=2),
        torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        for parameter in lora.adapter_parameters(model.network):
            parameter.normal_(generator=torch.Generator().manual_seed(1))
    updated = replace(an_adapter, update=lora.adapter_state(model.network))
    found = []
    for number, adapter in enumerate((an_adapter, updated)):
        out = tmp_path / f"found_{number}.nrrd"
        predict(PredictJob(written(adapter, tmp_path, **known), a_job.images[0], out, a_job.model))
        found.append(sitk.GetArrayFromImage(sitk.ReadImage(str(out))))
    assert np.array_equal(*found)


def test_a_sure_class_decides_and_another_scan_has_the_organ(
    an_adapter: Adapter, a_job: AdaptJob, tmp_path: Path
) -> None:
    sure = written(an_adapter, tmp_path, liver=KnownClass(1, "liver", 1e4, 0.9))
    never = replace(an_adapter, known_classes={"liver": KnownClass(1, "liver", -1e4, 0.9)})
    image = read_image(a_job.images[0])
    volumes = []
    for path in (sure, written(never, tmp_path / "never", **never.known_classes)):
        job = PredictJob(path, a_job.images[0], path.with_name("found.seg.nrrd"), a_job.model)
        labels = read_labels(predict(job).segmentation, image).with_layers_merged()
        volumes.append(int((labels.layers[0] == LIVER).sum()))
    assert volumes[0] > 40_000  # nearly all of the body's box
    assert volumes[1] == 0


def test_they_are_matched_on_the_plain_network_and_written(
    a_job: AdaptJob, quick_fits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = adapt(replace(a_job, method="arena", steps=4))
    assert load_adapter(earlier.adapter).update
    known = {"liver": KnownClass(1, "liver", 0.25, 0.8)}
    updates = []

    def matched(model: BaseModel, *others: object) -> dict[str, KnownClass]:
        updates.append(len(lora.adapters(model.network)))
        return known

    monkeypatch.setattr(adaptation, "match_classes", matched)
    again = replace(a_job, method="arena", steps=4, from_adapter=earlier.adapter)
    result = adapt(replace(again, out=a_job.out.with_name("again")))
    assert updates == [0]
    adapter = load_adapter(result.adapter)
    assert adapter.known_classes == known
    assert adapter.update  # the earlier one's came back and went on


def test_a_correction_round_keeps_those_of_organs_that_are_still_there(
    a_job: AdaptJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten_fits(monkeypatch)
    adapter = load_adapter(adapt(a_job).adapter)
    known = {name: KnownClass(1, "liver", 0.5, 0.7) for name in ("liver", "spleen")}
    path = a_job.out / "adapter.safetensors"
    save_adapter(replace(adapter, known_classes=known), path)
    _, truth = phantom.body()
    truth[truth != LIVER] = 0
    labels = phantom.write(
        a_job.out.with_name("corrected.nrrd"), phantom.image_of(phantom.on_slices(truth, SLICES))
    )
    job = replace(
        a_job, labels=(labels,), out=a_job.out.with_name("corrected"), from_adapter=path,
        correct=True,
    )  # fmt: skip
    assert load_adapter(adapt(job).adapter).known_classes == {"liver": known["liver"]}
