"""A small dataset for tests of studies: bodies of two organs, and a study of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import phantom

from reglora_core.protocol.dataset import Dataset
from reglora_core.protocol.inventory import Inventory, take_inventory

DATASET: dict[str, Any] = {
    "name": "bodies",
    "images": ["{case}_ct.nii.gz"],
    "labels": ["{case}_labels.nii.gz"],
    "case": "pt_[0-9]+",
    "names": {"1": "liver", "2": "spleen"},
    "base": ["liver"],
    "novel": ["spleen"],
    "pretraining": ["liver"],
    "roles": {
        "pretraining": ["pt_1..pt_2"],
        "shots": ["pt_3..pt_5"],
        "validation": ["pt_6"],
        "test": ["pt_7"],
    },
}
STUDY: dict[str, Any] = {
    "name": "small",
    "dataset": "bodies.json",
    "spacing_mm": 4.5,
    "adapter_targets": r"^(encoder\.[34]|decoder\.0)\..*conv[12]\.conv$",
    "pretraining": {
        "steps": 2,
        "widths": [8, 8, 16, 16, 16],
        "voxels": 4000,
        "crops": {"size": 32},
    },
    "methods": [{"name": "arena", "ranks": [4]}, {"name": "linear-probe"}],
    "shots": [1],
    "draws": [[1, 0], [2, 1]],
    "fit": {"steps": 4, "crop": 32, "crops": 1, "log_every": 2},
}


def write_bodies(folder: Path, count: int = 7) -> Path:
    """Write patients pt_1, pt_2, ... with both organs drawn."""
    for number in range(1, count + 1):
        hounsfield, labels = phantom.body(seed=number, shift=number / 2)
        phantom.write(folder / f"pt_{number}_ct.nii.gz", phantom.image_of(hounsfield))
        phantom.write(folder / f"pt_{number}_labels.nii.gz", phantom.image_of(labels))
    return folder


def inventory_of(folder: Path) -> Inventory:
    names = ("images", "labels", "base", "novel", "pretraining")
    entries = {key: tuple(value) if key in names else value for key, value in DATASET.items()}
    return take_inventory(Dataset(**entries), folder)
