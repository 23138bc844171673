"""A network of the same kind with random weights: training from scratch."""

from __future__ import annotations

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

from reglora_core.features import windows
from reglora_core.methods.parts import parts_of
from reglora_core.models.base import BaseModel

Tensors = dict[str, Tensor]


def random_values(network: nn.Module, generator: torch.Generator) -> Tensors:
    """Return new values of all parameters but the output layers', and of batch statistics.

    They are those of a network that has just been built, its batch statistics as torch starts
    them (mean 0, variance 1): see `calibrate_`.

    Raises:
        InputError: a network of a kind whose parts are not known.
    """
    parts = parts_of(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        fresh = parts.fresh()
    output = set(parts.names(network, parts.output))
    return {
        name: tensor.detach()
        for name, tensor in fresh.state_dict().items()
        if name not in output and tensor.is_floating_point()
    }


@torch.no_grad()
def calibrate_(model: BaseModel, hounsfield: Tensor) -> None:
    """Set the batch statistics of a network drawn anew to those of one window of a scan.

    Afterwards they are frozen, as in every other method. Networks without batch normalisation
    stay as they are.

    Args:
        model: its network has `random_values`.
        hounsfield: (z, y, x) on the working grid.
    """
    norms = [m for m in model.network.modules() if isinstance(m, nn.BatchNorm3d)]
    if not norms:
        return
    parts = windows(hounsfield, model.patch, model.stride)
    fullest = max(parts, key=lambda window: float(window.hounsfield.mean()))
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    for norm, count in zip(norms, counts, strict=True):
        norm.train()
        norm.momentum = 1.0
        norm.num_batches_tracked = None if count is None else count.clone()
    model.feature_maps(fullest.hounsfield[None].to(model.device))
    for norm, momentum, count in zip(norms, momenta, counts, strict=True):
        norm.eval()
        norm.momentum, norm.num_batches_tracked = momentum, count
