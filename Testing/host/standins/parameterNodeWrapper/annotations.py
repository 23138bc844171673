"""What may stand in Annotated[type, ...]: defaults, validators and hints for widgets."""

import typing
from dataclasses import dataclass


@dataclass
class Default:
    value: typing.Any


@dataclass
class Decimals:
    value: int


@dataclass
class SingleStep:
    value: float


@dataclass
class Label:
    label: str


@dataclass
class Tooltip:
    text: str


class Validator:
    """Checks a value before it is written."""

    def validate(self, value):
        raise NotImplementedError


@dataclass
class NotNone(Validator):
    def validate(self, value):
        if value is None:
            message = "Value may not be None"
            raise ValueError(message)


@dataclass
class IsInstance(Validator):
    classtype: type | tuple

    def validate(self, value):
        if value is not None and not isinstance(value, self.classtype):
            message = f"Value must be of type '{self.classtype}', is type '{type(value)}'"
            raise TypeError(message)


@dataclass
class WithinRange(Validator):
    minimum: float
    maximum: float

    def validate(self, value):
        if not self.minimum <= value <= self.maximum:
            message = f"Value must be within range [{self.minimum}, {self.maximum}], is {value}"
            raise ValueError(message)


@dataclass
class Minimum(Validator):
    minimum: float

    def validate(self, value):
        if value < self.minimum:
            message = f"Value must be at least {self.minimum}, is {value}"
            raise ValueError(message)


@dataclass
class Maximum(Validator):
    maximum: float

    def validate(self, value):
        if value > self.maximum:
            message = f"Value must be at most {self.maximum}, is {value}"
            raise ValueError(message)


@dataclass
class Choice(Validator):
    choices: list

    def validate(self, value):
        if value not in self.choices:
            message = f"Value must be one of {self.choices}, is {value}"
            raise ValueError(message)


def split(hint):
    """Return (type, annotations) of a possibly annotated type."""
    if typing.get_origin(hint) is typing.Annotated:
        kind, *annotations = typing.get_args(hint)
        return kind, annotations
    return hint, []


def first(annotations, kind):
    """Return the first annotation of a class, or None."""
    return next((item for item in annotations if isinstance(item, kind)), None)
