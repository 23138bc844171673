"""Pre-training: partial labels, crops, and runs that go on where they stopped."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import torch  # noqa: TID253

from reglora_core.errors import InputError, ModelError
from reglora_core.events import ignore
from reglora_core.models.loading import load_model
from reglora_core.models.registry import model_entry, weights_file
from reglora_core.pretraining.cases import Dataset, class_names, read_cases
from reglora_core.pretraining.command import run_pretraining
from reglora_core.pretraining.crops import CropConfig, draw_crop, mirrored_classes
from reglora_core.pretraining.generated import generated_anatomy
from reglora_core.pretraining.loop import PretrainConfig, pretrain, start
from reglora_core.pretraining.losses import (
    partial_loss,
    sample_voxels,
)

CPU = torch.device("cpu")
DATASETS = [
    {
        "name": "whole",
        "share": 0.5,
        "images": "whole/*_ct.nrrd",
        "labels": ["_ct.nrrd", "_labels.nrrd"],
        "names": "whole/labels.json",
    },
    {
        "name": "partial",
        "share": 0.5,
        "images": "partial/ct.nrrd",
        "labels": "labels.nrrd",
        "names": {"1": "Liver", "2": "spleen"},
        "rename": {"Liver": "liver"},
        "absent_is_known": False,
    },
]


@pytest.fixture
def a_data_folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    for number in range(2):
        hounsfield, labels = phantom.body(seed=number)
        phantom.write(data / "whole" / f"p{number}_ct.nrrd", phantom.image_of(hounsfield))
        phantom.write(data / "whole" / f"p{number}_labels.nrrd", phantom.image_of(labels))
    (data / "whole" / "labels.json").write_text('{"1": "liver", "2": "spleen", "3": "aorta"}')
    hounsfield, labels = phantom.body(seed=5)
    phantom.write(data / "partial" / "ct.nrrd", phantom.image_of(hounsfield))
    only_liver = phantom.image_of((labels == 1).astype(np.uint8))
    phantom.write(data / "partial" / "labels.nrrd", only_liver)
    return data


@pytest.fixture
def a_config() -> PretrainConfig:
    return PretrainConfig(
        DATASETS,
        widths=(4, 4, 8, 8, 8),
        steps=4,
        warmup_steps=0,
        decay_steps=1,
        voxels=4000,
        has_autocast=False,
        crops={"size": 32},
    )


def test_classes_are_those_that_occur(a_data_folder: Path) -> None:
    datasets = [Dataset.from_dict(entry) for entry in DATASETS]
    assert class_names(datasets, a_data_folder) == ("background", "liver", "spleen")


def test_an_organ_that_is_not_drawn_is_absent_or_unknown(a_data_folder: Path) -> None:
    datasets = [Dataset.from_dict(entry) for entry in DATASETS]
    classes = ("background", "aorta", "liver", "spleen")
    cases = read_cases(datasets, a_data_folder, classes, 3.0)
    assert [case.is_known.tolist() for case in cases] == [
        [True, True, True, True],  # no aorta there: truly none
        [True, True, True, True],
        [True, False, True, False],  # no spleen there: not drawn
    ]
    assert [case.share for case in cases] == [0.25, 0.25, 0.5]
    assert torch.equal(cases[0].labels == 2, torch.from_numpy(phantom.body(0)[1] == 1))


def test_a_dataset_without_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'whole'"):
        read_cases([Dataset.from_dict(DATASETS[0])], tmp_path, ("background",), 3.0)


def test_the_partial_loss_by_hand() -> None:
    logits = torch.tensor([[math.log(p) for p in (0.4, 0.3, 0.3)]] * 2)
    loss = partial_loss(logits, torch.tensor([0, 1]), torch.tensor([True, True, False]))
    entropy = -(math.log(0.7) + math.log(0.3)) / 2
    dice = (2 * 0.3 + 1) / (0.6 + 1 + 1)
    assert float(loss) == pytest.approx(entropy + 1 - dice, abs=1e-5)


def test_rare_classes_are_sampled_more_often_than_they_occur() -> None:
    labels = torch.zeros(20, 20, 20, dtype=torch.long)
    labels[:2, :5, :8] = 1  # 80 of 8000
    index = sample_voxels(labels, 20_000, torch.Generator().manual_seed(0))
    share = float((labels[index.unbind(1)] == 1).float().mean())
    # half uniform (1 %), half by the root: sqrt(80) / (sqrt(80) + sqrt(7920)) = 9.1 %
    assert share == pytest.approx((0.01 + 0.0913) / 2, abs=0.006)


def test_mirroring_swaps_left_and_right() -> None:
    classes = ("background", "kidney_left", "kidney_right", "liver", "lung_left")
    assert mirrored_classes(classes).tolist() == [0, 2, 1, 3, 4]


def test_a_crop_is_the_same_for_the_same_seed(a_data_folder: Path) -> None:
    datasets = [Dataset.from_dict(entry) for entry in DATASETS]
    (case, *_) = read_cases(datasets, a_data_folder, ("background", "liver", "spleen"), 3.0)

    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return draw_crop(case, CropConfig(size=32), torch.arange(3), generator).hounsfield

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    assert draw(3).shape == (32, 32, 32)


def test_a_run_that_goes_on_equals_one_that_was_never_stopped(
    a_data_folder: Path, a_config: PretrainConfig, tmp_path: Path
) -> None:
    whole = pretrain(a_config, a_data_folder, tmp_path / "whole")
    pretrain(replace(a_config, steps=2), a_data_folder, tmp_path / "parts")
    resumed = pretrain(a_config, a_data_folder, tmp_path / "parts")
    assert resumed.step == whole.step == 4
    for key, value in whole.learner.state_dict().items():
        assert torch.equal(resumed.learner.state_dict()[key], value), key
    for key, value in whole.average.state.items():
        assert torch.equal(resumed.average.state[key], value), key


def test_a_finished_run_trains_no_further(
    a_data_folder: Path, a_config: PretrainConfig, tmp_path: Path
) -> None:
    config = replace(a_config, steps=1)
    first = pretrain(config, a_data_folder, tmp_path / "run").learner.state_dict()
    again = pretrain(config, a_data_folder, tmp_path / "run").learner.state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_the_command_writes_weights_that_load(
    a_data_folder: Path, a_config: PretrainConfig, tmp_path: Path
) -> None:
    file = tmp_path / "config.json"
    entries = {key: value for key, value in vars(a_config).items() if key != "steps"}
    file.write_text(json.dumps({**entries, "steps": 2}))
    weights = run_pretraining(
        file, a_data_folder, tmp_path / "run", "cpu", None, lambda *_, **__: None
    )
    model = load_model(str(weights), CPU)
    assert model.entry.name == "reglora-tiny"
    assert model.widths == (8, 8, 8, 4, 4)
    assert model.network.config.classes == ("background", "liver", "spleen")
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["average"]
    own = model.network.state_dict()
    assert all(
        torch.equal(own[key], value.half().to(own[key].dtype)) for key, value in kept.items()
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"datasets": [], "stepz": 3}'])
def test_a_configuration_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"config\.json: not a pre-training configuration"):
        PretrainConfig.from_file(file)


def test_the_learning_rate_rises_stays_and_falls(a_config: PretrainConfig) -> None:
    config = replace(a_config, steps=100, warmup_steps=10, decay_steps=20, learning_rate=1.0)
    assert [config.learning_rate_at(step) for step in (0, 4, 9, 50, 80, 90, 99)] == pytest.approx(
        [0.1, 0.5, 1.0, 1.0, 1.0, 0.5, 0.05]
    )


def test_a_run_can_start_from_the_weights_of_another(
    a_data_folder: Path, a_config: PretrainConfig, tmp_path: Path
) -> None:
    only_partial = replace(a_config, datasets=[DATASETS[1]], steps=1)
    config_file = tmp_path / "first.json"
    config_file.write_text(json.dumps(asdict(only_partial)))
    weights = run_pretraining(config_file, a_data_folder, tmp_path / "first", "cpu", 1, ignore)
    earlier = load_model(str(weights), CPU).network
    classes = ("background", "aorta", "liver", "spleen")
    later = start(replace(a_config, start_from=str(weights)), classes, CPU).learner.network
    fresh = start(a_config, classes, CPU).learner.network
    assert earlier.config.classes == ("background", "liver")
    own, other = later.state_dict(), earlier.state_dict()
    body = [key for key in own if not key.startswith("classifier.")]
    assert all(torch.equal(own[key], other[key]) for key in body)
    rows = later.classifier.weight
    assert torch.equal(rows[[0, 2]], earlier.classifier.weight)
    assert torch.equal(rows[[1, 3]], fresh.classifier.weight[[1, 3]])


def test_weights_of_other_widths_are_refused(a_config: PretrainConfig) -> None:
    embedded = str(weights_file(model_entry("reglora-tiny")))
    with pytest.raises(ModelError, match="widths"):
        start(replace(a_config, start_from=embedded), ("background", "liver"), CPU)


def test_the_weights_to_start_from_are_found_beside_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "later.json"
    path.write_text(json.dumps({"datasets": [], "start_from": "first/weights.safetensors"}))
    expected = tmp_path / "first" / "weights.safetensors"
    assert PretrainConfig.from_file(path).start_from == str(expected)


def test_generated_anatomy_has_shapes_of_their_own_intensity() -> None:
    shapes_found = 0
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        hounsfield, shapes = generated_anatomy(48, generator)
        assert hounsfield.shape == shapes.shape == (48, 48, 48)
        assert bool(torch.isfinite(hounsfield).all())
        assert bool((shapes == 0).any())
        shapes_found += len(torch.unique(shapes)) - 1
    assert shapes_found >= 8
    again = generated_anatomy(48, torch.Generator().manual_seed(3))
    assert torch.equal(again[0], hounsfield)
    assert torch.equal(again[1], shapes)


def test_a_generated_crop_teaches_the_episode_and_no_class(a_data_folder: Path) -> None:
    datasets = [Dataset.from_dict(entry) for entry in DATASETS]
    classes = class_names(datasets, a_data_folder)
    case = read_cases(datasets, a_data_folder, classes, 3.0)[0]
    generator = torch.Generator().manual_seed(1)
    crop = draw_crop(case, CropConfig(size=32, generated=1.0), mirrored_classes(classes), generator)
    assert int(crop.regions.max()) > 0
    assert not bool(crop.labels.any())
    assert crop.is_known.tolist() == [True] + [False] * (len(classes) - 1)
    logits = torch.randn(50, len(classes))
    silent = partial_loss(logits, torch.zeros(50, dtype=torch.long), crop.is_known)
    assert abs(float(silent)) < 1e-5


def test_training_on_generated_crops_alone_changes_the_embedding(
    a_data_folder: Path, a_config: PretrainConfig, tmp_path: Path
) -> None:
    config = replace(a_config, crops={"size": 32, "generated": 1.0}, steps=3)
    progress = pretrain(config, a_data_folder, tmp_path / "run")
    untrained = start(config, tuple(progress.learner.network.config.classes), CPU)
    moved = progress.learner.network.embedding.weight - untrained.learner.network.embedding.weight
    assert float(moved.detach().abs().max()) > 1e-4
