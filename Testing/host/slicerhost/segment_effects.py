"""Stand-ins of the segment editor's effects: Paint and Erase.

They observe the slice views' interactors, as in Slicer, and change segments only through
vtkSlicerSegmentEditorLogic, so that masking, overwriting and undo are Slicer's own code.
Not modelled: painting in 3D views, the brush outline, colour smudge, the effects' option panels,
and every other effect.
"""

import weakref

import numpy as np
import slicer
import vtk

from .brush import Brush, stamp
from .observations import Observations

_OBSERVER_PRIORITY = 10.0  # before the interactor style, which would adjust window and level
_SCREEN_HEIGHT = 1000  # pixels: what a relative brush size is a percentage of


class SegmentEffect:
    """Stands for qSlicerSegmentEditorAbstractEffect: a name, and parameters in the editor node."""

    name = ""

    def __init__(self, logic):
        self._logic = logic

    def parameterSetNode(self):
        return self._logic.GetSegmentEditorNode()

    def parameter(self, name):
        node = self.parameterSetNode()
        own = node.GetAttribute(f"{self.name}.{name}")
        return own if own is not None else (node.GetAttribute(name) or "")

    def integerParameter(self, name):
        return int(float(self.parameter(name) or 0))

    def doubleParameter(self, name):
        return float(self.parameter(name) or 0)

    def setParameter(self, name, value):
        self.parameterSetNode().SetAttribute(f"{self.name}.{name}", _text(value))

    def setCommonParameter(self, name, value):
        self.parameterSetNode().SetAttribute(name, _text(value))

    def saveStateForUndo(self):
        return self._logic.SaveStateForUndo()

    def setMRMLDefaults(self):
        """Write the parameters that the node does not have yet."""

    def activate(self):
        """Be the active effect from now on."""

    def deactivate(self):
        """Stop being the active effect."""

    def processInteractionEvents(self, interactor, event, slice_widget):
        """Handle an event of a slice view; return True to keep it from the view."""
        raise NotImplementedError


class PaintEffect(SegmentEffect):
    """Stands for qSlicerSegmentEditorPaintEffect, in slice views, with delayed painting."""

    name = "Paint"
    EVENTS = ("LeftButtonPressEvent", "LeftButtonReleaseEvent", "MouseMoveEvent")
    DEFAULTS = {
        "BrushAbsoluteDiameter": 5.0,
        "BrushRelativeDiameter": 3.0,
        "BrushDiameterIsRelative": 1,
        "BrushSphere": 0,
        "BrushPixelMode": 0,
    }

    def __init__(self, logic):
        super().__init__(logic)
        self._stroke = []  # world positions, while the button is down

    def setMRMLDefaults(self):
        for name, value in self.DEFAULTS.items():
            if self.parameterSetNode().GetAttribute(name) is None:
                self.setCommonParameter(name, value)

    def deactivate(self):
        self._stroke = []

    def processInteractionEvents(self, interactor, event, slice_widget):
        if event == "LeftButtonPressEvent":
            if interactor.GetShiftKey() or interactor.GetControlKey():
                return False
            self._stroke = [self._position(interactor, slice_widget)]
            return True
        if not self._stroke:
            return False
        if event == "MouseMoveEvent":
            self._stroke.append(self._position(interactor, slice_widget))
        else:
            stroke, self._stroke = self._stroke, []
            self._apply(stroke, slice_widget)
        return True

    def _position(self, interactor, slice_widget):
        node = slice_widget.mrmlSliceNode()
        ras = [0.0, 0.0, 0.0]
        self._logic.XyToRas(list(interactor.GetEventPosition()), ras, node)
        return ras

    def _apply(self, stroke, slice_widget):
        self._logic.SaveStateForUndo()
        if not self._logic.ResetModifierLabelmapToDefault():
            message = "the segmentation has no geometry to paint in: choose a source volume"
            raise RuntimeError(message)
        labelmap = self._logic.GetModifierLabelmap()
        node = self.parameterSetNode()
        to_world = vtk.vtkMatrix4x4()
        self._logic.ImageToWorldMatrix(labelmap, node.GetSegmentationNode(), to_world)
        extent = stamp(labelmap, to_world, self._brush(slice_widget), stroke)
        if extent is not None:
            self._modify(labelmap, extent)

    def _modify(self, labelmap, extent):
        logic = slicer.vtkSlicerSegmentEditorLogic
        self._change_selected(labelmap, logic.ModificationModeAdd, extent)

    def _change_selected(self, labelmap, mode, extent):
        node = self.parameterSetNode()
        self._logic.ModifySegmentByLabelmap(
            node.GetSegmentationNode(),
            node.GetSelectedSegmentID(),
            labelmap,
            mode,
            extent,
            False,
            False,
        )

    def _brush(self, slice_widget):
        slice_node = slice_widget.mrmlSliceNode()
        to_ras = slice_node.GetSliceToRAS()
        normal = np.array([to_ras.GetElement(row, 2) for row in range(3)])
        if self.integerParameter("BrushDiameterIsRelative"):
            mm_per_pixel = slice_node.GetFieldOfView()[1] / max(slice_node.GetDimensions()[1], 1)
            diameter = (
                self.doubleParameter("BrushRelativeDiameter") / 100 * _SCREEN_HEIGHT * mm_per_pixel
            )
        else:
            diameter = self.doubleParameter("BrushAbsoluteDiameter")
        thickness = self._logic.GetSliceSpacing(slice_node, slice_widget.sliceLogic())
        is_sphere = bool(self.integerParameter("BrushSphere"))
        return Brush(diameter / 2, normal / np.linalg.norm(normal), thickness, is_sphere)


class EraseEffect(PaintEffect):
    """Stands for qSlicerSegmentEditorEraseEffect."""

    name = "Erase"

    def _modify(self, labelmap, extent):
        logic = slicer.vtkSlicerSegmentEditorLogic
        all_segments = self.integerParameter("EraseAllSegments")
        mode = logic.ModificationModeRemoveAll if all_segments else logic.ModificationModeRemove
        self._change_selected(labelmap, mode, extent)


EFFECTS = (PaintEffect, EraseEffect)


def _text(value):
    return str(int(value)) if isinstance(value, bool) else str(value)


class ViewObservations:
    """Hands the interaction events of all slice views to the active effect of an editor."""

    def __init__(self, editor):
        self._editor = weakref.ref(editor)
        self._observations = Observations()
        self._widgets = {}  # interactor -> slice widget

    def start(self):
        layout_manager = slicer.app.layoutManager()
        if self._widgets or layout_manager is None:
            return
        for name in layout_manager.sliceViewNames():
            widget = layout_manager.sliceWidget(name)
            interactor = widget.sliceView().interactor()
            self._widgets[interactor] = widget
            for event in PaintEffect.EVENTS:
                self._observations.add(interactor, event, self._on_event, _OBSERVER_PRIORITY)

    def stop(self):
        self._observations.clear()
        self._widgets = {}

    def _on_event(self, interactor, event):
        effect = self._editor().activeEffect()
        widget = self._widgets[interactor]
        return effect is not None and effect.processInteractionEvents(interactor, event, widget)
