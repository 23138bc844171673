"""The panel, driven as a user does: by clicks and by the mouse on slice views."""

import json
import re
import time

import numpy as np
import pytest
import slicer

from panel_scene import MODULE, TO_RAS, makeSegmentation, makeVolume, maskOf, standIn

pytest_plugins = "slicerhost.pytest_plugin"
GOOD = "started,progress,preview,nap,organ,adapter,result,finished"


@pytest.fixture
def panel(host, tmp_path):
    if not hasattr(slicer.modules, "reglorasegment"):
        host.load_module(MODULE)
    panel = host.select_module("RegLoRASegment")
    panel.logic.temporaryFolder = str(tmp_path / "jobs")
    panel.logic.workerCommand = standIn(GOOD)
    for run in list(panel.logic.runs):
        panel.logic.discard(run)
    panel.ui.adapterPathEdit.currentPath = ""
    return panel


@pytest.fixture
def painted(panel, host):
    """A volume with two painted organs, chosen in the panel."""
    volume = makeVolume()
    segmentation = makeSegmentation(volume)
    panel.ui.inputSelector.setCurrentNode(volume)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    host.wait_until(lambda: panel.ui.adaptButton.enabled)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume, segmentation


def adaptAndWait(host, panel):
    host.click(panel.ui.adaptButton)
    host.wait_until(lambda: not panel.logic.isRunning, 20)
    host.process_events()


def cells(table):
    return [
        [table.item(row, column).text() for column in range(table.columnCount)]
        for row in range(table.rowCount)
    ]


def chooseUnpainted(panel):
    """Choose a volume and a segmentation with two organs that have no paint."""
    volume = makeVolume()
    segmentation = makeSegmentation(volume, slices=())
    panel.ui.inputSelector.setCurrentNode(volume)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume, segmentation


def clickCell(host, table, row, column):
    import qt
    from slicerhost.mouse import click

    center = table.visualItemRect(table.item(row, column)).center()
    click(table.viewport(), qt.QPointF(center))
    host.process_events()


def test_an_empty_scene_offers_nothing_to_adapt(panel):
    assert not panel.ui.adaptButton.enabled
    assert "paint organs on a few slices" in panel.ui.adaptButton.toolTip
    assert not panel.ui.cancelButton.enabled
    assert not panel.ui.applyButton.enabled
    assert not panel.ui.applyAdapterButton.enabled


def test_a_line_says_what_to_do_next(panel, host):
    def tells(text):
        host.wait_until(lambda: text in panel.ui.statusLabel.text)

    tells("Choose the volume")
    volume = makeVolume()
    panel.ui.inputSelector.setCurrentNode(volume)
    tells("Choose a segmentation")
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    tells("Press Add once for each organ")
    segmentation.GetSegmentation().AddEmptySegment("liver", "liver")
    tells("Paint every organ")
    panel.ui.segmentationSelector.setCurrentNode(makeSegmentation(volume, slices=(6,)))
    tells("One slice is painted. Paint at least two")
    assert panel.ui.adaptButton.enabled
    panel.ui.segmentationSelector.setCurrentNode(makeSegmentation(volume))
    host.wait_until(lambda: panel.ui.statusLabel.text == "")


def test_long_messages_do_not_widen_the_panel(panel, host):
    import qt

    layout = panel.layout
    host.process_events(0.2)
    before = layout.minimumSize().width()
    text = "62 steps of the update instead of 120, for the budget of 80 s. " * 6
    for label in panel.parent.findChildren(qt.QLabel):
        if label.wordWrap:
            label.text = text
    host.process_events(0.2)
    layout.activate()
    assert layout.minimumSize().width() == before


def test_the_first_volume_is_chosen_on_entering(panel, host):
    volume = makeVolume()
    panel.enter()
    assert panel.ui.inputSelector.currentNode() is volume


def test_the_table_shows_what_is_painted(panel, painted):
    assert cells(panel.ui.slicesTable) == [
        ["axial 7", "painted", "painted"],
        ["axial 17", "painted", "painted"],
    ]


@pytest.mark.usefixtures("painted")
def test_the_table_follows_the_mouse(panel, host):
    editor = panel.ui.segmentEditor
    editor.setCurrentSegmentID("liver")
    editor.setActiveEffectByName("Paint")
    effect = editor.activeEffect()
    effect.setCommonParameter("BrushDiameterIsRelative", 0)
    effect.setCommonParameter("BrushAbsoluteDiameter", 9.0)
    toRas = TO_RAS.copy()
    toRas[:3, 3] = (40, 40, -40)
    start, end = toRas @ [8, 10, 12, 1], toRas @ [14, 20, 12, 1]
    host.paint("Red", [start[:3], end[:3]])
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 3)
    assert cells(panel.ui.slicesTable)[1] == ["axial 13", "painted", "not there"]
    editor.undo()
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 2)
    editor.setActiveEffect(None)


def test_the_table_waits_while_organs_are_written(panel, painted, host):
    volume, segmentation = painted
    panel.annotate.hold()
    mask = maskOf(segmentation, "liver", volume)
    mask[12] = mask[6]
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, "liver", volume)
    host.process_events(0.5)
    assert panel.ui.slicesTable.rowCount == 2
    panel.annotate.release()
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 3)


@pytest.mark.parametrize(
    ("view", "points", "label"),
    [
        ("Yellow", [[10, 0, 0], [10, -15, 15]], "sagittal 16"),
        ("Green", [[0, 10, 0], [-15, 10, 15]], "coronal 16"),
    ],
)
def test_painting_in_another_view_gives_a_row_of_its_orientation(panel, host, view, points, label):
    chooseUnpainted(panel)
    editor = panel.ui.segmentEditor
    editor.setCurrentSegmentID("liver")
    editor.setActiveEffectByName("Paint")
    editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
    editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", 12.0)
    host.paint(view, points)
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 1)
    assert cells(panel.ui.slicesTable)[0][0] == label
    editor.setActiveEffect(None)


def test_painting_in_an_oblique_view_gives_an_oblique_row(panel, host):
    volume, segmentation = chooseUnpainted(panel)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    tilt = np.radians(30)
    normal, across = np.array([0, -np.sin(tilt), np.cos(tilt)]), np.array([1, 0, 0])
    along = np.cross(normal, across)
    red.SetSliceToRASByNTP(*normal, *across, 0, 0, 0, 0)
    editor = panel.ui.segmentEditor
    editor.setActiveEffectByName("Paint")
    editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
    editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", 25.0)
    for organ, start in (("liver", -20), ("spleen", 18)):
        editor.setCurrentSegmentID(organ)
        host.paint("Red", [start * across + shift * along for shift in (-12, 12)])
    expected = [["oblique 1", "painted", "painted"]]
    host.wait_until(lambda: cells(panel.ui.slicesTable) == expected)
    editor.setActiveEffect(None)
    red.SetOrientationToAxial()
    clickCell(host, panel.ui.slicesTable, 0, 0)
    axes = red.GetSliceToRAS()
    turned = [axes.GetElement(row, 2) for row in range(3)]
    assert abs(turned @ normal) > np.cos(np.radians(2))
    adaptAndWait(host, panel)
    assert "finished" in panel.ui.statusLabel.text
    before = {name: maskOf(segmentation, name, volume) for name in ("liver", "spleen")}
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text)
    for name, mask in before.items():
        assert maskOf(segmentation, name, volume)[mask].all()


def test_a_click_on_a_row_goes_to_its_slice(panel, painted, host):
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    table = panel.ui.slicesTable
    for row, index in ((0, 6), (1, 16)):
        clickCell(host, table, row, 1)
        assert red.GetSliceOffset() == pytest.approx(-40 + 4 * index)
    assert panel.ui.segmentEditor.currentSegmentID() == "liver"


def test_not_painted_yet_is_marked_by_a_button_and_saved_with_the_scene(panel, painted, host, tmp_path):
    volume, segmentation = painted
    mask = maskOf(segmentation, "spleen", volume)
    mask[16] = False
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, "spleen", volume)
    host.wait_until(lambda: cells(panel.ui.slicesTable)[1][2] == "not there")
    panel.ui.slicesTable.setCurrentCell(1, 2)
    panel.annotate.onCellClicked(1, 2)
    assert panel.ui.setNotPaintedBox.enabled
    panel.ui.setNotPaintedBox.click()
    assert cells(panel.ui.slicesTable)[1][2] == "not painted yet"
    panel.ui.budgetBox.value = 33
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    host.process_events()
    assert panel.ui.inputSelector.currentNode() is None
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 2)
    assert cells(panel.ui.slicesTable)[1][2] == "not painted yet"
    assert panel.ui.budgetBox.value == 33
    assert panel.ui.inputSelector.currentNode().GetName() == "CT"


def test_suggest_next_slice_moves_the_views(panel, painted, host):
    host.click(panel.ui.suggestNextSliceButton)
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    assert red.GetSliceOffset() == pytest.approx(-40 + 4 * 11)
    assert "axial 12" in panel.ui.annotateMessage.text


def test_adapt_preview_apply_undo(panel, painted, host):
    volume, segmentation = painted
    before = maskOf(segmentation, "liver", volume)
    adaptAndWait(host, panel)
    assert "finished" in panel.ui.statusLabel.text
    assert cells(panel.ui.resultTable) == [
        ["liver", "0.91 (0.85 - 0.94)", "12.5", ""],
        ["spleen", "\u26a0 0.31 (0.10 - 0.60)", "3.2", ""],
    ]
    assert "Probably wrong" in panel.ui.resultTable.item(1, 1).toolTip()
    assert "Probably wrong" not in panel.ui.resultTable.item(0, 1).toolTip()
    assert panel.logic.currentRun.preview.node.GetDisplayNode().GetVisibility()
    assert panel.ui.segmentationSelector.nodeCount() == 1  # the preview is not to be painted in
    import qt

    panel.ui.resultTable.item(1, 0).setCheckState(qt.Qt.Unchecked)
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text)
    after = maskOf(segmentation, "liver", volume)
    assert after[6:17].any(axis=(1, 2)).all()
    spacing = np.prod(volume.GetSpacing()) / 1000
    changed = f"{np.count_nonzero(after != before) * spacing:.1f}"
    assert [row[3] for row in cells(panel.ui.resultTable)] == [changed, "kept"]
    assert maskOf(segmentation, "spleen", volume)[7:16].sum() == 0
    assert not panel.logic.currentRun.preview.node.GetDisplayNode().GetVisibility()
    panel.ui.segmentEditor.undo()
    np.testing.assert_array_equal(maskOf(segmentation, "liver", volume), before)
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 2)
    panel.ui.segmentEditor.redo()
    np.testing.assert_array_equal(maskOf(segmentation, "liver", volume), after)


def test_new_segments_if_the_user_prefers_them(panel, painted, host):
    segmentation = painted[1]
    panel.ui.replaceBox.click()
    adaptAndWait(host, panel)
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text)
    names = [segmentation.GetSegmentation().GetNthSegment(n).GetName() for n in range(4)]
    assert names == ["liver", "spleen", "liver (segmented)", "spleen (segmented)"]
    host.process_events(0.5)
    assert panel.ui.slicesTable.columnCount == 3  # results are not paint


def test_discard_takes_the_preview_away(panel, painted, host):
    adaptAndWait(host, panel)
    host.click(panel.ui.discardButton)
    assert panel.logic.currentRun is None
    assert panel.ui.resultTable.rowCount == 0
    assert not panel.ui.applyButton.enabled
    assert slicer.util.getNodesByClass("vtkMRMLSegmentationNode") == [painted[1]]


def test_discard_takes_the_result_in_the_table_and_not_the_run_that_goes_on(panel, painted, host):
    adaptAndWait(host, panel)
    first = panel.logic.currentRun
    panel.logic.workerCommand = standIn("started,preview,obey")
    host.click(panel.ui.adaptButton)
    second = panel.logic.currentRun
    host.wait_until(lambda: second.preview.node is not None)
    host.process_events()
    assert not first.preview.node.GetDisplayNode().GetVisibility()
    assert panel.ui.resultTable.rowCount == 2
    host.click(panel.ui.discardButton)
    assert panel.logic.runs == [second]
    assert not second.isEnded
    host.click(panel.ui.discardButton)
    assert panel.logic.runs == []
    assert painted


def test_preview_visibility_and_opacity(panel, painted, host):
    adaptAndWait(host, panel)
    display = panel.logic.currentRun.preview.node.GetDisplayNode()
    panel.ui.opacitySlider.value = 0.2
    assert display.GetOpacity2DFill() == pytest.approx(0.2)
    panel.ui.previewBox.checked = False
    assert not display.GetVisibility()


def test_cancel_by_the_button(panel, painted, host):
    panel.logic.workerCommand = standIn("started,progress,obey")
    host.click(panel.ui.adaptButton)
    host.wait_until(lambda: panel.logic.currentRun.pid is not None)
    start = time.monotonic()
    host.click(panel.ui.cancelButton)
    host.wait_until(lambda: not panel.logic.isRunning, 5)
    assert time.monotonic() - start < 1.0
    assert "cancelled" in panel.ui.statusLabel.text
    assert panel.ui.adaptButton.enabled


def test_a_failure_is_a_line_in_the_panel_and_the_next_run_works(panel, painted, host):
    panel.logic.workerCommand = standIn("started,failed")
    adaptAndWait(host, panel)
    assert panel.ui.statusLabel.text == "the paint is too thin; paint more slices"
    panel.logic.workerCommand = standIn("started,crash")
    adaptAndWait(host, panel)
    assert "ended unexpectedly" in panel.ui.statusLabel.text
    assert "something went wrong inside" in panel.ui.logText.plainText
    panel.logic.workerCommand = standIn(GOOD)
    adaptAndWait(host, panel)
    assert "finished" in panel.ui.statusLabel.text


def test_time_left_and_progress_are_shown(panel, painted, host):
    panel.logic.workerCommand = standIn("started,progress,obey")
    host.click(panel.ui.adaptButton)
    host.wait_until(lambda: panel.logic.currentRun.progress.step == 5)
    host.process_events()
    assert panel.ui.progressBar.maximum == 5
    assert panel.ui.progressBar.value == 5
    assert "about 0 s left" in panel.ui.statusLabel.text
    host.click(panel.ui.cancelButton)
    host.wait_until(lambda: not panel.logic.isRunning)


def test_plots_are_plot_nodes(panel, painted, host):
    adaptAndWait(host, panel)
    assert panel.ui.plotLossButton.enabled
    host.click(panel.ui.plotLossButton)
    nodes = panel.logic.plots.nodes()
    assert nodes["lossChart"].IsA("vtkMRMLPlotChartNode")
    assert nodes["lossTable"].GetTable().GetNumberOfRows() == 5
    host.click(panel.ui.plotRanksButton)
    assert nodes["rankTable"].GetTable().GetValue(0, 1).ToDouble() == 3
    picture = slicer.app.layoutManager().plotWidget(0).canvas().renderNow()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
    slicer.app.layoutManager().setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)


def test_an_adapter_is_saved_loaded_and_applied(panel, painted, host, tmp_path):
    adaptAndWait(host, panel)
    path = panel.logic.saveAdapter(tmp_path / "organs").path
    panel.ui.adapterPathEdit.currentPath = str(path)
    assert panel.ui.adapterMessage.text.startswith("liver, spleen - base model reglora-tiny")
    other = makeVolume(name="next patient")
    import qt

    panel.ui.targetBox.setCheckState(other, qt.Qt.Checked)
    assert panel.ui.applyAdapterButton.enabled
    panel.logic.workerCommand = standIn("started,result,finished")
    panel.ui.adapterSection.collapsed = False
    host.process_events()
    host.click(panel.ui.applyAdapterButton)
    host.wait_until(lambda: not panel.logic.isRunning, 20)
    assert "next patient: finished" in panel.ui.statusLabel.text
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text)
    node = slicer.util.getNode("next patient segmentation")
    assert maskOf(node, "liver", other).any()


def test_a_file_that_is_no_adapter_is_told(panel, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nothing of the kind")
    panel.ui.adapterPathEdit.currentPath = str(tmp_path / "x.safetensors")
    assert "cannot be read as an adapter" in panel.ui.adapterMessage.text
    assert not panel.ui.applyAdapterButton.enabled


def test_the_scene_is_closed_during_a_run(panel, painted, host):
    adaptAndWait(host, panel)
    assert panel.ui.resultTable.rowCount == 2
    panel.logic.workerCommand = standIn("started,preview,obey")
    host.click(panel.ui.adaptButton)
    host.wait_until(lambda: panel.logic.currentRun.preview.node is not None)
    slicer.mrmlScene.Clear(0)
    host.process_events(0.3)
    assert panel.logic.currentRun is None
    assert panel.ui.resultTable.rowCount == 0
    assert not panel.ui.adaptButton.enabled
    volume = makeVolume()
    panel.ui.inputSelector.setCurrentNode(volume)
    panel.ui.segmentationSelector.setCurrentNode(makeSegmentation(volume))
    panel.logic.workerCommand = standIn(GOOD)
    host.wait_until(lambda: panel.ui.adaptButton.enabled)
    adaptAndWait(host, panel)
    assert "finished" in panel.ui.statusLabel.text


def test_the_volume_is_deleted_during_a_run(panel, painted, host):
    panel.logic.workerCommand = standIn("started,preview,obey")
    host.click(panel.ui.adaptButton)
    host.wait_until(lambda: panel.logic.currentRun.preview.node is not None)
    slicer.mrmlScene.RemoveNode(painted[0])
    host.process_events()
    assert "CT was deleted" in panel.ui.statusLabel.text


def test_two_parameter_nodes_are_shown_in_turn(panel, painted, host):
    from RegLoRASegmentLib.Parameters import Parameters

    first = panel.parameters
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "second")
    second = Parameters(node)
    second.budgetSeconds = 99
    panel.setParameterNode(second)
    assert panel.ui.budgetBox.value == 99
    assert panel.ui.inputSelector.currentNode() is None
    panel.ui.budgetBox.value = 98
    panel.setParameterNode(first)
    assert (first.budgetSeconds, second.budgetSeconds) == (80, 98)
    assert panel.ui.inputSelector.currentNode() is painted[0]
    slicer.mrmlScene.RemoveNode(node)


def test_the_parameter_node_is_deleted(panel, painted, host):
    slicer.mrmlScene.RemoveNode(panel.parameters.parameterNode)
    host.process_events()
    assert panel.parameters is not None
    assert panel.parameters.parameterNode.GetScene() is slicer.mrmlScene
    panel.ui.inputSelector.setCurrentNode(painted[0])
    assert panel.parameters.inputVolume is painted[0]


def test_wrong_volumes_get_a_clear_line(panel, host):
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Empty")
    panel.ui.inputSelector.setCurrentNode(empty)
    assert "Empty holds no image" in panel.ui.inputsMessage.text
    bent = makeVolume(name="Bent")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
    transform.SetAndObserveTransformFromParent(slicer.vtkOrientedBSplineTransform())
    bent.SetAndObserveTransformNodeID(transform.GetID())
    panel.ui.inputSelector.setCurrentNode(bent)
    assert "bends space" in panel.ui.inputsMessage.text
    host.click(panel.ui.hardenTransformButton)
    assert panel.ui.inputSelector.currentNode().GetName() == "Bent hardened"
    assert panel.ui.inputsMessage.text == ""
    segmentation = makeSegmentation(makeVolume())
    segmentation.SetAndObserveTransformNodeID(transform.GetID())
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    assert "Organs stands under a transform that bends space" in panel.ui.inputsMessage.text


def test_the_table_follows_a_volume_that_is_moved(panel, painted, host):
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    painted[0].SetAndObserveTransformNodeID(transform.GetID())
    shift = np.eye(4)
    shift[2, 3] = 8.0  # two slices up
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(shift))
    host.wait_until(lambda: [row[0] for row in cells(panel.ui.slicesTable)] == ["axial 5", "axial 15"])


def test_leaving_and_coming_back_keeps_everything(panel, painted, host):
    panel.exit()
    panel.enter()
    assert panel.ui.inputSelector.currentNode() is painted[0]
    assert panel.ui.slicesTable.rowCount == 2


def test_other_organs_are_left_alone(panel, painted, host):
    volume, segmentation = painted
    mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    mask[1:-1, 1:-1, 1:-1] = 1
    segmentId = segmentation.GetSegmentation().AddEmptySegment("body", "body")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, volume)
    host.wait_until(lambda: "Not learned: body" in panel.ui.annotateMessage.text)
    panel.ui.segmentEditor.setCurrentSegmentID("body")
    adaptAndWait(host, panel)
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text)
    np.testing.assert_array_equal(maskOf(segmentation, "body", volume), mask > 0)


@pytest.mark.parametrize("by", ["its own directions", "a linear transform"])
def test_suggest_next_slice_turns_the_views_to_an_oblique_volume(panel, host, by):
    toRas = TO_RAS.copy()
    angle = np.radians(25)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    toRas[:3, :3] = turn @ toRas[:3, :3]
    isTransformed = by == "a linear transform"
    own = TO_RAS if isTransformed else toRas
    volume = slicer.util.addVolumeFromArray(np.zeros((24, 40, 44), np.int16), own, "Oblique")
    segmentation = makeSegmentation(volume)
    if isTransformed:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        matrix = np.eye(4)
        matrix[:3, :3] = turn
        transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(matrix))
        for node in (volume, segmentation):
            node.SetAndObserveTransformNodeID(transform.GetID())
    panel.ui.inputSelector.setCurrentNode(volume)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 2)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    host.click(panel.ui.suggestNextSliceButton)
    node = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    normal = np.array([node.GetSliceToRAS().GetElement(row, 2) for row in range(3)])
    assert abs(normal @ turn[:, 2]) == pytest.approx(1)
    editor = panel.ui.segmentEditor
    editor.setCurrentSegmentID("liver")
    editor.setActiveEffectByName("Paint")
    editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
    editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", 12.0)
    start, end = toRas @ [10, 12, 11, 1], toRas @ [14, 18, 11, 1]
    host.paint("Red", [start[:3], end[:3]])
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 3)
    assert cells(panel.ui.slicesTable)[1][:2] == ["axial 12", "painted"]
    assert not panel.ui.hardenTransformButton.visible
    editor.setActiveEffect(None)
    for name in ("Red", "Yellow", "Green"):
        view = slicer.app.layoutManager().sliceWidget(name).mrmlSliceNode()
        view.SetOrientationToDefault()


def test_the_model_is_described_with_its_licence_and_memory(panel, painted):
    text = panel.ui.modelMessage.text
    assert "Licence: Apache-2.0" in text
    assert re.search(r"about [\d.]+ GB .*needed to adapt", text)
    assert painted


def test_a_published_model_is_described_with_its_licence_and_how_to_get_it(
    panel, painted, tmp_path, monkeypatch
):
    from reglora_core.models import registry

    monkeypatch.setattr(registry, "default_cache", lambda: tmp_path)
    names = [panel.ui.baseModelBox.itemText(k) for k in range(panel.ui.baseModelBox.count)]
    assert names == registry.model_names()
    panel.parameters.baseModel = "vista3d"
    text = panel.ui.modelMessage.text
    assert "Licence: NVIDIA License: research or evaluation only" in text
    assert "Not on this computer yet" in text
    assert "reglora models fetch vista3d" in text
    needed = float(re.search(r"about ([\d.]+) GB .*needed to adapt", text)[1])
    assert needed > 1  # its weights alone: .8
    panel.parameters.method = "full-ft"  # a gradient and two moments of each
    text = panel.ui.modelMessage.text
    assert float(re.search(r"about ([\d.]+) GB .*needed to adapt", text)[1]) > needed + 2
    panel.parameters.method = "arena"
    (tmp_path / "vista3d").mkdir()
    (tmp_path / "vista3d" / "weights.pt").write_bytes(b"")
    panel.updateModel()
    assert "Not on this computer" not in panel.ui.modelMessage.text
    panel.parameters.baseModel = "reglora-tiny"
    assert re.search(r"about [\d.]+ GB .*needed to adapt", panel.ui.modelMessage.text)
    assert painted


def test_correct_and_adapt_again_from_the_adapter(panel, painted, host):
    volume, segmentation = painted
    adaptAndWait(host, panel)
    first = panel.logic.currentRun
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text)
    corrected = maskOf(segmentation, "liver", volume)
    corrected[11, :15] = False
    segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName("liver")
    slicer.util.updateSegmentBinaryLabelmapFromArray(
        corrected.astype(np.uint8), segmentation, segmentId, volume
    )
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 3)
    panel.ui.warmStartBox.checked = True
    adaptAndWait(host, panel)
    second = panel.logic.currentRun
    assert second is not first
    job = json.loads((second.plan.folder / "job.json").read_text())
    assert job["annotated"] == ["axial:6,11,16"]
    assert job["from_adapter"] == str(first.adapterPath)
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text)
    np.testing.assert_array_equal(maskOf(segmentation, "liver", volume)[11], corrected[11])
    panel.ui.warmStartBox.checked = False
    panel.logic.discard(first)


def jobOf(run):
    return json.loads((run.plan.folder / "job.json").read_text())


def repaint(segmentation, volume, index=11):
    """Paint the liver on one more slice."""
    mask = maskOf(segmentation, "liver", volume)
    mask[index] = mask[6]
    segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName("liver")
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), segmentation, segmentId, volume)


def test_adapt_after_more_paint_corrects_the_last_result(panel, painted, host):
    volume, segmentation = painted
    adaptAndWait(host, panel)
    first = panel.logic.currentRun
    assert not jobOf(first)["correct"]
    repaint(segmentation, volume)
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 3)
    adaptAndWait(host, panel)
    second = panel.logic.currentRun
    assert jobOf(second)["correct"] is True
    assert jobOf(second)["from_adapter"] == str(first.adapterPath)
    repaint(segmentation, volume, 13)
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 4)
    adaptAndWait(host, panel)
    assert jobOf(panel.logic.currentRun)["from_adapter"] == str(second.adapterPath)


def test_adapt_begins_anew_where_there_is_nothing_to_correct(panel, painted, host):
    """The same paint again; another method; the choice of the user; a result that was discarded."""
    volume, segmentation = painted
    adaptAndWait(host, panel)
    adaptAndWait(host, panel)
    assert not jobOf(panel.logic.currentRun)["correct"]
    repaint(segmentation, volume)
    panel.parameters.rank = 4
    adaptAndWait(host, panel)
    assert jobOf(panel.logic.currentRun)["from_adapter"] is None
    repaint(segmentation, volume, 12)
    panel.ui.startAnewBox.checked = True
    adaptAndWait(host, panel)
    assert jobOf(panel.logic.currentRun)["from_adapter"] is None
    panel.ui.startAnewBox.checked = False
    repaint(segmentation, volume, 13)
    for run in list(panel.logic.runs):
        panel.logic.discard(run)
    adaptAndWait(host, panel)
    assert jobOf(panel.logic.currentRun)["from_adapter"] is None
    panel.parameters.rank = 8


def test_a_result_names_the_slice_to_paint_next(panel, painted, host):
    volume, segmentation = painted
    panel.logic.workerCommand = standIn("started,adapter,result,nextslice,finished")
    adaptAndWait(host, panel)
    assert "Paint next: axial 14 " in panel.ui.statusLabel.text
    host.click(panel.ui.suggestNextSliceButton)
    assert "axial 14," in panel.ui.annotateMessage.text
    repaint(segmentation, volume, 13)
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 3)
    assert "Paint next" not in panel.ui.statusLabel.text
    host.click(panel.ui.suggestNextSliceButton)
    assert "axial 10," in panel.ui.annotateMessage.text  # the widest gap that is left


def test_a_warm_start_without_an_adapter_is_a_line(panel, painted, host):
    panel.ui.warmStartBox.checked = True
    host.click(panel.ui.adaptButton)
    assert "no adapter to start from" in panel.ui.statusLabel.text
    panel.ui.warmStartBox.checked = False
    assert painted


def test_a_sagittal_correction_by_mouse_counts_its_slice_alone(panel, painted, host):
    segmentation = painted[1]
    adaptAndWait(host, panel)
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text)
    editor = panel.ui.segmentEditor
    editor.setCurrentSegmentID("liver")
    editor.setActiveEffectByName("Erase")
    editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
    editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", 12.0)
    host.paint("Yellow", [[16, 0, 0], [16, 10, 8]])
    host.wait_until(lambda: panel.ui.slicesTable.rowCount == 3)
    editor.setActiveEffect(None)
    assert cells(panel.ui.slicesTable) == [
        ["axial 7", "painted", "painted"],
        ["axial 17", "painted", "painted"],
        ["sagittal 13", "painted", "not painted yet"],
    ]
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 2


def ticked(panel, *nodes):
    import qt

    for node in nodes:
        panel.ui.targetBox.setCheckState(node, qt.Qt.Checked)
    panel.ui.adapterSection.collapsed = False


@pytest.fixture
def adapter(panel, painted, host, tmp_path):
    """An adapter that is chosen in the panel; its run is discarded."""
    adaptAndWait(host, panel)
    panel.ui.adapterPathEdit.currentPath = str(panel.logic.saveAdapter(tmp_path / "organs").path)
    panel.logic.discard()
    panel.logic.workerCommand = standIn("started,result,finished")
    return panel.ui.adapterPathEdit.currentPath


@pytest.mark.usefixtures("adapter")
def test_the_results_of_several_volumes_are_chosen_looked_at_and_applied_in_turn(panel, host):
    first, second = makeVolume(name="first"), makeVolume(name="second")
    ticked(panel, first, second)
    host.process_events()
    host.click(panel.ui.applyAdapterButton)
    assert "Waiting: 1 more" in panel.ui.statusLabel.text
    host.wait_until(lambda: len(panel.result.results) == 2, 20)
    host.process_events()
    box = panel.ui.resultBox
    assert [box.itemText(row) for row in range(box.count)] == ["Result 1: first", "Result 2: second"]
    assert box.visible

    def isSeen():
        return [bool(run.preview.node.GetDisplayNode().GetVisibility()) for run in panel.logic.runs]

    assert isSeen() == [False, True]
    box.currentIndex = 0
    box.activated.emit(0)
    assert isSeen() == [True, False]
    red = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode()
    composite = slicer.app.applicationLogic().GetSliceLogic(red).GetSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == first.GetID()
    host.click(panel.ui.applyButton)
    host.wait_until(lambda: "Applied to first segmentation" in panel.ui.statusLabel.text)
    assert slicer.util.getNode("first segmentation").GetSegmentation().GetNumberOfSegments() == 2
    assert not slicer.util.getNodes("second segmentation*")
    host.click(panel.ui.discardButton)
    assert [run.volumeNode for run in panel.logic.runs] == [second]
    assert not box.visible


@pytest.mark.usefixtures("adapter")
def test_a_sequence_is_segmented_by_the_button(panel, painted, host):
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    for time_point in range(2):
        sequence.SetDataNodeAtValue(painted[0], str(time_point))
    ticked(panel, sequence)
    host.process_events()
    host.click(panel.ui.applyAdapterButton)
    host.wait_until(lambda: not panel.logic.isRunning, 20)
    node = slicer.util.getNode("4D CT segmentation")
    assert node.GetNumberOfDataNodes() == 2
    assert node.GetNthDataNode(1).GetSegmentation().GetNumberOfSegments() == 2


def test_an_adapter_that_does_not_fit_is_a_line(panel, adapter, host):
    panel.logic.workerCommand = standIn("started,failed")
    ticked(panel, makeVolume(name="next"))
    host.process_events()
    host.click(panel.ui.applyAdapterButton)
    host.wait_until(lambda: not panel.logic.isRunning, 20)
    assert panel.ui.statusLabel.text == "the paint is too thin; paint more slices"
    assert adapter
    assert panel.ui.applyAdapterButton.enabled


def test_the_undo_of_creating_nodes_is_followed(panel, host):
    scene = slicer.mrmlScene
    scene.SetUndoOn()
    try:
        volume = makeVolume()
        volume.SetUndoEnabled(True)
        panel.ui.inputSelector.setCurrentNode(volume)
        scene.SaveStateForUndo()
        segmentation = makeSegmentation(volume)
        segmentation.SetUndoEnabled(True)
        panel.ui.segmentationSelector.setCurrentNode(segmentation)
        host.wait_until(lambda: panel.ui.adaptButton.enabled)
        scene.Undo()
        host.wait_until(lambda: not panel.ui.adaptButton.enabled)
        assert panel.ui.segmentationSelector.currentNode() is None
        assert panel.ui.slicesTable.rowCount == 0
        scene.Redo()
        nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
        assert len(nodes) == 1
        panel.ui.segmentationSelector.setCurrentNode(nodes[0])
        host.wait_until(lambda: panel.ui.slicesTable.rowCount == 2)
    finally:
        scene.ClearUndoStack()
        scene.ClearRedoStack()
        scene.SetUndoOff()
