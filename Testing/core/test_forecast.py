"""Memory foretold: the counting, the sum of its parts, and who is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import phantom
import published_weights
import pytest
import torch  # noqa: TID253
from quick import Events

import bench_memory
from reglora_core import device, fit, memory, prediction
from reglora_core import forecast as module
from reglora_core.adaptation import adapt
from reglora_core.cli import main
from reglora_core.errors import Cancelled
from reglora_core.forecast import ScanSize, Setting, counted_channels, example, forecast
from reglora_core.job import AdaptJob, PredictJob
from reglora_core.memory import prepare
from reglora_core.models import registry
from reglora_core.models.base import BaseModel
from reglora_core.models.loading import load_model
from reglora_core.scan import Scan, prepare_scan

TINY = registry.model_entry("reglora-tiny")
ROW = {
    "weights": 1000, "channels": 7, "stride": 10, "trained": 50,
    "window": {"voxels": 100**3, "single": 8_000_000, "half": 4_000_000},
    "step": {"voxels": 64**3, "single": 9_000_000, "half": 6_000_000},
}  # fmt: skip


@pytest.fixture
def a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table that figures can be worked out from by hand."""
    monkeypatch.setattr(module, "_table", lambda: {"reglora-tiny": ROW})
    monkeypatch.setattr(module, "PROCESS", 10**6)


@pytest.fixture(scope="module")
def a_scan(tmp_path_factory: pytest.TempPathFactory) -> Scan:
    path = phantom.write(
        tmp_path_factory.mktemp("ct") / "ct.nrrd", phantom.image_of(phantom.body()[0])
    )
    return prepare_scan(path, phantom.image_of(phantom.body()[0]), 3.0)


def test_the_largest_sum_of_live_tensors_is_counted() -> None:
    with bench_memory.LiveBytes() as live:
        first = torch.zeros(1000)  # 4000 bytes
        second = first + 1  # 4000 more
        del first
        view = second[:10]  # none of its own
        third = torch.cat([second, second])  # 8000 more
        del second, third
    assert live.peak == 16_000 - 4000
    assert live.now == 4000
    assert len(view) == 10


def test_fake_tensors_count_as_real_ones() -> None:
    passes = bench_memory.Passes("reglora-tiny", 2)
    with bench_memory.LiveBytes() as live:
        passes.run("window", (32, 32, 32))
    assert bench_memory.peak(passes, "window", (32, 32, 32), "single") == live.peak


def test_a_slice_is_counted_as_it_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("segment_anything")
    _, network, _ = published_weights.checkpoint("MedSAM")
    monkeypatch.setitem(bench_memory.BUILD, "sam", lambda _: network)
    passes = bench_memory.Passes("medsam-vit-b", 768)
    passes.begin()
    counted = bench_memory.peak(passes, "step", (1, 32, 32), "single")
    with bench_memory.LiveBytes() as live:
        passes.run("step", (1, 32, 32))
    assert counted == pytest.approx(live.peak, rel=0.02)  # gradients of fake tensors differ a bit


@pytest.mark.usefixtures("a_table")
def test_a_forecast_is_the_sum_of_its_parts() -> None:
    size = ScanSize(native_voxels=3000, working_shape=(100, 50, 200))
    found = forecast(TINY, size, Setting("predict", organs=4))
    assert found is not None
    # a window of 100 x 50 x 128 voxels: 64 hundredths of the counted one, and a quarter more
    assert found.activations == found.window == 6_400_000
    assert found.weights == 1000
    assert found.optimizer == 0
    # the scores of five labels twice, when labels are made of them; more than once and a window
    assert found.needed == 10**6 + 1000 + 2 * 3000 + 2 * 5 * 4 * 10**6
    parts = ("process", "weights", "optimizer", "scan", "activations")
    assert sum(found.to_dict()[part] for part in parts) == found.needed
    known = forecast(TINY, size, Setting("predict", organs=4, has_classes=True))
    assert known is not None
    assert known.needed - found.needed == 5 * 4 * 10**6


@pytest.mark.usefixtures("a_table")
def test_what_is_trained_takes_four_values_each() -> None:
    size = ScanSize(native_voxels=0, working_shape=(50, 50, 50))
    found = forecast(TINY, size, Setting("adapt"))
    assert found is not None
    assert found.optimizer == 4 * 50
    whole = forecast(TINY, size, Setting("adapt", trains_all=True))
    assert whole is not None
    assert whole.optimizer == 4 * (50 + 1000)


SAMPLES = 1.5 * 7 * 48_000 * 4  # of one scan, what stays of them


@pytest.mark.usefixtures("a_table")
@pytest.mark.parametrize(
    ("organs", "size", "scans"),
    [
        # a step of 9 MB, twice, and seven copies of the scores
        (1, ScanSize(0, (50, 50, 50)), 7 * 2 * 4 * 50**3 + SAMPLES + 18_000_000),
        # fusion: nine copies, and 32 bytes per voxel for the islands
        (20, ScanSize(0, (50, 50, 50)), 9 * 21 * 4 * 50**3 + 32 * 50**3 + SAMPLES),
        # the same of two scans, islands of the larger one
        (
            20,
            ScanSize(1000, (50, 50, 50), working_voxels=50**3 + 40**3, images=2),
            4 * 1000 + 9 * 21 * 4 * (50**3 + 40**3) + 32 * 50**3 + 2 * SAMPLES,
        ),
        # heads: three copies of what was drawn from twenty scans
        (
            1,
            ScanSize(0, (50, 50, 50), working_voxels=50**3, images=20),
            4 * 2 * 4 * 50**3 + 2 * 20 * SAMPLES,
        ),
        # a network that is small beside the image: the one scan is read, or written
        (1, ScanSize(10**9, (10, 10, 10)), 12.5 * 10**9),
        (1, ScanSize(10**9, (10, 10, 10), images=10), 12 * 10**9 + 7 * 2 * 4 * 1000 + 10 * SAMPLES),
    ],
)
def test_the_largest_moment_of_an_adaptation_counts(
    organs: int, size: ScanSize, scans: float
) -> None:
    found = forecast(TINY, size, Setting("adapt", organs=organs))
    assert found is not None
    assert found.scan + found.activations == round(scans)


@pytest.mark.usefixtures("quick_fits")
def test_as_many_copies_of_the_scores_are_alive_as_is_foretold(
    tmp_path: Path, small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, labels = phantom.write_case(tmp_path / "case", (12, 20, 28, 36))
    alive: dict[str, list[tuple[int, int]]] = {"head_scores": [], "fuse": []}
    with bench_memory.LiveBytes() as live:

        def counting(name: str, plain: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
            def work(*given: Any) -> torch.Tensor:
                before = live.sizes()
                found = plain(*given)
                first, last = (
                    sum(found.nbytes <= size < 1.5 * found.nbytes for size in sizes)
                    for sizes in (before, live.sizes())
                )
                alive[name].append((first, last))
                return found

            return work

        for name in alive:
            monkeypatch.setattr(fit, name, counting(name, getattr(fit, name)))
        adapt(AdaptJob((image,), (labels,), tmp_path / "out", model=str(small_weights), steps=2))
    expected = module.ALIVE["adapt"]
    assert max(alive["head_scores"]) == (expected.step, expected.window)
    assert max(alive["fuse"])[1] == expected.fusion
    assert alive["head_scores"][1] == (expected.heads + 2, expected.heads + 3)  # of the trial


@pytest.mark.usefixtures("a_table")
def test_beside_a_gpu_the_largest_moment_of_the_scan_counts() -> None:
    size = ScanSize(0, (50, 50, 50))
    found = forecast(TINY, size, Setting("adapt", organs=1, is_gpu=True))
    assert found is not None
    assert found.on_device == 1000 + 4 * 50 + 9_000_000  # a GPU keeps a share of its memory free
    assert found.scan == 9 * 2 * 4 * 50**3 + 32 * 50**3 + SAMPLES


@pytest.mark.usefixtures("a_table")
def test_a_processor_trains_on_few_coarse_voxels_in_32_bits() -> None:
    size = ScanSize(native_voxels=0, working_shape=(50, 50, 50))
    steps = []
    for edge, is_gpu in ((40, False), (32, True), (32, False)):  # strides of 10: 4, 3.2, 3.2
        setting = Setting("adapt", is_half=True, is_gpu=is_gpu, patch=(edge,) * 3)
        found = forecast(TINY, size, setting)
        assert found is not None
        steps.append(found.step)
    assert steps == [round(12_000_000 * (40 / 64) ** 3), 6_000_000 // 8, 18_000_000 // 8]
    assert module.COARSE == device.MIN_COARSE_VOXELS


def test_a_network_of_slices_takes_the_same_for_each_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = {"voxels": 256**2, "single": 8_000_000, "half": 4_000_000}
    row = ROW | {"stride": 256, "window": sizes, "step": sizes | {"single": 9_600_000}}
    monkeypatch.setattr(module, "_table", lambda: {"sam-vit-b": row})
    entry = registry.model_entry("sam-vit-b")
    for shape in ((1, 200, 200), (90, 300, 600)):
        found = forecast(entry, ScanSize(0, shape), Setting("adapt", is_half=True))
        assert found is not None
        assert (found.window, found.step) == (5_000_000, 19_200_000)
    across = ScanSize(0, (300, 90, 300))
    turned = forecast(entry, across, Setting("predict", patch=(256, 1, 256)))
    assert turned is not None
    assert (turned.window, turned.step) == (10_000_000, 0)
    # while they are smoothed: the scores, their logarithms, these with ends, and the mean
    assert turned.scan + turned.window == 4 * 11 * 4 * 300 * 90 * 300


def test_the_counted_weights_are_as_many_as_the_registry_says() -> None:
    table = module._table()
    assert set(table) <= set(registry.model_names())
    for name, row in table.items():
        millions = float(registry.model_entry(name).parameters.removesuffix(" M"))
        assert row["weights"] / 4e6 == pytest.approx(millions, rel=0.02)
        assert row["window"]["half"] < row["window"]["single"]


def test_a_network_that_was_not_counted_has_no_forecast() -> None:
    unknown = replace(TINY, name="gone")
    assert forecast(unknown, ScanSize(1, (1, 1, 1)), Setting()) is None
    assert counted_channels(unknown) is None
    assert example(unknown) == {}


def test_a_run_is_told_what_it_will_take(a_scan: Scan) -> None:
    model = load_model("reglora-tiny", torch.device("cpu"))
    events = Events()
    prepare(model, [a_scan], Setting("adapt"), events)
    (told,) = events.named("memory")
    parts = ("process", "weights", "optimizer", "scan", "activations")
    assert told["needed"] == sum(told[part] for part in parts)  # type: ignore[misc]
    assert not events.warnings


class StopsAtMemory(Events):
    """Ends a run as soon as it has told of the memory."""

    def __call__(self, event: str, /, **fields: object) -> None:
        super().__call__(event, **fields)
        if event == "memory":
            raise Cancelled


def test_both_commands_say_it_before_they_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voxels, truth = phantom.body()
    image = phantom.write(tmp_path / "ct.nrrd", phantom.image_of(voxels))
    labels = phantom.on_slices(truth, [12, 24, 36])
    painted = phantom.write(tmp_path / "painted.nrrd", phantom.image_of(labels))
    adapting, predicting = StopsAtMemory(), StopsAtMemory()
    with pytest.raises(Cancelled):
        adapt(AdaptJob((image,), (painted,), tmp_path / "out", device="cpu"), adapting)
    adapter = SimpleNamespace(
        base="reglora-tiny",
        organs=("liver", "spleen"),
        slice_axis="",
        known_classes={},
        check_base=lambda _: None,
    )
    monkeypatch.setattr(prediction, "load_adapter", lambda _: adapter)
    job = PredictJob(tmp_path / "a", image, tmp_path / "found.nrrd", device="cpu")
    with pytest.raises(Cancelled):
        prediction.predict(job, predicting)
    assert [event["event"] for event in adapting.seen] == ["progress", "memory"]
    assert [event["event"] for event in predicting.seen] == ["progress", "memory"]
    needs = [events.named("memory")[0] for events in (adapting, predicting)]
    assert needs[0]["optimizer"] > needs[1]["optimizer"] == 0  # type: ignore[operator]


def test_too_little_memory_is_warned_of(a_scan: Scan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 10**7)
    events = Events()
    prepare(load_model("reglora-tiny", torch.device("cpu")), [a_scan], Setting("adapt"), events)
    assert "0.0 GB are free; close other programs" in events.warnings


def test_nothing_is_said_of_a_file_of_another_size(small_model: BaseModel, a_scan: Scan) -> None:
    events = Events()
    prepare(small_model, [a_scan], Setting("adapt"), events)
    assert not events.seen


def test_models_show_has_the_memory(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "show", "reglora-tiny"]) == 0
    (line,) = [own for own in capfd.readouterr().out.splitlines() if own.startswith("memory")]
    assert "GB to adapt" in line
    assert "ten organs" in line
    assert main(["models", "show", "reglora-tiny", "--json"]) == 0
    needed = json.loads(capfd.readouterr().out)["memory"]
    assert needed["adapt"]["32"] > needed["adapt"]["16"] > needed["predict"]["16"]
