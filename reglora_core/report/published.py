"""The papers' numbers, to stand beside ours.

FSEFT: Silva-Rodriguez et al., Medical Image Analysis 103 (2025), arXiv 2303.17051. ARENA:
Baklouti et al., MICCAI 2025, arXiv 2507.15793; its Figure 1 is read off, within 0.1 points. All
are of SwinUNETR on TotalSegmentator v1: other data wherever a study's dataset is another one.
Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from reglora_core.report.fits import Arm, Kind

DATASET = "totalsegmentator-v1"
DATA = "TotalSegmentator v1, SwinUNETR"
MEAN = "mean"


@dataclass(frozen=True)
class PublishedRow:
    """What a paper gives for one method.

    Attributes:
        dice: percent by organ, or by group of organs; `mean` is over all of them.
        parameters: trainable ones as the paper writes them; of ARENA what survived.
        note: which paper, and of what the mean is.
    """

    arm: Arm
    label: str
    kind: Kind
    k: int
    dice: dict[str, float]
    parameters: str
    note: str


_ARENA = "ARENA and FSEFT papers: mean of 9 base organs"
_FSEFT = "FSEFT paper: mean of lung, heart, gluteus"
_BASE = (
    (Arm("zero-shot"), "zero-shot", 72.1, "-"),
    (Arm("full-ft"), "full fine-tuning", 76.9, "62.19 M"),
    (Arm("linear-probe"), "linear probe", 76.1, "49"),
    (Arm("bitfit"), "BitFit", 75.0, "211 k"),
    (Arm("affine-ln"), "Affine-LN", 76.6, "17 k"),
    (Arm("lora", 8), "LoRA, rank 8", 75.9, "138 k"),
    (Arm("arena", 8), "ARENA, rank 8", 76.8, "about 124 k left"),
)
_NOVEL = (
    (Arm("full-ft"), "full fine-tuning", (31.0, 60.8, 65.4, 52.4)),
    (Arm("decoder-ft"), "decoder fine-tuning", (26.0, 65.7, 64.2, 52.0)),
    (Arm("affine-ln"), "Affine-LN + decoder", (26.1, 65.9, 64.5, 52.2)),
    (Arm("adaptformer"), "AdaptFormer + decoder", (23.8, 72.3, 69.8, 55.3)),
    (Arm("lora"), "LoRA + decoder", (26.2, 76.1, 69.9, 57.4)),
)
_GROUPS = ("lung", "heart", "gluteus", MEAN)

PUBLISHED = (
    *(
        PublishedRow(arm, label, "base", 5, {MEAN: mean}, parameters, _ARENA)
        for arm, label, mean, parameters in _BASE
    ),
    *(
        PublishedRow(arm, label, "novel", 10, dict(zip(_GROUPS, dice, strict=True)), "", _FSEFT)
        for arm, label, dice in _NOVEL
    ),
)

# 5-shot Dice over the initial rank, ARENA paper, Figure 1 (read off, +-0.1)
RANKS = (8, 32, 64)
BY_RANK = {
    "lora": {
        "kidney": (88.6, 86.2, 77.3),
        "aorta": (79.4, 81.0, 74.7),
        "stomach": (73.0, 71.8, 66.8),
    },
    "arena": {
        "kidney": (89.6, 89.8, 89.1),
        "aorta": (78.2, 82.6, 79.7),
        "stomach": (73.1, 72.7, 72.1),
    },
}


def published_rows(kind: Kind, k: int) -> list[PublishedRow]:
    """Return what the papers give for a kind of organs and a number of shots."""
    return [row for row in PUBLISHED if (row.kind, row.k) == (kind, k)]


def data_note(dataset: str) -> str:
    """Return how the papers' data stand to a study's."""
    if dataset == DATASET:
        return f"the papers' data set ({DATA})"
    return f"other data: {DATA}, not {dataset}"
