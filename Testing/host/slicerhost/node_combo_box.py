"""Stand-in of qMRMLNodeComboBox: choose, create, rename or delete a MRML node."""

import slicer
from PySide6 import QtCore, QtWidgets

from .dialect.ui_loader import stand_in
from .observations import Observations
from .stored_property import stored

_ADD, _RENAME, _DELETE = "+add", "+rename", "+delete"


def _refresh(widget):
    widget._refresh()


@stand_in
class qMRMLNodeComboBox(QtWidgets.QWidget):
    """Not modelled: "create as", edit, categories, and the sort filter's further options."""

    currentNodeChanged = QtCore.Signal(object)
    _has_current_node = QtCore.Signal(bool)
    currentNodeIDChanged = QtCore.Signal(str)
    nodeActivated = QtCore.Signal(object)
    nodeAdded = QtCore.Signal(object)
    nodeAddedByUser = QtCore.Signal(object)
    SIGNALS = {
        "currentNodeChanged(vtkMRMLNode*)": "currentNodeChanged",
        "currentNodeChanged(bool)": "_has_current_node",
        "currentNodeIDChanged(QString)": "currentNodeIDChanged",
        "nodeActivated(vtkMRMLNode*)": "nodeActivated",
        "nodeAdded(vtkMRMLNode*)": "nodeAdded",
        "nodeAddedByUser(vtkMRMLNode*)": "nodeAddedByUser",
    }
    nodeTypes, setNodeTypes = stored("QStringList", "nodeTypes", [], _refresh)
    noneEnabled, setNoneEnabled = stored(bool, "noneEnabled", False, _refresh)
    noneDisplay, setNoneDisplay = stored(str, "noneDisplay", "None", _refresh)
    addEnabled, setAddEnabled = stored(bool, "addEnabled", True, _refresh)
    removeEnabled, setRemoveEnabled = stored(bool, "removeEnabled", True, _refresh)
    renameEnabled, setRenameEnabled = stored(bool, "renameEnabled", False, _refresh)
    editEnabled, setEditEnabled = stored(bool, "editEnabled", False)
    showHidden, setShowHidden = stored(bool, "showHidden", False, _refresh)
    showChildNodeTypes, setShowChildNodeTypes = stored(bool, "showChildNodeTypes", True, _refresh)
    hideChildNodeTypes, setHideChildNodeTypes = stored(
        "QStringList", "hideChildNodeTypes", [], _refresh
    )
    selectNodeUponCreation, setSelectNodeUponCreation = stored(bool, "selectNodeUponCreation", True)
    baseName, setBaseName = stored(str, "baseName", "")

    _box_class = QtWidgets.QComboBox

    def __init__(self, parent=None):
        super().__init__(parent)
        self._box = self._box_class()
        self._box.setSizeAdjustPolicy(QtWidgets.QComboBox.AdjustToMinimumContentsLengthWithIcon)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.activated.connect(self._on_activated)
        self._scene = None
        self._scene_observations, self._name_observations = Observations(), Observations()
        self._current_id = None
        self._labels, self._attributes = {}, {}

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene):
        if scene is self._scene:
            return
        self._scene_observations.clear()
        self._scene = scene
        if scene is not None:
            events = (
                scene.NodeAddedEvent,
                scene.NodeRemovedEvent,
                scene.EndBatchProcessEvent,
                scene.EndCloseEvent,
                scene.EndImportEvent,
                scene.EndRestoreEvent,
            )
            for event in events:
                self._scene_observations.add(scene, event, self._refresh)
        self._refresh()

    def currentNode(self):
        return (
            self._scene.GetNodeByID(self._current_id) if self._scene and self._current_id else None
        )

    def setCurrentNode(self, node):
        """Take a node, a node's ID, or None."""
        node_id = node.GetID() if hasattr(node, "GetID") else node
        self.setCurrentNodeID(node_id or "")

    def setCurrentNodeID(self, node_id):
        if node_id and node_id not in self._node_ids():
            return
        if not node_id and not self.noneEnabled and self._node_ids():
            return
        self._select(node_id or None)

    def _get_current_id(self):
        return self._current_id or ""

    currentNodeID = QtCore.Property(str, _get_current_id, setCurrentNodeID)

    def setCurrentNodeIndex(self, index):
        self.setCurrentNodeID(self._node_ids()[index])

    def nodeCount(self):
        return len(self._nodes())

    def nodeFromIndex(self, index):
        return self._nodes()[index]

    def setNodeTypeLabel(self, label, node_type):
        self._labels[node_type] = label
        self._refresh()

    def addAttribute(self, node_type, name, value=None):
        """Show only nodes of `node_type` with this attribute (and value, if one is given)."""
        self._attributes.setdefault(node_type, {})[name] = value
        self._refresh()

    def removeAttribute(self, node_type, name):
        self._attributes.get(node_type, {}).pop(name, None)
        self._refresh()

    def addNode(self, node_type=None):
        node_type = node_type or self.nodeTypes[0]
        name = self._scene.GenerateUniqueName(self.baseName or self._type_label(node_type))
        node = self._scene.AddNewNodeByClass(node_type, name)
        for attribute, value in self._attributes.get(node_type, {}).items():
            node.SetAttribute(attribute, str(value))
        self._refresh()
        self.nodeAddedByUser.emit(node)
        if self.selectNodeUponCreation:
            self.setCurrentNode(node)
        return node

    def removeCurrentNode(self):
        self._scene.RemoveNode(self.currentNode())

    def renameCurrentNode(self):
        node = self.currentNode()
        title = f"Rename {self._type_label(self.nodeTypes[0])}"
        name, accepted = QtWidgets.QInputDialog.getText(
            self, title, "New name:", text=node.GetName()
        )
        if accepted and name:
            node.SetName(name)

    def _nodes(self):
        if self._scene is None:
            return []
        nodes = self._scene.GetNodes()
        everything = (nodes.GetItemAsObject(index) for index in range(nodes.GetNumberOfItems()))
        return [node for node in everything if self._is_offered(node)]

    def _node_ids(self):
        return [node.GetID() for node in self._nodes()]

    def _is_offered(self, node):
        types = list(self.nodeTypes)
        if self.showChildNodeTypes:
            has_type = any(node.IsA(name) for name in types)
            has_type = has_type and node.GetClassName() not in self.hideChildNodeTypes
        else:
            has_type = node.GetClassName() in types
        return (
            has_type
            and (self.showHidden or not node.GetHideFromEditors())
            and self._has_attributes(node)
        )

    def _has_attributes(self, node):
        wanted = [
            (name, value)
            for node_type, attributes in self._attributes.items()
            if node.IsA(node_type)
            for name, value in attributes.items()
        ]
        return all(
            node.GetAttribute(name) is not None and value in (None, node.GetAttribute(name))
            for name, value in wanted
        )

    def _type_label(self, node_type):
        if node_type in self._labels:
            return self._labels[node_type]
        node = slicer.mrmlScene.CreateNodeByClass(node_type)
        node.UnRegister(None)
        return (
            node.GetTypeDisplayName()
            if hasattr(node, "GetTypeDisplayName")
            else node.GetNodeTagName()
        )

    def _refresh(self, *_):
        if self._scene is not None and self._scene.IsBatchProcessing():
            return
        nodes = self._nodes()
        self._watch_names(nodes)
        self._fill(nodes)
        ids = [node.GetID() for node in nodes]
        if self._current_id in ids:
            self._show_current()
        else:
            self._select(None if self.noneEnabled or not ids else ids[0])

    def _watch_names(self, nodes):
        self._name_observations.clear()
        for node in nodes:
            self._name_observations.add(node, "ModifiedEvent", self._show_names)

    def _fill(self, nodes):
        self._box.clear()
        if self.noneEnabled:
            self._box.addItem(self.noneDisplay, "")
        for node in nodes:
            self._box.addItem(node.GetName(), node.GetID())
        commands = (
            (self.addEnabled, "Create new", _ADD),
            (self.renameEnabled, "Rename current", _RENAME),
        )
        commands += ((self.removeEnabled, "Delete current", _DELETE),)
        if self._scene is None or not self.nodeTypes:
            return
        for enabled, verb, command in commands:
            if enabled:
                self._box.addItem(f"{verb} {self._type_label(self.nodeTypes[0])}", command)

    def _show_names(self, node, _event):
        index = self._box.findData(node.GetID())
        if index >= 0 and self._box.itemText(index) != node.GetName():
            self._box.setItemText(index, node.GetName())

    def _show_current(self):
        self._box.setCurrentIndex(self._box.findData(self._current_id or ""))

    def _select(self, node_id):
        is_change = node_id != self._current_id
        self._current_id = node_id
        self._show_current()
        if is_change:
            node = self.currentNode()
            self.currentNodeChanged.emit(node)
            self._has_current_node.emit(node is not None)
            self.currentNodeIDChanged.emit(node_id or "")

    def _on_activated(self, index):
        choice = self._box.itemData(index)
        self._show_current()
        if choice == _ADD:
            self.addNode()
        elif choice == _RENAME and self.currentNode():
            self.renameCurrentNode()
        elif choice == _DELETE and self.currentNode():
            self.removeCurrentNode()
        elif not str(choice).startswith("+"):
            self.setCurrentNodeID(choice)
            self.nodeActivated.emit(self.currentNode())
