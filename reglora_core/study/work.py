"""One fit of a study from its plan to its record: read, train, score, clean up."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import torch  # noqa: TID253

from reglora_core.events import Report, ignore
from reglora_core.lora import LowRankConfig
from reglora_core.methods.adaptation import MethodConfig
from reglora_core.methods.catalogue import LOW_RANK, method_entry
from reglora_core.methods.trained import remove_trained
from reglora_core.models.base import BaseModel
from reglora_core.protocol.access import Purpose
from reglora_core.protocol.inventory import Inventory
from reglora_core.study.base import load_base, spacing_of
from reglora_core.study.cases import CaseStore
from reglora_core.study.config import StudyConfig
from reglora_core.study.fit import Fitted, Training, fit
from reglora_core.study.plan import FitPlan
from reglora_core.study.records import FORMAT, Record
from reglora_core.study.score import score

PURPOSES: dict[str, Purpose] = {"validation": "choose", "test": "score"}


@dataclass
class Bench:
    """What the fits of a study share in one process: patients and the base network.

    Attributes:
        config: of the study.
        inventory: of its dataset.
        model: the base network; nothing of a fit stays in it.
        store: patients read so far.
    """

    config: StudyConfig
    inventory: Inventory
    model: BaseModel
    store: CaseStore

    @classmethod
    def of(
        cls, config: StudyConfig, inventory: Inventory, weights: str, device: torch.device
    ) -> Bench:
        """Load the base network.

        Raises:
            InputError: it cannot be used.
        """
        model = load_base(config, weights, device)
        return cls(config, inventory, model, CaseStore(inventory, spacing_of(config, model)))

    def settings(self, plan: FitPlan) -> dict[str, Any]:
        """Return everything but the plan itself that the plan's result depends on."""
        return {
            "base": self.model.sha256,
            "adapter_targets": self.model.entry.adapter_targets,
            "spacing_mm": self.store.spacing_mm,
            "penalty": penalty_of(plan),
            "learning_rate": self.learning_rate(plan),
            "trains_decoder": self.method(plan).trains_decoder,
            "fit": asdict(self.config.fit),
        }

    def learning_rate(self, plan: FitPlan) -> float:
        """Return the plan's own rate, or the published one of its method."""
        if plan.method.learning_rate is not None:
            return plan.method.learning_rate
        entry = method_entry(plan.method.name)
        if entry.keeps_rate or not self.method(plan).trains_decoder:
            return entry.learning_rate
        return min(entry.learning_rate, self.config.fit.decoder_learning_rate)

    def decoder_learning_rate(self, plan: FitPlan) -> float | None:
        """Return the rate of a decoder that is trained besides, at most that of the method."""
        if not self.method(plan).trains_decoder:
            return None
        return min(self.learning_rate(plan), self.config.fit.decoder_learning_rate)

    def method(self, plan: FitPlan) -> MethodConfig:
        """Return the method as it is used for the plan's organ."""
        wants_decoder = plan.is_novel and self.config.fit.trains_decoder_for_novel
        has_own = plan.method.name in ("full-ft", "scratch", "zero-shot", "decoder-ft")
        return MethodConfig(
            plan.method.name,
            plan.rank or MethodConfig.rank,
            plan.method.penalty,
            trains_decoder=wants_decoder and not has_own,
        )


def run_fit(bench: Bench, plan: FitPlan, report: Report = ignore) -> Record:
    """Fit, score and return the record; the base network is as it was afterwards.

    Raises:
        InputError: a patient cannot be used, or the method is not defined for the network.
    """
    shots = [bench.store.case(name, plan.organ, "fit") for name in plan.shots]
    scored = [bench.store.case(name, plan.organ, PURPOSES[plan.role]) for name in plan.scored]
    rate, decoder_rate = bench.learning_rate(plan), bench.decoder_learning_rate(plan)
    training = Training(plan.organ, bench.config.fit, plan.seed, rate, decoder_rate)
    started = time.monotonic()
    try:
        fitted = fit(bench.model, shots, bench.method(plan), training, report)
        case_dice = score(bench.model, fitted.head, scored)
    finally:
        remove_trained(bench.model.network)
    return _record(bench, plan, fitted, case_dice, time.monotonic() - started)


def penalty_of(plan: FitPlan) -> float | None:
    """Return lambda of a low-rank method."""
    if plan.method.name not in LOW_RANK:
        return None
    rank = plan.rank or LowRankConfig.rank
    config = LowRankConfig(plan.method.name, rank, plan.method.penalty)  # type: ignore[arg-type]
    return config.effective_penalty


def _record(
    bench: Bench, plan: FitPlan, fitted: Fitted, case_dice: dict[str, float], seconds: float
) -> Record:
    return {
        "format": FORMAT,
        "dataset": bench.inventory.dataset.name,
        "method": plan.method.name,
        "initial_rank": plan.rank,
        "organ": plan.organ,
        "is_novel": plan.is_novel,
        "k": plan.k,
        "fold": plan.fold,
        "seed": plan.seed,
        "role": plan.role,
        "dice": fmean(case_dice.values()),
        "case_dice": case_dice,
        "trainable_parameters": fitted.trainable,
        "surviving_parameters": fitted.surviving,
        "initial_layer_ranks": fitted.initial_ranks,
        "layer_ranks": fitted.ranks,
        "seconds": seconds,
        "curve": fitted.curve,
        "settings": {**bench.settings(plan), "shots": list(plan.shots)},
    }
