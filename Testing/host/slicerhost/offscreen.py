"""Render windows that need no window system."""

import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy


def offscreen_window(renderer):
    """Return a render window and its interactor, which takes events but has no event loop."""
    window = (
        vtk.vtkEGLRenderWindow() if hasattr(vtk, "vtkEGLRenderWindow") else vtk.vtkRenderWindow()
    )
    window.SetOffScreenRendering(True)
    window.ShowWindowOff()
    window.SetMultiSamples(0)
    window.SetSize(400, 400)
    window.AddRenderer(renderer)
    interactor = vtk.vtkGenericRenderWindowInteractor()
    interactor.SetRenderWindow(window)
    interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())  # does nothing
    interactor.Initialize()
    return window, interactor


def picture_of(window):
    """Draw a window and return its picture: uint8, (height, width, 3), top row first."""
    window.Render()
    grabber = vtk.vtkWindowToImageFilter()
    grabber.SetInput(window)
    grabber.SetInputBufferTypeToRGB()
    grabber.ReadFrontBufferOff()
    grabber.Update()
    picture = grabber.GetOutput()
    width, height, _ = picture.GetDimensions()
    rgb = vtk_to_numpy(picture.GetPointData().GetScalars()).reshape(height, width, 3)
    return np.ascontiguousarray(rgb[::-1])
