"""Two methods on the same cases: differences, and how likely chance alone makes them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy import stats  # noqa: TID253

from accuracy.records import Row, spread

MIN_PAIRS = 6  # below them no two-sided test of signs or ranks can come under .05


@dataclass(frozen=True)
class Pairs:
    """Differences ours minus theirs, and what they are differences of: "patients" or "organs"."""

    differences: tuple[float, ...]
    of: str

    @classmethod
    def of_values(cls, ours: Mapping[str, float], theirs: Mapping[str, float], of: str) -> Pairs:
        """Pair what both have."""
        common = sorted(ours.keys() & theirs.keys())
        return cls(tuple(ours[key] - theirs[key] for key in common), of)

    @property
    def mean(self) -> float:
        return statistics.mean(self.differences)

    @property
    def deviation(self) -> float:
        return spread(self.differences)

    @property
    def wins(self) -> int:
        return sum(difference > 0 for difference in self.differences)

    @property
    def losses(self) -> int:
        return sum(difference < 0 for difference in self.differences)

    @property
    def sign_p(self) -> float | None:
        """The two-sided sign test's p; ties do not count."""
        decided = self.wins + self.losses
        if decided < MIN_PAIRS:
            return None
        return float(stats.binomtest(self.wins, decided, 0.5).pvalue)

    @property
    def wilcoxon_p(self) -> float | None:
        """The two-sided signed-rank test's p; ties do not count."""
        decided = [difference for difference in self.differences if difference]
        if len(decided) < MIN_PAIRS:
            return None
        return float(stats.wilcoxon(decided).pvalue)


def pairs_of(rows: Sequence[Row], ours: str, theirs: str) -> Pairs | None:
    """Return the pairs of one group's rows: its cases, or the organs where there is one case."""
    cases = {row.case for row in rows}
    of = "cases" if len(cases) > 1 else "organs"
    values = [_means(rows, method, of) for method in (ours, theirs)]
    pairs = Pairs.of_values(*values, of)
    return pairs if pairs.differences else None


def _means(rows: Sequence[Row], method: str, of: str) -> dict[str, float]:
    every: dict[str, list[float]] = {}
    for row in rows:
        if row.method == method:
            every.setdefault(row.case if of == "cases" else row.organ, []).append(row.dice)
    return {key: statistics.mean(values) for key, values in every.items()}
