"""Qt properties as attributes, and no new attributes on Qt objects, as in PythonQt.

PySide6's own `true_property` feature is not used: it removes the setters, which PythonQt keeps.
"""

import inspect

from PySide6 import QtCore

# Virtual functions that Qt itself calls on a Python subclass; PythonQt shows them as properties,
# here they stay callable and lint_pythonqt.py refuses the call.
VIRTUAL_PROPERTIES = {"sizeHint", "minimumSizeHint"}


class StaticAndProperty:
    """A static function on the class and a property on an object, as QTimer.singleShot."""

    def __init__(self, static, getter, setter):
        self._static, self._getter, self._setter = static, getter, setter

    def __get__(self, instance, owner):
        return self._static if instance is None else self._getter(instance)

    def __set__(self, instance, value):
        self._setter(instance, value)


def _static_and_property(cls, name):
    is_name = "is" + _upper(name)
    if hasattr(cls, is_name):  # QTimer.isSingleShot
        getter, setter = getattr(cls, is_name), getattr(cls, _setter_name(name))
        return StaticAndProperty(getattr(cls, name), getter, setter)
    static = getattr(cls, name)  # QCoreApplication.applicationName and its like: all static
    return StaticAndProperty(
        static, lambda _: static(), lambda instance, value: instance.setProperty(name, value)
    )


def show_properties(cls):
    """Make the Qt properties that `cls` itself declares readable and writable as attributes."""
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if name in VIRTUAL_PROPERTIES or isinstance(
            cls.__dict__.get(name), property | QtCore.Property
        ):
            continue
        if isinstance(inspect.getattr_static(cls, name, None), staticmethod) or (
            cls is QtCore.QTimer and name == "singleShot"
        ):
            setattr(cls, name, _static_and_property(cls, name))
        else:
            setattr(cls, name, _property(cls, name, meta.property(index).isWritable()))


def forbid_new_attributes(cls):
    """Refuse attributes that the C++ class does not have; PythonQt raises the same error."""
    if "__setattr__" in cls.__dict__ or cls is QtCore.QObject:
        cls.__setattr__ = _set_attribute


def _set_attribute(self, name, value):
    owner = type(self)
    known = inspect.getattr_static(owner, name, None)
    if isinstance(known, QtCore.Property):  # of a stand-in; PySide6 keeps its setter to itself
        _set_property(self, name, value)
        return
    if hasattr(type(known), "__set__"):
        known.__set__(self, value)
        return
    is_cpp = owner.__module__.startswith("PySide6")
    is_stand_in = getattr(owner, "is_stand_in", False)
    is_signal = isinstance(value, QtCore.SignalInstance)  # PySide6 keeps its signals so
    if not is_signal and (is_cpp or (is_stand_in and not name.startswith("_"))):
        message = (
            f"'{name}' does not exist on {owner.__name__} and creating new attributes "
            "on C++ objects is not allowed"
        )
        raise AttributeError(message)
    self.__dict__[name] = value


def _upper(name):
    return name[0].upper() + name[1:]


def _setter_name(name):
    return "set" + _upper(name)


def _property(cls, name, is_writable):
    getter = _own_getter(cls, name)
    setter = getattr(cls, _setter_name(name), None)

    def read(self):
        if getter is not None:
            try:
                return getter(self)
            except TypeError:  # an overload of the same name that takes arguments
                pass
        return self.property(name)

    def write(self, value):
        try:
            setter(self, value)
        except TypeError:  # no setter, or one that takes something else than the property's type
            _set_property(self, name, value)

    return property(read, write if is_writable else None)


def _set_property(instance, name, value):
    if not instance.setProperty(name, value):
        message = f"{type(instance).__name__}.{name}: cannot be set to {value!r}"
        raise TypeError(message)


def _own_getter(cls, name):
    for candidate in (name, "is" + _upper(name), "has" + _upper(name), "get" + _upper(name)):
        if candidate in cls.__dict__:
            return cls.__dict__[candidate]
    return None
