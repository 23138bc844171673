"""What a base network is worth by its architecture and by the length of its training. Not a test.

    python Testing/benchmarks/bench_pretraining.py train CONFIG --network tiny|half|swinunetr
        --cpu-seconds 700 --data FOLDER --out OUT/half.pt
    python Testing/benchmarks/bench_pretraining.py evaluate NETWORK ... --data FOLDER [--sample S]

`train` uses the pre-training's own loss, crops and data for so many seconds of processor time on
one thread, without decay of the learning rate. NETWORK is such a file, a checkpoint of
`reglora pretrain`, or released weights. `evaluate` prints, per network, the mean Dice of heads
alone and of heads and experts off the painted slices of scans that the network never saw.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch  # noqa: TID253
from torch import nn  # noqa: TID253

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from accuracy.episode import Episode, PaintedScan
from accuracy.scans import sample_scan, torso_scan, validation_patients
from bench_accuracy import data_folder
from reglora_core.models.base import BaseModel
from reglora_core.models.loading import load_model
from reglora_core.models.registry import model_entry
from reglora_core.models.swinunetr import SwinFamily, build
from reglora_core.models.tiny import TinyConfig, TinyFamily, TinyUNet
from reglora_core.pretraining.cases import Dataset, class_names, read_cases
from reglora_core.pretraining.crops import mirrored_classes
from reglora_core.pretraining.loop import (
    PretrainConfig,
    batches,
    progress_of,
    train_step,
)

HALF = (8, 16, 32, 64, 80)
SWIN_SIZE = 12
ROUNDS = (("pt_201", 5), ("pt_202", 5), ("pt_203", 5), ("pt_204", 5), ("torso", 5), ("torso", 8))


class Swin(nn.Module):
    """SwinUNETR with what the pre-training asks of a network; see TinyUNet."""

    def __init__(self, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.config = TinyConfig(classes=classes)
        self.body = build(SWIN_SIZE)
        self.family = SwinFamily()
        self.classifier = nn.Linear(self.feature_widths[-1], len(classes))
        self.embedding = nn.Linear(sum(self.feature_widths), self.config.embedding)

    stride = 32

    @property
    def feature_widths(self) -> tuple[int, ...]:
        return self.family.widths(self.body)

    def feature_maps(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Take the two channels of `network_inputs`; the second holds HU in [-1000, 1500]."""
        return self.family.feature_maps(self.body, 1000 * inputs[:, 1])


def new_network(kind: str, classes: tuple[str, ...]) -> Any:
    if kind == "swinunetr":
        return Swin(classes)
    widths = HALF if kind == "half" else TinyConfig().widths
    return TinyUNet(TinyConfig(widths=widths, classes=classes))


def train(arguments: argparse.Namespace) -> None:
    """Train for the given processor time; write the averaged weights."""
    torch.set_num_threads(1)
    config = replace(PretrainConfig.from_file(arguments.config), steps=10**6, decay_steps=1)
    datasets = [Dataset.from_dict(entry) for entry in config.datasets]
    classes = class_names(datasets, arguments.data)
    cases = read_cases(datasets, arguments.data, classes, config.spacing_mm)
    torch.manual_seed(config.seed)
    network = new_network(arguments.network, classes)
    progress = progress_of(network, config, torch.device("cpu"))
    start = time.process_time()
    for crops, generator in batches(cases, config, mirrored_classes(classes), 0):
        train_step(progress, crops, config, generator)
        if time.process_time() - start > arguments.cpu_seconds:
            break
    state = {"average": progress.average.state, "classes": list(classes), "step": progress.step}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({**state, "network": arguments.network}, arguments.out)
    sys.stdout.write(f"{arguments.network}: {progress.step} steps\n")


def load(path: str) -> BaseModel:
    """Return a network of a file of `train`, of a checkpoint, or of released weights."""
    if not path.endswith(".pt"):
        return load_model(path, torch.device("cpu"))
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = new_network(state.get("network", "tiny"), tuple(state["classes"]))
    network.load_state_dict(state["average"])
    is_swin = isinstance(network, Swin)
    family: Any = SwinFamily() if is_swin else TinyFamily()
    entry = model_entry("reglora-tiny")
    own = network.body if is_swin else network
    return BaseModel(entry, own.eval(), family, path, (96, 96, 96) if is_swin else entry.patch_size)


def evaluate(arguments: argparse.Namespace) -> None:
    """Print one line of the table per network."""
    torch.set_num_threads(1)
    scans = {own.name: own for own in validation_patients(arguments.data, 33)}
    scans["torso"] = torso_scan(arguments.data)
    rounds = list(ROUNDS)
    if arguments.sample:
        scans["sample"] = sample_scan(arguments.sample)
        rounds += [("sample", 3), ("sample", 5), ("sample", 8)]
    names = [f"{name} n={count}" for name, count in rounds]
    sys.stdout.write(f"| network | MB | {' | '.join(names)} | pass |\n")
    sys.stdout.write("|---" * (len(names) + 3) + "|\n")
    for path in arguments.networks:
        model = load(path)
        size = sum(own.numel() for own in model.network.parameters()) * 2 / 1e6
        cells, seconds = [], []
        for name, count in rounds:
            painted = PaintedScan.of(scans[name], "axial", count, model.entry.spacing_mm)
            episode = Episode.of(model, painted)
            fused = painted.experts.fused(episode.by_heads, painted.task.groups)[0]
            heads = painted.mean_dice(episode.by_heads)
            cells.append(f"{heads:.3f} / {painted.mean_dice(fused):.3f}")
            seconds.append(episode.pass_seconds)
        pace = statistics.median(seconds)
        line = f"| {Path(path).stem} | {size:.1f} | {' | '.join(cells)} | {pace:.1f} s |\n"
        sys.stdout.write(line)
        sys.stdout.flush()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("train")
    one.add_argument("config", type=Path)
    one.add_argument("--network", choices=("tiny", "half", "swinunetr"), required=True)
    one.add_argument("--cpu-seconds", type=float, default=700)
    one.add_argument("--out", type=Path, required=True)
    one.set_defaults(work=train)
    other = commands.add_parser("evaluate")
    other.add_argument("networks", nargs="+")
    other.add_argument("--sample", type=Path, help="folder of the sample CT")
    other.set_defaults(work=evaluate)
    for own in (one, other):
        own.add_argument("--data", type=Path, default=data_folder())
    arguments = parser.parse_args(argv)
    arguments.work(arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
