"""Where to paint next: the slice around which heads and propagation disagree most.

Per painted organ, the voxels of a plane that just one of the two gives to it are counted and
divided by the organ's volume, so that small organs count as much as large ones; the sum over the
organs is smoothed along the planes, because a slice teaches its neighbourhood. docs/corrections.md
compares rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch  # noqa: TID253

from reglora_core.annotation import native_slice
from reglora_core.experts import PaintedGrid
from reglora_core.fit import Fitted, Task
from reglora_core.grids import AXIS_NAMES
from reglora_core.samples import Painting
from reglora_core.scores import split_groups

SIGMA_MM = 10.0  # of the smoothing
NAMED = 2  # organs that are named as the reason


@dataclass(frozen=True)
class NextSlice:
    """The slice to paint next.

    Attributes:
        image: number of the image, from 0.
        axis: axial, coronal or sagittal.
        index: of the slice, from 0 as in the file, along the file's axis nearest to that direction.
        mm: its middle in the patient's coordinates (x, y, z; LPS).
        why: for people.
    """

    image: int
    axis: str
    index: int
    mm: tuple[float, float, float]
    why: str


def suggest(task: Task, fitted: Fitted) -> NextSlice | None:
    """Return the slice of all images that promises most; None where nothing disagrees."""
    best, best_value = None, 0.0
    for number, painting in enumerate(task.paintings):
        profiles: dict[str, torch.Tensor] = {}
        experts = fitted.experts
        paints, propagated = experts.paints[number], experts.propagated[number]
        heads = split_groups(fitted.by_heads[number], task.groups)
        for place, group in enumerate(task.groups):
            own = (fitted.scores[number][place], heads[place], propagated[place])
            for label, profile in disagreement(*own, paints[place]).items():
                profiles[task.organs[group[label - 1]].name] = profile
        if not profiles:
            continue
        total = torch.stack(list(profiles.values())).sum(0)
        plane = chosen_plane(total, fitted.scores[number], paints[0])
        if plane is not None and float(total[plane]) > best_value:
            names = sorted(profiles, key=lambda name: -float(profiles[name][plane]))[:NAMED]
            best = _named(
                number,
                painting,
                plane,
                f"what was learned and what was carried over disagree on {' and '.join(names)}",
            )
            best_value = float(total[plane])
    return best


def disagreement(
    fused: torch.Tensor, heads: torch.Tensor, propagated: torch.Tensor, paint: PaintedGrid
) -> dict[int, torch.Tensor]:
    """Return, per label of a painted organ, how far heads and propagation disagree around planes.

    Args:
        fused: scores of the result (organs + 1, z, y, x).
        heads: those of the heads, of the same shape.
        propagated: those of the propagation, of the same shape.
        paint: the group's paint, on the same grid.
    """
    axis = paint.axis
    counts = torch.bincount(fused.argmax(0).flatten(), minlength=len(fused)).clamp_min(1)
    planes = torch.arange(paint.shape[axis]) * paint.spacing[axis]
    weights = torch.exp(-((planes[:, None] - planes) ** 2) / (2 * SIGMA_MM**2))
    ours, theirs = heads.argmax(0), propagated.argmax(0)
    found = {}
    for label in torch.unique(paint.planes).tolist():
        if label <= 0:
            continue
        differs = ((ours == label) != (theirs == label)).movedim(axis, 0).flatten(1)
        profile = differs.sum(1) / counts[label]
        profile[paint.whole_slices().indices] = 0  # nothing is left to gain there
        found[label] = weights @ profile
    return found


def chosen_plane(
    profile: torch.Tensor, fused: Sequence[torch.Tensor], paint: PaintedGrid
) -> int | None:
    """Return the plane, not painted and between the ends of the organs, of the largest value."""
    axis = paint.axis
    organs = torch.stack([own.argmax(0) > 0 for own in fused]).any(0)
    painted = paint.whole_slices().indices
    planes = [*organs.movedim(axis, 0).flatten(1).any(1).nonzero().flatten().tolist(), *painted]
    if not planes:
        return None
    is_open = torch.zeros(len(profile), dtype=torch.bool)
    is_open[int(min(planes)) : int(max(planes)) + 1] = True
    is_open[painted] = False
    if not bool(is_open.any()):
        return None
    return int(profile.masked_fill(~is_open, -torch.inf).argmax())


def _named(number: int, painting: Painting, plane: int, why: str) -> NextSlice:
    """Return a plane of the body's box in the terms of the image's file."""
    scan, annotation = painting.scan, painting.annotation
    axis = annotation.axis
    canonical = int(scan.grid.nearest_native(axis)[plane + scan.body[axis].start])
    index = native_slice(annotation, scan.orientation, canonical)
    center = [(size - 1) / 2 for size in scan.image.GetSize()[::-1]]
    center[scan.orientation.order[axis]] = index
    x, y, z = scan.image.TransformContinuousIndexToPhysicalPoint([float(c) for c in center[::-1]])
    mm = (round(x, 2), round(y, 2), round(z, 2))
    return NextSlice(number, AXIS_NAMES[axis], index, mm, why)
