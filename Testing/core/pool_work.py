"""Pieces of work for tests of the pool: they note that they were begun, and may die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reglora_core.errors import InputError

Work = Callable[[int], int]


def squares(folder: Path) -> Work:
    """Return work that notes each item and squares it; -1 is bad input, -2 a defect."""
    note(folder, "made")
    return partial(_square, folder)


def squares_after_a_death(folder: Path, deaths: int = 1) -> Work:
    """Return the same, but the worker of item 3 is killed the first times."""
    return partial(_square_or_die, folder, deaths)


def slow_squares(folder: Path, seconds: float = 0.3) -> Work:
    """Return the same, each taking some time."""
    return partial(_slow_square, folder, seconds)


def note(folder: Path, name: str) -> int:
    """Note one more beginning; return how many there are."""
    with (folder / f"{name}.notes").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return notes(folder, name)


def notes(folder: Path, name: str) -> int:
    path = folder / f"{name}.notes"
    return len(path.read_text().splitlines()) if path.exists() else 0


def _square(folder: Path, item: int) -> int:
    note(folder, str(item))
    if item == -1:
        message = "item -1"
        raise InputError(message, "leave it out")
    if item == -2:
        message = "two"
        raise KeyError(message)
    return item * item


def _square_or_die(folder: Path, deaths: int, item: int) -> int:
    if item == 3 and note(folder, "deaths") <= deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return _square(folder, item)


def _slow_square(folder: Path, seconds: float, item: int) -> int:
    time.sleep(seconds)
    return _square(folder, item)
