"""AdaLoRA: low-rank updates in the form of a singular value decomposition, and one budget.

    W + P diag(lambda) Q                                  as `lora.LowRankUpdate` with B = P, A = Q

Zhang et al., "Adaptive Budget Allocation for Parameter-Efficient Fine-Tuning", ICLR 2023, arXiv
2303.10512 (equation numbers below). P and Q are drawn from N(0, 0.02^2), lambda starts at zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.lora import LowRankUpdate, adapters

ORTHOGONALITY = 0.1  # gamma, the weight of the regulariser


def orthogonality(updates: Sequence[LowRankUpdate]) -> Tensor:
    """Return sum of ||P^T P - I||^2 + ||Q Q^T - I||^2 over the updates (eq. 4)."""
    terms = []
    for update in updates:
        identity = torch.eye(update.rank, device=update.up.device, dtype=update.up.dtype)
        left, right = update.up.T @ update.up, update.down @ update.down.T
        terms.append((left - identity).square().sum() + (right - identity).square().sum())
    return torch.stack(terms).sum()


@dataclass(frozen=True)
class BudgetSchedule:
    """b(t), the number of singular values in all layers together, of a training of T steps.

    It is `initial` for the first warm_up T steps, then falls along a cube to `target`, which it
    has for the last fixed T steps. The paper's formula (eq. 12) reaches the target that late only
    with t - t_i in the numerator, which is what stands here and in the authors' code. The parts
    are about the mean of the paper's tasks.
    """

    steps: int
    initial: int
    target: int
    warm_up: float = 0.12
    fixed: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.target <= self.initial:
            message = f"the budget would go from {self.initial} to {self.target} singular values"
            raise InputError(message, "choose a target of at least 1 and at most the initial one")
        if self.steps < 1 or min(self.warm_up, self.fixed) < 0 or self.warm_up + self.fixed >= 1:
            parts = (self.warm_up, self.fixed)
            message = f"warm-up and fixed part are {parts} of {self.steps} steps"
            raise InputError(message, "choose parts of less than 1 together, and at least 1 step")

    def at(self, step: int) -> int:
        """Return the budget after a number of steps."""
        start, end = self.warm_up * self.steps, (1 - self.fixed) * self.steps
        if step < start:
            return self.initial
        if step >= end:
            return self.target
        left = 1 - (step - start) / (end - start)
        return round(self.target + (self.initial - self.target) * left**3)

    def is_fixed(self, step: int) -> bool:
        """Whether the singular values kept are those for good."""
        return step >= (1 - self.fixed) * self.steps


@dataclass
class Importance:
    """The smoothed sensitivity of a tensor's entries times its uncertainty (eq. 8 to 11)."""

    beta: float = 0.85  # beta 1 and 2
    sensitivity: Tensor = field(default_factory=lambda: torch.zeros(()))
    uncertainty: Tensor = field(default_factory=lambda: torch.zeros(()))

    @torch.no_grad()
    def update(self, weight: Tensor, gradient: Tensor) -> None:
        """Take in |w dL/dw| of one step."""
        now = (weight * gradient).abs()
        self.sensitivity = self.sensitivity.to(now)
        self.uncertainty = self.uncertainty.to(now)
        self.sensitivity = self.beta * self.sensitivity + (1 - self.beta) * now
        deviation = (now - self.sensitivity).abs()
        self.uncertainty = self.beta * self.uncertainty + (1 - self.beta) * deviation

    @property
    def score(self) -> Tensor:
        return self.sensitivity * self.uncertainty


class BudgetAllocation:
    """After a step, keeps the singular values of the most important triplets, zeroes the rest.

    A triplet (P's column, lambda, Q's row) has the importance of its lambda plus the means of its
    column's and its row's (eq. 7). Zeroed values keep their gradients and may return until the
    schedule's last part, as the paper has it (eq. 6).
    """

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, schedule: BudgetSchedule
    ) -> None:
        self.schedule = schedule
        self._step = 0
        self._updates = [u for u in adapters(network).values() if u.gate is not None]
        self._importance: dict[nn.Parameter, Importance] = {}
        self._kept: list[Tensor] | None = None
        optimizer.register_step_pre_hook(self._take_in)

    def _take_in(self, optimizer: torch.optim.Optimizer, *given: Any) -> None:
        """Before the step: weights and gradients that belong together."""
        del optimizer, given
        for update in self._updates:
            for parameter in update.parameters():
                if parameter.grad is not None:
                    own = self._importance.setdefault(parameter, Importance())
                    own.update(parameter.detach(), parameter.grad)

    def scores(self) -> list[Tensor]:
        """Return the importance of every triplet, by update (rank,)."""
        return [self._scores(update) for update in self._updates]

    def _scores(self, update: LowRankUpdate) -> Tensor:
        assert update.gate is not None
        zero = torch.zeros(update.rank, device=update.gate.device)
        found = {id(p): own.score for p, own in self._importance.items()}
        up, down = found.get(id(update.up)), found.get(id(update.down))
        return (
            found.get(id(update.gate), zero)
            + (zero if up is None else up.mean(0))
            + (zero if down is None else down.mean(1))
        )

    @torch.no_grad()
    def __call__(self) -> None:
        self._step += 1
        budget = self.schedule.at(self._step)
        if budget >= sum(update.rank for update in self._updates):
            return
        if self._kept is None or not self.schedule.is_fixed(self._step - 1):
            self._kept = _largest(self.scores(), budget)
        for update, kept in zip(self._updates, self._kept, strict=True):
            assert update.gate is not None
            update.gate.mul_(kept)


def _largest(scores: list[Tensor], count: int) -> list[Tensor]:
    """Return masks of the `count` largest scores of all tensors together."""
    flat = torch.cat(scores)
    mask = torch.zeros_like(flat)
    mask[flat.topk(count).indices] = 1
    return list(torch.split(mask, [len(part) for part in scores]))
