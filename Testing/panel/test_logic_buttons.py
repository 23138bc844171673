"""Every button is a method of the logic with the same name, which does its work without the panel."""

import ast
import inspect
import re
import textwrap
import xml.etree.ElementTree as ET

import pytest
import slicer

from panel_scene import MODULE, makeSegmentation, makeVolume, maskOf, standIn
from reglora_core.errors import InputError

pytest_plugins = "slicerhost.pytest_plugin"
GOOD = "started,progress,preview,nap,organ,adapter,result,finished"
UI = MODULE.parent / "Resources" / "UI" / "RegLoRASegment.ui"


def methodNames():
    """Return the names that the panel's buttons stand for.

    A check box counts as one unless its value lies in the parameter node.
    """
    names = []
    for widget in ET.parse(UI).iter("widget"):
        isBound = widget.find("property[@name='SlicerParameterName']") is not None
        kind = widget.get("class")
        if kind in ("QPushButton", "QToolButton", "ctkPushButton") or (kind == "QCheckBox" and not isBound):
            names.append(re.sub("(Button|Box)$", "", widget.get("name")))
    return names


@pytest.fixture
def logic(host, tmp_path):
    if not hasattr(slicer.modules, "reglorasegment"):
        host.load_module(MODULE)
    from RegLoRASegment import RegLoRASegmentLogic

    logic = RegLoRASegmentLogic()
    logic.temporaryFolder = str(tmp_path / "jobs")
    logic.workerCommand = standIn(GOOD)
    yield logic
    logic.close()


def session(logic):
    """Return the console session of the logic's docstring."""
    text = inspect.getdoc(type(logic))
    lines = text.split("\n\n", 1)[1].splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))


def test_there_are_buttons():
    assert len(methodNames()) >= 14
    assert {"adapt", "cancel", "apply", "discard", "install", "setNotPainted"} <= set(methodNames())


@pytest.mark.parametrize("name", methodNames())
def test_every_button_is_a_documented_method_of_the_logic(logic, name):
    method = getattr(logic, name)
    assert inspect.ismethod(method)
    assert method.__doc__
    assert f"logic.{name}(" in session(logic)


def test_the_session_of_the_docstring_runs_as_it_is(logic, host, tmp_path, monkeypatch):
    import SampleData

    from RegLoRASegmentLib import Install

    monkeypatch.chdir(tmp_path)
    volume, other = makeVolume(), makeVolume(name="next patient")
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D CT")
    sequence.SetDataNodeAtValue(volume, "0")
    monkeypatch.setattr(SampleData, "downloadSample", lambda name: volume, raising=False)
    installed = []
    monkeypatch.setattr(Install, "install", lambda: installed.append(True))
    names = {"slicer": slicer}
    for statement in ast.parse(session(logic)).body:
        source = ast.unparse(statement)
        exec(compile(ast.Module([statement], []), "session", "exec"), names)
        if source.startswith("segmentation ="):
            slicer.mrmlScene.RemoveNode(names["segmentation"])
            names["segmentation"] = painted(volume)
        if source.startswith("logic ="):
            names["logic"].temporaryFolder = str(tmp_path / "jobs")
            names["logic"].workerCommand = standIn(GOOD)
    names["logic"].close()
    assert installed == [True]
    assert maskOf(names["segmentation"], "liver", volume)[6:17].any(axis=(1, 2)).all()
    assert maskOf(slicer.util.getNode("next patient segmentation"), "liver", other).any()
    assert slicer.util.getNode("4D CT segmentation").GetNumberOfDataNodes() == 1


def painted(volume):
    """Return a segmentation with painted slices, and a body that is segmented throughout."""
    import numpy as np

    segmentation = makeSegmentation(volume)
    body = np.ones(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    segmentId = segmentation.GetSegmentation().AddEmptySegment("Segment_3", "body")
    slicer.util.updateSegmentBinaryLabelmapFromArray(body, segmentation, segmentId, volume)
    return segmentation


def test_an_organ_is_given_by_its_name_or_its_id(logic):
    volume = makeVolume()
    segmentation = painted(volume)
    logic.setUsed(volume, segmentation, "body")
    assert not logic.annotatedSlices(volume, segmentation).leftOut()
    logic.setUsed(volume, segmentation, "Segment_3", False)
    slices = logic.annotatedSlices(volume, segmentation)
    assert [paint.name for paint in slices.leftOut()] == ["body"]
    logic.setNotPainted(volume, segmentation, "liver", (0, 6), slices=slices)
    assert slices.annotation(["liver", "spleen"]).notPainted == {"liver": [6]}
    with pytest.raises(InputError, match="Organs has no segment kidney") as caught:
        logic.setUsed(volume, segmentation, "kidney")
    assert caught.value.hint == "its segments: liver, spleen, body"
