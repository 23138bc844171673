"""Scene -> files, read back with SimpleITK and the core's own reader's rules."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer

from reglora_core.errors import InputError
from reglora_core.job import read_job
from RegLoRASegmentLib import SceneExport
from RegLoRASegmentLib.AnnotatedSlices import AnnotatedSlices
from RegLoRASegmentLib.SceneExport import UNLABELLED

SHAPE = (12, 20, 30)
OBLIQUE = np.array([[1.2, -0.5, 0.3], [0.5, 1.25, -0.2], [-0.2, 0.3, 2.9]])


def to_ras(kind):
    matrix = np.diag([0.8, 1.7, 3.1, 1.0])
    if kind == "oblique":
        axes, _ = np.linalg.qr(OBLIQUE)
        matrix[:3, :3] = axes @ matrix[:3, :3]
    if kind == "flipped":
        matrix[:3, :3] = np.diag([-0.8, 1.7, -3.1])
    if kind == "sagittal":
        matrix[:3, :3] = matrix[:3, :3][[2, 0, 1]]
    matrix[:3, 3] = (-17.25, 31.5, -400.125)
    return matrix


def run(steps):
    for _ in steps:
        pass


def read(path):
    image = sitk.ReadImage(str(path))
    return image, sitk.GetArrayFromImage(image)


@pytest.mark.parametrize("kind", ["plain", "oblique", "flipped", "sagittal"])
def test_the_exported_volume_is_the_volume(make, tmp_path, kind):
    volume = make.volume(SHAPE, to_ras(kind))
    run(SceneExport.exportVolume(volume, tmp_path / "image.nrrd"))
    image, voxels = read(tmp_path / "image.nrrd")
    assert voxels.dtype == np.int16
    np.testing.assert_array_equal(voxels, slicer.util.arrayFromVolume(volume))
    for index in ((0, 0, 0), (29, 19, 11), (5, 7, 2)):
        ras = to_ras(kind) @ [*index, 1]
        lps = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(lps, [-ras[0], -ras[1], ras[2]], atol=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
def test_every_type_of_voxel_is_exported_as_it_is(make, tmp_path, dtype):
    volume = make.volume(SHAPE, dtype=dtype)
    run(SceneExport.exportVolume(volume, tmp_path / "image.nrrd"))
    assert read(tmp_path / "image.nrrd")[1].dtype == dtype


def export(volume, segmentation, folder, segmentIds=None):
    slices = AnnotatedSlices(volume, segmentation)
    chosen = segmentIds or [paint.segmentId for paint in slices.painted()]
    run(SceneExport.exportPaint(volume, slices, chosen, folder / "labels.seg.nrrd"))
    return slices, *read(folder / "labels.seg.nrrd")


@pytest.mark.parametrize("kind", ["plain", "oblique", "flipped", "sagittal"])
def test_painted_voxels_are_exported_as_painted(make, box, tmp_path, kind):
    volume = make.volume(SHAPE, to_ras(kind))
    liver, spleen = box(SHAPE, 3, slice(2, 9), slice(4, 20)), box(SHAPE, 7, slice(11, 15), slice(1, 5))
    segmentation = make.segmentation(volume, {"liver": liver, "spleen": spleen})
    _, image, labels = export(volume, segmentation, tmp_path)
    np.testing.assert_array_equal(labels, liver * 1 + spleen * 2)
    assert image.GetMetaData("Segment0_Name") == "liver"
    assert image.GetMetaData("Segment1_LabelValue") == "2"
    np.testing.assert_allclose(
        image.TransformIndexToPhysicalPoint((3, 4, 5)),
        np.diag([-1, -1, 1]) @ (to_ras(kind) @ [3, 4, 5, 1])[:3],
        atol=1e-9,
    )


def test_overlapping_segments_get_layers(make, box, tmp_path):
    volume = make.volume(SHAPE)
    liver = box(SHAPE, 3, slice(2, 12), slice(4, 20))
    tumour = box(SHAPE, 3, slice(5, 8), slice(6, 9))
    spleen = box(SHAPE, 3, slice(14, 16), slice(6, 9))
    segmentation = make.segmentation(volume, {"liver": liver, "tumour": tumour, "spleen": spleen})
    assert segmentation.GetSegmentation().GetNumberOfLayers() > 1
    _, image, labels = export(volume, segmentation, tmp_path)
    assert labels.shape == (*SHAPE, 2)
    np.testing.assert_array_equal(labels[..., 0], liver * 1 + spleen * 3)
    np.testing.assert_array_equal(labels[..., 1], tumour * 2)
    assert [image.GetMetaData(f"Segment{n}_Layer") for n in range(3)] == ["0", "1", "0"]


def test_empty_segments_are_left_out_and_hidden_ones_are_not(make, box, tmp_path):
    volume = make.volume(SHAPE)
    liver = box(SHAPE, 3, slice(2, 12), slice(4, 20))
    segmentation = make.segmentation(volume, {"empty": np.zeros(SHAPE, bool), "liver": liver})
    segmentation.GetDisplayNode().SetSegmentVisibility("liver", False)
    _, image, labels = export(volume, segmentation, tmp_path)
    assert image.GetMetaData("Segment0_Name") == "liver"
    np.testing.assert_array_equal(labels, liver)


def test_a_segmentation_on_another_grid_is_seen_on_the_volumes_grid(make, box, tmp_path):
    volume = make.volume(SHAPE, to_ras("oblique"))
    fine = to_ras("oblique") @ np.diag([0.5, 0.5, 1, 1])
    other = make.volume((12, 40, 60), fine, name="Fine")
    mask = box((12, 40, 60), 3, slice(10, 21), slice(20, 41))
    segmentation = make.segmentation(other, {"liver": mask})
    _, _, labels = export(volume, segmentation, tmp_path)
    expected = mask[:, ::2, ::2]  # voxel (i, j) of the volume lies at (2 i, 2 j) of the finer grid
    np.testing.assert_array_equal(labels > 0, expected)
    np.testing.assert_array_equal(labels > 0, make.mask(segmentation, "liver", volume))


def test_a_volume_and_its_segmentation_under_one_transform(make, box, tmp_path):
    volume = make.volume(SHAPE)
    liver = box(SHAPE, 3, slice(2, 9), slice(4, 20))
    segmentation = make.segmentation(volume, {"liver": liver})
    transform = make.transform(volume, make.rotation((1, 1, 0), 33))
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    _, _, labels = export(volume, segmentation, tmp_path)
    np.testing.assert_array_equal(labels > 0, liver)


def test_a_volume_under_a_transform_and_a_segmentation_under_none(make, box, tmp_path):
    volume = make.volume(SHAPE)
    liver = box(SHAPE, 3, slice(2, 9), slice(4, 20))
    segmentation = make.segmentation(volume, {"liver": liver})
    shift = np.eye(4)
    shift[:3, 3] = (1.5 * 2, 0, -3)  # two voxels to the right, one down
    make.transform(volume, shift)
    _, _, labels = export(volume, segmentation, tmp_path)
    np.testing.assert_array_equal(labels > 0, box(SHAPE, 4, slice(2, 9), slice(2, 18)))


def test_only_the_segments_asked_for_are_exported(make, box, tmp_path):
    volume = make.volume(SHAPE)
    masks = {"liver": box(SHAPE, 3, slice(2, 9), 5), "spleen": box(SHAPE, 3, slice(2, 9), 9)}
    segmentation = make.segmentation(volume, masks)
    _, _, labels = export(volume, segmentation, tmp_path, ["spleen"])
    np.testing.assert_array_equal(labels, masks["spleen"])


def test_slices_of_two_orientations_leave_the_rest_unlabelled(make, box, tmp_path):
    shape = (40, 40, 40)
    volume = make.volume(shape, np.eye(4))
    inside = (slice(5, 35), slice(5, 35), slice(5, 35))
    organ = box(shape, *inside)
    planes = np.zeros(shape, bool)
    planes[10], planes[25], planes[:, :, 20] = True, True, True
    segmentation = make.segmentation(volume, {"liver": organ & planes})
    slices, _, labels = export(volume, segmentation, tmp_path)
    assert sorted(slices.places()) == [(0, 10), (0, 25), (2, 20)]
    np.testing.assert_array_equal(labels == 1, organ & planes)
    np.testing.assert_array_equal(labels == UNLABELLED, ~planes)
    job = SceneExport.adaptJob(tmp_path, slices, ["liver"])
    assert job.annotated == ("all",)
    assert job.ignore_label == UNLABELLED


def test_the_job_file_is_what_the_core_reads(make, box, tmp_path):
    volume = make.volume(SHAPE)
    masks = {"liver": box(SHAPE, [3, 8], slice(2, 9), slice(2, 9))}
    segmentation = make.segmentation(volume, masks)
    slices = AnnotatedSlices(volume, segmentation)
    slices.setNotPainted("liver", (0, 8))
    job = SceneExport.adaptJob(tmp_path, slices, ["liver"], budget=12.0)
    SceneExport.writeJob(job, tmp_path / "job.json")
    assert read_job(tmp_path / "job.json") == job
    assert job.annotated == ("axial:3,8",)
    assert job.not_painted == ({"liver": [8]},)
    assert json.loads((tmp_path / "job.json").read_text())["format"] == 1


def bad_volumes(make):
    yield "No volume", None
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    yield "Empty holds no image", empty
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    slicer.util.updateVolumeFromArray(labels, np.zeros(SHAPE, np.int16))
    yield "Labels is a label map", labels
    vector = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "RGB")
    slicer.util.updateVolumeFromArray(vector, np.zeros((*SHAPE, 3), np.uint8))
    yield "RGB has 3 values per voxel", vector
    frames = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLDiffusionWeightedVolumeNode", "4D")
    slicer.util.updateVolumeFromArray(frames, np.zeros((*SHAPE, 7), np.int16))
    yield "4D has 7 values per voxel", frames
    yield "Flat is a single slice", make.volume((1, 20, 30), name="Flat")
    bent = make.volume(name="Bent")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    spline = slicer.vtkOrientedBSplineTransform()
    transform.SetAndObserveTransformFromParent(spline)
    bent.SetAndObserveTransformNodeID(transform.GetID())
    yield "Bent stands under a transform that bends space", bent


def test_a_volume_that_cannot_be_segmented_is_refused_with_what_to_do(make):
    for message, volume in bad_volumes(make):
        with pytest.raises(InputError) as caught:
            SceneExport.checkVolume(volume)
        assert message in caught.value.message
        assert caught.value.hint


def test_a_segmentation_without_paint_is_refused_with_what_to_do(make):
    volume = make.volume(SHAPE)
    with pytest.raises(InputError, match="No segmentation"):
        SceneExport.checkSegmentation(None)
    segmentation = make.segmentation(volume, {})
    with pytest.raises(InputError, match="no segment"):
        SceneExport.checkSegmentation(segmentation)
    segmentation.GetSegmentation().AddEmptySegment("liver", "liver")
    with pytest.raises(InputError, match="Nothing is painted"):
        SceneExport.checkPaint(AnnotatedSlices(volume, segmentation))


def test_no_step_of_an_export_takes_long(make, box, tmp_path):
    import time

    volume = make.volume((60, 256, 256))
    segmentation = make.segmentation(
        volume, {"liver": box((60, 256, 256), 3, slice(20, 90), slice(20, 90))}
    )
    slices = AnnotatedSlices(volume, segmentation)
    longest, start = 0.0, time.perf_counter()
    steps = [
        SceneExport.exportVolume(volume, tmp_path / "i.nrrd"),
        SceneExport.exportPaint(volume, slices, ["liver"], tmp_path / "l.seg.nrrd"),
    ]
    for step in steps:
        for _ in step:
            longest, start = max(longest, time.perf_counter() - start), time.perf_counter()
    assert longest < 1.0


def test_nothing_in_the_scene_is_changed_by_an_export(make, box, tmp_path):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {"liver": box(SHAPE, 3, slice(2, 9), slice(2, 9))})
    before = slicer.mrmlScene.GetNumberOfNodes()
    times = volume.GetMTime(), segmentation.GetMTime(), segmentation.GetSegmentation().GetMTime()
    export(volume, segmentation, tmp_path)
    run(SceneExport.exportVolume(volume, tmp_path / "image.nrrd"))
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert times == (volume.GetMTime(), segmentation.GetMTime(), segmentation.GetSegmentation().GetMTime())
