"""The tables of a report in the papers' layout: rows are methods, blocks are numbers of shots.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from reglora_core.report.claims import RANKS, Claim, RankRow, over_ranks
from reglora_core.report.cohort import (
    Cohort,
    Spread,
    dice_percent,
    pruned_columns_percent,
    pruned_percent,
    spread,
    surviving_rank,
)
from reglora_core.report.fits import Arm, Fit, Kind
from reglora_core.report.labels import (
    ADAPTIVE,
    LABELS,
    arm_label,
    layer_label,
    method_label,
    organ_label,
)
from reglora_core.report.paired import Comparison
from reglora_core.report.published import (
    BY_RANK,
    MEAN,
    PublishedRow,
    data_note,
    published_rows,
)
from reglora_core.report.table import (
    NOTHING,
    Block,
    Cell,
    Row,
    Table,
    number_cell,
    spread_cell,
)

LOW_RANK = tuple(m for m in LABELS if m in {*ADAPTIVE, "lora", "gates"})


def claims_table(claims: Sequence[Claim]) -> Table:
    """Return what must hold, what was measured, and the verdict."""
    rows = []
    for claim in claims:
        cells = (Cell(claim.measured or NOTHING), Cell(claim.why, verdict=claim.verdict))
        rows.append(Row(claim.sentence, cells))
    notes = (
        "Mean Dice over base and novel organs together. Ranks differ in percent of the smallest. "
        "Parameters pruned: of fits whose decoder is frozen.",
    )
    return Table(
        "What must hold", ("claim", "measured", "verdict"), (Block("", tuple(rows)),), notes
    )


def dice_table(cohort: Cohort, kind: Kind) -> Table:
    """Return Dice by method and organ, with the papers' numbers below each block."""
    organs = cohort.organs(kind)
    blocks = []
    for k in cohort.shots:
        rows = [
            Row(arm_label(arm), tuple(_dice_cells(cohort, kind, k, arm, organs)))
            for arm in cohort.arms(kind, k)
        ]
        values = [_dice_spreads(cohort, kind, k, arm, organs) for arm in cohort.arms(kind, k)]
        blocks.append(Block(f"{k}-shot", tuple(_with_best(rows, values))))
        if published := published_rows(kind, k):
            blocks.append(_published_block(cohort, published, organs))
    return Table(
        f"Dice of {kind} organs, %",
        ("method", *(organ_label(organ) for organ in organs), "mean"),
        tuple(blocks),
        (
            "Mean ± standard deviation over draws (folds and seeds) of the mean over patients; "
            f"{len(cohort.patients)} {cohort.role} patients at most. In the last column the mean "
            "over organs is taken per draw first. Bold: highest without gaps.",
            "(2/3): two of three fits are finished, the mean is over those; the mean over organs "
            "is over draws in which every organ is finished.",
        ),
    )


def rank_table(cohort: Cohort) -> Table:
    """Return Dice and surviving columns of low-rank methods over the initial rank."""
    blocks, notes = [], []
    ranks = sorted({rank for method in LOW_RANK for rank in cohort.ranks(method)})
    for k in cohort.shots:
        found = over_ranks(cohort, k, LOW_RANK)
        if not found:
            continue
        blocks.append(Block(f"{k}-shot", tuple(_rank_row(row, ranks) for row in found)))
        if not found[0].is_complete:
            notes.append(
                f"{k}-shot: over the {found[0].units} of {found[0].expected} organs x draws that "
                "are finished in all of these arms."
            )
    if blocks:
        blocks.append(_published_ranks(cohort, ranks))
    return Table(
        "Over the initial rank",
        (
            "method",
            *(f"Dice, rank {rank}" for rank in ranks),
            "variation, points",
            *(f"columns left, rank {rank}" for rank in ranks),
            "difference, %",
            "pruned, %",
        ),
        tuple(blocks),
        (
            "Dice in %, base and novel organs together. Variation: highest less lowest. Columns "
            "left: of all layers. Difference: largest above smallest. Pruned: columns, from the "
            "lowest to the highest initial rank.",
            *notes,
        ),
    )


def size_table(cohort: Cohort, kind: Kind) -> Table:
    """Return parameters, surviving columns and seconds of each method."""
    measures: tuple[tuple[str, Callable[[Fit], float], str], ...] = (
        ("trainable parameters", lambda fit: fit.trainable, ",.0f"),
        ("surviving parameters", lambda fit: fit.surviving, ",.0f"),
        ("pruned, %", pruned_percent, ".1f"),
        ("columns left", surviving_rank, ",.1f"),
        ("columns pruned, %", pruned_columns_percent, ".1f"),
        ("seconds", lambda fit: fit.seconds, ",.1f"),
    )
    published = {row.arm: row.parameters for row in published_rows("base", 5)}
    blocks = []
    for k in cohort.shots:
        rows = []
        for arm in cohort.arms(kind, k):
            fits = list(cohort.units(arm, k, kind).values())
            expected = len(cohort.expected_units(arm, k, kind))
            cells = [
                spread_cell(spread(map(value, fits), expected), form) for _, value, form in measures
            ]
            rows.append(Row(arm_label(arm), (*cells, Cell(published.get(arm, "")))))
        blocks.append(Block(f"{k}-shot", tuple(rows)))
    return Table(
        f"Parameters and time, {kind} organs",
        ("method", *(name for name, _, _ in measures), "parameters in the papers"),
        tuple(blocks),
        (
            "Mean ± standard deviation over organs and draws. Parameters are those in the network; "
            "where its decoder is trained too (novel organs), they are counted. Seconds are of "
            "training and scoring on the computer that ran the study. The papers' parameters are "
            "of SwinUNETR.",
        ),
    )


def paired_table(cohort: Cohort, comparisons: Sequence[Comparison]) -> Table:
    """Return every paired test."""
    blocks = []
    for kind in cohort.kinds:
        for k in cohort.shots:
            rows = [_test_row(one) for one in comparisons if (one.kind, one.k) == (kind, k)]
            if rows:
                blocks.append(Block(f"{kind} organs, {k}-shot", tuple(rows)))
    head = (
        "ARENA+ against",
        "difference, points",
        "95 % interval",
        "pairs",
        "p",
        "p, Holm",
        "patients",
        "p by patient",
        "p by patient, Holm",
    )
    note = (
        "Wilcoxon's signed-rank test, two-sided. A pair is one patient, organ, fold and seed, "
        "scored by both methods. Pairs of one patient are not independent: the last columns test "
        "one number per patient, the mean of its differences, and are the ones to believe. The "
        "interval draws patients anew 10,000 times. Holm's correction is over all "
        f"{len(comparisons)} comparisons of this section. Methods without a rank stand against "
        "ARENA+ at initial rank 8, or at its lowest."
    )
    return Table("Paired tests", head, tuple(blocks), (note,))


def layer_table(cohort: Cohort, method: str, k: int) -> Table:
    """Return the surviving rank of each layer of a method, by initial rank."""
    ranks = cohort.ranks(method)
    fits = {rank: list(cohort.units(Arm(method, rank), k).values()) for rank in ranks}
    layers = dict.fromkeys(
        layer for rank in ranks for fit in fits[rank] for layer in (fit.ranks or {})
    )
    rows = []
    for layer in layers:
        cells = []
        for rank in ranks:
            own = [fit.ranks[layer] for fit in fits[rank] if fit.ranks and layer in fit.ranks]
            cells.append(spread_cell(spread(own), ".1f"))
        rows.append(Row(layer_label(layer), tuple(cells)))
    return Table(
        f"Surviving rank per layer: {method_label(method)}, {k}-shot",
        ("layer", *(f"initial rank {rank}" for rank in ranks)),
        (Block("", tuple(rows)),),
        ("Mean ± standard deviation over organs and draws that adapt the layer.",),
    )


def _dice_spreads(
    cohort: Cohort, kind: Kind, k: int, arm: Arm, organs: Sequence[str]
) -> list[Spread]:
    own = [cohort.organ_spread(arm, k, organ, dice_percent) for organ in organs]
    return [*own, cohort.mean_spread(arm, k, kind, dice_percent)]


def _dice_cells(cohort: Cohort, kind: Kind, k: int, arm: Arm, organs: Sequence[str]) -> list[Cell]:
    return [spread_cell(own, ".1f") for own in _dice_spreads(cohort, kind, k, arm, organs)]


def _with_best(rows: Sequence[Row], spreads: Sequence[Sequence[Spread]]) -> list[Row]:
    """Mark the highest complete mean of each column, as printed, so that ties share it."""
    best = [
        max((round(one.mean, 1) for one in column if _is_whole(one)), default=math.nan)
        for column in zip(*spreads, strict=True)
    ]
    return [
        Row(row.label, tuple(
            replace(cell, is_best=_is_whole(one) and round(one.mean, 1) == top)
            for cell, one, top in zip(row.cells, own, best, strict=True)
        ))
        for row, own in zip(rows, spreads, strict=True)
    ]  # fmt: skip


def _is_whole(own: Spread) -> bool:
    return own.is_complete and own.count > 0


def _published_block(
    cohort: Cohort, published: Sequence[PublishedRow], organs: Sequence[str]
) -> Block:
    rows = []
    for row in published:
        own = [Cell(_percent(row.dice.get(organ))) for organ in organs]
        groups = ", ".join(f"{o} {d}" for o, d in row.dice.items() if o not in (*organs, MEAN))
        label = f"{row.label} ({groups})" if groups else row.label
        rows.append(Row(label, (*own, Cell(_percent(row.dice.get(MEAN))))))
    heading = f"published, {data_note(cohort.dataset)}; {published[0].note}"
    return Block(heading, tuple(rows), is_published=True)


def _percent(dice: float | None) -> str:
    return "" if dice is None else f"{dice:.1f}"


def _rank_row(row: RankRow, ranks: Sequence[int]) -> Row:
    is_pruned = any(value > 0 for value in row.pruned_columns.values())
    shares = list(row.pruned_columns.values())
    return Row(
        method_label(row.method),
        (
            *(number_cell(row.dice.get(rank, math.nan), ".1f") for rank in ranks),
            number_cell(row.variation if len(row.dice) > 1 else math.nan, ".2f"),
            *(number_cell(row.surviving.get(rank, math.nan), ",.1f") for rank in ranks),
            number_cell(row.rank_difference_percent if len(row.dice) > 1 else math.nan, ",.0f"),
            Cell(f"{shares[0]:.0f} to {shares[-1]:.0f}" if is_pruned else "0"),
        ),
    )


def _published_ranks(cohort: Cohort, ranks: Sequence[int]) -> Block:
    rows = []
    for method, organs in BY_RANK.items():
        for organ, dice in organs.items():
            own = dict(zip(RANKS, dice, strict=True))
            cells = [Cell(_percent(own.get(rank))) for rank in ranks]
            blank = [Cell("")] * (len(ranks) + 2)
            variation = Cell(f"{max(dice) - min(dice):.1f}")
            rows.append(Row(f"{method_label(method)}, {organ}", (*cells, variation, *blank)))
    source = "ARENA paper, Figure 1, 5-shot, read off within 0.1; variation over 8, 32, 64"
    heading = f"published, {data_note(cohort.dataset)}; {source}"
    return Block(heading, tuple(rows), is_published=True)


def _test_row(one: Comparison) -> Row:
    rank = "" if one.ours.initial_rank is None else f" (ARENA+ at {one.ours.initial_rank})"
    low, high = one.interval
    has_gaps = one.fits < one.expected_fits
    gaps = f" ({one.fits}/{one.expected_fits} fits)" if has_gaps else ""
    return Row(
        f"{arm_label(one.other)}{rank}",
        (
            Cell(f"{one.difference:+.2f}"),
            Cell(f"{low:+.2f} to {high:+.2f}"),
            Cell(f"{one.pairs}{gaps}", is_partial=has_gaps),
            Cell(_p(one.p_pairs)),
            Cell(_p(one.holm_pairs)),
            Cell(str(one.patients)),
            Cell(_p(one.p_patients)),
            Cell(_p(one.holm_patients)),
        ),
    )


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")
