"""The test host loads a scripted module, shows it, runs it and lets go of it, as Slicer does."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HOST = Path(__file__).parents[1] / "host"
sys.path.insert(0, str(HOST))
pytest_plugins = "slicerhost.pytest_plugin"
EXAMPLE = HOST / "example" / "ExamplePanel.py"


@pytest.fixture
def panel(host):
    import slicer

    if not hasattr(slicer.modules, "examplepanel"):
        host.load_module(EXAMPLE)
    return host.select_module("ExamplePanel")


@pytest.fixture
def a_volume(host):
    import slicer

    volume = slicer.util.addVolumeFromArray(np.zeros((6, 8, 10), np.int16), name="scan")
    volume.CreateDefaultDisplayNodes()
    return volume


def test_a_loaded_module_is_known_under_slicers_names(panel):
    import slicer

    assert slicer.modules.examplepanel.title == "Example panel"
    assert slicer.util.getModuleWidget("ExamplePanel") is panel
    assert slicer.util.modulePath("ExamplePanel") == str(EXAMPLE)
    assert slicer.util.selectedModule() == "ExamplePanel"
    assert slicer.modules.examplepanel.widgetRepresentation().isEntered


def test_a_button_follows_the_parameter_node(panel, a_volume):
    enabled_before = panel.ui.runButton.enabled

    panel.ui.volumeSelector.setCurrentNode(a_volume)

    assert not enabled_before
    assert panel.ui.runButton.enabled
    assert panel.parameterNode.volume is a_volume


def test_a_click_starts_a_process_whose_lines_arrive_in_the_panel(host, panel, a_volume):
    panel.ui.volumeSelector.setCurrentNode(a_volume)
    panel.ui.stepsSpinBox.value = 3

    host.click(panel.ui.runButton)
    host.wait_until(lambda: not panel.logic.isRunning, timeout=20)

    assert panel.ui.statusLabel.text == "step 3"
    assert panel.ui.progressBar.value == 3
    assert panel.logic.exitCode == 0


def test_a_disabled_button_cannot_be_clicked(host, panel):
    host.click(panel.ui.runButton)

    assert not panel.logic.isRunning


def test_closing_the_scene_brings_the_defaults_back(host, panel, a_volume):
    panel.ui.volumeSelector.setCurrentNode(a_volume)
    panel.parameterNode.steps = 9

    host.new_scene()

    assert panel.parameterNode.volume is None
    assert panel.ui.stepsSpinBox.value == 5
    assert panel.ui.volumeSelector.currentNode() is None


def test_painting_works_in_the_panels_own_editor(host, panel, a_volume):
    import slicer

    editor = panel.ui.segmentEditor
    panel.ui.segmentationSelector.addNode()
    editor.setSegmentationNode(panel.ui.segmentationSelector.currentNode())
    editor.setSourceVolumeNode(a_volume)
    host.click(slicer.util.findChild(editor, "AddSegmentButton"))
    host.click(slicer.util.findChild(editor, "Paint"))
    editor.activeEffect().setCommonParameter("BrushDiameterIsRelative", 0)
    editor.activeEffect().setCommonParameter("BrushAbsoluteDiameter", 1)

    host.paint("Red", [[4, 4, 3]])

    voxels = slicer.util.arrayFromSegmentBinaryLabelmap(
        editor.segmentationNode(), editor.currentSegmentID(), a_volume
    )
    assert np.argwhere(voxels).tolist() == [[3, 4, 4]]
    assert slicer.util.findChild(editor, "UndoButton").enabled


def test_a_reloaded_module_has_a_new_panel(host, panel):
    import slicer

    slicer.util.reloadScriptedModule("ExamplePanel")

    assert slicer.modules.ExamplePanelWidget is not panel
    assert slicer.modules.ExamplePanelWidget.ui.stepsSpinBox.value == 5


def test_a_module_sets_no_unknown_attribute_of_its_parent(host, panel):
    import slicer

    with pytest.raises(AttributeError):
        slicer.modules.examplepanel.tilte = "x"


@pytest.fixture
def a_selector(host):
    import slicer

    selector = slicer.qMRMLNodeComboBox()
    selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    selector.showChildNodeTypes = False
    selector.setMRMLScene(slicer.mrmlScene)
    return selector


def test_a_node_selector_offers_only_its_types_and_picks_one(a_selector, a_volume):
    import slicer

    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "second")

    names = [a_selector.nodeFromIndex(index).GetName() for index in range(a_selector.nodeCount())]

    assert names == ["scan", "second"]
    assert a_selector.currentNode() is a_volume


def test_a_node_selector_with_none_tells_its_changes(a_selector, a_volume):
    import slicer

    a_selector.noneEnabled = True
    a_selector.setCurrentNode(None)
    seen = []
    a_selector.connect("currentNodeChanged(vtkMRMLNode*)", seen.append)
    a_selector.connect("currentNodeChanged(bool)", seen.append)
    a_selector.connect("currentNodeIDChanged(QString)", seen.append)

    a_selector.setCurrentNode(a_volume)
    slicer.mrmlScene.RemoveNode(a_volume)

    assert seen[0] is a_volume
    assert seen[1:3] == [True, "vtkMRMLScalarVolumeNode1"]
    assert seen[3:] == [None, False, ""]


def test_checked_nodes_are_kept_until_they_are_removed(host, a_volume):
    import slicer

    box = slicer.qMRMLCheckableNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.setMRMLScene(slicer.mrmlScene)
    second = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "second")
    changes = []
    box.connect("checkedNodesChanged()", lambda: changes.append(len(box.checkedNodes())))

    box.setCheckState(a_volume, 2)
    assert box._box.summary == a_volume.GetName()
    box.setCheckState(second, 2)
    assert box._box.summary == "All"
    slicer.mrmlScene.RemoveNode(second)

    assert box.checkedNodes() == (a_volume,)
    assert changes == [1, 2, 1]


def test_packages_are_asked_for_and_recorded_but_not_installed(host, monkeypatch, tmp_path):
    import slicer
    import slicer.packaging

    requirements = tmp_path / "requirements.txt"
    requirements.write_text("numpy>=1\nno-such-package>=2  # a comment\n")
    monkeypatch.setattr(slicer.packaging, "calls", [])
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_, **__: True)

    slicer.packaging.pip_ensure(
        slicer.packaging.load_requirements(requirements), requester="X", skip_in_testing=False
    )

    call = slicer.packaging.calls[0]
    assert (call["requirements"], call["requester"]) == (["no-such-package>=2"], "X")


def test_sample_data_is_registered(host):
    import SampleData
    import slicer

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category="Example", sampleName="CT", uris="https://example.org/ct.nrrd", checksums="SHA256:0"
    )

    assert slicer.modules.sampleDataSources["Example"][0].sampleName == "CT"


def test_a_volume_is_saved_and_loaded(host, a_volume, tmp_path):
    import slicer

    slicer.util.arrayFromVolume(a_volume)[:] = 7
    path = str(tmp_path / "scan.nrrd")

    assert slicer.util.saveNode(a_volume, path)
    again = slicer.util.loadVolume(path)

    assert slicer.util.arrayFromVolume(again).max() == 7
    assert again.GetName() == "scan_1"


def _run(script, *arguments):
    return subprocess.run(
        [sys.executable, str(HOST / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_run_makes_a_picture_drives_a_script_and_runs_self_tests(tmp_path):
    script = tmp_path / "drive.py"
    script.write_text("panel.ui.stepsSpinBox.value = 7\nhost.process_events()\nprint('driven')\n")
    picture = tmp_path / "panel.png"

    driven = _run("run.py", EXAMPLE, "--script", script, "--screenshot", picture)
    tested = _run("run.py", EXAMPLE, "--test")

    assert (driven.returncode, driven.stdout.strip()) == (0, "driven"), driven.stderr
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert tested.returncode == 0
    assert "Ran 1 test" in tested.stderr


def test_run_fails_if_the_script_fails(tmp_path):
    script = tmp_path / "drive.py"
    script.write_text("raise ValueError('wrong')\n")

    assert _run("run.py", EXAMPLE, "--script", script).returncode == 1


@pytest.mark.parametrize(("code", "expected"), [("exitSuccess()", 0), ("exitFailure('no')", 1)])
def test_the_launchers_command_line_gives_ctest_an_exit_code(code, expected):
    code = f"import slicer.testing; slicer.modules.examplepanel; slicer.testing.{code}"

    ran = _run(
        "slicer_command.py",
        "--testing",
        "--no-splash",
        "--no-main-window",
        "--additional-module-paths",
        EXAMPLE.parent,
        "--python-code",
        code,
    )

    assert ran.returncode == expected, ran.stderr


def test_the_segments_table_follows_the_segmentation(host, a_volume):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(a_volume)
    table = slicer.qMRMLSegmentsTableView()
    table.setSegmentationNode(node)
    seen = []
    table.connect(
        "selectionChanged(QItemSelection,QItemSelection)",
        lambda *_: seen.append(table.selectedSegmentIDs()),
    )

    node.GetSegmentation().AddEmptySegment("liver", "liver")
    node.GetSegmentation().AddEmptySegment("spleen", "spleen")
    table.setSelectedSegmentIDs(["spleen"])
    node.GetSegmentation().RemoveSegment("liver")

    assert table.segmentCount == 1
    assert seen[0] == ("spleen",)
    assert table.selectedSegmentIDs() == ("spleen",)
    assert host.vtk_errors.take() == []


def test_errors_that_mrml_only_prints_are_kept(host):
    import slicer

    slicer.modules.volumes.logic().AddArchetypeVolume("no such file.nrrd", "scan", 0)

    assert "returned failure" in host.vtk_errors.take()[0]


def test_quitting_leaves_the_module_and_lets_it_clean_up(tmp_path):
    script = tmp_path / "drive.py"
    script.write_text(
        "panel.exit = lambda: print('exit')\n"
        "cleanup = panel.cleanup\n"
        "panel.cleanup = lambda: (print('cleanup'), cleanup())\n"
    )

    ran = _run("run.py", EXAMPLE, "--script", script)

    assert (ran.returncode, ran.stdout.split()) == (0, ["exit", "cleanup"]), ran.stderr
