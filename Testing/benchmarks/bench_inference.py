"""Ways to put a window through a network on a CPU, in turn: seconds, ratios, what they are off by.

    python Testing/benchmarks/bench_inference.py [NAME ...] [--ways WAY ...] [--pass PASS]

Networks of random weights (the embedded one of its own), the precision that `auto` takes:

    first      channels-first (not the embedded network, whose input is always channels-last)
    last       channels-last, weights and input
    frozen     torch.jit.trace, freeze and optimize_for_inference of what the library runs
    compiled   torch.compile of it; needs a C++ compiler

Passes: `forward` of a window; `window`, the same with the heads; `step`, forward and backward of a
crop with the low-rank update. Neighbours are in turn A B C C B A; the ratios are medians over turns
of a way's seconds over the first way's, below 1 is faster, on the clock and of processor time (that
one hardly suffers from what else the computer does). What a way is off by is the largest difference
of any map from the first way's in float32, over the map's largest value; `ready` are the seconds
until two passes are done, tracing and compiling included, less those of two passes.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple
from unittest.mock import patch

from reglora_core.process import tune_process

tune_process()  # as the command line does; before torch is loaded

import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from bench_memory import Passes
from reglora_core.device import choose_precision
from reglora_core.models.base import BaseModel, in_precision
from reglora_core.models.loading import load_model

CPU = torch.device("cpu")
Maps = list[torch.Tensor]
Work = Callable[[], Maps | None]


class Case(NamedTuple):
    """A network of the registry, its size (features or filters), and the edge of a window."""

    name: str
    size: int
    edge: int


CASES = {
    "reglora-tiny": Case("reglora-tiny", 2, 96),
    "suprem-segresnet": Case("suprem-segresnet", 16, 96),
    "monai-wholebody": Case("monai-wholebody", 32, 64),
    "suprem-unet": Case("suprem-unet", 32, 64),
    "swinunetr-12": Case("swinunetr", 12, 64),
    "swinunetr-48": Case("swinunetr", 48, 64),
}
WAYS = ("first", "last", "frozen", "compiled")
TINY = "reglora-tiny"
PASSES = ("forward", "window", "step")


class Network(nn.Module):
    """A base network as a module from HU values to feature maps, as tracing wants it."""

    def __init__(self, model: BaseModel) -> None:
        super().__init__()
        self.model, self.network = model, model.network

    def forward(self, hounsfield: torch.Tensor) -> Maps:
        return self.model.feature_maps(hounsfield)


def passes_of(case: Case, way: str, precision: str) -> Passes:
    """Return a network, in the layout of the way, with heads."""
    torch.manual_seed(0)
    passes = Passes(case.name, case.size)
    if case.name == TINY:
        passes.model = load_model(case.name, CPU)
    elif way == "last":
        passes.model.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    passes.model = in_precision(passes.model, precision)
    passes.is_half = passes.model.precision == "bfloat16"
    return passes


def layout_of(way: str) -> AbstractContextManager[Any]:
    """Return a context without channels-last inputs, where the way is to have none."""
    keep = patch("reglora_core.models.segresnet.channels_last", lambda inputs: inputs)
    return keep if way == "first" else nullcontext()


def forward_of(model: BaseModel, way: str, window: torch.Tensor) -> Callable[[], Maps]:
    """Return what puts the window through the network."""
    network: Callable[[torch.Tensor], Maps] = Network(model).eval()
    if way == "frozen":
        torch.set_autocast_cache_enabled(False)  # a remembered cast would be no constant
        traced = torch.jit.trace(network, window, check_trace=False, strict=False)
        torch.set_autocast_cache_enabled(True)
        network = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
    if way == "compiled":
        network = torch.compile(network)
    return lambda: network(window)


def work_of(passes: Passes, way: str, what: str, window: torch.Tensor) -> Work:
    """Return a pass, to be done again and again."""
    if what == "step":
        passes.begin()

    def work() -> None:
        passes.run(what, tuple(window.shape[1:]))

    inner = forward_of(passes.model, way, window) if what == "forward" else work

    def in_layout() -> Maps | None:
        with layout_of(way):
            return inner()

    return in_layout


class Row(NamedTuple):
    """What the docstring above names, of one way."""

    way: str
    seconds: float
    ratio: float
    cpu_ratio: float
    off: float | None
    ready: float


class Seconds(NamedTuple):
    clock: float
    processor: float


def timed(work: Work) -> Seconds:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - clock, time.process_time() - processor)


def measure(
    case: Case, ways: Sequence[str], what: str, repeats: int, precision: str = "auto"
) -> list[Row]:
    """Return a row for each way; the first of the ways is what the others are compared with."""
    window = torch.randn(1, *[case.edge] * 3, generator=torch.Generator().manual_seed(0)) * 300
    works: dict[str, Work] = {}
    ready: dict[str, float] = {}
    off: dict[str, float | None] = {}
    with torch.set_grad_enabled(what == "step"):
        exact = passes_of(case, ways[0], "float32").model.feature_maps(window)
        for way in ways:
            start = time.perf_counter()
            works[way] = work_of(passes_of(case, way, precision), way, what, window)
            maps = works[way]()
            works[way]()  # what is traced is optimised in its second pass, too
            ready[way] = time.perf_counter() - start
            off[way] = None if maps is None else largest_difference(maps, exact)
        times = times_of(works, repeats)

    def ratio(way: str, field: int) -> float:
        pairs = zip(times[way], times[ways[0]], strict=True)
        return statistics.median(own[field] / first[field] for own, first in pairs)

    medians = {way: statistics.median(s.clock for s in times[way]) for way in ways}
    return [
        Row(
            way, medians[way], ratio(way, 0), ratio(way, 1), off[way], ready[way] - 2 * medians[way]
        )
        for way in ways
    ]


def times_of(works: dict[str, Work], repeats: int) -> dict[str, list[Seconds]]:
    times: dict[str, list[Seconds]] = {way: [] for way in works}
    for repeat in range(repeats):
        for way in list(works)[:: -1 if repeat % 2 else 1]:
            times[way].append(timed(works[way]))
    return times


def largest_difference(maps: Maps, exact: Maps) -> float:
    pairs = zip(maps, exact, strict=True)
    return max(float((a.float() - b).abs().max() / b.abs().max()) for a, b in pairs)


def line(label: str, row: Row) -> str:
    off = "" if row.off is None else f"{row.off:.1e}"
    numbers = (f"{row.seconds:.3f}", f"{row.ratio:.3f}", f"{row.cpu_ratio:.3f}")
    cells = (row.way, *numbers, off, f"{row.ready:.1f}")
    return f"{label:24}" + "".join(f"{cell:>13}" for cell in cells) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", default=list(CASES), metavar="NAME")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:3])
    parser.add_argument("--pass", choices=PASSES, default="forward", dest="what")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--edge", type=int, help="of a window (default: 96 or 64)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in CASES:
            parser.error(f"network {name!r} is not known; choose from {', '.join(CASES)}")
    if arguments.what != "forward" and not {"first", "last"}.issuperset(arguments.ways):
        parser.error(f"--pass {arguments.what} has the ways first and last alone")
    torch.set_num_threads(arguments.threads)
    precision, threads = choose_precision(arguments.precision, CPU), arguments.threads
    sys.stdout.write(f"{arguments.what}, {precision}, {threads} threads, {torch.__version__}\n")
    heading = ("way", "seconds", "ratio", "ratio (CPU)", "off by", "ready")
    sys.stdout.write(f"{'':24}" + "".join(f"{cell:>13}" for cell in heading) + "\n")
    for name in arguments.names:
        case = CASES[name]._replace(edge=arguments.edge or CASES[name].edge)
        ways = [way for way in arguments.ways if (name, way) != (TINY, "first")]
        for row in measure(case, ways, arguments.what, arguments.repeats, precision):
            sys.stdout.write(line(f"{name}, {case.edge}^3", row))
            sys.stdout.flush()


if __name__ == "__main__":
    main()
