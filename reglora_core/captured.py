"""The forward of a window as one CUDA graph, where that proves equal and faster on the spot.

Kernels are launched one by one, and where they are short the GPU waits for the next. A captured
forward is launched at once: the same kernels on the same memory (PyTorch, "CUDA semantics", CUDA
graphs). Where kernels are long it gains nothing, so it is tried with the network, the windows and
the GPU at hand. A graph knows the weights by their addresses and must be gone before they change:
nobody keeps it beyond the windows of one scan.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch  # noqa: TID253

from reglora_core.events import Report

Forward = Callable[[torch.Tensor], list[torch.Tensor]]

FEWEST = 24  # passes that pay for a trial, which costs about eight, if each is a third faster
TIMED = 2  # passes of each that are timed
TOLERANCE = 0.02  # of a map's largest value; 16 bits are off by as much (docs/benchmarks.md)
ROOM = 3  # times a pass's memory, to be free: the graph's own, a plain pass's, and the heads'


class Graphs(Protocol):
    """What captures a forward, and measures."""

    def capture(self, forward: Forward, batch: torch.Tensor) -> Forward:
        """Return the forward for batches of that shape, captured; its maps are the caller's."""

    def seconds(self, work: Callable[[], object]) -> float:
        """Return how long a piece of work takes on the GPU."""

    def taken_bytes(self, work: Callable[[], object]) -> int:
        """Return what a piece of work adds to the memory at its largest moment."""

    def free_bytes(self) -> int:
        """Return the memory that can still be had."""


def fastest_forward(
    forward: Forward, batch: torch.Tensor, graphs: Graphs, report: Report
) -> Forward:
    """Return the forward, captured where it gives the same maps in less time.

    Args:
        forward: of batches (windows, D, H, W), without gradients.
        batch: of real windows; one of another shape takes the plain forward.
        graphs: of the GPU that the batch is on.
        report: receives the event `inference`, and a `warning` where a capture fails.
    """
    captured: Forward | None = None
    try:
        captured, told = _trial(forward, batch, graphs)
    except Exception as error:  # of whatever kind: the plain forward is still there
        why = str(error).partition("\n")[0]
        message = f"the network could not be captured as a CUDA graph ({why}); going on without"
        report("warning", message=message)
        told = {"why": "failed"}
    report("inference", is_captured=captured is not None, **told)
    if captured is None:
        return forward
    chosen = captured
    return lambda other: chosen(other) if other.shape == batch.shape else forward(other)


@torch.no_grad()
def _trial(
    forward: Forward, batch: torch.Tensor, graphs: Graphs
) -> tuple[Forward | None, dict[str, float | str]]:
    """Return the captured forward, or None; why, and the seconds of both.

    Raises:
        RuntimeError: its maps are others. They are compared for the batch turned round, which a
            graph that does not read its input would get wrong.
    """
    if ROOM * graphs.taken_bytes(lambda: forward(batch)) > graphs.free_bytes():
        return None, {"why": "too little memory"}
    plain_seconds = graphs.seconds(lambda: forward(batch))
    captured = graphs.capture(forward, batch)
    turned = batch.flip(-1)
    for own, level in zip(captured(turned), forward(turned), strict=True):
        off, most = (own - level).abs().max(), level.abs().max()
        if not bool(off <= TOLERANCE * most):
            message = f"its maps differ by {float(off):.2g} of {float(most):.2g}"
            raise RuntimeError(message)
    captured_seconds = graphs.seconds(lambda: captured(batch))
    told = {"plain_seconds": plain_seconds, "captured_seconds": captured_seconds}
    if captured_seconds >= plain_seconds:
        return None, {"why": "not faster", **told}
    return captured, {"why": "faster", **told}


class CudaGraphs:
    """Graphs of an NVIDIA GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def capture(self, forward: Forward, batch: torch.Tensor) -> Forward:
        given = batch.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self.device):
            usual = torch.cuda.current_stream()
            aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            aside.wait_stream(usual)
            with torch.cuda.stream(aside):
                forward(given)  # libraries choose kernels and scratch before the capture
            usual.wait_stream(aside)
            with torch.cuda.graph(graph):
                maps = forward(given)

        def replay(windows: torch.Tensor) -> list[torch.Tensor]:
            given.copy_(windows)
            graph.replay()
            return [level.clone() for level in maps]  # the next replay writes over them

        return replay

    def seconds(self, work: Callable[[], object]) -> float:
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        with torch.cuda.device(self.device):
            torch.cuda.synchronize()
            start.record()
            for _ in range(TIMED):
                work()
            end.record()
            end.synchronize()
        return float(start.elapsed_time(end)) / 1000 / TIMED  # milliseconds

    def taken_bytes(self, work: Callable[[], object]) -> int:
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        return torch.cuda.max_memory_allocated(self.device) - before

    def free_bytes(self) -> int:
        kept = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return torch.cuda.mem_get_info(self.device)[0] + kept
