"""Surviving rank per layer and organ: one map per initial rank, all on one scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np  # noqa: TID253
from matplotlib import colormaps  # noqa: TID253
from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.colors import Normalize  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.pictures.style import LABEL_POINTS, SMALL_POINTS, Palette, new_figure
from reglora_core.report.cohort import Cohort
from reglora_core.report.figures import name_panel, write_title
from reglora_core.report.fits import Arm
from reglora_core.report.labels import layer_label, method_label, organ_label

CELL_WIDTH, CELL_HEIGHT = 0.5, 0.21  # inches
NAMES_PER_LETTER = 0.062
TOP, BOTTOM, GAP, SCALE = 0.78, 0.85, 0.3, 0.95
MAX_NUMBERED = 1200  # cells with a number in them
Map = NDArray[Any]


def draw_heat_map(cohort: Cohort, method: str, k: int, palette: Palette) -> Figure | None:
    """Draw the columns left per layer (rows) and organ (columns), a map per initial rank.

    The mean over draws; the last row sums the layers. An empty cell is a layer that is not
    adapted for the organ, or has no finished fit. None without ranks.
    """
    ranks = cohort.ranks(method)
    organs = [organ for kind in cohort.kinds for organ in cohort.organs(kind)]
    layers = _layers(cohort, method, k)
    if not layers:
        return None
    maps = [_map(cohort, Arm(method, rank), k, layers, organs) for rank in ranks]
    longest = max(len(layer_label(layer)) for layer in layers)
    left = max(1.1, 0.35 + NAMES_PER_LETTER * longest)
    map_width, map_height = CELL_WIDTH * len(organs), CELL_HEIGHT * (len(layers) + 1)
    width = left + len(ranks) * (map_width + GAP) - GAP + SCALE
    height = TOP + map_height + BOTTOM
    figure = new_figure(max(width, 5.0), height, palette)
    write_title(figure, f"Surviving rank per layer and organ: {method_label(method)}, {k}-shot",
                palette)  # fmt: skip
    width = float(figure.get_size_inches()[0])
    most = max(1.0, *(float(np.nanmax(own, initial=0.0)) for own in maps))
    for number, (rank, own) in enumerate(zip(ranks, maps, strict=True)):
        corner = left + number * (map_width + GAP)
        box = (corner / width, BOTTOM / height, map_width / width, map_height / height)
        axes = figure.add_axes(box)
        _draw(axes, own, most, palette)
        name_panel(axes, f"initial rank {rank}", palette)
        names = [*map(layer_label, layers), "all layers"] if number == 0 else []
        _name_axes(axes, names, organs, palette)
    _draw_scale(figure, most, (left + len(ranks) * (map_width + GAP)) / width, palette)
    return figure


def _layers(cohort: Cohort, method: str, k: int) -> list[str]:
    """Return layers in the network's order, as far as one fit has all of them."""
    found: dict[str, None] = {}
    for rank in cohort.ranks(method):
        fits = sorted(
            cohort.units(Arm(method, rank), k).values(), key=lambda fit: -len(fit.ranks or {})
        )
        found.update(dict.fromkeys(layer for fit in fits for layer in fit.ranks or {}))
    return list(found)


def _map(cohort: Cohort, arm: Arm, k: int, layers: Sequence[str], organs: Sequence[str]) -> Map:
    """Return mean columns left, (layers, organs); NaN where there are none to speak of."""
    own = np.full((len(layers), len(organs)), math.nan)
    units = cohort.units(arm, k)
    for column, organ in enumerate(organs):
        fits = [fit for unit, fit in units.items() if unit.organ == organ]
        for row, layer in enumerate(layers):
            left = [fit.ranks[layer] for fit in fits if fit.ranks and layer in fit.ranks]
            if left:
                own[row, column] = sum(left) / len(left)
    return own


def _draw(axes: Axes, own: Map, most: float, palette: Palette) -> None:
    scale = Normalize(0, most)
    ramp = colormaps[palette.ramp].with_extremes(bad=palette.panel)
    rows, columns = own.shape
    axes.set_facecolor(palette.panel)
    axes.imshow(own, cmap=ramp, norm=scale, aspect="auto", interpolation="nearest")
    axes.set_xlim(-0.5, columns - 0.5)
    axes.set_ylim(rows + 0.5, -0.5)
    is_known = ~np.isnan(own)
    for column in np.nonzero(is_known.any(axis=0))[0]:
        total = np.nansum(own[:, column])
        _write(axes, int(column), rows, float(total), palette.text)
    if own.size > MAX_NUMBERED:
        return
    for row, column in zip(*np.nonzero(is_known), strict=True):
        red, green, blue, _ = ramp(scale(own[row, column]))
        is_bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.55
        _write(axes, int(column), int(row), float(own[row, column]),
               "#101418" if is_bright else "#ffffff")  # fmt: skip


def _write(axes: Axes, column: int, row: int, value: float, color: str) -> None:
    text = f"{value:.0f}" if value >= 100 else f"{value:.1f}".removesuffix(".0")
    axes.text(column, row, text, ha="center", va="center", color=color, fontsize=SMALL_POINTS - 1.5)


def _name_axes(axes: Axes, layers: Sequence[str], organs: Sequence[str], palette: Palette) -> None:
    names = [organ_label(organ) for organ in organs]
    axes.set_xticks(range(len(organs)), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(layers)), layers)
    axes.tick_params(colors=palette.muted, labelsize=SMALL_POINTS - 0.5, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_scale(figure: Figure, most: float, left: float, palette: Palette) -> None:
    width, height = figure.get_size_inches()
    inches = min(1.8, height - TOP - BOTTOM)
    box = (left, 1 - (TOP + inches) / height, 0.13 / width, inches / height)
    axes = figure.add_axes(box)
    steps = np.linspace(0, most, 128)[:, None]
    extent = (0, 1, 0, most)
    axes.imshow(steps, cmap=palette.ramp, aspect="auto", origin="lower", extent=extent)
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.tick_params(colors=palette.muted, labelsize=SMALL_POINTS - 0.5, length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(
        "columns\nleft", color=palette.muted, fontsize=LABEL_POINTS - 1.5, pad=4, loc="left"
    )
