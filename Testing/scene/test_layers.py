"""Layers: what the undo state is made of, and how a segment leaves a layer that it shares."""

import numpy as np
import pytest
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from RegLoRASegmentLib.Layers import TightLayers, leaveLayer, shareLayerSteps

SHAPE = (16, 24, 30)
ORGANS = ("liver", "spleen", "mine")


@pytest.fixture
def masks(box):
    return {
        "liver": box(SHAPE, [4, 10], slice(2, 12), slice(4, 20)),
        "spleen": box(SHAPE, [4, 10], slice(13, 18), slice(4, 20)),
        "mine": box(SHAPE, 12, slice(8, 22), slice(2, 28)),
    }


@pytest.fixture
def volume(make):
    return make.volume(SHAPE, make.rotation((1, 2, 3), 17) @ np.diag([0.7, 0.9, 2.5, 1]))


@pytest.fixture
def wide(make, volume, masks):
    """Return three organs on layers of their own, each as large as the volume."""
    node = make.segmentation(volume, {})
    for name, mask in masks.items():
        segmentId = node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentId, volume)
    assert node.GetSegmentation().GetNumberOfLayers() == len(masks)
    return node


def layerOf(node, name):
    return node.GetSegmentation().GetSegment(name).GetRepresentation("Binary labelmap")


def voxelsOf(node, name):
    return vtk_to_numpy(layerOf(node, name).GetPointData().GetScalars())


def saveCut(node, logic):
    layers = TightLayers(node)
    for _ in layers.cutSteps():
        pass
    with layers.inPlace():
        logic.SaveStateForUndo()


def matrixOf(image):
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return [matrix.GetElement(row, column) for row in range(4) for column in range(4)]


def test_a_saved_state_holds_the_boxes_of_the_layers_and_every_voxel(make, volume, masks, wide):
    logic, _ = make.editor(wide, volume)
    geometry = {name: (matrixOf(layerOf(wide, name)), voxelsOf(wide, name).dtype) for name in ORGANS}
    saveCut(wide, logic)
    for name in ORGANS:
        voxelsOf(wide, name)[:] = 0
        layerOf(wide, name).Modified()
    logic.Undo()
    for name, mask in masks.items():
        np.testing.assert_array_equal(make.mask(wide, name, volume), mask)
        assert (matrixOf(layerOf(wide, name)), voxelsOf(wide, name).dtype) == geometry[name]
    assert layerOf(wide, "liver").GetExtent() == (4, 19, 2, 11, 4, 10)
    assert layerOf(wide, "mine").GetExtent() == (2, 27, 8, 21, 12, 12)


def test_saving_leaves_the_segments_on_the_very_same_layers(make, volume, wide):
    logic, _ = make.editor(wide, volume)
    layers = [layerOf(wide, name) for name in ORGANS]
    before = [
        (image.GetMTime(), image.GetExtent(), voxelsOf(wide, n).tobytes())
        for image, n in zip(layers, ORGANS, strict=True)
    ]
    saveCut(wide, logic)
    assert all(layerOf(wide, name) is image for name, image in zip(ORGANS, layers, strict=True))
    assert before == [
        (image.GetMTime(), image.GetExtent(), voxelsOf(wide, n).tobytes())
        for image, n in zip(layers, ORGANS, strict=True)
    ]


def test_segments_that_share_a_layer_share_it_in_the_saved_state(make, volume, masks):
    node = make.segmentation(volume, {"liver": masks["liver"], "spleen": masks["spleen"]})
    assert layerOf(node, "liver") is layerOf(node, "spleen")
    logic, _ = make.editor(node, volume)
    saveCut(node, logic)
    logic.Undo()
    assert layerOf(node, "liver") is layerOf(node, "spleen")
    for name in ("liver", "spleen"):
        np.testing.assert_array_equal(make.mask(node, name, volume), masks[name])


def test_a_layer_that_is_painted_on_meanwhile_is_saved_as_it_is_then(make, volume, masks, wide):
    logic, _ = make.editor(wide, volume)
    layers = TightLayers(wide)
    for _ in layers.cutSteps():
        pass
    painted = masks["liver"].copy()
    painted[7, 3:6, 3:9] = True
    make.paint(wide, volume, "liver", painted)
    with layers.inPlace():
        logic.SaveStateForUndo()
    make.paint(wide, volume, "liver", np.zeros(SHAPE, bool))
    logic.Undo()
    np.testing.assert_array_equal(make.mask(wide, "liver", volume), painted)
    np.testing.assert_array_equal(make.mask(wide, "mine", volume), masks["mine"])


def test_the_layers_come_back_when_saving_fails(wide):
    layers = TightLayers(wide)
    for _ in layers.cutSteps():
        pass
    before = [layerOf(wide, name) for name in ORGANS]
    with pytest.raises(RuntimeError), layers.inPlace():
        raise RuntimeError
    assert all(layerOf(wide, name) is image for name, image in zip(ORGANS, before, strict=True))


def test_leaving_a_layer_erases_one_segment_and_keeps_the_others_surfaces(make, volume, masks):
    node = make.segmentation(volume, {"liver": masks["liver"], "spleen": masks["spleen"]})
    layer = layerOf(node, "liver")
    assert layer is layerOf(node, "spleen")
    assert node.CreateClosedSurfaceRepresentation()
    segmentation = node.GetSegmentation()
    surface = segmentation.GetSegment("spleen").GetRepresentation("Closed surface")
    expected = voxelsOf(node, "spleen").copy()
    expected[expected == segmentation.GetSegment("liver").GetLabelValue()] = 0
    leaveLayer(segmentation, "liver")
    assert layerOf(node, "spleen") is layer
    np.testing.assert_array_equal(voxelsOf(node, "spleen"), expected)
    assert segmentation.GetSegment("spleen").GetRepresentation("Closed surface") is surface


def test_an_undo_state_saved_after_leaving_a_layer_knows_of_it(make, volume, masks):
    node = make.segmentation(volume, {name: masks[name] for name in ORGANS})
    segmentation = node.GetSegmentation()
    logic, _ = make.editor(node, volume)
    logic.SaveStateForUndo()
    segmentValue = segmentation.GetSegment("liver").GetLabelValue()
    leaveLayer(segmentation, "liver")
    own = slicer.vtkOrientedImageData()
    own.DeepCopy(layerOf(node, "mine"))
    segmentation.GetSegment("liver").AddRepresentation("Binary labelmap", own)
    logic.SaveStateForUndo()
    make.paint(node, volume, "spleen", np.zeros(SHAPE, bool))
    logic.Undo()
    assert voxelsOf(node, "spleen").any()
    assert segmentValue not in voxelsOf(node, "spleen")


def test_segments_that_do_not_overlap_come_together_on_a_new_layer(make, volume, masks, wide):
    make.add(wide, volume, "other", masks["mine"])
    other = layerOf(wide, "other")
    for _ in shareLayerSteps(wide, list(ORGANS)):
        pass
    assert layerOf(wide, "liver") is layerOf(wide, "spleen") is layerOf(wide, "mine")
    assert layerOf(wide, "other") is other
    for name, mask in {**masks, "other": masks["mine"]}.items():
        np.testing.assert_array_equal(make.mask(wide, name, volume), mask)


def test_the_common_layer_reaches_from_the_first_to_the_last_voxel_of_cut_layers(make, volume, masks, wide):
    logic, _ = make.editor(wide, volume)
    saveCut(wide, logic)
    logic.Undo()
    for _ in shareLayerSteps(wide, ["mine", "liver"]):
        pass
    assert layerOf(wide, "liver") is layerOf(wide, "mine")
    assert layerOf(wide, "liver").GetExtent() == (2, 27, 2, 21, 4, 12)
    for name, mask in masks.items():
        np.testing.assert_array_equal(make.mask(wide, name, volume), mask)


def test_segments_that_overlap_keep_layers_of_their_own(make, volume, masks):
    node = make.segmentation(volume, {})
    wanted = {**masks, "over": masks["liver"] | masks["spleen"]}
    for name, mask in wanted.items():
        segmentId = node.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, segmentId, volume)
    for _ in shareLayerSteps(node, list(wanted)):
        pass
    assert node.GetSegmentation().GetNumberOfLayers() == 2
    for name, mask in wanted.items():
        np.testing.assert_array_equal(make.mask(node, name, volume), mask)


def test_layers_that_are_painted_on_meanwhile_are_left_as_they_are(make, volume, masks, wide):
    painted = masks["liver"].copy()
    painted[7, 3:6, 3:9] = True
    steps = shareLayerSteps(wide, list(ORGANS))
    next(steps)
    make.paint(wide, volume, "liver", painted)
    for _ in steps:
        pass
    assert wide.GetSegmentation().GetNumberOfLayers() == 3
    np.testing.assert_array_equal(make.mask(wide, "liver", volume), painted)
