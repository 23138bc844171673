"""Learning curves: the loss of each method, and the surviving rank of the adaptive ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, stdev

import numpy as np  # noqa: TID253
from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253
from matplotlib.ticker import (  # noqa: TID253
    FuncFormatter,
    LogLocator,
    NullLocator,
    SymmetricalLogLocator,
)

from reglora_core.pictures.style import SMALL_POINTS, Palette
from reglora_core.report.cohort import Cohort
from reglora_core.report.figures import (
    Panel,
    color_of,
    fitted_methods,
    halo,
    mark_empty,
    mark_of,
    panels,
)
from reglora_core.report.fits import Arm, CurvePoint, Fit
from reglora_core.report.labels import ADAPTIVE, OURS, arm_order

Value = Callable[[CurvePoint], float | None]
Averaged = tuple[list[int], list[float], list[float]]  # steps, means, deviations


def draw_losses(cohort: Cohort, palette: Palette) -> Figure | None:
    """Draw the training loss over steps, low-rank methods at the lowest rank they share.

    The mean over organs and draws, at steps that all of these fits have; the band is one standard
    deviation, of ours alone. None without curves.
    """
    arms = _loss_arms(cohort)
    methods = list(dict.fromkeys(arm.method for arm in arms))
    shared = next((arm.initial_rank for arm in arms if arm.initial_rank), None)
    title = "Training loss" if shared is None else f"Training loss, initial rank {shared}"
    if not methods:
        return None
    figure, own, _ = panels(cohort, methods, title, palette)
    for panel in own:
        for arm in arms:
            fits = cohort.units(arm, panel.k, panel.kind).values()
            _draw_line(panel.axes, _average(fits, _loss), arm, palette)
        _finish(panel, "soft Dice loss", palette)
    return figure


def draw_surviving(cohort: Cohort, palette: Palette) -> Figure | None:
    """Draw the surviving columns of all layers over steps, a line per initial rank.

    The mean over organs and draws. None where no method chooses its rank.
    """
    fitted = fitted_methods(cohort)
    methods = [method for method in ADAPTIVE if method in fitted and cohort.ranks(method)]
    if not methods:
        return None
    figure, own, _ = panels(cohort, methods, "Surviving rank over the training", palette)
    for panel in own:
        for method in methods:
            for rank in cohort.ranks(method):
                arm = Arm(method, rank)
                fits = cohort.units(arm, panel.k, panel.kind).values()
                steps, means, _ = _average(fits, _surviving)
                _draw_line(panel.axes, (steps, means, []), arm, palette)
                if method == OURS:
                    _name_line(panel.axes, steps, means, rank, palette)
        _finish(panel, "columns left, all layers", palette)
        _log_axis(panel.axes)
    return figure


def _loss_arms(cohort: Cohort) -> list[Arm]:
    """Return arms with curves: methods without a rank, and low-rank ones at one rank."""
    curved = {fit.key.arm for fit in cohort.fits if fit.curve}
    ranks = [{a.initial_rank for a in curved if a.method == m and a.initial_rank}
             for m in {arm.method for arm in curved if arm.initial_rank}]  # fmt: skip
    shared = set.intersection(*ranks) if ranks else set()
    lowest = min(shared or set().union(*ranks), default=None)
    arms = [arm for arm in curved if arm.initial_rank in (None, lowest)]
    return sorted(arms, key=arm_order)


def _average(fits: Iterable[Fit], value: Value) -> Averaged:
    """Return mean and deviation of a curve's value at the steps that all fits have."""
    curves = [
        {point.step: number for point in fit.curve if (number := value(point)) is not None}
        for fit in fits
    ]
    curves = [curve for curve in curves if curve]
    if not curves:
        return [], [], []
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    columns = [[curve[step] for curve in curves] for step in steps]
    deviations = [stdev(column) if len(column) > 1 else 0.0 for column in columns]
    return steps, [fmean(column) for column in columns], deviations


def _loss(point: CurvePoint) -> float | None:
    return point.loss


def _surviving(point: CurvePoint) -> float | None:
    return point.surviving_rank


def _draw_line(axes: Axes, averaged: Averaged, arm: Arm, palette: Palette) -> None:
    steps, means, deviations = averaged
    if not steps:
        return
    look = {**mark_of(arm.method, palette), "markevery": max(1, len(steps) // 6)}
    look["markersize"] *= 0.75
    axes.plot(steps, means, **look)
    if arm.method == OURS and deviations:
        low = [mean - own for mean, own in zip(means, deviations, strict=True)]
        high = [mean + own for mean, own in zip(means, deviations, strict=True)]
        axes.fill_between(steps, low, high, color=color_of(arm.method, palette), alpha=0.15, lw=0)


def _name_line(
    axes: Axes, steps: Sequence[int], means: Sequence[float], rank: int, palette: Palette
) -> None:
    if steps:
        axes.annotate(
            str(rank),
            (steps[0], means[0]),
            (1, 4),
            textcoords="offset points",
            color=palette.muted,
            fontsize=SMALL_POINTS - 0.5,
            path_effects=halo(palette),
            zorder=6,
        )


def _log_axis(axes: Axes) -> None:
    """Count on a logarithmic axis; from 0 where all columns of a line are gone."""
    if not axes.has_data():
        return
    has_none = any((np.asarray(line.get_ydata()) <= 0).any() for line in axes.lines)
    axes.set_yscale("symlog" if has_none else "log")
    ticks = LogLocator(subs=(1.0, 2.0, 5.0))
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1) if has_none else ticks)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.margins(y=0.12)


def _finish(panel: Panel, label: str, palette: Palette) -> None:
    panel.axes.set_xlabel("step")
    panel.axes.set_ylabel(label)
    mark_empty(panel, palette)
