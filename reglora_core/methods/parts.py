"""Which tensors of a network are its encoder, its decoder, its biases: what methods go by."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from monai.networks.nets import SegResNet, SegResNetDS, SwinUNETR  # noqa: TID253
from monai.networks.nets.swin_unetr import SwinTransformer  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.models import sam, segresnet, swinunetr
from reglora_core.models.tiny import TinyUNet
from reglora_core.models.unet3d import UNet3D

NOTHING = r"(?!)"  # fits no name


@dataclass(frozen=True)
class Parts:
    """Regular expressions for the names of a network's parameters.

    Attributes:
        biases: what BitFit trains.
        output: the trained output layers; heads take their place, so no method trains them.
        features: name of the module whose output is the finest feature map; empty: there is none.
        width: its channels.
        fresh: builds the same network with random weights.
    """

    encoder: str
    decoder: str
    biases: str
    output: str
    features: str
    width: int
    fresh: Callable[[], nn.Module]

    def names(self, network: nn.Module, pattern: str) -> list[str]:
        """Return the names of the network's parameters that the pattern finds, in order."""
        return [name for name, _ in network.named_parameters() if re.search(pattern, name)]


def parts_of(network: nn.Module) -> Parts:
    """Return a network's parts.

    For SwinUNETR and the 3D U-Net they are those of FSEFT (arXiv 2303.17051): of SwinUNETR the
    encoder is swinViT, the decoder decoder1-5, and BitFit trains the biases of attention and MLP,
    relative position biases among them. Where convolutions have no biases, BitFit trains those of
    the normalisations.

    Raises:
        InputError: a network of another kind.
    """
    if sam.is_sam(network):
        return _sam(network)
    for kind, describe in _KINDS.items():
        if isinstance(network, kind):
            return describe(network)
    message = f"the encoder and decoder of a {type(network).__name__} are not known"
    hint = "choose arena, arena+, gates, lora, adalora, sora, linear-probe or head"
    raise InputError(message, hint)


def _tiny(network: Any) -> Parts:
    return Parts(
        encoder=r"^encoder\.",
        decoder=r"^decoder\.",
        biases=r"^encoder\..*\bbias$",
        output=r"^(classifier|embedding)\.",
        features=f"decoder.{len(network.decoder) - 1}",
        width=network.config.widths[0],
        fresh=lambda: TinyUNet(network.config),
    )


def _swin(network: Any) -> Parts:
    width = network.out.conv.conv.in_channels
    return Parts(
        encoder=r"^swinViT\.",
        decoder=r"^decoder\d\.",
        biases=r"^swinViT\..*\.(mlp|attn)\..*bias",
        output=r"^out\.",
        features="decoder1",
        width=width,
        fresh=lambda: swinunetr.build(width),
    )


def _swin_encoder(network: Any) -> Parts:
    return Parts(
        encoder=r"^",
        decoder=NOTHING,
        biases=r"\.(mlp|attn)\..*bias",
        output=NOTHING,
        features="",  # its finest map is the image
        width=1,
        fresh=lambda: swinunetr.build_encoder(network.embed_dim),
    )


def _unet(network: Any) -> Parts:
    return Parts(
        encoder=r"^down_tr",
        decoder=r"^up_tr",
        biases=r"^down_tr.*\bbias$",
        output=NOTHING,
        features="up_tr64",
        width=2 * network.filters,
        fresh=lambda: UNet3D(network.filters),
    )


def _segresnet(network: Any) -> Parts:
    return Parts(
        encoder=r"^(convInit|down_layers)\.",
        decoder=r"^up_(layers|samples)\.",
        biases=r"^(convInit|down_layers)\..*\bbias$",
        output=r"^conv_final\.",
        features=f"up_layers.{len(network.up_layers) - 1}",
        width=network.init_filters,
        fresh=lambda: segresnet.build(network.init_filters),
    )


def _deep_segresnet(network: Any) -> Parts:
    return Parts(
        encoder=r"^encoder\.",
        decoder=r"^up_layers\.\d\.(upsample|blocks)\.",
        biases=r"^encoder\..*\bbias$",
        output=r"\.head\.",
        features=f"up_layers.{len(network.up_layers) - 1}.blocks",
        width=network.init_filters,
        fresh=lambda: segresnet.build_deep(network.init_filters),
    )


def _sam(network: Any) -> Parts:
    return Parts(
        encoder=r"^image_encoder\.",
        decoder=r"^mask_decoder\.(transformer|output_upscaling)\.",
        biases=r"^image_encoder\.blocks\..*\.(mlp|attn)\..*bias",
        output=rf"{sam.UNUSED}|^mask_decoder\.output_hypernetworks_mlps\.",
        features="",  # the spatial adapter's convolutions are of volumes
        width=network.prompt_encoder.embed_dim // 8,
        fresh=lambda: sam.like(network),
    )


_KINDS: dict[type[nn.Module], Callable[[Any], Parts]] = {
    TinyUNet: _tiny,
    SwinUNETR: _swin,
    SwinTransformer: _swin_encoder,
    UNet3D: _unet,
    SegResNet: _segresnet,
    SegResNetDS: _deep_segresnet,
}


def layer_norms(network: nn.Module, parts: Parts) -> list[str]:
    """Return the names of scale and shift of the encoder's layer norms."""
    return [
        f"{name}.{key}"
        for name, module in network.named_modules()
        if isinstance(module, nn.LayerNorm) and re.search(parts.encoder, name)
        for key, _ in module.named_parameters(recurse=False)
    ]


def transformer_mlps(network: nn.Module, parts: Parts) -> dict[str, int]:
    """Return the names of the MLPs of the encoder's transformer blocks, and their widths."""
    found = {}
    for name, module in network.named_modules():
        first = getattr(module, "linear1", getattr(module, "lin1", None))  # MONAI's, SAM's
        is_mlp = name.rpartition(".")[2] == "mlp" and isinstance(first, nn.Linear)
        if is_mlp and re.search(parts.encoder, name):
            assert isinstance(first, nn.Linear)
            found[name] = first.in_features
    return found
