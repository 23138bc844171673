"""Layouts of published weights: whose they are, and what their tensors are called here.

The same network is published under many names: behind ``module.`` of DataParallel, behind
``backbone.`` of a wrapper, with heads of other sizes, or with the names of an older MONAI. A
family's layout finds where the network begins in them by one tensor that every such network has
(its anchor), and renames what was called otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.errors import ModelError
from reglora_core.models import sam, segresnet, swinunetr, unet3d

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Match:
    """How the tensors of a file fit a network.

    Attributes:
        wanted: number of tensors that the network needs; its heads are not among them.
        missing, misshapen: names of those that the file lacks, or has in another shape.
        left_over: names of the file's tensors that have no use here: heads, running statistics.
    """

    wanted: int
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    left_over: tuple[str, ...]

    @property
    def matched(self) -> int:
        return self.wanted - len(self.missing) - len(self.misshapen)

    def to_text(self) -> str:
        """Return it in one line."""
        text = f"{self.matched} of {self.wanted} tensors of the network matched"
        if self.missing:
            text += f", {len(self.missing)} are missing ({_few(self.missing)})"
        if self.misshapen:
            text += f", {len(self.misshapen)} have another shape ({_few(self.misshapen)})"
        if self.left_over:
            text += f", {len(self.left_over)} of the file are left over ({_few(self.left_over)})"
        return text


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:2]) + (", ..." if len(names) > 2 else "")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the weights of a family are recognised, named and built.

    Attributes:
        anchor: name of a tensor of the network; what stands before it in a file is dropped.
        heads: pattern of the names that may be missing, or have another shape.
        renames: (pattern, replacement) of names, applied in turn.
    """

    anchor: str
    heads: str
    renames: tuple[tuple[str, str], ...] = ()

    def named(self, state: State) -> tuple[State, tuple[str, ...]]:
        """Return the network's tensors by their names here, and the names of all others."""
        renamed = {self._renamed(key): (key, value) for key, value in state.items()}
        anchor = re.compile(rf"(?:^|\.){re.escape(self.anchor)}$")
        found = sorted((key for key in renamed if anchor.search(key)), key=len)
        prefix = found[0].removesuffix(self.anchor) if found else _common_prefix(list(renamed))
        own = {
            key.removeprefix(prefix): value
            for key, (_, value) in renamed.items()
            if key.startswith(prefix)
        }
        others = tuple(name for key, (name, _) in renamed.items() if not key.startswith(prefix))
        return own, others

    def _renamed(self, key: str) -> str:
        for pattern, replacement in self.renames:
            key = re.sub(pattern, replacement, key)
        return key

    def recognises(self, state: State) -> bool:
        """Tell whether these are weights of the family."""
        named, _ = self.named(state)
        return self.anchor in named

    def published(self, state: State) -> str:
        """Return how the published network of this size is called, or an empty text.

        Only of families whose networks are published in several sizes.
        """
        del state
        return ""

    def network_for(self, name: str, own: State) -> nn.Module:
        """Return an untrained network of the size that weights (by their names here) are for.

        Raises:
            ModelError: there is none of that size; `name` is the file's.
        """
        raise NotImplementedError

    def load(self, name: str, state: State) -> tuple[nn.Module, Match]:
        """Return the network with its weights.

        Args:
            name: of the file, for the message.
            state: its tensors.

        Raises:
            ModelError: not every tensor of the network is there in its shape.
        """
        own, others = self.named(state)
        network = self.network_for(name, own)
        match = fill(network, own, self.heads, others)
        if match.missing or match.misshapen:
            message = f"{name}: {match.to_text()}"
            raise ModelError(message, "these weights are for another network")
        return network, match


@dataclass(frozen=True, kw_only=True)
class SizedLayout(Layout):
    """A layout of networks that one number tells apart.

    Attributes:
        size_of: name of the tensor whose first dimension is the network's size.
        default_size: where it is missing.
        divisor: of the sizes that there are.
        build: the network of a size.
    """

    size_of: str
    default_size: int
    divisor: int
    build: Callable[[int], nn.Module]

    def recognises(self, state: State) -> bool:
        """Tell whether these are weights of the family."""
        named, _ = self.named(state)
        return self.anchor in named and self.size_of in named

    def network_for(self, name: str, own: State) -> nn.Module:
        first = own.get(self.size_of)
        size = self.default_size if first is None or not first.ndim else first.shape[0]
        if size % self.divisor or not size:
            multiple = f"not a multiple of {self.divisor}"
            message = f"{name}: its first layer has {size} channels, {multiple}"
            raise ModelError(message, "these weights are for another network")
        return self.build(size)


class SamLayout(Layout):
    """SAM's layout, which is MedSAM's too; the network's shape is read off the weights."""

    def published(self, state: State) -> str:
        try:
            return sam.published_size(sam.SamSize.of(self.named(state)[0]))
        except (KeyError, IndexError, ValueError):
            return ""  # `network_for` says what is wrong with them

    def network_for(self, name: str, own: State) -> nn.Module:
        try:
            size = sam.SamSize.of(own)
        except (KeyError, IndexError, ValueError) as error:
            message = f"{name}: not a whole image encoder of SAM ({error})"
            raise ModelError(message, "these weights are for another network") from error
        return sam.build(size)


def _common_prefix(keys: list[str]) -> str:
    """Return what all names begin with, up to a dot, where the anchor itself is missing."""
    if not keys:
        return ""
    parts: list[str] = []
    for levels in zip(*(key.split(".")[:-1] for key in keys), strict=False):
        if len(set(levels)) > 1:
            break
        parts.append(levels[0] + ".")
    return "".join(parts)


def fill(network: nn.Module, state: State, heads: str = "", others: tuple[str, ...] = ()) -> Match:
    """Copy weights into a network if all of them fit, and return how they do.

    Args:
        network: is changed only where every tensor but those of `heads` fits.
        state: the weights by the network's names.
        heads: pattern of the names that need not fit; empty: none.
        others: names in the file that are known to be of no use.
    """
    own = network.state_dict()
    wanted = {key for key in own if not (heads and re.search(heads, key))}
    missing = sorted(wanted - state.keys())
    misshapen = [key for key in sorted(wanted & state.keys()) if own[key].shape != state[key].shape]
    left_over = (*sorted(state.keys() - wanted), *others)
    match = Match(len(wanted), tuple(missing), tuple(misshapen), left_over)
    if not missing and not misshapen:
        fitting = {key: state[key].to(own[key].dtype) for key in wanted}
        network.load_state_dict(fitting, strict=False)
    return match


LAYOUTS: dict[str, Layout] = {
    "sam": SamLayout(anchor="image_encoder.patch_embed.proj.weight", heads=sam.UNUSED),
    "swinunetr": SizedLayout(
        anchor="swinViT.patch_embed.proj.weight",
        heads=r"^out\.",
        size_of="encoder1.layer.conv1.conv.weight",
        default_size=48,
        divisor=12,  # the heads of the attention divide it
        build=swinunetr.build,
        renames=((r"(^|\.)swin_vit\.", r"\1swinViT."), (r"\.mlp\.fc(\d)\.", r".mlp.linear\1.")),
    ),
    "unet3d": SizedLayout(
        anchor="down_tr64.ops.0.conv1.weight",
        heads="",
        size_of="down_tr64.ops.0.conv1.weight",
        default_size=32,
        divisor=1,
        build=unet3d.UNet3D,
    ),
    "segresnet": SizedLayout(
        anchor="convInit.conv.weight",
        heads=r"^conv_final\.",
        size_of="convInit.conv.weight",
        default_size=16,
        divisor=8,  # the groups of its normalisation
        build=segresnet.build,
    ),
    "segresnet-ds": SizedLayout(
        anchor="encoder.conv_init.weight",
        heads=r"\.head\.",
        size_of="encoder.conv_init.weight",
        default_size=48,
        divisor=1,
        build=segresnet.build_deep,
        # of VISTA3D's two decoders, the automatic one
        renames=((r"(^|\.)up_layers\.", r"\1point_layers."), (r"up_layers_auto\.", "up_layers.")),
    ),
    # last, because every SwinUNETR holds one, and a SAM has a tensor of the same name
    "swinvit": SizedLayout(
        anchor="patch_embed.proj.weight",
        heads=r"$^",
        size_of="patch_embed.proj.weight",
        default_size=48,
        divisor=12,
        build=swinunetr.build_encoder,
        renames=((r"\.mlp\.fc(\d)\.", r".mlp.linear\1."),),
    ),
}


def layout_of(state: State) -> str:
    """Return the family whose layout the weights have, or an empty text."""
    return next((name for name, layout in LAYOUTS.items() if layout.recognises(state)), "")
