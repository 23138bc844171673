"""SAM from paint to the next patient: slices in the painted direction, however a scan is stored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import published_weights
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.adapter import Adapter, load_adapter, save_adapter
from reglora_core.cli import main
from reglora_core.correction import warm_start
from reglora_core.errors import AdapterError
from reglora_core.models import registry
from reglora_core.models.cache import import_model
from reglora_core.models.loading import load_model
from reglora_core.organs import organ

pytest.importorskip("segment_anything")
SLICES = (14, 21, 28, 35)
AXES = {"S": 0, "A": 1}


def a_scan(array: np.ndarray) -> sitk.Image:
    """Return the phantom at a third of its size: 32 voxels of 1.5 mm, 16 of 3 mm across slices."""
    return phantom.image_of(array, (1.0, 1.0, 1.0))


@pytest.fixture(scope="module")
def the_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Put a small MedSAM where the command line looks for it."""
    folder = tmp_path_factory.mktemp("sam")
    _, _, content = published_weights.checkpoint("MedSAM")
    torch.save(content, folder / "weights.pth")
    import_model("medsam-vit-b", folder / "weights.pth", folder / "cache")
    return folder / "cache"


@pytest.fixture
def in_the_cache(the_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "default_cache", lambda: the_cache)


@pytest.fixture(params=AXES)
def an_adapter(
    request: pytest.FixtureRequest, in_the_cache: None, quick_fits: None, tmp_path: Path
) -> Path:
    """Adapt by the command line to paint in one direction; return the adapter's file."""
    hounsfield, labels = phantom.body()
    image = phantom.write(tmp_path / "ct.nrrd", a_scan(hounsfield))
    painted = phantom.on_slices(labels, SLICES, AXES[request.param])
    paint = phantom.write(tmp_path / "painted.nrrd", a_scan(painted))
    command = ["adapt", "--image", str(image), "--labels", str(paint), "--out", str(tmp_path)]
    command += ["--model", "medsam-vit-b", "--steps", "4", "--rank", "2"]
    assert main([*command, "--names", "1=liver,2=spleen"]) == 0
    return tmp_path / "adapter.safetensors"


def predicted(adapter: Path, image: sitk.Image, name: str) -> sitk.Image:
    """Return what the command line finds in an image."""
    scan = phantom.write(adapter.with_name(f"{name}.nrrd"), image)
    out = adapter.with_name(f"found in {name}.nrrd")
    command = ["predict", "--adapter", str(adapter), "--image", str(scan), "--out", str(out)]
    assert main(command) == 0
    return sitk.ReadImage(str(out))


def test_the_next_patient_is_cut_in_the_painted_direction_however_it_is_stored(
    an_adapter: Path, request: pytest.FixtureRequest
) -> None:
    axis = request.node.callspec.params["an_adapter"]
    adapter = load_adapter(an_adapter)
    assert (adapter.format, adapter.slice_axis) == (4, axis)
    assert adapter.spacing_mm == [3.0 if k == AXES[axis] else 1.5 for k in range(3)]
    assert set(adapter.ranks) == {f"image_encoder.blocks.{k}.attn.qkv" for k in (0, 1)}

    hounsfield, truth = phantom.body(seed=1, shift=2.0)
    plain = predicted(an_adapter, a_scan(hounsfield), "plain")
    found = sitk.GetArrayFromImage(plain)
    for value in phantom.NAMES:
        assert phantom.dice(found == value, truth == value) > 0.6  # of a network without training

    stored = sitk.Flip(sitk.PermuteAxes(a_scan(hounsfield), (2, 0, 1)), (True, False, True))
    turned = predicted(an_adapter, stored, "turned")
    back = sitk.Resample(turned, plain, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert np.array_equal(sitk.GetArrayFromImage(back), found)

    oblique = a_scan(hounsfield)
    turn = sitk.VersorTransform((0.3, 0.2, 1.0), 0.3)
    oblique.SetDirection(turn.GetMatrix())
    leaning = predicted(an_adapter, oblique, "oblique")
    assert np.array_equal(sitk.GetArrayFromImage(leaning), found)
    assert leaning.GetDirection() == pytest.approx(turn.GetMatrix())


def a_small_adapter(sha256: str, slice_axis: str) -> Adapter:
    """Return an adapter that segments nothing; its heads are of no use."""
    empty = {"mean": torch.zeros(1)}
    return Adapter(
        base="medsam-vit-b",
        base_sha256=sha256,
        organs=(organ(1, "liver"),),
        groups=((0,),),
        modality="ct",
        spacing_mm=(3.0, 1.5, 1.5),
        slice_axis=slice_axis,
        method="head",
        hidden=8,
        heads=(empty, empty),
    )


@pytest.mark.usefixtures("in_the_cache")
def test_a_correction_on_slices_of_another_direction_is_none(tmp_path: Path) -> None:
    model = load_model("medsam-vit-b", torch.device("cpu"))
    save_adapter(a_small_adapter(model.sha256, "S"), tmp_path / "a.safetensors")
    start = warm_start(tmp_path / "a.safetensors", model, [organ(1, "liver")])
    assert start.adapter.slice_axis == "S"
    with pytest.raises(AdapterError, match=r"along S, the paint is on .* along R"):
        warm_start(tmp_path / "a.safetensors", model.cut_along(2), [organ(1, "liver")])


def test_only_adapters_of_slices_need_the_new_format(tmp_path: Path) -> None:
    adapter = a_small_adapter("", "A")
    assert adapter.format == 4
    assert json.loads(json.dumps(adapter.describe()))["slice_axis"] == "A"
    older = replace(adapter, slice_axis="")
    assert older.format == 1
    assert "slice_axis" not in older.describe()


@pytest.mark.parametrize("damaged", ["P", "SA", 3])
def test_a_direction_that_is_none_is_refused(damaged: object, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_adapter(replace(a_small_adapter("", "A"), slice_axis=damaged), path)  # type: ignore[arg-type]
    with pytest.raises(AdapterError, match="its description is incomplete"):
        load_adapter(path)
