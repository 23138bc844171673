"""Rules for the slice to paint next, compared by bench_corrections.py.

    gap           the middle of the widest gap between painted slices; beyond the outermost ones
                  a gap counts twice, because it is closed on one side only
    even          of n + 1 evenly spaced slices the one that is farthest from the n painted
    confidence    where the fused scores are least sure: per painted organ the sum of p (1 - p)
                  over the plane, by the organ's volume, summed over the organs
    disagreement  where heads and propagation disagree: the rule of reglora_core.next_slice

All look between the first and the last plane in which the result has an organ. The last two
profiles are smoothed by a Gaussian, so that a slice is chosen for its neighbourhood.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch  # noqa: TID253

from reglora_core import next_slice
from reglora_core.experts import PaintedGrid


@dataclass(frozen=True)
class Seen:
    """What a rule looks at, within the body's box of the working grid, one group.

    Attributes:
        paint: the annotated slices.
        fused, heads, propagated: scores (organs + 1, z, y, x), in [0, 1].
        is_open: bool per plane across the annotated slices' axis; whether it can be painted.
    """

    paint: PaintedGrid
    fused: torch.Tensor
    heads: torch.Tensor
    propagated: torch.Tensor
    is_open: torch.Tensor

    @property
    def spacing(self) -> float:
        return self.paint.spacing[self.paint.axis]

    def painted_labels(self) -> list[int]:
        """Return the organs that are painted so far; of the others nothing is known."""
        return [label for label in self.paint.planes.unique().tolist() if label > 0]

    def extent(self) -> tuple[int, int]:
        """Return the first and the last plane that the result or the paint has an organ in."""
        found = (self.fused.argmax(0) > 0).movedim(self.paint.axis, 0).flatten(1).any(1)
        planes = found.nonzero().flatten()
        painted = self.paint.indices
        if not len(planes):
            return int(painted.min()), int(painted.max())
        return min(int(planes[0]), int(painted.min())), max(int(planes[-1]), int(painted.max()))

    def chosen(self, profile: torch.Tensor) -> int | None:
        """Return the open plane within the extent where a profile is largest."""
        first, last = self.extent()
        allowed = self.is_open.clone()
        allowed[:first] = allowed[last + 1 :] = False
        if not bool(allowed.any()):
            return None
        return int(profile.masked_fill(~allowed, -torch.inf).argmax())

    def nearest(self, plane: float) -> int | None:
        """Return the open plane within the extent that is nearest to a position."""
        planes = torch.arange(len(self.is_open)).float()
        return self.chosen(-(planes - plane).abs())


def gap(seen: Seen) -> int | None:
    painted = sorted(set(seen.paint.indices.tolist()))
    first, last = seen.extent()
    gaps = [(after - before, (before + after) / 2) for before, after in itertools.pairwise(painted)]
    gaps.append((2 * (painted[0] - first), (painted[0] + first) / 2))
    gaps.append((2 * (last - painted[-1]), (painted[-1] + last) / 2))
    return seen.nearest(max(gaps)[1])


def even(seen: Seen) -> int | None:
    painted = seen.paint.indices.float()
    first, last = seen.extent()
    count = len(painted) + 1
    spaced = first + (torch.arange(count) + 0.5) / count * (last - first)
    distances = (spaced[:, None] - painted).abs().amin(1)
    return seen.nearest(float(spaced[distances.argmax()]))


def confidence(seen: Seen) -> int | None:
    labels = seen.painted_labels()
    p = seen.fused[labels]
    counts = torch.bincount(seen.fused.argmax(0).flatten(), minlength=len(seen.fused))
    planes = (p * (1 - p)).movedim(seen.paint.axis + 1, 1).flatten(2).sum(2)
    return seen.chosen(_smooth((planes / counts[labels].clamp_min(1)[:, None]).sum(0), seen))


def disagreement(seen: Seen) -> int | None:
    profiles = next_slice.disagreement(seen.fused, seen.heads, seen.propagated, seen.paint)
    return seen.chosen(torch.stack(list(profiles.values())).sum(0))


RULES: dict[str, Callable[[Seen], int | None]] = {
    "gap": gap,
    "even": even,
    "confidence": confidence,
    "disagreement": disagreement,
}


def _smooth(profile: torch.Tensor, seen: Seen) -> torch.Tensor:
    """Blur a profile of planes; what is painted has nothing left to gain."""
    profile = profile.clone()
    profile[seen.paint.indices] = 0
    planes = torch.arange(len(profile)) * seen.spacing
    weights = torch.exp(-((planes[:, None] - planes) ** 2) / (2 * next_slice.SIGMA_MM**2))
    return weights @ profile
