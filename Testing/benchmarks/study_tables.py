"""Write the tables of docs/study.md from the fits beside it, so that every figure has its fit.

    reglora bench report study --out report
    python Testing/benchmarks/study_tables.py --report report    # takes the fits from there first
    python Testing/benchmarks/study_tables.py --check            # exit code 1: a table is another

A table stands between `<!-- name -->` and `<!-- end -->`. Mean Dice in percent over the draws and,
in brackets, its standard deviation over them.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "study.md"
ROLES = ("validation", "test")
DECIMALS = {
    "organ": None, "kind": None, "method": None, "initial_rank": None, "k": None, "fold": None,
    "seed": None, "dice_percent": 2, "patients": None, "trainable_parameters": None,
    "surviving_parameters": None, "surviving_rank": None, "pruned_columns_percent": 2,
    "seconds": 0,
}  # fmt: skip
ORGANS = {
    "Brainstem": "brainstem",
    "SpinalCord": "spinal cord",
    "RightParotid": "right parotid",
    "LeftParotid": "left parotid",
    "Mandible": "mandible",
    "Larynx": "larynx",
    "Esophagus": "oesophagus",
}
NOVEL = ("Larynx", "Esophagus")
BASE = tuple(organ for organ in ORGANS if organ not in NOVEL)
MUST_RANKS, MUST_K = (8, 32, 64), 5
OVER_RANKS = ("lora", "arena", "gates", "arena+")
METHODS = (
    "zero-shot", "linear-probe", "bitfit", "spatial-adapter", "decoder-ft", "full-ft", "scratch",
    "lora", "adalora", "sora", "arena", "gates", "arena+",
)  # fmt: skip

Row = dict[str, str]
Table = list[list[str]]


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the tables of docs/study.md.")
    parser.add_argument("--report", type=Path, help="folder of a report, whose fits are taken")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    options = parser.parse_args()
    if options.report:
        for role in ROLES:
            new = shortened(options.report / f"openkbp-{role}" / "fits.csv")
            fits_path(role).write_text(new, encoding="utf-8")
    validation, test = (read_fits(fits_path(role)) for role in ROLES)
    page = PAGE.read_text(encoding="utf-8")
    new = with_tables(page, tables(validation, test))
    if options.check:
        return int(new != page)
    PAGE.write_text(new, encoding="utf-8")
    sys.stdout.write(f"{len(validation)} and {len(test)} fits\n")
    return 0


def fits_path(role: str) -> Path:
    """Return where the fits are kept that were scored on patients of a role."""
    return DOCS / "study" / f"fits_{role}.csv"


def shortened(path: Path) -> str:
    """Return a report's fits.csv with the columns that the tables need, rounded, sorted."""
    kept = []
    for row in read_fits(path):
        cells = []
        for name, decimals in DECIMALS.items():
            is_number = decimals is not None and row[name]
            cells.append(f"{float(row[name]):.{decimals}f}" if is_number else row[name])
        kept.append(",".join(cells))
    return "\n".join([",".join(DECIMALS), *sorted(kept)]) + "\n"


def read_fits(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def tables(rows: Sequence[Row], test: Sequence[Row]) -> dict[str, Table]:
    """Return every table of the page by its name."""
    return {
        "must": _over_ranks(rows),
        "test": _over_ranks(test),
        "columns": _columns(rows),
        "brainstem": _methods_and_shots(rows, "Brainstem"),
        "larynx": _methods_and_shots(rows, "Larynx"),
    }


def with_tables(page: str, own: dict[str, Table]) -> str:
    """Return the page with its tables put in.

    Raises:
        ValueError: the page has no place for one of them.
    """
    for name, table in own.items():
        head, *body = table
        lines = [head, ["---"] * len(head), *body]
        text = "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        page, count = re.subn(pattern, rf"\g<1>{text}\n\g<2>", page, flags=re.DOTALL)
        if count != 1:
            message = f"{PAGE.name} has {count} places for the table {name!r}"
            raise ValueError(message)
    return page


def _over_ranks(rows: Sequence[Row]) -> Table:
    table = [["", "rank", *ORGANS.values(), "base", "novel", "all seven"]]
    for method in (name for name in OVER_RANKS if _chosen(rows, method=name)):
        for rank in MUST_RANKS:
            own = _chosen(rows, method=method, initial_rank=str(rank), k=str(MUST_K))
            line = [_mean(_dice(_chosen(own, organ=organ))) for organ in ORGANS]
            line += [_mean(_over_organs(own, organs)) for organs in (BASE, NOVEL, (*ORGANS,))]
            table.append([_name(method), str(rank), *line])
    return table


def _over_organs(rows: Sequence[Row], organs: Sequence[str]) -> list[float]:
    """Return the mean over organs of each draw that has all of them."""
    draws: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row["organ"] in organs:
            draws[row["fold"]][row["organ"]] = float(row["dice_percent"])
    return [fmean(own.values()) for own in draws.values() if len(own) == len(organs)]


def _columns(rows: Sequence[Row]) -> Table:
    table = [["`arena+`, columns left of", *ORGANS.values()]]
    for rank in MUST_RANKS:
        own = _chosen(rows, method="arena+", initial_rank=str(rank), k=str(MUST_K))
        base, novel = (_initial(_chosen(own, kind=kind)) for kind in ("base", "novel"))
        counts = []
        for organ in ORGANS:
            left = [float(row["surviving_rank"]) for row in _chosen(own, organ=organ)]
            counts.append(f"{fmean(left):.0f}" if left else "")
        table.append([f"{base} ({novel} of novel organs), rank {rank}", *counts])
    return table


def _methods_and_shots(rows: Sequence[Row], organ: str) -> Table:
    shots = ("1", "5", "10")
    table = [["", "trainable", "k = 1", "5", "10", "columns left"]]
    for method in METHODS:
        own = _chosen(rows, organ=organ, method=method)
        ranks = sorted({row["initial_rank"] for row in own}, key=lambda rank: int(rank or 0))
        for rank in ranks:
            arm = _chosen(own, initial_rank=rank)
            cells = [_mean(_dice(_chosen(arm, k=k))) for k in shots]
            name = f"{_name(method)}, rank {rank}" if rank else _name(method)
            size = f"{round(fmean(int(row['trainable_parameters']) for row in arm)):,}"
            table.append([name, size, *cells, _left([_chosen(arm, k=k) for k in shots])])
    return table


def _left(by_shots: Iterable[Sequence[Row]]) -> str:
    """Return the columns left for each k that there is, and of how many."""
    own = [rows for rows in by_shots if rows and rows[0]["surviving_rank"]]
    if not own:
        return ""
    counts = [f"{fmean(float(row['surviving_rank']) for row in rows):.0f}" for rows in own]
    return f"{', '.join(counts)} of {_initial(own[0])}"


def _initial(rows: Sequence[Row]) -> str:
    """Return the columns that fits of one arm started with."""
    if not rows:
        return "?"
    left, pruned = float(rows[0]["surviving_rank"]), float(rows[0]["pruned_columns_percent"])
    return f"{left / (1 - pruned / 100):.0f}" if pruned < 100 else "?"


def _chosen(rows: Iterable[Row], **values: str) -> list[Row]:
    return [row for row in rows if all(row[key] == value for key, value in values.items())]


def _dice(rows: Iterable[Row]) -> list[float]:
    return [float(row["dice_percent"]) for row in rows]


def _mean(numbers: Sequence[float]) -> str:
    if not numbers:
        return ""
    spread = f" ({stdev(numbers):.1f})" if len(numbers) > 1 else ""
    return f"{fmean(numbers):.1f}{spread}"


def _name(method: str) -> str:
    return "`gates` (lambda = 0)" if method == "gates" else f"`{method}`"


if __name__ == "__main__":
    raise SystemExit(main())
