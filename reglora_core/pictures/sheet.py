"""A sheet: rows of slices on one scale, a title above them and the legend beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253
from matplotlib.patches import Rectangle  # noqa: TID253

from reglora_core.pictures.style import (
    GRID,
    LABEL_POINTS,
    MUTED,
    SMALL_POINTS,
    TEXT,
    TITLE_POINTS,
    new_figure,
)
from reglora_core.pictures.tile import Tile

MARGIN = 0.25  # inches, as all of these
GAP = 0.10
HEADER = 0.50
CAPTION = 0.26
ROW_NAME = 0.22
LEGEND = 2.6
LINE = 0.27
COLUMN = 1.75  # of a legend below the tiles

Color = tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """Slices side by side, with a name at their left that may be empty."""

    name: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Entry:
    """One line of the legend: an organ (or, without a colour, a summary) and perhaps its Dice."""

    name: str
    color: Color | None
    dice: float | None = None

    @property
    def number(self) -> str:
        if self.dice is None:
            return ""
        return "–" if math.isnan(self.dice) else f"{self.dice:.2f}"  # noqa: RUF001


@dataclass(frozen=True)
class Layout:
    """Where the tiles lie, in inches.

    Attributes:
        inches_per_mm: one scale for all tiles.
        widths: of the columns.
        heights: of the rows, without their captions.
        left: where the first column begins.
    """

    inches_per_mm: float
    widths: tuple[float, ...]
    heights: tuple[float, ...]
    left: float

    @classmethod
    def of(cls, rows: Sequence[Row], longest_inches: float) -> Layout:
        longest_mm = max(max(tile.size_mm) for row in rows for tile in row.tiles)
        scale = longest_inches / longest_mm
        columns = max(len(row.tiles) for row in rows)
        widths = tuple(
            max(row.tiles[k].size_mm[1] for row in rows if k < len(row.tiles)) * scale
            for k in range(columns)
        )
        heights = tuple(max(tile.size_mm[0] for tile in row.tiles) * scale for row in rows)
        left = MARGIN + (ROW_NAME if any(row.name for row in rows) else 0.0)
        return cls(scale, widths, heights, left)

    @property
    def right(self) -> float:
        return self.left + sum(self.widths) + GAP * (len(self.widths) - 1)

    @property
    def bottom(self) -> float:
        return self.top(len(self.heights)) - CAPTION

    def top(self, row: int) -> float:
        """Return where a row's tiles begin, below the captions."""
        return HEADER + CAPTION + sum(self.heights[:row]) + (CAPTION + GAP) * row

    def rectangle(self, row: int, column: int, tile: Tile) -> tuple[float, float, float, float]:
        """Return left, top, width and height of a tile, in the middle of its cell."""
        height, width = (mm * self.inches_per_mm for mm in tile.size_mm)
        x = self.left + sum(self.widths[:column]) + GAP * column
        y = self.top(row)
        spare = (self.widths[column] - width, self.heights[row] - height)
        return x + spare[0] / 2, y + spare[1] / 2, width, height


@dataclass(frozen=True)
class Legend:
    """Where the legend lies, in inches: in one column beside the tiles, or in several below."""

    x: float
    y: float
    columns: int
    lines: int
    figure_width: float
    figure_height: float

    @classmethod
    def beside(cls, layout: Layout, entries: Sequence[Entry]) -> Legend:
        """Place it beside the tiles if it has numbers, or is no higher than they are."""
        y = HEADER + CAPTION
        height = LINE * (len(entries) + 0.5)
        if y + height <= layout.bottom or any(entry.dice is not None for entry in entries):
            return cls(
                layout.right + MARGIN,
                y,
                1,
                len(entries),
                layout.right + MARGIN + LEGEND,
                max(layout.bottom, y + height) + MARGIN,
            )
        width = max(layout.right + MARGIN, layout.left + LEGEND)
        columns = max(1, int((width - layout.left) / COLUMN))
        lines = math.ceil(len(entries) / columns)
        y = layout.bottom + MARGIN / 2
        return cls(layout.left, y, columns, lines, width, y + LINE * (lines + 0.5) + MARGIN / 2)


def draw_sheet(
    title: str, rows: Sequence[Row], entries: Sequence[Entry], longest_inches: float
) -> Figure:
    """Draw rows of slices and a legend; the longest side of a slice is that many inches."""
    layout = Layout.of(rows, longest_inches)
    legend = Legend.beside(layout, entries)
    figure = new_figure(legend.figure_width, legend.figure_height)
    _write(figure, title, (layout.left, HEADER / 2 + 0.06), TITLE_POINTS, TEXT)
    for number, row in enumerate(rows):
        for column, tile in enumerate(row.tiles):
            axes = _add_axes(figure, *layout.rectangle(number, column, tile))
            tile.draw(axes, has_scale_bar=number == 0 and column == 0)
        if row.name:
            middle = layout.top(number) + layout.heights[number] / 2
            _write(figure, row.name, (MARGIN, middle), LABEL_POINTS, TEXT, rotation=90)
    _draw_legend(figure, legend, entries)
    return figure


def _draw_legend(figure: Figure, legend: Legend, entries: Sequence[Entry]) -> None:
    """Draw one line an entry: colour, name and, if there is a Dice, a bar with its number."""
    width = LEGEND - MARGIN if legend.columns == 1 else COLUMN * legend.columns
    height = LINE * (legend.lines + 0.5)
    axes = _add_axes(figure, legend.x, legend.y, width, height)
    axes.set_gid("legend")
    axes.set_xlim(0.0, width)
    axes.set_ylim(height, 0.0)
    axes.set_axis_off()
    for number, entry in enumerate(entries):
        column, line = divmod(number, legend.lines)
        is_summary = entry.color is None
        if is_summary:
            axes.axhline(LINE * (line + 0.25), color=GRID, linewidth=0.8)
        _draw_entry(axes, entry, (COLUMN * column, LINE * (line + (1.0 if is_summary else 0.5))))


def _draw_entry(axes: Axes, entry: Entry, place: tuple[float, float]) -> None:
    x, y = place
    if entry.color is not None:
        swatch = Rectangle(
            (x, y - 0.065), 0.13, 0.13, facecolor=(*entry.color, 0.7), edgecolor=entry.color
        )
        axes.add_patch(swatch)
    name = entry.name.replace("_", " ")
    axes.text(x + 0.22, y, name, color=TEXT, fontsize=LABEL_POINTS, va="center")
    if entry.dice is None:
        return
    right, start, length = LEGEND - MARGIN, LEGEND - MARGIN - 0.85, 0.50
    axes.text(right, y, entry.number, color=TEXT, fontsize=LABEL_POINTS, va="center", ha="right")
    axes.add_patch(Rectangle((start, y - 0.03), length, 0.06, facecolor=GRID))
    filled = 0.0 if math.isnan(entry.dice) else entry.dice * length
    axes.add_patch(Rectangle((start, y - 0.03), filled, 0.06, facecolor=entry.color or MUTED))


def _add_axes(figure: Figure, x: float, y: float, width: float, height: float) -> Axes:
    """Add axes at a place in inches from the figure's top left corner."""
    wide, tall = figure.get_size_inches()
    return figure.add_axes((x / wide, 1.0 - (y + height) / tall, width / wide, height / tall))


def _write(
    figure: Figure,
    text: str,
    place: tuple[float, float],
    points: float,
    color: str,
    rotation: float = 0.0,
) -> None:
    """Write text that begins at a place in inches from the top left corner (or is centred on it
    if it is rotated)."""
    wide, tall = figure.get_size_inches()
    figure.text(
        place[0] / wide,
        1.0 - place[1] / tall,
        text,
        color=color,
        fontsize=points,
        fontweight="bold" if points > SMALL_POINTS else "normal",
        va="center",
        ha="center" if rotation else "left",
        rotation=rotation,
    )
