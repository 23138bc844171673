"""The base network of a study: pre-trained on the protocol's patients, or given and checked.

A network that is pre-trained here keeps, in its file of weights, which patients of which dataset
it has seen; one that has seen a shot or a test patient is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.events import Report, ignore
from reglora_core.grids import Spacing
from reglora_core.models import registry
from reglora_core.models.base import BaseModel
from reglora_core.models.checkpoints import read_weights
from reglora_core.models.loading import load_model
from reglora_core.pretraining.cases import BACKGROUND, Case
from reglora_core.pretraining.command import export
from reglora_core.pretraining.loop import PretrainConfig, pretrain_on
from reglora_core.protocol.access import check_unseen
from reglora_core.protocol.cases import ProtocolCase, read_case
from reglora_core.protocol.inventory import Inventory
from reglora_core.scan import prepare_scan
from reglora_core.study.cases import canonical_mask
from reglora_core.study.config import StudyConfig

SEEN = "patients"  # of the weights' metadata: {dataset: [case, ...]}
DEFAULT_SPACING_MM = 3.0


def spacing_of(config: StudyConfig, model: BaseModel) -> float | Spacing:
    """Return the voxel size of a study's working grid in mm, one number or one per axis."""
    return config.spacing_mm if config.spacing_mm is not None else model.entry.spacing_mm


def load_base(config: StudyConfig, weights: str, device: torch.device) -> BaseModel:
    """Return the base network with the layers adapted that the study names.

    Raises:
        InputError: it cannot be loaded, or no layer of it fits the study's pattern.
    """
    model = load_model(weights, device)
    if not config.adapter_targets:
        return model
    model = replace(model, entry=replace(model.entry, adapter_targets=config.adapter_targets))
    if not any(model.is_adapted_layer(n, m) for n, m in model.network.named_modules()):
        message = f"study {config.name}: no layer is named as {config.adapter_targets!r} says"
        raise InputError(message, "correct adapter_targets")
    return model


def check_base(weights: str, inventory: Inventory) -> None:
    """Check that a base network has seen no shot and no test patient, as far as it is known.

    Raises:
        InputError: it has; they are named.
    """
    dataset = inventory.dataset.name
    if weights == "reglora-tiny" and dataset == "openkbp":
        seen: Iterable[str] = [
            name for name, own in inventory.cases.items() if _is_train(own.image)
        ]
    elif weights in registry.model_names():
        return
    else:
        _, metadata = read_weights(Path(weights))
        seen = json.loads(metadata.get(SEEN, "{}")).get(dataset, [])
    check_unseen(inventory, seen, f"base network {weights}")


def pretrain_base(
    config: StudyConfig,
    inventory: Inventory,
    out: Path,
    device: torch.device,
    report: Report = ignore,
) -> Path:
    """Pre-train the study's base network, or return the one that is there.

    It sees the patients of role pretraining and the organs that pre-training is given; organs
    that a patient lacks are unknown there. A run that was stopped goes on from its checkpoint.

    Args:
        config: of the study; its `pretraining` says how.
        inventory: of the dataset.
        out: folder of weights.safetensors, checkpoint.pt and losses.csv.
        device: where it is trained.
        report: receives progress.

    Raises:
        InputError: an unknown entry in `pretraining`, or no patient or organ to pre-train on.
    """
    weights = out / "weights.safetensors"
    if weights.exists():
        return weights
    training = _pretraining(config)
    patients = inventory.patients("pretraining")
    organs = inventory.dataset.pretraining
    if not patients or not organs:
        message = f"dataset {inventory.dataset.name}: no patients or no organs to pre-train on"
        raise InputError(message, "give its description both, or name a base network")
    cases = []
    for number, patient in enumerate(patients, start=1):
        own = read_case(inventory, patient, "pretrain")
        cases.append(_training_case(own, organs, training.spacing_mm, 1 / len(patients)))
        report("progress", stage="read", step=number, steps=len(patients))
    progress = pretrain_on(cases, (BACKGROUND, *organs), training, out, device, report)
    provenance = {SEEN: json.dumps({inventory.dataset.name: list(patients)})}
    return export(out, progress.step, progress.seconds, provenance)


def _pretraining(config: StudyConfig) -> PretrainConfig:
    spacing = config.spacing_mm or DEFAULT_SPACING_MM
    try:
        return PretrainConfig(datasets=[], spacing_mm=spacing, **config.pretraining)
    except TypeError as error:
        message = f"study {config.name}: pretraining: {error}"
        raise InputError(message, "see docs/pretraining.md for its entries") from error


def _training_case(
    own: ProtocolCase, organs: tuple[str, ...], spacing_mm: float, share: float
) -> Case:
    scan = prepare_scan(Path(own.name), own.image, spacing_mm)
    labels = torch.zeros(scan.grid.working_shape, dtype=torch.uint8)
    for number, organ in enumerate(organs, start=1):
        if own.is_known(organ):
            mask = canonical_mask(scan, own.masks[organ])
            labels[scan.grid.nearest_to_working(mask)] = number
    is_known = torch.tensor([True, *(own.is_known(organ) for organ in organs)])
    return Case(own.name, scan.hounsfield.round().to(torch.int16), labels, is_known, share)


def _is_train(image: Path) -> bool:
    return image.parent.name == "train"
