"""Base networks: the registry, loading and importing weights, and which way is up."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: TID253
from safetensors.torch import save_file  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.device import choose_device
from reglora_core.errors import ModelError, OutputError
from reglora_core.models import registry
from reglora_core.models.base import BaseModel
from reglora_core.models.cache import import_model
from reglora_core.models.checkpoints import read_weights, sha256_of
from reglora_core.models.loading import load_model
from reglora_core.models.swinunetr import SwinFamily, build
from reglora_core.models.tiny import TinyConfig, TinyUNet, network_inputs

CPU = torch.device("cpu")
State = dict[str, torch.Tensor]


class Trap:
    """A pickle that makes a folder when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


@pytest.fixture(scope="module")
def swin_state() -> State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return {key: value.clone() for key, value in build(12, 3).state_dict().items()}


def test_every_entry_says_where_its_weights_come_from() -> None:
    assert registry.model_names() == [
        "reglora-tiny", "fseft-swinunetr", "suprem-swinunetr", "suprem-unet", "suprem-segresnet",
        "clip-driven-swinunetr", "monai-swinvit-ssl", "monai-swinunetr-btcv", "monai-wholebody",
        "monai-wholebody-3mm", "vista3d", "sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam-vit-b",
        "swinunetr",
    ]  # fmt: skip
    for name in registry.model_names():
        entry = registry.model_entry(name)
        assert entry.licence
        assert entry.citation
        assert len(entry.patch_size) == 3
        slices = "slices, anterior or superior up"
        seen = {"tiny": "LPS", "sam": slices}.get(entry.family, "RAS")
        assert entry.orientation == seen
        if name not in ("reglora-tiny", "swinunetr"):
            assert entry.url.startswith("https://")
            assert entry.page.startswith("https://")
            assert entry.file_name.endswith((".pt", ".pth"))
            assert entry.file_name in entry.url or name == "fseft-swinunetr"


def test_only_open_licences_need_no_acceptance() -> None:
    entries = [registry.model_entry(name) for name in registry.model_names()]
    free = {entry.name for entry in entries if entry.url and not entry.needs_acceptance}
    assert free == {
        "monai-swinunetr-btcv", "monai-wholebody", "monai-wholebody-3mm",
        "sam-vit-b", "sam-vit-l", "sam-vit-h", "medsam-vit-b",
    }  # fmt: skip
    assert all(registry.model_entry(name).licence == "Apache-2.0" for name in free)


def test_the_classes_are_as_many_as_the_publishers_say() -> None:
    counts = {
        name: len(registry.model_entry(name).classes)
        for name in registry.model_names()
        if registry.model_entry(name).classes
    }
    assert counts == {
        "fseft-swinunetr": 29, "suprem-swinunetr": 32, "suprem-unet": 32, "suprem-segresnet": 32,
        "clip-driven-swinunetr": 32, "monai-swinunetr-btcv": 14, "monai-wholebody": 105,
        "monai-wholebody-3mm": 105,
    }  # fmt: skip
    whole = registry.model_entry("monai-wholebody").classes
    assert len(set(whole)) == 105
    places = {
        1: "spleen",
        18: "vertebrae_L5",
        41: "vertebrae_C1",
        58: "rib_left_1",
        104: "urinary_bladder",
    }
    assert all(whole[number] == name for number, name in places.items())


def test_a_description_holds_what_is_known_and_goes_into_json(tmp_path: Path) -> None:
    known = json.loads(json.dumps(registry.describe(registry.model_entry("vista3d"), tmp_path)))
    assert known["window"] == [-963.8247715525971, 1053.678477684517]
    assert (known["md5"], known["is_here"]) == ("6ce45a8edde4400c5d28d5e74d7b61d5", False)
    assert "classes" not in known
    assert "file" not in known
    tiny = registry.describe(registry.model_entry("reglora-tiny"))
    assert tiny["is_here"]
    assert tiny["file"].endswith("reglora-tiny.safetensors")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ModelError, match=r"'tiny' is unknown; choose one of reglora-tiny"):
        registry.model_entry("tiny")
    with pytest.raises(ModelError, match="neither a known name nor a file"):
        load_model("tiny", CPU)


def test_weights_that_are_not_here_say_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"computer; take them .*: reglora models import swinunetr"
    ):
        load_model("swinunetr", CPU, cache=tmp_path)
    with pytest.raises(ModelError, match=r"computer; reglora models fetch vista3d, or take them"):
        load_model("vista3d", CPU, cache=tmp_path)


def test_a_loaded_network_is_frozen_and_in_evaluation_mode(
    small_model: BaseModel, small_weights: Path
) -> None:
    assert not small_model.network.training
    assert not any(parameter.requires_grad for parameter in small_model.network.parameters())
    assert small_model.sha256 == sha256_of(small_weights)
    assert small_model.widths == (16, 16, 16, 8, 8)
    assert small_model.stride == 16


def test_the_adapted_layers_are_those_of_the_entry(small_model: BaseModel) -> None:
    adapted = [
        name
        for name, module in small_model.network.named_modules()
        if small_model.is_adapted_layer(name, module)
    ]
    assert "encoder.2.conv1.conv" in adapted
    assert "decoder.0.transp_conv.conv" in adapted
    assert not any(name.startswith(("encoder.0", "encoder.1")) for name in adapted)


def test_patches_are_halved_down_to_32_voxels(small_model: BaseModel) -> None:
    smaller = small_model.with_smaller_patch()
    assert smaller is not None
    assert smaller.patch == (64, 64, 64)
    smallest = smaller.with_smaller_patch()
    assert smallest is not None
    assert smallest.patch == (32, 32, 32)
    assert smallest.with_smaller_patch() is None


def test_patches_keep_more_than_one_voxel_at_the_coarsest_level(
    swin_state: State, tmp_path: Path
) -> None:
    model = load_model(str(saved(tmp_path / "w.pt", swin_state)), CPU)
    assert model.patch == (96, 96, 96)
    smaller = model.with_smaller_patch()
    assert smaller is not None
    assert smaller.patch == (64, 64, 64)
    assert smaller.with_smaller_patch() is None


def test_feature_maps_go_from_coarse_to_fine(small_model: BaseModel) -> None:
    with torch.no_grad():
        maps = small_model.feature_maps(torch.zeros(1, 32, 48, 16))
    assert [tuple(level.shape[2:]) for level in maps] == [
        (2, 3, 1), (4, 6, 2), (8, 12, 4), (16, 24, 8), (32, 48, 16),
    ]  # fmt: skip
    assert tuple(level.shape[1] for level in maps) == small_model.widths


@pytest.mark.parametrize("size", [32, 64])
def test_gradients_do_not_depend_on_what_memory_held_before(
    small_model: BaseModel, size: int
) -> None:
    """bfloat16 gradients of few planes did, on processors with avx512_bf16."""
    layers = [module for module in small_model.network.modules() if isinstance(module, nn.Conv3d)]
    for layer in layers:
        layer.weight.requires_grad_(True)
    volume = torch.randn(1, size, size, size, generator=torch.Generator().manual_seed(0)) * 100
    found = []
    for value in (float("nan"), 3.0):
        soiled = [torch.full((count,), value) for count in (10**3, 10**4, 10**5, 10**6) * 3]
        del soiled
        loss = sum(level.square().mean() for level in small_model.feature_maps(volume))
        found.append(torch.autograd.grad(loss, [layer.weight for layer in layers]))
    for one, other in zip(*found, strict=True):
        assert bool(one.isfinite().all())
        assert torch.equal(one, other)


def test_the_tiny_networks_inputs_are_two_windows_of_hounsfield_units() -> None:
    inputs = network_inputs(torch.tensor([40.0, 190.0, -1024.0, 3000.0]).reshape(1, 4, 1, 1))
    assert inputs.shape == (1, 2, 4, 1, 1)
    soft, wide = inputs[0, :, :, 0, 0].tolist()
    assert soft[:2] == pytest.approx([0, 0.76159], abs=1e-4)
    assert wide == pytest.approx([0.04, 0.19, -1, 1.5])


def test_the_tiny_network_gives_logits_of_its_classes() -> None:
    network = TinyUNet(TinyConfig(widths=(4, 4, 4, 4, 4), classes=("background", "liver", "aorta")))
    assert network(torch.zeros(1, 2, 16, 32, 16)).shape == (1, 3, 16, 32, 16)


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def wrapped(state: State, kind: str) -> Any:
    def prefixed(prefix: str) -> State:
        return {prefix + key: value for key, value in state.items()}

    return {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "net": {"net": state},
        "DataParallel": prefixed("module."),
        "FSEFT": {"net": prefixed("module.backbone."), "optimizer": {}},
        "backbone in a model": prefixed("model.backbone."),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["plain", "state_dict", "net", "DataParallel", "FSEFT", "backbone in a model"]
)
def test_swinunetr_is_imported_from_what_checkpoints_come_in(
    swin_state: State, tmp_path: Path, kind: str
) -> None:
    file = saved(tmp_path / "their weights.pth", wrapped(swin_state, kind))
    target = import_model("swinunetr", file, cache=tmp_path / "cache").path
    model = load_model("swinunetr", CPU, cache=tmp_path / "cache")
    assert target == tmp_path / "cache" / "swinunetr" / "weights.pth"
    own = model.network.state_dict()
    assert all(
        torch.equal(own[key], value)
        for key, value in swin_state.items()
        if not key.startswith("out.")
    )
    assert model.entry.name == "swinunetr"
    assert model.sha256 == sha256_of(file)


def test_swinunetr_is_recognised_as_a_file(swin_state: State, tmp_path: Path) -> None:
    path = tmp_path / "swin.safetensors"
    save_file(swin_state, path)
    model = load_model(str(path), CPU)
    assert model.entry.name == "swinunetr"
    assert model.widths == (192, 96, 48, 24, 12, 12)


def test_a_checkpoint_without_its_output_layer_is_enough(swin_state: State, tmp_path: Path) -> None:
    state = {key: value for key, value in swin_state.items() if not key.startswith("out.")}
    assert load_model(str(saved(tmp_path / "w.pt", state)), CPU).entry.name == "swinunetr"


@pytest.mark.parametrize("missing", ["swinViT.patch_embed.proj.weight", "decoder1", "encoder1"])
def test_a_partial_checkpoint_is_refused_and_the_old_one_stays(
    swin_state: State, tmp_path: Path, missing: str
) -> None:
    cache = tmp_path / "cache"
    import_model("swinunetr", saved(tmp_path / "good.pt", swin_state), cache)
    state = {key: value for key, value in swin_state.items() if not key.startswith(missing)}
    with pytest.raises(ModelError, match=r"are missing|another shape"):
        import_model("swinunetr", saved(tmp_path / "bad.pt", state), cache)
    assert load_model("swinunetr", CPU, cache).sha256 == sha256_of(tmp_path / "good.pt")


def test_a_tensor_of_another_shape_is_named(swin_state: State, tmp_path: Path) -> None:
    state = {**swin_state, "swinViT.patch_embed.proj.bias": torch.zeros(7)}
    with pytest.raises(
        ModelError, match=r"1 have another shape \(swinViT\.patch_embed\.proj\.bias\)"
    ):
        load_model(str(saved(tmp_path / "w.pt", state)), CPU)


@pytest.mark.parametrize(
    "content", [[1, 2], {"epoch": 3}, {"a": torch.zeros(2)}, torch.zeros(3)], ids=str
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path, content: Any) -> None:
    file = saved(tmp_path / "w.pt", content)
    with pytest.raises(ModelError):
        load_model(str(file), CPU)
    with pytest.raises(ModelError):
        import_model("swinunetr", file, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_embedded_networks_weights_are_no_swinunetr(
    small_weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="for another network"):
        import_model("swinunetr", small_weights, tmp_path)
    with pytest.raises(ModelError, match="embedded"):
        import_model("reglora-tiny", small_weights, tmp_path)


def test_a_feature_size_that_no_swinunetr_has_is_refused(tmp_path: Path) -> None:
    state = {
        "swinViT.patch_embed.proj.weight": torch.zeros(1),
        "encoder1.layer.conv1.conv.weight": torch.zeros(7, 1),
    }
    with pytest.raises(ModelError, match="its first layer has 7 channels, not a multiple of 12"):
        load_model(str(saved(tmp_path / "w.pt", state)), CPU)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".safetensors"])
def test_a_pickle_with_code_is_refused_and_the_code_is_not_run(tmp_path: Path, suffix: str) -> None:
    file = saved(tmp_path / f"w{suffix}", {"state_dict": Trap(tmp_path / "sprung")})
    with pytest.raises(ModelError):
        import_model("swinunetr", file, tmp_path / "cache")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04broken", b"\x80"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"^w\.") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_description_of_the_tiny_network_is_refused(
    small_weights: Path, tmp_path: Path
) -> None:
    state, _ = read_weights(small_weights)
    for config in ("{", "{}", json.dumps({"widths": [4], "classes": [], "x": 1})):
        path = tmp_path / "w.safetensors"
        save_file(state, path, {"config": config})
        with pytest.raises(ModelError, match="description"):
            load_model(str(path), CPU)


def test_imported_weights_that_changed_are_refused(swin_state: State, tmp_path: Path) -> None:
    target = import_model("swinunetr", saved(tmp_path / "w.pt", swin_state), tmp_path).path
    target.write_bytes(target.read_bytes() + b"x")
    with pytest.raises(ModelError, match="changed since its import"):
        load_model("swinunetr", CPU, tmp_path)


def test_a_damaged_record_of_the_import_is_refused(swin_state: State, tmp_path: Path) -> None:
    target = import_model("swinunetr", saved(tmp_path / "w.pt", swin_state), tmp_path).path
    target.with_name("record.json").write_text("{")
    with pytest.raises(ModelError, match="fetch or import the weights again"):
        load_model("swinunetr", CPU, tmp_path)


def test_a_cache_that_cannot_be_made_is_an_output_error(swin_state: State, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        import_model("swinunetr", saved(tmp_path / "w.pt", swin_state), tmp_path / "file")


def test_swinunetr_sees_ras_and_gives_its_maps_in_canonical_orientation() -> None:
    class Encoder(torch.nn.Module):
        """Remembers its input and gives it back, averaged as a Swin encoder would."""

        def forward(self, inputs: torch.Tensor, normalize: bool) -> list[torch.Tensor]:
            self.seen = inputs
            pool = torch.nn.functional.avg_pool3d
            return [pool(inputs, 2**k) for k in range(1, 6)]

    class Same(torch.nn.Module):
        def forward(self, hidden: torch.Tensor, skip: torch.Tensor | None = None) -> torch.Tensor:
            return hidden if skip is None else skip

    network = torch.nn.Module()
    network.normalize, network.swinViT = True, Encoder()
    names = [f"encoder{k}" for k in (1, 2, 3, 4, 10)] + [f"decoder{k}" for k in range(1, 6)]
    for name in names:
        setattr(network, name, Same())
    volume = torch.rand(1, 32, 64, 96, generator=torch.Generator().manual_seed(0)) * 500 - 200
    maps = SwinFamily().feature_maps(network, volume)
    scaled = ((volume + 175) / 425).clamp(0, 1)[:, None]
    # towards right, anterior, superior: x and y reversed, in the order x, y, z
    assert torch.allclose(network.swinViT.seen, scaled.flip(3, 4).permute(0, 1, 4, 3, 2))
    for level, edge in zip(maps, (32, 16, 8, 4, 2, 1), strict=True):
        assert torch.allclose(level, torch.nn.functional.avg_pool3d(scaled, edge), atol=1e-5)


def test_swinunetrs_maps_have_its_widths(swin_state: State, tmp_path: Path) -> None:
    model = load_model(str(saved(tmp_path / "w.pt", swin_state)), CPU)
    with torch.no_grad():
        maps = model.feature_maps(torch.randn(1, 32, 64, 32) * 100)
    assert tuple(level.shape[1] for level in maps) == model.widths
    assert maps[-1].shape[2:] == (32, 64, 32)
    assert maps[0].shape[2:] == (1, 2, 1)


def test_a_device_that_is_not_there_is_named() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="'cuda' is not there"):
            choose_device("cuda")
    with pytest.raises(ModelError, match="'cuda:x'"):
        choose_device("cuda:x")
