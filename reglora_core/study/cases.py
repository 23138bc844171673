"""Patients of a study on the working grid, with one organ each; read once per process."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np  # noqa: TID253
import torch  # noqa: TID253
from scipy import ndimage  # noqa: TID253

from reglora_core.grids import Spacing
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
    def bytes(self) -> int:
        """Memory that it takes."""
        return self.scan.hounsfield.nbytes + self.mask.nbytes

    @property
    def working_mask(self) -> torch.Tensor:
        """The mask on the working grid, by the nearest voxel."""
        return self.scan.grid.nearest_to_working(self.mask)


@dataclass
class CaseStore:
    """Reads patients for a purpose that their role allows, and keeps those last asked for.

    Attributes:
        inventory: of the dataset.
        spacing_mm: of the working grid.
        most_bytes: memory for patients that are kept.
    """

    inventory: Inventory
    spacing_mm: float | Spacing
    most_bytes: int = 2 * 2**30
    _kept: dict[tuple[str, str], OrganCase] = field(default_factory=dict)

    def case(self, name: str, organ: str, purpose: Purpose) -> OrganCase:
        """Return a patient.

        Raises:
            InputError: its role forbids the purpose, or the case is not usable.
        """
        check_purpose(self.inventory, name, purpose, organ)
        found = self._kept.pop((name, organ), None) or self._read(name, organ, purpose)
        self._kept[name, organ] = found  # the last one in the order of the dictionary
        while len(self._kept) > 1 and sum(c.bytes for c in self._kept.values()) > self.most_bytes:
            del self._kept[next(iter(self._kept))]
        return found

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
