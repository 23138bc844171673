"""Annotations: which slices count as painted, and what they say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np  # noqa: TID253
import phantom
import pytest
import torch  # noqa: TID253

from reglora_core.annotation import (
    UNLABELLED,
    Annotation,
    annotation_of,
    detect_axis,
    native_slice,
)
from reglora_core.errors import InputError
from reglora_core.grids import Orientation
from reglora_core.job import Annotated
from reglora_core.organs import organ
from reglora_core.volumes import LabelMap

LPS = Orientation((0, 1, 2), (False, False, False))
LIVER, SPLEEN = organ(1, "liver"), organ(2, "spleen")


def label_map(labels: np.ndarray, ignored: np.ndarray | None = None) -> LabelMap:
    return LabelMap((LIVER, SPLEEN), (labels.astype(np.uint16),), (0, 0), ignored)


def annotate(
    labels: np.ndarray,
    annotated: str = "auto",
    orientation: Orientation = LPS,
    not_painted: Mapping[str, Sequence[int]] | None = None,
) -> Annotation:
    return annotation_of(label_map(labels), orientation, Annotated.parse(annotated), not_painted)


@pytest.fixture
def labels() -> np.ndarray:
    return phantom.body()[1]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("slices", [(20,), (18, 24), (16, 20, 24, 28), (18, 19, 28, 29)])
def test_the_axis_of_painted_slices_is_found(
    labels: np.ndarray, axis: int, slices: tuple[int, ...]
) -> None:
    own = annotate(phantom.on_slices(labels, slices, axis))
    assert (own.axis, own.slices) == (axis, slices)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_axis_of_adjacent_slices_is_that_of_the_fewest(labels: np.ndarray, axis: int) -> None:
    slices = tuple(range(28, 34))
    own = annotate(phantom.on_slices(labels, slices, axis))
    assert (own.axis, own.slices) == (axis, slices)


def test_a_whole_volume_painted_counts_on_every_slice_with_paint(labels: np.ndarray) -> None:
    own = annotate(labels)
    planes = np.moveaxis(labels, own.axis, 0)
    assert own.slices == tuple(k for k in range(phantom.SIZE) if planes[k].any())


def test_two_small_kidneys_do_not_hide_the_axis() -> None:
    labels = np.zeros((48, 48, 48), np.uint8)
    labels[phantom.ellipsoid((24, 30, 12), (12, 5, 4))] = 1
    labels[phantom.ellipsoid((22, 30, 36), (12, 5, 4))] = 2
    assert detect_axis(phantom.on_slices(labels, (14, 20, 26, 32)) > 0) == 0


def test_a_single_painted_line_has_an_axis() -> None:
    painted = np.zeros((10, 10, 10), bool)
    painted[4, 3, 2:8] = True
    assert detect_axis(painted) in (0, 1)


def test_all_means_every_slice_of_the_volume(labels: np.ndarray) -> None:
    own = annotate(phantom.on_slices(labels, (20,)), "all")
    assert own.slices == tuple(range(phantom.SIZE))
    assert own.slices_of(0) == [20]


def test_slices_can_be_given_and_one_of_them_may_be_empty(labels: np.ndarray) -> None:
    own = annotate(phantom.on_slices(labels, (20, 30)), "axial:1,20")
    assert (own.axis, own.slices) == (0, (1, 20))
    assert own.slices_of(0) == own.slices_of(1) == [1]


@pytest.mark.parametrize(("text", "axis"), [("axial", 0), ("coronal", 1), ("sagittal", 2)])
def test_given_slices_of_a_flipped_file_count_as_in_the_file(
    labels: np.ndarray, text: str, axis: int
) -> None:
    flipped = Orientation((0, 1, 2), (True, True, True))
    native = phantom.on_slices(np.flip(labels), (17, 22), axis)
    own = annotate(native, f"{text}:17,22", flipped)
    assert own.axis == axis
    assert own.slices == (47 - 22, 47 - 17)
    assert [native_slice(own, flipped, k) for k in own.slices] == [22, 17]
    expected = np.moveaxis(labels, axis, 0)[[47 - 22, 47 - 17]]
    assert np.array_equal(own.layers[0].numpy(), expected)


def test_given_slices_of_a_transposed_file_run_along_the_files_axis(labels: np.ndarray) -> None:
    transposed = Orientation((2, 0, 1), (False, False, False))  # native z is canonical y
    own = annotate(labels.transpose(1, 2, 0), "coronal:20", transposed)
    assert (own.axis, own.slices) == (1, (20,))
    assert np.array_equal(own.layers[0][0].numpy(), labels[:, 20])


def test_a_slice_outside_the_image_is_named(labels: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"slice 48 .*axial slices are 0 to 47"):
        annotate(labels, "axial:3,48")


def test_given_slices_without_paint_are_refused(labels: np.ndarray) -> None:
    with pytest.raises(InputError, match="nothing is painted on axial:1"):
        annotate(phantom.on_slices(labels, (20,)), "axial:1")


def test_an_organ_is_unknown_where_it_is_not_painted_yet(labels: np.ndarray) -> None:
    own = annotate(phantom.on_slices(labels, (16, 24)), not_painted={"spleen": [24, 40]})
    assert own.is_known.tolist() == [[True, True], [True, False]]


def test_not_painted_yet_counts_slices_as_in_the_file(labels: np.ndarray) -> None:
    flipped = Orientation((0, 1, 2), (True, False, False))
    native = phantom.on_slices(labels[::-1], (16, 24))
    own = annotate(native, orientation=flipped, not_painted={"liver": [16]})
    assert own.slices == (47 - 24, 47 - 16)
    assert own.is_known.tolist() == [[True, False], [True, True]]


def test_not_painted_yet_of_an_unknown_organ_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"'kidney' .*liver, spleen"):
        annotate(labels, not_painted={"kidney": [3]})


def test_ignored_voxels_are_unlabelled(labels: np.ndarray) -> None:
    ignored = np.zeros(labels.shape, bool)
    ignored[20, :4] = True
    own = annotation_of(
        label_map(phantom.on_slices(labels, (20, 30)), ignored), LPS, Annotated.parse("auto")
    )
    assert (own.layers[0][0, :4] == UNLABELLED).all()
    assert int((own.layers[0] == UNLABELLED).sum()) == 4 * 48


def test_organs_are_numbered_by_their_place_whatever_their_value() -> None:
    layer = np.zeros((6, 6, 6), np.uint16)
    layer[2, 1, 1], layer[2, 3, 3] = 700, 5
    own = annotation_of(
        LabelMap((organ(5, "liver"), organ(700, "spleen")), (layer,), (0, 0)),
        LPS,
        Annotated.parse("axial:2"),
    )
    assert int(own.layers[0][0, 3, 3]) == 1
    assert int(own.layers[0][0, 1, 1]) == 2


def test_overlapping_organs_keep_their_layers() -> None:
    first, second = np.zeros((2, 8, 8, 8), np.uint16)
    first[3, 2:6, 2:6], second[3, 4:7, 4:7] = 1, 2
    own = annotation_of(
        LabelMap((LIVER, SPLEEN), (first, second), (0, 1)), LPS, Annotated.parse("auto")
    )
    assert [own.organs_of(0), own.organs_of(1)] == [[0], [1]]
    assert np.array_equal(own.layers[0][0].numpy() == 1, first[3] == 1)
    assert np.array_equal(own.layers[1][0].numpy() == 2, second[3] == 2)


def test_an_annotation_can_be_reduced_to_some_slices(labels: np.ndarray) -> None:
    own = annotate(phantom.on_slices(labels, (16, 20, 24)), not_painted={"spleen": [24]})
    fewer = own.on_slices([0, 2])
    assert fewer.slices == (16, 24)
    assert torch.equal(fewer.layers[0], own.layers[0][[0, 2]])
    assert fewer.is_known.tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_points_of_the_stack_are_points_of_the_volume(labels: np.ndarray, axis: int) -> None:
    own = annotate(phantom.on_slices(labels, (18, 25), axis))
    index = (own.layers[0] == 2).nonzero()
    z, y, x = own.points(index).unbind(1)
    assert len(index) == np.count_nonzero(phantom.on_slices(labels, (18, 25), axis) == 2)
    assert (labels[z, y, x] == 2).all()
