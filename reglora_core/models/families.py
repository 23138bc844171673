"""The families of networks by name, set up for an entry's input."""

from __future__ import annotations

from collections.abc import Callable

from reglora_core.models.base import Family
from reglora_core.models.entry import ModelEntry
from reglora_core.models.inputs import InputRange
from reglora_core.models.sam import SamFamily
from reglora_core.models.segresnet import DeepSegResNetFamily, SegResNetFamily
from reglora_core.models.swinunetr import SwinEncoderFamily, SwinFamily
from reglora_core.models.tiny import TinyFamily
from reglora_core.models.unet3d import UNetFamily

_FAMILIES: dict[str, Callable[[InputRange], Family]] = {
    "swinunetr": SwinFamily,
    "swinvit": SwinEncoderFamily,
    "unet3d": UNetFamily,
    "segresnet": SegResNetFamily,
    "segresnet-ds": DeepSegResNetFamily,
    "sam": SamFamily,
}


def family_of(entry: ModelEntry) -> Family:
    """Return what an entry's networks have in common, with its window of intensities."""
    if entry.family == "tiny":
        return TinyFamily()  # its input has its own two windows
    return _FAMILIES[entry.family](InputRange(entry.window, entry.input_range))
