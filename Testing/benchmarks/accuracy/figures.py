"""Charts of a run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure  # noqa: TID253

from accuracy.methods import FILL, GROW, OURS
from accuracy.pairs import pairs_of
from accuracy.plan import AXES
from accuracy.records import Row, case_means, organ_means, spread
from accuracy.scans import KINDS
from accuracy.tables import by_group
from reglora_core.pictures.style import (
    GRID,
    LABEL_POINTS,
    MUTED,
    SERIES,
    SMALL_POINTS,
    TEXT,
    TITLE_POINTS,
    new_figure,
    style_chart,
)

METHODS = (OURS, GROW, FILL)
MAX_COLUMNS = 3


def draw_dice_against_slices(rows: Sequence[Row]) -> Figure:
    """Draw a panel per kind of scan and direction: mean Dice against n, with its spread."""
    panels = list(dict.fromkeys((own.kind, own.axis) for own in by_group(rows)))
    columns = min(MAX_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    figure = new_figure(1.0 + 3.4 * columns, 1.0 + 3.0 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (kind, axis) in zip(grid.flat, panels, strict=False):
        own = [row for row in rows if (row.kind, row.axis) == (kind, axis)]
        _draw_panel(axes, own)
        cases = len({row.case for row in own})
        _title(axes, f"{kind}, {axis} ({cases} case{'s' if cases > 1 else ''})")
    _legend(grid.flat[0])
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    _heading(figure, "Dice off the painted slices; band: ± standard deviation")
    return figure


def _draw_panel(axes: Any, rows: Sequence[Row]) -> None:
    _style(axes)
    for method, color in zip(METHODS, SERIES, strict=False):
        own = [row for row in rows if row.method == method]
        counts = sorted({row.slices for row in own})
        values = [_values([row for row in own if row.slices == count]) for count in counts]
        means = [statistics.mean(every) for every in values]
        low = [max(0, mean - spread(every)) for mean, every in zip(means, values, strict=True)]
        high = [min(1, mean + spread(every)) for mean, every in zip(means, values, strict=True)]
        axes.plot(counts, means, marker="o", markersize=4, color=color, label=method)
        if len(counts) > 1:
            axes.fill_between(counts, low, high, color=color, alpha=0.15, linewidth=0)
        elif counts:
            axes.vlines(counts, low, high, color=color, alpha=0.5)
    axes.set_xticks(sorted({row.slices for row in rows}))
    axes.set_ylim(0, 1)
    axes.set_xlabel("painted slices")


def _values(rows: Sequence[Row]) -> list[float]:
    """Return the means of the cases, or of the organs of a single one."""
    means = [mean for methods in case_means(rows).values() for mean in methods.values()]
    cases = [value for every in means for value in every.values()]
    return cases if len(cases) > 1 else list(organ_means(rows).values())


def draw_estimates(rows: Sequence[Row]) -> Figure:
    """Draw what a run says of each organ against what is true."""
    figure = new_figure(6.4, 6.0)
    axes = figure.add_axes((0.12, 0.11, 0.84, 0.78))
    _style(axes)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
    for kind, color in zip(KINDS, SERIES, strict=False):
        own = [
            row
            for row in rows
            if row.kind == kind and row.method == OURS and row.expected_dice is not None
        ]
        if own:
            said, true = [row.expected_dice for row in own], [row.dice for row in own]
            label = f"{kind} ({len(own)})"
            axes.scatter(said, true, s=9, color=color, alpha=0.6, linewidths=0, label=label)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("expected Dice that the run reports")
    axes.set_ylabel("Dice off the painted slices")
    if axes.get_legend_handles_labels()[0]:
        _legend(axes, "lower right")
    _heading(figure, "Predicted against true, one point an organ of a case")
    return figure


def draw_differences(rows: Sequence[Row]) -> Figure:
    """Draw boxes of ours minus Grow from seeds, axial painting, per kind of scan and n."""
    boxes = []
    for group, own in by_group(row for row in rows if row.axis == AXES[0]).items():
        pairs = pairs_of(own, OURS, GROW)
        if pairs is not None:
            boxes.append((f"{group.kind}\nn = {group.slices}\n({pairs.of})", pairs.differences))
    figure = new_figure(max(6.0, 1.5 + 0.95 * len(boxes)), 5.0)
    axes = figure.add_axes(
        (0.9 / figure.get_figwidth(), 0.2, 1 - 1.2 / figure.get_figwidth(), 0.68)
    )
    _style(axes)
    axes.axhline(0, color=MUTED, linewidth=1)
    if boxes:
        labels, differences = zip(*boxes, strict=True)
        line = {"color": SERIES[0]}
        axes.boxplot(
            differences,
            tick_labels=labels,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={"color": TEXT},
            flierprops={"marker": ""},
        )
        for place, values in enumerate(differences, start=1):
            axes.scatter([place] * len(values), values, s=8, color=SERIES[1], alpha=0.7, zorder=3)
    axes.set_ylabel("Dice, ours - Grow from seeds")
    _heading(figure, "Paired differences, axial painting; above 0 ours is better")
    return figure


def _style(axes: Any) -> None:
    style_chart(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.tick_params(labelcolor=MUTED)


def _title(axes: Any, text: str) -> None:
    axes.set_title(text, color=TEXT, fontsize=LABEL_POINTS, loc="left")


def _legend(axes: Any, place: str = "lower right") -> None:
    axes.legend(frameon=False, labelcolor=TEXT, fontsize=SMALL_POINTS, loc=place)


def _heading(figure: Figure, text: str) -> None:
    figure.text(
        0.02, 0.975, text, color=TEXT, fontsize=TITLE_POINTS - 2, fontweight="bold", va="top"
    )
