"""Paint in oblique slice views: found again, exported, kept by what is applied."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from RegLoRASegmentLib import SceneExport
from RegLoRASegmentLib.AnnotatedSlices import AnnotatedSlices, Mark
from RegLoRASegmentLib.Planes import formatPlanes, parsePlanes
from RegLoRASegmentLib.SceneExport import UNLABELLED
from RegLoRASegmentLib.SceneImport import Mode, SceneImport

SHAPE = (40, 48, 56)
SPACING = (1.5, 2.0, 1.0)  # k, j, i


@pytest.fixture
def volume(make):
    return make.volume(SHAPE, np.diag([SPACING[2], SPACING[1], SPACING[0], 1]))


def ball(center, radius):
    """Return a ball in mm around a voxel."""
    places = np.indices(SHAPE) - np.reshape(center, (3, 1, 1, 1))
    return ((places * np.reshape(SPACING, (3, 1, 1, 1))) ** 2).sum(axis=0) < radius**2


def tilted(make, degrees, center, axis=(1, 0, 0), thickness=0.5):
    """Return the voxels within `thickness` steep steps of a plane through a voxel, in mm."""
    normal = make.rotation(axis, degrees)[:3, 2][::-1]  # k, j, i
    places = np.indices(SHAPE) - np.reshape(center, (3, 1, 1, 1))
    distance = sum(normal[a] * SPACING[a] * places[a] for a in range(3))
    return np.abs(distance) <= thickness * np.abs(normal * SPACING).max() + 1e-9


LIVER, SPLEEN = ball((20, 24, 20), 17), ball((20, 26, 44), 9)


@pytest.mark.parametrize("degrees", [12, 20, 45, 70, -30])
def test_paint_on_a_tilted_plane_is_found(make, volume, degrees):
    plane = tilted(make, degrees, (20, 24, 20))
    segmentation = make.segmentation(volume, {"liver": LIVER & plane, "spleen": SPLEEN & plane})
    slices = AnnotatedSlices(volume, segmentation)
    found = slices.planes()
    assert len(found) == 1
    assert slices.places() == []
    rows = slices.rows()
    assert [row.label for row in rows] == ["oblique 1"]
    assert rows[0].marks == {"liver": Mark.PAINTED, "spleen": Mark.PAINTED}
    places = found[0].indices()
    near = tilted(make, degrees, (20, 24, 20), thickness=1)
    assert near[tuple(places.T)].all()
    assert plane[tuple(places.T)].mean() > 0.75
    assert found[0].distance(np.argwhere((LIVER | SPLEEN) & plane)).max() <= 1
    assert parsePlanes(formatPlanes(found))[0].indices().tolist() == places.tolist()


def test_parallel_planes_are_told_apart(make, volume):
    planes = [tilted(make, 25, (k, 24, 20)) for k in (12, 20, 28)]
    masks = {"liver": LIVER & (planes[0] | planes[1] | planes[2]), "spleen": SPLEEN & planes[1]}
    rows = AnnotatedSlices(volume, make.segmentation(volume, masks)).rows()
    assert len(rows) == 3
    assert [row.marks["liver"] for row in rows] == [Mark.PAINTED] * 3
    assert sorted(row.marks["spleen"].name for row in rows) == ["ABSENT", "ABSENT", "PAINTED"]


def test_slices_and_whole_organs_are_not_taken_for_planes(make, volume):
    kept = np.zeros(SHAPE, bool)
    kept[[9, 10, 11, 20, 21, 30]] = True
    masks = {"liver": LIVER & kept & ~ball((20, 26, 40), 14), "spleen": ball((20, 26, 40), 14)}
    slices = AnnotatedSlices(volume, make.segmentation(volume, masks))
    assert slices.planes() == []
    assert [index for _, index in slices.places()] == [9, 10, 11, 20, 21, 30]


def test_a_line_shows_no_plane(make, volume):
    line = np.zeros(SHAPE, bool)
    line[range(40), range(40), range(40)] = True
    assert AnnotatedSlices(volume, make.segmentation(volume, {"liver": line})).planes() == []


def test_a_damaged_tag_gives_no_planes():
    for text in ("", "1,2,3", "a,b,c,d,0,0,0,1,1,1", "0,0,0,1,0,0,0,1,1,1", "1,1,1,0,0,0,0,1,1"):
        assert parsePlanes(text) == ()


def test_everything_off_the_plane_and_the_slices_is_unlabelled(make, volume, tmp_path):
    plane = tilted(make, 30, (20, 24, 20))
    axial = np.zeros(SHAPE, bool)
    axial[33] = True
    masks = {"liver": LIVER & plane, "spleen": ball((33, 26, 44), 9) & axial}
    segmentation = make.segmentation(volume, masks)
    slices = AnnotatedSlices(volume, segmentation)
    assert slices.places() == [(0, 33)]
    path = tmp_path / "labels.seg.nrrd"
    for _ in SceneExport.exportPaint(volume, slices, ["liver", "spleen"], path):
        pass
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    assert (labels[masks["liver"]] == 1).all()
    assert (labels[masks["spleen"]] == 2).all()
    known = labels != UNLABELLED
    assert known[33].all()
    off = known & ~axial
    assert not (off & ~tilted(make, 30, (20, 24, 20), thickness=1)).any()
    assert (labels[off & ~masks["liver"]] == 0).all()
    assert off.sum() > 1.3 * masks["liver"].sum()  # background around the paint
    job = SceneExport.adaptJob(tmp_path, slices, ["liver", "spleen"])
    assert (job.annotated, job.ignore_label) == (("all",), UNLABELLED)


def test_what_is_applied_leaves_the_plane_as_it_was_painted(make, volume):
    plane = tilted(make, 30, (20, 24, 20))
    painted = LIVER & plane & ~ball((20, 24, 20), 5)  # with a hole that the prediction fills
    segmentation = make.segmentation(volume, {"liver": painted})
    result = make.segmentation(volume, {"liver": LIVER}, name="Result")
    known = AnnotatedSlices(volume, segmentation).planes()
    SceneImport(volume, segmentation).apply(result, {"liver": Mode.REPLACE})
    on = np.zeros(SHAPE, bool)
    on[tuple(known[0].indices().T)] = True
    after = make.mask(segmentation, "liver", volume)
    np.testing.assert_array_equal(after[on], painted[on])
    np.testing.assert_array_equal(after[~on & ~plane], LIVER[~on & ~plane])
    again = AnnotatedSlices(volume, segmentation)
    assert again.planes()[0].indices().tolist() == known[0].indices().tolist()
    np.testing.assert_array_equal(again.paints[0].block.whole(SHAPE) & on, painted & on)
    assert [row.marks for row in again.rows()] == [{"liver": Mark.PAINTED}]


def test_a_click_turns_a_view_into_the_plane(make, volume):
    from RegLoRASegmentLib import Plans
    from RegLoRASegmentLib.Grid import arrayOf

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSliceNode", "Red")
    node.SetOrientationToAxial()
    plane = tilted(make, 30, (20, 24, 20))
    slices = AnnotatedSlices(volume, make.segmentation(volume, {"liver": LIVER & plane}))
    Plans.turnViewTo(slices.planes()[0], slices.grid)
    toRas = arrayOf(node.GetSliceToRAS())
    normal = make.rotation((1, 0, 0), 30)[:3, 2]
    assert abs(toRas[:3, 2] @ normal) > np.cos(np.radians(1))
    middle = np.multiply((20, 24, 20), SPACING)[::-1]
    assert abs((toRas[:3, 3] - middle) @ normal) < 0.8
    np.testing.assert_allclose(toRas[:3, :3].T @ toRas[:3, :3], np.eye(3), atol=1e-6)
