"""The test host loads .ui files with stand-ins, and refuses what it does not know."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))
pytest_plugins = "slicerhost.pytest_plugin"

FORM = """<?xml version="1.0"?>
<ui version="4.0"><class>Form</class>
 <widget class="qMRMLWidget" name="Form"><layout class="QVBoxLayout" name="l">
  <item><widget class="{cls}" name="child">{properties}</widget></item>
 </layout></widget>
 <customwidgets>
  <customwidget><class>qMRMLWidget</class><extends>QWidget</extends><header>a.h</header>
   <container>1</container></customwidget>
  <customwidget><class>{cls}</class><extends>QWidget</extends><header>b.h</header></customwidget>
 </customwidgets>
 <connections>{connections}</connections>
</ui>"""
CONNECTION = (
    "<connection><sender>Form</sender><signal>{0}</signal>"
    "<receiver>child</receiver><slot>{1}</slot></connection>"
)


@pytest.fixture
def load(host, tmp_path):
    def load(cls="qMRMLNodeComboBox", properties="", connections=""):
        import slicer

        path = tmp_path / "form.ui"
        path.write_text(FORM.format(cls=cls, properties=properties, connections=connections))
        return slicer.util.loadUI(str(path))

    return load


def test_promoted_widgets_become_stand_ins_with_their_properties(load):
    import slicer

    form = load(properties='<property name="noneEnabled"><bool>true</bool></property>')

    child = slicer.util.findChild(form, "child")
    assert child.className() == "qMRMLNodeComboBox"
    assert child.noneEnabled is True


def test_a_connection_of_the_form_reaches_its_slot(load):
    import slicer

    connection = CONNECTION.format("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
    form = load(connections=connection)

    form.setMRMLScene(slicer.mrmlScene)

    assert slicer.util.findChild(form, "child").mrmlScene() is slicer.mrmlScene


def test_named_widgets_are_found_as_in_slicer(load):
    import slicer

    ui = slicer.util.childWidgetVariables(load())

    assert ui.child.name == "child"


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"cls": "qMRMLTreeView"}, "no stand-in for qMRMLTreeView"),
        (
            {"properties": '<property name="nodeType"><string>x</string></property>'},
            "has no property 'nodeType'",
        ),
    ],
)
def test_an_unknown_class_or_property_is_refused(load, form, message):
    with pytest.raises(RuntimeError, match=message):
        load(**form)


@pytest.mark.parametrize(
    ("signal", "slot", "message"),
    [
        ("sceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)", "has no signal"),
        ("mrmlSceneChanged(vtkMRMLScene*)", "setScene(vtkMRMLScene*)", "has no slot"),
    ],
)
def test_an_unknown_signal_or_slot_is_refused(load, signal, slot, message):
    with pytest.raises(ValueError, match=message):
        load(connections=CONNECTION.format(signal, slot))
