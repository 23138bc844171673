"""A study in one JSON file: which methods are fitted how often to which organs, and how.

    {"format": 1, "name": "must-hold", "dataset": "openkbp", "spacing_mm": 4.0,
     "adapter_targets": "^encoder\\.[2-4]", "pretraining": {"steps": 1200},
     "methods": [{"name": "lora", "ranks": [8, 32, 64]}, {"name": "linear-probe"}],
     "organs": ["Mandible", "Larynx"], "shots": [5], "draws": [[1, 0], [2, 1], [3, 2]],
     "role": "validation", "fit": {"steps": 120}}

docs/study.md has every entry. Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from reglora_core.errors import InputError

FORMAT = 1
ScoredRole = Literal["validation", "test"]
_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class MethodPlan:
    """One method of a study.

    Attributes:
        ranks: initial ranks of a low-rank method, a fit for each; none for the others.
        penalty: lambda, where it is not the method's own.
        learning_rate: where it is not the published one.
    """

    name: str
    ranks: tuple[int, ...] = ()
    penalty: float | None = None
    learning_rate: float | None = None


@dataclass(frozen=True)
class FitConfig:
    """How one fit is trained: the defaults are FSEFT's and ARENA's.

    Attributes:
        epochs: of k steps each, one for each volume; a cosine of the learning rate over them.
        steps: in place of epochs, whatever k is, if not 0.
        crop: edge of a crop in working voxels.
        crops: crops of one volume in a step.
        positive: share of the crops that are around the organ; the others are anywhere.
        shift: largest shift of intensities in HU, 0.1 of FSEFT's window of 425 HU.
        shift_probability: of a crop.
        head_learning_rate: the network's if None, as published.
        trains_decoder_for_novel: as FSEFT does for organs that the network never saw.
        decoder_learning_rate: the most that any method has there (arena+: for the decoder
            alone); 1e-4 as published.
        stops_early: ARENA's early stop; an epoch is k steps.
        log_every: steps between two points of the curve.
    """

    epochs: int = 200
    steps: int = 0
    crop: int = 96
    crops: int = 6
    positive: float = 0.5
    shift: float = 42.5
    shift_probability: float = 0.2
    head_learning_rate: float | None = None
    trains_decoder_for_novel: bool = True
    decoder_learning_rate: float = 1e-4
    stops_early: bool = False
    log_every: int = 5

    def __post_init__(self) -> None:
        if self.steps < 0:
            message = f"fit: steps is {self.steps}"
            raise InputError(message, "choose at least 1, or leave it out for epochs")
        for name in ("epochs", "crop", "crops", "log_every"):
            if getattr(self, name) < 1:
                message = f"fit: {name} is {getattr(self, name)}"
                raise InputError(message, "choose at least 1")
        if not 0 <= self.positive <= 1:
            message = f"fit: positive is {self.positive}"
            raise InputError(message, "choose a share from 0 to 1")
        if not 0 <= self.shift_probability <= 1 or self.shift < 0:
            message = f"fit: shift is {self.shift} HU, probability {self.shift_probability}"
            raise InputError(message, "choose a shift of at least 0, a probability from 0 to 1")

    def steps_for(self, k: int) -> int:
        """Return the optimizer steps of a fit to k shots."""
        return self.steps or self.epochs * k


@dataclass(frozen=True)
class StudyConfig:
    """A study.

    Attributes:
        dataset: shipped description by name, or a file (relative to the study's).
        base: base network by name or file of weights (relative to the study's); empty: the one
            that `pretraining` makes.
        pretraining: entries of `PretrainConfig` but for its data: role, organs and spacing are
            the study's.
        adapter_targets: regular expression of the layers that get a low-rank update; empty: the
            base network's own.
        spacing_mm: of the working grid; None: the base network's own.
        organs: all of the dataset if none is named.
        draws: (fold, seed) pairs: fold says which shots, seed everything random in the fit.
        role: of the patients that are scored. Choices are made on validation patients.
        patients: at most so many are scored, the first of the list; 0: all.
    """

    name: str
    dataset: str
    methods: tuple[MethodPlan, ...]
    base: str = ""
    pretraining: Mapping[str, Any] = field(default_factory=dict)
    adapter_targets: str = ""
    spacing_mm: float | None = None
    organs: tuple[str, ...] = ()
    shots: tuple[int, ...] = (1, 5, 10)
    draws: tuple[tuple[int, int], ...] = ((1, 0), (2, 1), (3, 2))
    role: ScoredRole = "validation"
    patients: int = 0
    fit: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        if self.role not in get_args(ScoredRole):
            message = f"study {self.name}: role is {self.role!r}"
            raise InputError(message, f"choose one of {', '.join(get_args(ScoredRole))}")
        for name in ("methods", "shots", "draws"):
            if not getattr(self, name):
                message = f"study {self.name}: {name} is empty"
                raise InputError(message, "name at least one; see docs/study.md")
        if not (self.base or self.pretraining):
            message = f"study {self.name}: neither base nor pretraining"
            raise InputError(message, "name a base network, or say how to pre-train one")


def read_study(path: Path) -> StudyConfig:
    """Read a study file.

    Raises:
        InputError: it is missing, no JSON object, of another format, or has an entry that is
            unknown, missing or of the wrong type.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: the study file cannot be read ({error.strerror})"
        raise InputError(message, "check the path") from error
    except ValueError as error:
        message = f"{path.name}: not JSON ({error})"
        raise InputError(message, "see docs/study.md") from error
    if not isinstance(entries, dict) or entries.pop("format", None) != FORMAT:
        message = f"{path.name}: not a study of format {FORMAT}"
        raise InputError(message, "see docs/study.md")
    return study_from_dict(entries, path)


def study_from_dict(entries: Mapping[str, Any], path: Path) -> StudyConfig:
    """Return the study that JSON entries describe; files are relative to the study file."""
    name, values = path.name, dict(entries)
    for key in ("organs", "shots"):
        if key in values:
            values[key] = tuple(_listed(name, key, values[key]))
    if "draws" in values:
        values["draws"] = _draws(name, values["draws"])
    plans = _listed(name, "methods", values.get("methods"))
    values["methods"] = tuple(_method(name, plan) for plan in plans)
    values["fit"] = _entry(name, FitConfig, values.get("fit", {}))
    for key in ("dataset", "base"):
        beside = path.parent / str(values.get(key, ""))
        if values.get(key) and beside.is_file():
            values[key] = str(beside)
    return _entry(name, StudyConfig, values)


def _method(name: str, plan: Any) -> MethodPlan:
    entries = {"name": plan} if isinstance(plan, str) else plan
    if isinstance(entries, dict) and "ranks" in entries:
        entries = {**entries, "ranks": tuple(_listed(name, "ranks", entries["ranks"]))}
    return _entry(name, MethodPlan, entries)


def _draws(name: str, value: Any) -> tuple[tuple[int, int], ...]:
    pairs = _listed(name, "draws", value)
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        message = f"{name}: draws is {value!r}"
        raise InputError(message, "give pairs of fold and seed, such as [[1, 0], [2, 1]]")
    return tuple((int(fold), int(seed)) for fold, seed in pairs)


def _listed(name: str, key: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        message = f"{name}: {key} is {value!r}"
        raise InputError(message, "give a list")
    return value


def _entry(name: str, kind: type[_Entry], entries: Any) -> _Entry:
    if not isinstance(entries, dict):
        message = f"{name}: {entries!r} in place of a JSON object"
        raise InputError(message, "see docs/study.md")
    known = [entry.name for entry in fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(entries.keys() - set(known)):
        message = f"{name}: unknown entry {unknown[0]!r}"
        raise InputError(message, f"choose from {', '.join(known)}")
    try:
        return kind(**entries)
    except TypeError as error:
        message = f"{name}: an entry is missing or of the wrong type ({error})"
        raise InputError(message, "see docs/study.md") from error
