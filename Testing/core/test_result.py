"""Results: the painted slices exactly as they were painted, everything else predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import torch  # noqa: TID253

from reglora_core.annotation import annotation_of
from reglora_core.job import Annotated
from reglora_core.organs import organ
from reglora_core.result import label_map_of, painted_over
from reglora_core.samples import Painting
from reglora_core.scan import prepare_scan
from reglora_core.volumes import LabelMap

LIVER, SPLEEN = organ(5, "liver"), organ(9, "spleen")


def a_painting(
    labels: LabelMap, annotated: str = "auto", not_painted: dict[str, list[int]] | None = None
) -> Painting:
    scan = prepare_scan(Path("ct"), phantom.image_of(phantom.body()[0]), 3.0)
    own = annotation_of(labels, scan.orientation, Annotated.parse(annotated), not_painted)
    return Painting(scan, own, (0, 1))


def painted(slices: tuple[int, ...], axis: int = 0) -> LabelMap:
    sparse = phantom.on_slices(phantom.body()[1], slices, axis)
    table = np.array([0, 5, 9], np.uint16)
    return LabelMap((LIVER, SPLEEN), (table[sparse],), (0, 0))


def predicted(value: int = 9) -> LabelMap:
    """A prediction that calls everything one organ."""
    return LabelMap((LIVER, SPLEEN), (np.full((48, 48, 48), value, np.uint16),), (0, 0))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_painted_slices_are_kept_and_the_others_predicted(axis: int) -> None:
    labels = painted((18, 29), axis)
    result = painted_over(predicted(), labels, a_painting(labels)).layers[0]
    moved, expected = np.moveaxis(result, axis, 0), np.moveaxis(labels.layers[0], axis, 0)
    assert np.array_equal(moved[[18, 29]], expected[[18, 29]])
    others = [k for k in range(48) if k not in (18, 29)]
    assert (moved[others] == 9).all()


def test_the_prediction_itself_is_not_changed() -> None:
    before = predicted()
    labels = painted((18, 29))
    painted_over(before, labels, a_painting(labels))
    assert (before.layers[0] == 9).all()


def test_ignored_voxels_keep_the_prediction() -> None:
    labels = painted((18, 29))
    ignored = np.zeros((48, 48, 48), bool)
    ignored[18, :, :20] = True
    layer = np.where(ignored, 0, labels.layers[0]).astype(np.uint16)
    labels = LabelMap(labels.organs, (layer,), (0, 0), ignored)
    result = painted_over(predicted(), labels, a_painting(labels)).layers[0]
    assert (result[18, :, :20] == 9).all()
    assert np.array_equal(result[18, :, 20:], layer[18, :, 20:])


def test_an_organ_not_painted_yet_keeps_its_prediction_beside_the_paint() -> None:
    labels = painted((18, 29))
    layer = labels.layers[0].copy()
    layer[29][layer[29] == 9] = 0
    labels = LabelMap(labels.organs, (layer,), (0, 0))
    painting = a_painting(labels, not_painted={"spleen": [29]})
    result = painted_over(predicted(9), labels, painting).layers[0]
    assert np.array_equal(result[18], layer[18])
    assert np.array_equal(result[29], np.where(layer[29] == 5, 5, 9))
    # the liver is known there, so a liver that is only predicted goes
    result = painted_over(predicted(5), labels, painting).layers[0]
    assert np.array_equal(result[29], layer[29])


def test_organs_are_told_apart_by_name_not_by_value() -> None:
    labels = painted((18, 29))
    other = LabelMap(
        (organ(1, "spleen"), organ(2, "liver")), (np.zeros((48,) * 3, np.uint16),), (0, 0)
    )
    result = painted_over(other, labels, a_painting(labels)).layers[0]
    assert np.array_equal(result == 2, labels.layers[0] == 5)
    assert np.array_equal(result == 1, labels.layers[0] == 9)


def test_overlapping_paint_stays_on_its_layers() -> None:
    first, second = np.zeros((2, 48, 48, 48), np.uint16)
    first[20, 15:30, 15:30], second[20, 25:35, 15:30] = 5, 9
    labels = LabelMap((LIVER, SPLEEN), (first, second), (0, 1))
    background = np.full((48,) * 3, 5, np.uint16), np.full((48,) * 3, 9, np.uint16)
    result = painted_over(LabelMap((LIVER, SPLEEN), background, (0, 1)), labels, a_painting(labels))
    assert np.array_equal(result.layers[0][20], first[20])
    assert np.array_equal(result.layers[1][20], second[20])
    assert (result.layers[0][19] == 5).all()


def test_a_label_map_has_the_organs_values_in_the_files_orientation() -> None:
    hounsfield, labels = phantom.body()
    stored = phantom.image_of(hounsfield[::-1], direction=(1, 0, 0, 0, 1, 0, 0, 0, -1))
    scan = prepare_scan(Path("ct"), stored, 3.0)
    scores = torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), 3)
    inside = scores.movedim(-1, 0).float()[(slice(None), *scan.body)]
    found = label_map_of([inside], (LIVER, SPLEEN), ((0, 1),), scan)
    assert np.array_equal(found.layers[0], np.array([0, 5, 9])[labels[::-1]])


def test_each_group_has_its_layer() -> None:
    scan = prepare_scan(Path("ct"), phantom.image_of(phantom.body()[0]), 3.0)
    scores = torch.zeros(2, 2, *scan.inside.shape)
    scores[0, 1, 10:20], scores[1, 1, 15:25] = 1, 1
    found = label_map_of(list(scores), (LIVER, SPLEEN), ((1,), (0,)), scan)
    assert found.layer_of == (1, 0)
    assert found.has_overlap
    assert set(np.unique(found.layers[0])) == {0, 9}
