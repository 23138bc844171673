"""When a forward is captured, and what a GPU's graph is told to do.

There is no GPU where these run: what captures and measures is replaced, never what is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch  # noqa: TID253
from quick import Events
from torch import nn  # noqa: TID253

from reglora_core import captured as module
from reglora_core import features
from reglora_core.captured import FEWEST, ROOM, CudaGraphs, Forward, fastest_forward
from reglora_core.features import each_window, remembering
from reglora_core.models import registry
from reglora_core.models.base import BaseModel


def doubled(windows: torch.Tensor) -> list[torch.Tensor]:
    return [2 * windows[:, None]]


def a_batch(count: int = 2) -> torch.Tensor:
    return torch.arange(count * 64.0).reshape(count, 4, 4, 4)


class StandIn:
    """Captures by marking; the forward given stands for what a GPU would replay."""

    def __init__(self, replayed: Forward | None = None, captured_seconds: float = 0.5) -> None:
        self.replayed = replayed
        self.captured_seconds = captured_seconds
        self.free = 10 * ROOM
        self.captures = self.replays = 0

    def capture(self, forward: Forward, batch: torch.Tensor) -> Forward:
        del batch
        self.captures += 1

        def replay(windows: torch.Tensor) -> list[torch.Tensor]:
            self.replays += 1
            return (self.replayed or forward)(windows)

        return replay

    def seconds(self, work: Callable[[], object]) -> float:
        before = self.replays
        work()
        return self.captured_seconds if self.replays > before else 1.0

    def taken_bytes(self, work: Callable[[], object]) -> int:
        work()
        return 10

    def free_bytes(self) -> int:
        return self.free


def tried(graphs: StandIn, events: Events) -> bool:
    """Try to capture; tell whether what came back replays, and check its maps."""
    forward = fastest_forward(doubled, a_batch(), graphs, events)
    before = graphs.replays
    assert torch.equal(forward(a_batch() + 1)[0], doubled(a_batch() + 1)[0])
    return graphs.replays > before


def test_an_equal_and_faster_graph_is_used() -> None:
    graphs, events = StandIn(), Events()
    assert tried(graphs, events)
    assert events.named("inference") == [
        {
            "event": "inference",
            "is_captured": True,
            "why": "faster",
            "plain_seconds": 1.0,
            "captured_seconds": 0.5,
        }
    ]
    assert events.warnings == ""


def test_a_slower_graph_is_not_used() -> None:
    graphs, events = StandIn(captured_seconds=1.0), Events()
    assert not tried(graphs, events)
    (told,) = events.named("inference")
    assert (told["is_captured"], told["why"]) == (False, "not faster")
    assert events.warnings == ""


@pytest.mark.parametrize(
    "replayed",
    [
        lambda windows: [2.2 * windows[:, None]],
        lambda windows: [torch.full_like(windows[:, None], torch.nan)],
        lambda _: doubled(a_batch()),  # what was captured, whatever it is given
    ],
    ids=["other maps", "no numbers", "does not read its input"],
)
def test_a_graph_that_gives_other_maps_is_not_used(replayed: Forward) -> None:
    graphs, events = StandIn(replayed), Events()
    assert not tried(graphs, events)
    assert "could not be captured as a CUDA graph (its maps differ by" in events.warnings
    (told,) = events.named("inference")
    assert (told["is_captured"], told["why"]) == (False, "failed")


def test_a_capture_that_fails_leaves_the_plain_forward() -> None:
    class Fails(StandIn):
        def capture(self, forward: Forward, batch: torch.Tensor) -> Forward:
            message = "operation not permitted when stream is capturing\nCompile with ..."
            raise RuntimeError(message)

    graphs, events = Fails(), Events()
    assert not tried(graphs, events)
    assert events.warnings == (
        "the network could not be captured as a CUDA graph (operation not permitted when stream "
        "is capturing); going on without"
    )


def test_nothing_is_captured_where_memory_holds_no_second_and_third_pass() -> None:
    graphs, events = StandIn(), Events()
    graphs.free = 10 * ROOM - 1
    assert not tried(graphs, events)
    assert graphs.captures == 0
    assert [told["why"] for told in events.named("inference")] == ["too little memory"]


def test_a_batch_of_another_shape_takes_the_plain_forward() -> None:
    graphs = StandIn()
    forward = fastest_forward(doubled, a_batch(2), graphs, Events())
    before = graphs.replays
    assert torch.equal(forward(a_batch(1))[0], doubled(a_batch(1))[0])
    assert graphs.replays == before


class Doubles:
    """A family whose one map is twice what it is given."""

    def stride(self, network: nn.Module) -> int:
        return 4

    def widths(self, network: nn.Module) -> tuple[int, ...]:
        return (1,)

    def feature_maps(self, network: nn.Module, hounsfield: torch.Tensor) -> list[torch.Tensor]:
        return doubled(hounsfield)


class OnGpu(BaseModel):
    """A model that says that it is on a GPU."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda")


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(features, "CudaGraphs", lambda _: stand_in)
    monkeypatch.setattr(
        features, "_batch", lambda _, together: torch.stack([w.hounsfield for w in together])
    )
    return stand_in


def on_gpu(**fields: Any) -> OnGpu:
    entry = registry.model_entry("reglora-tiny")
    given = {"patch": (8, 8, 8), "precision": "float32", "windows_at_once": 2, **fields}
    return OnGpu(entry, nn.Linear(1, 1), Doubles(), "", **given)


def a_column(count: int) -> torch.Tensor:
    """Return a volume of as many windows of 8 voxels, one above the other."""
    return torch.arange((8 + 6 * (count - 1)) * 64.0).reshape(-1, 8, 8)


def test_windows_go_through_a_graph_where_there_are_many(graphs: StandIn) -> None:
    volume = a_column(2 * FEWEST + 1)
    parts = list(each_window(on_gpu(), volume))
    assert (graphs.captures, len(parts)) == (1, 2 * FEWEST + 1)
    assert graphs.replays == 2 + FEWEST  # the trial's, then all but the last window alone
    for box, maps in parts:
        assert maps is not None
        assert torch.equal(maps[0][0, 0], 2 * volume[box])


@pytest.mark.parametrize(
    ("windows", "fields"),
    [(2 * FEWEST - 1, {}), (2 * FEWEST, {"slice_axis": 0})],
    ids=["few windows", "a network of slices"],
)
def test_nothing_is_captured_where_it_cannot_pay(
    graphs: StandIn, windows: int, fields: dict[str, Any]
) -> None:
    events = Events()
    parts = list(each_window(on_gpu(**fields), a_column(windows), events))
    assert len(parts) == windows
    assert graphs.captures == 0
    assert not events.named("inference")


def test_a_model_that_remembers_is_not_captured(graphs: StandIn) -> None:
    list(each_window(remembering(on_gpu()), a_column(2 * FEWEST)))
    assert graphs.captures == 0


class ReplaysDoubled:
    """Stands for the GPU: computes `seen` anew into the maps that were captured."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, windows: torch.Tensor) -> list[torch.Tensor]:
        self.calls.append(self.where)
        self.seen, self.maps = windows, doubled(windows)
        return self.maps

    where = "usual"

    @contextmanager
    def within(self, where: str) -> Iterator[None]:
        self.where = where
        yield
        self.where = "usual"

    def replay(self) -> None:
        self.maps[0].copy_(doubled(self.seen)[0])


def test_a_cuda_graph_is_warmed_up_reads_its_input_and_gives_its_maps_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = ReplaysDoubled()
    stream = SimpleNamespace(wait_stream=lambda _: None)
    for name, value in {
        "CUDAGraph": lambda: forward,
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "device": lambda _: nullcontext(),
        "stream": lambda _: forward.within("aside"),
        "graph": lambda _: forward.within("captured"),
    }.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(module.torch.cuda, name, value)
    replay = CudaGraphs(torch.device("cuda")).capture(forward, a_batch())
    assert forward.calls == ["aside", "captured"]
    first = replay(a_batch() + 1)
    second = replay(a_batch() + 2)
    assert torch.equal(first[0], doubled(a_batch() + 1)[0])
    assert torch.equal(second[0], doubled(a_batch() + 2)[0])


def test_memory_and_time_of_a_pass_are_those_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    at = iter([100, 350])  # allocated before the work, at its largest moment
    ran: list[int] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.done = len(ran)

        def synchronize(self) -> None:
            pass

        def elapsed_time(self, end: Event) -> float:
            return 40.0 * (end.done - self.done)

    for name, value in {
        "Event": Event,
        "device": lambda _: nullcontext(),
        "synchronize": lambda: None,
        "reset_peak_memory_stats": lambda _: None,
        "memory_allocated": lambda _: next(at),
        "max_memory_allocated": lambda _: next(at),
    }.items():
        assert hasattr(torch.cuda, name)
        monkeypatch.setattr(module.torch.cuda, name, value)
    graphs = CudaGraphs(torch.device("cuda"))
    assert graphs.taken_bytes(lambda: ran.append(1)) == 250
    assert graphs.seconds(lambda: ran.append(1)) == pytest.approx(0.04)  # of one pass
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 120)
    assert graphs.free_bytes() == 1180
