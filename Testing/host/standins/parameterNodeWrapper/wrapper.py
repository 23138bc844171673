"""@parameterNodeWrapper: the parameters of a node as typed properties, connected to widgets."""

import logging
import typing

import qt
import slicer
import vtk

from .annotations import Default, first, split
from .connectors import GuiConnector, createGuiConnector
from .serializers import serializer_of

PARAMETER_NAME = "SlicerParameterName"
_connected_wrappers = set()  # Python's garbage collector must not take a wrapper that is observed
_FORWARDED = ("StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified")


class Parameter:
    """Name, type, serializer and default of one parameter."""

    def __init__(self, name, hint, cls):
        self.basename, self.unalteredType = name, hint
        self.serializer, unused = serializer_of(hint)
        if unused:
            logging.debug("annotations of %s for widgets only: %s", name, unused)
        default = first(split(hint)[1], Default)
        if name in cls.__dict__:
            self.default = Default(cls.__dict__[name])
        else:
            self.default = default or Default(self.serializer.default())


def isParameterNodeWrapper(wrapper):
    return bool(getattr(wrapper, "_is_parameter_node_wrapper", False))


def parameterNodeWrapper(cls=None):
    """Class decorator: make the annotated members typed properties of a parameter node."""
    if cls is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(cls, include_extras=True)
    parameters = {name: Parameter(name, hint, cls) for name, hint in hints.items()}
    members = {
        "_is_parameter_node_wrapper": True,
        "allParameters": parameters,
        "dataType": staticmethod(lambda name: _data_type(parameters, name)),
        "default": lambda self, name: parameters[_known(parameters, name)].default,
        "getValue": _get_value,
        "setValue": _set_value,
        "connectGui": _connect_gui,
        "connectParametersToGui": _connect_parameters,
        "disconnectGui": _disconnect_gui,
    }
    members |= {name: _forward(name) for name in _FORWARDED}
    taken = [name for name in members if hasattr(cls, name) or name in parameters]
    if taken:
        message = f"Cannot use reserved name '{taken[0]}' in a parameterNodeWrapper"
        raise ValueError(message)
    for name, member in members.items():
        setattr(cls, name, member)
    for name in parameters:
        setattr(cls, name, _property(name))
    cls.__init__ = _init
    return cls


def findChildWidgetForParameter(widget, parameter):
    for child in widget.findChildren(qt.QWidget):
        if child.property(PARAMETER_NAME) == parameter:
            return child
    return None


def _init(self, parameterNode, prefix=None):
    self.parameterNode = parameterNode
    self._prefix = prefix or ""
    self._connected, self._next_tag, self._is_updating = {}, 0, False
    for name, parameter in self.allParameters.items():
        if not parameter.serializer.isIn(parameterNode, self._prefix + name):
            parameter.serializer.write(parameterNode, self._prefix + name, parameter.default.value)


def _property(name):
    return property(
        lambda self: self.getValue(name), lambda self, value: self.setValue(name, value)
    )


def _forward(name):
    return lambda self, *arguments: getattr(self.parameterNode, name)(*arguments)


def _known(parameters, name):
    top = name.partition(".")[0]
    if top not in parameters:
        message = f"Cannot find a param with the given name: {top}; there are {list(parameters)}"
        raise ValueError(message)
    return top


def _data_type(parameters, name):
    hint = parameters[_known(parameters, name)].unalteredType
    rest = name.partition(".")[2]
    return split(hint)[0].dataType(rest) if rest else hint


def _get_value(self, name):
    top = _known(self.allParameters, name)
    serializer = self.allParameters[top].serializer
    if not serializer.isIn(self.parameterNode, self._prefix + top):
        serializer.write(
            self.parameterNode, self._prefix + top, self.allParameters[top].default.value
        )
    value = serializer.read(self.parameterNode, self._prefix + top)
    rest = name.partition(".")[2]
    return value.getValue(rest) if rest else value


def _set_value(self, name, value):
    top = _known(self.allParameters, name)
    rest = name.partition(".")[2]
    if rest:
        self.getValue(top).setValue(rest, value)
    else:
        self.allParameters[top].serializer.write(self.parameterNode, self._prefix + top, value)


def _connect_gui(self, gui):
    """Connect every widget whose dynamic property SlicerParameterName names a parameter."""
    is_widget = getattr(gui, "isWidgetType", lambda: False)()
    widgets = gui.findChildren(qt.QWidget) if is_widget else vars(gui).values()
    named = {widget.property(PARAMETER_NAME): widget for widget in widgets}
    return self.connectParametersToGui({name: widget for name, widget in named.items() if name})


def _connect_parameters(self, mapping):
    """`mapping`: parameter name -> widget or GuiConnector. Return the tag for disconnectGui."""
    connectors = {
        name: widget
        if isinstance(widget, GuiConnector)
        else createGuiConnector(widget, self.dataType(name))
        for name, widget in mapping.items()
    }
    for name, connector in connectors.items():
        connector.write(self.getValue(name))
        connector.onChanged(_write_on_change(self, name, connector))
    observer = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: _show(self, connectors))
    tag, self._next_tag = self._next_tag, self._next_tag + 1
    self._connected[tag] = (connectors, observer)
    _connected_wrappers.add(self)
    return tag


def _disconnect_gui(self, tag):
    if tag not in self._connected:
        return
    connectors, observer = self._connected.pop(tag)
    if not self._connected:
        _connected_wrappers.discard(self)
    self.RemoveObserver(observer)
    for connector in connectors.values():
        connector.onChanged(None)


def _write_on_change(self, name, connector):
    def write():
        if not self._is_updating:
            with slicer.util.NodeModify(self.parameterNode):
                self.setValue(name, connector.read())

    return write


def _show(self, connectors):
    if self._is_updating:
        return
    self._is_updating = True
    try:
        with slicer.util.NodeModify(self.parameterNode):
            for name, connector in connectors.items():
                connector.write(self.getValue(name))
    finally:
        self._is_updating = False
