"""Dice against trainable parameters: what an update costs, and what is left of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from matplotlib.figure import Figure  # noqa: TID253
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator  # noqa: TID253

from reglora_core.pictures.style import SMALL_POINTS, Palette
from reglora_core.report.cohort import Cohort, dice_percent
from reglora_core.report.figures import (
    Panel,
    color_of,
    fitted_methods,
    halo,
    mark_empty,
    mark_of,
    panels,
    share_dice_axes,
)
from reglora_core.report.fits import Arm
from reglora_core.report.labels import OURS, method_label

WIDE = 300.0  # an axis from 1 to this and more has ticks at powers of ten alone
FAR_BELOW_POINTS = 8.0  # under the median: written at the lower edge, not drawn to scale
LABEL_POINTS = 9.0  # from a mark's middle to that of the rank beside it
LABEL_SIDES = ((0, 1), (0, -1), (-1, 0), (1, 0))  # above first


@dataclass(frozen=True)
class _Point:
    """One arm in one panel: mean Dice in percent, mean parameters before and after."""

    arm: Arm
    dice: float
    before: float
    after: float


def draw_size_chart(cohort: Cohort, palette: Palette) -> Figure:
    """Draw mean Dice over organs against the parameters in the network.

    A filled mark is what survived, a hollow one what training began with where that is more; a
    line joins a method's initial ranks. Methods that train nothing are level lines. What lies far
    below the others is written at the lower edge with its Dice.
    """
    named = [method for method in fitted_methods(cohort) if method != "zero-shot"]
    figure, own, _ = panels(cohort, named, "Dice against trainable parameters", palette)
    points = {id(panel): _points(cohort, panel) for panel in own}
    near: list[tuple[Panel, list[_Point]]] = []
    for kind in cohort.kinds:
        same = [panel for panel in own if panel.kind == kind]
        floor = _floor(point.dice for panel in same for point in points[id(panel)])
        for panel in same:
            _draw_panel(panel, points[id(panel)], floor, palette)
            near.append((panel, [p for p in points[id(panel)] if p.dice >= floor]))
    share_dice_axes(own)
    for panel, shown in near:
        _write_ranks(panel, shown, palette)
    return figure


def _points(cohort: Cohort, panel: Panel) -> list[_Point]:
    found = []
    for arm in cohort.arms(panel.kind, panel.k):
        dice = cohort.mean_spread(arm, panel.k, panel.kind, dice_percent).mean
        fits = cohort.units(arm, panel.k, panel.kind).values()
        if not math.isnan(dice):
            before = fmean(fit.trainable for fit in fits)
            found.append(_Point(arm, dice, before, fmean(fit.surviving for fit in fits)))
    return found


def _floor(dice: Iterable[float]) -> float:
    numbers = list(dice)
    return median(numbers) - FAR_BELOW_POINTS if numbers else 0.0


def _draw_panel(panel: Panel, points: Sequence[_Point], floor: float, palette: Palette) -> None:
    axes = panel.axes
    axes.set_xscale("log")
    far = [point for point in points if point.dice < floor]
    near = [point for point in points if point.dice >= floor]
    for method in dict.fromkeys(point.arm.method for point in near):
        _draw_method(panel, [point for point in near if point.arm.method == method], palette)
    for number, point in enumerate(far):
        text = f"↓ {method_label(point.arm.method)} {point.dice:.1f}"
        _write(panel, text, (0.98, 0.03 + 0.07 * number), (0, 0), "axes fraction", palette)
    axes.margins(x=0.12, y=0.2 if far else 0.12)
    low, high = axes.get_xlim()
    is_wide = high > WIDE * low
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_label(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    mark_empty(panel, palette)
    axes.set_xlabel("parameters (hollow: trained, filled: surviving)")
    axes.set_ylabel("mean Dice over organs, %")


def _draw_method(panel: Panel, points: Sequence[_Point], palette: Palette) -> None:
    method, axes = points[0].arm.method, panel.axes
    if all(point.before <= 0 for point in points):
        axes.axhline(points[0].dice, color=palette.muted, linewidth=0.8, linestyle=(0, (4, 3)))
        place = (0.98, points[0].dice)
        _write(panel, method_label(method), place, (0, 2), ("axes fraction", "data"), palette)
        return
    look, color = mark_of(method, palette), color_of(method, palette)
    left = [point.after or point.before for point in points]
    dice = [point.dice for point in points]
    axes.plot(left, dice, **{**look, "linewidth": 0.8})
    for point in points:
        if not 0 < point.after < point.before:
            continue
        x, y = [point.before, point.after], [point.dice, point.dice]
        axes.plot(x, y, color=color, linewidth=0.7, linestyle=(0, (1, 1.5)), zorder=2)
        hollow = {**look, "markerfacecolor": palette.panel, "markeredgewidth": 0.9}
        axes.plot(x[:1], y[:1], **{**hollow, "markersize": look["markersize"] * 0.8})


def _write_ranks(panel: Panel, points: Sequence[_Point], palette: Palette) -> None:
    """Write the initial rank of our method beside its hollow marks, where no other mark is."""
    axes = panel.axes
    pixels = LABEL_POINTS * axes.figure.dpi / 72
    sizes = [(size, point.dice) for point in points for size in {point.before, point.after}]
    drawn = [tuple(axes.transData.transform(mark)) for mark in sizes if mark[0] > 0]
    for point in points:
        if point.arm.method != OURS or not 0 < point.after < point.before:
            continue
        mark = (point.before, point.dice)
        x, y = axes.transData.transform(mark)
        places = {side: (x + pixels * side[0], y + pixels * side[1]) for side in LABEL_SIDES}
        room = {side: min(math.dist(place, other) for other in drawn)
                for side, place in places.items()}  # fmt: skip
        best = max(LABEL_SIDES, key=room.__getitem__)
        drawn.append(places[best])
        shift = (LABEL_POINTS * best[0], LABEL_POINTS * best[1])
        _write(panel, str(point.arm.initial_rank), mark, shift, "data", palette)


def count_label(count: float) -> str:
    """Return a number of parameters as people write it: 500, 20 k, 1.5 M."""
    if count >= 1e6:
        return f"{count / 1e6:g} M"
    return f"{count / 1e3:g} k" if count >= 1e3 else f"{count:g}"


def _write(
    panel: Panel,
    text: str,
    place: tuple[float, float],
    shift: tuple[float, float],
    coordinates: str | tuple[str, str],
    palette: Palette,
) -> None:
    panel.axes.annotate(
        text,
        place,
        shift,
        xycoords=coordinates,
        textcoords="offset points",
        ha="center" if coordinates == "data" else "right",
        va="center" if coordinates == "data" else "baseline",
        color=palette.muted,
        fontsize=SMALL_POINTS - 0.5,
        path_effects=halo(palette),
        zorder=6,
    )
