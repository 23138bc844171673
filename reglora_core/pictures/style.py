"""The look that all pictures share: light on dark, as on a radiology viewer."""

from __future__ import annotations

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


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """Return an empty dark figure."""
    return Figure(figsize=(width_inches, height_inches), dpi=DPI, facecolor=BACKGROUND)


def style_chart(axes: Axes) -> None:
    """Make a chart's axes quiet: a panel, pale ticks, lines behind the data."""
    axes.set_facecolor(PANEL)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=SMALL_POINTS + 0.5, length=0)
    axes.xaxis.label.set_color(MUTED)
    axes.yaxis.label.set_color(MUTED)
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
