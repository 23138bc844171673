"""Intensities: what a scan's numbers mean, and how they become the network's Hounsfield scale."""

from __future__ import annotations

from typing import Literal

import torch  # noqa: TID253

Modality = Literal["ct", "other"]

AIR_HU = -1024.0
METAL_HU = 3071.0
MAX_QUANTILE_SAMPLES = 1_000_000


def detect_modality(image: torch.Tensor) -> Modality:
    """Tell CT from everything else: only Hounsfield units have many values far below zero.

    A CT whose field of view holds neither air, lung nor fat counts as "other"; it is then scaled
    to the same range, which costs little.
    """
    return "ct" if float((image < -150).float().mean()) > 0.02 else "other"


def to_hounsfield(image: torch.Tensor, modality: Modality) -> torch.Tensor:
    """Return intensities on the Hounsfield scale.

    CT is clamped to [-1024, 3071] (scanners mark the outside of the field of view by -2048 or
    -3024). Other modalities have no unit: their 1st to 99th percentile is mapped onto
    [-200, 300] HU, the range in which the base networks distinguish soft tissue.
    """
    if modality == "ct":
        return image.float().clamp(AIR_HU, METAL_HU)
    values = image.float().flatten()
    values = values[:: max(1, values.numel() // MAX_QUANTILE_SAMPLES)]
    low, high = torch.quantile(values, torch.tensor([0.01, 0.99])).tolist()
    scaled = (image.float() - low) / max(high - low, 1e-6) * 500 - 200
    return torch.clamp(scaled, -400, 800)
