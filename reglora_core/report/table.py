"""A table as texts with marks; `markdown` and `page` write it down. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass

from reglora_core.report.cohort import Spread

NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        is_best: highest of its column and block, of those without gaps.
        is_partial: fits are missing in it.
        verdict: of a claim; the text says why, where that is not the number itself.
    """

    text: str
    is_best: bool = False
    is_partial: bool = False
    verdict: str = ""


@dataclass(frozen=True)
class Row:
    """What stands beside one label."""

    label: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Block:
    """Rows under one heading.

    Attributes:
        is_published: from the papers.
    """

    heading: str
    rows: tuple[Row, ...]
    is_published: bool = False


@dataclass(frozen=True)
class Table:
    """Blocks of rows under one head, and notes below them."""

    title: str
    head: tuple[str, ...]
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not any(block.rows for block in self.blocks)


def spread_cell(own: Spread, form: str) -> Cell:
    """Return mean ± deviation, and (2/3) where two of three numbers are there."""
    gaps = "" if own.is_complete else f" ({own.count}/{own.expected})"
    if math.isnan(own.mean):
        return Cell(f"{NOTHING}{gaps}", is_partial=bool(gaps))
    deviation = "" if math.isnan(own.deviation) else f" ± {own.deviation:{form}}"
    return Cell(f"{own.mean:{form}}{deviation}{gaps}", is_partial=bool(gaps))


def number_cell(value: float, form: str) -> Cell:
    """Return a number, a dash for NaN."""
    return Cell(NOTHING if math.isnan(value) else f"{value:{form}}")
