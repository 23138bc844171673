"""Slice and 3D views drawn by the real displayable managers of slicer-core, off screen.

No Qt in this file. Stands for the VTK half of qMRMLSliceView and qMRMLThreeDView. Not modelled:
corner annotations, the slice controller's lightbox, stereo, and the views' context menus.
"""

import slicer
import vtk

from .offscreen import offscreen_window, picture_of

SLICE_MANAGERS = (
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLVolumeRenderingDisplayableManager",
)


class OffscreenView:
    """A render window without a window system, and the displayable managers that fill it."""

    def __init__(self, application_logic, factory, managers):
        self.renderer = vtk.vtkRenderer()
        self.window, self.interactor = offscreen_window(self.renderer)
        self.group = slicer.vtkMRMLDisplayableManagerGroup()
        self.group.SetRenderer(self.renderer)
        self.needs_render = True
        self.group.AddObserver(vtk.vtkCommand.UpdateEvent, self._on_update)
        self._register(factory.GetInstance(), application_logic, managers)

    def set_size(self, width, height):
        self.window.SetSize(width, height)
        self.interactor.SetSize(width, height)
        self.needs_render = True

    def render(self):
        """Draw, and return the picture: uint8, (height, width, 3), top row first."""
        self.needs_render = False
        return picture_of(self.window)

    def _register(self, factory, application_logic, managers):
        factory.SetMRMLApplicationLogic(application_logic)
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self.group.Initialize(factory, self.renderer)

    def _interact_with(self, style):
        self.interaction = style
        style.SetDisplayableManagers(self.group)
        style.SetInteractor(self.interactor)

    def _on_update(self, *_):
        self.needs_render = True


class SliceView(OffscreenView):
    """One slice view with its vtkMRMLSliceLogic and vtkMRMLSliceNode."""

    def __init__(self, application_logic, name, orientation, color):
        super().__init__(
            application_logic, slicer.vtkMRMLSliceViewDisplayableManagerFactory, SLICE_MANAGERS
        )
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._image = vtk.vtkActor2D()
        self._image.SetMapper(self._mapper)
        self._image.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(self._image)
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        application_logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self.node.SetLayoutColor(*color)
        style = slicer.vtkMRMLSliceViewInteractorStyle()
        style.SetSliceLogic(self.logic)
        self._interact_with(style)
        self.group.SetMRMLDisplayableNode(self.node)
        self.logic.AddObserver(vtk.vtkCommand.ModifiedEvent, self._connect_image)
        self._connect_image()

    def set_size(self, width, height):
        super().set_size(width, height)
        self.logic.ResizeSliceNode(width, height)

    def fit(self):
        """Show the whole background volume, as the button in Slicer's slice controller does."""
        self.logic.ResizeSliceNode(*self.window.GetSize())
        self.logic.FitSliceToBackground()
        self.logic.SnapSliceOffsetToIJK()
        self.needs_render = True

    def _connect_image(self, *_):
        connection = self.logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        self._image.SetVisibility(bool(connection))
        self.needs_render = True


class ThreeDView(OffscreenView):
    """The 3D view with its vtkMRMLViewNode and camera."""

    def __init__(self, application_logic, name="1"):
        super().__init__(
            application_logic, slicer.vtkMRMLThreeDViewDisplayableManagerFactory, THREE_D_MANAGERS
        )
        node = slicer.vtkMRMLViewNode()
        node.SetName(f"View{name}")
        node.SetSingletonTag(name)
        self.node = slicer.mrmlScene.AddNode(node)
        self.camera = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCameraNode")
        self.camera.SetLayoutName(self.node.GetLayoutName())
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(application_logic)
        self.logic.SetMRMLScene(slicer.mrmlScene)
        application_logic.GetViewLogics().AddItem(self.logic)
        self._interact_with(slicer.vtkMRMLThreeDViewInteractorStyle())
        self.group.SetMRMLDisplayableNode(self.node)
        self.renderer.GradientBackgroundOn()
        self.renderer.SetBackground(0.757, 0.765, 0.910)
        self.renderer.SetBackground2(0.455, 0.471, 0.745)

    def reset_camera(self):
        """Show everything but the box and its labels, which are as large as they like."""
        shown = (self.node.GetBoxVisible(), self.node.GetAxisLabelsVisible())
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        self.window.Render()
        self.renderer.ResetCamera()
        self.node.SetBoxVisible(shown[0])
        self.node.SetAxisLabelsVisible(shown[1])
        self.renderer.ResetCameraClippingRange()
        self.needs_render = True
