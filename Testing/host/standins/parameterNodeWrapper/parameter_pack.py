"""@parameterPack: a group of parameters, stored as NAME.member."""

import typing

import slicer

from .annotations import Default, first, split
from .serializers import Serializer, serializer_of


def isParameterPack(kind):
    return bool(getattr(kind, "_is_parameterPack", False))


def parameterPack(cls=None):
    """Class decorator: make the annotated members parameters of a pack."""
    if cls is None:
        return parameterPack
    members = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        serializer, _ = serializer_of(hint)
        default = first(split(hint)[1], Default)
        value = default.value if default else serializer.default()
        members[name] = (hint, serializer, cls.__dict__.get(name, value))
        setattr(cls, name, _member(name))
    cls._is_parameterPack = True
    cls._members = cls.allParameters = members
    cls.__init__, cls.__eq__, cls.__hash__ = _init, _equal, None
    cls.__repr__ = lambda self: (
        f"{cls.__name__}({', '.join(f'{k}={v!r}' for k, v in _values(self).items())})"
    )
    cls.getValue, cls.setValue = _get_value, _set_value
    cls.dataType = staticmethod(lambda name: _data_type(cls, name))
    return cls


def _member(name):
    def read(self):
        return self.__dict__[f"_{name}"]

    def write(self, value):
        self._members[name][1].validate(value)
        self.__dict__[f"_{name}"] = value
        if self._save is not None:
            self._save(self)

    return property(read, write)


def _init(self, *arguments, **options):
    self._save = None
    given = dict(zip(self._members, arguments, strict=False)) | options
    unknown = set(given) - set(self._members)
    if unknown:
        message = f"__init__() got an unexpected keyword argument {sorted(unknown)[0]!r}"
        raise TypeError(message)
    for name, (_, _, default) in self._members.items():
        setattr(self, name, given.get(name, default))


def _values(pack):
    return {name: getattr(pack, name) for name in pack._members}


def _equal(self, other):
    return (
        isParameterPack(other)
        and self._members is other._members
        and _values(self) == _values(other)
    )


def _get_value(self, name):
    top, _, rest = name.partition(".")
    value = getattr(self, top)
    return value.getValue(rest) if rest else value


def _set_value(self, name, value):
    top, _, rest = name.partition(".")
    if top not in self._members:
        message = f"{self} has no member '{top}'"
        raise ValueError(message)
    if rest:
        getattr(self, top).setValue(rest, value)
    else:
        setattr(self, top, value)


def _data_type(cls, name):
    top, _, rest = name.partition(".")
    hint = cls._members[top][0]
    return split(hint)[0].dataType(rest) if rest else hint


class ParameterPackSerializer(Serializer):
    """The members of a pack; a pack that was read writes itself back when a member is set."""

    def __init__(self, kind):
        super().__init__(kind, None)

    def default(self):
        return self.kind()

    def isIn(self, node, name):
        member, (_, serializer, _) = next(iter(self.kind._members.items()))
        return serializer.isIn(node, f"{name}.{member}")

    def write(self, node, name, value):
        with slicer.util.NodeModify(node):
            for member, (_, serializer, _) in self.kind._members.items():
                serializer.write(node, f"{name}.{member}", getattr(value, member))

    def read(self, node, name):
        pack = self.kind()
        for member, (_, serializer, _) in self.kind._members.items():
            pack.__dict__[f"_{member}"] = serializer.read(node, f"{name}.{member}")
            if isParameterPack(serializer.kind):
                getattr(pack, member)._save = lambda _: self.write(node, name, pack)
        pack._save = lambda changed: self.write(node, name, changed)
        return pack

    def remove(self, node, name):
        for member, (_, serializer, _) in self.kind._members.items():
            serializer.remove(node, f"{name}.{member}")
