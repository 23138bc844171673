"""What an adapter file says about itself, read without torch.

A safetensors file starts with the length of its JSON header (8 bytes, little endian); the header's
entry "__metadata__" holds the core's description. Nothing in the file is executed.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from reglora_core.errors import AdapterError

_MAX_HEADER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class AdapterDescription:
    """The organs that an adapter segments, its base model, and its other metadata."""

    path: Path
    organs: tuple[str, ...]
    baseModel: str
    metadata: dict[str, Any] = field(default_factory=dict)

    def summary(self) -> str:
        organs = ", ".join(self.organs) or _("unknown organs")
        kilobytes = self.path.stat().st_size / 1024
        text = _("{organs} - base model {model} - {size:.0f} kB")
        return text.format(organs=organs, model=self.baseModel or _("unknown"), size=kilobytes)


def describeAdapter(path: Path) -> AdapterDescription:
    """Read an adapter's description.

    Raises:
        AdapterError: the file is missing, no safetensors file, or no adapter of ours.
    """
    path = Path(path)
    metadata = {key: _decoded(value) for key, value in _readMetadata(path).items()}
    merged = dict(metadata)
    for value in metadata.values():
        if isinstance(value, dict):
            merged = {**value, **merged}
    organs = merged.get("organs")
    if not isinstance(organs, list) or not organs:
        problem = _("{name} is no adapter: it names no organs").format(name=path.name)
        raise AdapterError(problem, _("choose a file that was saved by Save adapter"))
    names = tuple(str(organ.get("name")) if isinstance(organ, dict) else str(organ) for organ in organs)
    base = merged.get("base", merged.get("base_model", ""))
    return AdapterDescription(
        path, names, str(base.get("name") if isinstance(base, dict) else base), merged
    )


def _readMetadata(path: Path) -> dict[str, str]:
    problem = _("{name} cannot be read as an adapter").format(name=path.name)
    hint = _("choose a file that was saved by Save adapter")
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            text = file.read(length) if length <= _MAX_HEADER_BYTES else b""
        header = json.loads(text.decode("utf-8"))
    except (OSError, struct.error, ValueError) as error:
        raise AdapterError(problem, hint) from error
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise AdapterError(problem, hint)
    return metadata


def _decoded(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text
