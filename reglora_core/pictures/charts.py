"""Several methods side by side, organ by organ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np  # noqa: TID253
from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253

from reglora_core.pictures.style import (
    GRID,
    LABEL_POINTS,
    SERIES,
    SMALL_POINTS,
    TEXT,
    TITLE_POINTS,
    new_figure,
    style_chart,
)

BARS_WIDTH = 0.8  # of the room that an organ has
MAX_BAR_WIDTH = 0.45
MAX_METHODS = len(SERIES)


@dataclass(frozen=True)
class MethodDice:
    """What one method reached.

    Attributes:
        method: its name.
        dice: by organ; NaN or missing where there is none.
        seconds: how long it took, if known.
    """

    method: str
    dice: Mapping[str, float]
    seconds: float | None = None

    @property
    def mean(self) -> float:
        """The mean over the organs that have a number."""
        known = [dice for dice in self.dice.values() if not math.isnan(dice)]
        return sum(known) / len(known) if known else math.nan

    @property
    def label(self) -> str:
        time = "" if self.seconds is None else f"  ({_duration(self.seconds)})"
        return f"{self.method}{time}"


def draw_comparison(rows: Sequence[MethodDice], title: str = "Dice by organ") -> Figure:
    """Draw a bar per method for every organ and, set apart, for the mean, with its number.

    Args:
        rows: one a method, at least one and at most eight.
        title: what is compared.
    """
    assert 0 < len(rows) <= MAX_METHODS, "one colour a method"
    organs = list(dict.fromkeys(organ for row in rows for organ in row.dice))
    width = max(7.0, 2.2 + 0.85 * (len(organs) + 1))
    figure = new_figure(width, 4.2)
    axes = figure.add_axes((0.75 / width, 0.22, 1 - 1.0 / width, 0.59))
    style_chart(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    # the mean stands apart, half a group to the right
    groups = np.array([*range(len(organs)), len(organs) + 0.5])
    bar = min(MAX_BAR_WIDTH, BARS_WIDTH / len(rows))
    for number, (row, color) in enumerate(zip(rows, SERIES, strict=False)):
        heights = [row.dice.get(organ, math.nan) for organ in organs] + [row.mean]
        places = groups + (number - (len(rows) - 1) / 2) * bar
        axes.bar(places, np.nan_to_num(heights), 0.88 * bar, color=color, label=row.label)
        _write_mean(axes, float(places[-1]), row.mean, len(rows))
    axes.axvline(len(organs) - 0.25, color=GRID, linewidth=1.0)
    names = [organ.replace("_", " ") for organ in organs]
    axes.set_xticks(groups, [*names, "mean"], rotation=30, ha="right", rotation_mode="anchor")
    axes.get_xticklabels()[-1].set(color=TEXT, fontweight="bold")
    axes.set_xlim(-0.6, groups[-1] + 0.7)
    axes.set_ylim(0.0, 1.0)
    axes.set_ylabel("Dice")
    figure.text(
        0.25 / width, 0.96, title, color=TEXT, fontsize=TITLE_POINTS, fontweight="bold", va="top"
    )
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.01),
        ncols=min(4, len(rows)),
        frameon=False,
        labelcolor=TEXT,
        fontsize=LABEL_POINTS - 0.5,
        borderaxespad=0.0,
        handlelength=1.0,
        handleheight=1.0,
    )
    return figure


def _write_mean(axes: Axes, x: float, mean: float, count: int) -> None:
    if math.isnan(mean):
        return
    points = SMALL_POINTS - 0.5 * max(0, count - 2)
    axes.text(x, mean + 0.012, f"{mean:.2f}", color=TEXT, fontsize=points, ha="center", va="bottom")


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
