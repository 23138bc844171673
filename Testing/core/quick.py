"""What several tests of adaptation share: short fits, and a report that remembers."""

from __future__ import annotations

from functools import partial

import pytest


class Events:
    """A report that remembers."""

    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []

    def __call__(self, event: str, /, **fields: object) -> None:
        self.seen.append({"event": event, **fields})

    def named(self, name: str) -> list[dict[str, object]]:
        return [entry for entry in self.seen if entry["event"] == name]

    @property
    def warnings(self) -> str:
        return " | ".join(str(entry["message"]) for entry in self.named("warning"))


def shorten_fits(patch: pytest.MonkeyPatch) -> None:
    """Fit with fewer steps and voxels than a real scan needs."""
    from reglora_core import adaptation, fit
    from reglora_core.head import HeadConfig
    from reglora_core.refine import RefineConfig

    patch.setattr(fit, "HeadConfig", partial(HeadConfig, steps=60, voxels=512))
    patch.setattr(adaptation, "RefineConfig", partial(RefineConfig, crop=32, voxels=500))
