"""Which fits a study has: methods x ranks x organs x k x draws. Nothing is trained here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from reglora_core.errors import InputError
from reglora_core.methods.catalogue import LOW_RANK, method_entry
from reglora_core.protocol.inventory import Inventory
from reglora_core.protocol.sampling import draw_shots, too_few
from reglora_core.study.config import MethodPlan, ScoredRole, StudyConfig


@dataclass(frozen=True)
class FitPlan:
    """One fit of one method to one organ's shots, and whom it is scored on."""

    method: MethodPlan
    rank: int | None
    organ: str
    is_novel: bool
    k: int
    fold: int
    seed: int
    role: ScoredRole
    shots: tuple[str, ...]
    scored: tuple[str, ...]


@dataclass(frozen=True)
class Skip:
    """What a study asks for and does not get, and why."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"skipped: {self.what}: {self.why}"


def plan_fits(config: StudyConfig, inventory: Inventory) -> tuple[list[FitPlan], list[Skip]]:
    """Return every fit of a study in a fixed order, and what is skipped by rule.

    Raises:
        InputError: the dataset is not usable, an organ or a method is unknown, an organ has too
            few patients for a k (all of them are named), or nobody to be scored on.
    """
    inventory.require_usable()
    organs = _organs(config, inventory)
    _refuse_too_few(config, inventory, organs)
    _refuse_methods(config)
    fits, skips = [], []
    for organ in organs:
        is_novel = organ in inventory.dataset.novel
        for method in config.methods:
            if is_novel and method.name == "zero-shot":
                skips.append(Skip(f"zero-shot of {organ}", "the base network never saw it"))
                continue
            fits += list(_fits(config, inventory, organ, method))
    return fits, skips


def _fits(
    config: StudyConfig, inventory: Inventory, organ: str, method: MethodPlan
) -> Iterator[FitPlan]:
    pool = inventory.patients("shots", organ)
    scored = inventory.patients(config.role, organ)
    scored = scored[: config.patients or len(scored)]
    is_novel = organ in inventory.dataset.novel
    for rank in method.ranks or (None,):
        for k in config.shots:
            for fold, seed in config.draws:
                shots = draw_shots(pool, k, fold).shots
                yield FitPlan(
                    method, rank, organ, is_novel, k, fold, seed, config.role, shots, scored
                )


def _organs(config: StudyConfig, inventory: Inventory) -> tuple[str, ...]:
    known = inventory.dataset.organs
    if unknown := [organ for organ in config.organs if organ not in known]:
        message = f"study {config.name}: organ {unknown[0]!r} is unknown"
        raise InputError(message, f"choose from {', '.join(known)}")
    organs = config.organs or known
    if unscored := [organ for organ in organs if not inventory.patients(config.role, organ)]:
        message = f"study {config.name}: no {config.role} patient has {', '.join(unscored)}"
        raise InputError(message, "leave these organs out, or give patients that role")
    return organs


def _refuse_too_few(config: StudyConfig, inventory: Inventory, organs: tuple[str, ...]) -> None:
    found = too_few(inventory, config.shots)
    lacking = {key: count for key, count in found.items() if key[0] in organs}
    if lacking:
        listed = ", ".join(f"{organ} k = {k}: {n}" for (organ, k), n in lacking.items())
        message = f"study {config.name}: too few patients with role shots: {listed}"
        raise InputError(message, "leave these out, or give more patients the role shots")


def _refuse_methods(config: StudyConfig) -> None:
    for method in config.methods:
        entry = method_entry(method.name)
        has_ranks = entry.name in LOW_RANK
        if entry.name == "head":
            message = f"study {config.name}: method head is no method of the papers"
            raise InputError(message, "use linear-probe, whose head is FSEFT's")
        if entry.head == "masks":
            message = f"study {config.name}: method {entry.name} has SAM's mask decoder as its head"
            raise InputError(message, f"use {entry.low_rank or 'linear-probe'}, as studies do")
        if has_ranks != bool(method.ranks):
            problem = "needs ranks" if has_ranks else "has no rank"
            message = f"study {config.name}: method {entry.name} {problem}"
            raise InputError(message, 'see docs/study.md, "methods"')
