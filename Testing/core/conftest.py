"""Fixtures shared by the tests of the library."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch  # noqa: TID253
from quick import shorten_fits

import torchvision_operators  # noqa: F401  # before MONAI is imported

if TYPE_CHECKING:
    from reglora_core.models.base import BaseModel

ROOT = Path(__file__).resolve().parents[2]


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
