"""Stand-in of slicer.parameterNodeWrapper: typed access to a vtkMRMLScriptedModuleNode.

Values are stored under the same names and in the same form as by the real one, so that a scene
saved here opens there. As strict as the real one: a type without serializer, or a widget without
connector for the parameter's type, raises. Not modelled: caching, reading through the cache while
the node's modified events are held back, createGui, ranges, and subject hierarchy tree views.
"""

from .annotations import (
    Choice,
    Decimals,
    Default,
    IsInstance,
    Label,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Tooltip,
    WithinRange,
)
from .connectors import createGuiConnector
from .parameter_pack import isParameterPack, parameterPack
from .wrapper import findChildWidgetForParameter, isParameterNodeWrapper, parameterNodeWrapper

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "IsInstance",
    "Label",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "Tooltip",
    "WithinRange",
    "createGuiConnector",
    "findChildWidgetForParameter",
    "isParameterNodeWrapper",
    "isParameterPack",
    "parameterNodeWrapper",
    "parameterPack",
]
