"""The files of a dataset: which cases there are, what is drawn in them, what is wrong."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.protocol.dataset import Dataset, natural, refuse
from reglora_core.volumes.files import read_file

Severity = Literal["refused", "skipped", "noted"]
SAME_GRID = 1e-3  # relative to the voxel size


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: with which case or file, what, and what follows."""

    severity: Severity
    subject: str
    what: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.subject}: {self.what}"


@dataclass(frozen=True)
class CaseFiles:
    """One case's files, and what is drawn in it.

    Attributes:
        labels: one label map, or the binary file of each organ that has one.
        voxels: of each wanted organ that is known in the case; 0 where it is known to be absent.
    """

    name: str
    image: Path
    labels: Mapping[str, Path]
    voxels: Mapping[str, int] = field(default_factory=dict)

    def has(self, organ: str) -> bool:
        """Whether the organ is drawn."""
        return self.voxels.get(organ, 0) > 0


def organ_names(dataset: Dataset, data: Path) -> dict[int, str]:
    """Return the organs by label value; none where every organ has its own file.

    Raises:
        InputError: there are no such names, or a wanted organ is none of them.
    """
    if dataset.has_organ_files:
        return {}
    entries = dataset.names
    try:
        if isinstance(entries, str):
            entries = json.loads((data / entries).read_text(encoding="utf-8"))
        names = {int(value): str(name) for value, name in entries.items()}
    except (OSError, ValueError, AttributeError) as error:
        where = f"names {dataset.names!r}: {error}"
        raise refuse(dataset.name, where, 'give {"1": "liver"}, or a JSON file of that') from error
    if unnamed := [organ for organ in dataset.organs if organ not in names.values()]:
        message = f"organ {unnamed[0]!r} is no name of a label value"
        raise refuse(dataset.name, message, f"the names are {', '.join(names.values())}")
    return names


def find_cases(dataset: Dataset, data: Path) -> tuple[list[CaseFiles], list[Problem]]:
    """Return the cases that have an image and labels; what is misnamed or alone is a problem."""
    problems: list[Problem] = []
    images: dict[str, list[tuple[Path, str]]] = {}
    for pattern, labels in zip(dataset.images, dataset.labels, strict=True):
        for path, case in _fitting(data, pattern, dataset.case, problems):
            images.setdefault(case, []).append((path, labels))
    cases = []
    for case in sorted(images, key=natural):
        places = images[case]
        if len(places) > 1:
            listed = " and ".join(str(path.relative_to(data)) for path, _ in places)
            problems.append(Problem("refused", case, f"is there twice: {listed}"))
            continue
        path, labels = places[0]
        own = _label_files(dataset, data, labels, case)
        if own:
            cases.append(CaseFiles(case, path, own))
        else:
            problems.append(Problem("skipped", case, "has an image, but no labels"))
    problems += _labels_alone(dataset, data, set(images))
    return cases, problems


def _fitting(
    data: Path, pattern: str, case: str, problems: list[Problem] | None
) -> Iterator[tuple[Path, str]]:
    """Yield the files of a pattern with the case's name; the others are misnamed."""
    before, after = pattern.split("{case}")
    expression = re.compile(f"^{re.escape(before)}({case}){re.escape(after)}$")
    anything = re.compile(f"^{re.escape(before)}([^/]+){re.escape(after)}$")
    wanted = pattern.replace("{case}", "*")
    for path in sorted(data.glob(wanted)):
        name = path.relative_to(data).as_posix()
        if fits := expression.match(name):
            yield path, fits[1]
        elif problems is not None and anything.match(name):
            problems.append(Problem("skipped", name, f"misnamed: no case is called so ({case})"))


def _label_files(dataset: Dataset, data: Path, pattern: str, case: str) -> dict[str, Path]:
    if not dataset.has_organ_files:
        path = data / pattern.replace("{case}", case)
        return {"": path} if path.is_file() else {}
    own = {}
    for organ in dataset.organs:
        file = pattern.replace("{case}", case).replace("{organ}", dataset.files.get(organ, organ))
        if (data / file).is_file():
            own[organ] = data / file
    return own


def _labels_alone(dataset: Dataset, data: Path, with_image: set[str]) -> list[Problem]:
    alone: dict[str, None] = {}
    for pattern in dataset.labels:
        organs = dataset.organs if "{organ}" in pattern else ("",)
        for organ in organs:
            own = pattern.replace("{organ}", dataset.files.get(organ, organ))
            for _, case in _fitting(data, own, dataset.case, None):
                if case not in with_image:
                    alone[case] = None
    return [Problem("skipped", case, "has labels, but no image") for case in alone]


def missing_cases(dataset: Dataset, data: Path, found: list[CaseFiles]) -> list[Problem]:
    """Return the cases that the index names and that are not there at all."""
    path = data / dataset.index
    if not dataset.index or not path.is_file():
        return []
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            listed = list(json.loads(text))
        else:
            dialect = csv.Sniffer().sniff(text.splitlines()[0], delimiters=",;\t")
            listed = [row[0] for row in csv.reader(text.splitlines(), dialect) if row][1:]
    except (OSError, ValueError, IndexError, csv.Error) as error:
        raise refuse(dataset.name, f"index {path.name}: {error}", "correct it") from error
    here = {case.name for case in found}
    return [
        Problem("skipped", case, f"missing: {path.name} lists it")
        for case in listed
        if case not in here and re.fullmatch(dataset.case, case)
    ]


def look_at(
    case: CaseFiles, dataset: Dataset, names: Mapping[int, str], problems: list[Problem]
) -> tuple[CaseFiles, str]:
    """Read a case's files; return it with what is drawn in it, and its image's checksum.

    Raises:
        InputError: a file is damaged, or labels and image are not on one grid.
    """
    image = read_file(case.image)
    voxels: dict[str, int] = {}
    for organ, path in case.labels.items():
        labels = read_file(path)
        _check_grid(path.name, labels, image)
        values, counts = np.unique(sitk.GetArrayViewFromImage(labels), return_counts=True)
        if organ:
            voxels[organ] = int(counts[values != 0].sum())
            continue
        found = dict(zip(values.tolist(), counts.tolist(), strict=True))
        voxels = {name: int(found.get(value, 0)) for value, name in names.items()}
        if strange := sorted(set(found) - {0} - set(names)):
            listed = ", ".join(f"{value:g}" for value in strange)
            problems.append(Problem("noted", case.name, f"label values without a name: {listed}"))
    known = {
        organ: count
        for organ, count in voxels.items()
        if organ in dataset.organs and (count or not dataset.is_partial)
    }
    digest = hashlib.sha256(sitk.GetArrayViewFromImage(image).tobytes()).hexdigest()
    return replace(case, voxels=known), digest


def _check_grid(name: str, labels: sitk.Image, image: sitk.Image) -> None:
    if labels.GetSize() != image.GetSize():
        message = f"{name} has {labels.GetSize()} voxels, its image {image.GetSize()}"
        raise InputError(message, "resample it")
    limit = SAME_GRID * min(image.GetSpacing())
    apart = [
        abs(a - b)
        for method in ("GetSpacing", "GetOrigin")
        for a, b in zip(getattr(labels, method)(), getattr(image, method)(), strict=True)
    ]
    turned = max(
        abs(a - b) for a, b in zip(labels.GetDirection(), image.GetDirection(), strict=True)
    )
    if max(apart) > limit or turned > SAME_GRID:
        message = f"{name} lies elsewhere than its image"
        raise InputError(message, "resample it")
