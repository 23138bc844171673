"""The update: train what a method trains in the network, and the heads, on warped crops.

Batch statistics stay frozen; crops are warped copies of the annotated scan (rotation in the plane
of the slices, scale, gain, offset, noise), which is what makes the adapter carry over to the next
patient. Scan, drawn voxels and crops stay on the network's device; chance comes from the CPU, so
that it is the same on every device, but for the noise of the voxels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253

from reglora_core import lora
from reglora_core.device import loss_scaler
from reglora_core.events import Report
from reglora_core.features import sample_maps
from reglora_core.head import Groups, Head, organ_loss
from reglora_core.intensity import AIR_HU
from reglora_core.methods.adaptation import MethodConfig, begin
from reglora_core.methods.mask_decoder import MaskHead
from reglora_core.models.base import BaseModel
from reglora_core.samples import Painting, Voxels, draw_voxels

PACE_STEPS = 3  # the first one is slower than the rest


@dataclass(frozen=True)
class RefineConfig:
    """How the update is trained; the learning rate is that of low-rank methods."""

    method: MethodConfig
    steps: int = 120
    crop: int = 64  # working voxels, the edge of a cube; networks of slices get a whole one
    voxels: int = 3000  # annotated voxels per step
    pool: int = 24_000  # annotated voxels drawn per scan, to choose a step's from
    learning_rate: float = 2e-3
    head_learning_rate: float = 1e-3
    rotation: float = 0.15  # radians
    scale: float = 0.08
    gain: float = 0.12  # this and the next two: as in pre-training
    offset: float = 30.0  # HU
    noise: float = 20.0  # HU


def logits_at(
    heads: Sequence[Head], maps: list[torch.Tensor], places: torch.Tensor
) -> list[torch.Tensor]:
    """Return each head's logits (n, outputs) at places (n, 3) in a window, in shares of it."""
    masks = [head.at(maps[0], places) for head in heads if isinstance(head, MaskHead)]
    if masks:
        return masks
    features = sample_maps(maps, places)
    return [head(features) for head in heads]


class Refiner:
    """Trains the updates of a base network and its heads step by step.

    Args:
        model: the base network; gets its updates here.
        heads: fitted on the frozen features; trained further in place.
        groups: organ indices per group.
        config: how.
        generator: source of randomness.
    """

    def __init__(
        self,
        model: BaseModel,
        heads: Sequence[Head],
        groups: Groups,
        config: RefineConfig,
        generator: torch.Generator,
    ) -> None:
        self.model, self.heads, self.groups, self.config = model, heads, groups, config
        self.generator = generator
        self.device = model.device
        for head in heads:
            head.to(self.device)
        self.crop = model.crop(config.crop)
        self.scaler = loss_scaler(self.device, model.precision)
        self.noise = generator
        if self.device.type != "cpu":
            seed = int(torch.randint(2**31, (), generator=generator))
            self.noise = torch.Generator(self.device).manual_seed(seed)
        self.step = 0
        self.adaptation = begin(model, config.method, generator)
        self.clipped = self.adaptation.clipped
        self.optimizer = self.adaptation.optimizer(
            config.learning_rate,
            [p for head in self.heads for p in head.parameters()],
            steps=config.steps,
            head_learning_rate=config.head_learning_rate,
        )

    def train(self, paintings: Sequence[Painting], until: int, report: Report) -> None:
        """Train up to step `until` of the configured number on the paintings.

        The report may raise `Cancelled` between steps.
        """
        places = [(self._inside(painting), self._pool(painting)) for painting in paintings]
        rates = [group["lr"] for group in self.optimizer.optimizer.param_groups]
        for head in self.heads:
            head.train()
        while self.step < until:
            chosen = int(torch.randint(len(paintings), (), generator=self.generator))
            cosine = 0.5 * (1 + math.cos(math.pi * self.step / self.config.steps))
            for group, rate in zip(self.optimizer.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * max(cosine, 0.02)
            loss = self._step(*places[chosen])
            self.step += 1
            if loss is not None:
                report(
                    "progress", stage="refine", step=self.step, steps=self.config.steps, loss=loss
                )
            ranks = lora.effective_ranks(self.model.network)
            if ranks and (self.step % 5 == 0 or self.step == until):
                report("ranks", ranks=ranks)
        for group, rate in zip(self.optimizer.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for head in self.heads:
            head.eval()

    def pace(self, painting: Painting) -> float:
        """Return the seconds that a step takes; nothing is trained."""
        inside, pool = self._inside(painting), self._pool(painting)
        seconds = []
        for _ in range(PACE_STEPS):
            start = time.perf_counter()
            loss = self._loss(inside, pool)
            if loss is not None:
                loss.backward()  # type: ignore[no-untyped-call]
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds.append(time.perf_counter() - start)
        self.optimizer.zero_grad()
        return min(seconds)

    def _inside(self, painting: Painting) -> torch.Tensor:
        return painting.scan.inside.to(self.device)

    def _pool(self, painting: Painting) -> Voxels:
        organs, count = sum(len(group) for group in self.groups), self.config.pool
        drawn = draw_voxels(painting, self.groups, organs, count, True, self.generator)
        return drawn.to(self.device)

    def _step(self, inside: torch.Tensor, pool: Voxels) -> float | None:
        loss = self._loss(inside, pool)
        if loss is None:
            return None
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer.optimizer)
        trained = [p for group in self.optimizer.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        if not self.scaler.is_enabled() or bool(norm.isfinite()):  # else the scale was too large
            self.optimizer.step()
        self.scaler.update()
        return float(loss.detach())

    def _loss(self, inside: torch.Tensor, pool: Voxels) -> torch.Tensor | None:
        """Return the heads' mean loss on a warped crop; None if it has no annotated voxel."""
        crop, points, index = self._warped_crop(inside, pool)
        if not len(index):
            return None
        maps = self.model.feature_maps(crop[None])
        targets, is_known = pool.targets[index], pool.is_known[index]
        with torch.random.fork_rng(devices=[]):  # the heads' dropout
            torch.manual_seed(int(torch.randint(2**31, (), generator=self.generator)))
            places = points / torch.tensor(self.crop, device=self.device)
            every = zip(self.heads, logits_at(self.heads, maps, places), strict=True)
            losses = [organ_loss(head, logits, targets, is_known) for head, logits in every]
        return torch.stack(losses).mean() + self.adaptation.regulariser()

    def _warped_crop(
        self, inside: torch.Tensor, pool: Voxels
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return a crop (D, H, W), the pool's points in it (n, 3) in its voxels, their indices."""
        config, size = self.config, torch.tensor(self.crop, device=self.device)
        center = pool.points[int(torch.randint(len(pool.points), (), generator=self.generator))]
        center = center + (self._uniform(3) * 0.25 * size)
        matrix = self._matrix()
        axes = [torch.arange(edge, device=self.device) + 0.5 - edge / 2 for edge in self.crop]
        grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) @ matrix.T
        relative = (grid + center) / torch.tensor(inside.shape, device=self.device) * 2 - 1
        crop = F.grid_sample(
            (inside - AIR_HU)[None, None], relative.flip(-1)[None], align_corners=False
        )[0, 0]
        gain, offset = 1 + config.gain * self._uniform(1), config.offset * self._uniform(1)
        noise = config.noise * torch.rand((), generator=self.generator).to(self.device)
        crop = crop * gain + AIR_HU + offset
        crop += noise * torch.randn(crop.shape, generator=self.noise, device=self.device)
        points = (pool.points - center) @ torch.linalg.inv(matrix).T + size / 2
        index = ((points > 0) & (points < size)).all(1).nonzero().flatten()
        order = torch.randperm(len(index), generator=self.generator)[: config.voxels]
        order = order.to(self.device)
        return crop, points[index[order]], index[order]

    def _uniform(self, count: int) -> torch.Tensor:
        return (2 * torch.rand(count, generator=self.generator) - 1).to(self.device)

    def _matrix(self) -> torch.Tensor:
        """Return the (3, 3) matrix of a rotation in the plane of slices and a scale per axis."""
        first, second = (axis for axis in range(3) if axis != (self.model.slice_axis or 0))
        angle = self.config.rotation * self._uniform(1)[0]
        cosine, sine = torch.cos(angle), torch.sin(angle)
        turn = torch.eye(3, device=self.device)
        turn[first, first] = turn[second, second] = cosine
        turn[first, second], turn[second, first] = -sine, sine
        return turn * (1 + self.config.scale * self._uniform(3))
