"""How a training went: the loss over seconds and the rank of every layer over time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np  # noqa: TID253
from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253
from matplotlib.ticker import MaxNLocator  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.events import Event
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

SMOOTHING_STEPS = 15
NOISY = 0.05  # median change of a step, as a part of the curve's range
MAX_NAMED_LAYERS = 40
WIDTH = 9.5  # inches, as all of these
HEADER = 0.55
LOSS = 2.5
GAP = 0.42
FOOTER = 0.6
NAMES = 1.85
MARGIN = 0.75
Curve = NDArray[Any]


def draw_training(events: Sequence[Event]) -> Figure:
    """Draw what a job's events say about its training.

    Args:
        events: as in `reglora_core.events`; ``progress`` gives the loss of its stage, ``ranks``
            the rank of each layer, ``preview`` a mark on the axis of time. The others are left
            out.
    """
    losses = _losses(events)
    times, layers, ranks = _ranks(events)
    rank_inches = max(1.2, min(0.16 * len(layers), 7.0)) if layers else 0.0
    height = HEADER + LOSS + FOOTER + (GAP + rank_inches if layers else 0.0)
    figure = new_figure(WIDTH, height)
    left = NAMES if layers else MARGIN
    figure.text(
        0.25 / WIDTH,
        1 - 0.3 / height,
        "Training",
        color=TEXT,
        fontsize=TITLE_POINTS,
        fontweight="bold",
        va="center",
    )

    def add(top: float, tall: float, x: float, wide: float) -> Axes:
        return figure.add_axes((x / WIDTH, 1 - (top + tall) / height, wide / WIDTH, tall / height))

    width = WIDTH - left - MARGIN
    above = add(HEADER, LOSS, left, width)
    _draw_losses(above, losses, [event["time"] for event in _of(events, "preview")])
    lowest = above
    if layers:
        lowest = add(HEADER + LOSS + GAP, rank_inches, left, width)
        bar = add(HEADER + LOSS + GAP, rank_inches, WIDTH - MARGIN + 0.1, 0.12)
        _draw_ranks(lowest, bar, times, layers, ranks)
        lowest.sharex(above)
        above.tick_params(labelbottom=False)
    lowest.set_xlim(left=0.0)
    lowest.set_xlabel("seconds")
    return figure


def _of(events: Sequence[Event], name: str) -> list[Event]:
    return [event for event in events if event.get("event") == name and "time" in event]


def _losses(events: Sequence[Event]) -> dict[str, Curve]:
    """Return seconds and loss, (2, steps), of each stage."""
    points: dict[str, list[tuple[float, float]]] = {}
    for event in _of(events, "progress"):
        if event.get("loss") is not None:  # null: it was not finite
            stage = str(event.get("stage", "training"))
            points.setdefault(stage, []).append((event["time"], event["loss"]))
    return {stage: np.array(values, dtype=float).T for stage, values in points.items()}


def _ranks(events: Sequence[Event]) -> tuple[list[float], list[str], Curve]:
    """Return the times, the layers in the order they appear, and the ranks (layer, time)."""
    found = [event for event in _of(events, "ranks") if event.get("ranks")]
    layers = list(dict.fromkeys(itertools.chain(*(event["ranks"] for event in found))))
    rows = [[event["ranks"].get(layer, np.nan) for event in found] for layer in layers]
    return [event["time"] for event in found], layers, np.array(rows, dtype=float)


def _draw_losses(axes: Axes, losses: dict[str, Curve], previews: Sequence[float]) -> None:
    style_chart(axes)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_ylabel("loss")
    if not losses:
        axes.text(
            0.5, 0.5, "no loss was reported", color=MUTED, ha="center", transform=axes.transAxes
        )
    for (stage, (seconds, loss)), color in zip(losses.items(), itertools.cycle(SERIES)):
        for number, (start, stop) in enumerate(_fits(loss)):
            piece, label = slice(start, stop), stage if number == 0 else None
            axes.plot(seconds[piece], loss[piece], color=color, linewidth=0.7, alpha=0.35)
            axes.plot(seconds[piece], _smooth(loss[piece]), color=color, linewidth=1.8, label=label)
    for number, second in enumerate(previews):
        label = "preview" if number == 0 else None
        axes.axvline(
            second, color=TEXT, linewidth=0.8, alpha=0.6, linestyle=(0, (2, 2)), label=label
        )
    if losses:
        axes.set_ylim(bottom=0.0)
        axes.legend(
            frameon=False,
            labelcolor=TEXT,
            fontsize=SMALL_POINTS + 0.5,
            ncols=4,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
        )


def _fits(loss: Curve) -> list[tuple[int, int]]:
    """Return start and stop of each fit: one that starts anew leaps up by half of the range.

    It then comes down step by step; a leap for a single step is a hard crop. Where the loss leaps
    from step to step anyway, it is all one fit.
    """
    rises, span = np.diff(loss), np.ptp(loss)
    is_noisy = len(rises) and np.median(np.abs(rises)) > NOISY * span
    high = np.append(loss, -np.inf) > loss.min() + 0.15 * span
    leaps = np.flatnonzero((rises > 0.5 * span) & high[2:]) + 1
    starts = [0] if is_noisy else [0, *leaps.tolist()]
    return list(zip(starts, [*starts[1:], len(loss)], strict=True))


def _smooth(loss: Curve) -> Curve:
    """Return the mean of as many steps before as after, fewer at the ends: no bias on a slope."""
    places = np.arange(len(loss))
    most = min(SMOOTHING_STEPS, len(loss) // 4) // 2
    reach = np.minimum(np.minimum(places, places[::-1]), most)
    total = np.concatenate([[0.0], np.cumsum(loss)])
    smooth: Curve = (total[places + reach + 1] - total[places - reach]) / (2 * reach + 1)
    return smooth


def _draw_ranks(
    axes: Axes, bar: Axes, times: Sequence[float], layers: Sequence[str], ranks: Curve
) -> None:
    """Draw a row a layer, from the first on top; the colour is the rank."""
    style_chart(axes)
    highest = max(1.0, float(np.nanmax(ranks)))
    edges = [*times, times[-1] + _last_width(times)]
    drawn = axes.pcolormesh(
        edges,
        np.arange(len(layers) + 1),
        np.ma.masked_invalid(ranks),
        cmap="viridis",
        vmin=0.0,
        vmax=highest,
        linewidth=0.0,
        rasterized=True,
    )
    axes.set_ylim(len(layers), 0)
    if len(layers) <= MAX_NAMED_LAYERS:
        axes.set_yticks(np.arange(len(layers)) + 0.5, [_short(layer) for layer in layers])
        axes.tick_params(axis="y", labelsize=SMALL_POINTS - 1)
    else:
        axes.set_ylabel(f"{len(layers)} layers")
        axes.set_yticks([])
    first, last = np.nansum(ranks[:, 0]), np.nansum(ranks[:, -1])
    axes.set_title(
        f"rank of each layer: {first:.0f} in all at first, {last:.0f} at the end",
        color=TEXT,
        fontsize=LABEL_POINTS,
        loc="left",
    )
    scale = bar.figure.colorbar(drawn, cax=bar)
    scale.outline.set_visible(False)
    bar.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    bar.tick_params(colors=MUTED, labelsize=SMALL_POINTS, length=0)


def _last_width(times: Sequence[float]) -> float:
    """Return how long the last ranks are drawn: as long as those before them."""
    return (times[-1] - times[-2]) or 1.0 if len(times) > 1 else 1.0


def _short(layer: str) -> str:
    return layer if len(layer) <= 26 else f"…{layer[-25:]}"
