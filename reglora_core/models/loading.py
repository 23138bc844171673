"""Loading base networks: from the package, from imported files, never executing what they hold."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch  # noqa: TID253
from safetensors import SafetensorError, safe_open  # noqa: TID253
from safetensors.torch import save_file  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.errors import ModelError, OutputError
from reglora_core.models import registry
from reglora_core.models.base import BaseModel, Family
from reglora_core.models.swinunetr import SwinFamily
from reglora_core.models.swinunetr import build as build_swinunetr
from reglora_core.models.tiny import TinyConfig, TinyFamily, TinyUNet
from reglora_core.writing import write_atomically, write_text

State = dict[str, torch.Tensor]
WRAPPERS = ("state_dict", "net", "model", "model_state_dict")
# what torch raises for a checkpoint that is damaged, besides UnpicklingError
DAMAGED = (OSError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)
PREFIXES = ("module.", "backbone.", "model.")
FAMILIES: dict[str, Family] = {"tiny": TinyFamily(), "swinunetr": SwinFamily()}


def load_model(
    name_or_file: str, device: torch.device, cache: Path | None = None, family: str = ""
) -> BaseModel:
    """Return a base network with its weights, frozen, in evaluation mode.

    Args:
        name_or_file: a name of the registry, or a file of weights.
        device: where it goes.
        cache: folder of imported weights.
        family: of a file whose layout does not tell; found by its keys otherwise.

    Raises:
        ModelError: unknown, not imported, damaged, changed since its import, or not matching.
    """
    if name_or_file in registry.model_names():
        entry = registry.model_entry(name_or_file)
        path = registry.weights_file(entry, cache)
        expected = registry.recorded_sha256(path)
    else:
        path, expected = Path(name_or_file), ""
        if not path.is_file():
            known = ", ".join(registry.model_names())
            message = f"model {name_or_file!r}: neither a known name nor a file"
            raise ModelError(message, f"known names: {known}")
        entry = registry.model_entry("reglora-tiny")
    checksum = _checksum(path)
    if expected and checksum != expected:
        message = f"{path.name}: its checksum is {checksum[:12]}, recorded was {expected[:12]}"
        raise ModelError(message, "the file changed since its import; import it again")
    state, metadata = read_weights(path)
    if name_or_file not in registry.model_names():
        entry = registry.model_entry(family or _family_of(path, state))
    network = _build(entry, path, state, metadata)
    network = network.to(device).eval().requires_grad_(False)
    if entry.family == "tiny":
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return BaseModel(entry, network, FAMILIES[entry.family], checksum, entry.patch_size)


def _checksum(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        message = f"{path}: the weights cannot be read ({error.strerror})"
        raise ModelError(message, "install the program again, or give another file") from error


def sha256_of(path: Path) -> str:
    """Return a file's checksum."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_weights(path: Path) -> tuple[State, dict[str, str]]:
    """Read tensors and metadata from safetensors or a torch checkpoint (tensors alone).

    Raises:
        ModelError: not such a file, damaged, or a pickle that holds more than tensors.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with warnings.catch_warnings():
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
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping):
        message = f"{path.name}: holds a {type(content).__name__}, not a state dict"
        raise ModelError(message)
    state = {key: value for key, value in content.items() if isinstance(value, torch.Tensor)}
    for prefix in PREFIXES * 2:
        if state and all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _family_of(path: Path, state: State) -> str:
    if any(key.startswith("swinViT.") for key in state):
        return "swinunetr"
    if "encoder.0.conv1.conv.weight" in state:
        return "reglora-tiny"
    message = f"{path.name}: its layout belongs to no known family of networks"
    raise ModelError(message, f"known: {', '.join(registry.model_names())}")


def _build(
    entry: registry.ModelEntry, path: Path, state: State, metadata: dict[str, str]
) -> nn.Module:
    if entry.family == "tiny":
        if "config" not in metadata:
            message = f"{path.name}: its description of the network is missing"
            raise ModelError(message, "write it with `reglora pretrain`")
        network: nn.Module = TinyUNet(_tiny_config(path, metadata["config"]))
        _fill(path, network, state, optional="")
        return network
    first = state.get("encoder1.layer.conv1.conv.weight")
    size = 48 if first is None else first.shape[0]
    if size % 12:  # the heads of the attention divide it
        message = f"{path.name}: feature size {size} is that of no SwinUNETR"
        raise ModelError(message, "these weights are for another network")
    network = build_swinunetr(feature_size=size)
    _fill(path, network, state, optional="out.")
    return network


def _tiny_config(path: Path, text: str) -> TinyConfig:
    try:
        config = json.loads(text)
        for key in ("widths", "classes"):
            config[key] = tuple(config[key])
        return TinyConfig(**config)
    except (ValueError, TypeError, KeyError) as error:
        message = f"{path.name}: its description of the network is damaged ({error})"
        raise ModelError(message, "write it with `reglora pretrain`") from error


def _fill(path: Path, network: nn.Module, state: State, optional: str) -> None:
    """Copy the weights into the network; everything but keys of `optional` must match."""
    own = network.state_dict()
    wanted = {key for key in own if not (optional and key.startswith(optional))}
    missing = sorted(wanted - state.keys())
    wrong = [key for key in sorted(wanted & state.keys()) if own[key].shape != state[key].shape]
    if missing or wrong:
        first = (missing or wrong)[0]
        message = (
            f"{path.name}: {len(missing)} of {len(wanted)} tensors are missing and {len(wrong)} "
            f"have another shape, the first is {first}"
        )
        raise ModelError(message, "these weights are for another network")
    network.load_state_dict({key: state[key].to(own[key].dtype) for key in wanted}, strict=False)


def import_model(name: str, file: Path, cache: Path | None = None) -> Path:
    """Check a file of weights against a base network and copy it into the user's cache.

    Raises:
        ModelError: unknown name, an embedded network, or weights that do not match it.
        OutputError: the cache cannot be written.
    """
    entry = registry.model_entry(name)
    if entry.weights:
        message = f"model {name!r} is embedded"
        raise ModelError(message, "there is nothing to import")
    if not file.is_file():
        message = f"{file}: no such file"
        raise ModelError(message)
    state, metadata = read_weights(file)
    _build(entry, file, state, metadata)
    folder = (cache or registry.default_cache()) / name
    target = folder / f"weights{file.suffix}"
    record = {"sha256": sha256_of(file), "imported_from": file.name, "licence": entry.licence}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{folder}: cannot be made ({error.strerror})"
        raise OutputError(message, "the weights are kept below the home folder") from error
    write_atomically(target, lambda place: _copy(file, place))
    write_text(folder / "record.json", json.dumps(record, indent=1))
    for old in folder.glob("weights.*"):
        if old != target:
            old.unlink()
    return target


def _copy(file: Path, place: Path) -> None:
    shutil.copyfile(file, place)


def save_tiny(network: TinyUNet, path: Path, metadata: dict[str, str]) -> None:
    """Write the embedded network's weights in half precision, with its description."""
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous().clone()
        for key, value in network.state_dict().items()
    }
    config = json.dumps(network.config.to_dict())
    save_file(state, path, metadata={"config": config, **metadata})
