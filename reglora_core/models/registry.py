"""The base networks by name: what they are, where their weights are, how they want their input.

Reading this needs nothing beyond the standard library, so the panel can list the models before
torch is installed. The published networks' facts are in `reglora_core.models.published`, their
sources in docs/models.md.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from reglora_core.errors import ModelError
from reglora_core.forecast import example
from reglora_core.models.entry import ModelEntry
from reglora_core.models.published import PUBLISHED

_ENTRIES = (
    ModelEntry(
        name="reglora-tiny",
        family="tiny",
        description="the embedded default: a small residual U-Net for a laptop's CPU",
        licence="Apache-2.0",
        modality="CT; other modalities by their percentiles",
        window=(-1024, 1500),
        spacing_mm=3.0,
        patch_size=(128, 128, 128),
        # where adaptation pays is the decoder and the coarse half of the encoder; the fine
        # encoder blocks are most of the cost of a step and least of its use
        adapter_targets=r"^(encoder\.[2-4]|decoder\.[0-3])\..*conv.*\.conv$|transp_conv\.conv$",
        weights="reglora-tiny.safetensors",
        citation="this project; see weights/reglora-tiny.md",
        parameters="4.2 M",
    ),
    *PUBLISHED,
)


def model_names() -> list[str]:
    """Return the names of all base networks."""
    return [entry.name for entry in _ENTRIES]


def model_entry(name: str) -> ModelEntry:
    """Return a base network's entry.

    Raises:
        ModelError: there is none of that name.
    """
    for entry in _ENTRIES:
        if entry.name == name:
            return entry
    message = f"model {name!r} is unknown"
    raise ModelError(message, f"choose one of {', '.join(model_names())}")


def default_cache() -> Path:
    """Return the folder of imported weights."""
    return Path.home() / ".cache" / "reglora" / "models"


def weights_file(entry: ModelEntry, cache: Path | None = None) -> Path:
    """Return the file that holds a base network's weights.

    Raises:
        ModelError: they have to be imported first.
    """
    if entry.weights:
        return Path(str(resources.files("reglora_core.models") / "weights" / entry.weights))
    folder = (cache or default_cache()) / entry.name
    for path in sorted(folder.glob("weights.*")):
        return path
    message = f"model {entry.name!r}: its weights are not on this computer"
    raise ModelError(message, _how_to_get(entry))


def _how_to_get(entry: ModelEntry) -> str:
    by_import = f"reglora models import {entry.name} FILE"
    if not entry.url:
        return f"take them from a file: {by_import}"
    return f"reglora models fetch {entry.name}, or take them from a file: {by_import}"


def is_here(entry: ModelEntry, cache: Path | None = None) -> bool:
    """Tell whether a base network's weights are on this computer."""
    try:
        return weights_file(entry, cache).is_file()
    except ModelError:
        return False


def describe(entry: ModelEntry, cache: Path | None = None) -> dict[str, Any]:
    """Return what is known of a base network, as JSON has it; what is unknown is left out."""
    known = {key: value for key, value in vars(entry).items() if value not in ("", (), None)}
    if is_here(entry, cache):
        known["file"] = str(weights_file(entry, cache))
    memory = example(entry)
    if memory:
        known["memory"] = memory
    return {**known, "is_here": is_here(entry, cache)}


def download_address(entry: ModelEntry, mirror: str = "") -> str:
    """Return where a base network's weights are downloaded from.

    Args:
        entry: the base network.
        mirror: address of a folder with the files as ``<model's name>/<publishers' file name>``;
            empty: the publishers' own.

    Raises:
        ModelError: they are not offered for download, or the mirror is no web address.
    """
    if not entry.url:
        message = f"model {entry.name!r} is not offered for download"
        raise ModelError(message, _how_to_get(entry))
    address = f"{mirror.rstrip('/')}/{entry.name}/{entry.file_name}" if mirror else entry.url
    if urlsplit(address).scheme not in ("http", "https") or not urlsplit(address).netloc:
        message = f"mirror {mirror!r}: not a web address"
        raise ModelError(message, "give one that begins with https://, or import a file instead")
    return address


def recorded_sha256(path: Path) -> str:
    """Return the checksum recorded when weights were taken into the cache, or an empty text.

    Raises:
        ModelError: the record is damaged.
    """
    return str(read_record(path.parent).get("sha256", ""))


def read_record(folder: Path) -> dict[str, Any]:
    """Return what was recorded of the weights in a folder of the cache; empty: nothing.

    Raises:
        ModelError: the record is damaged.
    """
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        if not record["sha256"]:
            raise ValueError
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = f"{folder}: the record of its weights is damaged"
        raise ModelError(
            message, "delete the folder, then fetch or import the weights again"
        ) from (error)
    return dict(record)
