"""Small modules beside or behind a network's own, put there by forward hooks.

AdaptFormer (Chen et al., NeurIPS 2022, arXiv 2205.13535, eq. 2 and 3), beside the MLP of every
transformer block:

    h = LN(x),    x <- x + MLP(h) + s Up(ReLU(Down(h)))        s = 0.1, bottleneck 16

Spatial adapter (FSEFT, arXiv 2303.17051), behind the last block of a network that stays a black
box: f <- f + Conv(ReLU(Conv(f))), 3 x 3 x 3 kernels without biases.

The last layer of each starts at zero, so the network starts as the base network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253
from torch.utils.hooks import RemovableHandle  # noqa: TID253

from reglora_core.errors import AdapterError

BOTTLENECK = 16
SCALE = 0.1
_NAME = "added_branches"  # of the network's child that holds them


class Branch(nn.Module):
    """What is added to a module's output, given its input and its output."""

    kind = ""
    hook: RemovableHandle | None = None
    place = ""

    def addition(self, given: Tensor, result: Tensor) -> Tensor:
        """Return what the module's output gains."""
        raise NotImplementedError


class Bottleneck(Branch):
    """s Up(ReLU(Down(h))) of the module's input h (..., width)."""

    kind = "adaptformer"

    def __init__(self, width: int, generator: torch.Generator, bottleneck: int = BOTTLENECK):
        super().__init__()
        with torch.random.fork_rng(devices=[]):  # torch draws them before we do
            self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        with torch.no_grad():
            _draw_(self.down.weight, width, generator)
            for tensor in (self.down.bias, self.up.weight, self.up.bias):
                tensor.zero_()

    def addition(self, given: Tensor, result: Tensor) -> Tensor:
        del result
        changed: Tensor = self.up(F.relu(self.down(given)))
        return SCALE * changed


class SpatialAdapter(Branch):
    """Conv(ReLU(Conv(f))) of the module's output f (batch, channels, D, H, W)."""

    kind = "spatial-adapter"

    def __init__(self, channels: int, generator: torch.Generator):
        super().__init__()

        with torch.random.fork_rng(devices=[]):
            self.first = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
            self.second = nn.Conv3d(channels, channels, 3, padding=1, bias=False)
        with torch.no_grad():
            _draw_(self.first.weight, 27 * channels, generator)
            self.second.weight.zero_()

    def addition(self, given: Tensor, result: Tensor) -> Tensor:
        del given
        changed: Tensor = self.second(F.relu(self.first(result)))
        return changed


def attach(network: nn.Module, place: str, branch: Branch) -> None:
    """Add a branch to the module of that name.

    The network itself holds it: a Sequential would run a child of its own as one more layer.
    """
    if _NAME not in network._modules:
        network.add_module(_NAME, nn.ModuleDict())
    branch.place = place
    held = network.get_submodule(_NAME)
    held.add_module(place.replace(".", "/"), branch.to(next(network.parameters()).device))

    def add(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
        del module
        return result + branch.addition(given[0], result)

    branch.hook = network.get_submodule(place).register_forward_hook(add)


def branches(network: nn.Module) -> dict[str, Branch]:
    """The branches by the name of the module that they belong to."""
    held = network._modules.get(_NAME)
    found = [] if held is None else [one for one in held.children() if isinstance(one, Branch)]
    return {branch.place: branch for branch in found}


def remove_branches(network: nn.Module) -> None:
    """Take them away."""
    for branch in branches(network).values():
        assert branch.hook is not None
        branch.hook.remove()
    network._modules.pop(_NAME, None)


def branch_state(network: nn.Module) -> dict[str, Tensor]:
    """Copies on the CPU: `adaptformer/<module>/<parameter>`, `spatial-adapter/...`."""
    return {
        f"{branch.kind}/{place}/{key}": tensor.detach().to("cpu", copy=True).contiguous()
        for place, branch in branches(network).items()
        for key, tensor in branch.state_dict().items()
    }


def load_branch_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a network without any the branches of a state. All fit, or none is given.

    Raises:
        AdapterError: a module that the network lacks, or tensors of other shapes.
    """
    grouped: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        kind, place, key = name.split("/")
        grouped.setdefault((kind, place), {})[key] = tensor
    built = {place: _built(network, kind, place, own) for (kind, place), own in grouped.items()}
    for place, branch in built.items():
        attach(network, place, branch)


def _built(network: nn.Module, kind: str, place: str, state: Mapping[str, Tensor]) -> Branch:
    generator = torch.Generator()
    try:
        network.get_submodule(place)
        if kind == Bottleneck.kind:
            bottleneck, width = state["down.weight"].shape
            branch: Branch = Bottleneck(width, generator, bottleneck)
        else:
            branch = SpatialAdapter(state["first.weight"].shape[0], generator)
        branch.load_state_dict(dict(state))
    except (AttributeError, KeyError, ValueError, RuntimeError) as error:
        message = f"adapter's {kind} of module {place} does not fit the network"
        raise AdapterError(message, "use the base network that the adapter was made with") from (
            error
        )
    return branch


def _draw_(weight: Tensor, inputs: int, generator: torch.Generator) -> None:
    """U(-1, 1) / sqrt(inputs): Kaiming with a = sqrt 5, as torch draws linear layers."""
    bound = 1 / math.sqrt(inputs)
    weight.copy_(torch.empty(weight.shape).uniform_(-bound, bound, generator=generator))
