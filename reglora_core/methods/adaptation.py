"""A base network being adapted by one of the methods: the interface that all of them share."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from reglora_core import lora
from reglora_core.errors import InputError
from reglora_core.methods import branches, values
from reglora_core.methods.adalora import orthogonality
from reglora_core.methods.catalogue import (
    DECODER_LEARNING_RATE,
    LOW_RANK,
    MethodEntry,
    method_entry,
)
from reglora_core.methods.parts import NOTHING, layer_norms, parts_of, transformer_mlps
from reglora_core.methods.scratch import calibrate_, random_values
from reglora_core.methods.sora import mean_l1
from reglora_core.methods.trained import is_trained, kinds_of
from reglora_core.models.base import BaseModel
from reglora_core.models.sam import is_sam
from reglora_core.proximal import Annealing, ProximalOptimizer, build_optimizer


@dataclass(frozen=True)
class MethodConfig:
    """Which method, and how wide.

    Attributes:
        name: of the catalogue.
        rank, penalty: of low-rank methods (`lora.LowRankConfig`).
        trains_decoder: the decoder is trained too, as for organs that the network never saw.
    """

    name: str = "arena"
    rank: int = 8
    penalty: float | None = None
    trains_decoder: bool = False

    def __post_init__(self) -> None:
        method_entry(self.name)
        if self.name in LOW_RANK:
            _ = self.low_rank
        if self.trains_decoder and self.name in ("full-ft", "scratch", "zero-shot"):
            message = f"method {self.name} with the decoder trained besides"
            raise InputError(message, "leave that out: it has none of its own to train besides")

    @property
    def entry(self) -> MethodEntry:
        return method_entry(self.name)

    @property
    def low_rank(self) -> lora.LowRankConfig:
        """The low-rank update's own configuration."""
        name = self.entry.low_rank or self.name
        return lora.LowRankConfig(name, self.rank, self.penalty)  # type: ignore[arg-type]

    @property
    def learning_rate(self) -> float:
        """As published with FSEFT and ARENA; for arena+ that of its low-rank update."""
        if self.trains_decoder and self.entry.learning_rate and not self.entry.keeps_rate:
            return min(self.entry.learning_rate, DECODER_LEARNING_RATE)
        return self.entry.learning_rate


@dataclass(frozen=True)
class Adaptation:
    """A frozen base network with what a method trains in it.

    Attributes:
        clipped: layers whose rank was asked for in vain: (asked, given).
    """

    network: nn.Module
    config: MethodConfig
    clipped: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What is trained in the network; heads are not in it."""
        return [parameter for parameter in self.network.parameters() if parameter.requires_grad]

    @property
    def trainable_count(self) -> int:
        """The number of values trained in the network."""
        return sum(parameter.numel() for parameter in self.parameters)

    def optimizer(
        self,
        learning_rate: float,
        head_parameters: Iterable[nn.Parameter] = (),
        *,
        steps: int,
        head_learning_rate: float | None = None,
        values_learning_rate: float | None = None,
    ) -> ProximalOptimizer:
        """AdamW without weight decay, and the method's rule after each of its steps.

        Groups: "factors" and "gates" of low-rank updates, "values" of everything else in the
        network, "head". The head and the values have `learning_rate` where they have none of
        their own; but a decoder beside an update that keeps its rate has FSEFT's at most.
        """
        values_rate = values_learning_rate or learning_rate
        if not values_learning_rate and self.config.trains_decoder and self.config.entry.keeps_rate:
            values_rate = min(learning_rate, DECODER_LEARNING_RATE)
        low_rank = lora.LowRankConfig("lora")
        if self.config.name in LOW_RANK:
            low_rank = self.config.low_rank
        others = self._others()
        head_parameters = list(head_parameters)
        if not lora.adapters(self.network):
            head_rate = head_learning_rate or learning_rate
            groups = [
                {"name": "values", "params": others, "lr": values_rate},
                {"name": "head", "params": head_parameters, "lr": head_rate},
            ]
            groups = [group for group in groups if group["params"]]
            plain = torch.optim.AdamW(groups, lr=learning_rate, weight_decay=0.0)
            return ProximalOptimizer(self.network, plain, None)
        optimizer = build_optimizer(
            self.network,
            low_rank,
            learning_rate=learning_rate,
            head_parameters=head_parameters,
            head_learning_rate=head_learning_rate,
            annealing=Annealing(max(steps, 1)),
        )
        if others:
            group = {"name": "values", "params": others, "lr": values_rate}
            optimizer.optimizer.add_param_group(group)
        return optimizer

    def regulariser(self) -> Tensor:
        """What the method adds to the loss: a scalar, zero for most."""
        updates = list(lora.adapters(self.network).values())
        if self.config.name == "adalora" and updates:
            return self.config.low_rank.effective_penalty * orthogonality(updates)
        gates = [update.gate for update in updates if update.gate is not None]
        if self.config.name == "sora" and gates:
            return mean_l1(gates)
        return torch.zeros((), device=next(self.network.parameters()).device)

    def _others(self) -> list[nn.Parameter]:
        own = {id(parameter) for parameter in lora.adapter_parameters(self.network)}
        return [parameter for parameter in self.parameters if id(parameter) not in own]


def begin(model: BaseModel, config: MethodConfig, generator: torch.Generator) -> Adaptation:
    """Freeze a base network and give it what the method trains; at first it computes the same.

    Except for scratch: its weights are drawn anew (`methods.scratch.calibrate_` comes next). A
    network that was given something by an earlier adaptation of the same kind goes on from that.

    Raises:
        InputError: the method is not defined for this network, or the network holds what a
            method of another kind trained.
    """
    if is_trained(model.network):
        return resume(model.network, config)
    model.network.requires_grad_(False)
    clipped: dict[str, tuple[int, int]] = {}
    if config.name in LOW_RANK:
        clipped = lora.add_adapters(
            model.network, _low_rank_targets(model, config), config.low_rank, generator
        ).clipped
    elif config.entry.kind == "values":
        _begin_values(model.network, config, generator)
    elif config.entry.kind == "branch":
        _begin_branches(model, config, generator)
    if config.trains_decoder and config.name != "decoder-ft":
        values.add_offsets(model.network, _decoder_names(model.network))
    return Adaptation(model.network, config, clipped)


def resume(network: nn.Module, config: MethodConfig) -> Adaptation:
    """Go on from what an earlier adaptation gave to the network.

    Raises:
        InputError: a method of another kind did.
    """
    there, wanted = kinds_of(network), config.entry.kind
    if wanted not in there:
        found = " and ".join(sorted(there))
        message = f"method {config.name} cannot go on from an adapter that holds {found}"
        raise InputError(message, "use the method that the adapter was made with, or none")
    return Adaptation(network, config)


def start_from_scratch(model: BaseModel, hounsfield: Tensor, seed: int) -> None:
    """Draw a network's weights anew, and set its batch statistics on a scan (z, y, x)."""
    begin(model, MethodConfig("scratch"), torch.Generator().manual_seed(seed))
    calibrate_(model, hounsfield)


def refuse_undefined(model: BaseModel, config: MethodConfig) -> None:
    """Check that a method can be used on a network as it is; nothing changes.

    Raises:
        InputError: it is not defined for it, or an earlier adapter is in the way; the message
            says why and what to use.
    """
    if config.entry.head == "masks" and not is_sam(model.network):
        name = type(model.network).__name__
        message = f"method {config.name}: a {name} has no mask decoder"
        instead = "arena" if config.entry.kind == "low-rank" else "linear-probe"
        raise InputError(message, f"use {instead}, or a SAM as base network")
    if is_trained(model.network):
        if config.name in ("scratch", "zero-shot"):
            message = f"method {config.name} uses no earlier adapter"
            raise InputError(message, "leave it out")
        if config.entry.kind != "none":
            resume(model.network, config)
        return
    if config.entry.kind == "values":
        _value_names(model.network, config)
    elif config.entry.kind == "branch":
        _branch_places(model, config)


def _low_rank_targets(model: BaseModel, config: MethodConfig) -> lora.Targets:
    decoder = parts_of(model.network).decoder if config.trains_decoder else NOTHING

    def is_target(name: str, layer: nn.Module) -> bool:
        return model.is_adapted_layer(name, layer) and not re.search(decoder, name)

    return is_target


def _begin_values(network: nn.Module, config: MethodConfig, generator: torch.Generator) -> None:
    if config.name == "scratch":
        values.replace_values(network, random_values(network, generator))
    else:
        values.add_offsets(network, _value_names(network, config))


def _value_names(network: nn.Module, config: MethodConfig) -> list[str]:
    parts = parts_of(network)
    if config.name == "bitfit":
        return parts.names(network, parts.biases)
    if config.name == "affine-ln":
        names = layer_norms(network, parts)
        if not names:
            message = f"method affine-ln: a {type(network).__name__} has no layer norms to train"
            raise InputError(message, "use bitfit, which trains its normalisations' biases")
        return names
    if config.name == "decoder-ft":
        return _decoder_names(network)
    output = set(parts.names(network, parts.output))
    return [name for name, _ in network.named_parameters() if name not in output]


def _decoder_names(network: nn.Module) -> list[str]:
    parts = parts_of(network)
    names = parts.names(network, parts.decoder)
    if not names:
        message = f"a {type(network).__name__} has no decoder to train"
        raise InputError(message, "use arena or lora, or a base network with a decoder")
    return names


def _begin_branches(model: BaseModel, config: MethodConfig, generator: torch.Generator) -> None:
    for place, width in _branch_places(model, config).items():
        branch: branches.Branch
        if config.name == "adaptformer":
            branch = branches.Bottleneck(width, generator)
        else:
            branch = branches.SpatialAdapter(width, generator)
        branches.attach(model.network, place, branch)


def _branch_places(model: BaseModel, config: MethodConfig) -> dict[str, int]:
    """Return the modules that get a branch, and their widths."""
    parts = parts_of(model.network)
    if config.name == "spatial-adapter":
        if not parts.features:
            message = f"method spatial-adapter: a {type(model.network).__name__} has no last block"
            raise InputError(message, "use arena or lora")
        return {parts.features: parts.width}
    mlps = transformer_mlps(model.network, parts)
    if not mlps:
        name = type(model.network).__name__
        message = f"method adaptformer: a {name} has no transformer blocks, so no MLP to go beside"
        raise InputError(message, "use arena or lora, or spatial-adapter, which adds a module")
    return mlps
