"""Slicer's own Grow from seeds and Fill between slices, as the level to beat.

    python slicer_anchors.py IMAGE LABELS --spacing 3 --out FOLDER
    python slicer_anchors.py IMAGE REFERENCE --thin-to 5 --spacing 3 --out FOLDER

LABELS holds paint on the annotated slices only; which they are is found, or said by ``--annotated
z:12,40,77`` (z, y or x: an axis of the file's array). With ``--thin-to N`` it is a whole reference:
N of its slices are kept as the annotation, and the result is scored on all the others.

The folder receives ``grow_from_seeds.nii.gz`` and ``fill_between_slices.nii.gz``, on the image's
grid and with the label values of LABELS, and ``anchors.json``: the seconds of each filter alone,
the process's peak memory in MiB, and, when there is a reference, the Dice.

What runs is what Slicer's segment editor runs, taken from the wheel ``slicer-core``:
`vtkImageGrowCutSegment` (Zhu et al., "An effective interactive medical image segmentation method
using fast GrowCut", MICCAI workshop on interactive medical image computing, 2014) and
`vtkITKMorphologicalContourInterpolator` (Zukic et al., Insight Journal 2016). Grow from seeds
needs a seed for the background: every unpainted voxel of an annotated slice is one. Seeds on the
border of the array do not propagate, so the arrays are padded by one voxel.

This file is outside the core, so it may import Slicer. It leaves with `os._exit`, because the
normal end of an interpreter that has loaded VTK can crash.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253
import slicer  # noqa: TID251
import vtk  # noqa: TID251
from numpy.typing import NDArray  # noqa: TID253
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy  # noqa: TID251

from reglora_core.errors import InputError, RegLoRAError

Volume = NDArray[Any]
SMALL_LABELS = 254  # the filters take 8-bit labels; one more value is the background seed's


@dataclass(frozen=True)
class Grid:
    """How a working grid samples an image: the first voxel is shared, the spacing is not.

    Attributes:
        step: voxels of the image per voxel of the grid, (z, y, x).
        size: voxels of the grid, (z, y, x).
        image_size: voxels of the image, (z, y, x).
    """

    step: tuple[float, ...]
    size: tuple[int, ...]
    image_size: tuple[int, ...]

    @classmethod
    def of(cls, image: sitk.Image, spacing_mm: float | None) -> Grid:
        """Return the grid of that isotropic spacing, or the image's own if it is None."""
        image_size = image.GetSize()[::-1]
        if spacing_mm is None:
            return cls((1.0, 1.0, 1.0), image_size, image_size)
        step = tuple(spacing_mm / length for length in image.GetSpacing()[::-1])
        size = tuple(round((n - 1) / s) + 1 for n, s in zip(image_size, step, strict=True))
        return cls(step, size, image_size)

    def to_grid(self, volume: Volume) -> Volume:
        """Sample an array on the image's grid at the nearest voxels."""
        return volume[np.ix_(*(self._image_index(axis) for axis in range(3)))]

    def to_image(self, volume: Volume) -> Volume:
        """Sample an array on this grid at the image's voxels (nearest)."""
        places = (
            np.clip(np.rint(np.arange(n) / s).astype(int), 0, m - 1)
            for n, s, m in zip(self.image_size, self.step, self.size, strict=True)
        )
        return volume[np.ix_(*places)]

    def slice_index(self, axis: int, index: int) -> int:
        """Return the grid's slice that is nearest to a slice of the image."""
        return min(round(index / self.step[axis]), self.size[axis] - 1)

    def seeds(self, labels: Volume, axis: int, slices: Sequence[int]) -> tuple[Volume, list[int]]:
        """Carry each annotated slice to its nearest slice of the grid, so that none is lost."""
        inside = self.to_grid(np.zeros_like(labels))
        indices = [self._image_index(a) for a in range(3)]
        for index in slices:
            indices[axis] = np.array([index])
            place = self.slice_index(axis, index)
            paint = np.take(labels[np.ix_(*indices)], 0, axis)
            target = np.moveaxis(inside, axis, 0)[place]
            target[paint > 0] = paint[paint > 0]
        return inside, sorted({self.slice_index(axis, index) for index in slices})

    def _image_index(self, axis: int) -> NDArray[np.intp]:
        places = np.rint(np.arange(self.size[axis]) * self.step[axis]).astype(np.intp)
        return np.clip(places, 0, self.image_size[axis] - 1)


def resample_intensities(image: sitk.Image, grid: Grid) -> Volume:
    """Return the image on the grid, float32 (z, y, x): block averages, then linear."""
    image = sitk.Cast(image, sitk.sitkFloat32)
    if grid.size == grid.image_size:
        return sitk.GetArrayFromImage(image)
    blocks = [max(1, int(step)) for step in grid.step[::-1]]
    spacing = [a * b for a, b in zip(image.GetSpacing(), grid.step[::-1], strict=True)]
    lowest = float(sitk.GetArrayViewFromImage(image).min())
    resampled = sitk.Resample(
        sitk.BinShrink(image, blocks),
        list(grid.size[::-1]),
        sitk.Transform(),
        sitk.sitkLinear,
        image.GetOrigin(),
        spacing,
        image.GetDirection(),
        lowest,
        sitk.sitkFloat32,
        True,  # extrapolate: the averaged image ends half a block before the border
    )
    return sitk.GetArrayFromImage(resampled)


def to_vtk(volume: Volume, vtk_type: int) -> vtk.vtkImageData:
    """Copy an array (z, y, x), padded by one voxel, into a VTK image."""
    padded = np.ascontiguousarray(volume)
    image = vtk.vtkImageData()
    image.SetDimensions(*padded.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(padded.ravel(), deep=True, array_type=vtk_type))
    return image


def from_vtk(image: vtk.vtkImageData) -> Volume:
    """Copy a VTK image into an array (z, y, x) without its padding of one voxel."""
    scalars = vtk_to_numpy(image.GetPointData().GetScalars())
    return scalars.reshape(image.GetDimensions()[::-1])[1:-1, 1:-1, 1:-1].copy()


def grow_from_seeds(intensities: Volume, seeds: Volume, axis: int, slices: list[int]) -> Volume:
    """Run Slicer's Grow from seeds; unpainted voxels of the slices are background seeds."""
    background = SMALL_LABELS + 1
    seeds = seeds.copy()
    on_slices = np.moveaxis(seeds, axis, 0)  # a view
    on_slices[slices] = np.where(on_slices[slices] > 0, on_slices[slices], background)
    grow = slicer.vtkImageGrowCutSegment()
    grow.SetIntensityVolume(to_vtk(np.pad(intensities, 1, mode="edge"), vtk.VTK_FLOAT))
    grow.SetSeedLabelVolume(to_vtk(np.pad(seeds, 1), vtk.VTK_UNSIGNED_CHAR))
    grow.Update()
    grown = from_vtk(grow.GetOutput())
    grown[grown == background] = 0
    return grown


def fill_between_slices(seeds: Volume) -> Volume:
    """Run Slicer's Fill between slices with the segment editor's settings (all axes)."""
    fill = slicer.vtkITKMorphologicalContourInterpolator()
    fill.SetInputData(to_vtk(np.pad(seeds, 1).astype(np.int16), vtk.VTK_SHORT))
    fill.Update()
    return from_vtk(fill.GetOutput()).astype(np.uint8)


def evenly_spaced(labels: Volume, count: int) -> tuple[int, ...]:
    """Return the slices (first axis) at the middles of `count` equal parts of the organs' extent.

    With lo and hi the first and the last slice that hold any organ: lo + (i + 1/2)(hi - lo)/count.
    """
    painted = np.flatnonzero(labels.any(axis=(1, 2)))
    low, high = int(painted[0]), int(painted[-1])
    places = {int(np.rint(low + (i + 0.5) * (high - low) / count)) for i in range(count)}
    return tuple(sorted(places))


def read_labels(path: Path, image: sitk.Image, organs: list[int]) -> tuple[Volume, list[int]]:
    """Return the labels on the image's grid as 0..n (uint8), and the value behind each number."""
    labels = sitk.ReadImage(str(path))
    if labels.GetNumberOfComponentsPerPixel() > 1:
        message = f"{path.name}: overlapping segments; save it as a label map"
        raise InputError(message)
    labels = sitk.Resample(labels, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
    array = sitk.GetArrayFromImage(labels)
    values = [int(v) for v in np.unique(array) if v and (not organs or int(v) in organs)]
    if not 0 < len(values) <= SMALL_LABELS:
        message = f"{path.name}: {len(values)} organs painted; give 1 to {SMALL_LABELS}"
        raise InputError(message)
    numbers = np.searchsorted([0, *values], array).clip(0, len(values))
    is_known = np.array([0, *values])[numbers] == array
    return np.where(is_known, numbers, 0).astype(np.uint8), values


def annotated_slices(labels: Volume) -> tuple[int, tuple[int, ...]]:
    """Return the axis that was painted across, and its slices with any paint."""
    from reglora_core.annotation import detect_axis  # here, so that its torch is no one's memory

    axis = detect_axis(labels > 0)
    others = tuple(a for a in range(3) if a != axis)
    return axis, tuple(int(index) for index in np.flatnonzero(labels.any(axis=others)))


def dice_outside(
    prediction: Volume, reference: Volume, axis: int, slices: Iterable[int]
) -> list[float]:
    """Return the Dice of each organ outside some slices; NaN if the reference has none there."""
    found = np.delete(prediction, list(slices), axis)
    expected = np.delete(reference, list(slices), axis)
    dice = []
    for value in range(1, int(reference.max()) + 1):
        ours, theirs = found == value, expected == value
        total = int(ours.sum()) + int(theirs.sum())
        dice.append(2 * int((ours & theirs).sum()) / total if theirs.any() else math.nan)
    return dice


@dataclass(frozen=True)
class Case:
    """An image with the labels on its annotated slices, and perhaps the whole reference."""

    image: sitk.Image
    labels: Volume
    values: list[int]
    axis: int
    slices: tuple[int, ...]
    reference: Volume | None

    @classmethod
    def read(cls, arguments: argparse.Namespace) -> Case:
        image = sitk.ReadImage(str(arguments.image))
        labels, values = read_labels(arguments.labels, image, arguments.organs)
        if arguments.thin_to is None:
            axis, slices = arguments.annotated or annotated_slices(labels)
            if slices[-1] >= labels.shape[axis]:
                message = f"--annotated: slice {slices[-1]} is outside the image"
                raise InputError(message, f"its slices are 0 to {labels.shape[axis] - 1}")
            return cls(image, labels, values, axis, slices, None)
        slices = evenly_spaced(labels, arguments.thin_to)
        painted = np.zeros_like(labels)
        painted[list(slices)] = labels[list(slices)]
        return cls(image, painted, values, 0, slices, labels)


def run_anchor(case: Case, grid: Grid, anchor: Callable[[], Volume], path: Path) -> dict[str, Any]:
    """Run one of the filters, write its result on the image's grid, and return its record."""
    start = time.perf_counter()
    on_grid = anchor()
    record: dict[str, Any] = {"seconds": round(time.perf_counter() - start, 2), "file": path.name}
    whole = grid.to_image(on_grid)
    np.moveaxis(whole, case.axis, 0)[list(case.slices)] = np.moveaxis(case.labels, case.axis, 0)[
        list(case.slices)
    ]
    original = np.array([0, *case.values])[whole]
    written = sitk.GetImageFromArray(original.astype(np.min_scalar_type(max(case.values))))
    written.CopyInformation(case.image)
    sitk.WriteImage(written, str(path), useCompression=True)
    record["peak_memory_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    if case.reference is not None:
        record.update(scores(case, grid, on_grid, whole))
    return record


def scores(case: Case, grid: Grid, on_grid: Volume, whole: Volume) -> dict[str, Any]:
    """Return the Dice on the slices that are not annotated, on the image's grid and the working."""
    assert case.reference is not None
    each = dice_outside(whole, case.reference, case.axis, case.slices)
    places = {grid.slice_index(case.axis, index) for index in case.slices}
    on_working = dice_outside(on_grid, grid.to_grid(case.reference), case.axis, places)
    return {
        "mean_dice": round(float(np.nanmean(each)), 4),
        "mean_dice_on_working_grid": round(float(np.nanmean(on_working)), 4),
        "dice": {
            str(value): None if math.isnan(dice) else round(dice, 4)
            for value, dice in zip(case.values, each, strict=True)
        },
    }


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run both filters on one case; returns what ``anchors.json`` holds."""
    case = Case.read(arguments)
    grid = Grid.of(case.image, arguments.spacing)
    arguments.out.mkdir(parents=True, exist_ok=True)
    intensities = resample_intensities(case.image, grid)
    seeds, places = grid.seeds(case.labels, case.axis, case.slices)
    anchors: dict[str, Callable[[], Volume]] = {
        "grow_from_seeds": lambda: grow_from_seeds(intensities, seeds, case.axis, places),
        "fill_between_slices": lambda: fill_between_slices(seeds),
    }
    record: dict[str, Any] = {
        "spacing_mm": arguments.spacing or "native",
        "annotated_axis": "zyx"[case.axis],
        "annotated_slices": list(case.slices),
        "slicer_core": version("slicer-core"),
    }
    for name, anchor in anchors.items():
        record[name] = run_anchor(case, grid, anchor, arguments.out / f"{name}.nii.gz")
    (arguments.out / "anchors.json").write_text(json.dumps(record, indent=2) + "\n")
    return record


def parse_annotated(text: str) -> tuple[int, tuple[int, ...]]:
    """Return axis and slices of text such as ``z:12,40,77``."""
    axis, _, numbers = text.partition(":")
    return "zyx".index(axis), tuple(sorted({int(number) for number in numbers.split(",")}))


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the arguments; `spacing` is None for the image's own grid."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--spacing",
        type=lambda text: None if text == "native" else float(text),
        default=3.0,
        help="millimetres of the isotropic working grid, or 'native' (default: 3)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--thin-to", type=int, help="LABELS is a reference: keep so many slices")
    which.add_argument(
        "--annotated",
        type=parse_annotated,
        metavar="z:12,40,77",
        help="annotated slices, along z, y or x of the file's array (default: those with paint)",
    )
    parser.add_argument(
        "--organs",
        type=lambda text: [int(value) for value in text.split(",")],
        default=[],
        help="label values to use, comma-separated (default: all)",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    try:
        record = run(parse(argv))
    except RegLoRAError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(record, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
