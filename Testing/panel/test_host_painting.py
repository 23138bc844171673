"""Real mouse events on a slice view change exactly the voxels under the brush."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))
pytest_plugins = "slicerhost.pytest_plugin"

# Voxels within 2.45 voxels of the middle one, in a plane: 21 of them.
DISC = np.array(
    [
        [0, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1],
        [0, 1, 1, 1, 0],
    ]
)
SHAPE = (12, 14, 16)  # k, j, i


class Scene:
    """A volume with an empty segment, and an editor that paints with a brush of known size."""

    def __init__(self, host, direction=None, spacing=(2, 2, 2)):
        import slicer

        self.host, self.slicer = host, slicer
        self.to_ras = np.eye(4)
        self.to_ras[:3, :3] = (np.eye(3) if direction is None else direction) * spacing
        self.to_ras[:3, 3] = (-10, 20, 30)
        self.volume = slicer.util.addVolumeFromArray(np.zeros(SHAPE, np.int16), self.to_ras, "scan")
        self.volume.CreateDefaultDisplayNodes()
        self.segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
        self.segmentation.CreateDefaultDisplayNodes()
        self.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(self.volume)
        self.add_segment("liver")
        self.editor = self._editor()
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)

    def add_segment(self, name):
        return self.segmentation.GetSegmentation().AddEmptySegment(name, name, (0, 1, 0))

    def ras(self, *ijk):
        return (self.to_ras @ [*ijk, 1])[:3]

    def voxels(self, segment="liver"):
        array = self.slicer.util.arrayFromSegmentBinaryLabelmap(self.segmentation, segment, self.volume)
        return np.zeros(SHAPE, np.uint8) if array is None else array

    def use(self, effect, diameter=9.8):
        self.editor.setActiveEffectByName(effect)
        self.editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
        self.editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", diameter)

    def slice_node(self, view):
        return self.slicer.app.layoutManager().sliceWidget(view).mrmlSliceNode()

    def _editor(self):
        editor = self.slicer.qMRMLSegmentEditorWidget()
        editor.setMRMLScene(self.slicer.mrmlScene)
        node = self.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        node.SetOverwriteMode(node.OverwriteNone)
        editor.setMRMLSegmentEditorNode(node)
        editor.setSegmentationNode(self.segmentation)
        editor.setSourceVolumeNode(self.volume)
        editor.setCurrentSegmentID("liver")
        return editor


@pytest.fixture
def a_scene(host):
    scenes = []

    def make(**options):
        scenes.append(Scene(host, **options))
        return scenes[-1]

    yield make
    for scene in scenes:
        scene.editor.removeViewObservations()
        scene.editor.setMRMLSegmentEditorNode(None)


def _rotation(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


@pytest.mark.parametrize(
    ("view", "place"),
    [
        ("Red", (5, slice(5, 10), slice(6, 11))),
        ("Green", (slice(3, 8), 7, slice(6, 11))),
        ("Yellow", (slice(3, 8), slice(5, 10), 8)),
    ],
)
def test_a_click_paints_a_disc_one_slice_thick(a_scene, view, place):
    scene = a_scene()
    scene.use("Paint")

    scene.host.paint(view, [scene.ras(8, 7, 5)])

    expected = np.zeros(SHAPE, np.uint8)
    expected[place] = DISC
    np.testing.assert_array_equal(scene.voxels(), expected)


def test_on_an_oblique_volume_the_disc_lies_in_the_volumes_own_slice(a_scene):
    scene = a_scene(direction=_rotation(25))
    scene.slice_node("Red").RotateToVolumePlane(scene.volume)
    scene.use("Paint")

    scene.host.paint("Red", [scene.ras(8, 7, 5)])

    expected = np.zeros(SHAPE, np.uint8)
    expected[5, 5:10, 6:11] = DISC
    np.testing.assert_array_equal(scene.voxels(), expected)


def test_on_an_anisotropic_flipped_volume_the_disc_is_round_in_millimetres(a_scene):
    scene = a_scene(direction=np.diag([-1, 1, -1]), spacing=(1, 2, 3))
    scene.use("Paint", diameter=4.6)

    scene.host.paint("Red", [scene.ras(8, 7, 5)])

    expected = np.zeros(SHAPE, np.uint8)
    expected[5, 6:9, 6:11] = [[0, 1, 1, 1, 0], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]]
    np.testing.assert_array_equal(scene.voxels(), expected)


def test_an_oblique_view_paints_the_voxels_of_its_plane(a_scene):
    scene = a_scene()
    node = scene.slice_node("Red")
    diagonal = np.sqrt(0.5)
    axes = np.array([[1, 0, 0], [0, diagonal, -diagonal], [0, diagonal, diagonal]])
    for row in range(3):
        for column in range(3):
            node.GetSliceToRAS().SetElement(row, column, axes[row, column])
    node.UpdateMatrices()
    scene.use("Paint", diameter=9.0)

    scene.host.paint("Red", [scene.ras(8, 7, 5)])

    # The plane holds the voxels with equal steps along j and k, 2 * sqrt(2) mm apart.
    expected = np.zeros(SHAPE, np.uint8)
    expected[5, 7, 6:11] = 1
    expected[4, 6, 7:10] = expected[6, 8, 7:10] = 1
    np.testing.assert_array_equal(scene.voxels(), expected)


def test_a_drag_paints_every_voxel_on_its_way(a_scene):
    scene = a_scene()
    scene.use("Paint", diameter=1.0)

    scene.host.paint("Red", [scene.ras(3, 4, 6), scene.ras(11, 4, 6)])

    expected = np.zeros(SHAPE, np.uint8)
    expected[6, 4, 3:12] = 1
    np.testing.assert_array_equal(scene.voxels(), expected)


def test_erase_takes_away_what_paint_has_put(a_scene):
    scene = a_scene()
    scene.use("Paint")
    scene.host.paint("Red", [scene.ras(8, 7, 5)])
    scene.use("Erase", diameter=1.0)

    scene.host.paint("Red", [scene.ras(8, 7, 5)])

    expected = np.zeros(SHAPE, np.uint8)
    expected[5, 5:10, 6:11] = DISC
    expected[5, 7, 8] = 0
    np.testing.assert_array_equal(scene.voxels(), expected)


def test_a_sphere_brush_paints_several_slices(a_scene):
    scene = a_scene()
    scene.use("Paint", diameter=5.0)
    scene.editor.activeEffect().setCommonParameter("BrushSphere", 1)

    scene.host.paint("Red", [scene.ras(8, 7, 5)])

    cross = np.zeros((3, 3, 3), np.uint8)
    cross[1, 1, :] = cross[1, :, 1] = cross[:, 1, 1] = 1
    expected = np.zeros(SHAPE, np.uint8)
    expected[4:7, 6:9, 7:10] = cross
    np.testing.assert_array_equal(scene.voxels(), expected)


def test_undo_takes_back_one_stroke_and_redo_brings_it_again(a_scene):
    scene = a_scene()
    scene.use("Paint", diameter=1.0)
    scene.host.paint("Red", [scene.ras(2, 2, 2)])
    scene.host.paint("Red", [scene.ras(5, 5, 5)])

    scene.editor.undo()
    after_undo = scene.voxels().sum()
    scene.editor.redo()

    assert after_undo == 1
    assert scene.voxels().sum() == 2


def test_masking_of_the_editor_node_is_honoured(a_scene):
    scene = a_scene()
    scene.add_segment("kidney")
    scene.use("Paint", diameter=1.0)
    scene.host.paint("Red", [scene.ras(5, 5, 5)])
    scene.editor.setCurrentSegmentID("kidney")
    node = scene.editor.mrmlSegmentEditorNode()
    node.SetMaskMode(scene.slicer.vtkMRMLSegmentationNode.EditAllowedOutsideAllSegments)

    scene.host.paint("Red", [scene.ras(3, 5, 5), scene.ras(7, 5, 5)])

    assert np.argwhere(scene.voxels("kidney"))[:, 2].tolist() == [3, 4, 6, 7]
    assert np.argwhere(scene.voxels("liver")).tolist() == [[5, 5, 5]]


def test_painting_in_a_transformed_segmentation_follows_the_transform(a_scene):
    scene = a_scene()
    transform = scene.slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    shift = np.eye(4)
    shift[:3, 3] = (4, 0, 0)
    transform.SetMatrixTransformToParent(scene.slicer.util.vtkMatrixFromArray(shift))
    scene.volume.SetAndObserveTransformNodeID(transform.GetID())
    scene.segmentation.SetAndObserveTransformNodeID(transform.GetID())
    scene.use("Paint", diameter=1.0)

    scene.host.paint("Red", [scene.ras(7, 5, 5)])

    assert np.argwhere(scene.voxels())[:, ::-1].tolist() == [[5, 5, 5]]


def test_without_an_active_effect_the_mouse_paints_nothing(a_scene):
    scene = a_scene()

    scene.host.paint("Red", [scene.ras(3, 5, 5), scene.ras(7, 5, 5)])

    assert scene.voxels().sum() == 0


def test_while_painting_the_view_does_not_change_its_window_level(a_scene):
    scene = a_scene()
    display = scene.volume.GetDisplayNode()
    before = (display.GetWindow(), display.GetLevel())
    scene.use("Paint")

    scene.host.paint("Red", [scene.ras(3, 5, 5), scene.ras(7, 9, 5)])

    assert (display.GetWindow(), display.GetLevel()) == before


def test_a_point_outside_the_view_is_refused(a_scene):
    scene = a_scene()

    with pytest.raises(ValueError, match="is not visible in Red"):
        scene.host.paint("Red", [[500, 0, 0]])


def test_an_effect_that_the_host_does_not_have_is_refused(a_scene):
    with pytest.raises(ValueError, match="no segment editor effect 'Scissors'"):
        a_scene().editor.setActiveEffectByName("Scissors")
