"""Islands: parts of an organ that hang together with nothing that speaks for them.

Far from the paint a head finds what looks like an organ where none is, such as liver in a full
bladder. In a painted scan, an island that holds no paint of its organ is one of these. In the
next scan there is no paint; there, an organ that was in one piece in the painted scans keeps its
largest piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np  # noqa: TID253
import torch  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253
from scipy import ndimage  # noqa: TID253

ONE_PIECE = 0.95  # share of an organ's voxels in its largest piece, to count as one
CORNERS = np.ones((3, 3, 3), dtype=bool)  # voxels that share a corner hang together


def without_unpainted_islands_(scores: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
    """Take an organ's score from the islands that hold no paint of it, in place.

    What is next likely there becomes the label, unless that makes another island. An organ of
    which nothing is painted in this scan, or that nowhere meets its paint, keeps all of them.

    Shape: scores (organs + 1, z, y, x), seeds int64 (z, y, x) as `PaintedGrid.seeds`.
    """
    painted = {label: (seeds == label).numpy() for label in range(1, len(scores))}

    def islands(label: int, mask: torch.Tensor) -> NDArray[np.bool_]:
        pieces, count = _pieces(mask)
        is_kept = np.zeros(count + 1, dtype=bool)
        is_kept[pieces[painted[label]]] = True
        is_kept[0] = True
        return ~is_kept[pieces] if is_kept[1:].any() else np.zeros(mask.shape, dtype=bool)

    return _without_(scores, [label for label, own in painted.items() if own.any()], islands)


def only_largest_(scores: torch.Tensor, labels: Iterable[int]) -> torch.Tensor:
    """Take the score of some labels from all but their largest piece, in place.

    Shape: scores (organs + 1, z, y, x).
    """

    def islands(_label: int, mask: torch.Tensor) -> NDArray[np.bool_]:
        pieces, count = _pieces(mask)
        largest = np.bincount(pieces.ravel())[1:].argmax() + 1 if count else 0
        others: NDArray[np.bool_] = (pieces > 0) & (pieces != largest)
        return others

    return _without_(scores, list(labels), islands)


def _without_(
    scores: torch.Tensor,
    labels: Sequence[int],
    islands: Callable[[int, torch.Tensor], NDArray[np.bool_]],
) -> torch.Tensor:
    """Set the scores of labels in their islands to 0, until there are none."""
    changed = set(labels)
    while changed:
        winners = scores.argmax(0)
        taken = np.zeros(winners.shape, dtype=bool)
        for label in sorted(changed):
            where = islands(label, winners == label)
            scores[label][torch.from_numpy(where)] = 0
            taken |= where
        heirs = scores[:, torch.from_numpy(taken)].argmax(0)
        changed = set(labels) & set(torch.unique(heirs).tolist())
    return scores


def is_one_piece(mask: torch.Tensor) -> bool:
    """Tell whether a mask (z, y, x) is not empty and in one piece, but for crumbs."""
    pieces, count = _pieces(mask)
    sizes = np.bincount(pieces.ravel())[1:]
    return count > 0 and bool(sizes.max() >= ONE_PIECE * sizes.sum())


def _pieces(mask: torch.Tensor) -> tuple[NDArray[np.int32], int]:
    pieces, count = ndimage.label(mask.numpy(), CORNERS)
    return pieces, int(count)
