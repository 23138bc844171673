"""Gradient checkpointing: activations within a block are computed anew instead of kept.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174: a block's inputs
are kept, what is between them and its output is computed a second time for the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch  # noqa: TID253
from torch import nn  # noqa: TID253
from torch.utils.checkpoint import checkpoint  # noqa: TID253

# of the networks here: residual blocks, transformer blocks, and what goes up in a decoder
BLOCKS = {
    "Block", "ResBlock", "SegResBlock", "SwinTransformerBlock", "UnetBasicBlock", "UnetResBlock",
    "UnetUpBlock", "UnetrBasicBlock", "UnetrUpBlock", "_Level",
}  # fmt: skip


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[None]:
    """Let the network's outermost blocks forget what is within them, while gradients are kept."""
    blocks = list(_outermost(network)) if torch.is_grad_enabled() else []
    for block in blocks:
        forward = partial(checkpoint, block.forward, use_reentrant=False)
        block.forward = forward
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the instance's; the class has its own


def _outermost(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if type(child).__name__ in BLOCKS:
            yield child
        else:
            yield from _outermost(child)
