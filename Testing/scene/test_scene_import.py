"""Files -> scene: what Apply writes, and what it never touches."""

import time

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
from vtk.util.numpy_support import vtk_to_numpy

from reglora_core.errors import InputError
from RegLoRASegmentLib import SceneExport
from RegLoRASegmentLib.AnnotatedSlices import AnnotatedSlices
from RegLoRASegmentLib.Paint import getTag
from RegLoRASegmentLib.SceneImport import (
    Mode,
    Preview,
    SceneImport,
    readSegmentation,
    segmentIdsByName,
    sharing,
)
from RegLoRASegmentLib.SegmentationFile import readSteps

SHAPE = (16, 24, 30)
LIVER = "Segmentation category and type~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^~a~^^~^^"


@pytest.fixture
def result_file(tmp_path):
    """Return a function that writes a result as the core does: masks by name on a volume's grid."""

    def write(volume, masks, name="segmentation_1.seg.nrrd"):
        path = tmp_path / name
        for _ in SceneExport.exportVolume(volume, tmp_path / "image.nrrd"):
            pass
        labels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
        for value, mask in enumerate(masks.values(), start=1):
            labels[mask] = value
        image = sitk.GetImageFromArray(labels)
        image.CopyInformation(sitk.ReadImage(str(tmp_path / "image.nrrd")))
        for number, organ in enumerate(masks):
            prefix = f"Segment{number}_"
            extent = " ".join(f"0 {length - 1}" for length in labels.shape[::-1])
            fields = {"ID": f"Segment_{number + 1}", "Name": organ, "Color": "0.86 0.5 0.3"}
            fields |= {"LabelValue": str(number + 1), "Layer": "0", "Extent": extent}
            fields |= {"Tags": f"TerminologyEntry:{LIVER}|"}
            for key, value in fields.items():
                image.SetMetaData(prefix + key, value)
        sitk.WriteImage(image, str(path), useCompression=True)
        return path

    return write


def snapshot(segmentation, names=None):
    """Return every segment's voxels and properties, as Slicer stores them."""
    found = {}
    for name, segmentId in segmentIdsByName(segmentation).items():
        if names is not None and name not in names:
            continue
        segment = segmentation.GetSegmentation().GetSegment(segmentId)
        image = slicer.vtkOrientedImageData()
        segmentation.GetBinaryLabelmapRepresentation(segmentId, image)
        scalars = image.GetPointData().GetScalars()
        voxels = b"" if scalars is None else vtk_to_numpy(scalars).tobytes()
        tags = getTag(segment, "TerminologyEntry")
        found[name] = (segmentId, image.GetExtent(), voxels, segment.GetColor(), tags)
    return found


@pytest.fixture
def organs(box):
    """Painted slices of two organs that share a layer, and a third segment that is not theirs."""
    return {
        "liver": box(SHAPE, [4, 10], slice(2, 12), slice(4, 20)),
        "spleen": box(SHAPE, [4, 10], slice(13, 18), slice(4, 20)),
        "mine": box(SHAPE, slice(1, 15), slice(8, 22), slice(2, 28)),
    }


@pytest.fixture
def predicted(box):
    return {
        "liver": box(SHAPE, slice(2, 14), slice(1, 11), slice(4, 22)),
        "spleen": box(SHAPE, slice(3, 12), slice(12, 18), slice(3, 19)),
    }


def read(path):
    steps = readSteps(path)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def apply(volume, segmentation, path, choices, **options):
    preview = Preview(volume)
    preview.show(read(path))
    written = SceneImport(volume, segmentation, **options).apply(preview.node, choices)
    preview.discard()
    return written


def test_replaced_organs_become_the_prediction_off_the_painted_slices(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {k: organs[k] for k in ("liver", "spleen")})
    path = result_file(volume, predicted)
    apply(volume, segmentation, path, {"liver": Mode.REPLACE, "spleen": Mode.REPLACE})
    for name in ("liver", "spleen"):
        expected = predicted[name].copy()
        expected[[4, 10]] = organs[name][[4, 10]]
        np.testing.assert_array_equal(make.mask(segmentation, name, volume), expected)
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 2


@pytest.mark.parametrize("mode", list(Mode))
def test_what_changes_is_measured_in_ml(make, organs, predicted, result_file, mode):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {k: organs[k] for k in ("liver", "spleen")})
    before = make.mask(segmentation, "liver", volume)
    preview = Preview(volume)
    preview.show(read(result_file(volume, predicted)))
    importer = SceneImport(volume, segmentation)
    importer.apply(preview.node, {"liver": mode})
    name = "liver" if mode is Mode.REPLACE else "liver (segmented)"
    after = make.mask(segmentation, name, volume)
    voxels = np.count_nonzero(after != before) if mode is Mode.REPLACE else np.count_nonzero(after)
    ml = voxels * np.prod(volume.GetSpacing()) / 1000
    assert importer.changedMl == pytest.approx({"liver": ml})
    importer = SceneImport(volume, segmentation)
    importer.apply(preview.node, {"spleen": mode})
    assert list(importer.changedMl) == ["spleen"]


def test_segments_that_were_not_chosen_stay_the_same_bit_for_bit(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, organs)
    assert sharing(segmentation.GetSegmentation(), "liver")
    before = snapshot(segmentation, ("spleen", "mine"))
    apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.REPLACE})
    assert snapshot(segmentation, ("spleen", "mine")) == before
    assert not sharing(segmentation.GetSegmentation(), "liver")


def test_organs_that_are_written_share_a_layer_with_no_other_segment(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, organs)
    choices = {"liver": Mode.REPLACE, "spleen": Mode.REPLACE}
    apply(volume, segmentation, result_file(volume, predicted), choices)
    assert sharing(segmentation.GetSegmentation(), "liver") == ["spleen"]
    again = {name: np.roll(mask, 1, axis=0) for name, mask in predicted.items()}
    spleen = make.mask(segmentation, "spleen", volume)
    apply(volume, segmentation, result_file(volume, again), {"liver": Mode.REPLACE})
    expected = again["liver"].copy()
    expected[[4, 10]] = organs["liver"][[4, 10]]
    np.testing.assert_array_equal(make.mask(segmentation, "liver", volume), expected)
    np.testing.assert_array_equal(make.mask(segmentation, "spleen", volume), spleen)


def test_the_segments_that_shared_a_layer_can_be_edited_afterwards(
    make, organs, predicted, result_file, box
):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, organs)
    apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.REPLACE})
    liver = make.mask(segmentation, "liver", volume)
    new = box(SHAPE, 7, slice(0, 3), slice(0, 3))
    make.add(segmentation, volume, "new", new)
    np.testing.assert_array_equal(make.mask(segmentation, "new", volume), new)
    np.testing.assert_array_equal(make.mask(segmentation, "liver", volume), liver)
    np.testing.assert_array_equal(make.mask(segmentation, "spleen", volume), organs["spleen"])


def test_new_segments_leave_the_painted_ones_alone(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, organs)
    before = snapshot(segmentation)
    written = apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.NEW})
    assert snapshot(segmentation, organs) == before
    segment = segmentation.GetSegmentation().GetSegment(written[0])
    assert segment.GetName() == "liver (segmented)"
    np.testing.assert_allclose(segment.GetColor(), (0.86, 0.5, 0.3), atol=1e-6)
    assert getTag(segment, "TerminologyEntry") == LIVER
    expected = predicted["liver"].copy()
    expected[[4, 10]] = organs["liver"][[4, 10]]
    np.testing.assert_array_equal(make.mask(segmentation, "liver (segmented)", volume), expected)


def test_organs_go_into_an_empty_segmentation(make, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {})
    choices = {"liver": Mode.REPLACE, "spleen": Mode.REPLACE}
    apply(volume, segmentation, result_file(volume, predicted), choices)
    for name, mask in predicted.items():
        np.testing.assert_array_equal(make.mask(segmentation, name, volume), mask)


def test_one_undo_step_takes_everything_back(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, organs)
    logic, _ = make.editor(segmentation, volume)
    before = snapshot(segmentation)
    choices = {"liver": Mode.REPLACE, "spleen": Mode.NEW}
    path = result_file(volume, predicted)
    apply(volume, segmentation, path, choices, saveStateForUndo=logic.SaveStateForUndo)
    after = snapshot(segmentation)
    assert after != before
    logic.Undo()
    assert snapshot(segmentation) == before
    assert not logic.CanUndo()
    slices = AnnotatedSlices(volume, segmentation)  # the paint is paint again
    assert {(0, 4), (0, 10)} <= set(slices.places())
    assert all(paint.applied is None for paint in slices.paints)
    logic.Redo()
    assert snapshot(segmentation) == after


def test_a_mask_of_the_editor_is_honoured(make, organs, predicted, result_file, box):
    volume = make.volume(SHAPE)
    allowed = box(SHAPE, slice(0, 8), slice(0, 24), slice(0, 12))
    segmentation = make.segmentation(volume, {"liver": organs["liver"], "allowed": allowed})
    AnnotatedSlices(volume, segmentation).setUsed("allowed", False)
    _, editor = make.editor(segmentation, volume)
    editor.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedInsideSingleSegment)
    editor.SetMaskSegmentID("allowed")
    path = result_file(volume, predicted)
    apply(volume, segmentation, path, {"liver": Mode.REPLACE}, editorNode=editor)
    wanted = predicted["liver"].copy()
    wanted[[4, 10]] = organs["liver"][[4, 10]]
    expected = np.where(allowed, wanted, organs["liver"])
    np.testing.assert_array_equal(make.mask(segmentation, "liver", volume), expected)


def test_an_intensity_mask_of_the_editor_is_honoured(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {"liver": organs["liver"]})
    _, editor = make.editor(segmentation, volume)
    editor.SetSourceVolumeIntensityMask(True)
    editor.SetSourceVolumeIntensityMaskRange(30, 60)
    path = result_file(volume, predicted)
    apply(volume, segmentation, path, {"liver": Mode.REPLACE}, editorNode=editor)
    voxels = slicer.util.arrayFromVolume(volume)
    allowed = (voxels >= 30) & (voxels <= 60)
    wanted = predicted["liver"].copy()
    wanted[[4, 10]] = organs["liver"][[4, 10]]
    expected = np.where(allowed, wanted, organs["liver"])
    np.testing.assert_array_equal(make.mask(segmentation, "liver", volume), expected)


def test_a_corrected_slice_counts_as_painted_after_an_apply(make, organs, predicted, result_file, box):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {k: organs[k] for k in ("liver", "spleen")})
    choices = {"liver": Mode.REPLACE, "spleen": Mode.REPLACE}
    apply(volume, segmentation, result_file(volume, predicted), choices)
    slices = AnnotatedSlices(volume, segmentation)
    assert slices.places() == [(0, 4), (0, 10)]
    corrected = make.mask(segmentation, "liver", volume)
    corrected[7, 5:8] = False
    make.paint(segmentation, volume, "liver", corrected)
    slices.update("liver")
    assert slices.places() == [(0, 4), (0, 7), (0, 10)]
    again = {name: np.zeros(SHAPE, bool) | mask for name, mask in predicted.items()}
    again["liver"][12] = False
    apply(volume, segmentation, result_file(volume, again), choices)
    expected = again["liver"].copy()
    expected[[4, 7, 10]] = corrected[[4, 7, 10]]  # what was erased there stays erased
    np.testing.assert_array_equal(make.mask(segmentation, "liver", volume), expected)


def test_an_organ_that_was_not_painted_yet_on_a_slice_is_filled_in_there(
    make, organs, predicted, result_file
):
    volume = make.volume(SHAPE)
    liver, spleen = organs["liver"].copy(), organs["spleen"]
    liver[10] = False
    segmentation = make.segmentation(volume, {"liver": liver, "spleen": spleen})
    AnnotatedSlices(volume, segmentation).setNotPainted("liver", (0, 10))
    apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.REPLACE})
    mask = make.mask(segmentation, "liver", volume)
    np.testing.assert_array_equal(mask[10], predicted["liver"][10])
    np.testing.assert_array_equal(mask[4], liver[4])


def test_what_was_applied_is_known_after_saving_the_segmentation(
    make, organs, predicted, result_file, tmp_path
):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {"liver": organs["liver"]})
    apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.REPLACE})
    storage = slicer.vtkMRMLSegmentationStorageNode()
    storage.SetFileName(str(tmp_path / "saved.seg.nrrd"))
    assert storage.WriteData(segmentation)
    loaded = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Loaded")
    assert storage.ReadData(loaded)
    assert AnnotatedSlices(volume, loaded).places() == [(0, 4), (0, 10)]


@pytest.mark.parametrize("degrees", [0, 27])
def test_results_land_where_the_volume_is_under_a_transform(make, organs, predicted, result_file, degrees):
    axes = make.rotation((0, 1, 1), degrees) @ np.diag([0.9, 1.1, 2.5, 1.0])
    volume = make.volume(SHAPE, axes)
    segmentation = make.segmentation(volume, {"liver": organs["liver"]})
    transform = make.transform(volume, make.rotation((1, 2, 0), 40))
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.REPLACE})
    expected = predicted["liver"].copy()
    expected[[4, 10]] = organs["liver"][[4, 10]]
    np.testing.assert_array_equal(make.mask(segmentation, "liver", volume), expected)


def test_results_land_in_a_segmentation_that_stands_elsewhere(make, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, {})
    shift = np.eye(4)
    shift[:3, 3] = (3.0, -4.5, 6.0)
    make.transform(segmentation, shift)
    apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.REPLACE})
    np.testing.assert_array_equal(make.mask(segmentation, "liver", volume), predicted["liver"])


def test_painted_voxels_on_a_finer_grid_stay_the_same(make, predicted, result_file, box):
    volume = make.volume(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
    fineShape = tuple(2 * length for length in SHAPE)
    fine = make.volume(fineShape, np.eye(4), name="Fine")
    painted = box(fineShape, 8, slice(5, 21), slice(9, 38))
    segmentation = make.segmentation(fine, {"liver": painted})
    apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.REPLACE})
    mask = make.mask(segmentation, "liver", fine)
    np.testing.assert_array_equal(mask[8], painted[8])
    np.testing.assert_array_equal(make.mask(segmentation, "liver", volume)[7], predicted["liver"][7])


def test_a_closed_surface_is_made_anew(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, organs)
    assert segmentation.CreateClosedSurfaceRepresentation()
    surfaces = [
        segmentation.GetSegmentation().GetSegment(n).GetRepresentation("Closed surface")
        for n in ("liver", "mine")
    ]
    counts = [surface.GetNumberOfPoints() for surface in surfaces]
    apply(volume, segmentation, result_file(volume, predicted), {"liver": Mode.REPLACE})
    liver = segmentation.GetSegmentation().GetSegment("liver").GetRepresentation("Closed surface")
    mine = segmentation.GetSegmentation().GetSegment("mine").GetRepresentation("Closed surface")
    assert liver.GetNumberOfPoints() != counts[0]
    assert mine is surfaces[1]


def test_discard_removes_every_trace(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, organs)
    path = result_file(volume, predicted)
    nodes = slicer.mrmlScene.GetNodes()
    before = {nodes.GetItemAsObject(n).GetID() for n in range(nodes.GetNumberOfItems())}
    content = snapshot(segmentation)
    preview = Preview(volume)
    preview.show(read(path))
    preview.show(read(path))
    assert {nodes.GetItemAsObject(n).GetID() for n in range(nodes.GetNumberOfItems())} != before
    preview.discard()
    assert {nodes.GetItemAsObject(n).GetID() for n in range(nodes.GetNumberOfItems())} == before
    assert snapshot(segmentation) == content


def test_a_broken_result_file_is_refused_and_leaves_nothing(make, predicted, result_file, tmp_path):
    volume = make.volume(SHAPE)
    path = tmp_path / "segmentation_2.seg.nrrd"
    count = slicer.mrmlScene.GetNumberOfNodes()
    whole = result_file(volume, predicted).read_bytes()
    for content in (None, b"", b"NRRD0004\ntype: uint8\n\n", whole[:400], whole[:-1], whole[:-50]):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            readSegmentation(path, volume, "result")
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_an_organ_that_is_not_in_the_result_is_refused(make, organs, predicted, result_file):
    volume = make.volume(SHAPE)
    segmentation = make.segmentation(volume, organs)
    before = snapshot(segmentation)
    with pytest.raises(InputError, match="kidney is not among"):
        apply(volume, segmentation, result_file(volume, predicted), {"kidney": Mode.NEW})
    assert snapshot(segmentation) == before


def test_ten_organs_are_written_quickly(make, result_file, box):
    shape = (100, 256, 256)
    volume = make.volume(shape)
    masks = {
        f"organ {n}": box(shape, slice(5, 95), slice(20 * n, 20 * n + 18), slice(20, 200))
        for n in range(10)
    }
    segmentation = make.segmentation(volume, {})
    node = readSegmentation(result_file(volume, masks), volume, "result")
    start = time.perf_counter()
    SceneImport(volume, segmentation).apply(node, dict.fromkeys(masks, Mode.REPLACE))
    assert time.perf_counter() - start < 2.0
