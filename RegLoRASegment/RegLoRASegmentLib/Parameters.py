"""The state of the module, kept in its parameter node: saved and restored with the scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

from reglora_core.job import DEVICES as JOB_DEVICES
from reglora_core.job import METHODS as JOB_METHODS
from reglora_core.models.registry import model_names

METHODS = list(JOB_METHODS)
DEVICES = list(JOB_DEVICES)
BASE_MODELS = model_names()


@parameterNodeWrapper
class Parameters:
    """What the panel shows; every member is a widget's value.

    `budgetSeconds`: time for fitting. `warmStart`: start from the adapter below.
    `startAnew`: forget the last result even where only the paint has changed since.
    """

    inputVolume: vtkMRMLScalarVolumeNode
    segmentation: vtkMRMLSegmentationNode
    baseModel: Annotated[str, Choice(BASE_MODELS)] = BASE_MODELS[0]
    device: Annotated[str, Choice(DEVICES)] = "auto"
    method: Annotated[str, Choice(METHODS)] = "arena"
    rank: Annotated[int, WithinRange(1, 64)] = 8
    budgetSeconds: Annotated[int, WithinRange(5, 3600)] = 80
    seed: Annotated[int, WithinRange(0, 99999)] = 0
    warmStart: bool = False
    startAnew: bool = False
    replaceSameNamed: bool = True
    previewVisible: bool = True
    previewOpacity: Annotated[float, WithinRange(0.0, 1.0)] = 0.5
    adapterPath: Path
    targetVolume: vtkMRMLScalarVolumeNode
    workerPython: str = ""
