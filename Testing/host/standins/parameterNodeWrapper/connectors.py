"""Which widget can show which type: the same pairs as the real one's, no others."""

import enum
import math
import typing
from pathlib import PurePath

import ctk
import qt
import slicer

from .annotations import Choice, Decimals, Maximum, Minimum, SingleStep, WithinRange, first, split

_CHOOSABLE = (int, float, str, bool)


class GuiConnector:
    """Reads and writes one widget, and tells when the user has changed it."""

    signal = "valueChanged"

    def __init__(self, widget, kind, annotations):
        self._widget, self._kind, self._annotations = widget, kind, annotations
        self._callback = None

    def widget(self):
        return self._widget

    def onChanged(self, callback):
        """Call `callback` after each change of the widget; None to stop."""
        was_connected, self._callback = self._callback is not None, callback
        signal = getattr(self._widget, self.signal)
        if callback is not None and not was_connected:
            signal.connect(self._changed)
        elif callback is None and was_connected:
            signal.disconnect(self._changed)

    def _changed(self, *_):
        if self._callback is not None:
            self._callback()


class _ValueConnector(GuiConnector):
    """A widget property of the parameter's type."""

    name = "value"

    def read(self):
        return getattr(self._widget, self.name)

    def write(self, value):
        if self.read() != value:
            setattr(self._widget, self.name, value)


class CheckConnector(_ValueConnector):
    signal, name = "toggled", "checked"


class NumberConnector(_ValueConnector):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        for annotation, name in ((Decimals, "decimals"), (SingleStep, "singleStep")):
            found = first(self._annotations, annotation)
            if found is not None:
                setattr(self._widget, name, found.value)
        low, high = self._limits()
        needs_limits = type(self._widget) in (qt.QSlider, ctk.ctkSliderWidget)
        if needs_limits and (low is None or high is None):
            message = "Cannot have a connection to a slider where the type is unbounded."
            raise RuntimeError(message)
        largest = 2**31 - 1 if self._kind is int else math.inf
        self._widget.minimum = -largest if low is None else low
        self._widget.maximum = largest if high is None else high

    def _limits(self):
        within = first(self._annotations, WithinRange)
        if within is not None:
            return within.minimum, within.maximum
        low, high = first(self._annotations, Minimum), first(self._annotations, Maximum)
        return low and low.minimum, high and high.maximum


class LineConnector(_ValueConnector):
    signal, name = "textChanged", "text"


class TextConnector(GuiConnector):
    signal = "textChanged"

    def read(self):
        return self._widget.toPlainText()

    def write(self, value):
        if self.read() != value:
            self._widget.setPlainText(value)


class ChoiceConnector(GuiConnector):
    signal = "currentIndexChanged"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._widget.clear()
        for choice in self._choices():
            self._widget.addItem(self._label(choice))

    def _choices(self):
        return list(first(self._annotations, Choice).choices)

    def _label(self, choice):
        return str(choice)

    def read(self):
        return self._choices()[self._widget.currentIndex]

    def write(self, value):
        self._widget.currentIndex = self._choices().index(value)


class EnumConnector(ChoiceConnector):
    def _choices(self):
        return list(self._kind)

    def _label(self, choice):
        return choice.label() if hasattr(choice, "label") else choice.name


class PathConnector(GuiConnector):
    signal = "currentPathChanged"

    def read(self):
        return self._kind(self._widget.currentPath)

    def write(self, value):
        self._widget.currentPath = str(value)


class NodeConnector(GuiConnector):
    signal = "currentNodeChanged"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self._widget.nodeTypes = [kind.__name__ for kind in _node_types(self._kind)]

    def read(self):
        return self._widget.currentNode()

    def write(self, value):
        self._widget.setCurrentNode(value)


def createGuiConnector(widget, datatype):
    """Raise RuntimeError if the real wrapper has no connector for this widget and type."""
    kind, annotations = split(datatype)
    connector = _connector_class(type(widget), kind, annotations)
    if connector is None:
        message = f"Unable to connect a parameter of type {datatype} to a {type(widget).__name__}"
        raise RuntimeError(message)
    return connector(widget, kind, annotations)


def _connector_class(widget_class, kind, annotations):
    is_class = isinstance(kind, type)
    pairs = (
        (CheckConnector, kind is bool, (qt.QCheckBox, qt.QPushButton)),
        (NumberConnector, kind is int, (qt.QSlider, qt.QSpinBox)),
        (NumberConnector, kind is float, (qt.QDoubleSpinBox, ctk.ctkSliderWidget)),
        (EnumConnector, is_class and issubclass(kind, enum.Enum), (qt.QComboBox,)),
        (
            ChoiceConnector,
            kind in _CHOOSABLE and first(annotations, Choice),
            (qt.QComboBox,),
        ),
        (LineConnector, kind is str, (qt.QLineEdit,)),
        (TextConnector, kind is str, (qt.QTextEdit,)),
        (PathConnector, is_class and issubclass(kind, PurePath), (ctk.ctkPathLineEdit,)),
        (NodeConnector, bool(_node_types(kind)), (slicer.qMRMLNodeComboBox,)),
    )
    for connector, fits, widget_classes in pairs:
        if fits and widget_class in widget_classes:
            return connector
    return None


def _node_types(kind):
    members = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    members = [member for member in members if member is not type(None)]
    is_node = all(isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode) for m in members)
    return members if is_node else []
