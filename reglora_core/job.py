"""Jobs: what is to be done, as data. The file format is the contract with the panel.

A job is a JSON object with ``"format": 1`` and ``"command"`` (adapt, predict or evaluate); the
other entries are the fields below, with their defaults where they are left out. Paths are
relative to the job file's folder unless they are absolute. Unknown entries are refused, so that
a misspelt option cannot go unnoticed.

    {"format": 1, "command": "adapt", "images": ["ct.nrrd"], "labels": ["painted.seg.nrrd"],
     "out": "result", "rank": 8, "budget": 55}

This module needs nothing beyond the standard library.
"""

from __future__ import annotations

import json
import types
import typing
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from reglora_core.errors import InputError
from reglora_core.methods.catalogue import METHODS as METHODS

FORMAT = 1
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
AXES = ("axial", "coronal", "sagittal")
SEGMENTATION_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha")


def _refuse(field_name: str, value: object, what_to_do: str) -> typing.NoReturn:
    message = f"{field_name}: {value!r} cannot be used"
    raise InputError(message, what_to_do)


@dataclass(frozen=True)
class Annotated:
    """Which slices count as fully annotated.

    Text forms: ``auto``; ``all``; ``axial:12,40,77`` (coronal, sagittal), slice numbers counted
    from 0 as in the file, along the file's axis that is nearest to that direction.
    """

    kind: str = "auto"
    axis: str = ""
    slices: tuple[int, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Annotated:
        if text in ("auto", "all"):
            return cls(text)
        axis, _, numbers = text.partition(":")
        try:
            slices = tuple(sorted({int(number) for number in numbers.split(",")}))
        except ValueError:
            slices = ()
        if axis not in AXES or not slices or slices[0] < 0:
            _refuse("annotated", text, "give auto, all, or slices as in axial:12,40,77")
        return cls("slices", axis, slices)

    def __str__(self) -> str:
        if self.kind != "slices":
            return self.kind
        return f"{self.axis}:{','.join(map(str, self.slices))}"


@dataclass(frozen=True)
class AdaptJob:
    """Adapt a base network to painted slices and segment the painted images."""

    command: ClassVar[str] = "adapt"

    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    out: Path
    model: str = "reglora-tiny"  # a name of the registry, or a file of weights
    method: str = "arena"
    rank: int = 8  # initial rank; the surviving one is found
    annotated: tuple[str, ...] = ("auto",)  # one for all images, or one per image
    not_painted: tuple[dict[str, list[int]], ...] = ()  # per image: organ -> slices not drawn yet
    ignore_label: int | None = None
    names: dict[int, str] = field(default_factory=dict)
    from_adapter: Path | None = None
    correct: bool = False  # a correction round: keep that adapter's update, fit its heads on
    experts: tuple[Path | None, ...] = ()  # per image: a propagation result to fuse (Slicer's)
    budget: float = 55.0  # seconds for fitting; what is best by then is kept
    steps: int | None = None  # adaptation steps instead of a budget: reproducible
    device: str = "auto"
    threads: int | None = None
    seed: int = 0
    precision: str = "auto"  # of the networks; auto: 16 bits where they are fast

    def __post_init__(self) -> None:
        self._check_images()
        self._check_method()
        _check_device(self.device, self.precision, self.threads)

    def _check_images(self) -> None:
        if not self.images:
            _refuse("images", self.images, "give at least one image")
        if len(self.images) != len(self.labels):
            counts = f"{len(self.images)} images, {len(self.labels)} label files"
            _refuse("labels", counts, "give one label file per image, in the same order")
        for name in ("annotated", "not_painted", "experts"):
            count = len(getattr(self, name))
            if count > 1 and count != len(self.images):
                _refuse(name, getattr(self, name), "give one entry, or one per image")
        if not self.annotated:
            _refuse("annotated", [], "give one entry, or one per image")
        for text in self.annotated:
            Annotated.parse(text)

    def _check_method(self) -> None:
        if self.method not in METHODS:
            _refuse("method", self.method, f"choose one of {', '.join(METHODS)}")
        if self.rank <= 0:
            _refuse("rank", self.rank, "give a rank of 1 or more")
        if not self.budget > 0:
            _refuse("budget", self.budget, "give a number of seconds above 0")
        if self.steps is not None and self.steps < 0:
            _refuse("steps", self.steps, "give 0 or more")
        if self.correct and self.from_adapter is None:
            _refuse("correct", self.correct, "give the adapter to start from (from_adapter)")
        if not 0 <= self.seed < 2**63:
            _refuse("seed", self.seed, "give a number from 0 to 2^63 - 1")

    def annotated_for(self, index: int) -> Annotated:
        return Annotated.parse(self.annotated[min(index, len(self.annotated) - 1)])

    def not_painted_for(self, index: int) -> dict[str, list[int]]:
        return self.not_painted[min(index, len(self.not_painted) - 1)] if self.not_painted else {}

    def expert_for(self, index: int) -> Path | None:
        return self.experts[min(index, len(self.experts) - 1)] if self.experts else None


@dataclass(frozen=True)
class PredictJob:
    """Segment an image by an adapter, with nothing painted."""

    command: ClassVar[str] = "predict"

    adapter: Path
    image: Path
    out: Path  # the segmentation file
    model: str = ""  # a file of base weights, when the adapter's base is not in the registry
    device: str = "auto"
    threads: int | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        if not self.out.name.endswith(SEGMENTATION_SUFFIXES):
            _refuse("out", str(self.out), f"end it in one of {', '.join(SEGMENTATION_SUFFIXES)}")
        _check_device(self.device, self.precision, self.threads)


@dataclass(frozen=True)
class EvaluateJob:
    """Compare a segmentation with a reference."""

    command: ClassVar[str] = "evaluate"

    prediction: Path
    reference: Path
    slices_not_in: Path | None = None  # leave out the slices that this file paints
    out: Path | None = None  # a JSON file for the scores


Job = AdaptJob | PredictJob | EvaluateJob
_JOBS: dict[str, type[Any]] = {job.command: job for job in (AdaptJob, PredictJob, EvaluateJob)}


def _check_device(device: str, precision: str, threads: int | None) -> None:
    if precision not in PRECISIONS:
        _refuse("precision", precision, f"choose one of {', '.join(PRECISIONS)}")
    if device.split(":")[0] not in DEVICES:
        _refuse("device", device, f"choose one of {', '.join(DEVICES)}")
    if threads is not None and threads < 1:
        _refuse("threads", threads, "give 1 or more")


def read_job(path: Path) -> Job:
    """Read a job file.

    Raises:
        InputError: the file is missing, no JSON object, of a newer format, or has an entry that
            is unknown, missing or of the wrong type.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{path}: the job file cannot be read ({error.strerror})"
        raise InputError(message) from error
    except ValueError as error:
        message = f"{path}: the job file is not JSON ({error})"
        raise InputError(message) from error
    if not isinstance(entries, dict):
        _refuse("job", type(entries).__name__, "the file must hold a JSON object")
    return job_from_dict(entries, path.parent)


def job_from_dict(entries: dict[str, Any], folder: Path) -> Job:
    """Return the job that the entries describe; relative paths start from `folder`."""
    entries = dict(entries)
    file_format, command = entries.pop("format", None), entries.pop("command", None)
    if file_format != FORMAT:
        _refuse("format", file_format, f"this version reads job format {FORMAT}")
    if command not in _JOBS:
        _refuse("command", command, f"choose one of {', '.join(_JOBS)}")
    kind = _JOBS[command]
    known = {entry.name: entry for entry in fields(kind)}
    for name in entries:
        if name not in known:
            _refuse("entry", name, f"{command} takes {', '.join(known)}")
    for name, entry in known.items():
        is_required = entry.default is MISSING and entry.default_factory is MISSING
        if is_required and name not in entries:
            _refuse("entry", name, f"{command} needs it")
    hints = typing.get_type_hints(kind)
    values = {name: _convert(name, value, hints[name], folder) for name, value in entries.items()}
    job: Job = kind(**values)
    return job


def job_to_dict(job: Job) -> dict[str, Any]:
    """Return the JSON object of a job."""
    return {"format": FORMAT, "command": job.command, **_plain(asdict(job))}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _convert(name: str, value: Any, hint: Any, folder: Path) -> Any:
    """Return a JSON value as the type that a field declares."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _convert(name, value, inner, folder)
    if origin in (tuple, list):
        if not isinstance(value, list):
            _refuse(name, value, "it must be a list")
        return origin(_convert(name, item, arguments[0], folder) for item in value)
    if origin is dict:
        if not isinstance(value, dict):
            _refuse(name, value, "it must be an object")
        return {
            _convert_key(name, key, arguments[0]): _convert(name, item, arguments[1], folder)
            for key, item in value.items()
        }
    return _convert_single(name, value, hint, folder)


def _convert_single(name: str, value: Any, hint: Any, folder: Path) -> Any:
    if hint is Path and isinstance(value, str):
        return folder / value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        _refuse(name, value, f"it must be of type {getattr(hint, '__name__', hint)}")
    return value


def _convert_key(name: str, key: str, hint: Any) -> Any:
    if hint is not int:
        return key
    try:
        return int(key)
    except ValueError:
        _refuse(name, key, "its keys must be whole numbers")
