"""Every method through `adapt` and `predict`: what the adapter file keeps, what is refused."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import torch  # noqa: TID253
from safetensors.torch import save_file  # noqa: TID253

from reglora_core import adaptation
from reglora_core.adaptation import adapt
from reglora_core.adapter import Adapter, load_adapter
from reglora_core.device import choose_device
from reglora_core.errors import InputError
from reglora_core.features import features_at
from reglora_core.job import AdaptJob, PredictJob
from reglora_core.methods.catalogue import METHODS, method_entry
from reglora_core.models.base import BaseModel
from reglora_core.models.loading import load_model
from reglora_core.models.swinunetr import build
from reglora_core.organs import organ
from reglora_core.prediction import predict, segment
from reglora_core.refine import RefineConfig
from reglora_core.scan import prepare_scan
from reglora_core.volumes import read_image, read_labels

pytestmark = pytest.mark.usefixtures("quick_fits")
# one of each kind; arena, arena+, lora and head are in test_adaptation.py
EACH_KIND = ["adalora", "bitfit", "spatial-adapter", "full-ft", "scratch", "linear-probe"]


@pytest.fixture
def a_job(tmp_path: Path, small_weights: Path) -> AdaptJob:
    image, labels = phantom.write_case(tmp_path / "case")
    return AdaptJob(
        (image,),
        (labels,),
        tmp_path / "out",
        model=str(small_weights),
        rank=2,
        steps=2,
        names=phantom.NAMES,
    )


@pytest.fixture(scope="session")
def swin_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small SwinUNETR."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = build(feature_size=12).state_dict()
    path = tmp_path_factory.mktemp("weights") / "swin.safetensors"
    save_file({key: value.contiguous().clone() for key, value in state.items()}, path)
    return path


def expected_kinds(method: str) -> set[str]:
    """Return the kinds of tensors that an adapter of this method holds besides its heads."""
    of_values = {"offset"} if method != "scratch" else {"value"}
    return {
        "low-rank": {"update"},
        "values": of_values,
        "branch": {method},
        "none": set(),
    }[method_entry(method).kind]


@pytest.mark.parametrize("method", EACH_KIND)
def test_every_method_is_kept_in_a_file_that_predict_reads(
    a_job: AdaptJob, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adaptation, "LARGE_BYTES", 150_000)
    events: list[dict[str, object]] = []
    result = adapt(replace(a_job, method=method), lambda event, /, **f: events.append(f))
    adapter = load_adapter(result.adapter)
    said = " ".join(str(entry.get("message", "")) for entry in events)
    is_whole_network = method in ("full-ft", "scratch")
    assert (f"{method} trains whole parts of the network" in said) == is_whole_network
    tensors = [*(f"update/{key}" for key in adapter.update), *adapter.trained]
    assert {key.partition("/")[0] for key in tensors} == expected_kinds(method)
    assert adapter.method == method
    assert result.is_adapted == bool(tensors)

    model = load_model(a_job.model, choose_device("cpu"))
    scan = prepare_scan(a_job.images[0], read_image(a_job.images[0]), model.entry.spacing_mm)
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 16
    base = features_at(model, scan.inside, points)
    adapter.attach_to(model)
    changed = features_at(model, scan.inside, points)
    assert torch.equal(base, changed) == (not tensors)

    out = a_job.out.with_name("next.nrrd")
    predict(PredictJob(result.adapter, a_job.images[0], out, a_job.model))
    found = read_labels(out, read_image(out)).layers[0]
    truth = phantom.body()[1]
    expected = segment(adapter, model, scan).layers[0]
    assert (found == expected).mean() > 0.99  # merged into the weights, so rounded elsewhere
    if method not in ("bitfit", "scratch"):  # two steps at their rates leave untrained features
        assert phantom.dice(found == phantom.LIVER, truth == phantom.LIVER) > 0.6


@pytest.mark.slow
def test_a_method_for_transformers_on_a_swinunetr(
    a_job: AdaptJob, swin_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = "adaptformer"
    monkeypatch.setattr(adaptation, "RefineConfig", partial(RefineConfig, crop=64, voxels=500))
    job = replace(a_job, model=str(swin_weights), method=method, steps=2)
    result = adapt(job)
    adapter = load_adapter(result.adapter)
    assert {key.partition("/")[0] for key in adapter.trained} == expected_kinds(method)
    assert max(float(tensor.abs().max()) for tensor in adapter.trained.values()) > 0
    out = a_job.out.with_name("next.nrrd")
    predict(PredictJob(result.adapter, a_job.images[0], out, job.model))
    assert read_labels(out, read_image(out)).layers[0].any()


def test_files_of_low_rank_methods_keep_their_format(small_model: BaseModel) -> None:
    adapter = Adapter(
        base="reglora-tiny",
        base_sha256=small_model.sha256,
        organs=(organ(1, "liver"),),
        groups=((0,),),
        modality="ct",
        spacing_mm=3.0,
        method="lora",
        hidden=8,
        update={"layer.down": torch.zeros(1, 1)},
    )
    assert adapter.describe()["format"] == 1
    assert "head" not in adapter.describe()
    for newer in (
        replace(adapter, trained={"offset/x": torch.zeros(1)}),
        replace(adapter, head="linear"),
    ):
        assert newer.describe()["format"] == 2
        assert newer.describe()["head"] == newer.head


@pytest.mark.parametrize("method", ["bitfit", "scratch"])
def test_the_base_network_comes_back_after_an_update_that_is_dropped(
    a_job: AdaptJob, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reglora_core.fit.MUST_KEEP", 2.0)
    events: list[dict[str, object]] = []
    result = adapt(replace(a_job, method=method), lambda event, /, **f: events.append(f))
    said = " ".join(str(entry.get("message", "")) for entry in events)
    assert f"the update by {method} was dropped" in said
    adapter = load_adapter(result.adapter)
    # of scratch the random start stays, because its heads were fitted on it
    assert bool(adapter.trained) == (method == "scratch")


def test_zero_shots_are_the_networks_own_classes(a_job: AdaptJob) -> None:
    job = replace(a_job, method="zero-shot")
    with pytest.raises(InputError, match=r"not trained on spleen; .*it knows: liver"):
        adapt(job)


def test_a_zero_shot_adapter_predicts_what_the_network_says(
    a_job: AdaptJob, tmp_path: Path
) -> None:
    _, truth = phantom.body()
    paint = phantom.on_slices((truth == phantom.LIVER).astype(np.uint8), (14, 21, 28, 35))
    labels = phantom.write(tmp_path / "liver.nrrd", phantom.image_of(paint))
    job = replace(a_job, labels=(labels,), names={1: "liver"}, method="zero-shot")
    result = adapt(job)
    assert not result.is_adapted
    adapter = load_adapter(result.adapter)
    assert adapter.head == "classes"
    model = load_model(job.model, choose_device("cpu"))
    inside = prepare_scan(job.images[0], read_image(job.images[0]), 3.0).inside
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(0)) * 16
    features = features_at(model, inside, points)
    head = adapter.build_heads(model)[0]
    network = model.network
    logits = network.classifier(features[:, -model.widths[-1] :])  # background, liver
    torch.testing.assert_close(
        head.probabilities(head(features)), logits.softmax(1), atol=5e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("adaptformer", "a TinyUNet has no transformer blocks.*use arena or lora"),
        ("affine-ln", "a TinyUNet has no layer norms.*use bitfit"),
    ],
)
def test_a_method_that_a_network_has_no_place_for_says_what_to_use(
    a_job: AdaptJob, method: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        adapt(replace(a_job, method=method))
    assert not list(a_job.out.glob("*.safetensors"))


def test_zero_shots_of_a_network_with_unknown_classes_are_refused(
    a_job: AdaptJob, swin_weights: Path
) -> None:
    with pytest.raises(InputError, match=r"classes of .* are unknown; use linear-probe"):
        adapt(replace(a_job, model=str(swin_weights), method="zero-shot"))


def test_an_unknown_method_lists_the_names() -> None:
    with pytest.raises(InputError) as refused:
        AdaptJob((Path("a"),), (Path("b"),), Path("c"), method="dora")
    assert all(name in str(refused.value) for name in METHODS)
    assert "'dora'" in str(refused.value)


def test_a_warm_start_goes_on_with_what_was_trained_and_no_other_kind(a_job: AdaptJob) -> None:
    method = "decoder-ft"
    first = adapt(replace(a_job, method=method))
    again = replace(a_job, method=method, from_adapter=first.adapter, out=a_job.out / "again")
    before, after = load_adapter(first.adapter), load_adapter(adapt(again).adapter)
    assert before.trained.keys() == after.trained.keys()
    assert any(not torch.equal(before.trained[key], after.trained[key]) for key in before.trained)
    for other, said in [("lora", "holds values"), ("scratch", "uses no earlier adapter")]:
        with pytest.raises(InputError, match=said):
            adapt(replace(again, method=other))
