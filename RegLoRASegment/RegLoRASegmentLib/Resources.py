"""Memory and disk, looked at before a run starts. Standard library only."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

from slicer.i18n import tr as _

from reglora_core.errors import OutputError, ResourceError
from reglora_core.models.registry import is_here, model_entry

_WORKER_BYTES = {"adapt": 2150 * 2**20, "predict": 1650 * 2**20}  # for any image: docs/benchmarks.md
_BYTES_PER_VOXEL = 16  # image, labels and their copies in the worker
_SPARE_DISK_BYTES = 200 * 2**20


def threadCount() -> int:
    """Return the number of threads for the worker: all cores but one, which is Slicer's."""
    return max(1, (os.cpu_count() or 2) - 1)


def neededMemoryBytes(voxelCount: int, command: str = "adapt") -> int:
    return _WORKER_BYTES[command] + _BYTES_PER_VOXEL * voxelCount


def checkResources(voxelCount: int, voxelBytes: int, folder: Path, command: str = "adapt") -> None:
    """Check that a volume can be exported to `folder` and worked on; `command`: adapt or predict.

    Raises:
        OutputError: the folder cannot be written, or its disk is full.
        ResourceError: too little memory is free.
    """
    checkFolder(folder)
    needed = voxelCount * (voxelBytes + 4) + _SPARE_DISK_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        problem = _("{folder} has {free} free, {needed} are needed")
        values = {"folder": folder, "free": _gigabytes(free), "needed": _gigabytes(needed)}
        raise OutputError(problem.format(**values), _("make room, or choose another temporary folder"))
    available = availableMemoryBytes()
    needed = neededMemoryBytes(voxelCount, command)
    if available is not None and available < needed:
        problem = _("{free} of memory are free, about {needed} are needed")
        values = {"free": _gigabytes(available), "needed": _gigabytes(needed)}
        raise ResourceError(problem.format(**values), _("close other programs, or crop the volume"))


def describeModel(name: str, voxelCount: int) -> str:
    """Return lines on a base model: what it is, its licence, whether it is here, the memory of a run."""
    entry = model_entry(name)
    lines = [entry.description, _("Licence: {licence}").format(licence=entry.licence)]
    if not is_here(entry):
        action = "fetch" if entry.url else "import"
        text = _("Not on this computer yet. On a command line: reglora models {action} {name}")
        lines.append(text.format(action=action, name=name))
    if voxelCount and entry.weights:  # measured for the embedded one alone
        text = _("Memory: about {needed} needed to adapt, {free} free")
        available = availableMemoryBytes()
        free = _gigabytes(available) if available is not None else "?"
        lines.append(text.format(needed=_gigabytes(neededMemoryBytes(voxelCount)), free=free))
    return "\n".join(lines)


def checkFolder(folder: Path) -> None:
    """Raise OutputError if nothing can be written in the folder."""
    probe = Path(folder) / ".reglora-probe"
    try:
        probe.write_bytes(b"probe")
        probe.unlink()
    except OSError as error:
        problem = _("{folder} cannot be written ({why})").format(folder=folder, why=error.strerror)
        raise OutputError(problem, _("choose another temporary folder")) from error


def availableMemoryBytes() -> int | None:
    """Return the memory that programs can still take; None if the system does not tell."""
    if sys.platform == "linux":
        return _linuxMemory()
    if os.name == "nt":
        return _windowsMemory()
    return None


def _linuxMemory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    text = values.get("MemAvailable", "").split()
    return int(text[0]) * 1024 if text else None


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)] + [
        (name, ctypes.c_ulonglong)
        for name in ("total", "available", "pageTotal", "page", "virtualTotal", "virtual", "extended")
    ]


def _windowsMemory() -> int | None:
    status = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    succeeded = ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.available) if succeeded else None


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GB"
