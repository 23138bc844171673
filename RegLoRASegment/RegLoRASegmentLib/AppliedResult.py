"""What a segment looked like when a result was applied to it, and where it was corrected since.

The corrected voxels themselves tell in which view the user corrected: they are compared with the
result, and those that hang together lie on one slice, or on few, of the view's orientation. A rim of
one stroke alone can look like paint of another view; it then goes where the other strokes are.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass

import numpy as np
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .Grid import Block, Grid
from .Planes import Plane, planesThrough, tiltedPieces
from .Slices import Slice, paintedSlices

_MAX_BOX = 2**25  # voxels in which strokes are told apart (0.2 s); beyond, it is no correction by hand


@dataclass(frozen=True)
class Corrections:
    """Where a segment differs from the result: the user's slices and planes, and the voxels."""

    slices: frozenset[Slice] = frozenset()
    planes: tuple[Plane, ...] = ()
    changed: Block | None = None


@dataclass(frozen=True)
class AppliedResult:
    """A segment on a grid of `shape`, right after Apply; `axis`: most paint was across it then."""

    axis: int
    shape: tuple[int, int, int]
    block: Block | None

    def toText(self) -> str:
        """Return a text that fits into a tag: some 50 kB for a liver at 512x512x300."""
        parts = [str(self.axis), _numbers(self.shape)]
        if self.block is not None:
            steps = self.block.mask.copy()
            steps[1:] ^= self.block.mask[:-1]  # neighbouring slices are alike: hardly anything is left
            packed = base64.b64encode(zlib.compress(np.packbits(steps).tobytes()))
            parts += [_numbers(self.block.first), _numbers(steps.shape), packed.decode("ascii")]
        return ";".join(parts)

    @classmethod
    def fromText(cls, text: str) -> AppliedResult | None:
        """Return what toText() has written; None if it is anything else."""
        try:
            axis, shape, *rest = text.split(";")
            return cls("012".index(axis), _triple(shape), _unpacked(*rest) if rest else None)
        except (TypeError, ValueError, zlib.error):
            return None

    def corrections(self, now: Block | None, grid: Grid) -> Corrections:
        """Compare the segment as it is now with the result."""
        changed = _difference(self.block, now)
        if changed is None:
            return Corrections()
        pieces = tiltedPieces(changed, grid)
        if pieces:
            return Corrections(planes=tuple(planesThrough(pieces, grid)), changed=changed)
        return Corrections(frozenset(correctedSlices(changed, self.axis)), changed=changed)


def correctedSlices(changed: Block, axis: int) -> set[Slice]:
    """Return the slices on which corrected voxels were painted or erased.

    Strokes that are flat across some axis lie on its slices. What is thick, such as a removed island
    or strokes on many neighbouring slices, is taken for strokes across `axis`; so are thin remnants,
    unless they lie on clearly fewer slices of another axis.
    """
    if changed.mask.size > _MAX_BOX:
        return paintedSlices(changed, axis)
    places, starts = _strokes(changed)
    low, high = np.minimum.reduceat(places, starts), np.maximum.reduceat(places, starts)
    extents = high - low + 1
    isFlat = np.stack([_isFlat(extents, across) for across in range(3)], axis=1)
    found = {
        (int(across), index)
        for stroke, across in np.argwhere(isFlat)
        for index in range(int(low[stroke, across]), int(high[stroke, across]) + 1)
    }
    strokeOf = np.repeat(np.arange(len(starts)), np.diff([*starts, len(places)]))
    isLeft = ~isFlat.any(axis=1)
    isThick = isLeft & (extents.min(axis=1) > 1)
    if isThick.any():
        found |= paintedSlices(_blockOf(places[isThick[strokeOf]]), axis)
    return found | _slicesOfRemnants(places[(isLeft & ~isThick)[strokeOf]], found, axis)


def _slicesOfRemnants(places: np.ndarray, found: set[Slice], axis: int) -> set[Slice]:
    for across, index in found:
        places = places[places[:, across] != index]
    if not len(places):
        return set()
    used = [np.unique(places[:, across]) for across in range(3)]
    fewest = min(range(3), key=lambda across: len(used[across]))
    across = fewest if 3 * len(used[fewest]) - 1 <= len(used[axis]) else axis
    return {(across, int(index)) for index in used[across]}


def _isFlat(extents: np.ndarray, axis: int) -> np.ndarray:
    """Tell of boxes (n, 3) whether they are at least about three times as wide as thick."""
    others = [other for other in range(3) if other != axis]
    return 3 * extents[:, axis] - 1 <= extents[:, others].min(axis=1)


def _strokes(block: Block) -> tuple[np.ndarray, np.ndarray]:
    """Return the voxels (n, 3), connected ones together, and where each stroke begins."""
    image = vtk.vtkImageData()
    image.SetDimensions(*block.mask.shape[::-1])
    voxels = np.ascontiguousarray(block.mask, np.uint8)
    image.GetPointData().SetScalars(numpy_to_vtk(voxels.ravel(), deep=False))
    connect = vtk.vtkImageConnectivityFilter()
    connect.SetInputData(image)
    connect.SetScalarRange(1, 1)
    connect.SetExtractionModeToAllRegions()
    connect.SetLabelScalarTypeToInt()
    connect.Update()
    labels = vtk_to_numpy(connect.GetOutput().GetPointData().GetScalars())[voxels.ravel() > 0]
    order = np.argsort(labels, kind="stable")
    places = np.argwhere(block.mask)[order] + block.first
    return places, np.unique(labels[order], return_index=True)[1]


def _blockOf(places: np.ndarray) -> Block:
    low, high = places.min(axis=0), places.max(axis=0)
    mask = np.zeros(high - low + 1, bool)
    mask[tuple((places - low).T)] = True
    return Block(mask, tuple(int(value) for value in low))


def _difference(before: Block | None, now: Block | None) -> Block | None:
    if before is None or now is None:
        return before or now
    both = before.united(now)
    return Block(both.filled(before) ^ both.filled(now), both.first).cropped()


def _numbers(values) -> str:
    return " ".join(str(int(value)) for value in values)


def _triple(text: str) -> tuple[int, int, int]:
    first, second, third = (int(part) for part in text.split())
    return first, second, third


def _unpacked(first: str, size: str, packed: str) -> Block:
    shape = _triple(size)
    bits = np.frombuffer(zlib.decompress(base64.b64decode(packed, validate=True)), np.uint8)
    count = int(np.prod(shape))
    if len(bits) != -(-count // 8):
        raise ValueError(size)
    steps = np.unpackbits(bits, count=count).reshape(shape)
    return Block(np.logical_xor.accumulate(steps, axis=0), _triple(first))
