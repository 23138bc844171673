"""Published weights: every layout is recognised, matched in full or refused, and computes right."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import published_weights
import pytest
import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.errors import ModelError
from reglora_core.models import registry, sam
from reglora_core.models.cache import import_model
from reglora_core.models.checkpoints import sha256_of
from reglora_core.models.inputs import InputRange, to_ras
from reglora_core.models.layouts import LAYOUTS
from reglora_core.models.loading import UNKNOWN_LICENCE, load_model

CPU = torch.device("cpu")
EVERY = list(published_weights.LAYOUTS)


def saved(folder: Path, content: Any) -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / "their weights.pth")
    return folder / "their weights.pth"


def encoder_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that must arrive, by their names in our network."""
    if sam.is_sam(network):
        unused = re.compile(sam.UNUSED)
        return {k: v for k, v in network.state_dict().items() if not unused.search(k)}
    if hasattr(network, "image_encoder"):
        state = network.image_encoder.state_dict()
        return {
            key.replace("up_layers_auto.", "up_layers."): value
            for key, value in state.items()
            if not key.startswith("up_layers.") and ".head." not in key
        }
    heads = ("out.", "conv_final.")
    return {k: v for k, v in network.state_dict().items() if not k.startswith(heads)}


@pytest.mark.parametrize("layout", EVERY)
def test_a_published_layout_is_matched_in_full(layout: str, tmp_path: Path) -> None:
    name, network, content = published_weights.checkpoint(layout)
    file = saved(tmp_path / "given", content)
    taken = import_model(name, file, tmp_path / "cache")
    model = load_model(name, CPU, tmp_path / "cache")
    expected = encoder_of(network)
    assert taken.match is not None
    assert (taken.match.matched, taken.match.missing) == (len(expected), ())
    own = model.network.state_dict()
    assert all(torch.equal(own[key], value) for key, value in expected.items())
    assert model.sha256 == sha256_of(file)
    record = json.loads(taken.path.with_name("record.json").read_text())
    assert record == {
        "sha256": sha256_of(file),
        "imported_from": "their weights.pth",
        "licence": registry.model_entry(name).licence,
    }


def test_what_is_left_over_is_told(tmp_path: Path) -> None:
    _, _, content = published_weights.checkpoint("SuPreM SwinUNETR")
    taken = import_model("suprem-swinunetr", saved(tmp_path / "given", content), tmp_path)
    assert taken.match is not None
    assert "module.precls_conv.0.weight" in taken.match.left_over
    assert "out.conv.conv.weight" in taken.match.left_over
    text = taken.match.to_text()
    assert text.startswith("157 of 157 tensors of the network matched, 8 of the file are left over")


@pytest.mark.parametrize("layout", EVERY)
def test_one_tensor_less_or_of_another_shape_is_refused(layout: str, tmp_path: Path) -> None:
    name, _, content = published_weights.checkpoint(layout)
    state = content
    while not any(isinstance(value, torch.Tensor) for value in state.values()):
        state = state.get("state_dict") or state.get("net") or state.get("model")
    _, others = LAYOUTS[registry.model_entry(name).family].named(state)
    needed = [key for key, value in state.items() if value.ndim > 1 and key not in others]
    heads = ("classifier", "out", "conv_final", "final_conv", "point", "head", "up_layers.")
    victim = [key for key in needed if not any(part in key for part in heads)][-1]
    del state[victim]
    with pytest.raises(ModelError, match=r"tensors of the network matched, 1 are missing"):
        import_model(name, saved(tmp_path / "less", content), tmp_path / "cache")
    state[victim] = torch.zeros(3)
    with pytest.raises(ModelError, match=r"tensors of the network matched, 1 have another shape"):
        import_model(name, saved(tmp_path / "other", content), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("layout", ["SuPreM SegResNet", "SuPreM U-Net", "VISTA3D", "MONAI SSL"])
def test_weights_of_one_network_are_refused_for_another(layout: str, tmp_path: Path) -> None:
    _, _, content = published_weights.checkpoint(layout)
    with pytest.raises(ModelError, match="for another network"):
        import_model("fseft-swinunetr", saved(tmp_path / "given", content), tmp_path)


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("SuPreM SwinUNETR", "swinunetr"),
        ("SuPreM U-Net", "suprem-unet"),
        ("MONAI SSL", "monai-swinvit-ssl"),
        ("VISTA3D", "vista3d"),
    ],
)
def test_a_file_is_recognised_by_its_layout(layout: str, name: str, tmp_path: Path) -> None:
    _, _, content = published_weights.checkpoint(layout)
    model = load_model(str(saved(tmp_path / "given", content)), CPU)
    assert (model.entry.name, model.entry.licence) == (name, UNKNOWN_LICENCE)


def test_a_segresnet_as_a_file_must_be_told_which_one_it_is(tmp_path: Path) -> None:
    _, _, content = published_weights.checkpoint("MONAI whole body")
    file = saved(tmp_path / "given", content)
    with pytest.raises(ModelError, match="import it as one of suprem-segresnet, monai-wholebody"):
        load_model(str(file), CPU)
    assert load_model(str(file), CPU, family="monai-wholebody").entry.window == (-1024, 2200)


class Trap:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("layout", EVERY)
def test_code_in_a_published_layout_is_refused_and_not_run(layout: str, tmp_path: Path) -> None:
    name, _, content = published_weights.checkpoint(layout)
    file = saved(tmp_path / "given", {**content, "best_acc": Trap(tmp_path / "sprung")})
    with pytest.raises(ModelError, match="more than tensors"):
        import_model(name, file, tmp_path / "cache")
    assert not (tmp_path / "sprung").exists()
    assert not (tmp_path / "cache").exists()


def features_and_inputs(layout: str, folder: Path) -> tuple[Any, torch.Tensor, Any]:
    """Return the network as published, its input, and the finest map from ours, turned to RAS."""
    name, network, content = published_weights.checkpoint(layout)
    import_model(name, saved(folder / "given", content), folder)
    model = load_model(name, CPU, folder)
    volume = torch.randn(1, 32, 64, 32, generator=torch.Generator().manual_seed(3)) * 300
    inputs = InputRange(model.entry.window, model.entry.input_range).ras(volume)
    with torch.no_grad():
        maps = model.family.feature_maps(model.network, volume)
    assert tuple(level.shape[1] for level in maps) == model.widths
    assert maps[-1].shape[2:] == volume.shape[1:]
    assert [level.shape[2] for level in maps] == sorted(level.shape[2] for level in maps)
    assert volume.shape[1] // maps[0].shape[2] == model.stride
    return network, inputs, [to_ras(level) for level in maps]


@pytest.mark.parametrize("layout", ["FSEFT", "SuPreM SwinUNETR", "MONAI BTCV bundle"])
def test_swinunetrs_finest_map_is_what_its_own_head_sees(layout: str, tmp_path: Path) -> None:
    network, inputs, maps = features_and_inputs(layout, tmp_path)
    with torch.no_grad():
        assert torch.allclose(network.out(maps[-1]), network(inputs), atol=1e-4)


@pytest.mark.parametrize("layout", ["SuPreM SegResNet", "MONAI whole body"])
def test_segresnets_finest_map_is_what_its_own_head_sees(layout: str, tmp_path: Path) -> None:
    network, inputs, maps = features_and_inputs(layout, tmp_path)
    with torch.no_grad():
        assert torch.allclose(network.conv_final(maps[-1].clone()), network(inputs), atol=1e-4)


def test_vistas_finest_map_is_its_image_encoders(tmp_path: Path) -> None:
    network, inputs, maps = features_and_inputs("VISTA3D", tmp_path)
    with torch.no_grad():
        head = network.image_encoder.up_layers_auto[-1]["head"]
        _, expected = network.image_encoder(inputs, with_point=False)
        assert torch.allclose(head(maps[-1]), expected, atol=1e-4)


def test_the_transformers_maps_are_its_states(tmp_path: Path) -> None:
    network, inputs, maps = features_and_inputs("MONAI SSL", tmp_path)
    with torch.no_grad():
        states = network(inputs, True)
    for level, state in zip(maps, (*states[::-1], inputs), strict=True):
        assert torch.allclose(level, state, atol=1e-5)


def test_the_unet_computes_what_the_published_one_does(tmp_path: Path) -> None:
    """Convolution, batch statistics of the one window, ReLU; pooling, upsampling, skips."""
    network, inputs, maps = features_and_inputs("SuPreM U-Net", tmp_path)
    weights = network.state_dict()

    def step(hidden: torch.Tensor, name: str) -> torch.Tensor:
        hidden = F.conv3d(
            hidden, weights[f"{name}.conv1.weight"], weights[f"{name}.conv1.bias"], padding=1
        )
        scale, shift = weights[f"{name}.bn1.weight"], weights[f"{name}.bn1.bias"]
        return F.relu(F.batch_norm(hidden, None, None, scale, shift, training=True))

    def level(hidden: torch.Tensor, name: str) -> torch.Tensor:
        return step(step(hidden, f"{name}.ops.0"), f"{name}.ops.1")

    def up(hidden: torch.Tensor, skip: torch.Tensor, name: str) -> torch.Tensor:
        kernel, bias = weights[f"{name}.up_conv.weight"], weights[f"{name}.up_conv.bias"]
        return level(torch.cat((F.conv_transpose3d(hidden, kernel, bias, stride=2), skip), 1), name)

    with torch.no_grad():
        fine = level(inputs, "down_tr64")
        half = level(F.max_pool3d(fine, 2), "down_tr128")
        quarter = level(F.max_pool3d(half, 2), "down_tr256")
        eighth = level(F.max_pool3d(quarter, 2), "down_tr512")
        expected = [eighth]
        for skip, name in ((quarter, "up_tr256"), (half, "up_tr128"), (fine, "up_tr64")):
            expected.append(up(expected[-1], skip, name))
    for own, other in zip(maps, expected, strict=True):
        assert torch.allclose(own, other, atol=1e-4)


def test_the_input_is_the_window_on_its_range_towards_right_anterior_superior() -> None:
    volume = torch.tensor([-2000.0, -1024.0, 588.0, 2200.0, 9000.0]).reshape(1, 1, 1, 5)
    found = InputRange((-1024.0, 2200.0), (-1.0, 1.0)).ras(volume)
    assert found.shape == (1, 1, 5, 1, 1)
    assert found.flatten().tolist() == pytest.approx([1, 1, 0, -1, -1])  # x is reversed


@pytest.mark.parametrize(
    ("name", "millions", "layout"),
    [
        ("fseft-swinunetr", 62.19, "swinunetr"),
        ("suprem-unet", 19.07, "unet3d"),
        ("suprem-segresnet", 4.70, "segresnet"),
        ("monai-swinvit-ssl", 8.06, "swinvit"),
    ],
)
def test_the_published_sizes_have_the_published_number_of_parameters(
    name: str, millions: float, layout: str
) -> None:
    network = LAYOUTS[layout].build(LAYOUTS[layout].default_size)
    count = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert count == pytest.approx(millions, abs=0.01)
    assert float(registry.model_entry(name).parameters.split()[0]) == pytest.approx(count, abs=0.06)
