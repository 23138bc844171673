"""Slices of a volume for networks that see images, and volumes of what they say of them.

Slices are perpendicular to a canonical axis, the one that the annotated slices are perpendicular
to. They are shown as on a screen: axial ones with anterior, the others with superior up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch  # noqa: TID253

T = TypeVar("T", int, float)

PATIENT_AXES = ("S", "A", "R")  # that the canonical axes z, y, x run along, forwards or backwards
NEIGHBOURS = (0.25, 0.5, 0.25)  # weights of a slice's log-odds and of those beside it
LEAST = 1e-4  # probability: a slice that is surer than that counts no more


def axis_name(axis: int | None) -> str:
    """Return the patient axis that slices are stacked along; empty for networks of volumes."""
    return "" if axis is None else PATIENT_AXES[axis]


def axis_of(name: str) -> int:
    """Return the canonical axis of a patient axis; the axial one where there is none.

    Raises:
        ValueError: it is no patient axis.
    """
    return PATIENT_AXES.index(name) if name else 0


def as_slices(volume: torch.Tensor, axis: int) -> torch.Tensor:
    """Turn a canonical volume (batch, z, y, x) into slices (batch, slice, row, column)."""
    return as_stack(volume[:, None], axis)[:, 0]


def as_stack(maps: torch.Tensor, axis: int) -> torch.Tensor:
    """Turn maps (batch, channels, z, y, x) into (batch, channels, slice, row, column)."""
    moved = maps.movedim(axis + 2, 2)
    return moved if axis == 0 else moved.flip(3)


def as_volume(maps: torch.Tensor, axis: int) -> torch.Tensor:
    """Turn maps of slices (batch, channels, slice, row, column) into (batch, channels, z, y, x)."""
    turned = maps if axis == 0 else maps.flip(3)
    return turned.movedim(2, axis + 2)


def turned(values: tuple[T, T, T], before: int, after: int) -> tuple[T, T, T]:
    """Return one value per canonical axis for slices perpendicular to another one.

    Args:
        values: one across the slices, the same one twice within them.
        before, after: axis that slices are perpendicular to.
    """
    found = [values[before - 1]] * 3
    found[after] = values[before]
    return found[0], found[1], found[2]


def smoothed_across(
    probabilities: torch.Tensor, axis: int, groups: Sequence[Sequence[int]]
) -> torch.Tensor:
    """Average log-odds across slices, so that a slice that disagrees with both beside it gives in.

    Args:
        probabilities: (outputs, z, y, x); per group its background, then its organs.
        axis: that the slices are perpendicular to.
        groups: organs that exclude each other.

    Returns:
        Probabilities of the same shape; at the ends a slice stands for the one that is missing.
    """
    logs = probabilities.clamp_min(LEAST).log_().movedim(axis + 1, 0)
    ends = torch.cat([logs[:1], logs, logs[-1:]])
    before, own, after = NEIGHBOURS
    mean = before * ends[:-2]
    mean += logs.mul_(own)  # in place: of large scans each copy takes gigabytes
    del logs
    mean += ends[2:].mul_(after)
    del ends
    mean = mean.movedim(0, axis + 1)
    parts = torch.split(mean, [len(group) + 1 for group in groups])
    return torch.cat([part.softmax(0) for part in parts])
