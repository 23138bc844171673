"""The pre-training loop: seeded, resumable, the same on CPU and GPU."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.device import mixed_precision
from reglora_core.errors import InputError
from reglora_core.events import Report, ignore
from reglora_core.features import sample_maps
from reglora_core.models.tiny import TinyConfig, TinyUNet, network_inputs
from reglora_core.pretraining.cases import Case, Dataset, class_names, read_cases
from reglora_core.pretraining.crops import Crop, CropConfig, draw_crop, mirrored_classes
from reglora_core.pretraining.losses import EpisodeLoss, partial_loss, sample_voxels
from reglora_core.pretraining.warm_start import warm_start_


@dataclass(frozen=True)
class PretrainConfig:
    """What a pre-training run is; read from a JSON file."""

    datasets: list[dict[str, Any]]
    widths: tuple[int, ...] = (16, 32, 64, 128, 160)
    spacing_mm: float = 3.0
    steps: int = 5000
    warmup_steps: int = 100
    decay_steps: int = 1000  # the learning rate falls linearly to 0 over the last of them
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    batch: int = 2
    voxels: int = 8_000  # sampled per crop for the losses
    episode_weight: float = 0.5
    average_decay: float = 0.998  # of the moving average that becomes the network
    seed: int = 0
    start_from: str = ""  # weights of an earlier pre-training; relative to the configuration
    has_autocast: bool = True  # bfloat16 where the device has it
    crops: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path) -> PretrainConfig:
        """Read a configuration.

        Raises:
            InputError: the file is missing, no JSON, or has an unknown or missing entry.
        """
        try:
            config = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            message = f"{path}: not a pre-training configuration ({error})"
            raise InputError(message, "see docs/pretraining.md") from error
        if config.start_from:
            config = replace(config, start_from=str(path.parent / config.start_from))
        return config

    def learning_rate_at(self, step: int) -> float:
        """Return the rate of a step: linear warm-up, constant, linear decay."""
        rising = (step + 1) / max(self.warmup_steps, 1)
        falling = (self.steps - step) / max(self.decay_steps, 1)
        return self.learning_rate * max(0.0, min(1.0, rising, falling))


class Learner(nn.Module):
    """The network with what only its training needs."""

    def __init__(self, network: TinyUNet) -> None:
        super().__init__()
        self.network = network
        classes = len(network.config.classes)
        self.auxiliary = nn.Linear(sum(network.feature_widths), classes)
        self.episode = EpisodeLoss()

    def loss(
        self, crops: list[Crop], config: PretrainConfig, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Return the parts of the loss over a batch of crops of one size."""
        device = next(self.parameters()).device
        inputs = network_inputs(torch.stack([crop.hounsfield for crop in crops])).to(device)
        inputs = inputs.contiguous(memory_format=torch.channels_last_3d)
        stride = self.network.stride
        with mixed_precision(inputs, stride) if config.has_autocast else nullcontext():
            maps = self.network.feature_maps(inputs)
        parts: dict[str, torch.Tensor] = {}
        for index, crop in enumerate(crops):
            own = [level[index : index + 1] for level in maps]
            for name, value in self._crop_loss(own, crop, config.voxels, generator).items():
                parts[name] = parts.get(name, torch.zeros((), device=device)) + value / len(crops)
        return parts

    def _crop_loss(
        self, maps: list[torch.Tensor], crop: Crop, voxels: int, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        device = maps[0].device
        size = torch.tensor(crop.labels.shape)
        indices = sample_voxels(crop.regions, voxels, generator)
        labels = crop.labels[indices.unbind(1)].to(device)
        is_known = crop.is_known.to(device)
        z, y, x = indices.to(device).unbind(1)
        fine = maps[-1][0][:, z, y, x].T.float()
        # interpolating all levels is dear: only at some of the voxels, rare classes favoured
        half = len(indices) // 2
        few = slice(half - 768, half + 1536)
        columns = sample_maps(maps, ((indices[few] + 0.5) / size).to(device))
        return {
            "classes": partial_loss(self.network.classifier(fine), labels, is_known),
            "levels": partial_loss(self.auxiliary(columns), labels[few], is_known),
            "episode": self._episode_loss(
                maps,
                columns[768:],
                indices[half : half + 1536],
                crop.regions[indices[half : half + 1536].unbind(1)].to(device),
                crop,
                generator,
            ),
        }

    def _episode_loss(
        self,
        maps: list[torch.Tensor],
        columns: torch.Tensor,
        indices: torch.Tensor,
        labels: torch.Tensor,
        crop: Crop,
        generator: torch.Generator,
    ) -> torch.Tensor:
        """Paint two or three slices of the crop, and label the voxels between and beside them."""
        size = crop.regions.shape[0]
        axis = int(torch.multinomial(torch.tensor([0.6, 0.2, 0.2]), 1, generator=generator))
        gap = int(torch.randint(6, 24, (), generator=generator))
        first = int(torch.randint(2, size - gap - 2, (), generator=generator))
        planes = torch.arange(first, size - 2, gap)[:3]
        painted = crop.regions.index_select(axis, planes)
        support = sample_voxels(painted, 1024, generator)
        support_labels = painted[support.unbind(1)].to(labels.device)
        support[:, axis] = planes[support[:, axis]]
        points = ((support + 0.5) / torch.tensor(crop.regions.shape)).to(labels.device)
        embed = self.network.embedding
        loss: torch.Tensor = self.episode(
            embed(columns),
            embed(sample_maps(maps, points)),
            indices.to(labels.device).float(),
            support.to(labels.device).float(),
            labels,
            support_labels,
        )
        return loss


class MovingAverage:
    """Exponential moving average of a network's parameters and buffers."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {key: value.detach().clone() for key, value in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value, 1 - decay)
            else:
                self.state[key].copy_(value)


@dataclass
class Progress:
    """Everything that a resumed run needs."""

    learner: Learner
    optimizer: torch.optim.Optimizer
    average: MovingAverage
    step: int = 0
    seconds: float = 0.0

    def save(self, path: Path, config: PretrainConfig) -> None:
        state = {
            "learner": self.learner.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state,
            "step": self.step,
            "seconds": self.seconds,
            "classes": list(self.learner.network.config.classes),
            "config": json.dumps(asdict(config)),
        }
        temporary = path.with_suffix(".tmp")
        torch.save(state, temporary)
        os.replace(temporary, path)  # noqa: PTH105

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.learner.load_state_dict(state["learner"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.state = state["average"]
        self.step, self.seconds = state["step"], state["seconds"]


def batches(
    cases: list[Case], config: PretrainConfig, mirrored: torch.Tensor, first_step: int
) -> Iterator[tuple[list[Crop], torch.Generator]]:
    """Yield each step's crops and its generator; a step's draw depends on seed and step alone."""
    shares = torch.tensor([case.share for case in cases], dtype=torch.float64)
    crop_config = CropConfig(**config.crops)
    for step in range(first_step, config.steps):
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        chosen = torch.multinomial(shares, config.batch, replacement=True, generator=generator)
        crops = [draw_crop(cases[int(index)], crop_config, mirrored, generator) for index in chosen]
        yield crops, generator


def start(config: PretrainConfig, classes: tuple[str, ...], device: torch.device) -> Progress:
    """Return a learner at its start, with its optimizer.

    Raises:
        ModelError: the weights to start from do not fit.
    """
    torch.manual_seed(config.seed)
    network = TinyUNet(TinyConfig(widths=tuple(config.widths), classes=classes))
    if config.start_from:
        warm_start_(network, Path(config.start_from))
    return progress_of(network, config, device)


def progress_of(network: TinyUNet, config: PretrainConfig, device: torch.device) -> Progress:
    """Return a learner of this network at its start, with its optimizer."""
    learner = Learner(network).to(device)
    learner.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        learner.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    return Progress(learner, optimizer, MovingAverage(network, config.average_decay))


def pretrain(
    config: PretrainConfig,
    data: Path,
    out: Path,
    device: torch.device | None = None,
    report: Report = ignore,
) -> Progress:
    """Train on the configured datasets; see `pretrain_on`."""
    datasets = [Dataset.from_dict(entry) for entry in config.datasets]
    classes = class_names(datasets, data)
    cases = read_cases(datasets, data, classes, config.spacing_mm)
    return pretrain_on(cases, classes, config, out, device, report)


def pretrain_on(
    cases: list[Case],
    classes: tuple[str, ...],
    config: PretrainConfig,
    out: Path,
    device: torch.device | None = None,
    report: Report = ignore,
) -> Progress:
    """Train to the configured number of steps, going on from `out`/checkpoint.pt if it is there.

    Writes `checkpoint.pt` every 100 steps and one line of losses per 20 steps to `losses.csv`.
    """
    device = device or torch.device("cpu")
    out.mkdir(parents=True, exist_ok=True)
    progress = start(config, classes, device)
    checkpoint = out / "checkpoint.pt"
    if checkpoint.exists():
        progress.load(checkpoint)
    before, started = progress.seconds, time.monotonic()
    recent: list[dict[str, float]] = []
    mirrored = mirrored_classes(classes)
    for crops, generator in batches(cases, config, mirrored, progress.step):
        losses = train_step(progress, crops, config, generator)
        recent.append(losses)
        progress.seconds = before + time.monotonic() - started
        if progress.step % 20 == 0:
            _log(out / "losses.csv", progress, recent)
            mean = sum(sum(entry.values()) for entry in recent) / len(recent)
            report("progress", stage="pretrain", step=progress.step, steps=config.steps, loss=mean)
            recent = []
        if progress.step % 100 == 0 or progress.step == config.steps:
            progress.save(checkpoint, config)
    return progress


def train_step(
    progress: Progress, crops: list[Crop], config: PretrainConfig, generator: torch.Generator
) -> dict[str, float]:
    """Train on one batch; return the parts of the loss, the step is counted in `progress`."""
    learner, optimizer = progress.learner, progress.optimizer
    learner.train()
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate_at(progress.step)
    parts = learner.loss(crops, config, generator)
    total = parts["classes"] + 0.5 * parts["levels"] + config.episode_weight * parts["episode"]
    optimizer.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(learner.parameters(), 5.0)
    optimizer.step()
    progress.step += 1
    progress.average.update(learner.network, progress.step)
    return {name: float(value.detach()) for name, value in parts.items()}


def _log(path: Path, progress: Progress, recent: list[dict[str, float]]) -> None:
    names = ["classes", "levels", "episode"]
    if not path.exists():
        path.write_text("step,seconds," + ",".join(names) + "\n", encoding="utf-8")
    means = [sum(entry[name] for entry in recent) / len(recent) for name in names]
    with path.open("a", encoding="utf-8") as file:
        cells = [str(progress.step), f"{progress.seconds:.0f}", *(f"{mean:.4f}" for mean in means)]
        file.write(",".join(cells) + "\n")
