"""Tables of what bench_corrections.py has measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

Rows = Sequence[dict[str, str]]


def rules_table(rows: Rows) -> str:
    """Return the mean Dice per rule and round, and paired differences from the first rule."""
    rules = list(dict.fromkeys(row["rule"] for row in rows))
    rounds = sorted({int(row["round"]) for row in rows})
    lines = []
    for column, title in (("whole", "Dice of the whole result"), ("off", "off the painted slices")):
        lines += [f"{title}, {len({row['case'] for row in rows})} cases", ""]
        lines.append(f"| rule | {' | '.join(f'round {k}' for k in rounds)} |")
        lines.append("|---" * (len(rounds) + 1) + "|")
        for rule in rules:
            cells = []
            for k in rounds:
                own = _values(rows, column, rule, k)
                cell = f"{statistics.mean(own.values()):.3f}"
                if rule != rules[0]:
                    cell += f" ({_difference(own, _values(rows, column, rules[0], k))})"
                cells.append(cell)
            lines.append(f"| {rule} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _values(rows: Rows, column: str, rule: str, number: int) -> dict[str, float]:
    return {
        row["case"]: float(row[column])
        for row in rows
        if row["rule"] == rule and int(row["round"]) == number
    }


def _difference(own: dict[str, float], other: dict[str, float]) -> str:
    """Return the mean of paired differences and its standard error."""
    pairs = [own[case] - other[case] for case in own if case in other]
    if len(pairs) < 2:
        return f"{statistics.mean(pairs):+.3f}"
    error = statistics.stdev(pairs) / math.sqrt(len(pairs))
    return f"{statistics.mean(pairs):+.3f} ± {error:.3f}"


def rounds_table(rows: Rows) -> str:
    """Return, per round, Dice before and after it, near and far, and the seconds."""
    rounds = sorted({int(row["round"]) for row in rows})
    lines = [
        f"{len({row['case'] for row in rows})} cases",
        "",
        "| round | slices | Dice before, after | difference | > 30 mm away: before, after "
        "| difference (lowest) | adapted anew | seconds, median (most) |",
        "|---" * 8 + "|",
    ]
    for number in rounds:
        own = [row for row in rows if int(row["round"]) == number]
        lines.append(f"| {' | '.join(_round_cells(number, own))} |")
    return "\n".join(lines)


def _round_cells(number: int, own: Rows) -> list[str]:
    mean = _mean_of(own)
    painted = sorted({int(row["painted"]) for row in own})
    seconds = [float(row["seconds"]) for row in own]
    times = f"{statistics.median(seconds):.1f} ({max(seconds):.1f})"
    slices = f"{painted[0]}" if len(painted) == 1 else f"{painted[0]} to {painted[-1]}"
    if not number:
        return [str(number), slices, mean("after"), "", "", "", "", times]
    far = [float(row["far_after"]) - float(row["far_before"]) for row in own if row["far_after"]]
    near = [float(row["after"]) - float(row["before"]) for row in own]
    return [
        str(number),
        slices,
        f"{mean('before')}, {mean('after')}",
        _with_error(near),
        f"{mean('far_before')}, {mean('far_after')}",
        f"{_with_error(far)} ({min(far):+.3f})" if far else "",
        mean("anew"),
        times,
    ]


def _mean_of(rows: Rows) -> Callable[[str], str]:
    def mean(column: str) -> str:
        values = [float(row[column]) for row in rows if row[column]]
        return f"{statistics.mean(values):.3f}" if values else ""

    return mean


def _with_error(values: list[float]) -> str:
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:+.3f}"
    return f"{mean:+.3f} ± {statistics.stdev(values) / math.sqrt(len(values)):.3f}"
