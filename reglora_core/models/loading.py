"""Loading base networks: from the package, the cache or a file, never executing what they hold."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch  # noqa: TID253
from safetensors.torch import save_file  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.errors import ModelError
from reglora_core.models import registry
from reglora_core.models.base import BaseModel, SliceFamily
from reglora_core.models.checkpoints import State, read_weights, sha256_of
from reglora_core.models.entry import ModelEntry
from reglora_core.models.families import family_of
from reglora_core.models.layouts import LAYOUTS, Match, fill, layout_of
from reglora_core.models.tiny import TinyConfig, TinyUNet

TINY_ANCHOR = "encoder.0.conv1.conv.weight"
# published with different inputs
SEVERAL_INPUTS = {"segresnet": "SegResNet", "sam": "SAM"}
# whose input a file of any other layout gets
ENTRY_OF = {
    "tiny": "reglora-tiny",
    "swinunetr": "swinunetr",
    "unet3d": "suprem-unet",
    "segresnet-ds": "vista3d",
    "swinvit": "monai-swinvit-ssl",
}
UNKNOWN_LICENCE = "not known: the weights were given as a file"


def load_model(
    name_or_file: str, device: torch.device, cache: Path | None = None, family: str = ""
) -> BaseModel:
    """Return a base network with its weights, frozen, in evaluation mode.

    Args:
        name_or_file: a name of the registry, or a file of weights.
        device: where it goes.
        cache: folder of fetched and imported weights.
        family: name of the entry that describes a file; found by its layout otherwise.

    Raises:
        ModelError: unknown, not on this computer, damaged, changed since it was recorded, or
            not matching.
    """
    is_named = name_or_file in registry.model_names()
    path = _path_of(name_or_file, cache)
    checksum = sha256_of(path)
    expected = registry.recorded_sha256(path) if is_named else ""
    if expected and checksum != expected:
        message = f"{path.name}: its checksum is {checksum[:12]}, recorded was {expected[:12]}"
        raise ModelError(message, "the file changed since its import; fetch or import it again")
    state, metadata = read_weights(path)
    entry = registry.model_entry(name_or_file) if is_named else _entry_of(path, state, family)
    network, _ = build_network(entry, path.name, state, metadata)
    network = network.to(device).eval().requires_grad_(False)
    if entry.family == "tiny":
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    model = BaseModel(entry, network, family_of(entry), checksum, entry.patch_size)
    if isinstance(model.family, SliceFamily):
        return replace(model, patch=(1, model.stride, model.stride), slice_axis=0)
    return model


def _path_of(name_or_file: str, cache: Path | None) -> Path:
    if name_or_file in registry.model_names():
        return registry.weights_file(registry.model_entry(name_or_file), cache)
    path = Path(name_or_file)
    if not path.is_file():
        known = ", ".join(registry.model_names())
        message = f"model {name_or_file!r}: neither a known name nor a file"
        raise ModelError(message, f"known names: {known}")
    return path


def _entry_of(path: Path, state: State, name: str) -> ModelEntry:
    """Return the entry that says how a file's network wants its input."""
    layout = "tiny" if TINY_ANCHOR in state else layout_of(state)
    if not name and layout in SEVERAL_INPUTS:
        kind = SEVERAL_INPUTS[layout]
        message = f"{path.name}: a {kind}, but its layout does not tell what input it wants"
        names = [n for n in registry.model_names() if registry.model_entry(n).family == layout]
        hint = f"import it as one of {', '.join(names)}: reglora models import NAME FILE"
        raise ModelError(message, hint)
    if not name and layout not in ENTRY_OF:
        message = f"{path.name}: its layout belongs to no known family of networks"
        raise ModelError(message, f"known: {', '.join(registry.model_names())}")
    entry = registry.model_entry(name or ENTRY_OF[layout])
    return replace(entry, licence=UNKNOWN_LICENCE, terms="unclear")


def build_network(
    entry: ModelEntry, file_name: str, state: State, metadata: dict[str, str]
) -> tuple[nn.Module, Match]:
    """Return an entry's network with the weights of a file, and how they matched.

    Raises:
        ModelError: they are not weights of that network, or not all of them.
    """
    if entry.family != "tiny":
        return LAYOUTS[entry.family].load(file_name, state)
    if "config" not in metadata:
        message = f"{file_name}: its description of the network is missing"
        raise ModelError(message, "write it with `reglora pretrain`")
    network = TinyUNet(_tiny_config(file_name, metadata["config"]))
    match = fill(network, state)
    if match.missing or match.misshapen:
        message = f"{file_name}: {match.to_text()}"
        raise ModelError(message, "these weights are for another network")
    return network, match


def _tiny_config(file_name: str, text: str) -> TinyConfig:
    try:
        config = json.loads(text)
        for key in ("widths", "classes"):
            config[key] = tuple(config[key])
        return TinyConfig(**config)
    except (ValueError, TypeError, KeyError) as error:
        message = f"{file_name}: its description of the network is damaged ({error})"
        raise ModelError(message, "write it with `reglora pretrain`") from error


def save_tiny(network: TinyUNet, path: Path, metadata: dict[str, str]) -> None:
    """Write the embedded network's weights in half precision, with its description."""
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for key, value in network.state_dict().items()
    }
    config = json.dumps(network.config.to_dict())
    save_file(state, path, metadata={"config": config, **metadata})
