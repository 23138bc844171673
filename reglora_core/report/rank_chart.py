"""Dice against the initial rank: a line per low-rank method, the papers' beside it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253
from matplotlib.ticker import NullLocator  # noqa: TID253

from reglora_core.pictures.style import SMALL_POINTS, Palette
from reglora_core.report.cohort import Cohort, Spread, dice_percent
from reglora_core.report.figures import (
    Panel,
    color_of,
    fitted_methods,
    halo,
    mark_empty,
    mark_of,
    name_panel,
    panels,
    share_dice_axes,
)
from reglora_core.report.fits import Arm
from reglora_core.report.labels import method_label
from reglora_core.report.published import BY_RANK, DATASET, RANKS

LEVELS = ("full-ft", "linear-probe", "zero-shot")  # methods without a rank, as level lines
SPREAD_APART = 0.035  # of an octave: between the bars of methods at one rank


def draw_rank_chart(cohort: Cohort, palette: Palette) -> Figure | None:
    """Draw mean Dice over organs against the initial rank; None without low-rank methods.

    Bars are standard deviations over draws. A hollow mark has fits missing.
    """
    methods = [method for method in fitted_methods(cohort) if cohort.ranks(method)]
    if not methods:
        return None
    figure, own, (beside,) = panels(cohort, methods, "Dice against initial rank", palette, 1)
    for panel in own:
        for number, method in enumerate(methods):
            shift = 2 ** (SPREAD_APART * (number - (len(methods) - 1) / 2))
            _draw_method(panel, cohort, method, shift, palette)
        for method in LEVELS:
            _draw_level(panel, cohort, method, palette)
        ranks = sorted({rank for method in methods for rank in cohort.ranks(method)})
        _rank_axis(panel.axes, ranks)
        panel.axes.set_ylabel("mean Dice over organs, %")
        mark_empty(panel, palette)
    share_dice_axes(own)
    _draw_published(beside, cohort.dataset, palette)
    return figure


def _draw_method(panel: Panel, cohort: Cohort, method: str, shift: float, palette: Palette) -> None:
    found: list[tuple[float, Spread]] = []
    for rank in cohort.ranks(method):
        own = cohort.mean_spread(Arm(method, rank), panel.k, panel.kind, dice_percent)
        if own.count:
            found.append((rank * shift, own))
    if not found:
        return
    x = [place for place, _ in found]
    y = [own.mean for _, own in found]
    deviations = [own.deviation if own.count > 1 else 0.0 for _, own in found]
    look = mark_of(method, palette)
    panel.axes.errorbar(x, y, deviations, elinewidth=0.8, capsize=2.0, **look)
    partial = [(place, own.mean) for place, own in found if not own.is_complete]
    look.update(linestyle="none", markerfacecolor=palette.background, zorder=5)
    panel.axes.plot([p for p, _ in partial], [mean for _, mean in partial], **look)


def _draw_level(panel: Panel, cohort: Cohort, method: str, palette: Palette) -> None:
    own = cohort.mean_spread(Arm(method), panel.k, panel.kind, dice_percent)
    if not own.count:
        return
    panel.axes.axhline(own.mean, color=palette.muted, linewidth=0.8, linestyle=(0, (4, 3)))
    panel.axes.annotate(
        method_label(method),
        (1.0, own.mean),
        (-2, 1.5),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="bottom",
        color=palette.muted,
        fontsize=SMALL_POINTS - 0.5,
        path_effects=halo(palette),
        zorder=6,
    )


def _draw_published(axes: Axes, dataset: str, palette: Palette) -> None:
    """Draw the ARENA paper's Figure 1: the mean over its three organs, and each organ thin."""
    for method, organs in BY_RANK.items():
        look = mark_of(method, palette)
        for dice in organs.values():
            axes.plot(RANKS, dice, color=color_of(method, palette), linewidth=0.6, alpha=0.45)
        mean = [sum(column) / len(column) for column in zip(*organs.values(), strict=True)]
        axes.plot(RANKS, mean, linestyle=(0, (2, 1.5)), **look)
    for organ in BY_RANK["arena"]:
        axes.annotate(
            organ,
            (RANKS[0], BY_RANK["arena"][organ][0]),
            (6, 3),
            textcoords="offset points",
            color=palette.muted,
            fontsize=SMALL_POINTS - 0.5,
            path_effects=halo(palette),
            zorder=6,
        )
    _rank_axis(axes, RANKS)
    axes.set_ylabel("Dice, %")
    data = "the same data set" if dataset == DATASET else "OTHER DATA"
    name_panel(axes, f"ARENA paper, 5-shot: {data}", palette)


def _rank_axis(axes: Axes, ranks: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(ranks), [str(rank) for rank in ranks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(min(ranks) / 1.35, max(ranks) * 1.35)
    axes.set_xlabel("initial rank")
