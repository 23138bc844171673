"""What a published network's input looks like: a window of HU on its range, oriented to RAS."""

from __future__ import annotations

from dataclasses import dataclass

import torch  # noqa: TID253


@dataclass(frozen=True)
class InputRange:
    """A window of HU, mapped linearly onto a range and clipped."""

    window: tuple[float, float] = (-175.0, 250.0)
    onto: tuple[float, float] = (0.0, 1.0)

    def scaled(self, hounsfield: torch.Tensor) -> torch.Tensor:
        """Return HU values mapped onto the range, in their shape."""
        low, high = self.window
        least, greatest = self.onto
        share = ((hounsfield - low) / (high - low)).clamp(0, 1)
        return share * (greatest - least) + least

    def ras(self, hounsfield: torch.Tensor) -> torch.Tensor:
        """Return the input (batch, 1, x, y, z) of HU values (batch, z, y, x), canonical."""
        return to_ras(self.scaled(hounsfield)[:, None])


def to_ras(canonical: torch.Tensor) -> torch.Tensor:
    """Turn axes (z to S, y to P, x to L) into (x to R, y to A, z to S)."""
    return canonical.flip(-1, -2).transpose(-1, -3)


def from_ras(ras: torch.Tensor) -> torch.Tensor:
    """Turn axes (x to R, y to A, z to S) into (z to S, y to P, x to L)."""
    return ras.transpose(-1, -3).flip(-1, -2)
