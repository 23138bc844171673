"""Files of weights: tensors out of safetensors and torch checkpoints, nothing of them executed."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch  # noqa: TID253
from safetensors import SafetensorError, safe_open  # noqa: TID253

from reglora_core.errors import ModelError

State = dict[str, torch.Tensor]
WRAPPERS = ("state_dict", "net", "model", "model_state_dict", "network")
# what torch raises for a checkpoint that is damaged, besides UnpicklingError
DAMAGED = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)


def checksum_of(path: Path, algorithm: str = "sha256") -> str:
    """Return a file's checksum.

    Raises:
        ModelError: it cannot be read.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        message = f"{path}: the weights cannot be read ({error.strerror})"
        raise ModelError(message, "install the program again, or give another file") from error
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256."""
    return checksum_of(path)


def read_weights(path: Path) -> tuple[State, dict[str, str]]:
    """Read tensors and metadata from safetensors or a torch checkpoint (tensors alone).

    Raises:
        ModelError: not such a file, damaged, or a pickle that holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings(), _numbers_allowed():
            warnings.simplefilter("ignore")  # of a pickle's version; what it holds is checked
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        message = f"{path.name}: the checkpoint holds more than tensors; it was not opened"
        raise ModelError(message, "ask its publishers for safetensors or a plain state dict") from (
            error
        )
    except DAMAGED as error:
        message = f"{path.name}: not a checkpoint that torch can read"
        raise ModelError(message, "get the file again") from error
    return _unwrapped(path, content), {}


def _numbers_allowed() -> AbstractContextManager[object]:
    """Allow NumPy's numbers, which checkpoints keep their best score as; they run nothing."""
    import numpy as np

    allow: Any = getattr(torch.serialization, "safe_globals", None)  # torch 2.5 and later
    if allow is None:
        return nullcontext()
    scalar = np.float64(0).__reduce__()[0]  # numpy's own place of it differs with its version
    kinds = [type(np.dtype(name)) for name in ("float32", "float64", "int64", "bool")]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    context: AbstractContextManager[object] = allow(
        [*((scalar, name) for name in names), np.dtype, *kinds]
    )
    return context


def _read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return state, dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        message = f"{path.name}: not a complete safetensors file ({error})"
        raise ModelError(message, "get the file again") from error


def _unwrapped(path: Path, content: Any) -> State:
    """Take the state dict out of the wrappers that checkpoints come in."""
    for wrapper in WRAPPERS * 2:  # one may be within another
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        message = f"{path.name}: holds a {type(content).__name__}, not a state dict"
        raise ModelError(message)
    return {str(key): value for key, value in content.items() if isinstance(value, torch.Tensor)}
