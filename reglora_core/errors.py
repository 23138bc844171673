"""Errors that a user can act on.

    RegLoRAError
    ├── InputError            bad input or usage: exit code 2
    │   ├── ModelError        a base network that is unknown, incomplete or does not fit
    │   ├── AdapterError      an adapter file that is damaged, too new or for another base network
    │   └── OutputError       a place that cannot be written: permission, full disk, in use
    ├── ResourceError         too little memory even for the smallest patch: exit code 2
    └── Cancelled             the user asked to stop: exit code 3

A message says what is wrong, the value, and what to do, in one line. Everything that is not a
RegLoRAError is a defect of ours: exit code 1.
"""

from __future__ import annotations


class RegLoRAError(Exception):
    """The root of all errors that carry a message for the user."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split())

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class InputError(RegLoRAError):
    """Input or usage that cannot work as given."""


class ModelError(InputError):
    """A base network that is unknown, incomplete or of another layout."""


class AdapterError(InputError):
    """An adapter file that cannot be used."""


class OutputError(InputError):
    """An output place that cannot be written."""


class ResourceError(RegLoRAError):
    """Memory or disk that does not suffice."""


class Cancelled(RegLoRAError):
    """The user asked to stop; what was finished is kept."""

    exit_code = 3

    def __init__(self, message: str = "cancelled") -> None:
        super().__init__(message)
