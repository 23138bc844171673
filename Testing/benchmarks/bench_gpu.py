"""Adaptation and prediction on a GPU, beside a straightforward loop and beside PEFT.

    make bench-gpu
    python Testing/benchmarks/bench_gpu.py [--out bench] [--device cuda]
    python Testing/benchmarks/bench_gpu.py --device cpu --small      # the same script, small sizes

In turn in one run, on the same synthetic CT with ten organs on five painted slices, the same
network (SwinUNETR 48, 96^3, weights drawn at random; --weights FILE for real ones), layers, rank,
heads, loss and draws (but for the noise of the voxels, which is drawn on the device):

    ours             reglora's loop: 16 bits where they are fast, scan and crops on the device
    straightforward  float32, crops made on the CPU, one sample, one window at a time
    peft             ours, with HuggingFace PEFT's LoRA instead of ours, where it is installed

and of each: seconds of a training step (median; neighbours in turn A B C C B A), share of the
device's ceiling (floating-point operations that PyTorch counts in a step, per second, over what a
large matrix product in the same precision reaches here), peak memory (weights, and what a step
adds: on CUDA by PyTorch's allocator, elsewhere the tensors alive at once), steps and seconds until
the mean Dice of voxels drawn from the painted slices reaches --dice, and seconds to segment
512x512x300; then of a pass of its windows through the network, captured as a CUDA graph and not,
and which of both the prediction took. float32 is as PyTorch sets it: on GPUs since Ampere its
convolutions take TF32, its matrix products, and with them the ceiling, do not.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from reglora_core.process import tune_process

tune_process()  # as the command line does; before torch is loaded

import torchvision_operators

OPERATORS = torchvision_operators.OPERATORS  # PEFT needs them; before MONAI is loaded

import torch  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.utils.flop_counter import FlopCounterMode  # noqa: TID253

from bench_memory import LiveBytes, synthetic_case
from reglora_core.adaptation import read_task
from reglora_core.captured import CudaGraphs, fastest_forward
from reglora_core.device import DTYPES, choose_device, choose_precision
from reglora_core.events import ignore
from reglora_core.features import features_at, windows
from reglora_core.fit import Task
from reglora_core.forecast import Setting
from reglora_core.head import Head, HeadConfig
from reglora_core.job import AdaptJob
from reglora_core.lora import merge_adapters
from reglora_core.memory import prepare
from reglora_core.methods.adaptation import Adaptation, MethodConfig
from reglora_core.models import registry, swinunetr
from reglora_core.models.base import BaseModel, in_precision
from reglora_core.models.families import family_of
from reglora_core.models.loading import load_model
from reglora_core.models.tiny import TinyConfig, TinyUNet
from reglora_core.refine import RefineConfig, Refiner
from reglora_core.result import label_map_of
from reglora_core.samples import Painting, Voxels
from reglora_core.scan import Scan, prepare_scan
from reglora_core.scores import head_scores, split_groups
from reglora_core.volumes import read_image

LOOPS = ("ours", "straightforward", "peft")
RANK = 8
JUDGED = 4000  # voxels that the Dice is of
EVERY = 10  # steps between looks at it


@dataclass(frozen=True)
class Sizes:
    """What is measured on.

    Attributes:
        entry: name of the base network whose input and layers are taken.
        feature_size: of a SwinUNETR; 0: a small network of the embedded family.
        edge: of a crop and a window, in voxels.
        painted, large: shapes (z, y, x) of the scan to adapt to and of the one to segment.
        spacing: of both (x, y, z) in mm.
        product: edge of the matrices whose product is the ceiling.
        repeats: steps that are timed.
        most_steps: until the Dice is given up.
    """

    entry: str = "swinunetr"
    feature_size: int = 48
    edge: int = 96
    painted: tuple[int, int, int] = (160, 256, 256)
    large: tuple[int, int, int] = (300, 512, 512)
    spacing: tuple[float, float, float] = (0.8, 0.8, 1.5)
    product: int = 8192
    repeats: int = 20
    most_steps: int = 300


SMALL = Sizes(
    feature_size=12,
    edge=64,
    painted=(64, 96, 96),
    large=(64, 96, 96),
    spacing=(1.5, 1.5, 1.5),
    product=1024,
    repeats=3,
    most_steps=40,
)


class Straightforward(Refiner):
    """The loop as it is written first: crops on the CPU, then sent to the network."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.noise = self.generator

    def _inside(self, painting: Painting) -> torch.Tensor:
        return painting.scan.inside

    def _warped_crop(
        self, inside: torch.Tensor, pool: Voxels
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        network, self.device = self.device, torch.device("cpu")
        try:
            crop, points, index = super()._warped_crop(inside, pool.to(self.device))
        finally:
            self.device = network
        return crop.to(network), points.to(network), index.to(network)


@dataclass
class Loop:
    """One of the three, ready to train."""

    name: str
    refiner: Refiner
    task: Task

    def __post_init__(self) -> None:
        painting = self.task.paintings[0]
        self.inside, self.pool = self.refiner._inside(painting), self.refiner._pool(painting)

    def step(self) -> None:
        self.refiner._step(self.inside, self.pool)

    def dice(self) -> float:
        """Return the mean Dice of the organs on voxels drawn from the painted slices."""
        scan, pool = self.task.paintings[0].scan, self.pool
        points = pool.points[:JUDGED].cpu()
        features = features_at(self.refiner.model, scan.inside, points).to(self.refiner.device)
        with torch.no_grad():
            heads = [head.eval()(features).softmax(1) for head in self.refiner.heads]
        for head in self.refiner.heads:
            head.train()
        found = torch.stack(heads).mean(0).argmax(1)
        truth = pool.targets[:JUDGED, 0].to(found.device)
        scores = []
        for organ in range(1, len(self.task.organs) + 1):
            both = ((found == organ) & (truth == organ)).sum()
            total = (found == organ).sum() + (truth == organ).sum()
            if total:
                scores.append(float(2 * both / total))
        return statistics.mean(scores)


def base_model(sizes: Sizes, device: torch.device, weights: str) -> BaseModel:
    """Return the network, frozen; from a file, or drawn at random, the same each time."""
    if weights:
        return load_model(weights, device)
    entry = registry.model_entry(sizes.entry)
    torch.manual_seed(0)
    network: nn.Module
    if sizes.feature_size:
        network = swinunetr.build(sizes.feature_size)
    else:
        network = TinyUNet(TinyConfig(widths=(8, 8, 16, 16, 16), classes=("", "")))
    network = network.to(device).eval().requires_grad_(False)
    return BaseModel(entry, network, family_of(entry), "", (sizes.edge,) * 3)


def make_loop(name: str, sizes: Sizes, device: torch.device, weights: str, folder: Path) -> Loop:
    """Return one of the loops, with a network of its own."""
    precision = "float32" if name == "straightforward" else "auto"
    model = in_precision(base_model(sizes, device, weights), precision)
    job = AdaptJob((folder / "image.nrrd",), (folder / "labels.nrrd",), folder / "out")
    task, _ = read_task(job, model, ignore)
    config = RefineConfig(MethodConfig("lora", RANK), steps=sizes.most_steps, crop=sizes.edge)
    torch.manual_seed(1)
    heads = [Head(model.widths, task.groups, HeadConfig()).to(device) for _ in range(2)]
    kind = Straightforward if name == "straightforward" else Refiner
    generator = torch.Generator().manual_seed(0)
    arguments = (model, heads, task.groups, config, generator)
    if name == "peft":
        adaptation = Adaptation(with_peft(model), config.method)
        with patch("reglora_core.refine.begin", lambda *_: adaptation):
            return Loop(name, kind(*arguments), task)
    return Loop(name, kind(*arguments), task)


def with_peft(model: BaseModel) -> nn.Module:
    """Give the network PEFT's LoRA, in the layers and of the inner width that ours has."""
    from peft import LoraConfig, inject_adapter_in_model

    layers = {n: m for n, m in model.network.named_modules() if model.is_adapted_layer(n, m)}
    own = MethodConfig("lora", RANK).low_rank
    ranks = {name: own.columns(name) for name in layers}
    config = LoraConfig(
        r=RANK, lora_alpha=RANK, lora_dropout=0.0, target_modules=list(layers), rank_pattern=ranks
    )
    return inject_adapter_in_model(config, model.network)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def ceiling(device: torch.device, precision: str, edge: int) -> float:
    """Return the operations per second of a product of two square matrices, the best of five."""
    left, right = (torch.randn(edge, edge, device=device, dtype=DTYPES[precision]) for _ in "ab")
    torch.mm(left, right)
    return 2 * edge**3 / min(seconds(lambda: torch.mm(left, right), device) for _ in range(5))


def step_times(loops: list[Loop], repeats: int, device: torch.device) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {loop.name: [] for loop in loops}
    for repeat in range(repeats):
        for loop in loops[:: -1 if repeat % 2 else 1]:
            times[loop.name].append(seconds(loop.step, device))
    return times


def peak_bytes(loop: Loop, device: torch.device) -> int:
    """Return the network's weights, and what a step adds to them at its largest moment."""
    weights = sum(value.nbytes for value in loop.refiner.model.network.parameters())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        loop.step()
        return weights + torch.cuda.max_memory_allocated(device) - before
    with LiveBytes() as live:
        loop.step()
    return weights + live.peak


def operations(loop: Loop) -> int:
    """Return the floating-point operations of a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        loop.step()
    return counter.get_total_flops()


def until(loop: Loop, dice: float, most_steps: int, device: torch.device) -> dict[str, Any]:
    """Train until the Dice is reached; the first step and looks at the Dice are not timed."""
    loop.step()
    taken, spent, found = 1, 0.0, 0.0
    while taken < most_steps and found < dice:
        spent += seconds(lambda: [loop.step() for _ in range(EVERY)], device)
        taken += EVERY
        found = loop.dice()
    return {"steps_to_dice": taken, "seconds_to_dice": spent, "dice": found}


@dataclass
class Heard:
    """A report that keeps what it is told of the forward."""

    told: dict[str, Any] = field(default_factory=dict)

    def __call__(self, event: str, /, **fields: Any) -> None:
        if event == "inference":
            self.told = fields


def predict(loop: Loop, scan: Scan, device: torch.device) -> dict[str, Any]:
    """Segment a scan that is read already, the update merged before; return the seconds.

    `a_pass` has those of the first windows that go through the network together.
    """
    model = loop.refiner.model
    if loop.name == "ours":
        merge_adapters(model.network)
        model = prepare(model, [scan], Setting("predict", organs=len(loop.task.organs)), ignore)
    for head in loop.refiner.heads:
        head.eval()
    heard = Heard()

    def work() -> None:
        scores = head_scores(model, loop.refiner.heads, scan, heard)
        where = torch.device("cpu") if loop.name == "straightforward" else device
        groups = [group.to(where) for group in split_groups(scores, loop.task.groups)]
        label_map_of(groups, loop.task.organs, loop.task.groups, scan)

    with plain_forward() if loop.name == "straightforward" else nullcontext():
        taken = seconds(work, device)
    is_captured = heard.told.get("is_captured", False)
    return {
        "predict_seconds": taken,
        "is_captured": is_captured,
        "a_pass": pass_seconds(model, scan, device),
    }


def plain_forward() -> AbstractContextManager[Any]:
    return patch("reglora_core.features.fastest_forward", lambda forward, *_: forward)


@torch.no_grad()
def pass_seconds(model: BaseModel, scan: Scan, device: torch.device) -> dict[str, Any]:
    """Return the seconds of a pass; on a GPU captured, too, however few windows there are."""
    parts = windows(scan.inside, model.patch, model.stride)[: model.windows_at_once]
    batch = torch.stack([part.hounsfield for part in parts]).to(device)
    if device.type == "cuda":
        heard = Heard()
        fastest_forward(model.feature_maps, batch, CudaGraphs(device), heard)
        return {"windows": len(parts), **heard.told}
    plain = seconds(lambda: model.feature_maps(batch), device)
    return {"windows": len(parts), "plain_seconds": plain, "why": "no GPU"}


def measure(
    sizes: Sizes, device: torch.device, weights: str = "", dice: float = 0.8
) -> dict[str, Any]:
    """Return what the docstring above names, by loop; "ceiling" in operations per second."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "large").mkdir()
        synthetic_case(folder, sizes.painted, sizes.spacing)
        large, _ = synthetic_case(folder / "large", sizes.large, sizes.spacing)
        names = [name for name in LOOPS if name != "peft" or has_peft()]
        loops = [make_loop(name, sizes, device, weights, folder) for name in names]
        spacing = loops[0].refiner.model.entry.spacing_mm
        scan = prepare_scan(large, read_image(large), spacing)
    trained = {loop.name: until(loop, dice, sizes.most_steps, device) for loop in loops}
    times = step_times(loops, sizes.repeats, device)
    auto = choose_precision("auto", device)
    tops = {name: ceiling(device, name, sizes.product) for name in {auto, "float32"}}
    result: dict[str, Any] = {"ceiling": tops}
    for loop in loops:
        median = statistics.median(times[loop.name])
        precision = loop.refiner.model.precision
        row = {"precision": precision, "step_seconds": median}
        row["share_of_ceiling"] = operations(loop) / median / tops[precision]
        row["peak_bytes"] = peak_bytes(loop, device)
        row |= trained[loop.name]
        row |= predict(loop, scan, device)
        result[loop.name] = row
    return result


def has_peft() -> bool:
    try:
        import peft
    except ImportError:
        return False
    return bool(peft.__version__)


def table(result: dict[str, Any]) -> str:
    """Return the measured in lines, ratios to the straightforward loop beside."""
    plain = result["straightforward"]["step_seconds"]
    heading = ("", "step, s", "times as fast", "of ceiling", "peak, GB", "steps to Dice", "s")
    lines = [f"{heading[0]:16}" + "".join(f"{cell:>15}" for cell in (*heading[1:], "predict, s"))]
    for name in LOOPS:
        if name not in result:
            lines.append(f"{name:16}  is not installed here: left out")
            continue
        row = result[name]
        cells = [
            f"{row['step_seconds']:.3f}",
            f"{plain / row['step_seconds']:.2f}",
            f"{row['share_of_ceiling']:.1%}",
            f"{row['peak_bytes'] / 1e9:.2f}",
            f"{row['steps_to_dice']} ({row['dice']:.2f})",
            f"{row['seconds_to_dice']:.1f}",
            f"{row['predict_seconds']:.1f}",
        ]
        lines.append(f"{name:16}" + "".join(f"{cell:>15}" for cell in cells))
    lines += [f"{name}: {forward_text(result[name])}" for name in LOOPS if name in result]
    tops = (f"{name} {top / 1e12:.2f}" for name, top in sorted(result["ceiling"].items()))
    return "\n".join([*lines, f"ceiling, 10^12 operations/s: {', '.join(tops)}"])


def forward_text(row: dict[str, Any]) -> str:
    """Return a line on the forward of a window: what both take, and which one was used."""
    one = row["a_pass"]
    plain, captured = (one.get(f"{kind}_seconds") for kind in ("plain", "captured"))
    cells = (f"{'not measured' if s is None else f'{s:.4f} s'}" for s in (plain, captured))
    used = "captured" if row["is_captured"] else "plain"
    return "a pass of {} windows {}, captured {} ({}); the prediction was {}".format(
        one["windows"], *cells, one["why"], used
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--small", action="store_true", help="small sizes, for a CPU")
    parser.add_argument("--weights", default="", metavar="NAME|FILE", help="instead of random ones")
    parser.add_argument("--dice", type=float, default=0.8, help="that is trained to")
    parser.add_argument("--repeats", type=int, help="steps that are timed")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    arguments = parser.parse_args()
    sizes = SMALL if arguments.small else Sizes()
    if arguments.repeats:
        sizes = replace(sizes, repeats=arguments.repeats)
    device = choose_device(arguments.device)
    is_gpu = device.type == "cuda"
    what = torch.cuda.get_device_name(device) if is_gpu else "processor"
    sys.stdout.write(f"{what}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    result = measure(sizes, device, arguments.weights, arguments.dice)
    sys.stdout.write(table(result) + "\n")
    arguments.out.mkdir(parents=True, exist_ok=True)
    record = {"device": what, "torch": torch.__version__, "sizes": vars(sizes), **result}
    (arguments.out / "gpu.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
