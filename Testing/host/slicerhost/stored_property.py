"""Qt properties of a stand-in that only remember their value."""

from PySide6 import QtCore


def stored(kind, name, default, changed=None):
    """Return (Qt property, setter method) for a stand-in class.

    `changed`: called with the widget after the value has changed.
    """
    key = f"_stored_{name}"

    def read(self):
        return self.__dict__.get(key, default)

    def write(self, value):
        if read(self) != value:
            self.__dict__[key] = value
            if changed is not None:
                changed(self)

    return QtCore.Property(kind, read, write), write
