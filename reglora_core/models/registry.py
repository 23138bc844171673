"""The base networks by name: what they are, where their weights are, how they want their input.

Reading this needs nothing beyond the standard library, so the panel can list the models before
torch is installed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from reglora_core.errors import ModelError


@dataclass(frozen=True)
class ModelEntry:
    """One base network.

    Attributes:
        family: the code that builds it (`reglora_core.models.loading`).
        weights: file in the package's `weights` folder; empty where it must be imported.
        url: where its publishers offer the weights.
        licence: of the weights, as their publishers state it.
        modality, window: what it was trained on; HU mapped onto its input range.
        spacing_mm, orientation, patch_size: of the working grid; patch_size in voxels (z, y, x).
        adapter_targets: regular expression for the names of the layers that get an update.
        classes: trained classes, background first; empty: read from the weights.
    """

    name: str
    family: str
    description: str
    licence: str
    modality: str
    window: tuple[float, float]
    spacing_mm: float
    patch_size: tuple[int, int, int]
    adapter_targets: str
    orientation: str = "LPS"
    weights: str = ""
    url: str = ""
    citation: str = ""
    parameters: str = ""
    classes: tuple[str, ...] = ()


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
    ModelEntry(
        name="swinunetr",
        family="swinunetr",
        description="SwinUNETR in FSEFT's configuration; its weights are imported from a file",
        licence="of the weights' publishers; see url",
        modality="CT",
        window=(-175, 250),
        spacing_mm=1.5,
        patch_size=(96, 96, 96),
        adapter_targets=r"^swinViT\.layers\d\.\d\.blocks\.\d\.attn\.qkv$",
        orientation="RAS",
        url="https://github.com/jusiro/fewshot-finetuning",
        citation="Silva-Rodriguez et al., Medical Image Analysis 103 (2025), arXiv 2303.17051",
        parameters="62.2 M",
    ),
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
    hint = f"get them from {entry.url}, then: reglora models import {entry.name} FILE"
    raise ModelError(message, hint)


def recorded_sha256(path: Path) -> str:
    """Return the checksum recorded when weights were imported, or an empty text.

    Raises:
        ModelError: the record is damaged.
    """
    try:
        record = json.loads(path.with_name("record.json").read_text(encoding="utf-8"))
        return str(record["sha256"])
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, TypeError, KeyError) as error:
        message = f"{path.parent}: the record of the import is damaged"
        raise ModelError(message, "import the weights again") from error
