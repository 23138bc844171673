"""What the base network already knows: which of its trained classes an organ is.

A base network comes with the output layer that it was trained with. On the painted slices each
organ is compared with every class of it, whatever their names: for class k, with the log-odds
z_k of its voxels, the threshold is found at which {z_k >= t} has the largest Dice with the paint.
An organ with a good match takes the class along in the adapter, as a row number and an offset
-t; in the next scan the calibrated class sees what hundreds of scans taught, where heads fitted
to a few slices of one scan know only that scan's contrast (docs/benchmarks.md has figures).

The classes were trained on the features of the base network, so they are read off those, without
the low-rank update.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch  # noqa: TID253

from reglora_core.head import SLAB, Groups
from reglora_core.methods.heads import FinestHead, TrainedClasses, trained_classes
from reglora_core.models.base import BaseModel
from reglora_core.samples import VOXELS, Painting, draw_voxels, samples_of

MIN_DICE = 0.4  # on the painted slices, below which a class is not taken along
SHARE = 0.5  # of a known class in the mean with the heads


@dataclass(frozen=True)
class KnownClass:
    """The trained class that an organ is.

    Attributes:
        row: of the base network's output layer.
        name: of that class.
        offset: added to its log-odds; above 0 is the organ then.
        dice: with the paint, on the painted slices.
    """

    row: int
    name: str
    offset: float
    dice: float


def log_odds(logits: torch.Tensor, has_background: bool) -> torch.Tensor:
    """Return log p / (1 - p) of every class: of a softmax over all classes, or of sigmoids.

    Shape: (n, classes) -> (n, classes).
    """
    if not has_background:
        return logits
    log_p = logits.log_softmax(1)
    rest = torch.log1p(-log_p.exp().clamp_max(1 - 1e-6))
    return log_p - rest


def best_threshold(scores: torch.Tensor, is_organ: torch.Tensor) -> tuple[float, int, float]:
    """Return the largest Dice of {score >= t} with a mask over all columns and thresholds t.

    Args:
        scores: (n, columns).
        is_organ: bool (n,), True somewhere.

    Returns:
        Dice, the column, and t, half-way to the next lower score.
    """
    ordered, order = scores.sort(dim=0, descending=True)
    hits = is_organ[order].double().cumsum(0)
    taken = torch.arange(1, len(scores) + 1, dtype=torch.float64)[:, None]
    dice = 2 * hits / (taken + float(is_organ.sum()))
    is_tied = torch.zeros_like(dice, dtype=torch.bool)
    is_tied[:-1] = ordered[:-1] == ordered[1:]  # no threshold lies between equal scores
    dice = dice.masked_fill(is_tied, -1)
    place, column = divmod(int(dice.argmax()), scores.shape[1])
    below = ordered[min(place + 1, len(scores) - 1), column]
    threshold = float((ordered[place, column] + below) / 2)
    return float(dice[place, column]), column, threshold


def match_classes(
    model: BaseModel,
    paintings: Sequence[Painting],
    groups: Groups,
    organs: Sequence[str],
    seed: int,
) -> dict[str, KnownClass]:
    """Return the organs that are one of the base network's classes on the painted slices.

    Args:
        model: the base network, without any update.
        paintings: where the organs are painted; their voxels are pooled.
        groups: organ indices that exclude each other.
        organs: their names.
        seed: of the drawn voxels.
    """
    classes = trained_classes(model)
    if classes is None:
        return {}
    generator = torch.Generator().manual_seed(seed)
    voxels = [
        draw_voxels(painting, groups, len(organs), VOXELS, False, generator)
        for painting in paintings
    ]
    samples = samples_of(model, list(paintings), voxels)
    finest = samples.features[:, -model.widths[-1] :]
    scores = _log_odds_of(classes, finest).cpu()
    targets, is_known = samples.targets.cpu(), samples.is_known.cpu()
    if classes.has_background:
        scores[:, 0] = -torch.inf
    found = {}
    for number, group in enumerate(groups):
        for place, organ in enumerate(group, start=1):
            seen = is_known[:, organ] & (targets[:, number] >= 0)
            is_organ = targets[seen, number] == place
            if not bool(is_organ.any()):
                continue
            dice, row, threshold = best_threshold(scores[seen], is_organ)
            if dice >= MIN_DICE:
                found[organs[organ]] = KnownClass(
                    row, classes.names[row], round(-threshold, 4), round(dice, 4)
                )
    return found


def _log_odds_of(classes: TrainedClasses, features: torch.Tensor) -> torch.Tensor:
    weight, bias = classes.weight.to(features.device), classes.bias.to(features.device)
    return log_odds(features @ weight.T + bias, classes.has_background)


class KnownHead(FinestHead):
    """Reads organs off the classes that they are; the others have probability 0.

    Args:
        model: the base network, without any update.
        groups: organ indices that exclude each other.
        known: per organ index its class.

    Raises:
        KeyError, IndexError: the network has no such class.
    """

    def __init__(self, model: BaseModel, groups: Groups, known: Mapping[int, KnownClass]) -> None:
        super().__init__(model.widths, groups)
        classes = trained_classes(model)
        if classes is None:
            raise KeyError(model.entry.name)
        if any(not 0 <= own.row < len(classes.names) for own in known.values()):
            raise IndexError(sorted(own.row for own in known.values()))
        self.classes, self.known = classes, dict(known)

    def on_maps(self, maps: list[torch.Tensor]) -> torch.Tensor:
        """Return probabilities (outputs, D, H, W); a group's background is what is left."""
        fine = maps[-1]
        slabs = [
            self._on_slab(fine[0, :, start : start + SLAB].float())
            for start in range(0, fine.shape[2], SLAB)
        ]
        return torch.cat(slabs, dim=1)

    def _on_slab(self, fine: torch.Tensor) -> torch.Tensor:
        scores = _log_odds_of(self.classes, fine.flatten(1).T)
        parts = []
        for group in self.groups:
            own = torch.zeros(len(group), len(scores), device=scores.device)
            for place, organ in enumerate(group):
                if organ in self.known:
                    match = self.known[organ]
                    own[place] = (scores[:, match.row] + match.offset).sigmoid()
            parts += [(1 - own.sum(0, keepdim=True)).clamp_min(0), own]
        return torch.cat(parts).reshape(-1, *fine.shape[1:])


def mixed(
    by_heads: torch.Tensor,
    by_classes: torch.Tensor,
    groups: Groups,
    known: Mapping[int, KnownClass],
) -> torch.Tensor:
    """Return the mean of heads and known classes where an organ has one, else the heads'.

    Shape: two of (outputs, z, y, x), per group its background, then its organs -> the same; a
        group's background is what its organs leave.
    """
    result = by_heads.clone()
    row = 0
    for group in groups:
        for place, organ in enumerate(group, start=1):
            if organ in known:
                result[row + place].lerp_(by_classes[row + place], SHARE)
        if any(organ in known for organ in group):
            organs = result[row + 1 : row + 1 + len(group)]
            result[row] = (1 - organs.sum(0)).clamp_min(0)
        row += len(group) + 1
    return result
