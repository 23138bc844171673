"""Tensors of a frozen network with an offset to train, or with a new value, as parametrizations.

An offset starts at zero, so the network starts as the base network; training W + D with Adam and
no weight decay is training W. The base tensor stays where it is: taking the offset away gives it
back bit for bit, and an offset in half precision loses less than a weight would.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253
from torch.nn.utils import parametrize  # noqa: TID253

from reglora_core.errors import AdapterError


class Offset(nn.Module):
    """W -> W + D; D starts at zero."""

    def __init__(self, base: Tensor) -> None:
        super().__init__()
        self.tensor = nn.Parameter(torch.zeros_like(base))

    def forward(self, base: Tensor) -> Tensor:
        return base + self.tensor


class Replacement(nn.Module):
    """W -> V, which starts where it is told; of a buffer V is not trained."""

    def __init__(self, value: Tensor, *, is_trained: bool) -> None:
        super().__init__()
        self.tensor = nn.Parameter(value.clone(), requires_grad=is_trained)

    def forward(self, base: Tensor) -> Tensor:
        del base
        return self.tensor


Value = Offset | Replacement
KINDS: dict[str, type[Value]] = {"offset": Offset, "value": Replacement}


def add_offsets(network: nn.Module, names: Iterable[str]) -> None:
    """Give the parameters of these names an offset to train."""
    for name in names:
        module, key = _place(network, name)
        parametrize.register_parametrization(module, key, Offset(getattr(module, key)))


def replace_values(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors in the place of parameters (then they are trained) and of buffers."""
    for name, tensor in tensors.items():
        module, key = _place(network, name)
        own = getattr(module, key)
        is_trained = isinstance(own, nn.Parameter)
        new = Replacement(tensor.to(own), is_trained=is_trained)
        parametrize.register_parametrization(module, key, new)


def values(network: nn.Module) -> dict[str, Value]:
    """The offsets and new values by the name of the tensor that they change."""
    return {f"{place}.{key}" if place else key: v for place, _, key, v in _each(network)}


def value_state(network: nn.Module) -> dict[str, Tensor]:
    """Copies of them on the CPU: `offset/<name>`, `value/<name>`."""
    return {
        f"{'offset' if isinstance(value, Offset) else 'value'}/{name}": value.tensor.detach()
        .to("cpu", copy=True)
        .contiguous()
        for name, value in values(network).items()
    }


def load_value_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network without any the offsets and values of a state. All fit, or none is given.

    Raises:
        AdapterError: a tensor that the network lacks, or of another shape.
    """
    own = dict(network.state_dict(keep_vars=True))
    for key, tensor in state.items():
        name = key.partition("/")[2]
        if name not in own:
            message = f"adapter is for tensor {name}, but the network has no such tensor"
            raise AdapterError(message, "use the base network that the adapter was made with")
        if own[name].shape != tensor.shape:
            shapes = f"{tuple(tensor.shape)}, the network {tuple(own[name].shape)}"
            message = f"adapter of tensor {name} has shape {shapes}"
            raise AdapterError(message, "use the base network that the adapter was made with")
    offsets = {key: t for key, t in state.items() if key.startswith("offset/")}
    add_offsets(network, (key.partition("/")[2] for key in offsets))
    replace_values(network, {k.partition("/")[2]: t for k, t in state.items() if k not in offsets})
    now = values(network)
    with torch.no_grad():
        for key, tensor in offsets.items():
            now[key.partition("/")[2]].tensor.copy_(tensor)


def remove_values(network: nn.Module) -> None:
    """Take them away; the tensors are the base's, bit for bit, and frozen."""
    for _, module, key, _ in list(_each(network)):
        _detach(module, key, keeps_value=False)


def merge_values(network: nn.Module) -> None:
    """Write them into the network for good: no cost when it runs."""
    for _, module, key, _ in list(_each(network)):
        _detach(module, key, keeps_value=True)


def _each(network: nn.Module) -> Iterator[tuple[str, nn.Module, str, Value]]:
    """Yield place, module, the tensor's name in it, and its offset or new value."""
    for place, module in network.named_modules():
        if not parametrize.is_parametrized(module):
            continue
        held = module.get_submodule("parametrizations")
        for key, chain in held.named_children():
            first = chain.get_submodule("0")
            if isinstance(first, Offset | Replacement):
                yield place, module, key, first


def _detach(module: nn.Module, key: str, *, keeps_value: bool) -> None:
    with torch.no_grad():
        parametrize.remove_parametrizations(module, key, leave_parametrized=keeps_value)
    own = getattr(module, key)
    if isinstance(own, nn.Parameter):
        own.requires_grad_(False)
    if key == "weight":  # torch puts it last; the state dict's order is weight, bias
        for other in [name for name in module._parameters if name != key]:
            module._parameters[other] = module._parameters.pop(other)


def _place(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    place, _, key = name.rpartition(".")
    return network.get_submodule(place), key
