"""A report's numbers as CSV: one header, one row a thing, full precision, empty where unknown.

Standard library only.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from reglora_core.report.claims import Claim
from reglora_core.report.cohort import (
    Cohort,
    Spread,
    dice_percent,
    pruned_columns_percent,
    pruned_percent,
    surviving_rank,
)
from reglora_core.report.fits import Fit, FitKey, Kind
from reglora_core.report.paired import Comparison
from reglora_core.report.published import BY_RANK, DATA, MEAN, PUBLISHED, RANKS

IDENTITY = ("method", "initial_rank", "organ", "kind", "k", "fold", "seed")


@dataclass(frozen=True)
class Columns:
    """One CSV file."""

    name: str
    head: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def text(self) -> str:
        """Return the file's text."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.head)
        writer.writerows([_plain(value) for value in row] for row in self.rows)
        return stream.getvalue()


def all_columns(
    cohort: Cohort, comparisons: Sequence[Comparison], claims: Sequence[Claim]
) -> list[Columns]:
    """Return every CSV file of a cohort."""
    return [
        _fits(cohort),
        _cases(cohort),
        _dice(cohort),
        _layers(cohort),
        _curves(cohort),
        _tests(comparisons),
        _claims(claims),
        _missing(cohort),
        _published(),
    ]


def _fits(cohort: Cohort) -> Columns:
    head = (
        *IDENTITY,
        "dice_percent",
        "patients",
        "trainable_parameters",
        "surviving_parameters",
        "trains_decoder",
        "pruned_percent",
        "surviving_rank",
        "pruned_columns_percent",
        "seconds",
        "record",
    )
    rows = (
        (
            *_identity(fit.key),
            dice_percent(fit),
            len(fit.case_dice),
            fit.trainable,
            fit.surviving,
            fit.trains_decoder,
            pruned_percent(fit),
            surviving_rank(fit),
            pruned_columns_percent(fit),
            fit.seconds,
            f"{fit.name}.json",
        )
        for fit in _sorted(cohort)
    )
    return Columns("fits", head, tuple(rows))


def _cases(cohort: Cohort) -> Columns:
    rows = (
        (*_identity(fit.key), case, 100 * dice)
        for fit in _sorted(cohort)
        for case, dice in fit.case_dice.items()
    )
    return Columns("cases", (*IDENTITY, "case", "dice_percent"), tuple(rows))


def _dice(cohort: Cohort) -> Columns:
    head = (
        "kind",
        "k",
        "method",
        "initial_rank",
        "organ",
        "mean",
        "deviation",
        "draws",
        "expected",
    )
    rows: list[tuple[Any, ...]] = []
    for kind in cohort.kinds:
        for k in cohort.shots:
            for arm in cohort.arms(kind, k):
                for organ in cohort.organs(kind):
                    own = cohort.organ_spread(arm, k, organ, dice_percent)
                    rows.append((kind, k, *arm, organ, *_spread(own)))
                own = cohort.mean_spread(arm, k, kind, dice_percent)
                rows.append((kind, k, *arm, MEAN, *_spread(own)))
    return Columns("dice", head, tuple(rows))


def _layers(cohort: Cohort) -> Columns:
    rows = (
        (*_identity(fit.key), layer, initial, (fit.ranks or {}).get(layer))
        for fit in _sorted(cohort)
        for layer, initial in (fit.initial_ranks or {}).items()
    )
    return Columns("layers", (*IDENTITY, "layer", "initial", "surviving"), tuple(rows))


def _curves(cohort: Cohort) -> Columns:
    rows = ((*_identity(fit.key), *point) for fit in _sorted(cohort) for point in fit.curve)
    return Columns("curves", (*IDENTITY, "step", "loss", "surviving_rank"), tuple(rows))


def _tests(comparisons: Sequence[Comparison]) -> Columns:
    head = (
        "kind", "k", "method", "initial_rank", "arena_plus_initial_rank", "difference_points",
        "interval_low", "interval_high", "pairs", "fits", "expected_fits", "p", "p_holm",
        "patients", "p_by_patient", "p_by_patient_holm",
    )  # fmt: skip
    rows = (
        (
            one.kind, one.k, *one.other, one.ours.initial_rank, one.difference, *one.interval,
            one.pairs, one.fits, one.expected_fits, one.p_pairs, one.holm_pairs,
            one.patients, one.p_patients, one.holm_patients,
        )
        for one in comparisons
    )  # fmt: skip
    return Columns("tests", head, tuple(rows))


def _claims(claims: Sequence[Claim]) -> Columns:
    rows = ((claim.sentence, claim.measured, claim.verdict, claim.why) for claim in claims)
    return Columns("must_hold", ("claim", "measured", "verdict", "why"), tuple(rows))


def _missing(cohort: Cohort) -> Columns:
    keys = sorted(cohort.expected - cohort.by_key.keys(), key=str)
    return Columns("missing", IDENTITY, tuple(_identity(key) for key in keys))


def _published() -> Columns:
    """Return the papers' numbers; every row says of which data it is."""
    rows: list[tuple[Any, ...]] = [
        (row.kind, row.k, *row.arm, row.label, organ, dice, row.parameters, row.note, DATA)
        for row in PUBLISHED
        for organ, dice in row.dice.items()
    ]
    source = "ARENA paper, Figure 1, read off within 0.1"
    kind: Kind = "base"
    rows += [
        (kind, 5, method, rank, f"{method}, rank {rank}", organ, value, "", source, DATA)
        for method, organs in BY_RANK.items()
        for organ, dice in organs.items()
        for rank, value in zip(RANKS, dice, strict=True)
    ]
    head = (
        "kind", "k", "method", "initial_rank", "label", "organ", "dice_percent", "parameters",
        "source", "data",
    )  # fmt: skip
    return Columns("published", head, tuple(rows))


def _sorted(cohort: Cohort) -> Iterable[Fit]:
    return sorted(cohort.fits, key=lambda fit: str(fit.key))


def _identity(key: FitKey) -> tuple[Any, ...]:
    return (*key.arm, key.organ, key.kind, key.k, *key.draw)


def _spread(own: Spread) -> tuple[Any, ...]:
    return own.mean, own.deviation, own.count, own.expected


def _plain(value: Any) -> Any:
    """Return a value as CSV has it: nothing for unknown, true and false."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return value
