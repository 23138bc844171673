"""The logic with a scripted worker: every order of events, and every way to end."""

import json
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import slicer

import panel_scene
from panel_scene import makeSegmentation, makeVolume, maskOf, standIn
from reglora_core import forecast
from reglora_core.errors import InputError, OutputError, ResourceError
from reglora_core.forecast import adapt_setting
from reglora_core.models.registry import model_entry

pytest_plugins = "slicerhost.pytest_plugin"
GOOD = "started,progress,preview,nap,organ,adapter,result,finished"


@pytest.fixture
def logic(host, tmp_path):
    from RegLoRASegmentLib.Logic import Logic

    class RegLoRASegmentLogic(Logic):
        pass

    logic = RegLoRASegmentLogic()
    logic.temporaryFolder = str(tmp_path / "jobs")
    logic.workerCommand = standIn(GOOD)
    yield logic
    logic.close()
    logic.removeObservers()


@pytest.fixture
def painted(host):
    volume = makeVolume()
    return volume, makeSegmentation(volume)


def nodeIds():
    nodes = slicer.mrmlScene.GetNodes()
    return {nodes.GetItemAsObject(index).GetID() for index in range(nodes.GetNumberOfItems())}


def isAlive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def test_adapt_waits_and_gives_a_result(logic, painted):
    volume, segmentation = painted
    run = logic.adapt(volume, segmentation, wait=True)
    assert run.state.value == "finished"
    assert run.organs["liver"].heldOutDice == 0.8
    assert run.organs["liver"].expectedDice == 0.91
    assert run.organs["liver"].expectedRange == (0.85, 0.94)
    assert [organ.isDoubtful for organ in run.organs.values()] == [False, True]
    assert run.organs["spleen"].heldOutDice is None
    assert run.organs["spleen"].ml == 3.25
    assert run.losses == {"adapt": [(1, 1), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4), (5, 1 / 5)]}
    assert run.ranks[-1][1] == {"enc1": 3, "enc2": 8, "head": 4}
    assert run.preview.node.GetSegmentation().GetNumberOfSegments() == 2


def test_what_the_listeners_hear_comes_in_order(logic, painted):
    heard = []
    logic.listeners.append(lambda run, what: heard.append(run.state.value if what == "state" else what))
    logic.adapt(*painted, wait=True)
    wanted = ["exporting", "queued", "working", "progress", "ranks", "preview", "shown", "organ"]
    assert [what for index, what in enumerate(heard) if what not in heard[:index]] == [
        *wanted,
        "reading",
        "finished",
    ]


def test_apply_writes_the_organs_chosen_and_keeps_the_paint(logic, painted):
    volume, segmentation = painted
    spleen = maskOf(segmentation, "spleen", volume)
    run = logic.adapt(volume, segmentation, wait=True)
    logic.apply(run, ["liver"])
    liver = maskOf(segmentation, "liver", volume)
    assert liver[6:17].any(axis=(1, 2)).all()
    assert not liver[:6].any()
    np.testing.assert_array_equal(maskOf(segmentation, "spleen", volume), spleen)


def test_discard_removes_every_trace(logic, painted, tmp_path):
    before = nodeIds()
    run = logic.adapt(*painted, wait=True)
    logic.plotLoss(run)
    assert nodeIds() != before
    logic.discard(run)
    assert {n for n in nodeIds() - before if "Layout" not in n and "PlotView" not in n} == set()
    assert list((tmp_path / "jobs").iterdir()) == []
    assert logic.currentRun is None


def test_the_adapter_can_be_saved_and_applied_to_other_volumes(logic, painted, tmp_path):
    run = logic.adapt(*painted, wait=True)
    description = logic.saveAdapter(tmp_path / "organs", run)
    assert description.path == tmp_path / "organs.safetensors"
    assert description.organs == ("liver", "spleen")
    assert logic.loadAdapter(description.path).baseModel == "reglora-tiny"
    logic.workerCommand = standIn("started,result,finished")
    first, second = makeVolume(name="next"), makeVolume(name="last")
    runs = logic.applyAdapter([first, second], description.path, wait=True)
    assert [run.state.value for run in runs] == ["finished", "finished"]
    logic.apply(runs[0])
    node = runs[0].segmentationNode
    assert node.GetName() == "next segmentation"
    assert maskOf(node, "liver", first).sum() == 20 * 6 * 6


def test_an_adapter_is_applied_to_a_sequence(logic, painted, tmp_path):
    run = logic.adapt(*painted, wait=True)
    adapter = logic.saveAdapter(tmp_path / "organs", run).path
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    sequence.SetIndexName("time")
    for time_point in range(3):
        sequence.SetDataNodeAtValue(painted[0], str(time_point))
    logic.workerCommand = standIn("started,result,finished")
    node = logic.applyAdapterToSequence(sequence, adapter, wait=True)
    assert node.GetNumberOfDataNodes() == 3
    assert node.GetNthIndexValue(2) == "2"
    segmentation = node.GetNthDataNode(1)
    assert segmentation.IsA("vtkMRMLSegmentationNode")
    assert segmentation.GetSegmentation().GetNumberOfSegments() == 2


def test_two_runs_queue_up(logic, painted):
    first = logic.adapt(*painted)
    second = logic.adapt(*painted)
    assert (first.state.value, second.state.value) == ("exporting", "waiting")
    logic.waitFor(first)
    assert second.state.value == "exporting"
    assert logic.waitFor(second).state.value == "finished"


def test_a_waiting_run_can_be_cancelled(logic, painted):
    first = logic.adapt(*painted)
    second = logic.adapt(*painted)
    logic.cancel(second)
    assert second.state.value == "cancelled"
    assert logic.waitFor(first).state.value == "finished"


def test_garbage_torn_and_huge_lines_do_no_harm(logic, painted):
    logic.workerCommand = standIn(f"started,garbage,torn,huge,{GOOD},unended")
    run = logic.adapt(*painted, wait=True)
    assert run.state.value == "finished"
    assert run.organs["kidney"].heldOutDice == 0.5
    assert "unended" in run.organs
    assert "plain words" in run.log


def test_a_broken_preview_is_passed_over(logic, painted):
    logic.workerCommand = standIn(f"started,brokenpreview,nap,{GOOD}")
    run = logic.adapt(*painted, wait=True)
    assert run.state.value == "finished"
    assert "preview could not be shown" in run.warnings[0]


@pytest.mark.parametrize(
    ("scenario", "message", "hint"),
    [
        ("started,progress,failed", "the paint is too thin", "paint more slices"),
        ("started,progress,crash", "ended unexpectedly (exit code", "something went wrong inside"),
        ("started,segfault", "ended unexpectedly", ""),
        ("unstarted", "ended unexpectedly (exit code 7)", "it left no message"),
        ("started,finished", "", ""),
    ],
)
def test_a_worker_that_fails_is_reported_and_nothing_is_lost(logic, painted, scenario, message, hint):
    before = nodeIds()
    logic.workerCommand = standIn(scenario)
    run = logic.adapt(*painted, wait=True)
    assert run.state.value == "failed"
    assert message in run.message
    assert hint in run.hint
    assert nodeIds() == before


def test_a_missing_worker_is_reported(logic, painted):
    logic.workerCommand = ["/nowhere/python"]
    run = logic.adapt(*painted, wait=True)
    assert run.state.value == "failed"
    assert "cannot be started: /nowhere/python" in run.message


def test_a_silent_worker_is_told_of(logic, painted, host, monkeypatch):
    from RegLoRASegmentLib import Run

    heard = []
    logic.listeners.append(lambda run, what: heard.append(what))
    logic.workerCommand = standIn("started,obey")
    run = logic.adapt(*painted)
    host.wait_until(lambda: run.pid is not None)
    assert run.silentSeconds is None
    monkeypatch.setattr(Run, "SILENCE_SECONDS", 0.0)
    assert run.silentSeconds > 0
    run._watch()
    assert heard[-1] == "silent"
    logic.cancel(run)
    logic.waitFor(run)


def test_cancel_is_quick_and_keeps_what_there_is(logic, painted, host):
    logic.workerCommand = standIn("started,preview,nap,obeykeep")
    run = logic.adapt(*painted)
    host.wait_until(lambda: run.preview.node is not None)
    start = time.monotonic()
    logic.cancel(run)
    logic.waitFor(run)
    assert time.monotonic() - start < 1.0
    assert run.state.value == "cancelled"
    assert run.hasResult
    assert len(logic.apply(run)) == 2


def test_cancel_without_any_result_leaves_nothing(logic, painted, host):
    before = nodeIds()
    logic.workerCommand = standIn("started,obey")
    run = logic.adapt(*painted)
    host.wait_until(lambda: run.pid is not None)
    logic.cancel(run)
    logic.waitFor(run)
    assert run.state.value == "cancelled"
    assert not run.hasResult
    assert nodeIds() == before


def test_cancel_during_the_export(logic, painted, tmp_path):
    run = logic.adapt(*painted)
    logic.cancel(run)
    assert run.state.value == "cancelled"


def test_a_worker_that_ignores_cancel_is_killed_with_its_children(logic, painted, host, tmp_path):
    logic.workerCommand = standIn("started,ignore")
    run = logic.adapt(*painted)
    pidFile = tmp_path / "jobs" / "child.pid"
    host.wait_until(lambda: run.pid and pidFile.is_file() and pidFile.read_text())
    worker, child = run.pid, int(pidFile.read_text())
    start = time.monotonic()
    logic.cancel(run)
    logic.waitFor(run)
    assert time.monotonic() - start < 1.0  # no result yet: nothing is lost by haste
    assert run.state.value == "cancelled"
    host.wait_until(lambda: not isAlive(child), 5)
    assert not isAlive(worker)


def test_deleting_the_volume_stops_its_runs(logic, painted, host):
    volume, segmentation = painted
    logic.workerCommand = standIn("started,preview,obey")
    run = logic.adapt(volume, segmentation)
    host.wait_until(lambda: run.preview.node is not None)
    slicer.mrmlScene.RemoveNode(volume)
    assert run.state.value == "failed"
    assert run.message == "CT was deleted"
    assert run.preview.node is None
    host.wait_until(lambda: not isAlive(run.pid), 5)


@pytest.mark.parametrize("what", ["scene", "volume", "segmentation"])
def test_what_vanishes_while_a_result_is_written_ends_that(logic, painted, host, what, monkeypatch):
    from RegLoRASegmentLib import Steps

    volume, segmentation = painted
    run = logic.adapt(volume, segmentation, wait=True)
    ended, turns = [], []
    ticks = (tick for turn in range(10**6) for tick in (turn, turn, turn + 1))
    monkeypatch.setattr(Steps, "time", SimpleNamespace(monotonic=lambda: next(ticks)))  # one step a turn
    logic.callLater = lambda seconds, function: turns.append(function)
    logic.applyInSteps(ended.append, ended.append, run)
    turns.pop()()
    if what == "scene":
        slicer.mrmlScene.Clear(0)
    else:
        slicer.mrmlScene.RemoveNode({"volume": volume, "segmentation": segmentation}[what])
    while turns:
        turns.pop()()
    (error,) = ended
    assert isinstance(error, InputError)
    names = {"scene": "scene was closed", "volume": "CT was deleted", "segmentation": "Organs was deleted"}
    assert names[what] in str(error)


def test_a_deleted_segmentation_is_made_anew_at_apply(logic, painted, host):
    volume, segmentation = painted
    run = logic.adapt(volume, segmentation)
    slicer.mrmlScene.RemoveNode(segmentation)
    logic.waitFor(run)
    assert run.state.value == "finished"
    logic.apply(run)
    assert run.segmentationNode.GetName() == "CT segmentation"
    assert maskOf(run.segmentationNode, "spleen", volume).any()


def test_closing_the_scene_stops_everything(logic, painted, host, tmp_path):
    logic.workerCommand = standIn("started,preview,obey")
    run = logic.adapt(*painted)
    logic.adapt(*painted)
    host.wait_until(lambda: run.preview.node is not None)
    slicer.mrmlScene.Clear(0)
    assert logic.runs == []
    host.wait_until(lambda: not isAlive(run.pid), 5)
    assert list((tmp_path / "jobs").iterdir()) == []
    volume = makeVolume()
    logic.workerCommand = standIn(GOOD)
    assert logic.adapt(volume, makeSegmentation(volume), wait=True).state.value == "finished"


def test_bad_input_is_refused_before_anything_starts(logic, painted, tmp_path):
    volume, segmentation = painted
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Empty")
    unpainted = makeSegmentation(volume, slices=(), name="Unpainted")
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    slicer.util.updateVolumeFromArray(labels, np.zeros((4, 5, 6), np.int16))
    colors = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Colors")
    slicer.util.updateVolumeFromArray(colors, np.zeros((4, 5, 6, 3), np.uint8))
    blank = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Blank")
    targets = [(volume, node) for node in (None, empty, unpainted)]
    for arguments in targets + [(node, segmentation) for node in (None, labels, colors, blank)]:
        with pytest.raises(InputError):
            logic.adapt(*arguments)
    with pytest.raises(InputError, match="no adapter"):
        logic.saveAdapter(tmp_path / "x")
    with pytest.raises(InputError, match="no result"):
        logic.apply()
    assert logic.runs == []
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_temporary_folder_that_cannot_be_written_is_refused(logic, painted, tmp_path):
    (tmp_path / "file").write_text("in the way")
    logic.temporaryFolder = str(tmp_path / "file" / "jobs")
    with pytest.raises(OutputError, match="cannot be written"):
        logic.adapt(*painted)


def test_a_disk_that_fills_up_during_the_export_is_reported(logic, painted, monkeypatch):
    from RegLoRASegmentLib import SceneExport

    def full(*_arguments):
        raise OSError(28, "No space left on device")
        yield

    monkeypatch.setattr(SceneExport, "_writeRaw", full)
    run = logic.adapt(*painted, wait=True)
    assert run.state.value == "failed"
    assert "No space left" in run.message


def test_a_disk_that_is_nearly_full_is_refused(logic, painted, tmp_path, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**8))
    with pytest.raises(OutputError, match=r"has 0\.1 GB free, 0\.2 GB are needed"):
        logic.adapt(*painted)
    assert logic.runs == []
    assert list((tmp_path / "jobs").iterdir()) == []


def test_one_core_is_left_to_the_application(logic, painted, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    run = logic.adapt(*painted, wait=True)
    assert json.loads((run.plan.folder / "job.json").read_text())["threads"] == 5


def test_a_worker_that_is_killed_leaves_its_best_result(logic, painted, host):
    logic.workerCommand = standIn("started,result,preview,obey")
    run = logic.adapt(*painted)
    host.wait_until(lambda: run.preview.node is not None)
    os.kill(run.pid, 9)
    logic.waitFor(run)
    assert run.state.value == "failed"
    assert "ended unexpectedly" in run.message
    assert run.hasResult
    assert len(logic.apply(run)) == 2


def freeMemory(monkeypatch, count):
    from RegLoRASegmentLib import Resources

    monkeypatch.setattr(Resources, "availableMemoryBytes", lambda: count)


def test_too_little_memory_is_refused_by_the_figure_that_the_panel_shows(logic, painted, monkeypatch):
    from RegLoRASegmentLib.Resources import describeModel, neededMemory
    from RegLoRASegmentLib.SceneExport import sizeOf

    needed = neededMemory("vista3d", sizeOf(painted[0]), adapt_setting("arena", 2))
    freeMemory(monkeypatch, needed.half - 1)
    with pytest.raises(ResourceError) as refusal:
        logic.adapt(*painted, model="vista3d")
    assert re.fullmatch(r"\d\.\d GB \(\d\.\d GB where 16 bits are fast\)", needed.text())
    assert f"about {needed.text()} are needed" in str(refusal.value)
    assert f"about {needed.text()} needed to adapt" in describeModel("vista3d", needed)
    assert "choose a smaller base model" in str(refusal.value)
    assert logic.adapt(*painted).state.value == "exporting"  # the embedded network has enough
    freeMemory(monkeypatch, needed.half)
    assert logic.adapt(*painted, model="vista3d").state.value == "waiting"


def test_the_memory_that_is_asked_for_is_the_core_s_forecast(host):
    from RegLoRASegmentLib.Resources import VolumeSize, neededMemory

    size = VolumeSize(512 * 512 * 300, (450.0, 300.0, 400.0))
    needed = neededMemory("suprem-unet", size, adapt_setting("arena"))
    wanted = forecast.example(model_entry("suprem-unet"))["adapt"]
    assert (needed.full, needed.half) == (wanted["32"], wanted["16"])
    onGpu = neededMemory("suprem-unet", size, adapt_setting("arena"), "cuda")
    assert 0 < onGpu.full < needed.full - 10**9  # the window alone: 1.7
    assert neededMemory("/weights.pth", size, adapt_setting("arena")) is None


def test_a_prediction_asks_for_what_the_adapter_s_base_takes(logic, painted, tmp_path, monkeypatch):
    run = logic.adapt(*painted, wait=True)
    adapter = logic.saveAdapter(tmp_path / "organs", run).path
    freeMemory(monkeypatch, 10**8)
    with pytest.raises(ResourceError, match=r"about 0\.\d GB"):
        logic.applyAdapter(painted[0], adapter)
    logic.applyAdapter(painted[0], adapter, model="weights.pth")  # a file: nobody knows


def test_the_air_around_the_body_takes_no_part_in_the_size(host):
    from RegLoRASegmentLib.SceneExport import sizeOf

    voxels = np.full((100, 200, 300), -1000, np.int16)
    voxels[20:80, 40:140, 60:240] = 40
    voxels[0, 0, 0] = 3000
    volume = slicer.util.addVolumeFromArray(voxels, np.diag([-0.5, -1.0, 2.0, 1.0]))
    size = sizeOf(volume)
    assert size.voxelCount == voxels.size
    assert size.bodyMm == pytest.approx((60 * 2.0, 100 * 1.0, 180 * 0.5), abs=4)
    slicer.util.updateVolumeFromArray(volume, np.full_like(voxels, -1000))
    assert sizeOf(volume).bodyMm == (200.0, 200.0, 150.0)


def test_a_closed_logic_leaves_no_worker(logic, painted, host):
    logic.workerCommand = standIn("started,ignore")
    run = logic.adapt(*painted)
    host.wait_until(lambda: run.pid is not None)
    logic.close()
    host.wait_until(lambda: not isAlive(run.pid), 5)


def test_the_stand_in_worker_is_where_the_tests_think():
    assert panel_scene.WORKER.is_file()
