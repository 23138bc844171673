"""Patients of a study on the working grid, with one organ each; read once per process."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np  # noqa: TID253
import torch  # noqa: TID253
from scipy import ndimage  # noqa: TID253

from reglora_core.protocol.access import Purpose, check_purpose
from reglora_core.protocol.cases import Mask, read_case
from reglora_core.protocol.inventory import Inventory
from reglora_core.scan import Scan, prepare_scan


@dataclass(frozen=True)
class OrganCase:
    """One patient and one organ that is known in it.

    Attributes:
        scan: on the working grid.
        mask: bool (z, y, x) on the canonical native grid.
    """

    name: str
    scan: Scan
    mask: torch.Tensor

    @property
    def working_mask(self) -> torch.Tensor:
        """The mask on the working grid, by the nearest voxel."""
        return self.scan.grid.nearest_to_working(self.mask)


@dataclass
class CaseStore:
    """Reads patients for a purpose that their role allows, and keeps them."""

    inventory: Inventory
    spacing_mm: float
    _kept: dict[tuple[str, str], OrganCase] = field(default_factory=dict)

    def case(self, name: str, organ: str, purpose: Purpose) -> OrganCase:
        """Return a patient.

        Raises:
            InputError: its role forbids the purpose, or the case is not usable.
        """
        check_purpose(self.inventory, name, purpose, organ)
        if (name, organ) not in self._kept:
            self._kept[name, organ] = self._read(name, organ, purpose)
        return self._kept[name, organ]

    def _read(self, name: str, organ: str, purpose: Purpose) -> OrganCase:
        own = read_case(self.inventory, name, purpose, organ)
        path = self.inventory.cases[name].image
        scan = prepare_scan(path, own.image, self.spacing_mm)
        return OrganCase(name, scan, canonical_mask(scan, own.masks[organ]))


def canonical_mask(scan: Scan, mask: Mask) -> torch.Tensor:
    """Return a mask of the image's own grid, bool (z, y, x), in canonical orientation."""
    return torch.from_numpy(np.ascontiguousarray(scan.orientation.canonical(mask)))


def largest_component(mask: torch.Tensor) -> torch.Tensor:
    """Return the largest piece of a mask (z, y, x); voxels that share a corner hang together."""
    pieces, count = ndimage.label(mask.numpy(), np.ones((3, 3, 3), dtype=bool))
    if count < 2:
        return mask
    largest = int(np.bincount(pieces.ravel())[1:].argmax()) + 1
    return torch.from_numpy(pieces == largest)
