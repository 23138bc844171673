"""Pictures of slices: the image, with organs as outlines filled with a breath of colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import SimpleITK as sitk  # noqa: TID253
from matplotlib.figure import Figure  # noqa: TID253

from reglora_core.evaluation import Evaluation
from reglora_core.organs import Organ
from reglora_core.pictures.anatomy import Anatomy, best_slices, body_box
from reglora_core.pictures.sheet import Entry, Row, draw_sheet
from reglora_core.pictures.tile import Tile
from reglora_core.volumes import LabelMap

MAX_COLUMNS = 5
SLICE_INCHES = 2.7  # the longer side of an annotated slice
RESULT_INCHES = 3.6  # the longest side of a slice of a result


def draw_annotated_slices(
    image: sitk.Image, label_map: LabelMap, axis: int, slices: Sequence[int]
) -> Figure:
    """Draw the painted slices side by side.

    Args:
        image: the scan.
        label_map: what is painted, on the image's grid.
        axis: axis (z, y, x) of the image's own array along which the slices are counted.
        slices: their indices, at least one.
    """
    anatomy = Anatomy.of(image)
    box = body_box(anatomy)
    places = sorted(anatomy.canonical_slice(axis, index) for index in slices)
    tiles = [Tile(anatomy, label_map, *place, box) for place in places]
    rows = [
        Row("", tiles[first : first + MAX_COLUMNS]) for first in range(0, len(tiles), MAX_COLUMNS)
    ]
    entries = [Entry(organ.name, _rgb(organ)) for organ in label_map.organs]
    title = f"{len(tiles)} annotated slice{'s' if len(tiles) > 1 else ''}"
    return draw_sheet(title, rows, entries, SLICE_INCHES)


def draw_result(
    image: sitk.Image,
    prediction: LabelMap,
    reference: LabelMap | None = None,
    evaluation: Evaluation | None = None,
    annotated: tuple[int, Iterable[int]] | None = None,
) -> Figure:
    """Draw the prediction, and the reference below it, on one slice of each direction.

    The slices are those that show most organs and were not annotated.

    Args:
        image: the scan.
        prediction: on the image's grid.
        reference: likewise.
        evaluation: for the Dice in the legend.
        annotated: axis (z, y, x) of the image's own array, and its annotated slices.
    """
    anatomy = Anatomy.of(image)
    box = body_box(anatomy)
    chosen = best_slices(anatomy, reference or prediction, _to_avoid(anatomy, annotated))
    shown = {"Prediction": prediction} | ({"Reference": reference} if reference else {})
    rows = [
        Row(
            name if reference else "",
            [Tile(anatomy, label_map, axis, index, box) for axis, index in enumerate(chosen)],
        )
        for name, label_map in shown.items()
    ]
    entries = _entries(prediction, reference, evaluation)
    return draw_sheet(" and ".join(shown).capitalize(), rows, entries, RESULT_INCHES)


def _to_avoid(
    anatomy: Anatomy, annotated: tuple[int, Iterable[int]] | None
) -> tuple[int, frozenset[int]] | None:
    if annotated is None:
        return None
    axis, slices = annotated
    places = [anatomy.canonical_slice(axis, index) for index in slices]
    return (places[0][0], frozenset(index for _, index in places)) if places else None


def _entries(
    prediction: LabelMap, reference: LabelMap | None, evaluation: Evaluation | None
) -> list[Entry]:
    """Return the legend: the reference's organs, then those that only the prediction has."""
    if evaluation is not None:
        colors = {
            organ.name: _rgb(organ)
            for label_map in (prediction, reference)
            if label_map is not None
            for organ in label_map.organs
        }
        entries = [
            Entry(one.name, colors.get(one.name, (0.6, 0.6, 0.6)), one.score.dice)
            for one in evaluation.scores
        ]
        return [*entries, Entry("mean", None, evaluation.mean_dice)]
    organs = {
        organ.name: organ for organ in (*(reference or prediction).organs, *prediction.organs)
    }
    return [Entry(name, _rgb(organ)) for name, organ in organs.items()]


def _rgb(organ: Organ) -> tuple[float, float, float]:
    red, green, blue = (channel / 255 for channel in organ.color)
    return red, green, blue
