"""`reglora pretrain`: train to the configured steps, then write the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch  # noqa: TID253

from reglora_core.device import choose_device
from reglora_core.events import Report
from reglora_core.models.loading import save_tiny
from reglora_core.models.tiny import TinyConfig, TinyUNet
from reglora_core.pretraining.loop import PretrainConfig, pretrain


def run_pretraining(
    config_file: Path, data: Path, out: Path, device: str, threads: int | None, report: Report
) -> Path:
    """Pre-train, going on from where an earlier call stopped; return the file of weights."""
    if threads is not None:
        torch.set_num_threads(threads)
    config = PretrainConfig.from_file(config_file)
    progress = pretrain(config, data, out, choose_device(device), report)
    return export(out, progress.step, progress.seconds)


def export(
    out: Path, step: int, seconds: float, provenance: Mapping[str, str] | None = None
) -> Path:
    """Write the averaged network of `out`/checkpoint.pt in half precision.

    Args:
        out: where the checkpoint is, and the weights go.
        step, seconds: how long it was trained.
        provenance: what else is to be kept with the weights.
    """
    state = torch.load(out / "checkpoint.pt", map_location="cpu", weights_only=True)
    shape = TinyConfig(
        widths=tuple(state["average"][f"encoder.{k}.conv1.conv.weight"].shape[0] for k in range(5)),
        classes=tuple(state["classes"]),
    )
    network = TinyUNet(shape)
    network.load_state_dict(state["average"])
    path = out / "weights.safetensors"
    save_tiny(
        network, path, {**(provenance or {}), "steps": str(step), "seconds": f"{seconds:.0f}"}
    )
    return path
