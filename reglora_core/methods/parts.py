"""Which tensors of a network are its encoder, its decoder, its biases: what methods go by."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.models.tiny import TinyUNet


@dataclass(frozen=True)
class Parts:
    """Regular expressions for the names of a network's parameters.

    Attributes:
        biases: what BitFit trains.
        output: the trained output layers; heads take their place, so no method trains them.
        features: name of the module whose output is the finest feature map, and its channels.
    """

    encoder: str
    decoder: str
    biases: str
    output: str
    features: str
    width: int

    def names(self, network: nn.Module, pattern: str) -> list[str]:
        """Return the names of the network's parameters that the pattern finds, in order."""
        return [name for name, _ in network.named_parameters() if re.search(pattern, name)]


def parts_of(network: nn.Module) -> Parts:
    """Return a network's parts.

    For SwinUNETR they are those of FSEFT (arXiv 2303.17051): the encoder is swinViT, the decoder
    decoder1-5; BitFit trains the biases of attention and MLP, relative position biases among them.

    Raises:
        InputError: a network of another kind.
    """
    if isinstance(network, TinyUNet):
        last = len(network.decoder) - 1
        return Parts(
            encoder=r"^encoder\.",
            decoder=r"^decoder\.",
            biases=r"^encoder\..*\bbias$",  # of its batch normalisations; it has no others
            output=r"^(classifier|embedding)\.",
            features=f"decoder.{last}",
            width=network.config.widths[0],
        )
    if hasattr(network, "swinViT") and hasattr(network, "decoder1"):
        return Parts(
            encoder=r"^swinViT\.",
            decoder=r"^decoder\d\.",
            biases=r"^swinViT\..*\.(mlp|attn)\..*bias",
            output=r"^out\.",
            features="decoder1",
            width=_swin_width(network),
        )
    message = f"the encoder and decoder of a {type(network).__name__} are not known"
    hint = "choose arena, arena+, gates, lora, adalora, sora, linear-probe or head"
    raise InputError(message, hint)


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
        first = getattr(module, "linear1", None)
        is_mlp = name.rpartition(".")[2] == "mlp" and isinstance(first, nn.Linear)
        if is_mlp and re.search(parts.encoder, name):
            assert isinstance(first, nn.Linear)
            found[name] = first.in_features
    return found


def _swin_width(network: nn.Module) -> int:
    first = network.get_parameter("encoder1.layer.conv1.conv.weight")
    return int(first.shape[0])
