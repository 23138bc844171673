"""Adapter files: what was learned on a few slices, in a few hundred kilobytes.

A safetensors file (no pickle; reading one never executes code) with half-precision tensors

    update/<layer>.down, .gate, .up     the surviving columns of A, g and B
    offset/<tensor>, value/<tensor>     of methods that train the network's own tensors
    adaptformer/..., spatial-adapter/... modules that a method adds
    head/<number>/<parameter>           the heads

and, in its metadata under ``reglora``, a JSON description: format version, base network and the
sha256 of its weights, organs, groups, preprocessing, method, ranks, held-out Dice, provenance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch  # noqa: TID253
from safetensors import SafetensorError, safe_open  # noqa: TID253
from safetensors.torch import save  # noqa: TID253

from reglora_core.errors import AdapterError
from reglora_core.head import Groups, Head
from reglora_core.known_classes import KnownClass, KnownHead
from reglora_core.methods.catalogue import HeadKind
from reglora_core.methods.heads import head_from_state
from reglora_core.methods.mask_decoder import mask_head_from_state
from reglora_core.methods.trained import KINDS, UPDATE, load_trained_state
from reglora_core.models.base import BaseModel
from reglora_core.models.slices import axis_of
from reglora_core.organs import Organ
from reglora_core.writing import write_atomically

FORMAT = 4
# 1: low-rank updates and our two-layer heads; 2: other kinds of either; 3: known classes; 4: slices
HEAD = "head/"
SINCE = {"head": 2, "known_classes": 3, "slice_axis": 4}  # entries that older formats lack
STATISTICS = ("mean", "deviation", "running_mean", "running_var")  # kept in single precision


@dataclass(frozen=True)
class Adapter:
    """What an adapter file holds.

    Attributes:
        base: name of the base network.
        base_sha256: of the base network's weights.
        organs: in the order of the heads' outputs.
        groups: organ indices that exclude each other.
        modality: of the scans it was fitted on.
        spacing_mm: of the working grid, one number or one per axis (z, y, x).
        slice_axis: the patient axis (S, A or R) that the slices are stacked along that the
            network sees; empty where it sees volumes.
        method: by which the update was found.
        hidden: width of the heads.
        head: what kind they are (`methods.catalogue.HeadKind`).
        ranks: surviving rank per layer.
        held_out_dice: per organ name; None where it could not be estimated.
        in_one_piece: names of the organs that were in one piece in the scans.
        known_classes: per organ name, the base network's own class that it is.
        provenance: version, seed, licence of the base network, and the like.
        update: compact A, g and B per layer.
        trained: what methods of other kinds trained (`methods.trained`).
        heads: state dicts of the heads.
    """

    base: str
    base_sha256: str
    organs: tuple[Organ, ...]
    groups: Groups
    modality: str
    spacing_mm: float | Sequence[float]
    method: str
    hidden: int
    slice_axis: str = ""
    head: HeadKind = "mlp"
    ranks: dict[str, int] = field(default_factory=dict)
    held_out_dice: dict[str, float | None] = field(default_factory=dict)
    in_one_piece: tuple[str, ...] = ()
    known_classes: Mapping[str, KnownClass] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    update: Mapping[str, torch.Tensor] = field(default_factory=dict)
    trained: Mapping[str, torch.Tensor] = field(default_factory=dict)
    heads: tuple[Mapping[str, torch.Tensor], ...] = ()

    @property
    def is_adapted(self) -> bool:
        """Whether the network is another one than the base network."""
        return bool(self.update or self.trained)

    @property
    def format(self) -> int:
        """The oldest format that can hold it, so that older versions read what they can."""
        if self.slice_axis:
            return 4
        if self.known_classes:
            return 3
        return 2 if self.trained or self.head != "mlp" else 1

    def describe(self) -> dict[str, Any]:
        """Return everything but the tensors, as JSON has it."""
        skipped = {"update", "trained", "heads"}
        skipped |= {key for key, since in SINCE.items() if since > self.format}
        entries = {key: value for key, value in vars(self).items() if key not in skipped}
        if self.known_classes:
            entries["known_classes"] = {k: asdict(own) for k, own in self.known_classes.items()}
        entries["organs"] = [asdict(organ) for organ in self.organs]
        entries["groups"] = [list(group) for group in self.groups]
        entries["in_one_piece"] = list(self.in_one_piece)
        return {"format": self.format, **entries}

    def build_heads(self, model: BaseModel) -> list[Head]:
        """Return the heads, for a base network that `attach_to` has accepted.

        Raises:
            AdapterError: the tensors are not those of such heads.
        """
        heads = []
        for state in self.heads:
            try:
                if self.head == "masks":
                    head: Head = mask_head_from_state(model, self.groups, state)
                else:
                    head = head_from_state(self.head, model.widths, self.groups, self.hidden, state)
            except (RuntimeError, KeyError) as error:
                message = "the adapter's heads do not have the shapes that its description says"
                raise AdapterError(message, "it is damaged; write it again") from error
            heads.append(head.to(model.device).eval())
        return heads

    def build_known_head(self, model: BaseModel) -> KnownHead | None:
        """Return what reads the organs off the base network's own classes, if any is known.

        Raises:
            AdapterError: the base network has no such classes.
        """
        if not self.known_classes:
            return None
        try:
            return KnownHead(model, self.groups, self.known_organs)
        except (KeyError, IndexError) as error:
            message = f"the adapter names a class that {model.entry.name!r} does not have ({error})"
            raise AdapterError(message, "it is damaged; write it again") from error

    @property
    def known_organs(self) -> dict[int, KnownClass]:
        """The known classes by the index of their organ."""
        index = {organ.name: number for number, organ in enumerate(self.organs)}
        return {index[name]: own for name, own in self.known_classes.items()}

    def check_base(self, model: BaseModel) -> None:
        """Raise AdapterError where the adapter belongs to another base network."""
        if model.sha256 != self.base_sha256:
            message = (
                f"the adapter was made for base network {self.base!r} with weights "
                f"{self.base_sha256[:12]}, this is {model.entry.name!r} with {model.sha256[:12]}"
            )
            raise AdapterError(message, "use the base network it was made for, or adapt again")

    def attach_to(self, model: BaseModel) -> None:
        """Add the update to its base network.

        Raises:
            AdapterError: it belongs to another base network.
        """
        self.check_base(model)
        updates = {UPDATE + key: value for key, value in self.update.items()}
        every = {key: value.float() for key, value in {**updates, **self.trained}.items()}
        load_trained_state(model.network, every)


def save_adapter(adapter: Adapter, path: Path) -> None:
    """Write an adapter file, beside its place and then moved there.

    Raises:
        OutputError: the place cannot be written.
    """
    tensors = {UPDATE + key: value.half() for key, value in adapter.update.items()}
    for key, value in adapter.trained.items():
        tensors[key] = value.float() if key.endswith(STATISTICS) else value.half()
    for number, state in enumerate(adapter.heads):
        for key, value in state.items():
            is_statistic = key in STATISTICS
            tensors[f"{HEAD}{number}/{key}"] = value.float() if is_statistic else value.half()
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
    metadata = {"reglora": json.dumps(adapter.describe(), ensure_ascii=True)}
    content = save(tensors, metadata=metadata)
    write_atomically(path, lambda place: _write_bytes(place, content))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def load_adapter(path: Path) -> Adapter:
    """Read an adapter file.

    Raises:
        AdapterError: missing, truncated, no adapter (a pickle, say), or of a newer format.
    """
    if not path.is_file():
        message = f"{path}: no such adapter file"
        raise AdapterError(message)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        message = f"{path.name}: not a complete adapter file ({error})"
        hint = "an adapter is a .safetensors file written by `reglora adapt`; copy it again"
        raise AdapterError(message, hint) from error
    return _from_parts(path, metadata, tensors)


def _from_parts(
    path: Path, metadata: Mapping[str, str], tensors: Mapping[str, torch.Tensor]
) -> Adapter:
    try:
        entries = json.loads(metadata["reglora"])
        file_format = int(entries.pop("format"))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        message = f"{path.name}: a safetensors file, but not an adapter"
        raise AdapterError(message, "choose a file written by `reglora adapt`") from error
    if file_format > FORMAT:
        message = f"{path.name}: adapter format {file_format}; this version reads up to {FORMAT}"
        raise AdapterError(message, "update RegLoRASegment")
    try:
        organs = tuple(
            Organ(entry["value"], entry["name"], tuple(entry["color"]), entry["terminology"])
            for entry in entries.pop("organs")
        )
        groups = _checked_groups(entries.pop("groups"), len(organs))
        in_one_piece = _names(entries.pop("in_one_piece", []))
        known = _known_classes(entries.pop("known_classes", {}), organs)
        axis_of(entries.get("slice_axis", ""))
        return Adapter(
            **entries,
            organs=organs,
            groups=groups,
            in_one_piece=in_one_piece,
            known_classes=known,
            update={k.removeprefix(UPDATE): v for k, v in tensors.items() if k.startswith(UPDATE)},
            trained={
                k: v for k, v in tensors.items() if k.partition("/")[0] in KINDS and UPDATE not in k
            },
            heads=_heads(tensors),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{path.name}: its description is incomplete ({error})"
        raise AdapterError(message, "write it again with `reglora adapt`") from error


def _checked_groups(groups: list[list[int]], organs: int) -> Groups:
    if sorted(index for group in groups for index in group) != list(range(organs)):
        message = f"groups {groups} of {organs} organs"
        raise ValueError(message)
    return tuple(tuple(group) for group in groups)


def _names(names: list[str]) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        message = f"names {names}"
        raise ValueError(message)
    return tuple(names)


def _known_classes(
    entries: Mapping[str, Mapping[str, Any]], organs: tuple[Organ, ...]
) -> dict[str, KnownClass]:
    strangers = entries.keys() - {organ.name for organ in organs}
    if strangers:
        message = f"classes of unknown organs {sorted(strangers)}"
        raise ValueError(message)
    return {
        name: KnownClass(int(own["row"]), str(own["name"]), float(own["offset"]), own["dice"])
        for name, own in entries.items()
    }


def _heads(tensors: Mapping[str, torch.Tensor]) -> tuple[Mapping[str, torch.Tensor], ...]:
    heads: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith(HEAD):
            number, _, name = key.removeprefix(HEAD).partition("/")
            heads.setdefault(int(number), {})[name] = value
    if not heads:
        message = "it has no heads"
        raise ValueError(message)
    return tuple(heads[number] for number in sorted(heads))
