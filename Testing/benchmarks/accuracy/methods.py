"""What is compared, by the names in the tables."""

from __future__ import annotations

OURS = "RegLoRASegment"
GROW, FILL = "Grow from seeds", "Fill between slices"
ANCHOR_NAMES = {"grow_from_seeds": GROW, "fill_between_slices": FILL}  # of slicer_anchors.py
FIRST = "first result"  # ours before the low-rank update: heads and experts
EXPERT_NAMES = {"propagated": "propagation alone", "interpolated": "interpolation alone"}
EXPERTS = tuple(EXPERT_NAMES.values())
