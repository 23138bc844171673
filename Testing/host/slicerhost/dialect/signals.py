"""`object.connect("signal(types)", function)` as in PythonQt, but an unknown signal raises.

The real PythonQt prints a line and returns False for a signal that does not exist, so that a
misspelt connection goes unnoticed; the host raises ValueError instead.
"""

import re
import types

import shiboken6
from PySide6 import QtCore

SIGNATURE = re.compile(r"^\s*([A-Za-z_]\w*)\s*\((.*)\)\s*$")
_qt_connect = QtCore.QObject.connect
_qt_disconnect = QtCore.QObject.disconnect
_connections: dict[int, list] = {}  # address of the C++ object -> (signature, target, signal, call)


def speak_python_qt(cls):
    """Put PythonQt's connect and disconnect in front of the ones PySide6 generates for `cls`."""
    original = cls.__dict__.get("__getattribute__")
    if original is None and cls is not QtCore.QObject:
        return  # inherited, and so already PythonQt's
    original = original or cls.__getattribute__

    def get_attribute(self, name):
        if name == "connect":
            return types.MethodType(connect, self)
        if name == "disconnect":
            return types.MethodType(disconnect, self)
        return original(self, name)

    cls.__getattribute__ = get_attribute


def connect(sender, signature, *receiver):
    """Connect as PythonQt does: (signal, callable) or (signal, object, "slot(types)").

    Raises:
        ValueError: the class of `sender` has no such signal.
    """
    if isinstance(signature, QtCore.QObject):  # PySide6's own call, in QTimer.singleShot
        return _qt_connect(signature, *receiver)
    target = receiver[0] if len(receiver) == 1 else slot_of(receiver[0], receiver[1])
    signal, argument_count = _find_signal(sender, signature)
    call = _with_as_many_arguments_as_it_takes(target, argument_count)
    if isinstance(signal, str):
        _qt_connect(sender, signal, call)
    else:
        signal.connect(call)
    _record(sender, (signature, target, signal, call))
    return True


def disconnect(sender, signature=None, *receiver):
    """Undo connect(); return False if there was no such connection, as PythonQt does."""
    target = slot_of(*receiver) if len(receiver) == 2 else next(iter(receiver), None)
    records = _connections.get(_address(sender), [])
    matching = [
        record
        for record in records
        if signature in (None, record[0]) and (target is None or record[1] == target)
    ]
    for record in matching:
        _, _, signal, call = record
        if isinstance(signal, str):
            _qt_disconnect(sender, signal, call)
        else:
            signal.disconnect(call)
        records.remove(record)
    return bool(matching)


def slot_of(receiver, slot_signature):
    """Return the method that "slot(types)" names, or raise ValueError if there is none."""
    name = _parse(slot_signature)[0]
    slot = getattr(receiver, name, None)
    if not callable(slot):
        message = f"{type(receiver).__name__} has no slot {slot_signature!r}"
        raise ValueError(message)
    return slot


def _parse(signature):
    match = SIGNATURE.match(signature)
    if match is None:
        message = (
            f"{signature!r} is not a signature; write it with its types, as in 'clicked(bool)'"
        )
        raise ValueError(message)
    name, arguments = match.groups()
    arguments = arguments.replace("const ", "").replace("&", "").replace(" ", "")
    return name, [argument for argument in arguments.split(",") if argument]


def _find_signal(sender, signature):
    """Return (Qt's SIGNAL string or a signal of a stand-in, number of its arguments)."""
    name, arguments = _parse(signature)
    normalized = f"{name}({','.join(arguments)})"
    declared = getattr(type(sender), "SIGNALS", {})
    if normalized in declared:
        return getattr(sender, declared[normalized]), len(arguments)
    meta = sender.metaObject()
    methods = (meta.method(index) for index in range(meta.methodCount()))
    known = [
        bytes(method.methodSignature()).decode()
        for method in methods
        if method.methodType() == QtCore.QMetaMethod.Signal
    ]
    if normalized in known:
        return QtCore.SIGNAL(normalized), len(arguments)
    similar = [s for s in [*declared, *known] if s.startswith(name + "(")]
    message = (
        f"{type(sender).__name__} has no signal {signature!r}; of that name: {similar or 'none'}"
    )
    raise ValueError(message)


def _with_as_many_arguments_as_it_takes(function, argument_count):
    """PythonQt hands over as many of a signal's arguments as the Python function takes."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    takes_any_number = code is None or code.co_flags & 0x04
    if not takes_any_number:
        bound = 1 if hasattr(function, "__self__") else 0
        argument_count = min(argument_count, code.co_argcount - bound)

    def call(*arguments):
        return function(*arguments[:argument_count])

    return call


def _address(instance):
    return shiboken6.getCppPointer(instance)[0]


def _record(sender, record):
    address = _address(sender)
    if address not in _connections:
        _connections[address] = []
        _qt_connect(sender, QtCore.SIGNAL("destroyed()"), lambda: _connections.pop(address, None))
    _connections[address].append(record)
