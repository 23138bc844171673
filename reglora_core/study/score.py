"""Scoring a fit: Dice of whole patients on their own grid, as FSEFT defines it."""

from __future__ import annotations

from collections.abc import Sequence

import torch  # noqa: TID253
import torch.nn.functional as F  # noqa: TID253
from torch import Tensor  # noqa: TID253

from reglora_core.features import each_window, inner_weight
from reglora_core.head import Head
from reglora_core.models.base import BaseModel
from reglora_core.study.cases import OrganCase, largest_component

THRESHOLD = 0.5


def dice(prediction: Tensor, reference: Tensor) -> float:
    """Return 2 TP / (|P| + |G| + 1) of two bool masks (FSEFT, arXiv 2303.17051, its code)."""
    overlap = int((prediction & reference).sum())
    return 2 * overlap / (int(prediction.sum()) + int(reference.sum()) + 1)


def score(model: BaseModel, head: Head, cases: Sequence[OrganCase]) -> dict[str, float]:
    """Return the Dice of each patient; the reference is reduced to its largest component."""
    return {
        case.name: dice(predict(model, head, case), largest_component(case.mask)) for case in cases
    }


@torch.no_grad()
def predict(model: BaseModel, head: Head, case: OrganCase) -> Tensor:
    """Return the organ in a patient, bool (z, y, x) on its canonical native grid.

    Windows of the network's patch, overlap 0.25, Gaussian weights; no post-processing.
    """
    volume = case.scan.hounsfield
    total, weights = torch.zeros(volume.shape), torch.zeros(volume.shape)
    for box, maps in each_window(model, volume):
        inside = tuple(slice(0, n - b.start) for b, n in zip(box, volume.shape, strict=True))
        size = torch.Size(b.stop - b.start for b in box)
        weight = inner_weight(size)[inside]
        if maps is not None:
            total[box] += weight * head.on_maps(maps)[1].cpu()[inside]
        weights[box] += weight
    native = F.interpolate(
        (total / weights)[None, None], case.scan.grid.shape, mode="trilinear", align_corners=False
    )
    return native[0, 0] > THRESHOLD
