"""The scans that a base network is pre-trained on, with partial labels.

A dataset is described in the configuration file:

    {"name": "openkbp", "share": 0.4,
     "images": "openkbp/train/pt_*_ct.nii.gz",           a pattern below the data folder
     "labels": ["_ct.nii.gz", "_labels.nii.gz"],         file name of the labels: replace, by
     "names": "openkbp/labels.json" | {"1": "spleen"},   what the values mean
     "rename": {"SpinalCord": "spinal_cord"},
     "absent_is_known": false}                           is an organ without voxels truly absent?

An organ that is not known in a case is merged into the background there, so that the case says
nothing about it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.grids import Grid, canonical_array
from reglora_core.intensity import detect_modality, to_hounsfield

BACKGROUND = "background"


@dataclass(frozen=True)
class Dataset:
    """One entry of the configuration's list of data."""

    name: str
    images: str
    share: float  # of the crops drawn
    labels: tuple[str, str] | str = ""
    names: str | dict[str, str] = field(default_factory=dict)
    rename: dict[str, str] = field(default_factory=dict)
    absent_is_known: bool = True

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> Dataset:
        labels = entry.get("labels", "")
        return cls(**{**entry, "labels": tuple(labels) if isinstance(labels, list) else labels})


@dataclass(frozen=True)
class Case:
    """One scan on the working grid.

    Attributes:
        hounsfield: int16 (z, y, x).
        labels: uint8 class ids (z, y, x), 0 is background or unknown.
        is_known: bool (classes,); background is always known.
        share: probability of being drawn, over all cases.
    """

    name: str
    hounsfield: torch.Tensor
    labels: torch.Tensor
    is_known: torch.Tensor
    share: float


@dataclass(frozen=True)
class _Source:
    dataset: Dataset
    image: Path
    labels: Path | None
    names: dict[int, str]


def _sources(dataset: Dataset, data: Path) -> Iterator[_Source]:
    paths = sorted(data.glob(dataset.images))
    if not paths:
        message = f"{data / dataset.images}: no scan of dataset {dataset.name!r} found"
        raise InputError(message, "check --data")
    for image in paths:
        labels: Path | None = None
        if isinstance(dataset.labels, tuple):
            labels = image.with_name(image.name.replace(*dataset.labels))
        elif dataset.labels:
            labels = image.parent / dataset.labels
        if labels is not None and not labels.exists():
            labels = None
        yield _Source(dataset, image, labels, _names(dataset, image, data) if labels else {})


def _names(dataset: Dataset, image: Path, data: Path) -> dict[int, str]:
    names = dataset.names
    if isinstance(names, str):
        beside = image.parent / names
        path = beside if beside.exists() else data / names
        names = json.loads(path.read_text(encoding="utf-8"))
    return {int(value): dataset.rename.get(name, name) for value, name in names.items()}


def _read(path: Path) -> sitk.Image:
    if not path.is_dir():
        return sitk.ReadImage(str(path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
    return reader.Execute()


def _read_case(source: _Source, class_ids: dict[str, int], working_mm: float, share: float) -> Case:
    image = _read(source.image)
    array, spacing, orientation = canonical_array(image)
    grid = Grid.of(array.shape, spacing, working_mm)
    voxels = torch.from_numpy(np.ascontiguousarray(array).astype(np.float32))
    hounsfield = to_hounsfield(grid.to_working(voxels), detect_modality(voxels))

    labels = torch.zeros(grid.working_shape, dtype=torch.uint8)
    is_known = torch.zeros(len(class_ids), dtype=torch.bool)
    is_known[0] = True
    if source.labels is not None:
        drawn = sitk.ReadImage(str(source.labels), sitk.sitkUInt16)
        drawn = sitk.Resample(drawn, image, sitk.Transform(), sitk.sitkNearestNeighbor, 0)
        native = orientation.canonical(sitk.GetArrayFromImage(drawn)).astype(np.int64)
        working = grid.nearest_to_working(torch.from_numpy(native))
        table = torch.zeros(int(working.max()) + 1, dtype=torch.uint8)
        for value, name in source.names.items():
            if name not in class_ids:
                continue
            is_present = value < len(table) and bool((working == value).any())
            if is_present:
                table[value] = class_ids[name]
            is_known[class_ids[name]] = is_present or source.dataset.absent_is_known
        labels = table[working]
    name = f"{source.dataset.name}/{source.image.parent.name}/{source.image.name}"
    return Case(name, hounsfield.round().to(torch.int16), labels, is_known, share)


def class_names(datasets: list[Dataset], data: Path) -> tuple[str, ...]:
    """Return the names that occur in the data's label maps, background first."""
    found: set[str] = set()
    for dataset in datasets:
        for source in _sources(dataset, data):
            if source.labels is None:
                continue
            drawn = sitk.ReadImage(str(source.labels), sitk.sitkUInt16)
            present = np.unique(sitk.GetArrayViewFromImage(drawn)).tolist()
            found.update(source.names[value] for value in present if value in source.names)
    return (BACKGROUND, *sorted(found))


def read_cases(
    datasets: list[Dataset], data: Path, classes: tuple[str, ...], working_mm: float
) -> list[Case]:
    """Read every scan of the datasets onto the working grid.

    Raises:
        InputError: a dataset's pattern finds no file.
    """
    class_ids = {name: index for index, name in enumerate(classes)}
    cases: list[Case] = []
    for dataset in datasets:
        sources = list(_sources(dataset, data))
        share = dataset.share / len(sources)
        cases += [_read_case(source, class_ids, working_mm, share) for source in sources]
    return cases
