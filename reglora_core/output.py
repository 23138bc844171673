"""The folder that a run writes to: one run at a time, every file complete or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reglora_core.errors import OutputError
from reglora_core.events import Event
from reglora_core.writing import write_text

LOCK = ".reglora.lock"


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """Make the folder if need be and keep other runs out of it.

    Raises:
        OutputError: it cannot be made or written, or another run is using it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{path}: the output folder cannot be made ({error.strerror})"
        raise OutputError(message, "choose another folder") from error
    lock = path / LOCK
    _take(lock, path)
    try:
        yield path
    finally:
        lock.unlink(missing_ok=True)


def _take(lock: Path, path: Path) -> None:
    for attempt in range(2):
        try:
            with lock.open("x", encoding="utf-8") as file:
                file.write(str(os.getpid()))
        except FileExistsError:
            owner = _owner(lock)
            if attempt or (owner is not None and _is_alive(owner)):
                message = f"{path}: another run (process {owner}) is writing here"
                raise OutputError(message, "wait for it, or choose another folder") from None
            lock.unlink(missing_ok=True)  # left behind by a run that was killed
        except OSError as error:
            message = f"{path}: the output folder cannot be written ({error.strerror})"
            raise OutputError(message, "choose a folder that you may write to") from error
        else:
            return


def _owner(lock: Path) -> int | None:
    try:
        return int(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _is_alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    if os.name == "nt":  # signal 0 would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class EventFile:
    """A sink that appends events to ``events.jsonl``; a disk that fills up does not stop a run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.write_text("", encoding="utf-8")
        except OSError as error:
            message = f"{path}: cannot be written ({error.strerror})"
            raise OutputError(message, "choose a folder that you may write to") from error
        self.is_broken = False

    def __call__(self, event: Event) -> None:
        if self.is_broken:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError:
            self.is_broken = True


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people: indented, names as they are."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
