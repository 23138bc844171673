"""Pre-training that goes on from a network that was trained on other data."""

from __future__ import annotations

from pathlib import Path

import torch  # noqa: TID253

from reglora_core.device import choose_device
from reglora_core.errors import ModelError
from reglora_core.models.loading import load_model
from reglora_core.models.tiny import TinyUNet


def warm_start_(network: TinyUNet, file: Path) -> None:
    """Copy the weights of an earlier pre-training; classes are matched by name.

    A class that the earlier network did not know keeps its random start.

    Raises:
        ModelError: the file holds no such network, or one of other widths.
    """
    earlier = load_model(str(file), choose_device("cpu")).network
    if not isinstance(earlier, TinyUNet) or earlier.config.widths != network.config.widths:
        message = f"start_from: {file.name} is no network of widths {network.config.widths}"
        raise ModelError(message, "give weights of `reglora pretrain` with the same widths")
    state = network.state_dict()
    known = {name: row for row, name in enumerate(earlier.config.classes)}
    rows = [(own, known[name]) for own, name in enumerate(network.config.classes) if name in known]
    for key, value in earlier.state_dict().items():
        if key.startswith("classifier."):
            own, other = torch.tensor(rows).unbind(1)
            state[key][own] = value[other].to(state[key].dtype)
        else:
            state[key].copy_(value)
