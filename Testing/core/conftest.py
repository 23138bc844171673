"""Fixtures shared by the tests of the library."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch  # noqa: TID253
from quick import shorten_fits

if TYPE_CHECKING:
    from reglora_core.models.base import BaseModel

ROOT = Path(__file__).resolve().parents[2]


def _declare_operators() -> list[torch.library.Library]:
    """Let torchvision be imported where its compiled operators do not fit torch.

    None of them is run: `segment_anything`'s networks use none.
    """
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        return []
    try:
        torch.ops.load_library(Path(found.origin).with_name("_C.so"))
    except OSError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return [library]
    return []


OPERATORS = _declare_operators()  # before MONAI, which imports torchvision if it is there


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real scans; tests that ask for them are skipped where they are absent."""
    folder = Path(os.environ.get("REGLORA_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder} (set REGLORA_DATA)")
    return folder


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of a small network of the embedded family."""
    from reglora_core.models.loading import save_tiny
    from reglora_core.models.tiny import TinyConfig, TinyUNet

    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = TinyUNet(TinyConfig(widths=(8, 8, 16, 16, 16), classes=("background", "liver")))
    save_tiny(network, path, {})
    return path


@pytest.fixture
def small_model(small_weights: Path) -> BaseModel:
    """The small network, loaded."""
    from reglora_core.models.loading import load_model

    return load_model(str(small_weights), torch.device("cpu"))


@pytest.fixture
def quick_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fit with fewer steps and voxels than a real scan needs."""
    shorten_fits(monkeypatch)
