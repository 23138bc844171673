"""SAM: segment_anything's own classes compute what they compute there, on slices of a volume."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import published_weights
import pytest
import torch  # noqa: TID253

from reglora_core.cli import main
from reglora_core.errors import InputError, ModelError
from reglora_core.methods.adaptation import MethodConfig, begin, refuse_undefined
from reglora_core.methods.trained import remove_trained
from reglora_core.models import registry, sam
from reglora_core.models.base import BaseModel
from reglora_core.models.cache import import_model
from reglora_core.models.families import family_of
from reglora_core.models.layouts import layout_of
from reglora_core.models.loading import load_model

CPU = torch.device("cpu")
segment_anything = pytest.importorskip("segment_anything")


def a_model(layout: str = "MedSAM") -> BaseModel:
    name, network, _ = published_weights.checkpoint(layout)
    entry = registry.model_entry(name)
    return BaseModel(entry, network, family_of(entry), "", (1, 32, 32), slice_axis=0)


def a_volume(slices: int = 2) -> torch.Tensor:
    """Return HU (1, slices, 32, 32)."""
    return torch.randn(1, slices, 32, 32, generator=torch.Generator().manual_seed(2)) * 200


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("vit_b", sam.SamSize()),
        ("vit_l", sam.SamSize(width=1024, depth=24, heads=16, whole=(5, 11, 17, 23))),
        ("vit_h", sam.SamSize(width=1280, depth=32, heads=16, whole=(7, 15, 23, 31))),
    ],
)
def test_the_published_networks_are_rebuilt_from_their_weights(
    kind: str, size: sam.SamSize
) -> None:
    with torch.device("meta"):
        theirs = segment_anything.sam_model_registry[kind]()
        found = sam.SamSize.of(theirs.state_dict())
        ours = sam.build(found)
    assert found == size
    shapes = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == shapes
    entry = registry.model_entry(f"sam-{kind.replace('_', '-')}")
    count = sum(parameter.numel() for parameter in theirs.parameters()) / 1e6
    assert float(entry.parameters.split()[0]) == pytest.approx(count, abs=0.5)
    assert entry.size_mb == pytest.approx(4 * count, abs=1)  # single precision


def test_four_voxels_are_one_token_and_a_slice_is_one_image() -> None:
    assert family_of(registry.model_entry("sam-vit-b")).stride(_published()) == 256
    model = a_model()
    assert (model.stride, model.widths) == (32, (32, 1, 4))
    with torch.no_grad():
        maps = model.feature_maps(a_volume())
    assert [tuple(level.shape) for level in maps] == [
        (1, 32, 2, 8, 8), (1, 1, 2, 32, 32), (1, 4, 2, 32, 32),
    ]  # fmt: skip


def _published() -> torch.nn.Module:
    with torch.device("meta"):
        return sam.build(sam.SamSize())


@pytest.mark.parametrize("layout", ["SAM", "MedSAM"])
def test_the_features_are_those_of_segment_anything(layout: str) -> None:
    """On level 40, width 400: SAM's colours are standardised, MedSAM's stay on [0, 1]."""
    model, volume = a_model(layout), a_volume()
    network = model.network
    with torch.no_grad():
        embedding, grey, decoded = model.family.feature_maps(network, volume)
        share = ((volume[0, 1] + 160) / 400).clamp(0, 1)
        large = torch.nn.functional.interpolate(
            share[None, None], (128, 128), mode="bilinear", align_corners=False
        )
        image = large[0].expand(3, -1, -1)
        ready = network.preprocess(255 * image) if layout == "SAM" else image
        expected = network.image_encoder(ready[None])
        sparse, dense = network.prompt_encoder(points=None, boxes=None, masks=None)
        seen: list[torch.Tensor] = []
        watch = network.mask_decoder.output_upscaling.register_forward_hook(
            lambda module, given, result: seen.append(result)
        )
        network.mask_decoder(
            expected, network.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=False
        )
        watch.remove()
    torch.testing.assert_close(embedding[0, :, 1], expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoded[0, :, 1], seen[0][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grey[0, 0, 1], share * (255 if layout == "SAM" else 1))


def test_blocks_that_are_computed_again_give_the_same_gradients() -> None:
    """Always, because memory is short, and where it was short before, too."""
    model = a_model()
    weight = model.network.image_encoder.blocks[0].attn.qkv.weight

    def gradient(forward: Callable[[], list[torch.Tensor]]) -> tuple[torch.Tensor, int]:
        """Return it, and how many values were kept for it."""
        kept: list[int] = []

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            maps = forward()
        return torch.autograd.grad(maps[0].square().sum(), weight)[0], sum(kept)

    expected, most = gradient(lambda: model.family.feature_maps(model.network, a_volume(1)))
    for is_checkpointed in (False, True):
        short = replace(model, is_checkpointed=is_checkpointed)
        found, kept = gradient(partial(short.feature_maps, a_volume(1)))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert kept < 0.85 * most


@pytest.mark.parametrize("axis", [1, 2])
def test_a_model_turns_with_its_slices(axis: int) -> None:
    """Its maps of a turned volume are the turned maps of the volume."""
    model = a_model()
    other = model.cut_along(axis)
    assert other.patch == tuple(1 if k == axis else 32 for k in range(3))
    assert other.entry.spacing_mm == tuple(3.0 if k == axis else 1.5 for k in range(3))
    assert other.crop(64) == other.patch
    assert other.cut_along(0).entry == model.entry
    upright = a_volume()
    lying = upright.flip(2).movedim(1, axis + 1)  # superior is up
    with torch.no_grad():
        expected, found = model.feature_maps(upright), other.feature_maps(lying)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs.flip(3).movedim(2, axis + 2))


def test_networks_of_volumes_have_no_slices_to_turn(small_model: BaseModel) -> None:
    assert small_model.slice_axis is None
    assert small_model.cut_along(2) is small_model
    assert small_model.crop(64) == (64, 64, 64)
    assert small_model.crop(999) == (128, 128, 128)


def test_a_sam_as_a_file_must_be_told_which_one_it_is(tmp_path: Path) -> None:
    _, _, content = published_weights.checkpoint("MedSAM")
    assert layout_of(content) == "sam"
    torch.save(content, tmp_path / "weights.pth")
    names = "sam-vit-b, sam-vit-l, sam-vit-h, medsam-vit-b"
    with pytest.raises(ModelError, match=f"a SAM, but .*; import it as one of {names}"):
        load_model(str(tmp_path / "weights.pth"), CPU)
    model = load_model(str(tmp_path / "weights.pth"), CPU, family="medsam-vit-b")
    assert (model.patch, model.slice_axis) == ((1, 32, 32), 0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("image_encoder.pos_embed", "not a whole image encoder of SAM"),
        ("image_encoder.blocks.1.attn.rel_pos_h", "not a whole image encoder of SAM"),
        ("image_encoder.neck.0.weight", "not a whole image encoder of SAM"),
        ("prompt_encoder.no_mask_embed.weight", "1 are missing"),
    ],
)
def test_a_sam_that_is_not_whole_is_refused(name: str, said: str, tmp_path: Path) -> None:
    _, _, content = published_weights.checkpoint("MedSAM")
    del content[name]
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ModelError, match=said):
        import_model("medsam-vit-b", tmp_path / "weights.pth", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def of_size(width: int, depth: int, folder: Path) -> Path:
    """Write the tensors that tell a size apart, without their values."""
    shapes = {
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "pos_embed": (1, 64, 64, width),
        "neck.0.weight": (256, width, 1, 1),
        **{f"blocks.{k}.attn.rel_pos_h": (27, 64) for k in range(depth)},
    }
    state = {f"image_encoder.{k}": torch.zeros(1).expand(shape) for k, shape in shapes.items()}
    torch.save(state, folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize(
    ("name", "width", "depth", "right"),
    [
        ("sam-vit-b", 1024, 24, "sam-vit-l"),
        ("medsam-vit-b", 1024, 24, "sam-vit-l"),
        ("sam-vit-l", 1280, 32, "sam-vit-h"),
        ("sam-vit-h", 768, 12, "sam-vit-b or medsam-vit-b"),
    ],
)
def test_weights_of_another_size_are_refused_under_a_wrong_name(
    name: str, width: int, depth: int, right: str, tmp_path: Path
) -> None:
    file = of_size(width, depth, tmp_path)
    with pytest.raises(ModelError) as refused:
        import_model(name, file, tmp_path / "cache")
    command = f"reglora models import {right.split()[0]} {file}"
    assert str(refused.value) == f"weights.pth: weights of {right}, not of {name}; {command}"
    assert not (tmp_path / "cache").exists()


def test_medsams_own_file_is_not_sams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks are the same; the checksum that MedSAM's publishers give tells the file."""
    torch.save(published_weights.checkpoint("MedSAM")[2], tmp_path / "weights.pth")
    md5 = hashlib.md5((tmp_path / "weights.pth").read_bytes()).hexdigest()
    entries = [
        replace(entry, md5=md5) if entry.name == "medsam-vit-b" else entry
        for entry in map(registry.model_entry, registry.model_names())
    ]
    monkeypatch.setattr(registry, "_ENTRIES", entries)
    with pytest.raises(ModelError, match="the file of medsam-vit-b, not of sam-vit-b; reglora"):
        import_model("sam-vit-b", tmp_path / "weights.pth", tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    import_model("medsam-vit-b", tmp_path / "weights.pth", tmp_path / "cache")


def test_methods_know_the_parts_of_a_sam() -> None:
    model = a_model()
    with torch.no_grad():
        base = model.family.feature_maps(model.network, a_volume(1))[-1]
    for method in ("bitfit", "affine-ln", "adaptformer", "decoder-ft", "full-ft", "scratch"):
        adaptation = begin(model, MethodConfig(method), torch.Generator().manual_seed(0))
        maps = model.family.feature_maps(model.network, a_volume(1))
        if method != "scratch":
            torch.testing.assert_close(maps[-1].detach(), base, rtol=1e-5, atol=1e-5)
        sum(level.square().mean() for level in maps).backward()
        trained = [p for p in adaptation.parameters if p.grad is not None and p.grad.any()]
        assert trained, method
        remove_trained(model.network)
    with pytest.raises(InputError, match="no last block"):
        refuse_undefined(model, MethodConfig("spatial-adapter"))


@pytest.mark.parametrize("absent", ["segment_anything", "torchvision"])
def test_without_its_packages_there_is_one_line_and_the_others_work(
    absent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    _, _, content = published_weights.checkpoint("MedSAM")
    torch.save(content, tmp_path / "weights.pth")
    for name in [name for name in sys.modules if name.startswith("segment_anything")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("torchvision")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, absent, None)
    assert main(["models", "import", "medsam-vit-b", str(tmp_path / "weights.pth")]) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert "SAM networks need the packages segment_anything and torchvision" in said
    assert "pip install segment-anything torchvision" in said
    assert main(["models", "show", "medsam-vit-b"]) == 0
    assert load_model("reglora-tiny", CPU).entry.name == "reglora-tiny"


def test_a_torchvision_that_does_not_fit_is_told_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        """Fails as torchvision does whose operators are not those of the torch beside it."""

        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "segment_anything":
                message = "operator torchvision::nms does not exist"
                raise RuntimeError(message)

    for name in [name for name in sys.modules if name.startswith("segment_anything")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ModelError, match=r"torchvision \(operator torchvision::nms does not"):
        sam.build(sam.SamSize())
