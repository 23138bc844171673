"""ARENA in SAM's image encoder and a token per organ in its mask decoder, trained together."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import published_weights
import pytest
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253
from quick import Events, shorten_fits

from reglora_core import correction, fit
from reglora_core.adaptation import adapt
from reglora_core.adapter import Adapter, load_adapter, save_adapter
from reglora_core.correction import warm_heads, warm_start
from reglora_core.errors import AdapterError, Cancelled
from reglora_core.fit import Task
from reglora_core.head import HeadConfig
from reglora_core.job import AdaptJob, PredictJob
from reglora_core.lora import gates
from reglora_core.methods.adaptation import MethodConfig, begin
from reglora_core.methods.mask_decoder import MaskHead
from reglora_core.methods.trained import UPDATE, remove_trained, trained_state
from reglora_core.models import registry, sam
from reglora_core.models.base import BaseModel
from reglora_core.models.cache import import_model
from reglora_core.models.families import family_of
from reglora_core.organs import organ
from reglora_core.prediction import predict
from reglora_core.volumes import read_image, read_labels

pytest.importorskip("segment_anything")

METHOD = "arena-mask-decoder"
SLICES = (14, 25, 36)
NEW = 20
TENSORS = ["down", "gate", "up"]


@pytest.fixture(scope="module", autouse=True)
def the_cache(tmp_path_factory: pytest.TempPathFactory):
    """A cache that holds a small MedSAM."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "default_cache", lambda: folder)
        shorten_fits(patch)
        patch.setattr(fit, "HeadConfig", partial(HeadConfig, steps=20))
        patch.setattr(correction, "CORRECTION", replace(correction.CORRECTION, steps=10))
        torch.save(published_weights.checkpoint("MedSAM")[2], folder / "weights.pth")
        import_model("medsam-vit-b", folder / "weights.pth")
        yield


def a_job(folder: Path, turn: Callable[[sitk.Image], sitk.Image] = lambda image: image) -> AdaptJob:
    """Return a job on the phantom, 32 voxels of the network's in its slices."""
    hounsfield, labels = phantom.body()
    painted = phantom.on_slices(labels, SLICES)
    images = [turn(phantom.image_of(array, (1.0,) * 3)) for array in (hounsfield, painted)]
    return AdaptJob(
        (phantom.write(folder / "ct.nrrd", images[0]),),
        (phantom.write(folder / "painted.nrrd", images[1]),),
        folder / "out",
        "medsam-vit-b",
        METHOD,
        rank=2,
        steps=3,
        names=phantom.NAMES,
    )


@pytest.fixture(scope="module")
def the_job(tmp_path_factory: pytest.TempPathFactory) -> AdaptJob:
    """A job that was done."""
    job = a_job(tmp_path_factory.mktemp("first"))
    adapt(job)
    return job


def adapter_of(job: AdaptJob) -> Adapter:
    return load_adapter(job.out / "adapter.safetensors")


def segmented(job: AdaptJob) -> np.ndarray:
    labels = read_labels(job.out / "segmentation_1.seg.nrrd", read_image(job.images[0]))
    found = np.zeros(labels.shape, np.uint8)
    for index, own in enumerate(labels.organs):
        found[labels.mask(index)] = own.value
    return found


def a_model() -> BaseModel:
    name, network, _ = published_weights.checkpoint("MedSAM")
    entry = registry.model_entry(name)
    return BaseModel(entry, network, family_of(entry), "", (1, 32, 32), slice_axis=0)


def an_adapter(model: BaseModel, head: MaskHead, names: Sequence[str]) -> Adapter:
    return Adapter(
        base=model.entry.name,
        base_sha256=model.sha256,
        organs=tuple(organ(value, name) for value, name in enumerate(names, start=1)),
        groups=head.groups,
        modality="ct",
        spacing_mm=(3.0, 1.5, 1.5),
        slice_axis="S",
        method=METHOD,
        hidden=128,
        head="masks",
        heads=(head.state_dict(),),
    )


def test_the_number_of_values_that_are_trained_in_vit_b() -> None:
    """A, g and B of 24 columns on projections 768 -> 2304; a token of 256, a layer 256 -> 32."""
    entry = registry.model_entry("sam-vit-b")
    network = sam.build(sam.SamSize(128, depth=2, window=5, whole=(1,)))  # of 12 blocks
    model = BaseModel(entry, network, family_of(entry), "", (1, 32, 32), slice_axis=0)
    adaptation = begin(model, MethodConfig(METHOD, rank=8), torch.Generator())
    assert 6 * adaptation.trainable_count == 12 * 24 * (768 + 1 + 2304) == 885_024
    head = MaskHead(model, ((0, 1, 2),))
    assert sum(own.numel() for own in head.parameters()) == 3 * (256 + 256 * 32 + 32) == 25_440


def test_updates_and_tokens_are_in_the_file_and_predict_reads_it(
    the_job: AdaptJob, tmp_path: Path
) -> None:
    adapter = adapter_of(the_job)
    assert (adapter.method, adapter.head, adapter.slice_axis) == (METHOD, "masks", "S")
    assert adapter.format == 4
    layers = [f"image_encoder.blocks.{block}.attn.qkv" for block in (0, 1)]
    assert sorted(adapter.update) == [f"{layer}.{own}" for layer in layers for own in TENSORS]
    assert all(float(adapter.update[f"{layer}.up"].abs().max()) > 0 for layer in layers)
    assert [sorted(head) for head in adapter.heads] == [["bias", "tokens", "weight"]]

    out = tmp_path / "found.nrrd"
    predict(PredictJob(the_job.out / "adapter.safetensors", the_job.images[0], out))
    assert read_image(out).GetSize() == (48, 48, 48)


def test_the_same_seed_gives_the_same_adapter(the_job: AdaptJob, tmp_path: Path) -> None:
    again = replace(the_job, out=tmp_path)
    adapt(again)
    first, second = adapter_of(the_job), adapter_of(again)
    assert all(torch.equal(first.update[key], second.update[key]) for key in first.update)
    assert all(torch.equal(value, second.heads[0][key]) for key, value in first.heads[0].items())
    assert np.array_equal(segmented(the_job), segmented(again))


def turned(image: sitk.Image) -> sitk.Image:
    """Store an image with other axes, one of them backwards, on oblique planes."""
    stored = sitk.Flip(sitk.PermuteAxes(image, (2, 0, 1)), (False, True, False))
    tilt = sitk.Euler3DTransform((0.0, 0.0, 0.0), 0.1, 0.05, 0.15)
    matrix = np.array(tilt.GetMatrix()).reshape(3, 3)
    stored.SetDirection((matrix @ np.array(stored.GetDirection()).reshape(3, 3)).flatten())
    stored.SetOrigin(matrix @ np.array(stored.GetOrigin()))
    return stored


def test_an_oblique_scan_with_other_axes_gives_the_same_voxels(
    the_job: AdaptJob, tmp_path: Path
) -> None:
    job = a_job(tmp_path, turned)
    adapt(job)
    straight = sitk.GetImageFromArray(segmented(the_job))
    expected = sitk.GetArrayFromImage(
        sitk.Flip(sitk.PermuteAxes(straight, (2, 0, 1)), (False, True, False))
    )
    assert np.array_equal(segmented(job), expected)
    assert adapter_of(job).slice_axis == "S"


def test_columns_that_were_pruned_are_not_in_the_file(tmp_path: Path) -> None:
    model = a_model()
    volume = 200 * torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    begin(model, MethodConfig(METHOD, rank=2), torch.Generator().manual_seed(0))
    first, second = gates(model.network).values()
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith(".up"):
                parameter += 0.1
            parameter.copy_(parameter.half())  # as in the file
        first[:4] = 0
        second[:] = 0
        expected = model.feature_maps(volume)[0]
    state = trained_state(model.network)
    head = MaskHead(model, ((0,),))
    update = {key.removeprefix(UPDATE): value for key, value in state.items()}
    save_adapter(
        replace(an_adapter(model, head, ("liver",)), update=update),
        tmp_path / "adapter.safetensors",
    )
    read = load_adapter(tmp_path / "adapter.safetensors")
    kept = [len(value) for key, value in read.update.items() if key.endswith("gate")]
    assert kept == [2, 0]  # of 3 x 2 columns each
    remove_trained(model.network)
    read.attach_to(model)
    with torch.no_grad():
        torch.testing.assert_close(model.feature_maps(volume)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_cancelled_run_leaves_tokens_that_were_not_trained_on(
    the_job: AdaptJob, tmp_path: Path
) -> None:
    def stop(event: str, /, **fields: object) -> None:
        if fields.get("stage") == "refine":
            raise Cancelled

    job = replace(the_job, out=tmp_path)
    with pytest.raises(Cancelled):
        adapt(job, stop)
    adapter = adapter_of(job)
    assert (adapter.method, adapter.head, adapter.update) == ("mask-decoder", "masks", {})
    trained = adapter_of(the_job).heads[0]
    assert not any(torch.equal(value, trained[key]) for key, value in adapter.heads[0].items())


def test_cancelling_stops_between_the_slices_that_the_tokens_see(
    the_job: AdaptJob, tmp_path: Path
) -> None:
    seen: list[tuple[object, object]] = []

    def stop(event: str, /, **fields: object) -> None:
        if fields.get("stage") == "head":
            seen.append((fields["step"], fields["steps"]))
            if len(seen) == 2:
                raise Cancelled

    with pytest.raises(Cancelled):
        adapt(replace(the_job, out=tmp_path), stop)
    assert seen == [(1, 3), (2, 3)]


def test_a_budget_that_is_spent_leaves_the_first_result(the_job: AdaptJob, tmp_path: Path) -> None:
    job, events = replace(the_job, steps=None, budget=0.1, out=tmp_path), Events()
    assert not adapt(job, events).is_adapted
    assert "the budget of 0.1 s was spent before the low-rank update" in events.warnings
    assert adapter_of(job).method == "mask-decoder"


@pytest.mark.parametrize("method", [METHOD, "arena"])
def test_a_correction_keeps_the_update_and_the_paint(
    the_job: AdaptJob, tmp_path: Path, method: str
) -> None:
    """The adapter says which heads it has; the job's method need not."""
    truth = phantom.body()[1]
    wrong = truth.copy()
    wrong[NEW, 20, 10:30] = phantom.SPLEEN  # nothing would predict that
    painted = phantom.image_of(phantom.on_slices(wrong, (*SLICES, NEW)), (1.0,) * 3)
    job = replace(
        the_job,
        method=method,
        labels=(phantom.write(tmp_path / "painted.nrrd", painted),),
        out=tmp_path / "out",
        from_adapter=the_job.out / "adapter.safetensors",
        correct=True,
    )
    adapt(job)
    assert json.loads((job.out / "report.json").read_text())["path"] == "correction"
    old, new = adapter_of(the_job), adapter_of(job)
    assert (new.method, new.head) == (METHOD, "masks")
    assert all(torch.equal(value, new.update[key]) for key, value in old.update.items())
    assert not torch.equal(old.heads[0]["tokens"], new.heads[0]["tokens"])
    first, found = segmented(the_job), segmented(job)
    assert np.array_equal(found[[*SLICES, NEW]], wrong[[*SLICES, NEW]])
    others = [k for k in range(phantom.SIZE) if k not in (*SLICES, NEW)]
    for value in phantom.NAMES:
        organ_there = truth[others] == value
        before, after = (phantom.dice(own[others] == value, organ_there) for own in (first, found))
        assert after > before - 0.01


def test_tokens_go_with_the_names_of_their_organs() -> None:
    """Rows go as groups list their organs; an organ that is new starts as SAM's first mask."""
    model = a_model()
    names = ("liver", "spleen", "kidney", "aorta")
    earlier = MaskHead(model, ((1,), (0,)))  # spleen, liver
    with torch.no_grad():
        for parameter in earlier.parameters():
            parameter += 1.0
            parameter[1] += 1.0
    known = an_adapter(model, earlier, names[:2])
    organs = tuple(organ(value, name) for value, name in enumerate(names, start=1))
    task = Task(organs, ((0, 2), (3, 1)), (), head="masks")
    (head,) = warm_heads(known, model, task, torch.Generator())
    plain = MaskHead(model, task.groups)
    for own, start in zip(head.parameters(), plain.parameters(), strict=True):
        added = torch.stack([(a - b).mean() for a, b in zip(own, start, strict=True)])
        torch.testing.assert_close(added, torch.tensor([2.0, 0.0, 0.0, 1.0]))


def test_a_method_without_a_correction_round_says_so_before_it_adapts(tmp_path: Path) -> None:
    model = a_model()
    linear = replace(an_adapter(model, MaskHead(model, ((0,),)), ("liver",)), head="linear")
    save_adapter(replace(linear, method="linear-probe"), tmp_path / "probe.safetensors")
    with pytest.raises(AdapterError, match="by linear-probe, a method without a correction round"):
        warm_start(tmp_path / "probe.safetensors", model, linear.organs)
