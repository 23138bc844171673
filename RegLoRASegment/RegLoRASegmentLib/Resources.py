"""Memory and disk, looked at before a run starts. Standard library only."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from slicer.i18n import tr as _

from reglora_core.errors import OutputError, ResourceError
from reglora_core.forecast import ScanSize, Setting, forecast
from reglora_core.forecast import working_shape as workingShape
from reglora_core.free_memory import free_memory_bytes as availableMemoryBytes
from reglora_core.models.registry import is_here, model_entry, model_names

_SPARE_DISK_BYTES = 200 * 2**20


@dataclass(frozen=True)
class VolumeSize:
    """A volume's number of voxels, and the extent of what is not air along its axes (k, j, i)."""

    voxelCount: int
    bodyMm: tuple[float, float, float]


@dataclass(frozen=True)
class Needed:
    """Bytes that a run takes: computing in 32 bits, and where 16 are fast."""

    full: int
    half: int

    def text(self) -> str:
        full, half = _gigabytes(self.full), _gigabytes(self.half)
        if full == half:
            return full
        return _("{full} ({half} where 16 bits are fast)").format(full=full, half=half)


def threadCount() -> int:
    """Return the number of threads for the worker: all cores but one, which is Slicer's."""
    return max(1, (os.cpu_count() or 2) - 1)


def checkDisk(voxelCount: int, voxelBytes: int, folder: Path) -> None:
    """Raise OutputError if a volume cannot be written to `folder`, or its disk is full."""
    checkFolder(folder)
    needed = voxelCount * (voxelBytes + 4) + _SPARE_DISK_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        problem = _("{folder} has {free} free, {needed} are needed")
        values = {"folder": folder, "free": _gigabytes(free), "needed": _gigabytes(needed)}
        raise OutputError(problem.format(**values), _("make room, or choose another temporary folder"))


def neededMemory(model: str, size: VolumeSize, setting: Setting, device: str = "auto") -> Needed | None:
    """Return what a run on a volume takes of the computer's memory; None: that was not counted.

    `model`: a base model's name, or a file; `device`: a GPU holds its part of it.
    """
    if model not in model_names():
        return None
    entry = model_entry(model)
    scan = ScanSize(size.voxelCount, workingShape(size.bodyMm, entry))
    bytesNeeded = []
    for isHalf in (False, True):
        found = forecast(entry, scan, replace(setting, is_half=isHalf))
        if found is None:
            return None
        bytesNeeded.append(found.needed - (found.on_device if device == "cuda" else 0))
    return Needed(*bytesNeeded)


def checkMemory(needed: Needed | None) -> None:
    """Raise ResourceError if less memory is free than a run takes where 16 bits are fast."""
    available = availableMemoryBytes()
    if needed is None or available is None or available >= needed.half:
        return
    problem = _("{free} of memory are free, about {needed} are needed")
    problem = problem.format(free=_gigabytes(available), needed=needed.text())
    raise ResourceError(problem, _("close other programs, crop the volume, or choose a smaller base model"))


def describeModel(name: str, needed: Needed | None = None) -> str:
    """Return lines on a base model: what it is, its licence, whether it is here, the memory of a run.

    `needed`: to adapt it to the volume; None: there is no volume, or it was not counted.
    """
    entry = model_entry(name)
    lines = [entry.description, _("Licence: {licence}").format(licence=entry.licence)]
    if not is_here(entry):
        action = "fetch" if entry.url else "import"
        text = _("Not on this computer yet. On a command line: reglora models {action} {name}")
        lines.append(text.format(action=action, name=name))
    if needed is not None:
        available = availableMemoryBytes()
        free = _gigabytes(available) if available is not None else "?"
        text = _("Memory: about {needed} needed to adapt; {free} free")
        lines.append(text.format(needed=needed.text(), free=free))
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


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
