"""Step time and peak memory of our low-rank update beside HuggingFace PEFT's LoRA.

    python Testing/benchmarks/bench_lora.py [--network dynunet swinunetr] [--json FILE]

The same network, weights, layers, rank (inner width), input and optimizer for both. Time: one
training step (forward, mean square, backward, AdamW; for arena the l1 step too), all in one
process, alternating A B B A; the median of each and the median of the ratios of neighbours, on the
clock and in processor time (that one hardly suffers from what else the computer does). A ratio
below 1 is in our favour. Memory: what the peak resident set grows by over two steps, each
in a process of its own. Inference: the network with merged adapters beside the base network.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from reglora_core.process import tune_process

tune_process()  # as the command line does; before torch is loaded

import torchvision_operators

OPERATORS = torchvision_operators.OPERATORS  # PEFT needs them; before MONAI is loaded

import torch  # noqa: TID253
from monai.networks.nets import DynUNet, SwinUNETR  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from reglora_core.lora import LowRankConfig, adapter_parameters, add_adapters, merge_adapters
from reglora_core.proximal import ProximalOptimizer, build_optimizer

RANK = 8
METHODS = ("peft", "lora", "arena")


class Seconds(NamedTuple):
    clock: float
    processor: float


@dataclass(frozen=True)
class Case:
    network: Callable[[], nn.Module]
    is_target: Callable[[str, nn.Module], bool]
    inner_width: int
    input_shape: tuple[int, ...]


def swin(size: int, crop: int) -> Case:
    return Case(
        lambda: SwinUNETR(in_channels=1, out_channels=2, feature_size=size),
        lambda name, _: name.endswith("attn.qkv"),
        3 * RANK,
        (1, 1, crop, crop, crop),
    )


def dynunet() -> nn.Module:
    return DynUNet(
        spatial_dims=3,
        in_channels=2,
        out_channels=2,
        kernel_size=[3] * 5,
        strides=[1, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 4,
        filters=(16, 32, 64, 128, 160),
        norm_name="BATCH",
        res_block=True,
    )


def is_wide_convolution(_: str, layer: nn.Module) -> bool:
    """A Conv3d whose rank is not clipped: PEFT does not clip."""
    return isinstance(layer, nn.Conv3d) and min(layer.out_channels, layer.weight[0].numel()) >= RANK


CASES = {
    "swinunetr": swin(48, 96),
    "swinunetr_small": swin(24, 64),
    "dynunet": Case(dynunet, is_wide_convolution, RANK, (1, 2, 64, 64, 64)),
}


def adapted(case: Case, method: str) -> tuple[nn.Module, torch.optim.Optimizer | ProximalOptimizer]:
    torch.manual_seed(0)
    network = case.network().train()
    names = [n for n, m in network.named_modules() if n and case.is_target(n, m)]
    if method == "peft":
        return with_peft(network, names, case.inner_width)
    config = LowRankConfig(method, case.inner_width, fused_pattern="")
    report = add_adapters(network, names, config, torch.Generator().manual_seed(0))
    assert set(report.ranks.values()) == {case.inner_width}
    return network, build_optimizer(network, config, learning_rate=1e-3)


def with_peft(
    network: nn.Module, names: list[str], rank: int
) -> tuple[nn.Module, torch.optim.Optimizer]:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=names)
    network = inject_adapter_in_model(config, network)
    trainable = [p for p in network.parameters() if p.requires_grad]
    return network, torch.optim.AdamW(trainable, lr=1e-3, weight_decay=0.0)


def step(
    network: nn.Module, optimizer: torch.optim.Optimizer | ProximalOptimizer, volume: Tensor
) -> None:
    network(volume).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


def timed(work: Callable[[], object]) -> Seconds:
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return Seconds(time.perf_counter() - clock, time.process_time() - processor)


def step_times(case: Case, repeats: int) -> dict[str, list[Seconds]]:
    volume = torch.randn(case.input_shape, generator=torch.Generator().manual_seed(0))
    trained = {method: adapted(case, method) for method in METHODS}
    for network, optimizer in trained.values():
        step(network, optimizer, volume)
    times: dict[str, list[Seconds]] = {method: [] for method in METHODS}
    for repeat in range(repeats):
        for method in METHODS[:: -1 if repeat % 2 else 1]:  # none is always the first
            network, optimizer = trained[method]
            times[method].append(timed(partial(step, network, optimizer, volume)))
    return times


def inference_times(case: Case, repeats: int) -> dict[str, list[Seconds]]:
    volume = torch.randn(case.input_shape, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    networks = {"base": case.network().eval(), "merged": adapted(case, "arena")[0].eval()}
    with torch.no_grad():
        for parameter in adapter_parameters(networks["merged"]):
            parameter.add_(0.01)
    merge_adapters(networks["merged"])
    times: dict[str, list[Seconds]] = {name: [] for name in networks}
    with torch.inference_mode():
        for repeat in range(repeats + 1):
            for name in list(networks)[:: -1 if repeat % 2 else 1]:
                seconds = timed(partial(networks[name], volume))
                if repeat:
                    times[name].append(seconds)
    return times


def peak_memory_mb(case: Case, method: str) -> float:
    """What the peak resident set grows by over two steps (run in a fresh process)."""
    network, optimizer = adapted(case, method)
    volume = torch.randn(case.input_shape, generator=torch.Generator().manual_seed(0))
    before = resident_mb()
    for _ in range(2):
        step(network, optimizer, volume)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_memory_of_process(name: str, method: str) -> float:
    command = [sys.executable, __file__, "--memory-of", name, method]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def summary(name: str, what: str, ours: list[Seconds], theirs: list[Seconds]) -> dict[str, object]:
    def ratio(field: int) -> float:
        return statistics.median(a[field] / b[field] for a, b in zip(ours, theirs, strict=True))

    return {
        "network": name,
        "what": what,
        "seconds": statistics.median(s.clock for s in ours),
        "ratio": ratio(0),
        "cpu_seconds": statistics.median(s.processor for s in ours),
        "cpu_ratio": ratio(1),
    }


def measure(name: str, repeats: int) -> Iterator[dict[str, object]]:
    case = CASES[name]
    times = step_times(case, repeats)
    for method in METHODS:
        yield summary(name, f"step, {method}", times[method], times["peft"])
    inference = inference_times(case, repeats)
    for kind in inference:
        yield summary(name, f"inference, {kind}", inference[kind], inference["base"])
    memory = {method: peak_memory_of_process(name, method) for method in METHODS}
    for method in METHODS:
        yield {
            "network": name,
            "what": f"memory, {method}",
            "mb": memory[method],
            "ratio": memory[method] / memory["peft"],
        }


COLUMNS = ("network", "what", "seconds", "ratio", "cpu_seconds", "cpu_ratio", "mb")


def write_line(cells: Iterable[object]) -> None:
    sys.stdout.write(
        "".join(f"{c:18.3f}" if isinstance(c, float) else f"{c:>18}" for c in cells) + "\n"
    )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", default=["dynunet", "swinunetr"], choices=CASES)
    parser.add_argument("--repeats", type=int, default=6)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of:
        name, method = arguments.memory_of
        sys.stdout.write(f"{peak_memory_mb(CASES[name], method)}\n")
        return
    write_line(COLUMNS)
    rows = []
    for name in arguments.network:
        for row in measure(name, arguments.repeats):
            write_line(row.get(column, "") for column in COLUMNS)
            rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
