"""The label map: which voxel is which organ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np  # noqa: TID253
from numpy.typing import NDArray  # noqa: TID253

from reglora_core.errors import InputError
from reglora_core.organs import Organ


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Organs painted on an image's grid.

    Organs that share voxels lie on different layers; a layer holds organ values, 0 elsewhere.
    """

    organs: tuple[Organ, ...]  # sorted by value, each value once
    layers: tuple[NDArray[np.uint16], ...]  # each (z, y, x), on the image's grid
    layer_of: tuple[int, ...]  # the layer of each organ
    ignored: NDArray[np.bool_] | None = None  # (z, y, x): voxels about which nothing is said

    def __post_init__(self) -> None:
        values = [organ.value for organ in self.organs]
        assert values == sorted(set(values)), "organ values are sorted and unique"
        assert len(self.layer_of) == len(self.organs), "each organ has a layer"
        assert all(0 <= layer < len(self.layers) for layer in self.layer_of), "layers exist"
        assert len({layer.shape for layer in self.layers}) == 1, "layers share one grid"

    @classmethod
    def from_masks(
        cls,
        organs: Sequence[Organ],
        masks: Sequence[NDArray[np.bool_]],
        ignored: NDArray[np.bool_] | None = None,
    ) -> LabelMap:
        """Pack one mask (z, y, x) per organ into as few layers as first fit finds."""
        layers: list[NDArray[np.uint16]] = []
        layer_of: dict[int, int] = {}
        for organ, mask in sorted(zip(organs, masks, strict=True), key=lambda pair: pair[0].value):
            layer_of[organ.value] = _paint_on_free_layer(layers, mask, organ.value)
        ordered = tuple(sorted(organs, key=lambda organ: organ.value))
        places = tuple(layer_of[organ.value] for organ in ordered)
        return cls(ordered, tuple(layers), places, ignored)

    @property
    def shape(self) -> tuple[int, ...]:
        """The grid's (z, y, x)."""
        return self.layers[0].shape

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return where the organ at that place of ``organs`` is painted, (z, y, x)."""
        painted: NDArray[np.bool_] = self.layers[self.layer_of[index]] == self.organs[index].value
        return painted

    def painted(self) -> NDArray[np.bool_]:
        """Return where any organ is painted, (z, y, x)."""
        anywhere = self.layers[0] > 0
        for layer in self.layers[1:]:
            anywhere |= layer > 0
        return anywhere

    @cached_property
    def has_overlap(self) -> bool:
        """Whether some voxel belongs to two organs."""
        if len(self.layers) == 1:
            return False
        count = sum((layer > 0).astype(np.uint8) for layer in self.layers)
        return bool(np.max(count) > 1)

    def with_layers_merged(self) -> LabelMap:
        """Return the same organs on one layer.

        Raises:
            InputError: organs overlap.
        """
        if len(self.layers) == 1:
            return self
        if self.has_overlap:
            message = f"{' and '.join(self._two_that_overlap())} overlap"
            raise InputError(message, "one layer cannot hold both; use a .seg.nrrd file")
        merged: NDArray[np.uint16] = np.maximum.reduce(self.layers)
        return LabelMap(self.organs, (merged,), (0,) * len(self.organs), self.ignored)

    def _two_that_overlap(self) -> tuple[str, str]:
        for first in range(len(self.organs)):
            for second in range(first):
                if np.any(self.mask(first) & self.mask(second)):
                    return self.organs[second].name, self.organs[first].name
        return "an organ", "another"


def _paint_on_free_layer(
    layers: list[NDArray[np.uint16]], mask: NDArray[np.bool_], value: int
) -> int:
    for place, layer in enumerate(layers):
        if not np.any((layer != 0) & mask):
            np.copyto(layer, value, where=mask)
            return place
    layers.append(np.multiply(mask, value, dtype=np.uint16))
    return len(layers) - 1
