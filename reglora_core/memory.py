"""Memory: foretold before the start; where it runs out, answered by smaller windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch  # noqa: TID253

from reglora_core.device import choose_precision
from reglora_core.errors import ResourceError
from reglora_core.events import Report
from reglora_core.forecast import Forecast, ScanSize, Setting, counted_channels, forecast
from reglora_core.free_memory import free_memory_bytes
from reglora_core.models.base import BaseModel
from reglora_core.scan import Scan

T = TypeVar("T")
GB = 1e9
SHARE = 0.8  # of a GPU's free memory: the rest is for the libraries' scratch
MOST_AT_ONCE = 4  # windows; more of them are no faster
PHRASES = ("not enough memory", "out of memory", "can't allocate")


def prepare(model: BaseModel, scans: Sequence[Scan], setting: Setting, report: Report) -> BaseModel:
    """Report what a run will take and what is free; return the model fitted to a GPU's memory.

    A warning follows where less is free than needed. Nothing is said of a network that was not
    counted, such as a file of another size, and it stays as it is.
    """
    if sum(model.widths) != counted_channels(model.entry):
        return model
    is_half = choose_precision(model.precision, model.device) != "float32"
    is_gpu = model.device.type == "cuda"
    setting = replace(setting, is_half=is_half, is_gpu=is_gpu, patch=model.patch)
    found = forecast(model.entry, _size_of(scans), setting)
    assert found is not None  # it was counted
    free = torch.cuda.mem_get_info(model.device)[0] if is_gpu else free_memory_bytes()
    report("memory", device=model.device.type, **found.to_dict(), free=free)
    if is_gpu:
        assert free is not None
        model = _fitted(model, found, free)
    needed = found.on_device if is_gpu else found.needed - found.process
    if free is not None and needed > free:
        report(
            "warning",
            message=f"about {needed / GB:.1f} GB of memory are needed, {free / GB:.1f} GB "
            "are free; close other programs, or crop the volume",
        )
    return model


def _fitted(model: BaseModel, found: Forecast, free: int) -> BaseModel:
    """Return the model with as many windows as fit; checkpointed where a step does not."""
    room = SHARE * free
    return replace(
        model,
        windows_at_once=max(1, min(MOST_AT_ONCE, int(room / max(found.window, 1)))),
        # where nothing is trained it changes nothing, and need not be tried when memory ends
        is_checkpointed=not found.step or found.optimizer + found.step > room,
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
    """Do the work with a model; where memory runs out, again with a model that needs less.

    Windows go through the network one by one; a GPU computes activations anew for the gradients;
    windows get half the edge; and when nothing is left to save, the CPU takes over from the GPU.

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
            smaller = _with_less(model)
            if smaller is None:
                message = f"memory ran out with windows of {model.patch} voxels"
                hint = "close other programs, or crop the volume to the organs"
                raise ResourceError(message, hint) from error
            model, how = smaller
        report("warning", message=f"memory ran out; going on with {how}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # what the failed attempt held, now that its error is gone


def _with_less(model: BaseModel) -> tuple[BaseModel, str] | None:
    """Return a model that needs less memory, and what is different; None: there is none."""
    if model.windows_at_once > 1:
        return replace(model, windows_at_once=1), "one window at a time"
    is_gpu = model.device.type != "cpu"
    if is_gpu and not model.is_checkpointed:
        return replace(model, is_checkpointed=True), "activations computed anew for the gradients"
    smaller = model.with_smaller_patch()
    if smaller is not None:
        return smaller, f"windows of {smaller.patch} voxels"
    return (model.on_cpu(), "the processor instead of the GPU") if is_gpu else None
