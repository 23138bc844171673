"""Slices of a grid, and which of them paint lies on.

A slice is a pair (array axis, index): the axis that it is perpendicular to, and its number.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .Grid import Block

Slice = tuple[int, int]


def parseSlices(text: str) -> list[Slice]:
    """Read "0/12 0/40"; what is no such pair is left out."""
    pairs = (part.split("/") for part in text.split())
    return [
        (int(pair[0]), int(pair[1]))
        for pair in pairs
        if len(pair) == 2 and pair[0] in "012" and pair[1].isdecimal()
    ]


def formatSlices(slices: Iterable[Slice]) -> str:
    return " ".join(f"{axis}/{index}" for axis, index in sorted(slices))


def onSlices(shape, slices: Iterable[Slice]) -> np.ndarray:
    """Return a mask (k, j, i) of the voxels on any of the slices."""
    mask = np.zeros(shape, bool)
    for axis, index in slices:
        if 0 <= index < shape[axis]:
            np.moveaxis(mask, axis, 0)[index] = True
    return mask


def usedIndices(block: Block, axis: int) -> list[int]:
    """Return the numbers of the slices across an axis that have voxels."""
    others = tuple(other for other in range(3) if other != axis)
    return [int(index) + block.first[axis] for index in np.flatnonzero(block.mask.any(axis=others))]


def countLonely(mask: np.ndarray, axis: int, total: int) -> int:
    """Count voxels without a neighbour along an axis, by pairs as the core does: that is cheap."""
    planes = np.moveaxis(mask, axis, 0)
    return total - int(np.count_nonzero(planes[1:] & planes[:-1]))


def paintedSlices(block: Block, axis: int) -> set[Slice]:
    """Return the painted slices of any axis, where most were painted across `axis`.

    A slice painted across another axis leaves a trace on every slice that it crosses: voxels thin
    along that axis, continued along this one. A slice that holds mostly traces was not painted.
    """
    used = usedIndices(block, axis)
    if len(used) == 1:
        return {(axis, used[0])}
    continued = block.mask & _neighbours(block.mask, axis)
    others = [other for other in range(3) if other != axis]
    thin = [continued & ~_neighbours(block.mask, other) for other in others]
    planes, traces = np.moveaxis(block.mask, axis, 0), np.moveaxis(thin[0] | thin[1], axis, 0)
    first = block.first[axis]
    painted = {
        (axis, index)
        for index in used
        if 2 * np.count_nonzero(traces[index - first]) < np.count_nonzero(planes[index - first])
    }
    moved = [(axis, index - first) for _, index in painted]
    rest = block.mask & ~onSlices(block.mask.shape, moved)
    for other, trace in zip(others, thin, strict=True):
        counts = np.count_nonzero(np.moveaxis(trace & rest, other, 0), axis=(1, 2))
        kept = np.flatnonzero((counts > 0) & (4 * counts >= counts.max()))
        painted |= {(other, int(index) + block.first[other]) for index in kept}
    return painted


def _neighbours(mask: np.ndarray, axis: int) -> np.ndarray:
    """Return which voxels of the mask have a neighbour in it, in front or behind along `axis`."""
    result = np.zeros_like(mask)
    planes, moved = np.moveaxis(mask, axis, 0), np.moveaxis(result, axis, 0)
    pairs = planes[1:] & planes[:-1]
    moved[1:] |= pairs
    moved[:-1] |= pairs
    return result
