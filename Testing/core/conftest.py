"""Fixtures shared by the tests of the library."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The real scans; tests that ask for them are skipped where they are absent."""
    folder = Path(os.environ.get("REGLORA_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder} (set REGLORA_DATA)")
    return folder
