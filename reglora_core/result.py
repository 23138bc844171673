"""From scores on the working grid to the label map that is written, on the image's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np  # noqa: TID253
import torch  # noqa: TID253

from reglora_core.annotation import UNLABELLED
from reglora_core.head import Groups
from reglora_core.organs import Organ
from reglora_core.samples import Painting
from reglora_core.scan import Scan
from reglora_core.scores import native_labels
from reglora_core.volumes import LabelMap


def label_map_of(
    scores: Sequence[torch.Tensor], organs: Sequence[Organ], groups: Groups, scan: Scan
) -> LabelMap:
    """Return the organs of largest score on the image's grid, one layer per group.

    Args:
        scores: per group (organs + 1, z, y, x) within the body's box of the working grid.
        organs: all organs; their values are the label values.
        groups: organ indices per group.
        scan: whose grid.
    """
    layers, layer_of = [], [0] * len(organs)
    for number, (group, own) in enumerate(zip(groups, scores, strict=True)):
        canonical = native_labels(own, scan.grid, scan.body)
        table = np.array([0, *(organs[index].value for index in group)], dtype=np.uint16)
        layers.append(np.ascontiguousarray(scan.orientation.native(table[canonical])))
        for index in group:
            layer_of[index] = number
    return LabelMap(tuple(organs), tuple(layers), tuple(layer_of))


def painted_over(result: LabelMap, labels: LabelMap, painting: Painting) -> LabelMap:
    """Return a result in which the annotated slices are exactly as they were painted.

    Voxels there that are unlabelled, and organs not painted yet, keep the prediction.

    Args:
        result: the prediction, on the image's grid; its organs are told apart by name.
        labels: the user's label map.
        painting: which slices are annotated.
    """
    annotation, orientation = painting.annotation, painting.scan.orientation
    layers = [layer.copy() for layer in result.layers]
    by_name = {organ.name: index for index, organ in enumerate(result.organs)}
    stacks = [
        np.moveaxis(orientation.canonical(layer), annotation.axis, 0) for layer in layers
    ]  # views: writing to them writes to the layers
    for position, index in enumerate(annotation.slices):
        for layer, stack in enumerate(stacks):
            _clear(stack[index], layer, position, result, painting)
        for own, organ in enumerate(labels.organs):
            plane = annotation.layers[annotation.layer_of[own]][position].numpy()
            target = by_name[organ.name]
            stacks[result.layer_of[target]][index][plane == own + 1] = result.organs[target].value
    return replace(result, layers=tuple(layers))


def _clear(
    plane: np.ndarray[tuple[int, ...], np.dtype[np.uint16]],
    layer: int,
    position: int,
    result: LabelMap,
    painting: Painting,
) -> None:
    """Set predicted voxels of an annotated slice to background where the user said so."""
    annotation = painting.annotation
    said = np.ones(plane.shape, dtype=bool)
    for stack in annotation.layers:
        said &= stack[position].numpy() != UNLABELLED
    known = {
        organ.name: bool(annotation.is_known[own, position])
        for own, organ in enumerate(annotation.organs)
    }
    for index, organ in enumerate(result.organs):
        if result.layer_of[index] == layer and known.get(organ.name, False):
            plane[said & (plane == organ.value)] = 0
