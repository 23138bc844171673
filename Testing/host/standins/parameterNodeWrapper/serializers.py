"""How a value of each type is written to, and read from, a vtkMRMLScriptedModuleNode."""

import enum
import pathlib
import typing

import slicer

from .annotations import Default, IsInstance, NotNone, Validator, split


class Serializer:
    """One parameter of a node; the base class stores it as one string."""

    def __init__(self, kind, parse, to_text=str, zero=None):
        self.kind, self._parse, self._to_text, self._zero = kind, parse, to_text, zero

    def default(self):
        return self._zero

    def isIn(self, node, name):
        return bool(node.HasParameter(name))

    def write(self, node, name, value):
        node.SetParameter(name, self._to_text(value))

    def read(self, node, name):
        return self._parse(node.GetParameter(name))

    def remove(self, node, name):
        node.UnsetParameter(name)


class ValidatedSerializer(Serializer):
    """A serializer that refuses wrong values."""

    def __init__(self, serializer, validators):
        self.serializer, self.validators = serializer, validators
        self.kind = serializer.kind

    def default(self):
        return self.serializer.default()

    def isIn(self, node, name):
        return self.serializer.isIn(node, name)

    def validate(self, value):
        for validator in self.validators:
            validator.validate(value)

    def write(self, node, name, value):
        self.validate(value)
        self.serializer.write(node, name, value)

    def read(self, node, name):
        return self.serializer.read(node, name)

    def remove(self, node, name):
        self.serializer.remove(node, name)


class NodeSerializer(Serializer):
    """A node reference; the parameter of the same name, empty, says that it was written."""

    def __init__(self, kind):
        super().__init__(kind, None)

    def write(self, node, name, value):
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name):
        return node.GetNodeReference(name)

    def remove(self, node, name):
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class ObservedList(list):
    """A list that writes itself to the node after each change."""

    def __init__(self, items, save):
        super().__init__(items)
        self._save = save

    def __add__(self, other):
        raise NotImplementedError

    def _changing(name):
        original = getattr(list, name)

        def change(self, *arguments, **options):
            result = original(self, *arguments, **options)
            self._save(list(self))
            return self if name == "__iadd__" else result

        return change

    append, extend, insert = _changing("append"), _changing("extend"), _changing("insert")
    pop, remove, clear = _changing("pop"), _changing("remove"), _changing("clear")
    reverse, sort = _changing("reverse"), _changing("sort")
    __setitem__, __delitem__ = _changing("__setitem__"), _changing("__delitem__")
    __iadd__ = _changing("__iadd__")
    del _changing


class ListSerializer(Serializer):
    """NAME_len, NAME_0, NAME_1, ..."""

    def __init__(self, kind, element):
        super().__init__(kind, None)
        self._element = element

    def default(self):
        return []

    def isIn(self, node, name):
        return bool(node.HasParameter(f"{name}_len"))

    def write(self, node, name, value):
        values = list(value)
        for item in values:
            self._element.validate(item)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            for index, item in enumerate(values):
                self._element.write(node, f"{name}_{index}", item)
            node.SetParameter(f"{name}_len", str(len(values)))

    def read(self, node, name):
        items = [
            self._element.read(node, f"{name}_{index}") for index in range(self._length(node, name))
        ]
        return ObservedList(items, lambda values: self.write(node, name, values))

    def remove(self, node, name):
        for index in range(self._length(node, name)):
            self._element.remove(node, f"{name}_{index}")
        node.UnsetParameter(f"{name}_len")

    def _length(self, node, name):
        return int(node.GetParameter(f"{name}_len") or 0)


class TupleSerializer(Serializer):
    """NAME_0, NAME_1, ..., of fixed number and types."""

    def __init__(self, kind, elements):
        super().__init__(kind, None)
        self._elements = elements

    def default(self):
        return tuple(element.default() for element in self._elements)

    def isIn(self, node, name):
        return self._elements[0].isIn(node, f"{name}_0")

    def write(self, node, name, value):
        pairs = zip(self._elements, tuple(value), strict=True)
        with slicer.util.NodeModify(node):
            for index, (element, item) in enumerate(pairs):
                element.write(node, f"{name}_{index}", item)

    def read(self, node, name):
        return tuple(
            element.read(node, f"{name}_{index}") for index, element in enumerate(self._elements)
        )

    def remove(self, node, name):
        for index, element in enumerate(self._elements):
            element.remove(node, f"{name}_{index}")


class DictSerializer(ListSerializer):
    """A list of (key, value); reading gives a plain dict, whose changes must be written back."""

    def __init__(self, kind, key, value):
        pair = ValidatedSerializer(TupleSerializer(tuple, [key, value]), [])
        super().__init__(kind, pair)

    def default(self):
        return {}

    def write(self, node, name, value):
        super().write(node, name, value.items())

    def read(self, node, name):
        return dict(super().read(node, name))


class NoneSerializer(Serializer):
    def __init__(self):
        super().__init__(type(None), lambda _: None, lambda _: "True")


class UnionSerializer(Serializer):
    """Optional[...] and Union[...]: NAME_i, where i tells which of the types it is."""

    def __init__(self, kind, members):
        super().__init__(kind, None)
        self._members = members

    def default(self):
        is_optional = len(self._members) == 2 and self._members[1].kind is type(None)
        return None if is_optional else self._members[0].default()

    def isIn(self, node, name):
        return any(member.isIn(node, f"{name}_{i}") for i, member in enumerate(self._members))

    def write(self, node, name, value):
        for index, member in enumerate(self._members):
            if isinstance(value, typing.get_origin(member.kind) or member.kind):
                member.validate(value)
                with slicer.util.NodeModify(node):
                    self.remove(node, name)
                    member.write(node, f"{name}_{index}", value)
                return
        message = f"Unable to write value '{value}' of type '{type(value)}'"
        raise TypeError(message)

    def read(self, node, name):
        for index, member in enumerate(self._members):
            if member.isIn(node, f"{name}_{index}"):
                return member.read(node, f"{name}_{index}")
        raise KeyError(name)

    def remove(self, node, name):
        for index, member in enumerate(self._members):
            member.remove(node, f"{name}_{index}")


def serializer_of(hint):
    """Return (serializer, annotations it did not use); raise TypeError for a type without one."""
    kind, annotations = split(hint)
    validators = [item for item in annotations if isinstance(item, Validator)]
    unused = [item for item in annotations if not isinstance(item, Validator | Default)]
    serializer, own_validators = _simple(kind) or _compound(kind) or (None, None)
    if serializer is None:
        message = f"Unable to create serializer for type: {kind}"
        raise TypeError(message)
    return ValidatedSerializer(serializer, own_validators + validators), unused


def _simple(kind):
    if not isinstance(kind, type) or typing.get_origin(kind) is not None:
        return None
    if kind is type(None):
        return NoneSerializer(), []
    if issubclass(kind, slicer.vtkMRMLNode):
        return NodeSerializer(kind), [IsInstance(kind)]
    serializer = _text_serializer(kind) or _pack_serializer(kind)
    strict = [NotNone(), IsInstance((int, float) if kind is float else kind)]
    return (serializer, strict) if serializer is not None else None


def _text_serializer(kind):
    if kind is bool:
        return Serializer(kind, lambda text: text == "True", zero=False)
    if kind in (int, float, str):
        return Serializer(kind, kind, zero="" if kind is str else 0)
    if issubclass(kind, pathlib.PurePath):
        return Serializer(kind, kind, zero=kind())
    if issubclass(kind, enum.Enum):
        return Serializer(kind, lambda text: kind[text], lambda v: v.name, next(iter(kind)))
    return None


def _pack_serializer(kind):
    from .parameter_pack import ParameterPackSerializer, isParameterPack

    return ParameterPackSerializer(kind) if isParameterPack(kind) else None


def _compound(kind):
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin not in (list, tuple, dict, typing.Union):
        return None
    elements = [serializer_of(argument)[0] for argument in arguments]
    if origin is list:
        return ListSerializer(kind, elements[0]), [NotNone(), IsInstance((list, tuple))]
    if origin is tuple:
        return TupleSerializer(kind, elements), [NotNone(), IsInstance(tuple)]
    if origin is dict:
        return DictSerializer(kind, *elements), [NotNone(), IsInstance(dict)]
    return UnionSerializer(kind, elements), []
