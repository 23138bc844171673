"""The module's self-test: runs in Slicer and in the test host, offline, in some seconds.

The worker is a stand-in that repeats the painted slices, so that no torch is needed; what is tested
is everything on Slicer's side.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import slicer

from reglora_core.errors import InputError

from .CoreProcess import findPython

_SHAPE = (20, 32, 36)
_STAND_IN = """
import gzip, json, os, re, sys
job = json.load(open(sys.argv[2], encoding="utf-8"))
print(json.dumps({"event": "started", "time": 0, "pid": os.getpid()}), flush=True)
header, _, packed = open(job["labels"][0], "rb").read().partition(b"\\n\\n")
sizes = [int(size) for size in re.search(rb"sizes: ([0-9 ]+)", header)[1].split()]
plane, voxels = 2 * sizes[0] * sizes[1], bytearray(gzip.decompress(packed))
planes = [voxels[n * plane : (n + 1) * plane] for n in range(sizes[2])]
painted = [n for n, data in enumerate(planes) if any(data)]
for n in range(painted[0], painted[-1]):
    if not any(planes[n]):
        planes[n] = planes[n - 1]
os.makedirs(job["out"], exist_ok=True)
with open(os.path.join(job["out"], "segmentation_1.seg.nrrd"), "wb") as file:
    file.write(header + b"\\n\\n" + gzip.compress(b"".join(planes)))
print(json.dumps({"event": "organ", "time": 1, "name": "liver", "held_out_dice": 0.9}), flush=True)
print(json.dumps({"event": "finished", "time": 1, "files": {}}), flush=True)
"""


class SelfTest:
    """The tests; mixed into the class that Slicer looks for."""

    def setUp(self) -> None:
        from RegLoRASegment import RegLoRASegmentLogic

        slicer.mrmlScene.Clear()
        self.folder = tempfile.TemporaryDirectory()
        script = Path(self.folder.name) / "stand_in.py"
        script.write_text(_STAND_IN, encoding="utf-8")
        self.logic = RegLoRASegmentLogic()
        self.logic.temporaryFolder = self.folder.name
        self.logic.workerCommand = [findPython(), str(script)]

    def tearDown(self) -> None:
        self.logic.close()
        self.folder.cleanup()

    def runTest(self) -> None:
        """Run every test, as Slicer's own base class does in newer versions."""
        tests = (
            self.test_annotatedSlices,
            self.test_adaptAndApply,
            self.test_correction,
            self.test_discard,
            self.test_badInput,
        )
        for test in tests:
            self.setUp()
            try:
                test()
            finally:
                self.tearDown()

    def test_annotatedSlices(self) -> None:
        volume, segmentation = self._makeScene()
        slices = self.logic.annotatedSlices(volume, segmentation)
        self.assertEqual(slices.places(), [(0, 4), (0, 12)])
        self.assertEqual(self.logic.suggestNextSlice(volume, segmentation), (0, 8))

    def test_adaptAndApply(self) -> None:
        volume, segmentation = self._makeScene()
        spleen = self._mask(segmentation, "spleen", volume)
        run = self.logic.adapt(volume, segmentation, wait=True)
        self.assertEqual(run.state.value, "finished", run.message)
        self.assertEqual(run.organs["liver"].heldOutDice, 0.9)
        self.logic.apply(run, ["liver"])
        liver = self._mask(segmentation, "liver", volume)
        self.assertEqual(int(liver.sum()), 9 * 10 * 8)
        self.assertTrue(np.array_equal(self._mask(segmentation, "spleen", volume), spleen))

    def test_correction(self) -> None:
        volume, segmentation = self._makeScene()
        self.logic.apply(self.logic.adapt(volume, segmentation, wait=True))
        corrected = self._mask(segmentation, "liver", volume)
        corrected[5:12, 6:14, 8] = False  # on one sagittal slice
        segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName("liver")
        slicer.util.updateSegmentBinaryLabelmapFromArray(
            corrected.astype(np.uint8), segmentation, segmentId, volume
        )
        slices = self.logic.annotatedSlices(volume, segmentation)
        self.assertEqual(slices.places(), [(0, 4), (0, 12), (2, 8)])

    def test_discard(self) -> None:
        volume, segmentation = self._makeScene()
        count = slicer.mrmlScene.GetNumberOfNodes()
        run = self.logic.adapt(volume, segmentation, wait=True)
        self.assertIsNotNone(run.preview.node)
        self.logic.discard(run)
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodes(), count)

    def test_badInput(self) -> None:
        volume, _segmentation = self._makeScene()
        with self.assertRaises(InputError):
            self.logic.adapt(volume, None)

    def _makeScene(self):
        voxels = np.zeros(_SHAPE, np.int16)
        voxels[:, 5:15, 4:12], voxels[:, 5:15, 20:30] = 100, 160
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "CT")
        slicer.util.updateVolumeFromArray(volume, voxels)
        volume.SetSpacing(2, 2, 4)
        volume.CreateDefaultDisplayNodes()
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
        segmentation.CreateDefaultDisplayNodes()
        segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for name, intensity in (("liver", 100), ("spleen", 160)):
            mask = np.zeros(_SHAPE, np.uint8)
            mask[[4, 12]] = voxels[[4, 12]] == intensity
            segmentId = segmentation.GetSegmentation().AddEmptySegment(name, name)
            slicer.util.updateSegmentBinaryLabelmapFromArray(mask, segmentation, segmentId, volume)
        return volume, segmentation

    def _mask(self, segmentation, name, volume):
        segmentId = segmentation.GetSegmentation().GetSegmentIdBySegmentName(name)
        return slicer.util.arrayFromSegmentBinaryLabelmap(segmentation, segmentId, volume) > 0
