"""Heads that read organs off the finest feature map alone: the linear probe, and zero shots.

A group of organs that exclude each other has one softmax with its background, whose logit is 0 in
the linear probe; so a group of one organ is a sigmoid, with one weight per channel and a bias (49
for SwinUNETR), as in FSEFT (arXiv 2303.17051).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.head import Groups, Head, HeadConfig
from reglora_core.models.base import BaseModel
from reglora_core.models.tiny import TinyUNet
from reglora_core.organs import name_key

BACKGROUND = "background"


def with_backgrounds(logits: Tensor, groups: Groups) -> Tensor:
    """Put a background of log-odds zero before each group of organs (n, organs)."""
    parts = torch.split(logits, [len(group) for group in groups], dim=1)
    zero = torch.zeros_like(logits[:, :1])
    return torch.cat([torch.cat([zero, part], dim=1) for part in parts], dim=1)


class FinestHead(Head):
    """What both heads share: they see the last of the feature maps only."""

    def __init__(self, widths: tuple[int, ...], groups: Groups) -> None:
        nn.Module.__init__(self)
        self.widths, self.groups = tuple(widths), groups

    def standardised(self, features: Tensor) -> Tensor:
        return features[:, -self.widths[-1] :]

    def on_maps(self, maps: list[Tensor]) -> Tensor:
        """Apply the head to the finest map (1, channels, D, H, W) -> (outputs, D, H, W)."""
        fine = maps[-1].float()
        rows = fine[0].flatten(1).T
        logits = self.on_standardised(self.standardised(rows))
        return self.probabilities(logits).T.reshape(-1, *fine.shape[2:])


class LinearHead(FinestHead):
    """The linear probe: a 1 x 1 x 1 convolution of the finest feature map.

    Standardising first changes how fast it is fitted and not what it can be.

    Shape: features (n, sum of widths) -> logits (n, organs + groups), the backgrounds' zero.
    """

    def __init__(self, widths: tuple[int, ...], groups: Groups) -> None:
        super().__init__(widths, groups)
        self.register_buffer("mean", torch.zeros(widths[-1]))
        self.register_buffer("deviation", torch.ones(widths[-1]))
        self.output = nn.Linear(widths[-1], sum(map(len, groups)))

    def standardise_by(self, features: Tensor) -> None:
        """Take mean and deviation from the features (n, sum of widths) of annotated voxels."""
        super().standardise_by(features[:, -self.widths[-1] :])

    def standardised(self, features: Tensor) -> Tensor:
        return (super().standardised(features) - self.mean) / self.deviation

    def on_standardised(self, features: Tensor) -> Tensor:
        return with_backgrounds(self.output(features), self.groups)

    def on_maps(self, maps: list[Tensor]) -> Tensor:
        """Apply the head to the finest map (1, channels, D, H, W) -> (outputs, D, H, W).

        Standardising is part of the weights here, and channels stay the first axis: a fit calls
        this in every step.
        """
        fine = maps[-1].float()
        weight = self.output.weight / self.deviation
        bias = self.output.bias - weight @ self.mean
        logits = (weight @ fine[0].flatten(1) + bias[:, None])[None]
        scores = self.probabilities(with_backgrounds(logits, self.groups))
        return scores.reshape(-1, *fine.shape[2:])


@dataclass(frozen=True)
class TrainedClasses:
    """The output layer that a base network was trained with.

    Attributes:
        names: of its classes.
        weight: (classes, channels).
        bias: (classes,).
    """

    names: tuple[str, ...]
    weight: Tensor
    bias: Tensor

    @property
    def has_background(self) -> bool:
        """Whether the classes exclude each other, background among them (softmax)."""
        return self.names[0] == BACKGROUND

    def row(self, name: str) -> int | None:
        """Return the place of an organ; upper and lower case and word order do not matter."""
        keys = [name_key(known) for known in self.names]
        key = name_key(name)
        return keys.index(key) if key in keys and key != name_key(BACKGROUND) else None


def trained_classes(model: BaseModel) -> TrainedClasses | None:
    """Return a base network's own output layer, or None where its classes are not known."""
    network: Any = model.network
    if isinstance(network, TinyUNet):
        own, names = network.classifier, network.config.classes
        return TrainedClasses(names, own.weight.detach(), own.bias.detach()) if names else None
    layer = getattr(getattr(getattr(network, "out", None), "conv", None), "conv", None)
    names = model.entry.classes
    if layer is None or not names or len(layer.weight) != len(names):
        return None
    return TrainedClasses(names, layer.weight.detach().flatten(1), layer.bias.detach())


class ClassHead(FinestHead):
    """Zero shots: the base network's own output layer; nothing is fitted.

    Where its classes exclude each other, those that a group does not ask for are its background.
    """

    weight: Tensor
    bias: Tensor
    rows: Tensor
    has_background: Tensor

    def __init__(
        self, widths: tuple[int, ...], groups: Groups, classes: TrainedClasses, rows: Sequence[int]
    ) -> None:
        super().__init__(widths, groups)
        self.register_buffer("weight", classes.weight.clone())
        self.register_buffer("bias", classes.bias.clone())
        self.register_buffer("rows", torch.tensor(rows))
        self.register_buffer("has_background", torch.tensor(classes.has_background))

    def standardise_by(self, features: Tensor) -> None:
        """Do nothing: the layer was trained on the features as they are."""

    def on_standardised(self, features: Tensor) -> Tensor:
        logits = features @ self.weight.T + self.bias
        parts = []
        for group in self.groups:
            rows = self.rows[list(group)]
            parts += [self._background(logits, rows), logits[:, rows]]
        return torch.cat(parts, dim=1)

    def _background(self, logits: Tensor, rows: Tensor) -> Tensor:
        if not bool(self.has_background):
            return torch.zeros_like(logits[:, :1])
        others = torch.ones(logits.shape[1], dtype=torch.bool, device=logits.device)
        others[rows] = False
        return torch.logsumexp(logits[:, others], dim=1, keepdim=True)


def zero_shot_head(model: BaseModel, organs: Sequence[str], groups: Groups) -> ClassHead:
    """Return the head that reads organs by the names that the network was trained with.

    Raises:
        InputError: the network's classes are not known, or an organ is not one of them.
    """
    classes = trained_classes(model)
    if classes is None:
        message = f"method zero-shot: the classes of base network {model.entry.name!r} are unknown"
        raise InputError(message, "use linear-probe, which fits its own")
    rows = {name: classes.row(name) for name in organs}
    unknown = [name for name, row in rows.items() if row is None]
    if unknown:
        message = f"method zero-shot: {model.entry.name!r} was not trained on {', '.join(unknown)}"
        known = ", ".join(name for name in classes.names if name != BACKGROUND)
        raise InputError(message, f"use linear-probe, or organs it knows: {known}")
    found = [row for row in rows.values() if row is not None]
    return ClassHead(model.widths, groups, classes, found).to(model.device).eval()


def head_from_state(
    kind: str, widths: tuple[int, ...], groups: Groups, hidden: int, state: Mapping[str, Tensor]
) -> Head:
    """Return a head that was saved.

    Raises:
        RuntimeError, KeyError: the tensors are not those of such a head.
    """
    if kind == "linear":
        head: Head = LinearHead(widths, groups)
    elif kind == "classes":
        count = len(state["bias"])
        names = (BACKGROUND if bool(state["has_background"]) else "", *[""] * (count - 1))
        empty = TrainedClasses(names, torch.zeros(state["weight"].shape), torch.zeros(count))
        head = ClassHead(widths, groups, empty, [0] * sum(map(len, groups)))
    else:
        head = Head(widths, groups, HeadConfig(hidden=hidden))
    head.load_state_dict({key: value.float() for key, value in state.items()})
    return head
