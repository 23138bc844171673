"""The l1 step on the gates, the optimizer around it, and the published early stop.

    optimizer = build_optimizer(network, config, learning_rate=1e-3, head_parameters=head)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer.optimizer, epochs)
    loss.backward(); optimizer.step(); optimizer.zero_grad()

arena is the published algorithm (arXiv 2507.15793): one AdamW step on A, g, B and the head at one
learning rate eta, then g <- sign(g) max(|g| - lambda eta, 0). A zeroed gate still gets gradients
and may return. At the published values this prunes next to nothing, because Adam moves a gate by
up to eta a step and the threshold is lambda eta = eta / 2.

arena+ is ours: see SpectralPruning.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.lora import LowRankConfig, LowRankUpdate, adapters, effective_ranks, gates
from reglora_core.methods.adalora import BudgetAllocation, BudgetSchedule
from reglora_core.methods.sora import ConstantShrinkage

Phase = Literal["warm-up", "pruning", "settled"]


class GateRule(Protocol):
    """What happens to the gates after an optimizer step."""

    def __call__(self) -> None:
        """Change the gates in place, at the optimizer's current learning rate."""


@dataclass(frozen=True)
class Annealing:
    """When arena+ prunes, as parts of a training of a known number of steps."""

    steps: int
    warm_up: float = 0.4  # part of the steps without penalty
    ramp: float = 0.3  # part of the steps in which lambda rises to the config's penalty
    hold: float = 0.1  # part of the steps that it may stay there
    patience: float = 0.05  # part of the steps without a change of ranks that ends the hold
    refactor_every: int = 20  # steps between two singular value decompositions

    def __post_init__(self) -> None:
        if self.steps < 1:
            message = f"the number of training steps is {self.steps}"
            raise InputError(message, "choose at least 1")
        parts = (self.warm_up, self.ramp, self.hold)
        if min(parts) < 0 or sum(parts) > 1:
            message = f"warm-up, ramp and hold are {parts}, not parts of one training"
            raise InputError(message, "choose parts of at most 1 together")


class ProximalOptimizer:
    """An optimizer, then the rule for the gates; learning rate schedules take `.optimizer`."""

    def __init__(
        self, network: nn.Module, optimizer: torch.optim.Optimizer, rule: GateRule | None
    ) -> None:
        self.optimizer = optimizer
        self.rule = rule
        self._network = network

    def step(self) -> None:
        """Take one optimizer step, then let the rule act."""
        self.optimizer.step()
        if self.rule is not None:
            self.rule()

    def zero_grad(self) -> None:
        self.optimizer.zero_grad()

    def effective_ranks(self) -> dict[str, int]:
        """The number of gates that are not zero, by layer."""
        return effective_ranks(self._network)


def build_optimizer(
    network: nn.Module,
    config: LowRankConfig,
    *,
    learning_rate: float,
    head_parameters: Iterable[nn.Parameter] = (),
    head_learning_rate: float | None = None,
    annealing: Annealing | None = None,
) -> ProximalOptimizer:
    """AdamW without weight decay on the updates and the head, and the method's rule for the gates.

    As published all share one learning rate; a head may have its own. arena+ moves the gates
    itself: they stop requiring gradients.

    Raises:
        InputError: arena+ or adalora without an annealing.
    """
    for gate in gates(network).values():
        gate.requires_grad_(config.method != "arena+")
    groups = parameter_groups(
        network, head_parameters, learning_rate, head_learning_rate or learning_rate
    )
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0)
    return ProximalOptimizer(network, optimizer, _gate_rule(network, optimizer, config, annealing))


def parameter_groups(
    network: nn.Module,
    head_parameters: Iterable[nn.Parameter],
    learning_rate: float,
    head_learning_rate: float,
) -> list[dict[str, Any]]:
    """The groups "factors" (A and B), "gates" and "head"; empty groups are left out."""
    updates = adapters(network).values()
    trained_gates = [g for g in gates(network).values() if g.requires_grad]
    groups: list[dict[str, Any]] = [
        {"name": "factors", "params": [f for u in updates for f in (u.down, u.up)]},
        {"name": "gates", "params": trained_gates},
        {"name": "head", "params": list(head_parameters), "lr": head_learning_rate},
    ]
    return [{"lr": learning_rate, **group} for group in groups if group["params"]]


@torch.no_grad()
def soft_threshold_(gates: Tensor, threshold: float) -> Tensor:
    """g <- sign(g) max(|g| - threshold, 0), the proximal map of threshold * ||g||_1, in place."""
    return gates.copy_(gates.sign() * (gates.abs() - threshold).clamp_(min=0))


class PublishedShrinkage:
    """arena: every gate shrinks by lambda eta after every step, whatever Adam's preconditioner."""

    def __init__(self, gate_group: dict[str, Any], penalty: float) -> None:
        self._group = gate_group
        self._penalty = penalty

    def __call__(self) -> None:
        for gate in self._group["params"]:
            soft_threshold_(gate, self._penalty * self._group["lr"])


class SpectralPruning:
    """arena+: gates that are singular values, and pruning that is real and ends.

    Why: in B diag(g) A, halving g and doubling B changes nothing, so an l1 step on g alone can be
    evaded, what it does depends on the scales of A and B, and several columns may share a
    direction. And divided by its own second moment, a gate that fits noise moves as fast in Adam
    as a useful one: no lambda below 1 stops it, whatever it contributes.

    0. Start: g = 2 / (1, 2, 3, ...), and the first columns of A are the same whatever the initial
       rank (`lora.add_adapters`). With equal gates a wider update learns faster and gathers more
       noise, and its surviving rank grows with the initial one; so the update has a limit for
       large ranks, and 8 is near it.
    1. Warm-up: A and B are trained without penalty; g stays.
    2. Pruning: B diag(g) A = U diag(s) V, with A = V, B = unit * U and g = s / unit (singular value
       decomposition through QR, exact up to rounding), repeated every few steps; after the other
       steps the norms are folded into g. `unit` is a layer's root mean square singular value
       ||W||_F / sqrt(min(outputs, inputs)), times one factor for all layers by which the largest
       gate is 1. So gates compare between layers: how much of the layer they change, relative to
       the largest change anywhere.
    3. g gets no gradient step: it grows by what A and B gain in norm, in one Adam step at most
       |g| eta (sqrt(inputs) + sqrt(outputs) / unit). The l1 step, here singular value thresholding
       (Cai, Candes and Shen, SIAM J. Optim. 20, 2010, eq. 2.2), takes lambda times that maximum at
       |g| = 1. Hence a gate lives where |g| times the steadiness of its gradient (0 to 1) exceeds
       lambda: small and noisy columns go, and lambda has no unit. It rises from 0 to the penalty.
       A gate at zero stops its column's gradients, so it is frozen for good.
    4. Settled: when lambda is at its end and the ranks have not changed for a while, the penalty
       ends and the survivors train on without bias towards zero.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        penalty: float,
        annealing: Annealing,
    ) -> None:
        self.phase: Phase = "warm-up"
        self._penalty = penalty
        self._annealing = annealing
        self._optimizer = optimizer
        self._group = _group(optimizer, "factors")
        self._step = 0
        self._steps_unchanged = 0
        self._ranks: list[int] = []
        self._layers = _spectra(network)

    @property
    def penalty(self) -> float:
        """The current lambda."""
        if self.phase != "pruning":
            return 0.0
        plan = self._annealing
        risen = (self._step / plan.steps - plan.warm_up) / plan.ramp
        return self._penalty * min(1.0, max(0.0, risen))

    def __call__(self) -> None:
        self._step += 1
        if (
            self.phase == "warm-up"
            and self._step >= self._annealing.warm_up * self._annealing.steps
        ):
            self._begin_pruning()
        elif self.phase == "pruning":
            self._normalise()
            for layer in self._layers:
                step_size = layer.fastest_growth(self._group["lr"])
                soft_threshold_(layer.gate, self.penalty * step_size)
            if self._has_settled():
                self.phase = "settled"

    def _begin_pruning(self) -> None:
        if not any(bool(layer.update.scaled_up().any()) for layer in self._layers):
            return  # nothing has been learnt yet: columns frozen now would never learn
        self.phase = "pruning"
        for layer in self._layers:
            layer.factorise_()
        largest = max(layer.largest_gate() for layer in self._layers)
        for layer in self._layers:
            layer.enlarge_unit_(largest)
            for factor in (layer.update.down, layer.update.up):
                self._optimizer.state.pop(factor, None)  # their gradients have another scale now

    def _normalise(self) -> None:
        is_due = self._step % self._annealing.refactor_every == 0
        for layer in self._layers:
            if not is_due:
                layer.fold_norms_()
                continue
            layer.factorise_()
            for factor in (layer.update.down, layer.update.up):
                if state := self._optimizer.state.get(factor):
                    state["exp_avg"].zero_()  # the columns have turned

    def _has_settled(self) -> bool:
        ranks = [int(layer.gate.count_nonzero()) for layer in self._layers]
        self._steps_unchanged = self._steps_unchanged + 1 if ranks == self._ranks else 0
        self._ranks = ranks
        plan = self._annealing
        steps_held = self._step - (plan.warm_up + plan.ramp) * plan.steps
        is_unchanged = self._steps_unchanged >= plan.patience * plan.steps
        return steps_held >= plan.hold * plan.steps or (steps_held >= 0 and is_unchanged)


class EarlyStop:
    """Stop when the training loss no longer falls, as published with arena (arXiv 2507.15793).

    With L the 10-epoch moving average of the loss, stop when L[-20] - L[-1] < 0.01 L[-20], from
    epoch 31 on.
    """

    window = 10
    lag = 20
    first_epoch = 31
    least_fall = 0.01

    def __init__(self) -> None:
        self._losses: list[float] = []

    def update(self, loss: float) -> bool:
        """Add an epoch's mean training loss; true when training should stop."""
        self._losses.append(loss)
        if len(self._losses) < self.first_epoch:
            return False
        now = self._average(len(self._losses))
        before = self._average(len(self._losses) - self.lag + 1)
        return before - now < self.least_fall * before

    def _average(self, epoch: int) -> float:
        return sum(self._losses[epoch - self.window : epoch]) / self.window


def _gate_rule(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    config: LowRankConfig,
    annealing: Annealing | None,
) -> GateRule | None:
    if not gates(network) or config.method in ("gates", "lora"):
        return None  # lora may have gates that an earlier adapter brought
    if config.method == "arena":
        return PublishedShrinkage(_group(optimizer, "gates"), config.effective_penalty)
    if config.method == "sora":
        return ConstantShrinkage(gates(network).values(), config.effective_penalty)
    if annealing is None:
        message = f"{config.method} was given no annealing"
        raise InputError(message, "say how many steps the training takes")
    if config.method == "adalora":
        return BudgetAllocation(network, optimizer, _budget(network, config, annealing.steps))
    return SpectralPruning(network, optimizer, config.effective_penalty, annealing)


def _budget(network: nn.Module, config: LowRankConfig, steps: int) -> BudgetSchedule:
    """From the columns that are there to those that the rank stands for."""
    ranks = {name: update.rank for name, update in adapters(network).items()}
    target = sum(min(config.target_columns(name), rank) for name, rank in ranks.items())
    return BudgetSchedule(steps, sum(ranks.values()), target)


def _group(optimizer: torch.optim.Optimizer, name: str) -> dict[str, Any]:
    return next(group for group in optimizer.param_groups if group["name"] == name)


class _Spectrum:
    """One layer's update with A's rows of norm 1 and B's columns of norm `unit`."""

    def __init__(self, update: LowRankUpdate, gate: nn.Parameter, unit: float) -> None:
        self.update = update
        self.gate = gate
        self.unit = unit

    @torch.no_grad()
    def factorise_(self) -> None:
        """B diag(g) A -> (unit U) diag(s / unit) V, for the columns whose gate is not zero."""
        live = self.update.surviving
        if not bool(live.any()):
            return
        left, left_triangle = torch.linalg.qr(self.update.scaled_up()[:, live].double())
        right, right_triangle = torch.linalg.qr(self.update.down[live].double().T)
        inner, singular_values, inner_t = torch.linalg.svd(left_triangle @ right_triangle.T)
        dtype = self.gate.dtype
        self.update.up[:, live] = (left @ inner * self.unit).to(dtype)
        self.update.down[live] = (inner_t @ right.T).to(dtype)
        self.gate[live] = (singular_values / self.unit).to(dtype)

    @torch.no_grad()
    def fold_norms_(self) -> None:
        """Move the norms of A's rows and B's columns into g; columns of norm zero stay."""
        down_norm = self.update.down.norm(dim=1)
        up_norm = self.update.up.norm(dim=0) / self.unit
        product = down_norm * up_norm
        movable = product > 0
        self.update.down.div_(torch.where(movable, down_norm, 1.0)[:, None])
        self.update.up.div_(torch.where(movable, up_norm, 1.0))
        self.gate.mul_(torch.where(movable, product, 1.0))

    def largest_gate(self) -> float:
        return float(self.gate.detach().abs().max()) if self.gate.numel() else 0.0

    @torch.no_grad()
    def enlarge_unit_(self, factor: float) -> None:
        self.unit *= factor
        self.gate.div_(factor)
        self.update.up.mul_(factor)

    def fastest_growth(self, learning_rate: float) -> float:
        """How much a gate of 1 can gain in one Adam step, by the norms of its row and column."""
        outputs, inputs = self.update.up.shape[0], self.update.down.shape[1]
        return learning_rate * (math.sqrt(inputs) + math.sqrt(outputs) / self.unit)


def _spectra(network: nn.Module) -> list[_Spectrum]:
    layers = []
    for name, update in adapters(network).items():
        if update.gate is not None:
            weight = network.get_parameter(f"{name}.parametrizations.weight.original")
            smaller_side = min(update.up.shape[0], update.down.shape[1])
            unit = float(weight.detach().norm()) / math.sqrt(smaller_side)
            layers.append(_Spectrum(update, update.gate, unit or 1.0))
    return layers
