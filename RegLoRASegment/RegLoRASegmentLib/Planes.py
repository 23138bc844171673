"""Oblique planes: paint in a slice view that does not follow the volume's slices.

Such paint lies on planes that cross the volume's slices at an angle. They are found again from the
voxels alone, by random sample consensus (Fischler and Bolles, Comm. ACM 24, 1981): planes that hold
much paint with hardly any beside them. (Paint on an oblique plane need not be connected: a voxel is
painted if its centre is close enough to the plane.) What is not painted on a plane is background there,
as on a painted slice, but only around the paint: where else the user has looked along the plane cannot
be known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .Grid import Block, Grid

_MIN_PIECE, _MAX_PAINT = 40, 200_000  # voxels: that show a plane; of paint that is looked at
_MIN_SLICES = 4  # of every axis that paint on a tilted plane crosses
_FILLED = 0.35  # of a slice's extent: by a slice that was painted itself
_ALIGNED_COSINE = 0.996  # of 5 degrees
_ALL = 0.9  # of the paint
_BESIDE = (1.0, 2.5)  # thicknesses from a plane where there is hardly any paint
_MOST_BESIDE = 0.15  # of the paint on the plane
_SAMPLES, _COUNTED = 300, 3000  # planes that are tried, and voxels by which each is judged
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

    def isAligned(self, grid: Grid) -> bool:
        """Tell whether it follows the slices of an axis."""
        cosines = np.abs(self.steps) / np.array([grid.spacing(axis) for axis in range(3)])
        return bool(cosines.max() > _ALIGNED_COSINE)

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
    """Return the paint (voxels, 3) on each plane; nothing if most of the paint is not on tilted ones."""
    total = int(np.count_nonzero(block.mask))
    if not _MIN_PIECE <= total <= _MAX_PAINT or _isOnSlices(block.mask, total):
        return []
    rest = np.argwhere(block.mask) + block.first
    pieces, tilted = [], 0
    while len(rest) >= _MIN_PIECE:
        plane = _bestPlane(rest, grid)
        if plane is None:
            break
        distance = plane.distance(rest)
        isOn = distance <= 1
        beside = np.count_nonzero((distance > _BESIDE[0]) & (distance <= _BESIDE[1]))
        if np.count_nonzero(isOn) < _MIN_PIECE or beside > _MOST_BESIDE * np.count_nonzero(isOn):
            break
        pieces.append(rest[isOn])
        tilted += 0 if plane.isAligned(grid) else len(pieces[-1])
        rest = rest[~isOn]
    isExplained = total - len(rest) >= _ALL * total
    return pieces if isExplained and 2 * tilted > total else []


def liesOn(block: Block, planes: list[Plane]) -> bool:
    """Tell whether paint lies on planes that others show, though it is too little to show one."""
    if not planes or np.count_nonzero(block.mask) > _MAX_PAINT:
        return False
    places = np.argwhere(block.mask) + block.first
    nearest = np.min([plane.distance(places) for plane in planes], axis=0)
    return bool((nearest <= 1).mean() >= _ALL)


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


def _isOnSlices(mask: np.ndarray, total: int) -> bool:
    """Tell, quickly, of paint that plainly follows the slices of some axis."""
    for axis in range(3):
        used = np.count_nonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        area = mask.size / mask.shape[axis]
        if used < _MIN_SLICES or (2 * used <= mask.shape[axis] and total > _FILLED * used * area):
            return True
    return False


def _bestPlane(places: np.ndarray, grid: Grid) -> Plane | None:
    """Return the plane with the most voxels among those through three of them; None on a line."""
    random = np.random.default_rng(0)
    counted = random.permutation(places)[:_COUNTED].astype(float)
    a, b, c = (counted[random.integers(len(counted), size=_SAMPLES)] @ grid.arrayToMm.T for _ in range(3))
    normals = np.cross(b - a, c - a)
    lengths = np.linalg.norm(normals, axis=1)
    isPlane = lengths > 1e-6
    if not isPlane.any():
        return None
    normals = normals[isPlane] / lengths[isPlane, None]
    offsets = (normals * a[isPlane]).sum(axis=1)
    steps = normals @ grid.arrayToMm
    apart = np.abs(counted @ steps.T - offsets) / np.abs(steps).max(axis=1)
    best = int(np.argmax(np.count_nonzero(apart <= 0.6, axis=0)))
    isOn = np.abs(places @ steps[best] - offsets[best]) <= 0.75 * np.abs(steps[best]).max()
    plane = _fit(places[isOn], grid)
    return _fit(places[plane.distance(places) <= 1], grid)


def _fit(piece: np.ndarray, grid: Grid) -> Plane:
    """Return the plane of least squares through voxels (n, 3)."""
    places = piece @ grid.arrayToMm.T
    steps = np.linalg.eigh(np.cov(places.T))[1][:, 0] @ grid.arrayToMm
    spacing = np.array([grid.spacing(axis) for axis in range(3)])
    margin = np.ceil(_MARGIN_MM / spacing).astype(int)
    low = np.maximum(piece.min(axis=0) - margin, 0)
    high = np.minimum(piece.max(axis=0) + margin, np.array(grid.shape) - 1)
    offset = float((piece @ steps).mean())
    return Plane(tuple(map(float, steps)), offset, tuple(map(int, low)), tuple(map(int, high)))
