"""From heads and experts to scores on the working grid, and from those to the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.events import Report, ignore
from reglora_core.features import each_window, inner_weight
from reglora_core.grids import Grid
from reglora_core.head import Groups, Head
from reglora_core.models.base import BaseModel
from reglora_core.models.slices import smoothed_across
from reglora_core.scan import Box, Scan

PLANES_AT_A_TIME = 8


def head_scores(
    model: BaseModel, heads: Sequence[Head], scan: Scan, report: Report = ignore
) -> torch.Tensor:
    """Return the mean probabilities of the heads within the body's box.

    Windows are blended by Gaussian weights; windows of air are background without a network.
    What a network said of single slices is smoothed across them. The report is told of each of
    many windows, and may raise to stop.

    Returns:
        (outputs, z, y, x): per group its background, then its organs.
    """
    for head in heads:
        head.to(model.device)
    inside = scan.inside
    total: torch.Tensor | None = None
    weight_sum = torch.zeros(())
    for box, maps in each_window(model, inside, report):
        if maps is None:
            own = _air(heads[0], box)
        else:
            with torch.no_grad():
                own = torch.stack([head.on_maps(maps) for head in heads]).mean(0).cpu()
        weights = inner_weight(own.shape[1:])
        if total is None:
            padded = [max(part.stop, size) for part, size in zip(box, inside.shape, strict=True)]
            total = torch.zeros(own.shape[0], *padded)
            weight_sum = torch.zeros(padded)
        total[(slice(None), *box)] += own * weights
        weight_sum[box] += weights
    assert total is not None
    total /= weight_sum.clamp_min(1e-6)
    scores = total[(slice(None), *(slice(0, size) for size in inside.shape))]
    if model.slice_axis is None:
        return scores
    return smoothed_across(scores, model.slice_axis, heads[0].groups)


def _air(head: Head, box: Box) -> torch.Tensor:
    shape = [part.stop - part.start for part in box]
    scores = torch.zeros(sum(len(group) + 1 for group in head.groups), *shape)
    start = 0
    for group in head.groups:
        scores[start] = 1
        start += len(group) + 1
    return scores


def split_groups(scores: torch.Tensor, groups: Groups) -> list[torch.Tensor]:
    """Split scores (outputs, ...) into one tensor (organs + 1, ...) per group."""
    return list(torch.split(scores, [len(group) + 1 for group in groups]))


def _interpolation(targets: torch.Tensor, scale: float, offset: int, size: int) -> torch.Tensor:
    """Return the matrix (targets, size) of linear interpolation along one axis."""
    position = ((targets + 0.5) * scale - 0.5 - offset).clamp(0, size - 1)
    low = position.floor().clamp_max(max(size - 2, 0))
    share = (position - low)[:, None]
    matrix = torch.zeros(len(targets), size, device=targets.device)
    matrix.scatter_(1, low.long()[:, None], 1 - share)
    if size > 1:
        matrix.scatter_(1, low.long()[:, None] + 1, share)
    return matrix


def native_labels(
    scores: torch.Tensor, grid: Grid, body: Box
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Return the label of largest score for every voxel of the canonical image.

    Only the box around what is not background on the working grid is interpolated.

    Args:
        scores: (organs + 1, z, y, x) within the body's box of the working grid; where they are is
            where this is computed.
        grid: canonical and working grid.
        body: the box.

    Returns:
        uint16 (z, y, x) on the canonical grid; 0 background, j + 1 the j-th organ.
    """
    labels = np.zeros(grid.shape, dtype=np.uint16)
    occupied = scores[1:].amax(0) > 0.5 * scores[0]
    if not bool(occupied.any()):
        return labels
    matrices, box = [], []
    for axis in range(3):
        others = [k for k in range(3) if k != axis]
        where = occupied.any(others[1]).any(others[0]).nonzero().flatten() + body[axis].start
        scale = grid.working_shape[axis] / grid.shape[axis]
        low = max(0, int((int(where[0]) - 1) / scale))
        high = min(grid.shape[axis], int((int(where[-1]) + 2) / scale) + 1)
        box.append(slice(low, high))
        targets = torch.arange(low, high, dtype=torch.float32, device=scores.device)
        matrices.append(_interpolation(targets, scale, body[axis].start, scores.shape[axis + 1]))
    deep, rows, columns = matrices
    for start in range(0, len(deep), PLANES_AT_A_TIME):
        planes = torch.einsum("pz,lzyx->lpyx", deep[start : start + PLANES_AT_A_TIME], scores)
        planes = rows @ planes @ columns.T
        first = box[0].start + start
        labels[first : first + planes.shape[1], box[1], box[2]] = _winners(planes).cpu().numpy()
    return labels


def _winners(scores: torch.Tensor) -> torch.Tensor:
    """Return argmax over the first axis, the first of equals; torch's own is slow along it."""
    best = scores[0].clone()
    labels = torch.zeros(scores.shape[1:], dtype=torch.int16, device=scores.device)
    for label in range(1, len(scores)):
        is_better = scores[label] > best
        labels.masked_fill_(is_better, label)
        torch.maximum(best, scores[label], out=best)
    return labels
