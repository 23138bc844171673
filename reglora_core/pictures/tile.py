"""One slice on the screen: grey values, organs, letters of orientation and a scale bar."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np  # noqa: TID253
from matplotlib.axes import Axes  # noqa: TID253
from matplotlib.patheffects import withStroke  # noqa: TID253

from reglora_core.pictures.anatomy import (
    LEFT_AND_TOP,
    Anatomy,
    Array,
    on_screen,
    organs_in_slice,
)
from reglora_core.pictures.style import MUTED, SMALL_POINTS, TEXT
from reglora_core.volumes import LabelMap

FILL_OPACITY = 0.32
OUTLINE_POINTS = 1.1
SCALE_BARS_MM = (200, 100, 50, 20, 10, 5, 2, 1)
HALO = (withStroke(linewidth=2.0, foreground="black"),)


@dataclass(frozen=True)
class Tile:
    """One slice to draw, in the canonical array, and what is painted over it."""

    anatomy: Anatomy
    label_map: LabelMap
    axis: int
    index: int
    box: tuple[slice, slice, slice]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Height and width of what is shown."""
        height, width = (
            (side.stop - side.start) * mm
            for k, (side, mm) in enumerate(zip(self.box, self.anatomy.spacing_mm, strict=True))
            if k != self.axis
        )
        return height, width

    def crop(self, picture: Array) -> Array:
        """Return the part within the box of a whole slice as drawn on the screen."""
        rows, columns = (side for k, side in enumerate(self.box) if k != self.axis)
        if self.axis != 0:  # drawn head up: the first row is the last of the array
            rows = slice(len(picture) - rows.stop, len(picture) - rows.start)
        return picture[rows, columns]

    def draw(self, axes: Axes, has_scale_bar: bool = False) -> None:
        """Draw the slice in mm, with (0, 0) at the top left corner of the axes."""
        height, width = self.size_mm
        black, white = self.anatomy.window
        grey = self.crop(on_screen(self.anatomy.intensities, self.axis, self.index))
        axes.imshow(
            grey,
            cmap="gray",
            vmin=black,
            vmax=white,
            extent=(0.0, width, height, 0.0),
            interpolation="bilinear",
        )
        self._draw_organs(axes)
        axes.set_xlim(0.0, width)
        axes.set_ylim(height, 0.0)
        axes.set_axis_off()
        axes.set_title(
            self.anatomy.title(self.axis, self.index),
            color=MUTED,
            fontsize=SMALL_POINTS,
            pad=4,
        )
        self._write_letters(axes)
        if has_scale_bar:
            self._draw_scale_bar(axes)

    def _draw_organs(self, axes: Axes) -> None:
        height, width = self.size_mm
        tall, wide = self.anatomy.pixel_mm(self.axis)
        for drawn in organs_in_slice(self.anatomy, self.label_map, self.axis, self.index):
            mask = self.crop(drawn.mask)
            color = tuple(channel / 255 for channel in drawn.organ.color)
            fill = np.zeros((*mask.shape, 4))
            fill[mask] = (*color, FILL_OPACITY)
            axes.imshow(fill, extent=(0.0, width, height, 0.0), interpolation="nearest")
            padded = np.pad(mask, 1).astype(float)  # so that outlines close at the border
            rows, columns = (np.arange(-1, n + 1) + 0.5 for n in mask.shape)
            if mask.any():
                axes.contour(
                    columns * wide,
                    rows * tall,
                    padded,
                    levels=[0.5],
                    colors=[color],
                    linewidths=OUTLINE_POINTS,
                )

    def _write_letters(self, axes: Axes) -> None:
        left, top = LEFT_AND_TOP[self.axis]
        sides = ((left, (0.0, 0.5), (4, 0), "left"), (top, (0.5, 1.0), (0, -3), "center"))
        for letter, side, points_inward, alignment in sides:
            axes.annotate(
                letter,
                side,
                points_inward,
                xycoords="axes fraction",
                textcoords="offset points",
                ha=alignment,
                va="top" if alignment == "center" else "center",
                color=TEXT,
                fontsize=SMALL_POINTS,
                path_effects=HALO,
            )

    def _draw_scale_bar(self, axes: Axes) -> None:
        height, width = self.size_mm
        length = next((mm for mm in SCALE_BARS_MM if mm <= width / 4), SCALE_BARS_MM[-1])
        right, y = 0.96 * width, 0.95 * height
        axes.plot(
            [right - length, right],
            [y, y],
            color=TEXT,
            linewidth=2.0,
            solid_capstyle="butt",
            path_effects=HALO,
        )
        axes.text(
            right - length / 2,
            y - 0.015 * height,
            f"{length // 10} cm" if length >= 10 else f"{length} mm",
            ha="center",
            va="bottom",
            color=TEXT,
            fontsize=SMALL_POINTS,
            path_effects=HALO,
        )
