# ruff: noqa: TID251 - what Slicer, Qt and the panel do together is measured
"""How long the panel blocks the application, at 512 x 512 x 300 voxels.

.venv-host/bin/python Testing/benchmarks/bench_panel.py [--size I J K] [--worker-python PYTHON]

Prints one JSON object: seconds, and the longest stalls of the event loop, each with the step
that caused it. Without --worker-python the worker is a stand-in, which computes nothing; with it,
the real one runs beside. `redraw`: what the views take without us, here by software.
"""

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "panel"), str(ROOT / "Testing" / "host"), str(ROOT)]

import numpy as np  # noqa: E402, TID253

from stall_causes import StallCauses  # noqa: E402

MODULE = ROOT / "RegLoRASegment" / "RegLoRASegment.py"
SCENARIO = "started,progress,preview,nap,preview,nap,progress,adapter,result,finished"
ORGANS = 10


def main():
    arguments = parse()
    from slicerhost import Host

    host = Host()
    figures = {"size": arguments.size, "voxels": int(np.prod(arguments.size))}
    figures["panel_setup_s"] = measure_setup(host)
    import slicer

    causes = StallCauses()
    causes.watch()
    panel = slicer.modules.RegLoRASegmentWidget
    panel.logic.temporaryFolder = tempfile.mkdtemp(prefix="bench-")
    segmentation = make_scene(panel, arguments.size)
    host.wait_until(lambda: panel.ui.adaptButton.enabled, 60)
    slicer.app.pauseRender()  # what software rendering takes is not the panel's doing
    figures["run_without_drawing"] = measure_run(host, panel, arguments.worker_python, causes)
    slicer.app.resumeRender()
    figures["each_organ_on_a_layer"] = measure_layers(host, panel, segmentation, causes)
    segmentation.GetSegmentation().CollapseBinaryLabelmaps(False)  # as painted in the editor
    figures["organs_on_one_layer"] = measure_layers(host, panel, segmentation, causes)
    panel.logic.discard()
    figures |= measure_cancel(host, panel, arguments.worker_python, causes)
    if arguments.worker_python:
        figures["against_command_line"] = measure_overhead(panel, arguments.worker_python)
    panel.logic.close()
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--size", type=int, nargs=3, default=[512, 512, 300], metavar=("I", "J", "K")
    )
    parser.add_argument(
        "--worker-python",
        type=lambda text: str(Path(text).absolute()),
        help="interpreter of the real worker (default: a stand-in)",
    )
    return parser.parse_args()


def measure_setup(host):
    """Return the seconds of module load and panel setup, without the imports of Slicer's own.

    The code is compiled before, as at every start but the first, and the views are not drawn
    meanwhile. `shown`: the panel comes into the window, and looks for what is to be installed.
    """
    import ctk  # noqa: F401
    import qt  # noqa: F401
    import slicer
    from slicer import ScriptedLoadableModule, parameterNodeWrapper  # noqa: F401

    for folder in ("RegLoRASegment", "reglora_core"):
        compileall.compile_dir(ROOT / folder, quiet=1)
    host.process_events(0.5)
    slicer.app.pauseRender()
    clock = [time.perf_counter()]
    host.load_module(MODULE)
    clock.append(time.perf_counter())
    slicer.app.moduleManager().module("RegLoRASegment").widgetRepresentation()
    clock.append(time.perf_counter())
    host.select_module("RegLoRASegment")
    clock.append(time.perf_counter())
    slicer.app.resumeRender()
    load, setup, shown = np.diff(clock).tolist()
    parts = {"load_and_setup": load + setup, "load": load, "setup": setup, "shown": shown}
    return {name: round(seconds, 3) for name, seconds in parts.items()}


def make_scene(panel, size):
    """An oblique CT of noise with ten organs painted on five slices."""
    import slicer

    shape = tuple(size[::-1])
    angle = np.radians(6)
    toRas = np.diag([0.7, 0.7, 1.0, 1.0])
    toRas[:2, :2] = 0.7 * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    voxels = np.random.default_rng(0).normal(0, 12, shape).astype(np.int16)
    volume = slicer.util.addVolumeFromArray(voxels, toRas, "CT")
    volume.CreateDefaultDisplayNodes()
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    segmentation.CreateDefaultDisplayNodes()
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    height, width = shape[1] // (ORGANS + 1), shape[2]
    painted = np.linspace(shape[0] // 10, shape[0] * 9 // 10, 5).astype(int)
    for number in range(ORGANS):
        mask = np.zeros(shape, np.uint8)
        rows = slice(number * height + 10, number * height + height)
        mask[painted, rows, width // 8 : width * 7 // 8] = 1
        segmentId = segmentation.GetSegmentation().AddEmptySegment(
            f"organ {number}", f"organ {number}"
        )
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, volume)
    panel.ui.inputSelector.setCurrentNode(volume)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return segmentation


def command(python, scenario=SCENARIO):
    if python:
        return [python, "-m", "reglora_core"]
    return [sys.executable, str(ROOT / "Testing" / "panel" / "stand_in_worker.py"), scenario]


def measure_layers(host, panel, segmentation, causes):
    """Redraw, Apply, Undo, and run once more with the preview drawn, by a stand-in."""
    figures = {"redraw": measure_redraw(host, causes)}
    figures["apply"] = measure_apply(host, panel, segmentation, causes)
    figures["redraw_applied"] = measure_redraw(host, causes)
    figures["undo"] = measure_undo(host, panel, causes)
    panel.logic.discard()
    figures["run_with_drawing"] = measure_run(host, panel, None, causes)
    return figures


def measure_redraw(host, causes):
    """Draw every view again, as when the user moves through the slices; the panel does nothing."""
    import slicer
    from slicerhost.stalls import StallMeter

    layout = slicer.app.layoutManager()
    host.process_events(0.5)
    stalls = []
    for step in (5, -5, 5, -5):
        for name in layout.sliceViewNames():
            node = layout.sliceWidget(name).mrmlSliceNode()
            node.SetSliceOffset(node.GetSliceOffset() + step)
        with StallMeter() as meter:
            host.process_events(1)
        stalls.append(causes.of(meter))
    start = time.perf_counter()
    for name in layout.sliceViewNames():
        layout.sliceWidget(name).canvas().forceRender()
    return {"stall": max(stalls, key=lambda stall: stall["s"]), "all_views_s": since(start)}


def measure_run(host, panel, python, causes):
    """Press Adapt; note the longest stall of everything that the run does, with its cause."""
    from slicerhost.stalls import StallMeter

    panel.logic.workerCommand = command(python)
    panel.parameters.budgetSeconds = 20
    stalls, marks, start = {}, {}, time.perf_counter()
    host.process_events(0.5)
    with StallMeter() as press:
        host.click(panel.ui.adaptButton)
    run = panel.logic.currentRun
    while not run.isEnded:
        state = run.state.value
        with StallMeter() as meter:
            host.process_events(0.2)
        marks.setdefault(state, round(time.perf_counter() - start, 2))
        stalls[state] = max(
            stalls.get(state, {"s": 0.0}), causes.of(meter), key=lambda stall: stall["s"]
        )
    assert run.hasResult, f"{run.message} {run.hint}"
    with StallMeter() as after:
        host.process_events(1)
    return {
        "stall_press_adapt": causes.of(press),
        "stall": {**stalls, "result shown": causes.of(after)},
        "reached_s": marks,
        "run_s": since(start),
    }


def measure_apply(host, panel, segmentation, causes):
    """Press Apply; until it is said, and until it is seen."""
    import slicer
    from slicerhost.stalls import StallMeter

    layers = segmentation.GetSegmentation().GetNumberOfLayers()
    views = slicer.app.layoutManager()
    canvases = [views.sliceWidget(name).canvas() for name in views.sliceViewNames()]
    host.process_events(0.5)
    start = time.perf_counter()
    with StallMeter() as meter:
        host.click(panel.ui.applyButton)
        host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text, 30)
        seconds = since(start)
        host.wait_until(lambda: not any(canvas.needsRender() for canvas in canvases), 30)
        seen = since(start)
    with StallMeter() as after:
        host.process_events(3)
    return {
        "apply_organs": panel.ui.resultTable.rowCount,
        "apply_s": seconds,
        "seen_s": seen,
        "stall": causes.of(meter),
        "stall_after": causes.of(after),
        "undo_state_s": round(causes.longest("AnnotatePanel.saveStateForUndo"), 3),
        "layers": [layers, segmentation.GetSegmentation().GetNumberOfLayers()],
    }


def measure_undo(host, panel, causes):
    from slicerhost.stalls import StallMeter

    start = time.perf_counter()
    panel.ui.segmentEditor.undo()
    seconds = since(start)
    with StallMeter() as after:
        host.process_events(3)
    return {"undo_s": seconds, "stall_after": causes.of(after)}


def measure_cancel(host, panel, python, causes):
    """Press Cancel; until the panel says that the run is cancelled."""
    from slicerhost.stalls import StallMeter

    panel.logic.workerCommand = command(python, "started,obey")
    host.click(panel.ui.adaptButton)
    run = panel.logic.runs[-1]
    host.wait_until(lambda: run.pid is not None, 120)
    host.process_events(1.0)
    start = time.perf_counter()
    with StallMeter() as meter:
        host.click(panel.ui.cancelButton)
        host.wait_until(lambda: run.isEnded, 60)
    seconds = round(time.perf_counter() - start, 3)
    assert "cancelled" in panel.ui.statusLabel.text, panel.ui.statusLabel.text
    return {"cancel_s": seconds, "cancel_ended": run.state.value, "stall_cancel": causes.of(meter)}


def since(start):
    return round(time.perf_counter() - start, 2)


def measure_overhead(panel, python, steps=20):
    """Compare press-to-segmentation in the panel's logic with the command line on the same job."""
    import slicer
    from journey import ORGANS as CHOSEN
    from journey import dataFolder
    from RegLoRASegmentLib import Plans
    from RegLoRASegmentLib.Logic import CORE_FOLDER

    slicer.mrmlScene.Clear(0)
    folder = dataFolder() / "ct_abdomen_3mm"
    volume = slicer.util.loadVolume(str(folder / "ct.nii.gz"))
    labels = slicer.util.loadVolume(
        str(folder / "labels.nii.gz"), {"labelmap": True, "show": False}
    )
    reference = slicer.util.arrayFromVolume(labels)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
    segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for name, value in CHOSEN.items():
        mask = np.zeros(reference.shape, np.uint8)
        mask[[78, 88, 98]] = reference[[78, 88, 98]] == value
        segmentId = segmentation.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, volume)
    panel.logic.workerCommand = command(python)
    start = time.perf_counter()
    run = panel.logic.adapt(volume, segmentation, wait=True, steps=steps, method="head")
    in_panel = time.perf_counter() - start
    assert run.hasResult, run.message
    job_folder = Path(tempfile.mkdtemp(prefix="bench-"))
    options = {"steps": steps, "method": "head"}
    plan = Plans.planAdapt(None, volume, segmentation, job_folder, None, options)
    for _ in plan.export:
        pass
    start = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": CORE_FOLDER}
    arguments = [python, "-m", "reglora_core", "run", str(job_folder / "job.json")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, env=environment, **quiet) as process:
        process.wait(600)  # its input stays open: the end of it would stop the job
    assert plan.result.is_file()
    alone = time.perf_counter() - start
    figures = {"panel_s": in_panel, "command_line_s": alone, "longer_s": in_panel - alone}
    return {name: round(value, 1) for name, value in figures.items()}


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
