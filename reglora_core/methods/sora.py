"""SoRA: gated low-rank updates whose gates shrink by a constant after every step.

Ding et al., "Sparse Low-rank Adaptation of Pre-trained Language Models", EMNLP 2023, arXiv
2311.11696: the update is B (g * (A x)), g <- T(g - eta dL/dg) with the soft threshold T. In the
authors' published settings g ~ N(0, 1), the threshold is 3e-4 whatever the learning rate, and the
loss has 10 times the mean |g| besides; both are so here. (Their in-place code also zeroes what is
below two thresholds; here T is the paper's.)
"""

from __future__ import annotations

from collections.abc import Iterable

import torch  # noqa: TID253
from torch import Tensor, nn  # noqa: TID253

THRESHOLD = 3e-4
L1_WEIGHT = 10.0


def mean_l1(gates: Iterable[Tensor]) -> Tensor:
    """Return 10 mean |g| over the gates of all layers, with gradients."""
    return L1_WEIGHT * torch.cat([gate.flatten() for gate in gates]).abs().mean()


class ConstantShrinkage:
    """g <- sign(g) max(|g| - threshold, 0) after every step."""

    def __init__(self, gates: Iterable[nn.Parameter], threshold: float) -> None:
        self._gates = list(gates)
        self._threshold = threshold

    @torch.no_grad()
    def __call__(self) -> None:
        for gate in self._gates:
            gate.copy_(gate.sign() * (gate.abs() - self._threshold).clamp_(min=0))
