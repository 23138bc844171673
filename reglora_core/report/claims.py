"""What a study must show at k = 5 over the initial ranks 8, 32 and 64, decided by its numbers.

The strict reading of each sentence is taken. With a fit missing nothing is decided; what there
is, is shown. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from reglora_core.report.cohort import (
    Cohort,
    Unit,
    dice_percent,
    pruned_columns_percent,
    pruned_percent,
    surviving_rank,
)
from reglora_core.report.fits import Arm, Fit
from reglora_core.report.labels import OURS, method_label

K = 5
RANKS = (8, 32, 64)
DICE_VARIATION_POINTS = 1.0
RANK_DIFFERENCE_PERCENT = 20.0
PRUNED_PERCENT = 50.0
DICE_LOST_POINTS = 0.3
ROUNDING = 1e-9  # what sums of floats may be off at a limit
Verdict = Literal["passed", "missed", "not decided"]


@dataclass(frozen=True)
class Claim:
    """One sentence that must hold, what was measured, and the verdict."""

    sentence: str
    measured: str
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True)
class RankRow:
    """One method over the initial ranks, on the organs and draws that all compared arms have.

    Attributes:
        dice: mean in percent by initial rank, base and novel organs together.
        surviving: mean number of columns left by initial rank; NaN where nothing can be pruned.
        pruned: percent of the parameters gone, over fits whose decoder is frozen.
        pruned_columns: percent of the columns gone, over all fits.
        units, expected: organs x draws that all compared arms have, and that they should have.
    """

    method: str
    dice: dict[int, float]
    surviving: dict[int, float]
    pruned: dict[int, float]
    pruned_columns: dict[int, float]
    units: int
    expected: int

    @property
    def variation(self) -> float:
        """Highest less lowest mean Dice, in points."""
        return max(self.dice.values()) - min(self.dice.values())

    @property
    def rank_difference_percent(self) -> float:
        """How much the largest surviving rank is above the smallest, in percent of the latter."""
        low, high = min(self.surviving.values()), max(self.surviving.values())
        return 100 * (high - low) / low if low > 0 else math.inf

    @property
    def is_complete(self) -> bool:
        return self.units == self.expected and self.units > 0


def over_ranks(
    cohort: Cohort, k: int, methods: Sequence[str], ranks: Sequence[int] = ()
) -> list[RankRow]:
    """Return methods over the initial ranks, all on the same organs and draws.

    Arms that have no fit at all yet are left out.

    Args:
        ranks: all if none is named.
    """
    arms = [arm for arm in cohort.arms(k=k) if arm.method in methods and arm.initial_rank]
    arms = [arm for arm in arms if not ranks or arm.initial_rank in ranks]
    own = {arm: units for arm in arms if (units := cohort.units(arm, k))}
    expected = set().union(*(cohort.expected_units(arm, k) for arm in arms))
    shared = [unit for unit in expected if all(unit in units for units in own.values())]
    if not shared:
        return []
    present = [method for method in methods if any(arm.method == method for arm in own)]
    return [_row(method, own, shared, len(expected)) for method in present]


def must_hold(cohort: Cohort) -> list[Claim]:
    """Return every claim with its verdict."""
    return [_flat(cohort), _above_lora(cohort), _same_rank(cohort), *_pruned(cohort)]


def _row(
    method: str, own: dict[Arm, dict[Unit, Fit]], shared: Sequence[Unit], expected: int
) -> RankRow:
    fits = {
        arm.initial_rank: [units[unit] for unit in shared]
        for arm, units in own.items()
        if arm.method == method and arm.initial_rank
    }

    def means(value: Callable[[Fit], float]) -> dict[int, float]:
        return {rank: fmean(value(fit) for fit in fits[rank]) for rank in sorted(fits)}

    frozen = {rank: [f for f in fits[rank] if not f.trains_decoder] for rank in sorted(fits)}
    return RankRow(
        method,
        dice=means(dice_percent),
        surviving=means(surviving_rank),
        pruned={
            rank: fmean(pruned_percent(fit) for fit in same) if same else math.nan
            for rank, same in frozen.items()
        },
        pruned_columns=means(pruned_columns_percent),
        units=len(shared),
        expected=expected,
    )


def _flat(cohort: Cohort) -> Claim:
    sentence = (
        f"Over initial ranks 8, 32, 64 at k = {K}, ARENA+'s mean Dice varies by at most "
        f"{DICE_VARIATION_POINTS} point"
    )
    rows = over_ranks(cohort, K, [OURS], RANKS)
    if not rows:
        return _not_measured(sentence, cohort, [OURS])
    return _decided(
        sentence,
        f"{rows[0].variation:.2f} points ({_by_rank(rows[0].dice, '.1f')})",
        rows[0].variation <= DICE_VARIATION_POINTS + ROUNDING,
        rows,
    )


def _above_lora(cohort: Cohort) -> Claim:
    sentence = "ARENA+'s mean Dice, at its lowest, is at or above LoRA's at its best"
    rows = over_ranks(cohort, K, [OURS, "lora"], RANKS)
    if len(rows) < 2:
        return _not_measured(sentence, cohort, [OURS, "lora"])
    ours, lora = rows
    lowest, best = min(ours.dice.values()), max(lora.dice.values())
    measured = f"{lowest:.2f} against {best:.2f} (LoRA {_by_rank(lora.dice, '.1f')})"
    return _decided(sentence, measured, lowest >= best - ROUNDING, rows)


def _same_rank(cohort: Cohort) -> Claim:
    sentence = (
        "ARENA+'s surviving rank differs by at most "
        f"{RANK_DIFFERENCE_PERCENT:.0f} % between initial ranks"
    )
    rows = over_ranks(cohort, K, [OURS], RANKS)
    if not rows:
        return _not_measured(sentence, cohort, [OURS])
    difference = rows[0].rank_difference_percent
    measured = f"{difference:.0f} % (columns left: {_by_rank(rows[0].surviving, '.1f')})"
    return _decided(sentence, measured, difference <= RANK_DIFFERENCE_PERCENT + ROUNDING, rows)


def _pruned(cohort: Cohort) -> list[Claim]:
    sentence = (
        f"At least {PRUNED_PERCENT:.0f} % of the initial parameters are pruned at no more than "
        f"{DICE_LOST_POINTS} points of Dice lost against unpruned gates"
    )
    claims = []
    for rank in RANKS:
        rows = over_ranks(cohort, K, [OURS, "gates"], [rank])
        whole = f"{sentence}: initial rank {rank}"
        if len(rows) < 2:
            claims.append(_not_measured(whole, cohort, [OURS, "gates"], [rank]))
            continue
        ours, gates = rows
        lost = gates.dice[rank] - ours.dice[rank]
        pruned, unit = ours.pruned[rank], "parameters"
        if math.isnan(pruned):  # every fit trains the decoder, whose parameters would be counted
            pruned, unit = ours.pruned_columns[rank], "columns"
        is_met = pruned >= PRUNED_PERCENT - ROUNDING and lost <= DICE_LOST_POINTS + ROUNDING
        change = f"{abs(lost):.2f} points {'gained' if lost < -ROUNDING else 'lost'}"
        measured = f"{pruned:.0f} % of the {unit}, {change}"
        claims.append(_decided(whole, measured, is_met, rows, [rank]))
    return claims


def _decided(
    sentence: str,
    measured: str,
    is_met: bool,
    rows: Sequence[RankRow],
    ranks: Sequence[int] = RANKS,
) -> Claim:
    first = rows[0]
    lacking = [rank for rank in ranks if any(rank not in row.dice for row in rows)]
    if lacking:
        named = ", ".join(str(rank) for rank in lacking)
        return Claim(sentence, measured, "not decided", f"no fits of initial rank {named}")
    if not first.is_complete:
        why = f"only {first.units} of {first.expected} organs x draws are finished in every arm"
        return Claim(sentence, measured, "not decided", why)
    return Claim(sentence, measured, "passed" if is_met else "missed")


def _not_measured(
    sentence: str, cohort: Cohort, methods: Sequence[str], ranks: Sequence[int] = RANKS
) -> Claim:
    present = {fit.key.arm.method for fit in cohort.fits
               if fit.key.k == K and fit.key.arm.initial_rank in ranks}  # fmt: skip
    lacking = [method_label(method) for method in methods if method not in present]
    why = "no organ and draw is finished in every arm"
    if lacking:
        named = ", ".join(str(rank) for rank in ranks)
        why = f"no fits of {' and '.join(lacking)} at k = {K} and initial rank {named}"
    return Claim(sentence, "", "not decided", why)


def _by_rank(values: dict[int, float], form: str) -> str:
    return ", ".join(f"{rank}: {value:{form}}" for rank, value in values.items())
