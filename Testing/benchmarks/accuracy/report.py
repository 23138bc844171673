"""Everything that a run leaves behind for people: tables, charts, pictures."""

from __future__ import annotations

from pathlib import Path

from accuracy.figures import draw_dice_against_slices, draw_differences, draw_estimates
from accuracy.job import IN_SCAN
from accuracy.plan import Plan
from accuracy.pool import Store
from accuracy.records import Row, read_records, rows_of, write_csv, write_rows
from accuracy.tables import COLUMNS, summary_lines, summary_text
from accuracy.worst import draw_worst
from reglora_core.errors import InputError
from reglora_core.pictures import save
from reglora_core.writing import write_text

FIGURES = {
    "dice_against_slices.png": draw_dice_against_slices,
    "differences.png": draw_differences,
    "estimates.png": draw_estimates,
}


def write_report(plan: Plan, store: Store) -> Path:
    """Write results.csv, summary.csv, summary.md and the pictures; return the path of the page.

    Raises:
        InputError: no job of the plan is finished.
    """
    records = read_records(plan.jobs, store)
    rows = [row for record in records for row in rows_of(record)]
    if not rows:
        message = f"{store.out}: no job is finished"
        raise InputError(message, "see its folder 'failed'")
    missing = len(plan.jobs) - len(records)
    unfinished = [f"{missing} of {len(plan.jobs)} jobs are not finished."] if missing else []
    write_rows(store.out / "results.csv", rows)
    write_csv(store.out / "summary.csv", COLUMNS, summary_lines(rows))
    charts = _draw_charts(rows, store.out)
    worst = draw_worst(rows, records, store)
    text = summary_text(rows, records, [*unfinished, *plan.remarks])
    if worst:
        text += "\n\n".join(["\n## The worst cases", *worst]) + "\n"
    page = store.out / "summary.md"
    write_text(page, text + charts)
    return page


def _draw_charts(rows: list[Row], out: Path) -> str:
    in_scan = [row for row in rows if row.role == IN_SCAN]
    if not in_scan:
        return ""
    for name, draw in FIGURES.items():
        save(draw(in_scan), out / name)
    return "\n## Charts\n\n" + "\n\n".join(f"![{name}]({name})" for name in FIGURES) + "\n"
