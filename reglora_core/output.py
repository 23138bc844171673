"""The folder that a run writes to: one run at a time, every file complete or not there."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reglora_core.errors import OutputError
from reglora_core.events import Event
from reglora_core.writing import write_text

LOCK = ".reglora.lock"
LOCKED_AT = 1 << 20  # Windows refuses to read a locked byte, so it is none of the text's


@contextmanager
def output_folder(path: Path) -> Iterator[Path]:
    """Make the folder if need be and keep other runs out of it.

    The operating system holds the lock and drops it with the process, however that ends, so a
    run that was killed does not block its folder.

    Raises:
        OutputError: it cannot be made or written, or another run is using it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{path}: the output folder cannot be made ({error.strerror})"
        raise OutputError(message, "choose another folder") from error
    lock = _take(path / LOCK, path)
    try:
        yield path
    finally:
        _release(lock, path / LOCK)


def _take(file: Path, folder: Path) -> int:
    """Return the descriptor of the lock file, locked."""
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            message = f"{folder}: the output folder cannot be written ({error.strerror})"
            raise OutputError(message, "choose a folder that you may write to") from error
        try:
            _lock(descriptor)
        except OSError:
            owner = os.pread(descriptor, 20, 0).decode() if hasattr(os, "pread") else ""
            os.close(descriptor)
            by = f" (process {owner})" if owner else ""
            message = f"{folder}: another run{by} is writing here"
            raise OutputError(message, "wait for it, or choose another folder") from None
        if _is_still(descriptor, file):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
            return descriptor
        os.close(descriptor)  # its last owner deleted it between our opening and our locking


def _lock(descriptor: int) -> None:
    """Lock an open file, or raise OSError where another holds the lock."""
    if sys.platform == "win32":
        import msvcrt

        os.lseek(descriptor, LOCKED_AT, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_still(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _release(descriptor: int, file: Path) -> None:
    if sys.platform == "win32":  # an open file cannot be deleted there
        os.close(descriptor)
        with suppress(OSError):
            file.unlink(missing_ok=True)
    else:
        file.unlink(missing_ok=True)
        os.close(descriptor)


class EventFile:
    """A sink that writes events to ``events.jsonl``; a disk that fills up does not stop a run.

    The events of the reading are held back until there is a result or a step: a run that ends
    at its input leaves the file of the run before as it was.
    """

    READING = frozenset({"started", "warning", "failed", "cancelled"})

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_broken = False
        self._held: list[Event] | None = []

    def __call__(self, event: Event) -> None:
        if self.is_broken:
            return
        try:
            self._write(event)
        except OSError:
            self.is_broken = True

    def _write(self, event: Event) -> None:
        if self._held is not None:
            self._held.append(event)
            if event["event"] not in self.READING and event.get("stage") != "read":
                lines, self._held = self._held, None
                self.path.write_text("".join(map(_line, lines)), encoding="utf-8")
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line(event))


def _line(event: Event) -> str:
    return json.dumps(event) + "\n"


def refuse_to_overwrite(output: Path, inputs: Iterable[Path]) -> None:
    """Refuse an output that is one of the inputs.

    Raises:
        OutputError: it is.
    """
    for path in inputs:
        if path.resolve() == output.resolve():
            message = f"{path}: would be written over by the result"
            raise OutputError(message, "choose another place for the result")


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people: indented, names as they are."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
