"""The adaptive low-rank update of a frozen network, as one torch parametrization.

The weight of a linear map, seen as a matrix, becomes

    W + B diag(g) A        A (rank x inputs), g (rank), B (outputs x rank)

for Linear, Conv1-3d and ConvTranspose1-3d alike; no layer needs forward code of its own.

    report = add_adapters(network, ["attn.qkv"], LowRankConfig("arena", rank=8), generator)
    ...train adapter_parameters(network)...
    state = adapter_state(network)          # compact: only the columns whose gate survived
    load_adapter_state(another_network, state)
    merged = merge_adapters(another_network)      # plain weights again
    unmerge_adapters(another_network, merged)     # the base weights, bit for bit
    remove_adapters(another_network)

A weight is computed each time it is read, once per forward pass in every network of ours, so
`parametrize.cached` saves nothing; for many forward passes (sliding windows) merge first. A
network with adapters must not be pickled or deep-copied: keep its adapter state instead.

Sources: Baklouti et al., "Regularized Low-Rank Adaptation for Few-Shot Organ Segmentation",
MICCAI 2025, arXiv 2507.15793 (the gated update); Hu et al., "LoRA", arXiv 2106.09685, eq. 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253
from torch.nn.utils import parametrize  # noqa: TID253

from reglora_core.errors import AdapterError, InputError

Method = Literal["lora", "arena", "arena+", "gates", "adalora", "sora"]
Targets = Iterable[str] | Callable[[str, nn.Module], bool]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PENALTIES: dict[str, float] = {
    "lora": 0.0,
    "arena": 0.5,
    "arena+": 0.08,
    "gates": 0.0,
    "adalora": 0.1,
    "sora": 3e-4,
}
FIRST_GATE = 2.0  # of arena+: an update as fast as that of lora of rank 6 (sum of g^2)
_ADAPTABLE = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)


@dataclass(frozen=True)
class LowRankConfig:
    """Which low-rank update to add, and how wide.

    lora: no gates. arena: gates g ~ U(-1, 1) and the l1 step as published. arena+: gates that are
    singular values, with pruning that is real (`proximal.SpectralPruning`). gates: arena without
    its l1 step. adalora, sora: see `reglora_core.methods`; adalora's rank is the one that is left
    on average, it starts with half as much again (12 for 8).
    """

    method: Method = "arena"
    rank: int = 8
    penalty: float | None = None  # lambda; None: 0.5 as published, see effective_penalty
    fused_pattern: str = "qkv"  # layers of this name hold query, key and value: 3 * rank columns

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            message = f"method is {self.method!r}"
            raise InputError(message, f"choose one of {', '.join(get_args(Method))}")
        if self.rank <= 0:
            message = f"rank is {self.rank}"
            raise InputError(message, "choose a rank of at least 1")
        if self.penalty and self.method == "gates":
            message = f"penalty is {self.penalty}, but gates has none"
            raise InputError(message, "choose arena for a penalty")
        if not (self.effective_penalty >= 0 and math.isfinite(self.effective_penalty)):
            message = f"penalty is {self.penalty}"
            raise InputError(message, "choose a finite penalty of at least 0")

    @property
    def effective_penalty(self) -> float:
        """lambda: of lambda * ||g||_1 for arena, the end of the ramp for arena+.

        For sora its constant threshold, for adalora the weight of its regulariser.
        """
        return _PENALTIES[self.method] if self.penalty is None else self.penalty

    def columns(self, layer_name: str) -> int:
        """The number of columns of one layer: 3 * rank for a fused query-key-value projection.

        With it MONAI's SwinUNETR (feature_size 48) has the published 69,120 (rank 4) and 138,240
        (rank 8) LoRA parameters: sum over layers of 3 * rank * (d + 3 d).
        """
        rank = math.ceil(1.5 * self.rank) if self.method == "adalora" else self.rank
        return 3 * rank if self._is_fused(layer_name) else rank

    def target_columns(self, layer_name: str) -> int:
        """The columns that a layer has on average after adalora; for the others its columns."""
        return 3 * self.rank if self._is_fused(layer_name) else self.rank

    def _is_fused(self, layer_name: str) -> bool:
        return bool(self.fused_pattern) and self.fused_pattern in layer_name.rpartition(".")[2]


@dataclass(frozen=True)
class AdapterReport:
    """What `add_adapters` did: the columns of each layer; (asked, given) where that was less."""

    ranks: dict[str, int]
    clipped: dict[str, tuple[int, int]]


class LowRankUpdate(nn.Module):
    """W -> W + B diag(g) A, with W (outputs x inputs) the weight seen as a matrix.

    | layer | weight | matrix |
    |---|---|---|
    | Linear | (out, in) | out x in |
    | Conv | (out, in / groups, k...) | out x (in / groups * k^n) |
    | ConvTranspose | (in, out / groups, k...) | (out / groups) x (in * k^n) |

    `down` is A (rank x inputs), `gate` is g (rank) or None (then 1), `up` is B (outputs x rank).
    """

    gate: nn.Parameter | None

    def __init__(
        self, down: Tensor, gate: Tensor | None, up: Tensor, *, is_transposed: bool = False
    ) -> None:
        super().__init__()
        self.down = nn.Parameter(down)
        self.register_parameter("gate", None if gate is None else nn.Parameter(gate))
        self.up = nn.Parameter(up)
        self.is_transposed = is_transposed
        self.is_enabled = True
        self.initial_rank = self.rank

    @property
    def rank(self) -> int:
        """The number of columns, zeroed ones included."""
        return self.down.shape[0]

    @property
    def surviving(self) -> Tensor:
        """Which columns still act, as a mask (rank): those whose gate is not exactly zero."""
        if self.gate is None:
            return torch.ones(self.rank, dtype=torch.bool, device=self.down.device)
        return self.gate.detach() != 0

    def forward(self, weight: Tensor) -> Tensor:
        if not self.is_enabled or self.rank == 0:
            return weight
        with torch.autocast(weight.device.type, enabled=False):  # what is merged is what was run
            update = self.scaled_up() @ self.down
        if self.is_transposed:
            return weight + update.reshape(weight.transpose(0, 1).shape).transpose(0, 1)
        return weight + update.reshape(weight.shape)

    def scaled_up(self) -> Tensor:
        """B diag(g), outputs x rank."""
        return self.up if self.gate is None else self.up * self.gate

    @torch.no_grad()
    def compact_(self) -> None:
        """Drop the columns whose gate is zero; the update stays the same."""
        kept = self.surviving
        if bool(kept.all()):
            return
        self.down = nn.Parameter(self.down[kept])
        self.up = nn.Parameter(self.up[:, kept])
        if self.gate is not None:
            self.gate = nn.Parameter(self.gate[kept])


@dataclass(frozen=True)
class MergedAdapters:
    """What `unmerge_adapters` needs; drop it, and the memory of the base weights is freed."""

    base_weights: dict[str, Tensor]
    updates: dict[str, LowRankUpdate]


def add_adapters(
    network: nn.Module, targets: Targets, config: LowRankConfig, generator: torch.Generator
) -> AdapterReport:
    """Freeze the network and add a low-rank update, zero at first, to each target layer.

    A target is a layer's full name, the end of one ("attn.qkv") or a pattern ("decoder*.conv*"),
    or a function of name and layer. Every other parameter stops requiring gradients; let those of
    a head require them again afterwards. A rank above min(outputs, inputs) is clipped.

    A is drawn as nn.Linear's weight, U(-1, 1) / sqrt(inputs), B is zero, g ~ U(-1, 1) (arena,
    gates) or N(0, 1) (sora), all from the generator: arXiv 2507.15793 and its published code. For
    adalora A and B are N(0, 0.02^2) and g is zero. For arena+ g is 2, 2/2, 2/3, ..., and neither
    the first columns nor what is drawn afterwards depends on the rank.

    Raises:
        InputError: a target that fits no adaptable layer, or a layer that has an update already.
    """
    layers = _target_layers(network, targets)
    network.requires_grad_(False)
    ranks: dict[str, int] = {}
    clipped: dict[str, tuple[int, int]] = {}
    for name, layer in layers.items():
        outputs, inputs = _matrix_shape(layer)
        asked = config.columns(name)
        ranks[name] = min(asked, outputs, inputs)
        if ranks[name] < asked:
            clipped[name] = (asked, ranks[name])
        _attach(layer, *_initial_factors(layer, ranks[name], config.method, generator))
    return AdapterReport(ranks, clipped)


def adapters(network: nn.Module) -> dict[str, LowRankUpdate]:
    """The low-rank updates of the network by layer name."""
    found = {}
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            first = module.get_submodule("parametrizations.weight.0")
            if isinstance(first, LowRankUpdate):
                found[name] = first
    return found


def adapter_parameters(network: nn.Module) -> list[nn.Parameter]:
    """All A, g and B."""
    return [parameter for update in adapters(network).values() for parameter in update.parameters()]


def gates(network: nn.Module) -> dict[str, nn.Parameter]:
    """The gates g by layer name; none for lora."""
    return {name: u.gate for name, u in adapters(network).items() if u.gate is not None}


def trainable_count(network: nn.Module) -> int:
    """The number of values that require gradients, a head's included."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def initial_ranks(network: nn.Module) -> dict[str, int]:
    """The columns each layer started with (or was loaded with)."""
    return {name: update.initial_rank for name, update in adapters(network).items()}


def effective_ranks(network: nn.Module) -> dict[str, int]:
    """The columns of each layer whose gate is not zero."""
    return {name: int(update.surviving.sum()) for name, update in adapters(network).items()}


def compact_(network: nn.Module) -> None:
    """Drop the columns of zeroed gates everywhere; the network computes the same.

    The parameters are new objects: an optimizer made before does not know them.
    """
    for update in adapters(network).values():
        update.compact_()


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """The surviving columns as `<layer>.down`, `<layer>.gate` (not for lora) and `<layer>.up`.

    The tensors are copies in memory of the CPU; a layer of rank zero keeps its empty tensors.
    """
    state = {}
    for name, update in adapters(network).items():
        kept = update.surviving
        state[f"{name}.down"] = _on_cpu(update.down[kept])
        if update.gate is not None:
            state[f"{name}.gate"] = _on_cpu(update.gate[kept])
        state[f"{name}.up"] = _on_cpu(update.up[:, kept])
    return state


def load_adapter_state(network: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Freeze the network and give it the updates of a state, in place of any it has.

    Each layer gets the rank that the state has for it. Nothing changes if the state does not fit.

    Raises:
        AdapterError: a layer that the network lacks or that cannot be adapted, an incomplete
            update, or shapes that do not fit; the message names the layer and both shapes.
    """
    factors = {name: _checked_factors(network, name, state) for name in _layer_names(state)}
    remove_adapters(network)
    network.requires_grad_(False)
    for name, (down, gate, up) in factors.items():
        _attach(network.get_submodule(name), down, gate, up)


@torch.no_grad()
def merge_adapters(network: nn.Module) -> MergedAdapters:
    """Write W + B diag(g) A into the weights: no cost at inference, the base's state-dict keys.

    The merged weights are, bit for bit, those the network ran with. Keep the result to undo it.
    """
    merged = MergedAdapters({}, adapters(network))
    for name, update in merged.updates.items():
        layer = network.get_submodule(name)
        _detach(layer)
        weight = _weight(layer)
        merged.base_weights[name] = weight.detach()
        weight.data = update(weight).clone()
    return merged


def unmerge_adapters(network: nn.Module, merged: MergedAdapters) -> None:
    """Undo `merge_adapters`: the base weights, bit for bit, with the updates beside them again."""
    for name, update in merged.updates.items():
        layer = network.get_submodule(name)
        weight = _weight(layer)
        weight.data = merged.base_weights[name].to(weight.device)
        parametrize.register_parametrization(layer, "weight", update)


def remove_adapters(network: nn.Module) -> None:
    """Take the updates away; the weights are the base's, bit for bit, and stay frozen."""
    for name in adapters(network):
        layer = network.get_submodule(name)
        _detach(layer)


@contextmanager
def adapters_disabled(network: nn.Module) -> Iterator[None]:
    """Run the base network for a while; updates that were off before stay off afterwards."""
    switched = [update for update in adapters(network).values() if update.is_enabled]
    for update in switched:
        update.is_enabled = False
    try:
        yield
    finally:
        for update in switched:
            update.is_enabled = True


def _target_layers(network: nn.Module, targets: Targets) -> dict[str, nn.Module]:
    layers = {n: m for n, m in network.named_modules() if isinstance(m, _ADAPTABLE)}
    if callable(targets):
        chosen = {name for name, layer in layers.items() if targets(name, layer)}
        if not chosen:
            message = f"none of the {len(layers)} Linear and convolution layers was chosen"
            raise InputError(message, "choose at least one layer to adapt")
    else:
        chosen = set().union(*(_matches(layers, target) for target in _as_patterns(targets)))
    for name in chosen:
        if parametrize.is_parametrized(layers[name], "weight"):
            message = f"layer {name} has a low-rank update or another parametrization already"
            raise InputError(message, "remove it first")
    return {name: layer for name, layer in layers.items() if name in chosen}


def _as_patterns(targets: Iterable[str]) -> list[str]:
    patterns = [targets] if isinstance(targets, str) else list(targets)
    if not patterns:
        message = "no layer to adapt was named"
        raise InputError(message, "name at least one")
    return patterns


def _matches(layers: Mapping[str, nn.Module], target: str) -> set[str]:
    found = {n for n in layers if fnmatchcase(n, target) or n.endswith(f".{target}")}
    if not found:
        message = f"no Linear or convolution layer of the network is called {target!r}"
        raise InputError(message, "name existing layers")
    return found


def _initial_factors(
    layer: nn.Module, rank: int, method: Method, generator: torch.Generator
) -> tuple[Tensor, Tensor | None, Tensor]:
    outputs, inputs = _matrix_shape(layer)

    def drawn(*shape: int) -> Tensor:
        return torch.empty(shape, device=generator.device)

    if method == "arena+":
        return *_ordered_factors(rank, inputs, generator), torch.zeros(outputs, rank)
    if method == "adalora":
        down = drawn(rank, inputs).normal_(0, 0.02, generator=generator)
        return down, torch.zeros(rank), drawn(outputs, rank).normal_(0, 0.02, generator=generator)
    bound = 1 / math.sqrt(inputs)
    down = drawn(rank, inputs).uniform_(-bound, bound, generator=generator)
    gate = None
    if method in ("arena", "gates"):
        gate = drawn(rank).uniform_(-1, 1, generator=generator)
    elif method == "sora":
        gate = drawn(rank).normal_(generator=generator)
    return down, gate, torch.zeros(outputs, rank)


def _ordered_factors(rank: int, inputs: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A and g = 2 / (1, 2, ..., rank) of arena+, whose update has a limit for large ranks.

    A column moves the weight in proportion to g, so columns beyond the first few are a reserve:
    the sum of g^2 is 6.1 at rank 8 and 6.5 at 64. One number is taken from the generator.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    own = torch.Generator().manual_seed(seed)
    bound = 1 / math.sqrt(inputs)
    down = torch.empty(rank, inputs).uniform_(-bound, bound, generator=own)
    return down, FIRST_GATE / torch.arange(1.0, rank + 1)


def _attach(layer: nn.Module, down: Tensor, gate: Tensor | None, up: Tensor) -> None:
    weight = _weight(layer)

    def like_weight(tensor: Tensor) -> Tensor:
        return tensor.detach().to(device=weight.device, dtype=weight.dtype, copy=True)

    update = LowRankUpdate(
        like_weight(down),
        None if gate is None else like_weight(gate),
        like_weight(up),
        is_transposed=isinstance(layer, _TRANSPOSED),
    )
    parametrize.register_parametrization(layer, "weight", update)


def _detach(layer: nn.Module) -> None:
    parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    bias = layer.bias  # torch puts the weight last; the state dict's order is weight, bias
    del layer.bias
    assert bias is None or isinstance(bias, nn.Parameter)
    layer.register_parameter("bias", bias)


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _matrix_shape(layer: nn.Module) -> tuple[int, int]:
    """Rows and columns of the weight seen as a matrix: outputs x inputs."""
    shape = _weight(layer).shape
    outputs = shape[1] if isinstance(layer, _TRANSPOSED) else shape[0]
    return outputs, math.prod(shape) // outputs


def _on_cpu(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _layer_names(state: Mapping[str, Tensor]) -> list[str]:
    names: dict[str, None] = {}
    for key in state:
        name, _, factor = key.rpartition(".")
        if factor not in {"down", "gate", "up"}:
            message = f"adapter has an unknown entry {key!r}"
            raise AdapterError(message, "use an adapter written by this version or an older one")
        names[name] = None
    return list(names)


def _checked_factors(
    network: nn.Module, name: str, state: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor | None, Tensor]:
    layer = dict(network.named_modules()).get(name)
    if not isinstance(layer, _ADAPTABLE):
        problem = "the network has no such layer" if layer is None else "it cannot be adapted"
        message = f"adapter is for layer {name}, but {problem}"
        raise AdapterError(message, "use the base network that the adapter was made with")
    missing = [factor for factor in ("down", "up") if f"{name}.{factor}" not in state]
    if missing:
        message = f"adapter lacks {' and '.join(missing)} of layer {name}"
        raise AdapterError(message, "use a complete adapter")
    down, up = state[f"{name}.down"], state[f"{name}.up"]
    gate = state.get(f"{name}.gate")
    outputs, inputs = _matrix_shape(layer)
    rank = down.shape[0] if down.ndim else 0
    fits = down.shape == (rank, inputs) and up.shape == (outputs, rank)
    if not fits or (gate is not None and gate.shape != (rank,)):
        sizes = " and ".join(str(tuple(t.shape)) for t in (down, gate, up) if t is not None)
        shape = f"the layer's matrix is {(outputs, inputs)}"
        message = f"adapter of layer {name} has shapes {sizes}, {shape}"
        raise AdapterError(message, "use the base network that the adapter was made with")
    return down, gate, up
