"""Writing files so that a reader never meets half of one.

Everything goes to a temporary file in the same folder, which then takes the place of the old one
in one step. If anything fails, the old file is as it was and the temporary one is gone.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from reglora_core.errors import OutputError

_HINTS = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
    errno.EFBIG: "the file is too large for this disk; choose another folder",
    errno.EACCES: "no permission, or it is open in another program; choose another folder",
    errno.EPERM: "no permission, or it is open in another program; choose another folder",
    errno.EROFS: "that disk is read-only; choose another folder",
    errno.ENOENT: "the folder does not exist; make it first",
    errno.ENOTDIR: "a part of the path is a file; choose another folder",
    errno.EISDIR: "that is a folder; add a file name",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make the file at a temporary path, then move it to ``path`` in one step.

    The temporary name has the suffix of ``path``, so that writers which look at it see it. If
    ``path`` is a link, the file it points to is replaced.

    Raises:
        OutputError: the file cannot be written; what was at ``path`` before is unharmed.
    """
    temporary: Path | None = None
    try:
        target = path.resolve()
        _check_place(target)
        temporary = _temporary_beside(target)
        write(temporary)
        _flush_to_disk(temporary)
        temporary.replace(target)
    except OSError as error:
        reason = f"{path}: cannot be written ({error.strerror or error})"
        hint = _HINTS.get(error.errno or 0, "check the folder, or choose another")
        raise OutputError(reason, hint) from error
    finally:
        if temporary is not None:
            with suppress(OSError):  # it may never have been made
                temporary.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8 with \\n line ends.

    Raises:
        OutputError: the file cannot be written; what was at ``path`` before is unharmed.
    """
    write_atomically(path, lambda temporary: _write_bytes(temporary, text.encode("utf-8")))


def _check_place(target: Path) -> None:
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not target.parent.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _temporary_beside(target: Path) -> Path:
    suffix = "".join(target.suffixes[-2:]).lower()  # ITK knows no .NII.GZ
    return target.with_name(f".{secrets.token_hex(8)}{suffix}")


def _flush_to_disk(path: Path) -> None:
    """Wait until the bytes are on the disk: some file systems report a full one only then."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)
