"""Which shots: FSEFT's rule, and the few-shot tasks of a study.

FSEFT (Silva-Rodriguez et al., MedIA 103, 2025, arXiv 2303.17051, and its published code): fold f
draws with Python's generator seeded by f - 1; of the organ's list, in its order, k + 1 cases are
drawn, at most 30; the last one is left out for validation and the others are the shots. Folds are
1, 2, 3; from k = 30 on there is one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reglora_core.errors import InputError
from reglora_core.protocol.inventory import Inventory

MOST_DRAWN = 30


@dataclass(frozen=True)
class Draw:
    """The shots of one fold, and the case left out for validation."""

    shots: tuple[str, ...]
    validation: str


@dataclass(frozen=True)
class FewShotTask:
    """One fit: an organ, its shots, and the patients that it is scored on.

    Attributes:
        is_novel: whether the base network's pre-training never saw the organ.
        seed: of everything random in the fit; the fold alone says which shots.
        choices: patients for choices of hyper-parameters; they are never scored.
    """

    organ: str
    is_novel: bool
    k: int
    fold: int
    seed: int
    draw: Draw
    choices: tuple[str, ...]
    test: tuple[str, ...]


def draw_shots(pool: Sequence[str], k: int, fold: int) -> Draw:
    """Draw the shots of a fold (1, 2, ...) from a pool in its fixed order.

    Raises:
        InputError: k or the fold is below 1, or the pool is too small.
    """
    for name, value in (("k", k), ("fold", fold)):
        if value < 1:
            message = f"{name} is {value}"
            raise InputError(message, f"choose a {name} of at least 1")
    wanted = min(k + 1, MOST_DRAWN)
    if len(pool) < wanted:
        message = f"{len(pool)} patients for k = {k}, which takes {k + 1} (one for validation)"
        raise InputError(message, "choose a smaller k, or give more patients the role shots")
    drawn = random.Random(fold - 1).sample(list(pool), wanted)
    return Draw(tuple(drawn[:-1]), drawn[-1])


def too_few(inventory: Inventory, shots: Sequence[int]) -> dict[tuple[str, int], int]:
    """Return the patients there are for each (organ, k) that has too few of them."""
    found = {}
    for organ in inventory.dataset.organs:
        count = len(inventory.patients("shots", organ))
        found.update({(organ, k): count for k in shots if count < min(k + 1, MOST_DRAWN)})
    return found


def few_shot_tasks(
    inventory: Inventory, shots: Sequence[int] = (1, 5, 10), folds: int = 3, seeds: int = 1
) -> list[FewShotTask]:
    """Return every task of a study: organs x k x folds x seeds.

    Raises:
        InputError: the dataset is not usable, an organ has too few patients for a k (all of them
            are named), or no test patient.
    """
    inventory.require_usable()
    name = inventory.dataset.name
    if lacking := too_few(inventory, shots):
        listed = ", ".join(f"{organ} k = {k}: {n}" for (organ, k), n in lacking.items())
        message = f"dataset {name}: too few patients with role shots: {listed}"
        raise InputError(message, "leave these out, or give more patients the role shots")
    if untested := [o for o in inventory.dataset.organs if not inventory.patients("test", o)]:
        message = f"dataset {name}: no test patient has {', '.join(untested)}"
        raise InputError(message, "add some to its fixed list")
    return list(_tasks(inventory, shots, folds, seeds))


def _tasks(
    inventory: Inventory, shots: Sequence[int], folds: int, seeds: int
) -> Iterator[FewShotTask]:
    dataset = inventory.dataset
    for organ in dataset.organs:
        pool = inventory.patients("shots", organ)
        choices, test = inventory.patients("validation", organ), inventory.patients("test", organ)
        for k in shots:
            for fold in range(1, (1 if k >= MOST_DRAWN else folds) + 1):
                draw = draw_shots(pool, k, fold)
                for seed in range(seeds):
                    is_novel = organ in dataset.novel
                    yield FewShotTask(organ, is_novel, k, fold, seed, draw, choices, test)
