"""Every family of base networks adapts and predicts, with its updates where they belong."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import phantom
import published_weights
import pytest
import torch  # noqa: TID253

from reglora_core.adapter import load_adapter
from reglora_core.cli import main
from reglora_core.models import registry
from reglora_core.models.cache import import_model
from reglora_core.models.loading import load_model
from reglora_core.scan import prepare_scan
from reglora_core.volumes import read_image

CPU = torch.device("cpu")

# layout, and one layer of each kind that gets an update; then layers that must not
TARGETS = {
    "FSEFT": (
        "swinViT.layers1.0.blocks.0.attn.qkv swinViT.layers4.0.blocks.1.attn.qkv",
        "swinViT.layers1.0.blocks.0.attn.proj decoder1.conv_block.conv1.conv",
    ),
    "SuPreM U-Net": (
        "down_tr256.ops.0.conv1 down_tr512.ops.1.conv1 up_tr64.up_conv up_tr64.ops.1.conv1",
        "down_tr64.ops.0.conv1 down_tr128.ops.1.conv1 down_tr256.ops.0.bn1",
    ),
    "SuPreM SegResNet": (
        "down_layers.2.0.conv down_layers.3.4.conv2.conv up_layers.2.0.conv1.conv "
        "up_samples.0.0.conv",
        "convInit.conv down_layers.1.0.conv conv_final.2.conv",
    ),
    "MONAI SSL": (
        "layers1.0.blocks.0.attn.qkv layers4.0.blocks.1.attn.qkv",
        "patch_embed.proj layers1.0.blocks.0.mlp.linear1",
    ),
    "SAM": (
        "image_encoder.blocks.0.attn.qkv image_encoder.blocks.1.attn.qkv",
        "image_encoder.blocks.0.attn.proj image_encoder.blocks.1.mlp.lin1 "
        "mask_decoder.transformer.layers.0.self_attn.q_proj",
    ),
    "VISTA3D": (
        "encoder.layers.2.blocks.0.conv1 encoder.layers.4.blocks.3.conv2 "
        "up_layers.0.upsample.deconv up_layers.3.blocks.0.conv2",
        "encoder.conv_init encoder.layers.1.blocks.0.conv1 encoder.layers.1.downsample "
        "up_layers.3.head",
    ),
}
COUNTS = {
    "FSEFT": 8,
    "SuPreM U-Net": 13,
    "SuPreM SegResNet": 2 + 4 + 8 + 6 + 3,
    "MONAI SSL": 8,
    "SAM": 2,
    "VISTA3D": 4 + 8 + 8 + 4 + 8,
    "MONAI whole body": 2 + 4 + 8 + 6 + 3,
}


@pytest.fixture
def the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "default_cache", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def imported(layout: str, folder: Path) -> str:
    """Put a small network of a published layout into the cache; return its name."""
    name, _, content = published_weights.checkpoint(layout)
    torch.save(content, folder / "weights.pth")
    import_model(name, folder / "weights.pth")
    return name


@pytest.mark.parametrize("layout", TARGETS)
def test_updates_go_where_the_entry_says(layout: str, the_cache: Path, tmp_path: Path) -> None:
    model = load_model(imported(layout, tmp_path), CPU)
    adapted = [
        name
        for name, module in model.network.named_modules()
        if getattr(module, "weight", None) is not None and model.is_adapted_layer(name, module)
    ]
    chosen, left = (names.split() for names in TARGETS[layout])
    names = {name for name, _ in model.network.named_modules()}
    assert set(chosen) | set(left) <= names
    assert set(chosen) <= set(adapted)
    assert not set(left) & set(adapted)
    assert len(adapted) == COUNTS[layout]


@pytest.fixture(scope="module")
def a_small_case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Write the phantom at a third of its size: 32 voxels of 1.5 mm along each axis."""
    folder = tmp_path_factory.mktemp("case")
    hounsfield, labels = phantom.body()
    painted = phantom.on_slices(labels, (14, 21, 28, 35))
    return (
        phantom.write(folder / "ct.nrrd", phantom.image_of(hounsfield, (1.0, 1.0, 1.0))),
        phantom.write(folder / "painted.nrrd", phantom.image_of(painted, (1.0, 1.0, 1.0))),
    )


@pytest.fixture
def with_crops_for_a_transformer(quick_fits: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train quickly, on crops that have more than one voxel at a stride of 32."""
    from reglora_core import adaptation

    quick = adaptation.RefineConfig
    monkeypatch.setattr(adaptation, "RefineConfig", partial(quick, crop=64))


@pytest.mark.usefixtures("the_cache", "with_crops_for_a_transformer")
@pytest.mark.parametrize("layout", [*TARGETS, "MONAI whole body"])
def test_a_family_adapts_and_predicts(
    layout: str, a_small_case: tuple[Path, Path], tmp_path: Path
) -> None:
    name = imported(layout, tmp_path)
    image, labels = map(str, a_small_case)
    out = tmp_path / "out"
    command = ["adapt", "--image", image, "--labels", labels, "--out", str(out), "--model", name]
    assert main([*command, "--steps", "2", "--rank", "2", "--names", "1=liver,2=spleen"]) == 0
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    losses = [event["loss"] for event in events if event.get("stage") == "refine"]
    assert len(losses) >= 2
    assert all(isinstance(loss, float) for loss in losses)
    ranks = next(event["ranks"] for event in events if event["event"] == "ranks")
    assert len(ranks) == COUNTS[layout]
    adapter = load_adapter(out / "adapter.safetensors")
    assert adapter.base == name
    assert adapter.provenance["base_licence"] == registry.model_entry(name).licence

    found = tmp_path / "found.nrrd"
    predict = ["predict", "--adapter", str(out / "adapter.safetensors"), "--image", image]
    assert main([*predict, "--out", str(found)]) == 0
    assert read_image(found).GetSize() == (48, 48, 48)


def test_a_spacing_per_axis_is_that_of_the_working_grid(
    a_small_case: tuple[Path, Path],
) -> None:
    scan = prepare_scan(a_small_case[0], read_image(a_small_case[0]), (2.0, 1.5, 1.5))
    assert tuple(scan.hounsfield.shape) == (24, 32, 32)
    assert scan.grid.working_spacing == (2.0, 1.5, 1.5)
