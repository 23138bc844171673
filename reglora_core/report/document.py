"""A report as a document: what it is of, what is lacking, and tables and pictures in order.

`markdown` and `page` write it down. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from reglora_core.report.fits import Draw, FitKey
from reglora_core.report.folder import StudyFolder, Unused
from reglora_core.report.labels import arm_label, arm_order, organ_label
from reglora_core.report.table import Table


@dataclass(frozen=True)
class Picture:
    """One figure.

    Attributes:
        file: PNG below the report's folder, for light pages and print.
        dark_file: the same for dark pages.
        light, dark: their bytes.
    """

    title: str
    caption: str
    file: str
    dark_file: str
    light: bytes
    dark: bytes


@dataclass(frozen=True)
class Section:
    """The report of one dataset and role."""

    heading: str
    introduction: str
    parts: tuple[Table | Picture, ...]


@dataclass(frozen=True)
class Problem:
    """Something that the reader must know of, with the things concerned by name."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Document:
    title: str
    counts: str
    problems: tuple[Problem, ...]
    sections: tuple[Section, ...]


def counts_of(study: StudyFolder) -> str:
    """Return in one sentence how many fits there are and how many are lacking."""
    expected = sum(len(keys) for keys in study.expected.values())
    source = "" if study.is_planned else " (no plan: every combination that occurs is expected)"
    left_out = (
        f"{len(study.damaged)} damaged, {len(study.doubled)} doubled and {len(study.foreign)} "
        "foreign record files are left out"
    )
    found = f"{len(study.fits)} of {expected} fits{source}"
    return f"{found}, {len(study.missing)} are missing; {left_out}"


def problems_of(study: StudyFolder) -> list[Problem]:
    """Return all that is missing or left out, by name."""
    lists = (
        (f"Missing fits: {len(study.missing)}", missing_lines(study)),
        (f"Damaged records, left out: {len(study.damaged)}", _names(study.damaged)),
        (f"Doubled records, left out: {len(study.doubled)}", _names(study.doubled)),
        (f"Records of another study or other settings, left out: {len(study.foreign)}",
         _names(study.foreign)),
        (f"Not asked for by rule: {len(study.skipped)}", list(study.skipped)),
    )  # fmt: skip
    return [Problem(heading, tuple(lines)) for heading, lines in lists if lines]


def missing_lines(study: StudyFolder) -> list[str]:
    """Return a line per cell of the tables that lacks fits, with the draws that it lacks."""
    cells: dict[tuple[str, FitKey], list[FitKey]] = {}
    for dataset, key in study.missing:
        first = replace(key, draw=Draw(0, 0))  # the cell: all but the draw
        cells.setdefault((dataset, first), []).append(key)
    lines = []
    for dataset, cell in sorted(cells, key=_cell_order):
        keys = cells[dataset, cell]
        draws = ", ".join(f"fold {key.draw.fold} seed {key.draw.seed}" for key in keys)
        every = sum(replace(key, draw=cell.draw) == cell for key in study.expected[dataset])
        lines.append(
            f"{dataset}, {cell.role}: {arm_label(cell.arm)}, {organ_label(cell.organ)}, "
            f"{cell.k}-shot: {len(keys)} of {every} ({draws})"
        )
    return lines


def _cell_order(cell: tuple[str, FitKey]) -> tuple[object, ...]:
    dataset, key = cell
    return dataset, key.role, arm_order(key.arm), key.k, key.kind, key.organ


def _names(unused: Sequence[Unused]) -> list[str]:
    return [str(one) for one in unused]
