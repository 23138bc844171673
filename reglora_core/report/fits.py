"""One record of a finished fit, checked: which fit it is, and what came out.

docs/study.md has the entries of a record. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, Literal, NamedTuple, get_args

FORMAT = 1
Role = Literal["validation", "test"]
Kind = Literal["base", "novel"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TOLERANCE = 1e-6  # of a mean that was computed twice


class Arm(NamedTuple):
    """What is compared: a method, with its initial rank where it has one."""

    method: str
    initial_rank: int | None = None


class Draw(NamedTuple):
    """One repetition: which shots, and everything random in the fit."""

    fold: int
    seed: int


@dataclass(frozen=True)
class FitKey:
    """Which fit."""

    arm: Arm
    organ: str
    kind: Kind
    k: int
    draw: Draw
    role: Role

    def __str__(self) -> str:
        method, rank = self.arm
        shown = "" if rank is None else f" (rank {rank})"
        draw = f"fold {self.draw.fold}, seed {self.draw.seed}"
        return f"{method}{shown}, {self.organ}, k = {self.k}, {draw}, {self.role}"


class CurvePoint(NamedTuple):
    """One point of a training."""

    step: int
    loss: float
    surviving_rank: int | None


@dataclass(frozen=True)
class Fit:
    """One finished fit.

    Attributes:
        dice: mean over the patients, from 0 to 1.
        case_dice: of each patient.
        trainable, surviving: parameters in the network before and after.
        initial_ranks, ranks: columns per layer before and after; None without low-rank updates.
        trains_decoder: whether `trainable` and `surviving` count a whole decoder too.
    """

    name: str
    dataset: str
    key: FitKey
    dice: float
    case_dice: Mapping[str, float]
    trainable: int
    surviving: int
    initial_ranks: Mapping[str, int] | None
    ranks: Mapping[str, int] | None
    seconds: float
    curve: tuple[CurvePoint, ...] = ()
    trains_decoder: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def key_of(entries: Mapping[str, Any]) -> FitKey:
    """Return which fit JSON entries name.

    Raises:
        ValueError: an entry is missing or of the wrong type.
    """
    rank = entries.get("initial_rank")
    if rank is not None:
        rank = _whole(entries, "initial_rank", least=1)
    role = _one(entries, "role", str)
    if role not in get_args(Role):
        message = f"role is {role!r}"
        raise ValueError(message)
    return FitKey(
        Arm(_text(entries, "method"), rank),
        _text(entries, "organ"),
        "novel" if _one(entries, "is_novel", bool) else "base",
        _whole(entries, "k", least=1),
        Draw(_whole(entries, "fold"), _whole(entries, "seed")),
        role,
    )


def fit_of(name: str, entries: Mapping[str, Any]) -> Fit:
    """Return the fit that a record describes.

    Raises:
        ValueError: an entry is missing, of the wrong type, or contradicts another.
    """
    if entries.get("format") != FORMAT:
        message = f"format is {entries.get('format')!r}, not {FORMAT}"
        raise ValueError(message)
    settings = _one(entries, "settings", dict)
    return Fit(
        name=name,
        dataset=_text(entries, "dataset"),
        key=key_of(entries),
        dice=_share("dice", entries.get("dice")),
        case_dice=_case_dice(entries),
        trainable=_whole(entries, "trainable_parameters"),
        surviving=_whole(entries, "surviving_parameters"),
        initial_ranks=_ranks(entries, "initial_layer_ranks"),
        ranks=_ranks(entries, "layer_ranks"),
        seconds=_finite("seconds", entries.get("seconds")),
        curve=tuple(_point(point) for point in _one(entries, "curve", list)),
        trains_decoder=settings.get("trains_decoder") is True,
        settings=settings,
    )


def _case_dice(entries: Mapping[str, Any]) -> dict[str, float]:
    found = {
        case: _share(f"case_dice of {case}", dice)
        for case, dice in _one(entries, "case_dice", dict).items()
    }
    if not found:
        message = "case_dice is empty"
        raise ValueError(message)
    if abs(fmean(found.values()) - _share("dice", entries.get("dice"))) > TOLERANCE:
        message = "dice is not the mean of case_dice"
        raise ValueError(message)
    return found


def _ranks(entries: Mapping[str, Any], name: str) -> dict[str, int] | None:
    if entries.get(name) is None:
        return None
    ranks = _one(entries, name, dict)
    return {layer: _whole(ranks, layer) for layer in ranks}


def _point(entries: Any) -> CurvePoint:
    if not isinstance(entries, dict):
        message = f"a point of the curve is {entries!r}"
        raise ValueError(message)
    rank = entries.get("surviving_rank")
    return CurvePoint(
        _whole(entries, "step"),
        _finite("loss", entries.get("loss")),
        None if rank is None else _whole(entries, "surviving_rank"),
    )


def _one(entries: Mapping[str, Any], name: str, kind: type) -> Any:
    value = entries.get(name)
    if not isinstance(value, kind):
        message = f"no {name}" if value is None else f"{name} is {value!r}"
        raise ValueError(message)
    return value


def _text(entries: Mapping[str, Any], name: str) -> str:
    text = str(_one(entries, name, str))
    if not text:
        message = f"{name} is empty"
        raise ValueError(message)
    return text


def _whole(entries: Mapping[str, Any], name: str, least: int = 0) -> int:
    value = _one(entries, name, int)
    if isinstance(value, bool) or value < least:
        message = f"{name} is {value!r}"
        raise ValueError(message)
    return int(value)


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        message = f"{name} is {value!r}"
        raise ValueError(message)
    return float(value)


def _share(name: str, value: Any) -> float:
    number = _finite(name, value)
    if not 0 <= number <= 1:
        message = f"{name} is {value!r}, not from 0 to 1"
        raise ValueError(message)
    return number
