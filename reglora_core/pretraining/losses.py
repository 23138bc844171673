"""Losses of the pre-training: partial labels, and the few-slice episode."""

from __future__ import annotations

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import nn  # noqa: TID253

from reglora_core.head import partial_log_probabilities


def sample_voxels(labels: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    """Return indices (count, 3) of voxels: half of them uniform, half with rare classes favoured.

    Args:
        labels: int64 (z, y, x).
        count: number of voxels, drawn with replacement.
        generator: source of randomness.
    """
    flat = labels.flatten()
    uniform = torch.randint(len(flat), (count - count // 2,), generator=generator)
    weights = torch.bincount(flat).float().clamp_min(1).rsqrt()[flat]
    balanced = torch.multinomial(weights, count // 2, replacement=True, generator=generator)
    flat_index = torch.cat([uniform, balanced])
    z, y, x = torch.unravel_index(flat_index, labels.shape)
    return torch.stack([z, y, x], dim=1)


def partial_loss(
    logits: torch.Tensor, labels: torch.Tensor, is_known: torch.Tensor
) -> torch.Tensor:
    """Return cross-entropy plus soft Dice loss over the known classes present in the sample.

    Shape: logits (n, classes), labels int64 (n,), is_known bool (classes,), background first.
    """
    log_p = partial_log_probabilities(logits, is_known[1:].expand(len(logits), -1))
    entropy: torch.Tensor = F.nll_loss(log_p, labels)
    present = torch.unique(labels)
    present = present[present > 0]
    if not len(present):
        return entropy
    p = log_p[:, present].exp()
    target = (labels[:, None] == present).float()
    dice = (2 * (p * target).sum(0) + 1) / (p.sum(0) + target.sum(0) + 1)
    missed: torch.Tensor = (1 - dice).mean()
    return entropy + missed


class EpisodeLoss(nn.Module):
    """Label some voxels from a few painted slices of the same crop, as the product will.

    A query voxel q takes the labels of the support voxels s in proportion to
    exp(t cos(e_q, e_s) - b |x_q - x_s|^2), with e the voxel's embedding and x its position in
    units of 10 working voxels; t and b are learned. The loss is the negative log-probability of
    the query's label, each class of the episode weighing the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(2.3))
        self.log_nearness = nn.Parameter(torch.tensor(-1.0))

    def forward(
        self,
        queries: torch.Tensor,
        supports: torch.Tensor,
        query_points: torch.Tensor,
        support_points: torch.Tensor,
        query_labels: torch.Tensor,
        support_labels: torch.Tensor,
    ) -> torch.Tensor:
        """Return the loss of embeddings (n, e) and (m, e), positions (n, 3), (m, 3), labels."""
        similarity = F.normalize(queries, dim=1) @ F.normalize(supports, dim=1).T
        distance = torch.cdist(query_points, support_points).square() / 100
        scores = self.log_temperature.exp() * similarity - self.log_nearness.exp() * distance
        log_weights = F.log_softmax(scores, dim=1)
        same = query_labels[:, None] == support_labels
        has_match = same.any(dim=1)
        if not bool(has_match.any()):
            return queries.sum() * 0
        log_p = torch.logsumexp(log_weights.masked_fill(~same, -torch.inf)[has_match], dim=1)
        classes = query_labels[has_match]
        weights = torch.bincount(classes).float().clamp_min(1).rsqrt()[classes]
        return -(weights * log_p).sum() / weights.sum()
