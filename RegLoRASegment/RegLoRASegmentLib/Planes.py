"""Oblique planes: paint in a slice view that does not follow the volume's slices.

Such paint lies on planes that cross the volume's slices at an angle. They are found again from the
voxels alone: connected pieces of paint that are flat, put together where one plane fits several. What
is not painted on a plane is background there, as on a painted slice, but only around the paint: where
else the user has looked along the plane cannot be known.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from .Grid import Block, Grid

_MIN_PIECE, _MAX_PAINT = 60, 200_000  # voxels: of a piece that shows a plane; of paint that is looked at
_MIN_RUN = 4  # neighbouring slices, along every axis, that paint on a tilted plane crosses
_ALIGNED_COSINE = 0.996  # of 5 degrees
_FLAT = 0.95  # of a piece's voxels lie within one voxel of its plane
_LENGTH = 4  # times its thickness a piece has to be wide
_MARGIN_MM = 15.0  # around the paint in which a plane counts as looked at


@dataclass(frozen=True)
class Plane:
    """The voxels (k, j, i) of a grid that are nearest to a plane, in a box around its paint.

    `steps`: mm along the plane's normal per voxel along each axis; `offset`: mm of the plane;
    `low`, `high`: the first and the last voxel of the box.
    """

    steps: tuple[float, float, float]
    offset: float
    low: tuple[int, int, int]
    high: tuple[int, int, int]

    def distance(self, indices: np.ndarray) -> np.ndarray:
        """Return how far voxels (n, 3) lie from the plane, in units of its thickness."""
        return np.abs(indices @ np.array(self.steps) - self.offset) / max(map(abs, self.steps))

    def indices(self) -> np.ndarray:
        """Return its voxels (n, 3): one for every line along the axis that it crosses most steeply."""
        axis = int(np.argmax(np.abs(self.steps)))
        others = [other for other in range(3) if other != axis]
        ranges = [np.arange(self.low[other], self.high[other] + 1) for other in others]
        rows, columns = (part.ravel() for part in np.meshgrid(*ranges, indexing="ij"))
        rest = self.offset - rows * self.steps[others[0]] - columns * self.steps[others[1]]
        places = np.empty((rows.size, 3), int)
        places[:, axis] = np.rint(rest / self.steps[axis])
        places[:, others[0]], places[:, others[1]] = rows, columns
        return places[(places[:, axis] >= self.low[axis]) & (places[:, axis] <= self.high[axis])]

    def toText(self) -> str:
        numbers = [*(f"{step:.9g}" for step in self.steps), f"{self.offset:.9g}", *self.low, *self.high]
        return ",".join(map(str, numbers))

    @classmethod
    def fromText(cls, text: str) -> Plane:
        """Raise ValueError if the text describes no plane."""
        parts = text.split(",")
        steps, bounds = tuple(map(float, parts[:3])), tuple(map(int, parts[4:]))
        if len(bounds) != 6 or not any(steps):
            raise ValueError(text)
        return cls(steps, float(parts[3]), bounds[:3], bounds[3:])


def parsePlanes(text: str) -> tuple[Plane, ...]:
    """Read planes; a text that is damaged gives none."""
    try:
        return tuple(Plane.fromText(part) for part in text.split())
    except ValueError:
        return ()


def formatPlanes(planes: Iterable[Plane]) -> str:
    return " ".join(plane.toText() for plane in planes)


def onPlanes(block: Block, planes: Iterable[Plane]) -> np.ndarray:
    """Return a mask of the block's shape: its voxels on any of the planes."""
    mask = np.zeros(block.mask.shape, bool)
    for plane in planes:
        places = plane.indices() - block.first
        inside = ((places >= 0) & (places < mask.shape)).all(axis=1)
        mask[tuple(places[inside].T)] = True
    return mask


def tiltedPieces(block: Block, grid: Grid) -> list[np.ndarray]:
    """Return the flat pieces (voxels, 3) of tilted paint; none if most of the paint is not tilted."""
    if not all(_longestRun(block.mask, axis) >= _MIN_RUN for axis in range(3)):
        return []
    total = int(np.count_nonzero(block.mask))
    if not _MIN_PIECE <= total <= _MAX_PAINT:
        return []
    pieces = [piece + block.first for piece in _connected(block.mask)]
    tilted = [piece for piece in pieces if len(piece) >= _MIN_PIECE and _isTilted(piece, grid)]
    return pieces if 2 * sum(map(len, tilted)) > total else []


def liesOn(block: Block, planes: list[Plane]) -> bool:
    """Tell whether paint lies on planes that others show, though it is too little to show one."""
    if not planes or np.count_nonzero(block.mask) > _MAX_PAINT:
        return False
    places = np.argwhere(block.mask) + block.first
    nearest = np.min([plane.distance(places) for plane in planes], axis=0)
    return bool((nearest <= 1).mean() >= _FLAT)


def planesThrough(pieces: Iterable[np.ndarray], grid: Grid) -> list[Plane]:
    """Return the planes on which pieces of tilted paint lie, of all organs together.

    The largest piece says where its plane is; smaller ones on it, however small, make it more exact.
    """
    rest = sorted(pieces, key=len, reverse=True)
    planes = []
    while rest and len(rest[0]) >= _MIN_PIECE:
        together, plane = [rest[0]], _fit(rest[0], grid)
        for piece in rest[1:]:
            if plane.distance(piece).mean() < 1:
                together.append(piece)
                plane = _fit(np.concatenate(together), grid)
        planes.append(plane)
        rest = [piece for piece in rest if not any(piece is own for own in together)]
    return planes


def _longestRun(mask: np.ndarray, axis: int) -> int:
    """Return the largest number of neighbouring slices that all hold paint."""
    used = mask.any(axis=tuple(other for other in range(3) if other != axis))
    return max((len(list(run)) for isUsed, run in itertools.groupby(used) if isUsed), default=0)


def _connected(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the voxels (n, 3) of every connected piece; corners connect."""
    import SimpleITK as sitk

    labels = sitk.ConnectedComponent(sitk.GetImageFromArray(mask.astype(np.uint8)), True)
    numbers = sitk.GetArrayFromImage(labels)
    places = np.argwhere(numbers)
    order = np.argsort(numbers[tuple(places.T)], kind="stable")
    counts = np.bincount(numbers[numbers > 0])[1:]
    yield from np.split(places[order], np.cumsum(counts)[:-1])


def _toWorld(grid: Grid) -> np.ndarray:
    """Return the 3x3 matrix from voxels (k, j, i) to mm."""
    return grid.toWorld[:3, 2::-1]


def _spread(piece: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return the standard deviations of the voxels in mm, ascending, and their directions."""
    places = piece @ _toWorld(grid).T
    values, directions = np.linalg.eigh(np.cov(places.T))
    return np.sqrt(np.maximum(values, 0)), directions


def _fit(piece: np.ndarray, grid: Grid) -> Plane:
    steps = _spread(piece, grid)[1][:, 0] @ _toWorld(grid)
    spacing = np.array([grid.spacing(axis) for axis in range(3)])
    margin = np.ceil(_MARGIN_MM / spacing).astype(int)
    low = np.maximum(piece.min(axis=0) - margin, 0)
    high = np.minimum(piece.max(axis=0) + margin, np.array(grid.shape) - 1)
    offset = float((piece @ steps).mean())
    return Plane(tuple(map(float, steps)), offset, tuple(map(int, low)), tuple(map(int, high)))


def _isTilted(piece: np.ndarray, grid: Grid) -> bool:
    spread, directions = _spread(piece, grid)
    axes = _toWorld(grid) / np.linalg.norm(_toWorld(grid), axis=0)
    isAligned = np.abs(directions[:, 0] @ axes).max() > _ALIGNED_COSINE
    isFlat = (_fit(piece, grid).distance(piece) <= 1).mean() >= _FLAT
    return bool(isFlat and not isAligned and spread[1] > _LENGTH * spread[0])
