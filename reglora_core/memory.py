"""Memory that runs out: told apart from other errors, answered by smaller windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch  # noqa: TID253

from reglora_core.errors import ResourceError
from reglora_core.events import Report
from reglora_core.models.base import BaseModel

T = TypeVar("T")
PHRASES = ("not enough memory", "out of memory", "can't allocate")


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
