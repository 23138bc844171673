"""Memory: foretold before the start; where it runs out, answered by smaller windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch  # noqa: TID253

from reglora_core.errors import ResourceError
from reglora_core.events import Report
from reglora_core.forecast import ScanSize, Setting, counted_channels, forecast
from reglora_core.free_memory import free_memory_bytes
from reglora_core.models.base import BaseModel, has_fast_bfloat16
from reglora_core.scan import Scan

T = TypeVar("T")
GB = 1e9
PHRASES = ("not enough memory", "out of memory", "can't allocate")


def announce(model: BaseModel, scans: Sequence[Scan], setting: Setting, report: Report) -> None:
    """Report what a run will take and what is free, with a warning where that is less.

    Nothing is said of a network that was not counted, such as a file of another size.
    """
    if sum(model.widths) != counted_channels(model.entry):
        return
    setting = replace(setting, is_half=has_fast_bfloat16(model.device), patch=model.patch)
    found = forecast(model.entry, _size_of(scans), setting)
    assert found is not None  # it was counted
    free = free_memory_bytes()
    report("memory", **found.to_dict(), free=free)
    if free is not None and found.needed - found.process > free:
        report(
            "warning",
            message=f"about {found.needed / GB:.1f} GB of memory are needed, {free / GB:.1f} GB "
            "are free; close other programs, or crop the volume",
        )


def _size_of(scans: Sequence[Scan]) -> ScanSize:
    native = sum(math.prod(scan.grid.shape) for scan in scans)
    shapes = [scan.inside.shape for scan in scans]
    depth, rows, columns = max(shapes, key=math.prod)
    return ScanSize(native, (depth, rows, columns), sum(map(math.prod, shapes)), len(scans))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(phrase in str(error).lower() for phrase in PHRASES)


def with_enough_memory(
    work: Callable[[BaseModel], T], model: BaseModel, report: Report
) -> tuple[T, BaseModel]:
    """Do the work with a model; where memory runs out, again with windows of half the edge.

    Returns:
        What the work returned, and the model it was done with.

    Raises:
        ResourceError: memory does not suffice even for the smallest windows.
    """
    while True:
        try:
            return work(model), model
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            smaller = model.with_smaller_patch()
            if smaller is None:
                message = f"memory ran out with windows of {model.patch} voxels"
                hint = "close other programs, or crop the volume to the organs"
                raise ResourceError(message, hint) from error
            model = smaller
            report(
                "warning",
                message=f"memory ran out; going on with windows of {model.patch} voxels",
            )
