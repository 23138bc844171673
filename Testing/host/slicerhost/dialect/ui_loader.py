"""qt.QUiLoader with stand-ins for the promoted classes (ctk*, qMRML*, qSlicer*) of a .ui file.

Not modelled: translations inside a .ui file, and custom slots of the form itself.
"""

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtUiTools, QtWidgets

from .signals import connect

STAND_INS: dict[str, type] = {}  # class name in a .ui file -> stand-in


def stand_in(cls):
    """Register `cls` as the stand-in of the Slicer or CTK class of the same name."""
    cls.is_stand_in = True
    STAND_INS[cls.__name__] = cls
    return cls


class QUiLoader(QtUiTools.QUiLoader):
    """Load a .ui file; raise on any class, property, signal or slot the host does not know."""

    def __init__(self, parent=None):
        super().__init__(parent)
        for cls in STAND_INS.values():
            self.registerCustomWidget(cls)

    def load(self, device, parent=None):
        root = ElementTree.fromstring(bytes(device.readAll()))
        _check_classes(root)
        connections = [
            tuple(item.findtext(tag) for tag in ("sender", "signal", "receiver", "slot"))
            for item in root.iter("connection")
        ]
        for element in root.findall("connections"):
            root.remove(element)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            raise RuntimeError(self.errorString())
        _check_widgets(root, widget)
        for sender, signal, receiver, slot in connections:
            connect(_named(widget, sender), signal, _named(widget, receiver), slot)
        return widget


def _check_classes(root):
    unknown = {
        element.get("class")
        for element in root.iter("widget")
        if element.get("class") not in STAND_INS and not hasattr(QtWidgets, element.get("class"))
    }
    if unknown:
        message = f"the test host has no stand-in for {', '.join(sorted(unknown))}"
        raise RuntimeError(message)


def _check_widgets(root, form):
    for element in root.iter("widget"):
        widget = _named(form, element.get("name"))
        if widget.className() != element.get("class"):  # the stand-in's __init__ raised
            message = f"{element.get('name')}: {element.get('class')} could not be made"
            raise RuntimeError(message)
        meta = widget.metaObject()
        for item in element.findall("property"):
            name = item.get("name")
            if item.get("stdset") != "0" and meta.indexOfProperty(name) < 0:
                message = f"{element.get('name')}: {element.get('class')} has no property {name!r}"
                raise RuntimeError(message)


def _named(form, name):
    found = form if form.objectName == name else form.findChild(QtCore.QObject, name)
    if found is None:
        message = f"the .ui file names {name!r}, which is not in it"
        raise RuntimeError(message)
    return found
