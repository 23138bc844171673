"""Paired tests between our method and each other one.

A pair is one patient, organ, k, fold and seed, scored once by each of two methods. Wilcoxon's
signed-rank test (Biometrics Bulletin 1, 1945), two-sided, zero differences left out; Holm's
correction (Scand. J. Statist. 6, 1979) over all comparisons of a cohort. Pairs of one patient
are not independent, so the same test is also made on one number per patient, the mean of its
differences: that is the one to believe.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from reglora_core.report.cohort import Cohort, Unit
from reglora_core.report.fits import Arm, Kind
from reglora_core.report.labels import OURS

RANK_BESIDE_RANKLESS = 8  # ours at this initial rank stands beside methods without one
RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Comparison:
    """Ours against another method.

    Attributes:
        difference: mean of ours - other over the pairs, in points of Dice.
        interval: 95 % interval of the mean over patients, patients drawn anew (bootstrap).
        pairs: patients x organs x draws that both have.
        fits, expected_fits: organs x draws that both have, and that either should have.
        patients: how many there are in the pairs.
        p_pairs, p_patients: of the test on pairs, and on patients' means.
        holm_pairs, holm_patients: the same after Holm's correction.
    """

    kind: Kind
    k: int
    ours: Arm
    other: Arm
    difference: float
    interval: tuple[float, float]
    pairs: int
    fits: int
    expected_fits: int
    patients: int
    p_pairs: float
    p_patients: float
    holm_pairs: float = 1.0
    holm_patients: float = 1.0


def compare_all(cohort: Cohort) -> list[Comparison]:
    """Return every comparison of a cohort, with p values corrected over all of them.

    Low-rank methods are compared at the same initial rank; methods without a rank with ours at
    rank 8, or at its lowest where it has no 8.
    """
    found = [
        comparison
        for kind in cohort.kinds
        for k in cohort.shots
        for ours, other in _opponents(cohort, kind, k)
        if (comparison := compare(cohort, kind, k, ours, other)) is not None
    ]
    pairs = holm([one.p_pairs for one in found])
    patients = holm([one.p_patients for one in found])
    return [
        replace(one, holm_pairs=by_pair, holm_patients=by_patient)
        for one, by_pair, by_patient in zip(found, pairs, patients, strict=True)
    ]


def compare(cohort: Cohort, kind: Kind, k: int, ours: Arm, other: Arm) -> Comparison | None:
    """Return the comparison of two arms over what both have, or None where that is nothing."""
    left, right = cohort.units(ours, k, kind), cohort.units(other, k, kind)
    units = [unit for unit in left if unit in right]
    differences: list[float] = []
    by_patient: dict[str, list[float]] = {}
    for unit in units:
        first, second = left[unit].case_dice, right[unit].case_dice
        for case in first.keys() & second.keys():
            difference = 100 * (first[case] - second[case])
            differences.append(difference)
            by_patient.setdefault(case, []).append(difference)
    if not differences:
        return None
    means = [fmean(by_patient[case]) for case in sorted(by_patient)]
    expected: set[Unit] = cohort.expected_units(ours, k, kind)
    expected |= cohort.expected_units(other, k, kind)
    return Comparison(
        kind, k, ours, other,
        difference=fmean(differences),
        interval=bootstrap_interval(means),
        pairs=len(differences),
        fits=len(units),
        expected_fits=len(expected),
        patients=len(means),
        p_pairs=signed_rank_p(differences),
        p_patients=signed_rank_p(means),
    )  # fmt: skip


def signed_rank_p(differences: Sequence[float]) -> float:
    """Return p of Wilcoxon's signed-rank test, two-sided; 1 where nothing differs."""
    from scipy.stats import wilcoxon

    own = [difference for difference in differences if difference != 0]
    return float(wilcoxon(own).pvalue) if own else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number by Holm's step-down rule.

    The i-th smallest of m (from 0) becomes the largest of (m - j) p_(j) over j <= i, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, (len(p_values) - place) * p_values[index])
        corrected[index] = min(1.0, largest)
    return corrected


def bootstrap_interval(means: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % percentile interval of the mean, the numbers drawn anew 10,000 times."""
    import numpy as np

    numbers = np.array(means)
    draws = np.random.default_rng(0).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(numbers[draws].mean(axis=1), [tail, 100 - tail])
    return float(low), float(high)


def _opponents(cohort: Cohort, kind: Kind, k: int) -> list[tuple[Arm, Arm]]:
    arms = cohort.arms(kind, k)
    own = {arm.initial_rank: arm for arm in arms if arm.method == OURS}
    if not own:
        return []
    beside = own.get(RANK_BESIDE_RANKLESS) or own[min(own, key=lambda rank: rank or 0)]
    pairs = []
    for other in arms:
        ours = beside if other.initial_rank is None else own.get(other.initial_rank)
        if other.method != OURS and ours is not None:
            pairs.append((ours, other))
    return pairs
