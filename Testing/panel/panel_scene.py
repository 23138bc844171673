"""Scenes for the tests of the panel and of its logic: a small CT with painted organs."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for folder in (ROOT, ROOT / "RegLoRASegment", ROOT / "Testing" / "host"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import numpy as np  # noqa: E402
import slicer  # noqa: E402

MODULE = ROOT / "RegLoRASegment" / "RegLoRASegment.py"
WORKER = Path(__file__).parent / "stand_in_worker.py"
SHAPE = (24, 40, 44)
TO_RAS = np.diag([-2.0, -2.0, 4.0, 1.0])
LIVER, SPLEEN = (slice(6, 30), slice(5, 20)), (slice(8, 26), slice(26, 40))


def makeVolume(shape=SHAPE, name="CT"):
    voxels = np.full(shape, -50, np.int16)
    voxels[2:-2][(slice(None), *LIVER)] = 110
    voxels[2:-2][(slice(None), *SPLEEN)] = 160
    toRas = TO_RAS.copy()
    toRas[:3, 3] = (40, 40, -40)
    volume = slicer.util.addVolumeFromArray(voxels, toRas, name)
    volume.CreateDefaultDisplayNodes()
    return volume


def makeSegmentation(volume, slices=(6, 16), name="Organs"):
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    for organ, place in (("liver", LIVER), ("spleen", SPLEEN)):
        mask = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
        for index in slices:
            mask[(index, *place)] = 1
        segmentId = node.GetSegmentation().AddEmptySegment(organ, organ)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, node, segmentId, volume)
    return node


def maskOf(node, name, volume):
    segmentId = node.GetSegmentation().GetSegmentIdBySegmentName(name)
    return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume) > 0


def standIn(scenario):
    """Return the worker command that plays a scenario."""
    return [sys.executable, str(WORKER), scenario]
