"""Corrections of an applied result: which slices they make the user's, in whatever view they were done."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from RegLoRASegmentLib import SceneExport
from RegLoRASegmentLib.AnnotatedSlices import AnnotatedSlices, Mark
from RegLoRASegmentLib.AppliedResult import AppliedResult
from RegLoRASegmentLib.Grid import Block
from RegLoRASegmentLib.SceneExport import UNLABELLED
from RegLoRASegmentLib.SceneImport import Mode, SceneImport

SHAPE = (40, 48, 56)
LIVER = (slice(6, 34), slice(8, 40), slice(6, 30))
SPLEEN = (slice(10, 30), slice(10, 30), slice(36, 50))
PAINTED = [(0, 10), (0, 20)]


class Applied:
    """Two organs that were painted on two axial slices, and then applied in the whole volume."""

    def __init__(self, make, box):
        self.make, self.volume = make, make.volume(SHAPE, np.diag([1.0, 1.0, 1.5, 1.0]))
        self.organs = {"liver": box(SHAPE, *LIVER), "spleen": box(SHAPE, *SPLEEN)}
        axial = box(SHAPE, [10, 20])
        painted = {name: mask & axial for name, mask in self.organs.items()}
        self.segmentation = make.segmentation(self.volume, painted)
        self.apply(self.organs)

    def apply(self, organs):
        result = self.make.segmentation(self.volume, organs, name="Result")
        SceneImport(self.volume, self.segmentation).apply(result, dict.fromkeys(organs, Mode.REPLACE))
        slicer.mrmlScene.RemoveNode(result)

    def mask(self, name="liver"):
        return self.make.mask(self.segmentation, name, self.volume)

    def erase(self, *masks, name="liver"):
        mask = self.mask(name)
        for part in masks:
            mask &= ~part
        self.make.paint(self.segmentation, self.volume, name, mask)

    def paint(self, part, name="liver"):
        self.make.paint(self.segmentation, self.volume, name, self.mask(name) | part)

    @property
    def slices(self):
        return AnnotatedSlices(self.volume, self.segmentation)

    @property
    def places(self):
        return sorted(self.slices.places())


@pytest.fixture
def applied(make, box):
    return Applied(make, box)


def test_what_was_applied_is_not_a_correction(applied):
    assert applied.places == PAINTED
    assert applied.slices.planes() == []


@pytest.mark.parametrize("size", [3, 12])
def test_a_sagittal_correction_counts_its_own_slice_and_none_that_it_crosses(applied, box, size):
    applied.erase(box(SHAPE, slice(15, 15 + size), slice(15, 15 + size), 20))
    assert applied.places == [*PAINTED, (2, 20)]
    assert [row.label for row in applied.slices.rows()] == ["axial 11", "axial 21", "sagittal 21"]


def test_painting_beyond_the_result_counts_as_erasing_does(applied, box):
    applied.paint(box(SHAPE, slice(12, 30), 42, slice(8, 20)))
    assert applied.places == [*PAINTED, (1, 42)]


def test_neighbouring_slices_of_another_orientation_are_all_counted(applied, box):
    applied.erase(box(SHAPE, slice(12, 24), slice(12, 30), [20, 21, 26]))
    assert applied.places == [*PAINTED, (2, 20), (2, 21), (2, 26)]


def test_a_column_corrected_on_many_axial_slices_stays_axial(applied, box):
    applied.erase(box(SHAPE, slice(22, 32), slice(15, 20), slice(10, 15)))
    assert applied.places == [*PAINTED, *((0, index) for index in range(22, 32))]


def test_corrections_that_cross_are_told_apart(applied, box):
    applied.erase(box(SHAPE, 16, slice(12, 30), slice(8, 28)), box(SHAPE, slice(10, 28), slice(14, 28), 18))
    assert applied.places == [(0, 10), (0, 16), (0, 20), (2, 18)]


def test_the_ragged_rim_of_a_stroke_goes_with_the_stroke(applied, box):
    rim = [box(SHAPE, slice(k, k + 2), 8 + k % 3, 20) for k in range(8, 30, 4)]
    applied.erase(*rim)
    assert applied.places == [*PAINTED, (2, 20)]
    applied.erase(box(SHAPE, 26, slice(20, 30), slice(10, 20)))
    assert applied.places == [(0, 10), (0, 20), (0, 26), (2, 20)]


def test_a_removed_island_counts_the_slices_of_the_first_paint(applied, box):
    applied.erase(box(SHAPE, slice(28, 34), slice(8, 20), slice(6, 20)))
    assert applied.places == [*PAINTED, *((0, index) for index in range(28, 34))]


def test_a_correction_on_an_oblique_plane_counts_the_plane_alone(applied, make):
    normal = make.rotation((1, 0, 0), 35)[:3, 2][::-1] * (1.5, 1.0, 1.0)
    places = np.indices(SHAPE) - np.reshape((20, 24, 16), (3, 1, 1, 1))
    distance = np.abs(np.tensordot(normal, places, 1)) / np.abs(normal).max()
    near = (places[1] ** 2 + places[2] ** 2) < 9**2
    erased = (distance <= 0.5) & near
    applied.erase(erased)
    assert applied.places == PAINTED
    (plane,) = applied.slices.planes()
    assert plane.distance(np.argwhere(erased)).max() <= 1
    last = applied.slices.rows()[-1]
    assert (last.label, last.marks["liver"]) == ("oblique 1", Mark.PAINTED)
    assert last.marks["spleen"] is Mark.NOT_PAINTED
    applied.apply(applied.organs)
    assert not applied.mask()[erased].any()
    assert len(applied.slices.planes()) == 1


def test_a_corrected_slice_is_kept_by_the_next_apply(applied, box):
    erased = box(SHAPE, slice(15, 25), slice(15, 30), 20)
    applied.erase(erased)
    again = {name: np.roll(mask, 1, axis=1) for name, mask in applied.organs.items()}
    corrected = applied.mask()
    applied.apply(again)
    expected = again["liver"].copy()
    expected[[10, 20]] = corrected[[10, 20]]
    expected[:, :, 20] = corrected[:, :, 20]
    np.testing.assert_array_equal(applied.mask(), expected)
    assert applied.places == [*PAINTED, (2, 20)]


def test_an_organ_that_was_not_corrected_is_unknown_on_the_others_slice(applied, box):
    applied.erase(box(SHAPE, 15, slice(12, 30), slice(8, 28)))
    slices = applied.slices
    marks = {row.place: row.marks for row in slices.rows()}
    assert marks[0, 15] == {"liver": Mark.PAINTED, "spleen": Mark.NOT_PAINTED}
    assert marks[0, 20] == {"liver": Mark.PAINTED, "spleen": Mark.PAINTED}
    annotation = slices.annotation(["liver", "spleen"])
    assert annotation.annotated == "axial:10,15,20"
    assert annotation.notPainted == {"spleen": [15]}
    applied.apply(applied.organs)
    np.testing.assert_array_equal(applied.mask("spleen"), applied.organs["spleen"])


def test_it_counts_as_painted_once_the_user_says_that_it_is_right(applied, box):
    applied.erase(box(SHAPE, 15, slice(12, 30), slice(8, 28)))
    slices = applied.slices
    slices.setNotPainted("spleen", (0, 15), False)
    assert {row.place: row.marks for row in slices.rows()}[0, 15]["spleen"] is Mark.PAINTED
    assert applied.slices.annotation(["liver", "spleen"]).notPainted == {}
    slices.setNotPainted("spleen", (0, 15))
    assert applied.slices.annotation(["liver", "spleen"]).notPainted == {"spleen": [15]}


def test_of_a_slice_across_the_others_only_what_was_looked_at_is_exported(applied, box, tmp_path):
    erased = box(SHAPE, slice(12, 26), 20, slice(8, 20))
    applied.erase(erased)
    path = tmp_path / "labels.seg.nrrd"
    slices = applied.slices
    for _ in SceneExport.exportPaint(applied.volume, slices, ["liver", "spleen"], path):
        pass
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    painted = box(SHAPE, [10, 20])
    coronal = box(SHAPE, slice(None), 20) & ~painted
    assert (labels[coronal & applied.mask()] == 1).all()
    assert (labels[erased & ~painted] == 0).all()
    assert (labels[coronal & applied.organs["spleen"]] == UNLABELLED).all()
    assert (labels[painted & applied.organs["spleen"]] == 2).all()
    assert (labels[~coronal & ~painted] == UNLABELLED).all()


def test_an_organ_that_is_painted_after_an_apply_does_not_empty_the_others(applied, box):
    segmentId = applied.segmentation.GetSegmentation().AddEmptySegment("cord", "cord")
    cord = box(SHAPE, [12, 25], slice(42, 46), slice(30, 34))
    applied.make.paint(applied.segmentation, applied.volume, segmentId, cord)
    assert applied.places == [(0, 10), (0, 12), (0, 20), (0, 25)]
    applied.apply({**applied.organs, "cord": box(SHAPE, slice(6, 34), slice(42, 46), slice(30, 34))})
    np.testing.assert_array_equal(applied.mask(), applied.organs["liver"])


def test_two_orientations_are_told_apart_in_volumes_of_many_slices(make, box):
    shape = (120, 110, 100)
    volume = make.volume(shape, np.eye(4))
    painted = box(shape, [20, 60, 100], slice(10, 90), slice(10, 90))
    painted |= box(shape, slice(10, 110), slice(10, 90), 50)
    segmentation = make.segmentation(volume, {"liver": painted})
    assert sorted(AnnotatedSlices(volume, segmentation).places()) == [(0, 20), (0, 60), (0, 100), (2, 50)]


def test_a_result_is_the_same_after_being_written_as_text():
    mask = np.random.default_rng(0).random((7, 9, 5)) > 0.5
    for block in (None, Block(mask, (3, 0, 2))):
        again = AppliedResult.fromText(AppliedResult(2, (20, 30, 40), block).toText())
        assert (again.axis, again.shape) == (2, (20, 30, 40))
        if block is not None:
            assert again.block.first == block.first
            np.testing.assert_array_equal(again.block.mask, mask)


def test_a_damaged_text_is_no_result():
    whole = AppliedResult(0, (4, 4, 4), Block(np.ones((2, 2, 2), bool), (0, 0, 0))).toText()
    for text in ("", "0", "7;4 4 4", "0;4 4", "0;4 4 4;0 0 0", whole[:-3], whole.replace("2 2 2", "9 9 9")):
        assert AppliedResult.fromText(text) is None
