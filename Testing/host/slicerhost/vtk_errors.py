"""What VTK and MRML report as errors; they print it and go on."""

import vtk


class VtkErrors:
    """Keeps the text of each error; it is printed as before."""

    def __init__(self):
        self._texts = []
        self._window = vtk.vtkOutputWindow()
        self._window.SetDisplayModeToNever()  # vtkLogger prints it already
        self._window.AddObserver("ErrorEvent", self._on_error)
        vtk.vtkOutputWindow.SetInstance(self._window)

    def take(self):
        """Return the texts since the last call."""
        texts, self._texts = self._texts, []
        return texts

    @vtk.calldata_type(vtk.VTK_STRING)
    def _on_error(self, _window, _event, text):
        self._texts.append(text)
