"""The stand-in of parameterNodeWrapper keeps typed values in the node, and the scene keeps them."""

import enum
import sys
import typing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "host"))
pytest_plugins = "slicerhost.pytest_plugin"


class Model(enum.Enum):
    TINY = 1
    LARGE = 2


@pytest.fixture
def a_node_class(host):
    import slicer
    from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper, parameterPack

    @parameterPack
    class Training:
        rank: typing.Annotated[int, WithinRange(1, 64)] = 8
        rate: float = 0.5

    @parameterNodeWrapper
    class Parameters:
        volume: slicer.vtkMRMLScalarVolumeNode
        steps: typing.Annotated[int, WithinRange(1, 100)] = 5
        name: str = "case"
        isShown: bool = True
        folder: Path
        model: Model = Model.LARGE
        slices: list[int]
        labels: dict[str, int]
        bounds: tuple[float, float]
        limit: typing.Optional[int]  # noqa: UP045 - the real one knows only this spelling
        training: Training

    return Parameters


@pytest.fixture
def a_node(a_node_class):
    return a_node_class(_script_node())


def _script_node():
    import slicer

    node = slicer.mrmlScene.GetSingletonNode("Example", "vtkMRMLScriptedModuleNode")
    if node is not None:
        return node
    node = slicer.vtkMRMLScriptedModuleNode()
    node.SetSingletonTag("Example")
    return slicer.mrmlScene.AddNode(node)


def _fill(parameters):
    import slicer

    parameters.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
    parameters.steps = 42
    parameters.name = "päck 7"
    parameters.isShown = False
    parameters.folder = Path("/tmp/some folder")
    parameters.model = Model.TINY
    parameters.slices = [3, 1, 2]
    parameters.labels = {"liver": 1, "spleen": 2}
    parameters.bounds = (0.25, 1e-7)
    parameters.limit = 9
    parameters.training.rank = 16


def _values(parameters):
    values = {name: getattr(parameters, name) for name in parameters.allParameters}
    values["volume"] = values["volume"].GetName() if values["volume"] else None
    training = values.pop("training")
    return {**values, "rank": training.rank, "rate": training.rate}


FILLED = {
    "volume": "scan",
    "steps": 42,
    "name": "päck 7",
    "isShown": False,
    "folder": Path("/tmp/some folder"),
    "model": Model.TINY,
    "slices": [3, 1, 2],
    "labels": {"liver": 1, "spleen": 2},
    "bounds": (0.25, 1e-7),
    "limit": 9,
    "rank": 16,
    "rate": 0.5,
}


def test_a_new_node_has_the_defaults(a_node):
    assert _values(a_node) == {
        "volume": None,
        "steps": 5,
        "name": "case",
        "isShown": True,
        "folder": Path(),
        "model": Model.LARGE,
        "slices": [],
        "labels": {},
        "bounds": (0, 0),
        "limit": None,
        "rank": 8,
        "rate": 0.5,
    }


def test_values_are_stored_as_slicer_stores_them(a_node):
    _fill(a_node)
    node = a_node.parameterNode

    stored = {name: node.GetParameter(name) for name in node.GetParameterNames()}

    assert stored["steps"] == "42"
    assert stored["isShown"] == "False"
    assert stored["model"] == "TINY"
    assert (stored["slices_len"], stored["slices_0"]) == ("3", "3")
    assert stored["limit_0"] == "9"
    assert stored["training.rank"] == "16"
    assert node.GetNodeReference("volume").GetName() == "scan"


@pytest.mark.parametrize("suffix", ["mrml", "mrb"])
def test_values_are_saved_with_the_scene_and_restored(a_node, a_node_class, tmp_path, suffix):
    import slicer

    _fill(a_node)
    path = tmp_path / f"scene.{suffix}"

    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))

    assert _values(a_node_class(_script_node())) == FILLED


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("steps", 0, ValueError),
        ("steps", "5", TypeError),
        ("steps", None, ValueError),
        ("name", 5, TypeError),
        ("slices", ["a"], TypeError),
    ],
)
def test_a_wrong_value_is_refused_and_the_old_one_kept(a_node, name, value, error):
    before = getattr(a_node, name)

    with pytest.raises(error):
        setattr(a_node, name, value)

    assert getattr(a_node, name) == before


def test_a_node_of_the_wrong_class_is_refused(a_node):
    import slicer

    with pytest.raises(TypeError):
        a_node.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")


def test_a_deleted_node_reads_as_none(a_node):
    import slicer

    a_node.volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")

    slicer.mrmlScene.RemoveNode(a_node.volume)

    assert a_node.volume is None


def test_changing_a_list_in_place_is_stored(a_node):
    a_node.slices = [1]

    a_node.slices.append(2)

    assert a_node.slices == [1, 2]


def test_a_type_without_serializer_is_refused(host):
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    class Parameters:
        when: complex

    with pytest.raises(TypeError, match="Unable to create serializer"):
        parameterNodeWrapper(Parameters)


class Panel:
    """The widgets, as slicer.util.childWidgetVariables gives them."""

    def __init__(self):
        import ctk
        import qt
        import slicer

        self.volumeSelector = slicer.qMRMLNodeComboBox()
        self.volumeSelector.noneEnabled = True
        self.volumeSelector.setMRMLScene(slicer.mrmlScene)
        self.stepsBox = qt.QSpinBox()
        self.nameEdit = qt.QLineEdit()
        self.shownBox = qt.QCheckBox()
        self.folderEdit = ctk.ctkPathLineEdit()
        self.modelBox = qt.QComboBox()
        self.rateBox = qt.QDoubleSpinBox()
        names = ("volume", "steps", "name", "isShown", "folder", "model", "training.rate")
        for widget, name in zip(vars(self).values(), names, strict=True):
            widget.setProperty("SlicerParameterName", name)


def test_connected_widgets_show_the_values(a_node):
    panel = Panel()
    _fill(a_node)

    a_node.connectGui(panel)

    assert panel.volumeSelector.currentNode().GetName() == "scan"
    assert (panel.stepsBox.value, panel.stepsBox.minimum, panel.stepsBox.maximum) == (42, 1, 100)
    assert panel.nameEdit.text == "päck 7"
    assert panel.shownBox.checked is False
    assert panel.folderEdit.currentPath == "/tmp/some folder"
    assert panel.modelBox.currentText == "TINY"
    assert panel.rateBox.value == 0.5


def test_widgets_and_values_follow_each_other_until_disconnected(a_node):
    panel = Panel()
    tag = a_node.connectGui(panel)

    panel.stepsBox.value = 7
    panel.modelBox.currentIndex = 0
    panel.rateBox.value = 0.75
    a_node.name = "other"
    a_node.disconnectGui(tag)
    panel.stepsBox.value = 8
    a_node.name = "third"

    assert (a_node.steps, a_node.model, a_node.training.rate) == (7, Model.TINY, 0.75)
    assert panel.nameEdit.text == "other"


def test_a_widget_that_cannot_show_the_type_is_refused(a_node):
    import ctk

    with pytest.raises(RuntimeError, match="ctkSliderWidget"):
        a_node.connectParametersToGui({"steps": ctk.ctkSliderWidget()})
