"""Pictures of the cases that went worst: prediction above, reference below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accuracy.job import IN_SCAN, Job
from accuracy.methods import GROW, OURS
from accuracy.plan import NEXT_SLICES
from accuracy.pool import Store
from accuracy.records import Record, Row, case_means
from accuracy.scoring import Bench
from reglora_core import pictures

PICTURES = 6  # of each of the two lists

Case = tuple[float, str]  # what makes it bad, and the name of its job


def draw_worst(rows: Sequence[Row], records: Sequence[Record], store: Store) -> list[str]:
    """Write the pictures; return a line of Markdown about each."""
    by_job = {Job.from_dict(record["job"]).name: record for record in records}
    in_scan = [row for row in rows if row.role == IN_SCAN]
    lists = (
        ("lowest", lowest(in_scan), "mean Dice {:.3f}"),
        ("behind", behind(in_scan), "{:+.3f} against Grow from seeds"),
    )
    folder = store.out / "worst"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    lines = []
    for name, cases, what in lists:
        for place, (value, job) in enumerate(cases[:PICTURES], start=1):
            path = folder / f"{name}_{place}.png"
            _draw(by_job[job], store, path)
            case = Job.from_dict(by_job[job]["job"])
            title = f"{case.case}, {case.axis}, n = {case.slices}: {what.format(value)}"
            lines.append(f"{title}\n\n![{title}](worst/{path.name})")
    return lines


def lowest(rows: Sequence[Row]) -> list[Case]:
    """Return the cases of five axial slices by their mean Dice, the lowest first."""
    own = [row for row in rows if (row.slices, row.axis) == (NEXT_SLICES, "axial")]
    jobs = {row.case: row.job for row in own if row.method == OURS}
    means = [methods[OURS] for methods in case_means(own).values() if OURS in methods]
    return sorted((dice, jobs[case]) for every in means for case, dice in every.items())


def behind(rows: Sequence[Row]) -> list[Case]:
    """Return the cases that are behind Grow from seeds, the farthest first."""
    jobs = {(row.group, row.case): row.job for row in rows if row.method == OURS}
    found = []
    for group, methods in case_means(rows).items():
        for case, dice in methods.get(OURS, {}).items():
            other = methods.get(GROW, {}).get(case)
            if other is not None and dice < other:
                found.append((dice - other, jobs[group, case]))
    return sorted(found)


def _draw(record: Record, store: Store, path: Path) -> None:
    job = Job.from_dict(record["job"])
    bench, file = Bench.of(job.scans[0], job), store.prediction(job)
    assert bench.paint is not None
    figure = pictures.draw_result(
        bench.image,
        bench.read(file),
        bench.reference,
        bench.evaluation(file),
        (bench.paint.axis, bench.paint.slices),
    )
    pictures.save(figure, path)
