"""Small tasks on which a low-rank method shows which rank it chooses; tests and tables use them."""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from reglora_core.lora import LowRankConfig, adapters, add_adapters, gates
from reglora_core.proximal import Annealing, ProximalOptimizer, build_optimizer

TRUE_RANK = 3


@dataclass
class Regression:
    """y = (W + D) x + noise, with W 64 x 80 and D of a low rank (singular values 2 to 1)."""

    network: nn.Sequential
    inputs: Tensor
    outputs: Tensor
    change: Tensor
    generator: torch.Generator

    @classmethod
    def of_seed(cls, seed: int, noise: float = 0.1, true_rank: int = TRUE_RANK) -> Regression:
        g = torch.Generator().manual_seed(seed)
        network = nn.Sequential(nn.Linear(80, 64, bias=False))
        weight = torch.randn(64, 80, generator=g) / 80**0.5
        network[0].weight.data = weight
        left = torch.linalg.qr(torch.randn(64, true_rank, generator=g))[0]
        right = torch.linalg.qr(torch.randn(80, true_rank, generator=g))[0]
        change = left * torch.linspace(2, 1, true_rank) @ right.T
        inputs = torch.randn(1000, 80, generator=g)
        noise_of_outputs = noise * torch.randn(1000, 64, generator=g)
        return cls(network, inputs, inputs @ (weight + change).T + noise_of_outputs, change, g)

    def fit(
        self, config: LowRankConfig, steps: int = 1000, learning_rate: float = 1e-3
    ) -> ProximalOptimizer:
        """Adapt to D in steps of 64 samples, along a cosine of the learning rate."""
        add_adapters(self.network, ["0"], config, self.generator)
        optimizer = build_optimizer(
            self.network, config, learning_rate=learning_rate, annealing=Annealing(steps)
        )
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.optimizer, steps)
        for _ in range(steps):
            batch = torch.randint(1000, (64,), generator=self.generator)
            (self.network(self.inputs[batch]) - self.outputs[batch]).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            cosine.step()
        return optimizer

    def error(self) -> float:
        """||B diag(g) A - D|| / ||D||."""
        return float((self.update() - self.change).norm() / self.change.norm())

    def update(self) -> Tensor:
        update = adapters(self.network)["0"]
        return (update.scaled_up() @ update.down).detach()


def few_noisy_shots(
    config: LowRankConfig, seed: int, *, has_equal_gates: bool = False
) -> tuple[int, float]:
    """Fit a voxel classifier to 400 labels of which every tenth is wrong: no rank is the true one.

    Args:
        config: of the updates of two layers, 64 x 64 each.
        seed: of data and fit.
        has_equal_gates: start with g = 1, as arena+ did at first.

    Returns:
        The surviving columns of both layers and the soft Dice loss on 2,000 other voxels.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(2400, 64, generator=generator)
    score = inputs[:, :4].prod(1) + inputs[:, 4:12].sum(1)
    labels = (score > score.quantile(0.75)).float()
    is_wrong = torch.rand(400, generator=generator) < 0.1
    shots = torch.where(is_wrong, 1 - labels[:400], labels[:400])
    network = _two_layers()
    add_adapters(network, ["0", "3"], config, generator)
    if has_equal_gates:
        for gate in gates(network).values():
            nn.init.ones_(gate)
    optimizer = _fit(network, config, inputs[:400], shots, generator)
    with torch.no_grad():
        loss = _soft_dice_loss(network(inputs[400:]), labels[400:])
    return sum(optimizer.effective_ranks().values()), float(loss)


def _two_layers() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        hidden = (
            part for _ in range(2) for part in (nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU())
        )
        return nn.Sequential(*hidden, nn.Linear(64, 1))


def _fit(
    network: nn.Sequential,
    config: LowRankConfig,
    inputs: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    steps: int = 160,
) -> ProximalOptimizer:
    optimizer = build_optimizer(
        network,
        config,
        learning_rate=4e-3,
        head_parameters=list(network[-1].requires_grad_(True).parameters()),
        head_learning_rate=1e-2,
        annealing=Annealing(steps),
    )
    for _ in range(steps):
        batch = torch.randint(len(inputs), (48,), generator=generator)
        optimizer.zero_grad()
        _soft_dice_loss(network(inputs[batch]), labels[batch]).backward()
        optimizer.step()
    return optimizer


def _soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    probability = logits[:, 0].sigmoid()
    return 1 - 2 * (probability * labels).sum() / (probability.sum() + labels.sum())
