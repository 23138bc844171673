"""Device and precision: what is taken, what training does in it, and what happens without memory.

There is no GPU where these run: what PyTorch says of one is replaced, never what it computes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import phantom
import pytest
import torch  # noqa: TID253
from quick import Events
from torch import nn  # noqa: TID253

import bench_memory
from reglora_core import device as module
from reglora_core import forecast, memory
from reglora_core.adaptation import adapt
from reglora_core.device import choose_precision, has_fast_bfloat16, loss_scaler, mixed_precision
from reglora_core.errors import InputError, ModelError
from reglora_core.features import each_window
from reglora_core.forecast import Setting
from reglora_core.job import AdaptJob, PredictJob
from reglora_core.memory import prepare, with_enough_memory
from reglora_core.methods.adaptation import MethodConfig
from reglora_core.models import registry, segresnet, swinunetr
from reglora_core.models.base import BaseModel, in_precision
from reglora_core.models.checkpointing import checkpointed
from reglora_core.models.segresnet import SegResNetFamily
from reglora_core.models.tiny import TinyConfig, TinyUNet
from reglora_core.models.unet3d import UNet3D
from reglora_core.prediction import predict
from reglora_core.refine import RefineConfig, Refiner
from reglora_core.scan import prepare_scan

CPU, GPU = torch.device("cpu"), torch.device("cuda")
RAN_OUT = "CUDA out of memory. Tried to allocate 2.00 GiB"


def with_capability(patch: pytest.MonkeyPatch, capability: tuple[int, int]) -> None:
    patch.setattr(torch.cuda, "get_device_capability", lambda _: capability)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((9, 0), "bfloat16"), ((8, 0), "bfloat16"), ((7, 5), "float16"), ((6, 1), "float32")],
)
def test_a_gpu_gets_the_16_bits_that_it_multiplies(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    with_capability(monkeypatch, capability)
    assert choose_precision("auto", GPU) == precision
    assert choose_precision("float32", GPU) == "float32"


def test_a_cpu_gets_bfloat16_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_fast, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda fast=is_fast: fast)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda fast=is_fast: fast)
        assert has_fast_bfloat16(CPU) == is_fast
        assert choose_precision("auto", CPU) == precision
    assert choose_precision("bfloat16", CPU) == "bfloat16"


def test_float16_is_refused_where_it_cannot_be_trained_in(small_model: BaseModel) -> None:
    with pytest.raises(ModelError, match="is for NVIDIA GPUs, and the device is 'cpu'; choose"):
        in_precision(small_model, "float16")
    with pytest.raises(InputError, match="precision: 'half' cannot be used; choose one of auto"):
        PredictJob(Path("a"), Path("b"), Path("c.nrrd"), precision="half")


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_a_network_computes_in_the_precision_asked_for(
    small_model: BaseModel, precision: str, dtype: torch.dtype
) -> None:
    with torch.no_grad():
        maps = in_precision(small_model, precision).feature_maps(torch.zeros(1, 64, 64, 64))
    assert small_model.network.encoder[0].conv1.conv.weight.dtype == torch.float32  # type: ignore[union-attr, index]
    with mixed_precision(torch.zeros(1, 64, 64, 64), 16, precision):
        assert nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype == dtype
    assert maps[-1].shape == (1, 8, 64, 64, 64)


class GivesScale(torch.amp.GradScaler):
    """A scaler for the CPU, which PyTorch has too: float16 by its rules, in float32's numbers."""

    def __init__(self, scale: float) -> None:
        super().__init__("cpu", init_scale=scale, growth_interval=1)


@pytest.fixture
def a_refiner(small_model: BaseModel, tmp_path: Path) -> tuple[Refiner, Any]:
    from reglora_core.adaptation import read_task
    from reglora_core.fit import fit_heads

    image, labels = phantom.write_case(tmp_path / "case", (12, 20, 28, 36))
    job = AdaptJob((image,), (labels,), tmp_path / "out", names=phantom.NAMES)
    task, _ = read_task(job, small_model, Events())
    generator = torch.Generator().manual_seed(0)
    heads = fit_heads(small_model, task, task.paintings, generator, Events())
    config = RefineConfig(MethodConfig(), steps=4, crop=32, voxels=200, pool=2000)
    return Refiner(small_model, heads, task.groups, config, generator), task.paintings


@pytest.mark.usefixtures("quick_fits")
def test_a_scaled_loss_trains_as_an_unscaled_one(a_refiner: tuple[Refiner, Any]) -> None:
    refiner, paintings = a_refiner
    states = []
    before = {key: value.clone() for key, value in refiner.model.network.state_dict().items()}
    heads = [{k: v.clone() for k, v in head.state_dict().items()} for head in refiner.heads]
    chance = refiner.generator.get_state()
    for scale in (None, 1024.0):
        refiner.model.network.load_state_dict(before)
        for head, state in zip(refiner.heads, heads, strict=True):
            head.load_state_dict(state)
        refiner.generator.set_state(chance)
        refiner.step = 0
        refiner.optimizer.optimizer.state.clear()
        if scale is not None:
            refiner.scaler = GivesScale(scale)
        refiner.train(paintings, 1, Events())
        states.append([p.detach().clone() for p in refiner.adaptation.parameters])
    for plain, scaled in zip(*states, strict=True):
        assert torch.allclose(plain, scaled, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("quick_fits")
def test_a_scale_that_is_too_large_costs_a_step_and_is_halved(
    a_refiner: tuple[Refiner, Any],
) -> None:
    refiner, paintings = a_refiner
    refiner.scaler = GivesScale(2.0**127)
    before = [p.detach().clone() for p in refiner.adaptation.parameters]
    refiner.train(paintings, 1, Events())
    after = refiner.adaptation.parameters
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert refiner.scaler.get_scale() == 2.0**126


def test_a_loss_is_scaled_for_float16_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "choose_precision", lambda name, _: name)
    assert not loss_scaler(CPU, "bfloat16").is_enabled()
    assert not loss_scaler(CPU, "float32").is_enabled()
    assert loss_scaler(CPU, "float16").is_enabled()


NETWORKS = {
    "tiny": lambda: TinyUNet(TinyConfig(widths=(8, 8, 16, 16, 16), classes=("background",))),
    "unet": lambda: UNet3D(2),
    "segresnet": lambda: segresnet.build(8),
    "swinunetr": lambda: swinunetr.build(12),
}


@pytest.mark.parametrize("name", ["tiny", "unet", "segresnet", "swinunetr"])
def test_checkpointing_has_the_same_gradients_from_less_memory(name: str) -> None:
    network = NETWORKS[name]().eval()
    names = [key for key, _ in network.named_parameters()]
    inputs = torch.randn(1, 2 if name == "tiny" else 1, 64, 64, 64)
    gradients, peaks = [], []
    for is_checkpointed in (False, True):
        network.zero_grad()
        with bench_memory.LiveBytes() as live:
            if is_checkpointed:
                with checkpointed(network):
                    result = network(inputs)
            else:
                result = network(inputs)
            fine = result[-1] if isinstance(result, list) else result
            fine.square().mean().backward()
        peaks.append(live.peak)
        gradients.append({k: p.grad for k, p in network.named_parameters() if p.grad is not None})
    assert set(gradients[0]) == set(gradients[1]) <= set(names)
    for key, gradient in gradients[0].items():
        assert torch.allclose(gradient, gradients[1][key], rtol=1e-4, atol=1e-7)
    assert peaks[1] < 0.8 * peaks[0]
    assert not any("forward" in vars(part) for part in network.modules())


def test_windows_together_are_the_windows_one_by_one(small_model: BaseModel) -> None:
    model = in_precision(replace(small_model, patch=(32, 32, 32)), "float32")
    volume = torch.randn(48, 64, 40, generator=torch.Generator().manual_seed(0)) * 100
    volume[:, :33] = -1000  # windows of air
    one = list(each_window(model, volume))
    together = list(each_window(replace(model, windows_at_once=3), volume))
    by_box = {str(box): maps for box, maps in together}
    assert len(by_box) == len(one) == len(together)
    assert {maps is None for _, maps in one} == {True, False}
    for box, maps in one:
        other = by_box[str(box)]
        assert (maps is None) == (other is None)
        for own, level in zip(maps or [], other or [], strict=True):
            assert torch.allclose(own, level, atol=1e-4)


@pytest.fixture
def a_segresnet() -> BaseModel:
    torch.manual_seed(0)
    entry = registry.model_entry("suprem-segresnet")
    network = segresnet.build(8).eval().requires_grad_(False)
    return BaseModel(entry, network, SegResNetFamily(), "", (32, 32, 32), precision="bfloat16")


def largest_differences(maps: list[torch.Tensor], others: list[torch.Tensor]) -> list[float]:
    pairs = zip(maps, others, strict=True)
    return [float((own - other).abs().max() / other.abs().max()) for own, other in pairs]


def test_a_segresnet_gives_the_same_maps_in_either_layout(
    a_segresnet: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = 100 * torch.randn(1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exact = in_precision(a_segresnet, "float32").feature_maps(volume)
        last = a_segresnet.feature_maps(volume)
        monkeypatch.setattr(segresnet, "channels_last", lambda inputs: inputs)
        first = a_segresnet.feature_maps(volume)
    assert max(largest_differences(first, exact)) < 0.03  # 8 bits of a value, 30 layers
    assert max(largest_differences(last, exact)) < 0.03


def test_a_segresnets_input_is_channels_last_in_16_bits_without_gradients() -> None:
    inputs = torch.randn(1, 1, 4, 6, 8).transpose(-1, -3)
    with mixed_precision(torch.zeros(1, 64, 64, 64), 8, "bfloat16"):
        assert segresnet.channels_last(inputs) is inputs  # with gradients
        with torch.no_grad():
            laid = segresnet.channels_last(inputs)
    assert laid.stride() == (192, 1, 24, 4, 1)
    assert torch.equal(laid, inputs)
    with torch.no_grad():
        assert segresnet.channels_last(inputs) is inputs  # in float32


class OnGpu(BaseModel):
    """A model that says that it is on a GPU until it is moved to the CPU."""

    @property
    def device(self) -> torch.device:
        return GPU


def on_gpu(model: BaseModel) -> OnGpu:
    return OnGpu(**{name: getattr(model, name) for name in model.__dataclass_fields__})


def test_a_gpu_without_memory_saves_step_by_step_and_gives_way_to_the_cpu(
    small_model: BaseModel,
) -> None:
    tried: list[tuple[str, int, bool, int]] = []

    def work(model: BaseModel) -> str:
        device = model.device.type
        tried.append((device, model.windows_at_once, model.is_checkpointed, model.patch[0]))
        if device != "cpu":
            raise torch.OutOfMemoryError(RAN_OUT)
        return "done"

    events = Events()
    start = on_gpu(replace(small_model, windows_at_once=4, precision="float16"))
    result, model = with_enough_memory(work, start, events)
    assert result == "done"
    assert tried == [
        ("cuda", 4, False, 128),
        ("cuda", 1, False, 128),
        ("cuda", 1, True, 128),
        ("cuda", 1, True, 64),
        ("cuda", 1, True, 32),
        ("cpu", 1, False, 128),
    ]
    assert model.precision == "auto"
    assert events.warnings == " | ".join(
        f"memory ran out; going on with {how}"
        for how in (
            "one window at a time",
            "activations computed anew for the gradients",
            "windows of (64, 64, 64) voxels",
            "windows of (32, 32, 32) voxels",
            "the processor instead of the GPU",
        )
    )


@pytest.mark.parametrize(
    ("free", "at_once", "is_checkpointed"),
    [(80_000_000, 4, False), (25_000_000, 2, False), (10_000_000, 1, True)],
)
def test_a_model_is_fitted_to_a_gpus_memory(
    small_model: BaseModel,
    monkeypatch: pytest.MonkeyPatch,
    free: int,
    at_once: int,
    is_checkpointed: bool,
) -> None:
    counted = {"voxels": 48**3, "single": 9_000_000, "half": 9_000_000}
    row = {
        "weights": 10**6, "channels": sum(small_model.widths), "stride": 16, "trained": 10**6,
        "window": counted, "step": {**counted, "voxels": 64**3},
    }  # fmt: skip
    monkeypatch.setattr(forecast, "_table", lambda: {small_model.entry.name: row})
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 10**9))
    with_capability(monkeypatch, (8, 0))
    image = phantom.image_of(phantom.body()[0])
    scan = prepare_scan(Path("ct.nrrd"), image, 3.0)
    events = Events()
    model = prepare(on_gpu(small_model), [scan], Setting("adapt"), events)
    assert (model.windows_at_once, model.is_checkpointed) == (at_once, is_checkpointed)
    (told,) = events.named("memory")
    assert (told["device"], told["free"]) == ("cuda", free)
    # weights, four values for each trained one, and a window or step
    needed = 10**6 + 4 * 10**6 + 9_000_000
    assert bool(events.warnings) == (needed > free)


@pytest.mark.usefixtures("quick_fits")
def test_an_adaptation_goes_on_where_memory_ends_while_it_trains(
    tmp_path: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = phantom.write_case(tmp_path / "case", (12, 20, 28, 36))
    monkeypatch.setattr(BaseModel, "on_cpu", lambda model: replace(model, precision="auto"))
    failures = iter([True])
    plain = Refiner.train

    def train(refiner: Refiner, *arguments: Any) -> None:
        if next(failures, False):
            raise torch.OutOfMemoryError(RAN_OUT)
        plain(refiner, *arguments)

    monkeypatch.setattr(Refiner, "train", train)
    monkeypatch.setattr(memory, "_with_less", lambda model: (model.on_cpu(), "the processor"))
    job = AdaptJob((image,), (labels,), tmp_path / "out", model=str(small_weights), steps=2)
    events = Events()
    result = adapt(job, events)
    assert "memory ran out; going on with the processor" in events.warnings
    assert result.is_adapted
    found = predict(PredictJob(result.adapter, image, tmp_path / "a.nrrd", str(small_weights)))
    assert found.segmentation.is_file()
