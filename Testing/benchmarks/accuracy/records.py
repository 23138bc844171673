"""What finished jobs have measured, as rows: one per case, organ and method."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from accuracy.job import Job
from accuracy.methods import OURS
from accuracy.pool import Store
from reglora_core.writing import write_text

Record = dict[str, Any]


class Group(NamedTuple):
    """Cases that one line of a table is about."""

    role: str
    label: str
    kind: str
    axis: str
    slices: int


@dataclass(frozen=True)
class Row:
    """One organ of one case by one method; its fields are the columns of results.csv.

    Attributes:
        role: in-scan, or next for a scan of which nothing was painted.
        label: for next, what the adapter was fitted to.
        case, kind, is_seen: the scan, and whether the base network was trained on it.
        axis, slices: direction and number of painted slices (for next: left out of the score).
        organ, method: as named.
        dice, hd95_mm, surface_dice: off those slices; see reglora_core.agreement.
        reference_voxels: of the organ, off those slices.
        painted_on: how many painted slices show the organ; 0: nobody could know of it.
        expected_dice, expected_low, expected_high, is_doubtful, held_out_dice: what ours says of
            itself (report.json).
        is_adapted: whether the low-rank update was kept.
        seconds, peak_mb: of the whole case by that method.
        job: name of its record.
    """

    role: str
    label: str
    case: str
    kind: str
    is_seen: bool
    axis: str
    slices: int
    organ: str
    method: str
    dice: float
    hd95_mm: float | None
    surface_dice: float | None
    reference_voxels: int
    painted_on: int | None
    expected_dice: float | None
    expected_low: float | None
    expected_high: float | None
    is_doubtful: bool | None
    held_out_dice: float | None
    is_adapted: bool | None
    seconds: float | None
    peak_mb: float | None
    job: str

    @property
    def group(self) -> Group:
        return Group(self.role, self.label, self.kind, self.axis, self.slices)


def read_records(jobs: Iterable[Job], store: Store) -> list[Record]:
    """Return the records of the finished ones."""
    return [
        json.loads(store.record(job).read_text(encoding="utf-8"))
        for job in jobs
        if store.is_finished(job)
    ]


def rows_of(record: Record) -> list[Row]:
    """Return the rows of one job; organs without a voxel to score have none."""
    job = Job.from_dict(record["job"])
    scan = job.scans[0]
    says = {own["name"]: own for own in record.get("report", {}).get("organs", [])}
    paint = record["paint"][0]["slices_of_organs"] if record["paint"] else None
    rows = []
    for result in record["results"]:
        is_ours = result["method"] == OURS
        for organ in result["organs"]:
            if not organ["reference_voxels"]:
                continue
            name = organ["name"]
            row = Row(
                role=job.role,
                label=job.label,
                case=scan.name,
                kind=scan.kind,
                is_seen=scan.is_seen,
                axis=job.axis,
                slices=job.slices,
                organ=name,
                method=result["method"],
                dice=organ["dice"],
                hd95_mm=organ.get("hd95_mm"),
                surface_dice=organ.get("surface_dice"),
                reference_voxels=organ["reference_voxels"],
                painted_on=None if paint is None else paint.get(name, 0),
                **(_said(says.get(name)) if is_ours else _said(None)),
                is_adapted=record.get("is_adapted") if is_ours else None,
                seconds=result.get("seconds"),
                peak_mb=result.get("peak_mb"),
                job=job.name,
            )
            rows.append(row)
    return rows


def _said(organ: Record | None) -> dict[str, Any]:
    """Return what a run says of an organ itself; everything is None where it says nothing."""
    own = organ or {}
    low, high = own.get("expected_range") or (None, None)
    return {
        "expected_dice": own.get("expected_dice"),
        "expected_low": low,
        "expected_high": high,
        "is_doubtful": own.get("is_doubtful"),
        "held_out_dice": own.get("held_out_dice"),
    }


Means = dict[str, dict[str, float]]  # by method, then by case


def case_means(rows: Iterable[Row]) -> dict[Group, Means]:
    """Return the mean over the organs of every case; adapters of one label are averaged."""
    dice: dict[Group, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for row in rows:
        dice[row.group][row.method][row.case].append(row.dice)
    return {
        group: {
            method: {case: statistics.mean(every) for case, every in cases.items()}
            for method, cases in methods.items()
        }
        for group, methods in dice.items()
    }


def organ_means(rows: Iterable[Row]) -> dict[str, float]:
    """Return the mean of every organ over the cases that have it."""
    dice = defaultdict(list)
    for row in rows:
        dice[row.organ].append(row.dice)
    return {organ: statistics.mean(every) for organ, every in dice.items()}


def spread(values: Iterable[float]) -> float:
    """Return the standard deviation of a sample; 0 of a single value."""
    every = list(values)
    return statistics.stdev(every) if len(every) > 1 else 0.0


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    write_csv(path, [field.name for field in fields(Row)], [asdict(row) for row in rows])


def write_csv(path: Path, columns: Sequence[str], lines: Sequence[dict[str, Any]]) -> None:
    """Write a table; what is not known is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, text.getvalue())
