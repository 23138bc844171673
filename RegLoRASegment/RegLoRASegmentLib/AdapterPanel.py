"""The panel's part for adapters: what is in a file, and segmenting volumes by it."""

from __future__ import annotations

from pathlib import Path

from slicer.i18n import tr as _

from reglora_core.errors import InputError, RegLoRAError

from .AdapterFile import AdapterDescription


class AdapterPanel:
    """Shows the adapter file that is chosen."""

    def __init__(self, widget) -> None:
        self._widget, self._ui, self._logic = widget, widget.ui, widget.logic
        self.description: AdapterDescription | None = None
        self._shown: tuple | None = None
        self._ui.applyAdapterButton.connect("clicked()", self.onApplyAdapter)
        self._ui.targetBox.connect("checkedNodesChanged()", self._updateButton)

    def startAdapter(self) -> Path:
        """Return the adapter that a warm start begins with: the chosen file, else the last run's."""
        if self.description is not None:
            return self.description.path.resolve()
        for run in reversed(self._logic.runs):
            if run.isEnded and run.adapterPath is not None:
                return run.adapterPath
        raise InputError(_("There is no adapter to start from"), _("choose an adapter file"))

    def update(self) -> None:
        parameters = self._widget.parameters
        path = Path(parameters.adapterPath) if parameters is not None else Path()
        if path.is_file():
            state = (path, path.stat().st_mtime_ns)
        else:
            state = (path, None)
        if state == self._shown:
            return
        self._shown = state
        self.description = None
        from .Widget import show

        if str(path) in ("", "."):
            show(self._ui.adapterMessage, "")
        else:
            self._describe(path)
        self._updateButton()

    def onApplyAdapter(self) -> None:
        from .Widget import show

        targets = list(self._ui.targetBox.checkedNodes())
        try:
            volumes = [node for node in targets if not node.IsA("vtkMRMLSequenceNode")]
            for node in targets:
                if node.IsA("vtkMRMLSequenceNode"):
                    self._logic.applyAdapterToSequence(node, self.description.path, **self._options())
            if volumes:
                self._logic.applyAdapter(volumes, self.description.path, **self._options())
            show(self._ui.adapterMessage, self.description.summary())
        except RegLoRAError as error:
            show(self._ui.adapterMessage, str(error), isError=True)

    def _options(self) -> dict:
        return {"device": self._widget.parameters.device}

    def _describe(self, path: Path) -> None:
        from .Widget import show

        try:
            self.description = self._logic.loadAdapter(path)
            show(self._ui.adapterMessage, self.description.summary())
        except RegLoRAError as error:
            show(self._ui.adapterMessage, str(error), isError=True)

    def _updateButton(self) -> None:
        hasTargets = bool(self._ui.targetBox.checkedNodes())
        self._ui.applyAdapterButton.enabled = self.description is not None and hasTargets
