"""The tables of a run: summary.csv, and summary.md for people."""

from __future__ import annotations

import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from accuracy.estimates import Agreement, Said
from accuracy.job import IN_SCAN, NEXT
from accuracy.methods import EXPERTS, FILL, FIRST, GROW, OURS
from accuracy.pairs import Pairs, pairs_of
from accuracy.plan import AXES
from accuracy.records import Group, Record, Row, case_means, organ_means, spread
from accuracy.scans import KINDS

COLUMNS = (
    *Group._fields,
    "method",
    "cases",
    "mean_dice",
    "sd_of_cases",
    "sd_of_organs",
    "lowest_case",
    "median_seconds",
    "largest_peak_mb",
    "update_kept",
)
MAY_LOSE = 0.01  # of a case's mean Dice, against its best simple expert
Line = Sequence[str]


def by_group(rows: Iterable[Row]) -> dict[Group, list[Row]]:
    """Return the rows of each group, in the order of the tables."""
    groups: dict[Group, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    order = sorted(
        groups,
        key=lambda own: (own.role, KINDS.index(own.kind), AXES.index(own.axis), own.slices),
    )
    return {group: groups[group] for group in order}


def summary_lines(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return the lines of summary.csv: one per group and method."""
    lines = []
    for group, own in by_group(rows).items():
        for method in dict.fromkeys(row.method for row in own):
            lines.append(_summary(group, method, [row for row in own if row.method == method]))
    return lines


def _summary(group: Group, method: str, rows: list[Row]) -> dict[str, Any]:
    means = case_means(rows)[group][method].values()
    runs = {row.job: row for row in rows}.values()
    seconds = [row.seconds for row in runs if row.seconds is not None]
    peaks = [row.peak_mb for row in runs if row.peak_mb is not None]
    return {
        **group._asdict(),
        "method": method,
        "cases": len(means),
        "mean_dice": round(statistics.mean(means), 4),
        "sd_of_cases": round(spread(means), 4),
        "sd_of_organs": round(spread(organ_means(rows).values()), 4),
        "lowest_case": round(min(means), 4),
        "median_seconds": round(statistics.median(seconds), 1) if seconds else None,
        "largest_peak_mb": max(peaks) if peaks else None,
        "update_kept": sum(bool(row.is_adapted) for row in runs) if method == OURS else None,
    }


def summary_text(rows: Sequence[Row], records: Sequence[Record], remarks: Sequence[str]) -> str:
    """Return summary.md without its pictures."""
    in_scan = [row for row in rows if row.role == IN_SCAN]
    following = [row for row in rows if row.role == NEXT]
    sections: tuple[tuple[str, Callable[[], str]], ...] = (
        ("The painted scan", lambda: _comparison(in_scan)),
        ("Organs, axial painting", lambda: _organs(in_scan)),
        ("Seconds and memory", lambda: _costs(in_scan)),
        ("The result and its parts", lambda: _parts(in_scan)),
        ("What a run says of itself", lambda: _estimates(in_scan)),
        ("Other patients, nothing painted", lambda: _following(following, in_scan)),
        ("Remarks", lambda: _remarks(records, remarks)),
    )
    parts = ["# Accuracy", _heading(records)]
    parts += [f"## {title}\n\n{text}" for title, make in sections if (text := make())]
    return "\n\n".join(parts) + "\n"


def _heading(records: Sequence[Record]) -> str:
    loads = [record["load_before"] for record in records]
    threads = sorted({record["options"]["threads"] for record in records})
    return (
        f"{len(records)} jobs, {' or '.join(map(str, threads))} threads each; load of the computer "
        f"before a job {min(loads):.1f} to {max(loads):.1f}. Mean Dice of the organs off the "
        "painted slices ± standard deviation (of the cases, or of the organs where there is one "
        "case). A scan that the base network was trained on is marked *seen*."
    )


def _comparison(rows: Sequence[Row]) -> str:
    heading = ("scans", "painted", "n", "cases", "ours", "Grow", "Fill", "ours - Grow")
    heading += ("better", "sign test", "Wilcoxon")
    lines = []
    for group, own in by_group(rows).items():
        pairs = pairs_of(own, OURS, GROW)
        cases = str(len({row.case for row in own}))
        dice = [_dice(own, method) for method in (OURS, GROW, FILL)]
        lines.append((_kind(own), group.axis, str(group.slices), cases, *dice, *_paired(pairs)))
    return markdown(heading, lines)


def _kind(rows: Sequence[Row]) -> str:
    return f"{rows[0].kind} (*seen*)" if any(row.is_seen for row in rows) else rows[0].kind


def _dice(rows: Sequence[Row], method: str) -> str:
    """Return mean and spread over the cases, or over the organs of a single one."""
    own = [row for row in rows if row.method == method]
    if not own:
        return "-"
    means = next(iter(case_means(own).values()))[method]
    values = list(means.values()) if len(means) > 1 else list(organ_means(own).values())
    return f"{statistics.mean(values):.3f} ± {spread(values):.3f}"


def _paired(pairs: Pairs | None) -> Line:
    if pairs is None:
        return ("-",) * 4
    return (
        f"{pairs.mean:+.3f} ± {pairs.deviation:.3f}",
        f"{pairs.wins} of {len(pairs.differences)} {pairs.of}",
        _p(pairs.sign_p),
        _p(pairs.wilcoxon_p),
    )


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _organs(rows: Sequence[Row]) -> str:
    """Return per kind one table: organs, and ours / Grow for every n."""
    tables = []
    axial = [row for row in rows if row.axis == AXES[0]]
    for kind in KINDS:
        own = [row for row in axial if row.kind == kind]
        counts = sorted({row.slices for row in own})
        if own:
            lines = [
                (organ, *(_ours_and_grow(own, organ, count) for count in counts))
                for organ in dict.fromkeys(row.organ for row in own)
            ]
            heading = (f"{kind}: ours / Grow", *(f"n = {count}" for count in counts))
            tables.append(markdown(heading, lines))
    return "\n\n".join(tables)


def _ours_and_grow(rows: Sequence[Row], organ: str, count: int) -> str:
    cells = []
    for method in (OURS, GROW):
        dice = [
            row.dice
            for row in rows
            if (row.organ, row.slices, row.method) == (organ, count, method)
        ]
        cells.append(f"{statistics.mean(dice):.3f}" if dice else "-")
    return " / ".join(cells)


def _costs(rows: Sequence[Row]) -> str:
    heading = ("scans", "painted", "n", "method", "median s", "largest MiB", "update kept")
    lines = []
    for line in summary_lines(row for row in rows if row.method in (OURS, FIRST, GROW, FILL)):
        cells = ("kind", "axis", "slices", "method", "median_seconds", "largest_peak_mb")
        kept = "" if line["update_kept"] is None else f"{line['update_kept']} of {line['cases']}"
        lines.append((*("" if line[key] is None else str(line[key]) for key in cells), kept))
    return markdown(heading, lines)


def _parts(rows: Sequence[Row]) -> str:
    """Return what the first result and the experts reach, and the largest loss against them."""
    heading = ("scans", "painted", "n", "final", "first", *EXPERTS, "update adds")
    heading += ("worst against best expert", f"cases that lose more than {MAY_LOSE}")
    lines = []
    for group, own in by_group(rows).items():
        if not any(row.method == FIRST for row in own):
            continue
        means = case_means(own)[group]
        best = {case: max(means[expert][case] for expert in EXPERTS) for case in means[EXPERTS[0]]}
        margins = Pairs.of_values(means[OURS], best, "cases").differences
        added = Pairs.of_values(means[OURS], means[FIRST], "cases")
        dice = (_dice(own, method) for method in (OURS, FIRST, *EXPERTS))
        losing = sum(margin < -MAY_LOSE for margin in margins)
        against = (f"{added.mean:+.3f}", f"{min(margins):+.3f}", f"{losing} of {len(margins)}")
        lines.append((_kind(own), group.axis, str(group.slices), *dice, *against))
    return markdown(heading, lines)


def _estimates(rows: Sequence[Row]) -> str:
    heading = ("scans", "n", "organs", "without", "true - said", "mean size of that", "r")
    heading += ("in the range", "flagged", "of them wrong", "wrong", "of them flagged")
    lines = []
    ours = [row for row in rows if row.method == OURS and row.painted_on]
    for kind in KINDS:
        of_kind = [row for row in ours if row.kind == kind]
        for count in sorted({row.slices for row in of_kind}):
            lines.append(_estimate(kind, [row for row in of_kind if row.slices == count]))
    return markdown(heading, lines)


def _estimate(kind: str, rows: Sequence[Row]) -> Line:
    organs = [_said(row) for row in rows]
    known = sum(own.dice is not None for own in organs)
    start = (kind, str(rows[0].slices), str(known), str(len(rows) - known))
    if not known:
        return (*start, *("-" for _ in range(8)))
    own = Agreement.of(organs)
    return (
        *start,
        f"{own.bias:+.3f}",
        f"{own.size:.3f}",
        "-" if own.correlation is None else f"{own.correlation:.2f}",
        f"{own.inside:.0%}",
        str(own.flagged),
        _share(own.hits, own.flagged),
        str(own.wrong),
        _share(own.hits, own.wrong),
    )


def _said(row: Row) -> Said:
    bounds = row.expected_low, row.expected_high
    low_high = None if bounds[0] is None or bounds[1] is None else (bounds[0], bounds[1])
    return Said(row.dice, row.expected_dice, low_high, bool(row.is_doubtful))


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "-"


def _following(rows: Sequence[Row], in_scan: Sequence[Row]) -> str:
    """Return what adapters reach on other scans, beside paint on those scans themselves."""
    heading = ("scans", "adapter from", "cases", "ours", "painted there, n", "ours painted there")
    heading += ("difference", "organs")
    lines = []
    for group, own in by_group(rows).items():
        painted = _painted_there(in_scan, group, {row.case for row in own})
        beside = Pairs.of_values(*(_over_cases(part) for part in (own, painted)), "cases")
        difference = f"{beside.mean:+.3f}" if beside.differences else "-"
        organs = ", ".join(f"{organ} {dice:.2f}" for organ, dice in organ_means(own).items())
        count = str(group.slices) if painted else "-"
        cells = (_dice(own, OURS), count, _dice(painted, OURS), difference, organs)
        lines.append((_kind(own), group.label, str(len({row.case for row in own})), *cells))
    return markdown(heading, lines)


def _painted_there(in_scan: Sequence[Row], group: Group, cases: set[str]) -> list[Row]:
    return [
        row
        for row in in_scan
        if row.method == OURS
        and (row.axis, row.slices) == (group.axis, group.slices)
        and row.case in cases
    ]


def _over_cases(rows: Sequence[Row]) -> dict[str, float]:
    means = list(case_means(rows).values())
    return means[0][OURS] if means else {}


def _remarks(records: Sequence[Record], remarks: Sequence[str]) -> str:
    """Return what was left out, and what runs remarked, with numbers taken out."""
    said = Counter(
        re.sub(r"\d+(\.\d+)?", "#", remark)
        for record in records
        for remark in record.get("report", {}).get("remarks", [])
    )
    lines = [
        *remarks,
        *(
            f"In {count} run{'s' if count > 1 else ''}: {remark}."
            for remark, count in said.most_common()
        ),
    ]
    return "\n".join(f"- {line}" for line in lines)


def markdown(heading: Line, lines: Sequence[Line]) -> str:
    """Return a table; empty where it has no lines."""
    if not lines:
        return ""
    rule = ["---"] * len(heading)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *lines))
