"""The fits of one dataset and one role: means and deviations, in percent.

A mean over organs is taken over the draws that have a fit for every organ, and says how many of
the expected draws those are: nothing is averaged over gaps in silence. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean, stdev

from reglora_core.report.fits import KINDS, Arm, Draw, Fit, FitKey, Kind, Role
from reglora_core.report.folder import StudyFolder
from reglora_core.report.labels import arm_order


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation (n - 1) of numbers, and how many were expected.

    Attributes:
        mean: NaN of no number.
        deviation: NaN of fewer than two.
    """

    mean: float
    deviation: float
    count: int
    expected: int

    @property
    def is_complete(self) -> bool:
        return self.count == self.expected


def spread(numbers: Iterable[float], expected: int | None = None) -> Spread:
    """Return mean and deviation, NaN if one of the numbers is.

    All numbers that there are were expected if nothing is said.
    """
    own = list(numbers)
    is_known = bool(own) and not any(map(math.isnan, own))
    return Spread(
        fmean(own) if is_known else math.nan,
        stdev(own) if is_known and len(own) > 1 else math.nan,
        len(own),
        len(own) if expected is None else expected,
    )


@dataclass(frozen=True)
class Unit:
    """What every method is fitted to once."""

    organ: str
    draw: Draw


@dataclass(frozen=True)
class Cohort:
    """The fits of one dataset and role, and which of them the study has."""

    dataset: str
    role: Role
    fits: tuple[Fit, ...]
    expected: frozenset[FitKey]

    @property
    def name(self) -> str:
        """Name of its folder of files, whatever the dataset is called."""
        return re.sub(r"[^A-Za-z0-9_.+-]+", "-", f"{self.dataset}-{self.role}").lstrip(".-")

    @cached_property
    def by_key(self) -> dict[FitKey, Fit]:
        return {fit.key: fit for fit in self.fits}

    @cached_property
    def every(self) -> frozenset[FitKey]:
        """Fits that are there or expected."""
        return self.expected | self.by_key.keys()

    @property
    def kinds(self) -> list[Kind]:
        """Kinds of organs, base first."""
        return [kind for kind in KINDS if any(key.kind == kind for key in self.every)]

    @property
    def shots(self) -> list[int]:
        return sorted({key.k for key in self.every})

    @property
    def patients(self) -> list[str]:
        return sorted({case for fit in self.fits for case in fit.case_dice})

    def organs(self, kind: Kind | None = None) -> list[str]:
        """Return organs in alphabetical order."""
        return sorted({key.organ for key in self.every if kind in (None, key.kind)})

    def arms(self, kind: Kind | None = None, k: int | None = None) -> list[Arm]:
        """Return methods and ranks in the order of the tables."""
        keys = (key for key in self.every if kind in (None, key.kind) and k in (None, key.k))
        return sorted({key.arm for key in keys}, key=arm_order)

    def ranks(self, method: str) -> list[int]:
        """Return a method's initial ranks."""
        arms = self.arms()
        return sorted(arm.initial_rank for arm in arms if arm[0] == method and arm.initial_rank)

    def units(self, arm: Arm, k: int, kind: Kind | None = None) -> dict[Unit, Fit]:
        """Return an arm's fits by organ and draw."""
        return {Unit(key.organ, key.draw): self.by_key[key] for key in self._keys(arm, k, kind)
                if key in self.by_key}  # fmt: skip

    def expected_units(self, arm: Arm, k: int, kind: Kind | None = None) -> set[Unit]:
        """Return the organs and draws that an arm should have."""
        return {Unit(key.organ, key.draw) for key in self._keys(arm, k, kind)}

    def organ_spread(self, arm: Arm, k: int, organ: str, value: Callable[[Fit], float]) -> Spread:
        """Return the spread of a fit's value over the draws of one organ."""
        expected = {unit for unit in self.expected_units(arm, k) if unit.organ == organ}
        found = [fit for unit, fit in self.units(arm, k).items() if unit.organ == organ]
        return spread((value(fit) for fit in found), len(expected))

    def mean_spread(
        self, arm: Arm, k: int, kind: Kind | None, value: Callable[[Fit], float]
    ) -> Spread:
        """Return the spread over draws of the mean over organs; draws without gaps only."""
        expected = self.expected_units(arm, k, kind)
        fits = self.units(arm, k, kind)
        organs = {unit.organ for unit in expected}
        draws = sorted({unit.draw for unit in expected})
        means = [
            fmean(value(fits[Unit(organ, draw)]) for organ in organs)
            for draw in draws
            if all(Unit(organ, draw) in fits for organ in organs)
        ]
        return spread(means, len(draws))

    def _keys(self, arm: Arm, k: int, kind: Kind | None) -> Sequence[FitKey]:
        return self._index.get((arm, k, kind), ())

    @cached_property
    def _index(self) -> dict[tuple[Arm, int, Kind | None], list[FitKey]]:
        found: dict[tuple[Arm, int, Kind | None], list[FitKey]] = {}
        for key in sorted(self.every, key=lambda one: (one.organ, one.draw)):
            found.setdefault((key.arm, key.k, key.kind), []).append(key)
            found.setdefault((key.arm, key.k, None), []).append(key)
        return found


def dice_percent(fit: Fit) -> float:
    """Return the Dice of a fit in percent."""
    return 100 * fit.dice


def surviving_rank(fit: Fit) -> float:
    """Return the columns that are left in all layers; NaN without low-rank updates."""
    return math.nan if fit.ranks is None else float(sum(fit.ranks.values()))


def pruned_columns_percent(fit: Fit) -> float:
    """Return how much of the columns is gone, in percent; NaN without low-rank updates."""
    if not fit.ranks or not fit.initial_ranks:
        return math.nan
    return 100 * (1 - sum(fit.ranks.values()) / sum(fit.initial_ranks.values()))


def pruned_percent(fit: Fit) -> float:
    """Return how much of the trainable parameters is gone, in percent; NaN of none.

    Where the decoder is trained too (novel organs), its parameters are among them.
    """
    return 100 * (1 - fit.surviving / fit.trainable) if fit.trainable else math.nan


def cohorts_of(study: StudyFolder) -> list[Cohort]:
    """Return a cohort for each dataset and role that has a fit or expects one."""
    found = {(fit.dataset, fit.key.role) for fit in study.fits}
    found |= {(dataset, key.role) for dataset, keys in study.expected.items() for key in keys}
    return [
        Cohort(
            dataset,
            role,
            tuple(f for f in study.fits if (f.dataset, f.key.role) == (dataset, role)),
            frozenset(k for k in study.expected.get(dataset, ()) if k.role == role),
        )
        for dataset, role in sorted(found)
    ]
