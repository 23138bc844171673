"""A real MRML scene without the application, and small volumes and segmentations in it.

Run with the environment of the test host:  .venv-host/bin/python -m pytest Testing/scene
"""

import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
HOST = ROOT / "Testing" / "host"
sys.path[:0] = [str(HOST), str(ROOT / "RegLoRASegment"), str(ROOT)]

slicer = pytest.importorskip("slicer", reason="needs slicer-core (Testing/host/requirements.txt)")
import vtk  # noqa: E402

importlib.import_module("slicer.util")
slicer.__path__.append(str(HOST / "standins"))


@pytest.fixture(scope="session")
def _application():
    from slicerhost.scene import MrmlApplication

    return MrmlApplication()


@pytest.fixture
def scene(_application):
    yield slicer.mrmlScene
    slicer.mrmlScene.Clear(0)


@pytest.fixture(scope="session")
def data_folder():
    """The real scans; tests that ask for them are skipped where they are absent."""
    folder = Path(os.environ.get("REGLORA_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder} (set REGLORA_DATA)")
    return folder


def rotation(axis, degrees):
    """Return a 4x4 rotation about a world axis."""
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(degrees, *axis)
    matrix = transform.GetMatrix()
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


def vtkMatrix(array):
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(array, float).ravel())
    return matrix


class Scene:
    """Makes nodes in the scene."""

    def volume(self, shape=(12, 20, 30), toRas=None, dtype=np.int16, name="CT"):
        voxels = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        slicer.util.updateVolumeFromArray(node, voxels)
        node.SetIJKToRASMatrix(vtkMatrix(np.diag([1.5, 1.5, 3, 1]) if toRas is None else toRas))
        node.CreateDefaultDisplayNodes()
        return node

    def segmentation(self, volume, masks, name="Organs", **options):
        """Return a segmentation with one segment per mask (k, j, i) on the volume's grid."""
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for organ, mask in masks.items():
            self.add(node, volume, organ, mask)
        node.GetSegmentation().CollapseBinaryLabelmaps(False)
        return node

    def add(self, node, volume, name, mask):
        """Add a segment by Slicer's own editing logic; those that do not overlap share a layer."""
        segmentId = node.GetSegmentation().AddEmptySegment(name, name)
        self.paint(node, volume, segmentId, mask)
        return segmentId

    def paint(self, node, volume, segmentId, mask):
        logic, editor = self.editor(node, volume)
        editor.SetOverwriteMode(editor.OverwriteNone)
        logic.SetCurrentSegmentID(segmentId)
        assert logic.ResetModifierLabelmapToDefault()
        labelmap = logic.GetModifierLabelmap()
        extent = labelmap.GetExtent()
        shape = [extent[2 * axis + 1] - extent[2 * axis] + 1 for axis in (2, 1, 0)]
        assert list(mask.shape) == shape
        voxels = vtk.util.numpy_support.vtk_to_numpy(labelmap.GetPointData().GetScalars())
        voxels.reshape(shape)[mask] = 1
        labelmap.Modified()
        logic.ModifySegmentByLabelmap(node, segmentId, labelmap, logic.ModificationModeSet, False, True)
        slicer.mrmlScene.RemoveNode(editor)

    def editor(self, node, volume):
        logic = slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        editor = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentEditorNode")
        logic.SetSegmentEditorNode(editor)
        logic.SetSegmentationNode(node)
        logic.SetSourceVolumeNode(volume)
        return logic, editor

    def transform(self, node, matrix):
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(vtkMatrix(matrix))
        node.SetAndObserveTransformNodeID(transform.GetID())
        return transform

    def mask(self, node, name, volume):
        """Return what Slicer itself says a segment is on a volume's grid."""
        segmentId = node.GetSegmentation().GetSegmentIdBySegmentName(name)
        return slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, volume) > 0

    def rotation(self, axis, degrees):
        return rotation(axis, degrees)


@pytest.fixture
def make(scene):
    return Scene()


@pytest.fixture
def box():
    """Return a function that draws boxes: box(shape, k, j, i), each a slice or an index."""

    def draw(shape, *places):
        mask = np.zeros(shape, bool)
        mask[tuple(places)] = True
        return mask

    return draw


def pytest_unconfigure(config):
    """End at once: the interpreter's normal exit can crash in VTK."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    sys.stdout.flush()
    sys.stderr.flush()
    if reporter is not None:
        failed = bool(reporter.stats.get("failed") or reporter.stats.get("error"))
        os._exit(1 if failed or not reporter.stats.get("passed") else 0)
