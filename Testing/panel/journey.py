"""The whole journey on a real CT, by mouse and buttons, with a picture of every step.

.venv-host/bin/python Testing/panel/journey.py --pictures docs/tutorial [--budget 60]

The pictures show the test host, which is not 3D Slicer. The painting follows the data's reference
labels, as a careful user would; the result is compared with them on the slices that were not painted.
"""

import argparse
import json
import os
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from panel_scene import MODULE, ROOT

ORGANS = {"liver": 5, "spleen": 1, "left kidney": 3}  # ids of the data's labels.json
BRUSH_MM = 7.0


def dataFolder():
    return Path(os.environ.get("REGLORA_DATA") or ROOT.parent / "shared" / "data")


def workerPython():
    """Return an interpreter with torch: REGLORA_WORKER_PYTHON, or the project's environment."""
    return os.environ.get("REGLORA_WORKER_PYTHON") or str(ROOT / ".venv" / "bin" / "python")


class Journey:
    """Drives the panel; `pictures` is a folder, or None for none."""

    def __init__(self, host, pictures=None, budget=60, slices=5):
        import slicer

        self.host, self.slicer, self.pictures = host, slicer, pictures
        self.budget, self.sliceCount = budget, slices
        self.figures = {}
        if not hasattr(slicer.modules, "reglorasegment"):
            host.load_module(MODULE)
        self.panel = host.select_module("RegLoRASegment")
        self.ui = self.panel.ui

    def picture(self, name, section=None):
        """Write a picture with a section of the panel in view."""
        if self.pictures is None:
            return
        if section is not None:
            self.host.process_events(0.2)
            self.scrollTo(section)
        self.host.process_events(0.5)
        self.host.grab(Path(self.pictures) / f"{name}.png")

    def scrollTo(self, widget):
        import qt

        parent = widget.parent()
        while parent is not None and parent.className() != "QScrollArea":
            parent = parent.parent()
        if parent is not None:
            top = widget.mapTo(parent.widget(), qt.QPoint(0, 0)).y()
            parent.verticalScrollBar().setValue(top - 8)

    def load(self):
        """Load the CT; choose it, and a new segmentation."""
        slicer = self.slicer
        folder = dataFolder() / "ct_abdomen_3mm"
        image = folder / "ct.nii.gz"
        self.volume = slicer.util.loadVolume(str(image))
        self.volume.SetName("CT abdomen")
        display = self.volume.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(-160, 240)
        self.ui.inputSelector.setCurrentNode(self.volume)
        self.ui.segmentationSelector.addNode()
        self.segmentation = self.ui.segmentationSelector.currentNode()
        self.segmentation.SetName("Organs")
        slicer.util.setSliceViewerLayers(background=self.volume, fit=True)
        self.host.process_events(0.3)
        self.picture("01-loaded", self.ui.inputsSection)

    def reference(self):
        """Return the reference mask of each organ on the volume's grid (k, j, i)."""
        slicer = self.slicer
        folder = dataFolder() / "ct_abdomen_3mm"
        path = folder / "labels.nii.gz"
        node = slicer.util.loadVolume(str(path), {"labelmap": True, "show": False})
        labels = slicer.util.arrayFromVolume(node).copy()
        slicer.mrmlScene.RemoveNode(node)
        return {name: labels == value for name, value in ORGANS.items()}

    def addOrgans(self):
        editor = self.ui.segmentEditor
        colors = {
            "liver": (0.87, 0.51, 0.40),
            "spleen": (0.62, 0.42, 0.67),
            "left kidney": (0.73, 0.57, 0.20),
        }
        for name in ORGANS:
            self.host.click(self.slicer.util.findChild(editor, "AddSegmentButton"))
            segment = self.segmentation.GetSegmentation().GetSegment(editor.currentSegmentID())
            segment.SetName(name)
            segment.SetColor(*colors[name])

    def paint(self):
        """Paint every organ on the slices that the panel suggests, as evenly spaced as it does."""
        masks = self.masks = self.reference()
        import numpy as np

        anywhere = np.any(list(masks.values()), axis=0)
        used = np.flatnonzero(anywhere.any(axis=(1, 2)))
        step = (used[-1] - used[0]) / self.sliceCount
        self.painted = [int(used[0] + (number + 0.5) * step) for number in range(self.sliceCount)]
        self.addOrgans()
        editor = self.ui.segmentEditor
        self.scrollTo(self.ui.annotateSection)
        self.host.click(self.slicer.util.findChild(editor, "Paint"))
        effect = editor.activeEffect()
        effect.setCommonParameter("BrushDiameterIsRelative", 0)
        effect.setCommonParameter("BrushAbsoluteDiameter", BRUSH_MM)
        segmentIds = self.segmentation.GetSegmentation().GetSegmentIDs()
        for index in self.painted:
            for segmentId, mask in zip(segmentIds, masks.values(), strict=True):
                editor.setCurrentSegmentID(segmentId)
                self.paintSlice(mask[index], index)
        editor.setActiveEffect(None)
        self.host.process_events(0.6)
        self.picture("02-painted", self.ui.annotateSection)

    def paintSlice(self, mask, index):
        """Drag the brush over a mask (j, i), row by row, where the whole brush fits in."""
        import numpy as np
        import vtk

        matrix = vtk.vtkMatrix4x4()
        self.volume.GetIJKToRASMatrix(matrix)
        inside = mask & np.roll(mask, 1, 0) & np.roll(mask, -1, 0)
        inside &= np.roll(mask, 1, 1) & np.roll(mask, -1, 1)
        for row in np.flatnonzero(inside.any(axis=1)):
            columns = np.flatnonzero(inside[row])
            for piece in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1):
                ends = [
                    matrix.MultiplyPoint([float(i), float(row), float(index), 1])[:3]
                    for i in (piece[0], piece[-1])
                ]
                self.host.paint("Red", ends, step=4.0)

    def suggest(self):
        self.host.click(self.ui.suggestNextSliceButton)
        self.picture("03-suggested", self.ui.annotateSection)

    def adapt(self):
        """Press Adapt; take a picture of the first preview, and of the end."""
        self.panel.parameters.workerPython = workerPython()
        self.panel.parameters.budgetSeconds = self.budget
        self.panel.updateInstall()
        self.scrollTo(self.ui.adaptSection)
        self.host.process_events(0.2)
        start = time.monotonic()
        self.host.click(self.ui.adaptButton)
        self.run = self.panel.logic.currentRun
        assert self.run is not None, self.ui.statusLabel.text
        self.host.wait_until(lambda: self.run.preview.node is not None or self.run.isEnded, 300)
        self.figures["first_preview_s"] = round(time.monotonic() - start, 1)
        self.picture("04-running", self.ui.adaptSection)
        self.host.wait_until(lambda: self.run.isEnded, 900)
        self.figures["adapt_s"] = round(time.monotonic() - start, 1)
        assert self.run.hasResult, f"{self.run.message} {self.run.hint}\n{self.run.log}"
        self.picture("05-result", self.ui.adaptSection)

    def plots(self):
        layout = self.slicer.app.layoutManager().layout
        self.scrollTo(self.ui.adaptSection)
        self.host.process_events(0.2)
        self.host.click(self.ui.plotLossButton)
        self.host.process_events(0.3)
        self.picture("06-loss", self.ui.adaptSection)
        self.slicer.app.layoutManager().setLayout(layout)

    def apply(self):
        self.scrollTo(self.ui.resultSection)
        self.host.process_events(0.2)
        start = time.monotonic()
        self.host.click(self.ui.applyButton)
        self.host.wait_until(lambda: "Applied" in self.ui.statusLabel.text, 60)
        self.figures["apply_s"] = round(time.monotonic() - start, 2)
        self.segmentation.CreateClosedSurfaceRepresentation()
        self.slicer.app.layoutManager().resetThreeDViews()
        self.picture("07-applied", self.ui.resultSection)
        self.figures["dice"] = self.dice(self.segmentation, self.volume)

    def dice(self, segmentation, volume):
        """Return the Dice of each organ on the slices that were not painted."""
        import numpy as np

        found = {}
        for name, mask in self.masks.items():
            segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
            ours = self.slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume) > 0
            kept = np.setdiff1d(np.arange(len(mask)), self.painted)
            both = np.count_nonzero(ours[kept] & mask[kept])
            found[name] = round(2 * both / (np.count_nonzero(ours[kept]) + np.count_nonzero(mask[kept])), 3)
        return found

    def saveAdapter(self, path):
        description = self.panel.logic.saveAdapter(path)
        self.panel.parameters.adapterPath = description.path
        self.figures["adapter_kb"] = round(description.path.stat().st_size / 1024, 1)
        return description

    def applyAdapter(self):
        """Load the next patient, and segment it by the adapter with nothing painted."""
        import qt

        folder = dataFolder() / "ct_crlm_1006"
        image = folder / "ct.nii.gz"
        other = self.slicer.util.loadVolume(str(image))
        other.SetName("Next patient")
        display = other.GetDisplayNode()
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(-160, 240)
        self.slicer.util.setSliceViewerLayers(background=other, fit=True)
        self.segmentation.GetDisplayNode().SetVisibility(False)
        self.slicer.app.layoutManager().resetThreeDViews()
        self.ui.adapterSection.collapsed = False
        self.host.process_events(0.2)
        self.ui.targetBox.setCheckState(other, qt.Qt.Checked)
        self.scrollTo(self.ui.adapterSection)
        self.host.process_events(0.2)
        start = time.monotonic()
        self.host.click(self.ui.applyAdapterButton)
        run = self.panel.logic.runs[-1]
        self.host.wait_until(lambda: run.isEnded, 600)
        self.figures["apply_adapter_s"] = round(time.monotonic() - start, 1)
        assert run.hasResult, f"{run.message} {run.hint}\n{run.log}"
        self.picture("08-next-patient", self.ui.adapterSection)
        return run, other


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--budget", type=int, default=60)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT / "Testing" / "host"))
    import tempfile

    from slicerhost import Host

    journey = Journey(Host(), arguments.pictures, arguments.budget)
    journey.load()
    journey.paint()
    journey.suggest()
    journey.adapt()
    journey.plots()
    journey.apply()
    with tempfile.TemporaryDirectory() as folder:
        journey.saveAdapter(Path(folder) / "organs.safetensors")
        journey.applyAdapter()
    sys.stdout.write(json.dumps(journey.figures, indent=1) + "\n")


if __name__ == "__main__":
    code = 1
    try:
        main()
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the interpreter's normal end crashes in VTK
