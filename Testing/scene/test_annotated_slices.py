"""Which slices count as annotated, in whatever orientation they were painted."""

import zlib

import numpy as np
import pytest

from RegLoRASegmentLib.AnnotatedSlices import AnnotatedSlices, Mark
from RegLoRASegmentLib.Grid import Block
from RegLoRASegmentLib.Paint import checksums

SHAPE = (40, 48, 56)
ORGAN = (slice(6, 34), slice(10, 40), slice(12, 50))


@pytest.fixture
def draw(box):
    """Return a function that draws an organ on some slices of one axis."""

    def on(axis, *indices):
        planes = np.zeros(SHAPE, bool)
        np.moveaxis(planes, axis, 0)[list(indices)] = True
        return box(SHAPE, *ORGAN) & planes

    return on


@pytest.mark.parametrize(("axis", "name"), [(0, "axial"), (1, "coronal"), (2, "sagittal")])
def test_slices_are_found_in_every_orientation(make, draw, axis, name):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {"liver": draw(axis, 14, 15, 30)})
    slices = AnnotatedSlices(volume, segmentation)
    assert slices.places() == [(axis, 14), (axis, 15), (axis, 30)]
    assert [row.label for row in slices.rows()] == [f"{name} 15", f"{name} 16", f"{name} 31"]
    assert slices.annotation(["liver"]).annotated == f"{name}:14,15,30"


def test_a_volume_with_swapped_axes_names_its_slices_by_the_body(make, draw):
    toRas = np.zeros((4, 4))
    toRas[1, 0] = toRas[2, 1] = 1.0  # i to the front, j up
    toRas[0, 2], toRas[3, 3] = -3.0, 1.0  # k to the left
    volume = make.volume(SHAPE, toRas)
    segmentation = make.segmentation(volume, {"liver": draw(0, 20)})
    assert AnnotatedSlices(volume, segmentation).rows()[0].label == "sagittal 21"


def test_slices_of_two_orientations_are_told_apart(make, draw):
    volume = make.volume(SHAPE)
    painted = draw(0, 10, 11, 25) | draw(2, 30)
    segmentation = make.segmentation(volume, {"liver": painted})
    slices = AnnotatedSlices(volume, segmentation)
    assert slices.places() == [(0, 10), (0, 11), (0, 25), (2, 30)]


def test_a_small_organ_follows_the_orientation_of_the_others(make, draw, box):
    volume = make.volume(SHAPE)
    cord = box(SHAPE, slice(12, 19), slice(20, 24), slice(20, 24))  # 7 adjacent slices
    segmentation = make.segmentation(volume, {"liver": draw(0, 8, 15, 18, 30), "cord": cord})
    slices = AnnotatedSlices(volume, segmentation)
    assert slices.axis == 0
    assert {axis for axis, _ in slices.places()} == {0}


def test_a_row_tells_painted_from_absent_and_not_painted_yet(make, draw):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {"liver": draw(0, 10, 20), "spleen": draw(0, 20)})
    slices = AnnotatedSlices(volume, segmentation)
    first, second = slices.rows()
    assert first.marks == {"liver": Mark.PAINTED, "spleen": Mark.ABSENT}
    assert second.marks == {"liver": Mark.PAINTED, "spleen": Mark.PAINTED}
    slices.setNotPainted("spleen", (0, 10))
    assert slices.rows()[0].marks["spleen"] is Mark.NOT_PAINTED
    assert slices.annotation(["liver", "spleen"]).notPainted == {"spleen": [10]}
    again = AnnotatedSlices(volume, segmentation)  # the mark lives in the segmentation
    assert again.rows()[0].marks["spleen"] is Mark.NOT_PAINTED
    slices.setNotPainted("spleen", (0, 10), False)
    assert slices.rows()[0].marks["spleen"] is Mark.ABSENT


def test_update_of_one_segment_sees_its_new_paint_and_removed_segments(make, draw):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {"liver": draw(0, 10), "spleen": draw(0, 20)})
    slices = AnnotatedSlices(volume, segmentation)
    make.paint(segmentation, volume, "liver", draw(0, 10, 30))
    slices.update("liver")
    assert slices.places() == [(0, 10), (0, 20), (0, 30)]
    segmentation.GetSegmentation().RemoveSegment("spleen")
    slices.update("spleen")
    assert slices.places() == [(0, 10), (0, 30)]


def test_the_next_slice_is_the_middle_of_the_widest_gap(make, draw):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {"liver": draw(0, 8, 12, 30)})
    slices = AnnotatedSlices(volume, segmentation)
    assert slices.suggestNext() == (0, 21)
    make.paint(segmentation, volume, "liver", draw(0, 8, 12, 21, 30))
    slices.update()
    assert slices.suggestNext()[1] in (16, 25)


def test_beyond_the_painted_slices_it_goes_outwards_in_small_steps(make, draw):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {"liver": draw(0, 10, 11)})
    assert AnnotatedSlices(volume, segmentation).suggestNext() == (0, 16)


def test_the_first_slice_suggested_is_the_middle_of_the_volume(make):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {})
    slices = AnnotatedSlices(volume, segmentation)
    assert slices.suggestNext() == (0, 20)
    assert slices.rows() == []


def test_a_segmentation_on_a_finer_grid_is_read_on_the_volumes_slices(make):
    volume = make.volume((20, 24, 28), np.diag([2.0, 2.0, 2.0, 1.0]))
    fine = make.volume(SHAPE, np.eye(4), name="Fine")
    mask = np.zeros(SHAPE, bool)
    mask[20, 10:30, 10:30] = True
    segmentation = make.segmentation(fine, {"liver": mask})
    assert AnnotatedSlices(volume, segmentation).places() == [(0, 10)]


def test_an_organ_segmented_throughout_is_left_out_beside_painted_slices(make, draw, box):
    volume = make.volume(SHAPE)
    body = box(SHAPE, slice(1, 39), slice(2, 46), slice(2, 54))
    segmentation = make.segmentation(volume, {"liver": draw(0, 10, 20), "body": body})
    slices = AnnotatedSlices(volume, segmentation)
    assert slices.places() == [(0, 10), (0, 20)]
    assert [paint.name for paint in slices.leftOut()] == ["body"]
    slices.setUsed("body", True)
    assert len(slices.places()) == 38
    assert AnnotatedSlices(volume, segmentation).leftOut() == []


def test_organs_that_are_all_segmented_throughout_are_used(make, box):
    volume = make.volume(SHAPE)
    body = box(SHAPE, slice(1, 39), slice(2, 46), slice(2, 54))
    segmentation = make.segmentation(volume, {"body": body})
    assert len(AnnotatedSlices(volume, segmentation).places()) == 38


def test_organs_on_several_slices_are_not_taken_for_oblique(make, draw, box):
    volume = make.volume(SHAPE)
    masks = {"liver": draw(0, 10, 20), "spleen": draw(2, 20, 21), "cord": draw(1, 12)}
    masks["body"] = box(SHAPE, slice(1, 39), slice(2, 46), slice(2, 54))
    segmentation = make.segmentation(volume, masks)
    assert AnnotatedSlices(volume, segmentation).planes() == []


@pytest.mark.parametrize(
    ("axis", "expected"), [(0, {7: [2 * 10 + 3, 2 * 10 + 5]}), (2, {3: [7 * 8 + 2], 5: [7 * 8 + 2]})]
)
def test_a_slices_checksum_is_of_its_voxels_numbers(axis, expected):
    """Scenes that were saved carry them: what they are of must not change."""
    mask = np.zeros((1, 1, 3), bool)
    mask[0, 0, [0, 2]] = True
    sums = checksums(Block(mask, (7, 2, 3)), axis, (12, 8, 10))
    assert sums == {index: zlib.crc32(np.array(places, "<i4")) for index, places in expected.items()}
