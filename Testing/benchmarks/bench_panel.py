"""How long the panel blocks the application, at 512 x 512 x 300 voxels.

.venv-host/bin/python Testing/benchmarks/bench_panel.py [--size I J K] [--worker-python PYTHON]

Prints one JSON object: seconds, and the longest stalls of the event loop. Without --worker-python the
worker is a stand-in, which computes nothing; with it, the real one runs beside.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "Testing" / "panel"), str(ROOT / "Testing" / "host"), str(ROOT)]

import numpy as np  # noqa: E402, TID253

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

    panel = slicer.modules.RegLoRASegmentWidget
    panel.logic.temporaryFolder = tempfile.mkdtemp(prefix="bench-")
    volume, segmentation = make_scene(panel, arguments.size)
    host.wait_until(lambda: panel.ui.adaptButton.enabled, 60)
    figures |= measure_run(host, panel, arguments.worker_python)
    sys.stderr.write(f"{figures}\n")
    figures |= measure_apply(host, panel, segmentation)
    figures |= measure_cancel(host, panel, arguments.worker_python)
    panel.logic.close()
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, nargs=3, default=[512, 512, 300], metavar=("I", "J", "K"))
    parser.add_argument("--worker-python", help="interpreter of the real worker (default: a stand-in)")
    return parser.parse_args()


def measure_setup(host):
    """Return the seconds of module load and panel setup, without the imports of Slicer's own."""
    import ctk  # noqa: F401
    import qt  # noqa: F401
    from slicer import parameterNodeWrapper, ScriptedLoadableModule  # noqa: F401

    start = time.perf_counter()
    host.load_module(MODULE)
    loaded = time.perf_counter()
    host.select_module("RegLoRASegment")
    return {"load": round(loaded - start, 3), "setup": round(time.perf_counter() - loaded, 3)}


def make_scene(panel, size):
    """An oblique CT of noise with ten organs painted on five slices."""
    import slicer

    shape = tuple(size[::-1])
    angle = np.radians(6)
    toRas = np.diag([0.7, 0.7, 1.0, 1.0])
    toRas[:2, :2] = 0.7 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
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
        segmentId = segmentation.GetSegmentation().AddEmptySegment(f"organ {number}", f"organ {number}")
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, volume)
    panel.ui.inputSelector.setCurrentNode(volume)
    panel.ui.segmentationSelector.setCurrentNode(segmentation)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume, segmentation


def command(python, scenario=SCENARIO):
    if python:
        return [python, "-m", "reglora_core"]
    return [sys.executable, str(ROOT / "Testing" / "panel" / "stand_in_worker.py"), scenario]


def measure_run(host, panel, python):
    """Press Adapt; note the stalls by what the run was doing."""
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
        stalls[state] = max(stalls.get(state, 0.0), meter.longest)
    assert run.hasResult, f"{run.message} {run.hint}"
    return {
        "stall_press_adapt_s": round(press.longest, 3),
        "stall_s": {state: round(value, 3) for state, value in stalls.items()},
        "reached_s": marks,
        "run_s": round(time.perf_counter() - start, 2),
    }


def measure_apply(host, panel, segmentation):
    from slicerhost.stalls import StallMeter

    host.process_events(0.5)
    start = time.perf_counter()
    with StallMeter() as meter:
        host.click(panel.ui.applyButton)
        host.wait_until(lambda: "Applied" in panel.ui.statusLabel.text, 30)
    seconds = time.perf_counter() - start
    with StallMeter() as after:
        host.process_events(3)
    layers = segmentation.GetSegmentation().GetNumberOfLayers()
    return {
        "apply_organs": panel.ui.resultTable.rowCount,
        "apply_s": round(seconds, 2),
        "stall_apply_s": round(meter.longest, 3),
        "stall_after_apply_s": round(after.longest, 3),
        "layers": layers,
    }


def measure_cancel(host, panel, python):
    panel.logic.workerCommand = command(python, "started,obey")
    host.click(panel.ui.adaptButton)
    run = panel.logic.runs[-1]
    host.wait_until(lambda: run.pid is not None, 120)
    host.process_events(1.0)
    start = time.perf_counter()
    host.click(panel.ui.cancelButton)
    host.wait_until(lambda: run.isEnded, 60)
    return {"cancel_s": round(time.perf_counter() - start, 3), "cancel_ended": run.state.value}


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
