"""What a method gave to a network, whatever it is: its state, loading it, taking it away.

| key of the state | |
|---|---|
| `update/<layer>.down`, `.gate`, `.up` | surviving columns of low-rank updates |
| `offset/<tensor>` | D of W + D |
| `value/<tensor>` | a new value |
| `adaptformer/<module>/<parameter>`, `spatial-adapter/...` | branches |
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn  # noqa: TID253

from reglora_core import lora
from reglora_core.errors import AdapterError
from reglora_core.methods import branches, values

UPDATE = "update/"
KINDS = ("update", *values.KINDS, branches.Bottleneck.kind, branches.SpatialAdapter.kind)


def trained_state(network: nn.Module) -> dict[str, Tensor]:
    """Copies, on the CPU, of everything that the network was given beside its base weights."""
    updates = {UPDATE + key: tensor for key, tensor in lora.adapter_state(network).items()}
    return {**updates, **values.value_state(network), **branches.branch_state(network)}


def load_trained_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Freeze the network and give it what a state holds, in place of what it has.

    Raises:
        AdapterError: the state does not fit the network; the message says where. The network is
            then the base network, frozen.
    """
    parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in KINDS}
    for key, tensor in state.items():
        kind = key.partition("/")[0]
        if kind not in parts:
            message = f"adapter has an unknown entry {key!r}"
            raise AdapterError(message, "update RegLoRASegment")
        parts[kind][key] = tensor
    remove_trained(network)
    network.requires_grad_(False)
    try:
        lora.load_adapter_state(
            network, {key.removeprefix(UPDATE): t for key, t in parts["update"].items()}
        )
        values.load_value_state(network, {**parts["offset"], **parts["value"]})
        kinds = (branches.Bottleneck.kind, branches.SpatialAdapter.kind)
        branches.load_branch_state(
            network, {k: t for kind in kinds for k, t in parts[kind].items()}
        )
    except AdapterError:
        remove_trained(network)
        raise


def remove_trained(network: nn.Module) -> None:
    """Take it away: the base network again, bit for bit, and frozen."""
    branches.remove_branches(network)
    values.remove_values(network)
    lora.remove_adapters(network)


def merge_trained(network: nn.Module) -> None:
    """Write updates, offsets and values into the weights for good; branches run on."""
    lora.merge_adapters(network)
    values.merge_values(network)


def trained_count(network: nn.Module) -> int:
    """The number of values it was given; of low-rank updates the surviving columns'."""
    return sum(tensor.numel() for tensor in trained_state(network).values())


def is_trained(network: nn.Module) -> bool:
    """Whether the network was given anything."""
    found = (lora.adapters(network), values.values(network), branches.branches(network))
    return any(found)


def kinds_of(network: nn.Module) -> set[str]:
    """Which kinds of things it was given, as `catalogue.Kind` names them."""
    found = {
        "low-rank": bool(lora.adapters(network)),
        "values": bool(values.values(network)),
        "branch": bool(branches.branches(network)),
    }
    return {kind for kind, is_there in found.items() if is_there}
