"""One fit: a method adapted to k shots of one organ, as FSEFT and ARENA train.

    y = sigmoid(w . f + b)            f the finest feature map, w and b a 1 x 1 x 1 convolution

Silva-Rodriguez et al., MedIA 103, 2025, arXiv 2303.17051 (head, crops, intensity shift, sampling
of volumes); Baklouti et al., MICCAI 2025, arXiv 2507.15793 (soft Dice loss, gates, early stop).
For an organ of the pre-training the head starts as the network's own row for it, minus the
background's row, because there the classes exclude each other. A new head starts at the
linear discriminant of one crop, which is ours (`new_head`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import Tensor  # noqa: TID253

from reglora_core import lora
from reglora_core.events import Report, ignore
from reglora_core.head import Head
from reglora_core.intensity import AIR_HU
from reglora_core.methods.adaptation import Adaptation, MethodConfig, begin
from reglora_core.methods.heads import LinearHead, trained_classes, zero_shot_head
from reglora_core.methods.scratch import calibrate_
from reglora_core.methods.trained import trained_count
from reglora_core.models.base import BaseModel
from reglora_core.proximal import EarlyStop, ProximalOptimizer
from reglora_core.study.cases import OrganCase
from reglora_core.study.config import FitConfig

Ranks = dict[str, int]
CurvePoint = dict[str, float | int | None]
ONE_ORGAN = ((0,),)
RIDGE = 0.1  # of a new head's covariance: without it the features' small differences rule


@dataclass(frozen=True)
class Training:
    """What is trained for, and how.

    Attributes:
        organ: the head starts from the network's own class of that name, if it has one.
        config: steps, crops and so on.
        seed: of everything random.
        learning_rate: the method's published one if None.
        decoder_learning_rate: of a decoder that is trained besides; the method's if None.
    """

    organ: str
    config: FitConfig
    seed: int = 0
    learning_rate: float | None = None
    decoder_learning_rate: float | None = None


@dataclass(frozen=True)
class Fitted:
    """What a fit left in the network, and how it went.

    Attributes:
        head: of one organ; `on_maps` gives (2, z, y, x), background first.
        trainable, surviving: parameters in the network before and after; of the head where the
            network has none.
        initial_ranks, ranks: columns per layer before and after, None for other methods.
        curve: loss (mean since the last point) and surviving columns over the steps.
    """

    head: Head
    trainable: int
    surviving: int
    initial_ranks: Ranks | None
    ranks: Ranks | None
    curve: list[CurvePoint]


def fit(
    model: BaseModel,
    shots: Sequence[OrganCase],
    method: MethodConfig,
    training: Training,
    report: Report = ignore,
) -> Fitted:
    """Adapt a base network to the shots of one organ; what was trained stays in the network.

    Args:
        model: the base network, with nothing of an earlier fit (`trained.remove_trained`).
        shots: k volumes, wholly annotated for the organ.
        method: what is trained in the network; its decoder too, if it says so.
        training: for which organ, and how.
        report: receives progress; may raise `Cancelled`.

    Raises:
        InputError: the method is not defined for the network, or zero-shot for the organ.
    """
    generator = torch.Generator().manual_seed(training.seed)
    if method.name == "zero-shot":
        return Fitted(zero_shot_head(model, [training.organ], ONE_ORGAN), 0, 0, None, None, [])
    adaptation = begin(model, method, generator)
    if method.name == "scratch":
        calibrate_(model, shots[0].scan.hounsfield)
    volumes = [_Volume.of(shot, training.config.crop) for shot in shots]
    head = None if method.name == "scratch" else organ_head(model, training.organ)
    if head is None:
        head = new_head(model, volumes[0].around_organ(training.config.crop))
    initial = lora.initial_ranks(model.network) or None
    trainable = adaptation.trainable_count or _count(head)
    trainer = _Trainer(model, adaptation, head, training, generator)
    curve = trainer.train(volumes, training.learning_rate or method.learning_rate, report)
    ranks = lora.effective_ranks(model.network) or None
    surviving = trained_count(model.network) if ranks else trainable
    return Fitted(head.eval(), trainable, surviving, initial, ranks, curve)


def organ_head(model: BaseModel, organ: str) -> LinearHead | None:
    """Return the network's own row for an organ as a sigmoid head, or None where it has none."""
    classes = trained_classes(model)
    row = classes.row(organ) if classes else None
    if classes is None or row is None:
        return None
    weight, bias = classes.weight[row], classes.bias[row]
    if classes.has_background:
        weight, bias = weight - classes.weight[0], bias - classes.bias[0]
    head = LinearHead(model.widths, ONE_ORGAN).to(model.device)
    with torch.no_grad():
        head.output.weight.copy_(weight[None])
        head.output.bias.copy_(bias[None])
    return head


@torch.no_grad()
def new_head(model: BaseModel, sample: tuple[Tensor, Tensor]) -> LinearHead:
    """Return a new sigmoid head that starts at the linear discriminant of a crop.

    logit p = (x - (m1 + m0) / 2)' S^-1 (m1 - m0) + log(n1 / n0)

    with m1 and m0 the mean features of the organ and of all else, and S their pooled covariance
    (Fisher, Annals of Eugenics 7, 1936). From a start without direction the soft Dice loss of a
    small organ is nearly flat, and many fits end with nothing found.

    Args:
        model: the base network.
        sample: a crop's HU (z, y, x) and the organ's mask in it; without any organ, or without
            anything else, the head starts at its share of voxels everywhere.
    """
    hounsfield, mask = sample
    head = LinearHead(model.widths, ONE_ORGAN).to(model.device)
    fine = model.feature_maps(hounsfield[None].to(model.device))[-1]
    rows = fine[0].flatten(1).T.float()
    head.standardise_by(rows)
    rows, inside = head.standardised(rows), mask.flatten().to(rows.device)
    weight, middle = _discriminant(rows, inside)
    share = inside.float().mean().clamp(1e-4, 0.5)
    head.output.weight.copy_(weight[None])
    head.output.bias.fill_(float(torch.logit(share) - weight @ middle))
    return head


def _discriminant(rows: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Return S^-1 (m1 - m0) and (m1 + m0) / 2 of features (n, channels).

    Both are zero where one of the sides is empty.
    """
    organ, rest = rows[inside], rows[~inside]
    if not len(organ) or not len(rest):
        return torch.zeros_like(rows[0]), torch.zeros_like(rows[0])
    centred = torch.cat([organ - organ.mean(0), rest - rest.mean(0)])
    covariance = centred.T @ centred / len(rows) + RIDGE * torch.eye(rows.shape[1]).to(rows)
    difference, middle = organ.mean(0) - rest.mean(0), (organ.mean(0) + rest.mean(0)) / 2
    return torch.linalg.solve(covariance, difference), middle


def soft_dice_loss(probability: Tensor, target: Tensor, smooth: float = 1e-5) -> Tensor:
    """Return 1 - (2 sum pg + s) / (sum p + sum g + s) over all voxels of a batch of crops.

    Over the batch, and not per crop: a crop without the organ then counts by its false positives.
    s is MONAI's.
    """
    overlap = 2 * (probability * target).sum() + smooth
    return 1 - overlap / (probability.sum() + target.sum() + smooth)


def _cosine(steps: int) -> Callable[[int], float]:
    """Return the part of the learning rate by step: from 1 to 0 along a cosine."""
    return lambda step: 0.5 * (1 + math.cos(math.pi * step / steps))


@dataclass
class _Trainer:
    """Steps of one optimizer over crops of the shots."""

    model: BaseModel
    adaptation: Adaptation
    head: LinearHead
    training: Training
    generator: torch.Generator
    _losses: list[float] = field(default_factory=list)

    @property
    def config(self) -> FitConfig:
        return self.training.config

    def train(
        self, volumes: Sequence[_Volume], learning_rate: float, report: Report
    ) -> list[CurvePoint]:
        config, steps = self.config, self.config.steps_for(len(volumes))
        optimizer = self.adaptation.optimizer(
            learning_rate,
            self.head.parameters(),
            steps=steps,
            head_learning_rate=config.head_learning_rate,
            values_learning_rate=self.training.decoder_learning_rate,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer.optimizer, _cosine(steps))
        curve, stop = [], EarlyStop()
        for step in range(1, steps + 1):
            if (step - 1) % len(volumes) == 0:
                order = torch.randperm(len(volumes), generator=self.generator).tolist()
            volume = volumes[order[(step - 1) % len(volumes)]]
            self._losses.append(self._step(volume, optimizer))
            schedule.step()
            if step % config.log_every == 0 or step == steps:
                curve.append(self._point(step, optimizer))
                report("progress", stage="fit", steps=steps, **curve[-1])
            if step % len(volumes) == 0 and self._should_stop(stop, len(volumes)):
                break
        return curve

    def _step(self, volume: _Volume, optimizer: ProximalOptimizer) -> float:
        crops, targets = volume.draw(self.config, self.generator)
        device = self.model.device
        maps = self.model.feature_maps(crops.to(device))
        probability = torch.stack([self._probability(maps, n) for n in range(len(crops))])
        loss = soft_dice_loss(probability, targets.to(device).float())
        optimizer.zero_grad()
        (loss + self.adaptation.regulariser()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    def _probability(self, maps: list[Tensor], number: int) -> Tensor:
        return self.head.on_maps([maps[-1][number : number + 1]])[1]

    def _point(self, step: int, optimizer: ProximalOptimizer) -> CurvePoint:
        recent = self._losses[-self.config.log_every :]
        ranks = optimizer.effective_ranks()
        return {
            "step": step,
            "loss": sum(recent) / len(recent),
            "surviving_rank": sum(ranks.values()) if ranks else None,
        }

    def _should_stop(self, stop: EarlyStop, epoch: int) -> bool:
        if not self.config.stops_early:
            return False
        return stop.update(sum(self._losses[-epoch:]) / epoch)


@dataclass(frozen=True)
class _Volume:
    """One shot, padded by air to at least one crop; HU float and bool (z, y, x)."""

    hounsfield: Tensor
    mask: Tensor
    inside: Tensor  # (n, 3), indices of the organ's voxels

    @classmethod
    def of(cls, shot: OrganCase, crop: int) -> _Volume:
        mask = shot.working_mask
        missing = [max(0, crop - size) for size in mask.shape]
        padding = [amount for size in reversed(missing) for amount in (0, size)]
        hounsfield = F.pad(shot.scan.hounsfield, padding, value=AIR_HU)
        mask = F.pad(mask, padding)
        return cls(hounsfield, mask, mask.nonzero())

    def draw(self, config: FitConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return crops (n, c, c, c) and their masks."""
        boxes = [self._box(config, generator) for _ in range(config.crops)]
        crops = [self.hounsfield[box] + _shift(config, generator) for box in boxes]
        return torch.stack(crops), torch.stack([self.mask[box] for box in boxes])

    def around_organ(self, crop: int) -> tuple[Tensor, Tensor]:
        """Return a crop (c, c, c) around the organ's middle, and its mask."""
        middle = self.inside.float().mean(0).long() if len(self.inside) else torch.zeros(3).long()
        box = self._at(middle - crop // 2, crop)
        return self.hounsfield[box], self.mask[box]

    def _box(self, config: FitConfig, generator: torch.Generator) -> tuple[slice, slice, slice]:
        """Return a crop's box: centred on a voxel of the organ, or anywhere."""
        crop = config.crop
        chance = float(torch.rand((), generator=generator))
        if chance < config.positive and len(self.inside) > 0:
            chosen = int(torch.randint(len(self.inside), (), generator=generator))
            return self._at(self.inside[chosen] - crop // 2, crop)
        room = torch.tensor(self.mask.shape) - crop
        return self._at((torch.rand(3, generator=generator) * (room + 1)).long(), crop)

    def _at(self, low: Tensor, crop: int) -> tuple[slice, slice, slice]:
        """Return the box that begins at an index, moved into the volume."""
        room = torch.tensor(self.mask.shape) - crop
        corner = torch.minimum(low.clamp_min(0), room).tolist()
        depth, rows, columns = (slice(start, start + crop) for start in corner)
        return depth, rows, columns


def _shift(config: FitConfig, generator: torch.Generator) -> float:
    """Return HU to add: mostly 0 (FSEFT's only augmentation)."""
    chance, amount = torch.rand(2, generator=generator).tolist()
    return config.shift * (2 * amount - 1) if chance < config.shift_probability else 0.0


def _count(head: LinearHead) -> int:
    return sum(parameter.numel() for parameter in head.parameters())
