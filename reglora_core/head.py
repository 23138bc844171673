"""The quick head: from multi-scale features to organs, fitted on frozen features in seconds.

Organs that exclude each other form a group with its own background; a group's channels go
through one softmax. Organs that overlap are in different groups.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.device import choose_precision

CLAMP = 5.0  # deviations beyond which a feature says no more
SLAB = 16  # planes of the second-finest level per step, to bound memory
Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class HeadConfig:
    """How a head is fitted (see the recipe in docs/method.md)."""

    hidden: int = 128
    dropout: float = 0.1
    steps: int = 200
    voxels: int = 4096
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    precision: str = "auto"  # the network's


@dataclass(frozen=True)
class Samples:
    """Annotated voxels.

    Attributes:
        features: (n, channels).
        targets: int64 (n, groups); 0 background, j + 1 the group's j-th organ, -1 unlabelled.
        is_known: bool (n, organs); False where an organ was not painted yet.
    """

    features: torch.Tensor
    targets: torch.Tensor
    is_known: torch.Tensor

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: torch.Tensor) -> Samples:
        return Samples(self.features[index], self.targets[index], self.is_known[index])

    def to(self, device: torch.device) -> Samples:
        return Samples(*(part.to(device) for part in (self.features, self.targets, self.is_known)))


class Head(nn.Module):
    """Linear - GELU - Dropout - Linear on standardised features, one softmax per group.

    Args:
        widths: channels per level, coarse to fine.
        groups: organ indices per group.
        config: its width and dropout.

    Shape: features (n, sum of widths) -> logits (n, organs + groups), per group its background
        first.
    """

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, widths: tuple[int, ...], groups: Groups, config: HeadConfig) -> None:
        super().__init__()
        self.widths, self.groups = tuple(widths), groups
        outputs = sum(len(group) + 1 for group in groups)
        self.register_buffer("mean", torch.zeros(sum(widths)))
        self.register_buffer("deviation", torch.ones(sum(widths)))
        self.hidden = nn.Linear(sum(widths), config.hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden, outputs)

    def standardise_by(self, features: torch.Tensor) -> None:
        """Take mean and deviation from the features (n, channels) of the annotated voxels."""
        self.mean.copy_(features.mean(0))
        self.deviation.copy_(features.std(0).clamp_min(1e-3))

    def standardised(self, features: torch.Tensor) -> torch.Tensor:
        return ((features - self.mean) / self.deviation).clamp(-CLAMP, CLAMP)

    def on_standardised(self, features: torch.Tensor) -> torch.Tensor:
        """Return the logits (n, outputs) of features (n, channels) that are standardised."""
        logits: torch.Tensor = self.output(self.dropout(F.gelu(self.hidden(features))))
        return logits

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.on_standardised(self.standardised(features))

    def group_logits(self, logits: torch.Tensor) -> list[torch.Tensor]:
        """Split logits (n, outputs, ...) into one tensor per group along axis 1."""
        return list(torch.split(logits, [len(group) + 1 for group in self.groups], dim=1))

    def twin(self) -> Head:
        """Return a head of its own with the same values, in evaluation mode."""
        return deepcopy(self).eval()

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return probabilities (n, outputs, ...): a softmax within each group."""
        return torch.cat([part.softmax(1) for part in self.group_logits(logits)], dim=1)

    def on_maps(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Apply the head to whole feature maps.

        The hidden layer is linear, so it is applied level by level before interpolation; levels
        below the finest meet on the second-finest grid. Clamping comes before interpolation here
        and after it in `forward`: features beyond 5 deviations differ by that alone.

        Shape: maps per level (1, channels, D', H', W') -> probabilities (outputs, D, H, W). Sizes
            double from the second-finest level to the finest, or stay.
        """
        levels = self._hidden_levels(maps)
        coarse = levels[0]
        for level in levels[1:-1]:
            coarse = level + _resized(coarse, level.shape[2:])
        fine, slabs = levels[-1], []
        factor = fine.shape[2] // coarse.shape[2]
        for start in range(0, coarse.shape[2], SLAB):
            stop = min(start + SLAB, coarse.shape[2])
            up = coarse[:, :, start:stop] if factor == 1 else _doubled(coarse, start, stop)
            hidden = F.gelu(up + fine[:, :, factor * start : factor * stop])
            logits = F.linear(hidden.movedim(1, -1), self.output.weight.to(hidden.dtype))
            logits = (logits.float() + self.output.bias).movedim(-1, 1)
            slabs.append(self.probabilities(logits)[0])
        return torch.cat(slabs, dim=1)

    def _hidden_levels(self, maps: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return each level's part of the hidden layer (1, hidden, D', H', W'), channels last."""
        widths = list(self.widths)
        means, deviations = torch.split(self.mean, widths), torch.split(self.deviation, widths)
        weights = torch.split(self.hidden.weight, widths, dim=1)
        levels = []
        for number, level in enumerate(maps):
            columns = level.movedim(1, -1)
            scaled = ((columns - means[number]) / deviations[number]).clamp(-CLAMP, CLAMP)
            part = F.linear(scaled.to(level.dtype), weights[number].to(level.dtype))
            levels.append(part.movedim(-1, 1))
        levels[0] = levels[0] + self.hidden.bias[:, None, None, None].to(levels[0].dtype)
        return levels


def _resized(volume: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    if volume.shape[2:] == shape:
        return volume
    return F.interpolate(volume, shape, mode="trilinear", align_corners=False)


def _doubled(coarse: torch.Tensor, start: int, stop: int) -> torch.Tensor:
    """Return planes 2 * start .. 2 * stop of the volume interpolated to twice its size."""
    low, high = max(0, start - 1), min(coarse.shape[2], stop + 1)
    part = F.interpolate(
        coarse[:, :, low:high], scale_factor=2, mode="trilinear", align_corners=False
    )
    return part[:, :, 2 * (start - low) : 2 * (stop - low)]


def partial_log_probabilities(logits: torch.Tensor, is_known: torch.Tensor) -> torch.Tensor:
    """Return a group's log-probabilities with its unknown organs merged into the background.

    Shape: logits (n, organs + 1), is_known bool (n, organs) -> (n, organs + 1); an unknown
        organ's column repeats the merged background.
    """
    log_p = F.log_softmax(logits, dim=1)
    if bool(is_known.all()):
        return log_p
    unknown = torch.cat([torch.zeros_like(is_known[:, :1]), ~is_known], dim=1)
    in_background = unknown.clone()
    in_background[:, 0] = True
    merged = torch.logsumexp(log_p.masked_fill(~in_background, -torch.inf), dim=1, keepdim=True)
    return torch.where(in_background, merged, log_p)


def organ_loss(
    head: Head, logits: torch.Tensor, targets: torch.Tensor, is_known: torch.Tensor
) -> torch.Tensor:
    """Return masked cross-entropy + soft Dice loss, averaged over the groups.

    Shape: logits (n, outputs), targets int64 (n, groups), is_known bool (n, organs).
    """
    total = logits.new_zeros(())
    for number, (group, own) in enumerate(zip(head.groups, head.group_logits(logits), strict=True)):
        labelled = targets[:, number] >= 0
        target = targets[labelled, number]
        known = is_known[labelled][:, list(group)]
        log_p = partial_log_probabilities(own[labelled], known)
        total = total + F.nll_loss(log_p, target) + _dice_loss(log_p.exp(), target, known)
    return total / len(head.groups)


def _dice_loss(p: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Return 1 - soft Dice, averaged over the organs present; p (n, organs + 1)."""
    truth = F.one_hot(target, p.shape[1])[:, 1:] * known
    p = p[:, 1:] * known
    present = truth.any(0)
    if not bool(present.any()):
        return p.new_zeros(())
    dice = (2 * (p * truth).sum(0) + 1) / (p.sum(0) + truth.sum(0) + 1)
    return (1 - dice[present]).mean()


def fit_head(
    head: Head,
    samples: Samples,
    config: HeadConfig,
    generator: torch.Generator,
    at_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Head:
    """Fit a head on annotated voxels (AdamW, one-cycle schedule) and return it in eval mode.

    `at_step` is told the step and its loss, and may raise to stop.
    """
    optimizer = torch.optim.AdamW(
        head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=config.steps
    )
    device = samples.features.device
    is_fast = choose_precision(config.precision, device) == "bfloat16"
    features = head.standardised(samples.features)
    features = features.bfloat16() if is_fast else features
    head.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        for step in range(config.steps):
            index = torch.randint(len(samples), (config.voxels,), generator=generator).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=is_fast):
                logits = head.on_standardised(features[index])
            loss = organ_loss(head, logits.float(), samples.targets[index], samples.is_known[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            at_step(step, float(loss.detach()))
    return head.eval()
