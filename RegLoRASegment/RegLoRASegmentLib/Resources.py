"""Memory and disk, looked at before a run starts. Standard library only."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from slicer.i18n import tr as _

from reglora_core.errors import OutputError, ResourceError
from reglora_core.forecast import ScanSize, Setting, forecast
from reglora_core.forecast import working_shape as workingShape
from reglora_core.free_memory import free_memory_bytes as availableMemoryBytes
from reglora_core.models.entry import ModelEntry
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


def describeModel(name: str, voxelCount: int, extentMm: Sequence[float] = ()) -> str:
    """Return lines on a base model: what it is, its licence, whether it is here, the memory of a run.

    `voxelCount` and `extentMm` (z, y, x) are the volume's; 0: there is none.
    """
    entry = model_entry(name)
    lines = [entry.description, _("Licence: {licence}").format(licence=entry.licence)]
    if not is_here(entry):
        action = "fetch" if entry.url else "import"
        text = _("Not on this computer yet. On a command line: reglora models {action} {name}")
        lines.append(text.format(action=action, name=name))
    if voxelCount:
        lines += _memoryLines(entry, ScanSize(voxelCount, workingShape(extentMm, entry)))
    return "\n".join(lines)


def _memoryLines(entry: ModelEntry, size: ScanSize) -> list[str]:
    """Return a line on the memory of an adaptation; none for a network that was not counted."""
    full, half = (forecast(entry, size, Setting("adapt", isHalf)) for isHalf in (False, True))
    if full is None or half is None:
        return []
    text = _("Memory: about {needed} needed to adapt, {half} where 16 bits are fast; {free} free")
    available = availableMemoryBytes()
    free = _gigabytes(available) if available is not None else "?"
    return [text.format(needed=_gigabytes(full.needed), half=_gigabytes(half.needed), free=free)]


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
    return f"{count / 2**30:.1f} GB"
