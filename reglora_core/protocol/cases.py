"""One patient of a dataset, read for a purpose that its role allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.protocol.access import Purpose, check_purpose
from reglora_core.protocol.inventory import Inventory
from reglora_core.volumes.files import read_file

Mask = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class ProtocolCase:
    """A patient.

    Attributes:
        masks: bool (z, y, x) on the image's grid by organ, of known organs alone: an organ that
            is not there is unknown in this patient, not absent.
    """

    name: str
    image: sitk.Image
    masks: Mapping[str, Mask]

    def is_known(self, organ: str) -> bool:
        """Whether the patient says anything about the organ."""
        return organ in self.masks


def read_case(
    inventory: Inventory, case: str, purpose: Purpose, organ: str | None = None
) -> ProtocolCase:
    """Read a patient's image and its known organs.

    Pre-training gets the organs it is to see alone; everyone else the wanted ones.

    Raises:
        InputError: the patient's role forbids the purpose, or the case is not usable.
    """
    check_purpose(inventory, case, purpose, organ)
    if case not in inventory.cases:
        message = f"case {case} of {inventory.dataset.name} is missing or was skipped"
        raise InputError(message, "`reglora bench check` says why")
    files, dataset = inventory.cases[case], inventory.dataset
    wanted = dataset.pretraining if purpose == "pretrain" else dataset.organs
    known = [name for name in wanted if name in files.voxels]
    if dataset.has_organ_files:
        masks = {name: sitk.GetArrayFromImage(read_file(files.labels[name])) != 0 for name in known}
    else:
        labels = sitk.GetArrayFromImage(read_file(files.labels[""]))
        values = {name: value for value, name in inventory.names.items()}
        masks = {name: labels == values[name] for name in known}
    return ProtocolCase(case, read_file(files.image), masks)
