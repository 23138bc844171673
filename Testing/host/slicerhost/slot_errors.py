"""Errors raised in slots and observers, which Qt and VTK print and then forget."""

import sys


class SlotErrors:
    """Keeps every exception that reaches sys.excepthook, and prints it as before."""

    def __init__(self):
        self._errors = []
        self._print = sys.excepthook
        sys.excepthook = self._on_error

    def raise_first(self):
        """Raise the first error since the last call, if there was one."""
        errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def take(self):
        """Return the errors since the last call, for a test that expects them."""
        errors, self._errors = self._errors, []
        return errors

    def _on_error(self, kind, error, traceback):
        self._errors.append(error)
        self._print(kind, error, traceback)
