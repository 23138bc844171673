"""A dataset in one JSON file: its folders, organs, roles of patients and fixed lists.

    {"format": 1, "name": "openkbp",
     "images": ["train/{case}_ct.nii.gz"], "labels": ["train/{case}_labels.nii.gz"],
     "case": "pt_[0-9]+", "names": {"1": "Brainstem"}, "is_partial": true,
     "base": ["Brainstem"], "novel": ["Larynx"], "pretraining": ["Brainstem"],
     "roles": {"pretraining": ["pt_1..pt_130"], "shots": ["pt_131..pt_200"],
               "validation": ["pt_201"], "test": ["pt_221", "pt_222"]}}

`labels` with `{organ}` in it means one binary file per organ. docs/protocol.md has every entry.
Standard library only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from reglora_core.errors import InputError

FORMAT = 1
Role = Literal["pretraining", "shots", "validation", "test"]
ROLES: tuple[Role, ...] = get_args(Role)
REST = "rest"
_RANGE = re.compile(r"^(?P<prefix>.*?)(?P<first>\d+)\.\.(?P=prefix)(?P<last>\d+)$")


@dataclass(frozen=True)
class Dataset:
    """What is where in a dataset's folder, and which patient serves for what.

    Attributes:
        images, labels: patterns below the data folder, in pairs; `{case}` in both, `{organ}` in
            labels where every organ has a file of its own.
        case: regular expression of a case's name; a file that fits a pattern otherwise is misnamed.
        names: organ by label value (not for `{organ}`); a name of a JSON file in the data folder.
        files: organ to the name its files have, where that is another (`{organ}` only).
        is_partial: an organ that a patient lacks was not drawn: unknown, not absent.
        base, novel: organs that pre-training shows, and organs that it does not.
        pretraining: organs that pre-training is given; those of base.
        roles: patients by role: names, ranges "pt_1..pt_9", or "rest".
        organ_lists: folder with ORGAN_train.txt and ORGAN_test.txt as FSEFT publishes them; then
            every organ has its own shots and test patients.
        index: file in the data folder that names every case: a JSON object's keys, or a CSV
            table's first column.
        source, licence: for the record.
    """

    name: str
    images: tuple[str, ...]
    labels: tuple[str, ...]
    base: tuple[str, ...]
    novel: tuple[str, ...] = ()
    pretraining: tuple[str, ...] = ()
    roles: Mapping[Role, tuple[str, ...]] = field(default_factory=dict)
    case: str = ".+"
    names: Mapping[str, str] | str = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    is_partial: bool = True
    organ_lists: str = ""
    index: str = ""
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        _check_patterns(self)
        _check_organs(self)
        _check_roles(self)

    @property
    def organs(self) -> tuple[str, ...]:
        return (*self.base, *self.novel)

    @property
    def has_organ_files(self) -> bool:
        """Whether every organ has a file of its own."""
        return "{organ}" in self.labels[0]


def refuse(name: str, problem: str, what_to_do: str) -> InputError:
    """Return the error of a description that cannot be used."""
    return InputError(f"dataset {name}: {problem}", what_to_do)


def shipped_datasets() -> dict[str, Path]:
    """Return the descriptions that come with the library, by name."""
    folder = Path(str(resources.files("reglora_core.protocol") / "datasets"))
    return {path.stem: path for path in sorted(folder.glob("*.json"))}


def read_dataset(name_or_file: str | Path) -> Dataset:
    """Read a dataset's description: one that is shipped, or a file.

    Raises:
        InputError: it is missing, no JSON object, of a newer format, or has an entry that is
            unknown, missing or contradictory.
    """
    path = shipped_datasets().get(str(name_or_file), Path(name_or_file))
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(shipped_datasets())
        message = f"{path}: the dataset's description cannot be read ({error.strerror})"
        raise InputError(message, f"give a file, or one of {known}") from error
    except ValueError as error:
        message = f"{path.name}: not JSON ({error})"
        raise InputError(message, "see docs/protocol.md") from error
    if not isinstance(entries, dict) or entries.pop("format", None) != FORMAT:
        message = f"{path.name}: not a dataset's description of format {FORMAT}"
        raise InputError(message, "see docs/protocol.md")
    return dataset_from_dict(entries, path.name)


def dataset_from_dict(entries: Mapping[str, Any], name: str) -> Dataset:
    """Return the dataset that JSON entries describe."""
    known = {entry.name: entry for entry in fields(Dataset)}
    if unknown := sorted(entries.keys() - known.keys()):
        raise refuse(name, f"unknown entry {unknown[0]!r}", f"choose from {', '.join(known)}")
    missing = {"name", "images", "labels", "base"} - entries.keys()
    if missing:
        raise refuse(name, f"no entry {min(missing)!r}", "add it; see docs/protocol.md")
    converted = {key: _converted(name, key, value) for key, value in entries.items()}
    return Dataset(**converted)


def _converted(name: str, key: str, value: Any) -> Any:
    if key in ("images", "labels", "base", "novel", "pretraining"):
        return _texts(name, key, [value] if isinstance(value, str) else value)
    if key == "roles":
        if not isinstance(value, dict):
            raise refuse(name, f"roles is {value!r}", "give an object: role to a list of patients")
        return {role: _texts(name, role, own) for role, own in value.items()}
    kinds: dict[str, Any] = {"is_partial": bool, "files": dict, "names": (dict, str)}
    if not isinstance(value, kinds.get(key, str)):
        raise refuse(name, f"{key} is {value!r}", "see docs/protocol.md for its type")
    return value


def _texts(name: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise refuse(name, f"{key} is {value!r}", "give a list of texts")
    return tuple(value)


def _check_patterns(dataset: Dataset) -> None:
    if not dataset.images or len(dataset.images) != len(dataset.labels):
        counts = f"{len(dataset.images)} patterns of images, {len(dataset.labels)} of labels"
        raise refuse(dataset.name, counts, "give one pattern of labels per pattern of images")
    for pattern in (*dataset.images, *dataset.labels):
        if pattern.count("{case}") != 1:
            raise refuse(dataset.name, f"pattern {pattern!r}", "name {case} in it, once")
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise refuse(dataset.name, f"pattern {pattern!r}", "stay below the data folder")
    if len({"{organ}" in pattern for pattern in dataset.labels}) > 1:
        raise refuse(dataset.name, "some labels have {organ}, some not", "choose one way")
    if not dataset.names and not dataset.has_organ_files:
        raise refuse(dataset.name, "no names of the label values", 'add names: {"1": "liver"}')
    try:
        re.compile(dataset.case)
    except re.error as error:
        raise refuse(dataset.name, f"case {dataset.case!r}", f"correct it: {error}") from error


def _check_organs(dataset: Dataset) -> None:
    if not dataset.base:
        raise refuse(dataset.name, "no base organ", "name at least one")
    if twice := _repeated(dataset.organs):
        raise refuse(dataset.name, f"organ {twice[0]!r} is listed twice", "list it once")
    if seen := sorted(set(dataset.pretraining) & set(dataset.novel)):
        message = f"novel organ {seen[0]!r} is given to pre-training"
        raise refuse(dataset.name, message, "a novel organ is one that the network never saw")


def _check_roles(dataset: Dataset) -> None:
    for role, patients in dataset.roles.items():
        if role not in ROLES:
            raise refuse(dataset.name, f"role {role!r}", f"choose one of {', '.join(ROLES)}")
        if twice := _repeated(patients):
            raise refuse(dataset.name, f"{role}: {twice[0]!r} is listed twice", "list it once")
    rests = [role for role, patients in dataset.roles.items() if REST in patients]
    if len(rests) > 1 or "test" in rests:
        hint = "test patients are a fixed list; one other role may have the rest"
        raise refuse(dataset.name, f"{' and '.join(rests)} have the rest of the patients", hint)


def _repeated(items: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [item for item in items if item in seen or seen.add(item)]  # type: ignore[func-returns-value]


def natural(name: str) -> tuple[Any, ...]:
    """Return a key by which pt_9 comes before pt_10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts)


def members(patients: Sequence[str], present: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the cases that a role's list names, in its order, and those it names in vain.

    A range takes the present cases whose number lies in it; it names none in vain.
    """
    ordered = sorted(present, key=natural)
    found: dict[str, None] = {}
    absent = []
    for entry in patients:
        if limits := _RANGE.match(entry):
            found.update(dict.fromkeys(_in_range(ordered, limits)))
        elif entry in ordered:
            found[entry] = None
        elif entry != REST:
            absent.append(entry)
    return list(found), absent


def _in_range(ordered: Sequence[str], limits: re.Match[str]) -> list[str]:
    prefix, first, last = limits["prefix"], int(limits["first"]), int(limits["last"])
    numbers = {case: case.removeprefix(prefix) for case in ordered if case.startswith(prefix)}
    return [case for case, n in numbers.items() if n.isdigit() and first <= int(n) <= last]
