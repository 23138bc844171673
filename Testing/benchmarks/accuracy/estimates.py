"""How well a run's own estimates of the Dice agree with the truth."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from reglora_core.confidence import WRONG


@dataclass(frozen=True)
class Said:
    """What a run said of one organ, and its true Dice; None where it had no estimate."""

    true: float
    dice: float | None
    range: tuple[float, float] | None
    is_doubtful: bool


@dataclass(frozen=True)
class Agreement:
    """Over organs of which at least one has an estimate.

    Attributes:
        bias, size: mean of the true Dice minus the estimate, and of the size of that.
        correlation: of the two; None of fewer than three organs, or where one does not vary.
        inside: share of the ranges that hold the true Dice.
        flagged, wrong, hits: organs marked as doubtful, organs with a Dice below WRONG, and both.
    """

    bias: float
    size: float
    correlation: float | None
    inside: float
    flagged: int
    wrong: int
    hits: int

    @classmethod
    def of(cls, organs: Sequence[Said]) -> Agreement:
        pairs = [(own.dice, own.true) for own in organs if own.dice is not None]
        errors = [true - said for said, true in pairs]
        inside = [own.range[0] <= own.true <= own.range[1] for own in organs if own.range]
        return cls(
            bias=statistics.mean(errors),
            size=statistics.mean(map(abs, errors)),
            correlation=_correlation(pairs),
            inside=statistics.mean(inside),
            flagged=sum(own.is_doubtful for own in organs),
            wrong=sum(own.true < WRONG for own in organs),
            hits=sum(own.is_doubtful and own.true < WRONG for own in organs),
        )


def _correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    said, true = zip(*pairs, strict=True)
    if len(pairs) < 3 or len(set(said)) == 1 or len(set(true)) == 1:
        return None
    return statistics.correlation(said, true)
