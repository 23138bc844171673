"""All records of a study's folder: what is there, what is missing, and what cannot be used.

`plans/NAME.json` (written by `reglora bench run`, one per study in the folder) says which fits
there are to be. Without any, every method, rank, organ, k and draw that occurs is expected with
every other. Standard library only.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reglora_core.errors import InputError
from reglora_core.report.fits import FORMAT, Fit, FitKey, fit_of, key_of

FITS = "fits"
PLANS = "plans"
OnFile = Callable[[int, int], None]


@dataclass(frozen=True)
class Unused:
    """A record file that is left out, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


@dataclass(frozen=True)
class StudyFolder:
    """What is in a study's folder.

    Attributes:
        name: of the study, or of the folder.
        fits: usable ones, each once.
        expected: fits that the study has, by dataset.
        is_planned: whether the study itself said so.
        skipped: what the study asked for and did not get by rule, as it says.
        damaged, doubled, foreign: record files that are left out: unreadable or contradicting
            themselves; contradicting another file of the same fit; not of this study.
    """

    name: str
    fits: tuple[Fit, ...]
    expected: Mapping[str, frozenset[FitKey]]
    is_planned: bool
    skipped: tuple[str, ...] = ()
    damaged: tuple[Unused, ...] = ()
    doubled: tuple[Unused, ...] = ()
    foreign: tuple[Unused, ...] = ()

    @property
    def missing(self) -> list[tuple[str, FitKey]]:
        """Fits that are expected and not there, with their dataset."""
        found = {(fit.dataset, fit.key) for fit in self.fits}
        every = [(dataset, key) for dataset, keys in self.expected.items() for key in keys]
        return sorted((one for one in every if one not in found), key=str)


@dataclass(frozen=True)
class _Plan:
    name: str
    fits: Mapping[str, tuple[str, FitKey]]  # dataset and key by the record's name
    skipped: tuple[str, ...]


def read_study_folder(folder: Path, on_file: OnFile = lambda done, every: None) -> StudyFolder:
    """Read every record of a study.

    Args:
        folder: as `reglora bench run --out` leaves it.
        on_file: is told how many of how many records are read.

    Raises:
        InputError: there is no usable fit, or the study's plan is damaged.
    """
    paths = sorted((folder / FITS).glob("[!.]*.json"))
    if not paths:
        message = f"{folder}: no finished fit (0 records in {FITS}/)"
        raise InputError(message, "run `reglora bench run` first, or name its --out folder")
    plan = _joined([_read_plan(path) for path in sorted((folder / PLANS).glob("[!.]*.json"))])
    fits, damaged, foreign = [], [], []
    for number, path in enumerate(paths, start=1):
        try:
            fit = fit_of(path.stem, _read_object(path))
        except ValueError as error:
            damaged.append(Unused(path.name, str(error)))
        else:
            why = _why_foreign(fit, plan)
            if why:
                foreign.append(Unused(path.name, why))
            else:
                fits.append(fit)
        on_file(number, len(paths))
    unique, doubled = _without_doubles(fits)
    if not unique:
        first = [*damaged, *doubled, *foreign][0]
        message = f"{folder}: none of {len(paths)} records can be used, the first: {first}"
        raise InputError(message, "run `reglora bench run` again: it makes damaged ones anew")
    return StudyFolder(
        name=plan.name if plan else folder.resolve().name,
        fits=tuple(unique),
        expected=_by_dataset(plan.fits.values()) if plan else _every_combination(unique),
        is_planned=plan is not None,
        skipped=plan.skipped if plan else (),
        damaged=tuple(damaged),
        doubled=tuple(doubled),
        foreign=tuple(foreign),
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        message = f"cannot be read ({error.strerror})"
        raise ValueError(message) from error
    except (ValueError, RecursionError) as error:
        message = "not JSON: damaged or cut short"
        raise ValueError(message) from error
    if not isinstance(entries, dict):
        message = "not a JSON object"
        raise ValueError(message)
    return entries


def _joined(plans: Sequence[_Plan]) -> _Plan | None:
    """Return all studies of a folder as one; None of none."""
    if not plans:
        return None
    fits = {name: own for plan in plans for name, own in plan.fits.items()}
    skipped = tuple(dict.fromkeys(line for plan in plans for line in plan.skipped))
    return _Plan("; ".join(plan.name for plan in plans), fits, skipped)


def _read_plan(path: Path) -> _Plan:
    try:
        entries = _read_object(path)
        if entries.get("format") != FORMAT:
            message = f"format is {entries.get('format')!r}, not {FORMAT}"
            raise ValueError(message)
        dataset = str(entries["dataset"])
        fits = {name: (dataset, key_of(own)) for name, own in entries["fits"].items()}
        skipped = tuple(str(line) for line in entries.get("skipped", ()))
        return _Plan(str(entries["name"]), fits, skipped)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        message = f"{path}: the study's plan is damaged ({error})"
        raise InputError(message, "run `reglora bench run` again: it writes it anew") from error


def _why_foreign(fit: Fit, plan: _Plan | None) -> str:
    if plan is None:
        return ""
    if fit.name not in plan.fits:
        return "not a fit of this study, or made with other settings"
    if plan.fits[fit.name] != (fit.dataset, fit.key):
        return "says it is another fit than the study's plan has under this name"
    return ""


def _without_doubles(fits: Iterable[Fit]) -> tuple[list[Fit], list[Unused]]:
    """Return each fit once; where two files disagree on one fit, neither."""
    groups: dict[tuple[str, FitKey], list[Fit]] = {}
    for fit in fits:
        groups.setdefault((fit.dataset, fit.key), []).append(fit)
    unique, doubled = [], []
    for (_, key), same in groups.items():
        if all(_result(fit) == _result(same[0]) for fit in same):
            unique.append(same[0])
            doubled += [
                Unused(f"{fit.name}.json", f"the same result as {same[0].name}.json")
                for fit in same[1:]
            ]
            continue
        why = f"one of {len(same)} files that disagree on {key}; none of them is used"
        doubled += [Unused(f"{fit.name}.json", why) for fit in same]
    return unique, doubled


def _result(fit: Fit) -> tuple[Any, ...]:
    return fit.case_dice, fit.ranks, fit.trainable, fit.surviving


def _by_dataset(keys: Iterable[tuple[str, FitKey]]) -> dict[str, frozenset[FitKey]]:
    found: dict[str, set[FitKey]] = {}
    for dataset, key in keys:
        found.setdefault(dataset, set()).add(key)
    return {dataset: frozenset(own) for dataset, own in found.items()}


def _every_combination(fits: Iterable[Fit]) -> dict[str, frozenset[FitKey]]:
    """Return every arm x organ x k x draw of a dataset and role, as far as they occur.

    Zero-shot is expected for base organs only: the network never saw the novel ones.
    """
    groups: dict[tuple[str, str], list[FitKey]] = {}
    for fit in fits:
        groups.setdefault((fit.dataset, fit.key.role), []).append(fit.key)
    found: dict[str, set[FitKey]] = {}
    for (dataset, _), keys in groups.items():
        arms = {key.arm for key in keys}
        organs = {(key.organ, key.kind) for key in keys}
        shots, draws = {key.k for key in keys}, {key.draw for key in keys}
        found.setdefault(dataset, set()).update(
            FitKey(arm, organ, kind, k, draw, keys[0].role)
            for arm, (organ, kind), k, draw in itertools.product(arms, organs, shots, draws)
            if not (arm.method == "zero-shot" and kind == "novel")
        )
    return {dataset: frozenset(own) for dataset, own in found.items()}
