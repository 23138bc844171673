"""What is known of a base network. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# open: use as you like, with attribution; the others are shown, and must be accepted, before
# a download
Terms = Literal["open", "non-commercial", "unclear"]


@dataclass(frozen=True)
class ModelEntry:
    """One base network. What is not known for sure is left empty.

    Attributes:
        family: the code that builds it (`reglora_core.models.families`).
        licence, terms: of the weights, as their publishers state it, and what that amounts to.
        licence_url, page: the licence's text; the publishers' page on the network.
        modality: what it was trained on.
        window, input_range: HU, and the range that they are mapped onto (clipped).
        spacing_mm, orientation, patch_size: of the working grid; patch_size in voxels (z, y, x),
            spacing_mm one number or one per axis (z, y, x). orientation: that the network sees.
        adapter_targets: regular expression for the names of the layers that get an update.
        weights: file in the package's `weights` folder; empty where it comes from elsewhere.
        url, file_name, size_mb, md5: of the publishers' file; md5 as they publish it.
        classes: trained classes; background first, if it is one of them.
    """

    name: str
    family: str
    description: str
    licence: str
    modality: str
    window: tuple[float, float]
    spacing_mm: float | tuple[float, float, float]
    patch_size: tuple[int, int, int]
    adapter_targets: str
    input_range: tuple[float, float] = (0.0, 1.0)
    orientation: str = "LPS"
    terms: Terms = "open"
    licence_url: str = ""
    page: str = ""
    weights: str = ""
    url: str = ""
    file_name: str = ""
    size_mb: float | None = None
    md5: str = ""
    citation: str = ""
    parameters: str = ""
    classes: tuple[str, ...] = ()

    @property
    def sees_slices(self) -> bool:
        """Whether its windows are slices of a volume."""
        return 1 in self.patch_size

    @property
    def needs_acceptance(self) -> bool:
        """Whether the licence must be accepted before a download."""
        return self.terms != "open"
