"""What the figures of a report share: marks of methods, panels, headings, the legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253
from matplotlib.lines import Line2D  # noqa: TID253
from matplotlib.patheffects import AbstractPathEffect, withStroke  # noqa: TID253

from reglora_core.pictures.style import (
    LABEL_POINTS,
    SMALL_POINTS,
    TITLE_POINTS,
    Palette,
    new_figure,
    style_chart,
)
from reglora_core.report.cohort import Cohort
from reglora_core.report.fits import Kind
from reglora_core.report.labels import OURS, arm_order, method_label

PANEL_WIDTH, PANEL_HEIGHT = 2.9, 2.35  # inches
LEFT, RIGHT, BOTTOM, HEADER = 0.65, 0.25, 0.55, 0.62
GAP_ACROSS, GAP_DOWN = 0.7, 0.72
LEGEND_ROW = 0.2
LEGEND_COLUMN = 1.75
MIN_SPAN_POINTS = 4.0  # of a Dice axis, so that noise does not look like an effect

# the same colour and mark for a method in every figure; marks tell apart what shares a colour
MARKS = {
    "arena+": (0, "o"),
    "arena": (1, "s"),
    "gates": (2, "D"),
    "lora": (3, "^"),
    "sora": (4, "v"),
    "adalora": (5, "P"),
    "adaptformer": (6, "X"),
    "spatial-adapter": (7, "p"),
    "bitfit": (6, "<"),
    "affine-ln": (7, ">"),
    "linear-probe": (4, "*"),
    "decoder-ft": (2, "h"),
    "full-ft": (3, "8"),
    "scratch": (5, "d"),
    "zero-shot": (1, "_"),
}


@dataclass(frozen=True)
class Panel:
    """One of the small charts: the organs and shots that it is of."""

    axes: Axes
    kind: Kind
    k: int


def color_of(method: str, palette: Palette) -> str:
    """Return a method's colour; grey for one that has none of its own."""
    number = MARKS.get(method, (None, ""))[0]
    return palette.muted if number is None else palette.series[number]


def mark_of(method: str, palette: Palette) -> dict[str, Any]:
    """Return how matplotlib draws a method; ours is in front and larger."""
    is_ours = method == OURS
    return {
        "color": color_of(method, palette),
        "marker": MARKS.get(method, (0, "."))[1],
        "markersize": 6.0 if is_ours else 4.8,
        "linewidth": 2.0 if is_ours else 1.2,
        "zorder": 4 if is_ours else 3,
    }


def panels(
    cohort: Cohort, methods: Sequence[str], title: str, palette: Palette, extra_columns: int = 0
) -> tuple[Figure, list[Panel], list[Axes]]:
    """Return a figure of panels, a row per kind of organ and a column per k, with its legend.

    With one k alone the kinds stand side by side.

    Args:
        methods: named in the legend.
        extra_columns: more axes at the end of the first row.

    Returns:
        The figure, its panels, and the extra axes.
    """
    rows, columns = len(cohort.kinds), len(cohort.shots)
    if columns == 1:
        rows, columns = 1, rows
    width = LEFT + (columns + extra_columns) * (PANEL_WIDTH + GAP_ACROSS) - GAP_ACROSS + RIGHT
    width = max(width, 6.2)
    across = max(1, int((width - LEFT) / LEGEND_COLUMN))
    header = HEADER + LEGEND_ROW * -(-len(methods) // across)
    height = header + rows * (PANEL_HEIGHT + GAP_DOWN) - GAP_DOWN + BOTTOM
    figure = new_figure(width, height, palette)
    write_title(figure, title, palette)
    _write_legend(figure, methods, across, palette)

    def add(row: int, column: int) -> Axes:
        left = LEFT + column * (PANEL_WIDTH + GAP_ACROSS)
        bottom = height - header - row * (PANEL_HEIGHT + GAP_DOWN) - PANEL_HEIGHT
        box = (left / width, bottom / height, PANEL_WIDTH / width, PANEL_HEIGHT / height)
        axes = figure.add_axes(box)
        style_chart(axes, palette)
        axes.tick_params(which="minor", length=0)
        axes.grid(axis="y", color=palette.grid, linewidth=0.6)
        return axes

    whole = [(kind, k) for kind in cohort.kinds for k in cohort.shots]
    own = [Panel(add(*divmod(place, columns)), *one) for place, one in enumerate(whole)]
    for panel in own:
        name_panel(panel.axes, f"{panel.kind} organs, {panel.k}-shot", palette)
    return figure, own, [add(0, columns + number) for number in range(extra_columns)]


def name_panel(axes: Axes, name: str, palette: Palette) -> None:
    """Write a panel's name above it."""
    axes.set_title(name, loc="left", color=palette.text, fontsize=LABEL_POINTS, pad=5)


def halo(palette: Palette) -> list[AbstractPathEffect]:
    """Return what keeps small text readable on lines."""
    return [withStroke(linewidth=2.2, foreground=palette.panel)]


def write_title(figure: Figure, title: str, palette: Palette) -> None:
    """Write a figure's title at its top left."""
    width, height = figure.get_size_inches()
    figure.text(
        0.2 / width,
        1 - 0.14 / height,
        title,
        color=palette.text,
        fontsize=TITLE_POINTS - 1.5,
        fontweight="bold",
        va="top",
    )


def mark_empty(panel: Panel, palette: Palette) -> None:
    """Say in a panel without data that there is none yet."""
    if panel.axes.has_data():
        return
    panel.axes.text(
        0.5,
        0.5,
        "no finished fits",
        ha="center",
        va="center",
        transform=panel.axes.transAxes,
        color=palette.muted,
        fontsize=LABEL_POINTS,
    )
    panel.axes.grid(visible=False)
    panel.axes.set_xticks([])
    panel.axes.set_yticks([])


def fitted_methods(cohort: Cohort) -> list[str]:
    """Return methods that have a finished fit, in the order of the tables."""
    arms = sorted({fit.key.arm for fit in cohort.fits}, key=arm_order)
    return list(dict.fromkeys(arm.method for arm in arms))


def share_dice_axes(own: Sequence[Panel]) -> None:
    """Give the panels of one kind of organs the same Dice axis, in points, wide enough."""
    for kind in dict.fromkeys(panel.kind for panel in own):
        same = [panel.axes for panel in own if panel.kind == kind]
        limits = [axes.get_ylim() for axes in same if axes.has_data()]
        low = min((low for low, _ in limits), default=0.0)
        high = max((high for _, high in limits), default=100.0)
        middle, span = (low + high) / 2, max(high - low, MIN_SPAN_POINTS)
        for axes in same:
            axes.set_ylim(max(0.0, middle - span / 2), middle + span / 2)


def _write_legend(figure: Figure, methods: Sequence[str], across: int, palette: Palette) -> None:
    width, height = figure.get_size_inches()
    handles = [
        Line2D([], [], label=method_label(method), **mark_of(method, palette)) for method in methods
    ]
    if not handles:
        return
    figure.legend(
        handles=list(_by_row(handles, across)),
        loc="upper left",
        bbox_to_anchor=(0.14 / width, 1 - 0.36 / height),
        ncols=across,
        frameon=False,
        labelcolor=palette.text,
        fontsize=SMALL_POINTS + 0.5,
        borderaxespad=0.0,
        handlelength=1.6,
        columnspacing=1.4,
        labelspacing=0.3,
    )


def _by_row(handles: Sequence[Line2D], across: int) -> Iterator[Line2D]:
    """Yield handles so that a legend, which fills columns first, reads along its rows."""
    for column in range(across):
        yield from handles[column::across]
