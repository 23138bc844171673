"""Stand-in of qMRMLSegmentEditorWidget around the real vtkSlicerSegmentEditorLogic.

Not modelled: the masking section's widgets (masks set in the editor node do work), keyboard
shortcuts, the geometry dialog, locking, and effects other than Paint and Erase.
"""

import slicer
from PySide6 import QtCore, QtWidgets

from .dialect.ui_loader import stand_in
from .mrml_widgets import qMRMLWidget
from .node_combo_box import qMRMLNodeComboBox
from .observations import Observations
from .segment_effects import EFFECTS, ViewObservations
from .segments_table import qMRMLSegmentsTableView
from .stored_property import stored


@stand_in
class qMRMLSegmentEditorWidget(qMRMLWidget):
    currentSegmentIDChanged = QtCore.Signal(str)
    segmentationNodeChanged = QtCore.Signal(object)
    sourceVolumeNodeChanged = QtCore.Signal(object)
    SIGNALS = {
        **qMRMLWidget.SIGNALS,
        "currentSegmentIDChanged(QString)": "currentSegmentIDChanged",
        "segmentationNodeChanged(vtkMRMLSegmentationNode*)": "segmentationNodeChanged",
        "sourceVolumeNodeChanged(vtkMRMLVolumeNode*)": "sourceVolumeNodeChanged",
    }

    def _show_parts(self):
        self._segmentation_row.setVisible(self.segmentationNodeSelectorVisible)
        self._source_row.setVisible(self.sourceVolumeNodeSelectorVisible)
        self._undo.setVisible(self.undoEnabled)
        self._redo.setVisible(self.undoEnabled)

    segmentationNodeSelectorVisible, setSegmentationNodeSelectorVisible = stored(
        bool, "segmentationNodeSelectorVisible", True, _show_parts
    )
    sourceVolumeNodeSelectorVisible, setSourceVolumeNodeSelectorVisible = stored(
        bool, "sourceVolumeNodeSelectorVisible", True, _show_parts
    )
    undoEnabled, setUndoEnabled = stored(bool, "undoEnabled", True, _show_parts)
    maximumNumberOfUndoStates, setMaximumNumberOfUndoStates = stored(
        int,
        "maximumNumberOfUndoStates",
        10,
        lambda self: self._logic.SetMaximumNumberOfUndoStates(self.maximumNumberOfUndoStates),
    )
    effectButtonStyle, setEffectButtonStyle = stored(int, "effectButtonStyle", 0)
    defaultTerminologyEntry, setDefaultTerminologyEntry = stored(
        str,
        "defaultTerminologyEntry",
        "",
        lambda self: self._logic.SetDefaultTerminologyEntry(self.defaultTerminologyEntry),
    )
    defaultTerminologyEntrySettingsKey, setDefaultTerminologyEntrySettingsKey = stored(
        str, "defaultTerminologyEntrySettingsKey", "Segmentations/DefaultTerminologyEntry"
    )
    jumpToSelectedSegmentEnabled, setJumpToSelectedSegmentEnabled = stored(
        bool, "jumpToSelectedSegmentEnabled", False
    )
    switchToSegmentationsButtonVisible, setSwitchToSegmentationsButtonVisible = stored(
        bool, "switchToSegmentationsButtonVisible", True
    )
    autoShowSourceVolumeNode, setAutoShowSourceVolumeNode = stored(
        bool, "autoShowSourceVolumeNode", True
    )
    readOnly, setReadOnly = stored(bool, "readOnly", False)
    effectColumnCount, setEffectColumnCount = stored(int, "effectColumnCount", 2)
    unorderedEffectsVisible, setUnorderedEffectsVisible = stored(
        bool, "unorderedEffectsVisible", True
    )

    def __init__(self, parent=None):
        super().__init__(parent)
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        self._logic_observations = Observations()
        event = self._logic.SegmentationHistoryChangedEvent
        self._logic_observations.add(self._logic, event, self._update_undo)
        self._effects = {cls.name: cls(self._logic) for cls in EFFECTS}
        self._buttons = {}
        self._node, self._observations = None, Observations()
        self._shown = (None, None, "", "")  # segmentation, volume, segment, effect last announced
        self._views = ViewObservations(self)
        self._build()

    def _build(self):
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        self._segmentation_row, self._segmentation_box = self._selector(
            "Segmentation:", "SegmentationNodeComboBox", "vtkMRMLSegmentationNode"
        )
        self._source_row, self._source_box = self._selector(
            "Source volume:", "SourceVolumeNodeComboBox", "vtkMRMLScalarVolumeNode"
        )
        self._segmentation_box.connect("currentNodeChanged(vtkMRMLNode*)", self.setSegmentationNode)
        self._source_box.connect("currentNodeChanged(vtkMRMLNode*)", self.setSourceVolumeNode)
        row = QtWidgets.QHBoxLayout()
        self._add = self._button(row, "Add", "AddSegmentButton", self._on_add)
        self._remove = self._button(row, "Remove", "RemoveSegmentButton", self._on_remove)
        self._show_3d = self._button(row, "Show 3D", "Show3DButton", self._on_show_3d)
        self._show_3d.setCheckable(True)
        self._table = qMRMLSegmentsTableView()
        self._table.setObjectName("SegmentsTableView")
        self._table.setSelectionMode(qMRMLSegmentsTableView.SingleSelection)
        self._table.setMinimumHeight(110)
        self._table.connect("selectionChanged(QItemSelection,QItemSelection)", self._on_selection)
        layout.addWidget(self._segmentation_row)
        layout.addWidget(self._source_row)
        layout.addLayout(row)
        layout.addWidget(self._table)
        layout.addLayout(self._effect_buttons())

    def _selector(self, label, name, node_type):
        box = qMRMLNodeComboBox()
        box.setObjectName(name)
        box.nodeTypes = [node_type]
        box.noneEnabled = True
        box.addEnabled = box.removeEnabled = node_type == "vtkMRMLSegmentationNode"
        row = QtWidgets.QWidget()
        layout = QtWidgets.QFormLayout(row)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addRow(label, box)
        return row, box

    def _button(self, row, text, name, on_click):
        button = QtWidgets.QPushButton(text)
        button.setObjectName(name)
        button.connect("clicked()", on_click)
        row.addWidget(button)
        return button

    def _effect_buttons(self):
        row = QtWidgets.QHBoxLayout()
        for name in self._effects:
            button = self._button(row, name, name, lambda name=name: self._on_effect(name))
            button.setCheckable(True)
            self._buttons[name] = button
        self._undo = self._button(row, "Undo", "UndoButton", self.undo)
        self._redo = self._button(row, "Redo", "RedoButton", self.redo)
        return row

    def setMRMLScene(self, scene):
        super().setMRMLScene(scene)
        self._logic.SetMRMLScene(scene)
        self._segmentation_box.setMRMLScene(scene)
        self._source_box.setMRMLScene(scene)

    def mrmlSegmentEditorNode(self):
        return self._node

    def setMRMLSegmentEditorNode(self, node):
        self._observations.clear()
        self._node = node
        self._logic.SetSegmentEditorNode(node)
        if node is not None:
            for effect in self._effects.values():
                effect.setMRMLDefaults()
            self._observations.add(node, "ModifiedEvent", self.updateWidgetFromMRML)
        self.updateWidgetFromMRML()

    def segmentationNode(self):
        return self._node.GetSegmentationNode() if self._node else None

    def segmentationNodeID(self):
        return self.segmentationNode().GetID() if self.segmentationNode() else ""

    def setSegmentationNode(self, segmentation):
        if self._node is None or segmentation is self.segmentationNode():
            return
        self._logic.SetSegmentationNode(segmentation)
        if segmentation is None:
            return
        if segmentation.GetDisplayNode() is None:
            segmentation.CreateDefaultDisplayNodes()
        role = segmentation.GetReferenceImageGeometryReferenceRole()
        self.setSourceVolumeNode(segmentation.GetNodeReference(role))
        self._logic.SelectFirstSegment(False)

    def sourceVolumeNode(self):
        return self._node.GetSourceVolumeNode() if self._node else None

    def sourceVolumeNodeID(self):
        return self.sourceVolumeNode().GetID() if self.sourceVolumeNode() else ""

    def setSourceVolumeNode(self, volume):
        if self._node is None or volume is self.sourceVolumeNode():
            return
        self._logic.SetSourceVolumeNode(volume)
        segmentation = self.segmentationNode()
        if volume is not None and segmentation is not None:
            role = segmentation.GetReferenceImageGeometryReferenceRole()
            if segmentation.GetNodeReference(role) is None:
                segmentation.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        if volume is not None and self.autoShowSourceVolumeNode:
            slicer.util.setSliceViewerLayers(background=volume)

    def currentSegmentID(self):
        return (self._node.GetSelectedSegmentID() or "") if self._node else ""

    def setCurrentSegmentID(self, segment_id):
        self._logic.SetCurrentSegmentID(segment_id)

    def activeEffect(self):
        return self._effects.get(self._node.GetActiveEffectName()) if self._node else None

    def effectByName(self, name):
        return self._effects.get(name)

    def availableEffectNames(self):
        return tuple(self._effects)

    def setActiveEffectByName(self, name):
        """Raise ValueError for an effect that the host does not have."""
        if name and name not in self._effects:
            message = f"the test host has no segment editor effect {name!r}"
            raise ValueError(message)
        self._node.SetActiveEffectName(name or "")

    def setActiveEffect(self, effect):
        self.setActiveEffectByName(effect.name if effect else "")

    def setEffectNameOrder(self, names):
        for name, button in self._buttons.items():
            button.setVisible(name in names or self.unorderedEffectsVisible)

    def setupViewObservations(self):
        self._views.start()

    def removeViewObservations(self):
        self._views.stop()

    def installKeyboardShortcuts(self, parent=None):
        pass

    def uninstallKeyboardShortcuts(self):
        pass

    def undo(self):
        self._logic.Undo()

    def redo(self):
        self._logic.Redo()

    def saveStateForUndo(self):
        self._logic.SaveStateForUndo()

    def updateWidgetFromMRML(self, *_):
        """Show the editor node; announce what has changed in it."""
        node = self._node
        effect = (node.GetActiveEffectName() or "") if node else ""
        now = (self.segmentationNode(), self.sourceVolumeNode(), self.currentSegmentID(), effect)
        before, self._shown = self._shown, now
        self._segmentation_box.setCurrentNode(now[0])
        self._source_box.setCurrentNode(now[1])
        self._table.setSegmentationNode(now[0])
        self._table.setSelectedSegmentIDs([now[2]])
        for name, button in self._buttons.items():
            button.setChecked(name == effect)
            button.setEnabled(bool(now[0] and now[1] and now[2]))
        self._update_undo()
        signals = (
            self.segmentationNodeChanged,
            self.sourceVolumeNodeChanged,
            self.currentSegmentIDChanged,
        )
        for signal, old, new in zip(signals, before, now, strict=False):
            if old != new:
                signal.emit(new)
        if before[3] != effect:
            self._change_effect(before[3], effect)

    def _change_effect(self, before, now):
        if before in self._effects:
            self._effects[before].deactivate()
        if now in self._effects:
            self._effects[now].activate()
            self.setupViewObservations()

    def _update_undo(self, *_):
        self._undo.setEnabled(self._logic.CanUndo())
        self._redo.setEnabled(self._logic.CanRedo())

    def _on_add(self):
        self._logic.SaveStateForUndo()
        self.setCurrentSegmentID(self._logic.AddEmptySegment())

    def _on_remove(self):
        self._logic.SaveStateForUndo()
        self._logic.RemoveSelectedSegment()

    def _on_show_3d(self):
        self._logic.ToggleSegmentationSurfaceRepresentation(self._show_3d.checked)

    def _on_effect(self, name):
        active = self.activeEffect()
        self.setActiveEffectByName("" if active and active.name == name else name)

    def _on_selection(self, *_):
        selected = self._table.selectedSegmentIDs()
        if selected and selected[0] != self.currentSegmentID():
            self.setCurrentSegmentID(selected[0])
