"""The look that all pictures share: light on dark, as on a radiology viewer; charts for print are
dark on light."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253

from reglora_core.writing import write_atomically

BACKGROUND = "#0d1014"
PANEL = "#151a20"
GRID = "#2a313a"
TEXT = "#e9edf1"
MUTED = "#93a0ad"
ACCENT = "#5ab0ff"
# told apart by eye and, as far as eight can be, by readers who are colour-blind
SERIES = ("#5ab0ff", "#ffb454", "#6fd19c", "#f07c8a", "#b99cff", "#e8d96a", "#7fdbe6", "#d9a27f")
DPI = 160

TITLE_POINTS = 13.0
LABEL_POINTS = 9.0
SMALL_POINTS = 7.5


@dataclass(frozen=True)
class Palette:
    """The colours of a chart.

    Attributes:
        series: one a line or bar, told apart as in `SERIES`.
        ramp: matplotlib's colour map for amounts, from the panel's colour upwards.
    """

    background: str
    panel: str
    grid: str
    text: str
    muted: str
    series: tuple[str, ...]
    ramp: str


DARK = Palette(BACKGROUND, PANEL, GRID, TEXT, MUTED, SERIES, "viridis")
LIGHT = Palette(
    "#ffffff",
    "#f7f8fa",
    "#dfe3e8",
    "#14181d",
    "#56616d",
    ("#1667b7", "#c76b00", "#17804f", "#c52f44", "#7446c9", "#8a7a00", "#0b8793", "#8b5a2b"),
    "viridis_r",
)


def new_figure(width_inches: float, height_inches: float, palette: Palette = DARK) -> Figure:
    """Return an empty figure."""
    return Figure(figsize=(width_inches, height_inches), dpi=DPI, facecolor=palette.background)


def style_chart(axes: Axes, palette: Palette = DARK) -> None:
    """Make a chart's axes quiet: a panel, pale ticks, lines behind the data."""
    axes.set_facecolor(palette.panel)
    axes.set_axisbelow(True)
    axes.tick_params(colors=palette.muted, labelsize=SMALL_POINTS + 0.5, length=0)
    axes.xaxis.label.set_color(palette.muted)
    axes.yaxis.label.set_color(palette.muted)
    axes.xaxis.label.set_fontsize(LABEL_POINTS)
    axes.yaxis.label.set_fontsize(LABEL_POINTS)
    for spine in axes.spines.values():
        spine.set_visible(False)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG file, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_atomically(path, lambda temporary: figure.savefig(temporary, format="png", dpi=DPI))
