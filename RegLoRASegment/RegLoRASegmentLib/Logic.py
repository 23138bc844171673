"""The module's logic: every button of the panel is a method of the same name.

Runs go on in the background, one at a time, in the order in which they were asked for.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic
from slicer.util import VTKObservationMixin

import reglora_core
from reglora_core.errors import InputError

from . import CoreProcess, Install, Plans, SceneExport
from .AdapterFile import AdapterDescription, describeAdapter
from .AnnotatedSlices import AnnotatedSlices
from .Applying import Applying
from .Parameters import Parameters
from .Planes import Plane
from .Plots import Plots
from .Run import Plan, Run, State
from .SceneImport import Mode, SceneImport, segmentIdOf, segmentIdsByName
from .Sequences import SequenceFiller, newSegmentationSequence
from .Slices import Slice

CORE_FOLDER = str(Path(reglora_core.__file__).resolve().parents[1])


class Logic(ScriptedLoadableModuleLogic, VTKObservationMixin):
    """Few-slice segmentation from the Python console. A session to paste:

        import SampleData
        volume = SampleData.downloadSample("CTACardio")           # or any CT in the scene
        segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "Organs")
        # ... paint two or more organs on a few slices in the Segment Editor ...

        from RegLoRASegment import RegLoRASegmentLogic
        logic = RegLoRASegmentLogic()
        logic.install()                                           # asks first; nothing if all is there
        # without a network: logic.installFromFolder("wheels")
        # for a volume under a transform that bends space: volume = logic.hardenTransform(volume)

        logic.suggestNextSlice(volume, segmentation)              # moves the slice views
        rows = logic.annotatedSlices(volume, segmentation).rows()
        for row in rows:
            print(row.label, row.marks)
        # an organ that was not drawn on a slice yet; an organ that is not to be learned:
        # logic.setNotPainted(volume, segmentation, "spleen", rows[0].place)
        # logic.setUsed(volume, segmentation, "body", False)

        run = logic.adapt(volume, segmentation, wait=True)        # wait=False: in the background,
                                                                  # until logic.cancel(run)
        for organ in run.organs.values():
            print(organ.name, organ.heldOutDice, organ.ml)
        logic.plotLoss(run)                                       # or logic.plotRanks(run)
        logic.apply(run)                                          # writes into the segmentation
        # one more slice was painted: the correction round takes seconds
        # logic.adapt(volume, segmentation, from_adapter=run.adapterPath, correct=True, wait=True)
        logic.saveAdapter("organs.safetensors", run)

        other = slicer.util.getNode("next patient")
        print(logic.loadAdapter("organs.safetensors").summary())
        runs = logic.applyAdapter(other, "organs.safetensors", wait=True)
        logic.apply(runs[0])                                      # or logic.discard(runs[0])
        series = slicer.util.getNode("4D CT")                     # a sequence of volumes
        logic.applyAdapterToSequence(series, "organs.safetensors", wait=True)

    Without `wait` the methods return at once; `logic.listeners` holds functions (run, what) that are
    called after every change. Errors that the user can act on are reglora_core.errors.RegLoRAError.
    """

    def __init__(self) -> None:
        ScriptedLoadableModuleLogic.__init__(self)
        VTKObservationMixin.__init__(self)
        self.listeners: list[Callable[[Run, str], None]] = []
        self.workerCommand: list[str] | None = None  # interpreter and arguments; None: found
        self.temporaryFolder = ""  # where job folders are made; empty: the application's
        self.makeProcess = CoreProcess.makeProcess
        self.callLater = CoreProcess.callLater
        self.runs: list[Run] = []  # in the order asked for, ended ones included until discarded
        self.plots = Plots()
        self._applying: Applying | None = None
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneClose)

    def getParameterNode(self):
        return Parameters(super().getParameterNode())

    @property
    def currentRun(self) -> Run | None:
        """Return the run that is going on, else the last one."""
        going = [run for run in self.runs if not run.isEnded]
        return going[0] if going else (self.runs[-1] if self.runs else None)

    @property
    def isRunning(self) -> bool:
        return any(not run.isEnded for run in self.runs)

    def install(self) -> None:
        """Install the Python packages that are missing, after asking.

        Raises:
            InstallError: it did not work, or the user declined; the message says what to do.
        """
        Install.install()

    def installFromFolder(self, folder) -> None:
        """Do the same from a folder of wheels, without a network."""
        Install.installFromFolder(str(folder))

    def annotatedSlices(self, volumeNode, segmentationNode, look=True) -> AnnotatedSlices:
        """Return the table of annotated slices; with `look=False` its update() is still to be called."""
        SceneExport.checkVolume(volumeNode)
        SceneExport.checkPlace(segmentationNode)
        return AnnotatedSlices(volumeNode, segmentationNode, look)

    def suggestNextSlice(self, volumeNode, segmentationNode, slices=None) -> Slice | None:
        """Show the slice that is best painted next; return it, or None if every slice is painted.

        It is the one that the last result names, or where there is none the middle of the widest gap.
        """
        slices = slices or self.annotatedSlices(volumeNode, segmentationNode)
        results = [run for run in self.runs if run.hasResult and run.segmentationNode is segmentationNode]
        place = self.nextSliceOf(results[-1], slices) if results else None
        place = place or slices.suggestNext()
        if place is not None:
            self.jumpToSlice(slices, place)
        return place

    def nextSliceOf(self, run: Run, slices: AnnotatedSlices) -> Slice | None:
        """Return the slice that a result says is best painted next; None if it names none that is open."""
        suggested = run.nextSlice
        return slices.openPlace(suggested.axis, suggested.index) if suggested is not None else None

    def runToCorrect(self, volumeNode, segmentationNode, **options) -> Run | None:
        """Return the run that adapt() with these options would correct; None if it begins anew.

        That is the last one with a result for this volume and segmentation, if it learned in the same
        way and something was painted since. Its adapter goes to adapt() with `correct=True`:

            run = logic.runToCorrect(volume, segmentation)
            logic.adapt(volume, segmentation, from_adapter=run.adapterPath, correct=True)
        """
        for run in reversed(self.runs):
            if run.plan.command == "adapt" and run.volumeNode is volumeNode and run.isEnded:
                return run if Plans.canCorrect(run, volumeNode, segmentationNode, options) else None
        return None

    def setNotPainted(
        self, volumeNode, segmentationNode, organ: str, place: Slice, isNotPainted=True, slices=None
    ) -> None:
        """Say that an organ (a segment's name or id) is not painted yet on a slice; or that it is right.

        `place` is a row's; `slices` is what annotatedSlices() gave, and is kept up to date.
        """
        slices = slices or self.annotatedSlices(volumeNode, segmentationNode)
        slices.setNotPainted(segmentIdOf(segmentationNode, organ), place, isNotPainted)

    def setUsed(self, volumeNode, segmentationNode, organ: str, isUsed=True, slices=None) -> None:
        """Learn an organ (a segment's name or id), or leave it out, whatever the rule says."""
        slices = slices or self.annotatedSlices(volumeNode, segmentationNode)
        slices.setUsed(segmentIdOf(segmentationNode, organ), isUsed)

    def jumpToSlice(self, slices: AnnotatedSlices, place: Slice | Plane) -> None:
        """Move all slice views to a slice, or turn one of them to an oblique plane."""
        if isinstance(place, Plane):
            Plans.turnViewTo(place, slices.grid)
            return
        center = slices.grid.sliceCenter(*place)
        Plans.turnViewsTo(slices.grid)
        mode = slicer.vtkMRMLSliceNode.DefaultJumpSlice
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *center, mode)

    def adapt(
        self, volumeNode, segmentationNode, wait=False, segmentIds=None, slices=None, **options
    ) -> Run:
        """Adapt the base network to the painted slices and segment the volume.

        Args:
            segmentIds: the segments to use; None for all that are painted.
            slices: what annotatedSlices() gave, if it is up to date; saves looking again.
            options: fields of reglora_core.job.AdaptJob: model, method, rank, budget (seconds),
                steps, device, seed, from_adapter (a path: start from that adapter), correct (keep its
                update, fit its heads on: seconds instead of a minute).

        Raises:
            RegLoRAError: nothing to do, or no room for it; the message says what to do.
        """
        folder = self._makeFolder()
        try:
            plan = Plans.planAdapt(slices, volumeNode, segmentationNode, folder, segmentIds, options)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return self._enqueue(plan, wait)

    def applyAdapter(self, target, adapterPath, wait=False, **options) -> list[Run]:
        """Segment by an adapter, with nothing painted.

        Args:
            target: a volume node, a list of them, or a sequence node of volumes.
            adapterPath: a file from saveAdapter.
            options: fields of reglora_core.job.PredictJob: model, device.

        Returns:
            One run per volume, each with its preview; apply() writes it into the scene.
        """
        describeAdapter(Path(adapterPath))
        volumes = Plans.volumesOf(target)
        runs = []
        for volume in volumes:
            folder = self._makeFolder()
            try:
                plan = Plans.planPredict(volume, folder, Path(adapterPath), options)
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            runs.append(self._enqueue(plan, False))
        if wait:
            for run in runs:
                self.waitFor(run)
        return runs

    def applyAdapterToSequence(self, sequenceNode, adapterPath, wait=False, **options):
        """Segment every volume of a sequence; return a sequence node of segmentations.

        It fills as the runs end. In a sequence browser of the volumes it is shown along with them.
        """
        runs = self.applyAdapter(sequenceNode, adapterPath, **options)
        result = newSegmentationSequence(sequenceNode)
        filler = SequenceFiller(sequenceNode, result, runs, self)
        self.listeners.append(filler)
        if wait:
            for run in runs:
                self.waitFor(run)
        return result

    def cancel(self, run: Run | None = None) -> None:
        """Stop a run (the current one); the best result so far is kept."""
        run = run or self.currentRun
        if run is not None and not run.isEnded:
            run.cancel()

    def cancelAll(self) -> None:
        for run in reversed(list(self.runs)):
            self.cancel(run)

    def apply(
        self,
        run: Run | None = None,
        organs: list[str] | None = None,
        mode: Mode = Mode.REPLACE,
        segmentationNode=None,
        editorNode=None,
        saveStateForUndo=None,
    ) -> list[str]:
        """Write organs of a result (all) into the segmentation; return the segments' ids.

        With mode REPLACE they replace the segments of the same name, else they become new ones.
        On slices that were painted the drawing stays as it is. Other segments are not touched.
        `editorNode`: its masking settings are honoured. `saveStateForUndo` makes the undo step.
        """
        run, node = self._target(run, segmentationNode)
        importer = SceneImport(run.volumeNode, node, editorNode, saveStateForUndo)
        names = list(segmentIdsByName(run.preview.node)) if organs is None else organs
        written = importer.apply(run.preview.node, dict.fromkeys(names, mode))
        run.noteApplied(importer.changedMl)
        self._notify(run, "applied")
        return written

    def applyInSteps(self, onDone, onError, run=None, organs=None, mode=Mode.REPLACE, **options) -> None:
        """Do as apply(), without blocking; then call onDone(ids), or onError(exception)."""
        run, node = self._target(run, options.pop("segmentationNode", None))
        importer = SceneImport(run.volumeNode, node, **options)
        names = list(segmentIdsByName(run.preview.node)) if organs is None else organs
        steps = importer.applySteps(run.preview.node, dict.fromkeys(names, mode))

        needed = [node, run.volumeNode] if run.isVolumeInScene else [node]

        def done(written):
            run.noteApplied(importer.changedMl)
            self._notify(run, "applied")
            onDone(written)

        self._applying = Applying(steps, needed, done, onError, self.callLater)

    def discard(self, run: Run | None = None) -> None:
        """Remove a result with every trace of it."""
        run = run or self.currentRun
        if run is None:
            return
        if not run.isEnded:
            run.cancel()
        run.close()
        self.plots.remove()
        if run in self.runs:
            self.runs.remove(run)
        self._notify(run, "discarded")

    def saveAdapter(self, path, run: Run | None = None) -> AdapterDescription:
        """Copy a run's adapter to a file of the user's; return what is inside."""
        run = run or self.currentRun
        if run is None or run.adapterPath is None:
            raise InputError(_("There is no adapter to save"), _("adapt first"))
        path = Path(path)
        if path.suffix != ".safetensors":
            path = path.with_name(path.name + ".safetensors")
        temporary = path.with_name(path.name + ".part")
        try:
            shutil.copyfile(run.adapterPath, temporary)
            temporary.replace(path)
        except OSError as error:
            problem = _("{path} cannot be written ({why})").format(path=path, why=error.strerror)
            raise InputError(problem, _("choose another place")) from error
        return describeAdapter(path)

    def loadAdapter(self, path) -> AdapterDescription:
        """Return what is inside an adapter file; raise AdapterError if it is none."""
        return describeAdapter(Path(path))

    def hardenTransform(self, volumeNode):
        """Return a copy of a volume that stands where its transforms put it."""
        return Plans.hardenedCopy(volumeNode)

    def plotLoss(self, run: Run | None = None) -> None:
        """Show the loss over time in a plot view."""
        self._plot(run, "loss")

    def plotRanks(self, run: Run | None = None) -> None:
        """Show the rank that each layer has now in a plot view."""
        self._plot(run, "rank")

    def showVolume(self, run: Run) -> None:
        """Show a run's volume in the slice views; a frame of a sequence is not in the scene."""
        if run.isVolumeInScene:
            slicer.util.setSliceViewerLayers(background=run.volumeNode, fit=True)

    def waitFor(self, run: Run) -> Run:
        """Return when a run has ended; the application goes on meanwhile."""
        while not run.isEnded:
            slicer.app.processEvents()
            time.sleep(0.005)
        return run

    def close(self) -> None:
        """End everything: Slicer closes, or the module is reloaded."""
        if self._applying is not None:
            self._applying.stop(_("The module was closed"))
        self.removeObservers()
        self.listeners.clear()
        for run in list(self.runs):
            run.close()
        self.runs.clear()

    def _plot(self, run: Run | None, kind: str) -> None:
        run = run or self.currentRun
        if run is not None:
            self.plots.update(run)
            self.plots.show(kind)

    def _target(self, run: Run | None, segmentationNode):
        run = run or self.currentRun
        if run is None or not run.hasResult:
            raise InputError(_("There is no result to apply"), _("adapt first"))
        node = segmentationNode or run.segmentationNode
        if node is None or node.GetScene() is None:
            node = Plans.newSegmentation(run.volumeNode)
            run.plan.segmentationNode = node
        return run, node

    def _enqueue(self, plan: Plan, wait: bool) -> Run:
        command = [*(self.workerCommand or [CoreProcess.findPython(), "-m", "reglora_core"]), "run"]
        command.append(str(plan.folder / SceneExport.JOB_FILE))
        run = Run(plan, command, [CORE_FOLDER], self._notify, self.makeProcess, self.callLater)
        self.runs.append(run)
        self._startNext()
        self._notify(run, "queued")
        return self.waitFor(run) if wait else run

    def _startNext(self) -> None:
        going = [run for run in self.runs if not run.isEnded]
        if going and going[0].state is State.WAITING:
            going[0].start()

    def _makeFolder(self) -> Path:
        place = self.temporaryFolder or slicer.app.temporaryPath
        return Plans.makeJobFolder(place, tempfile.mkdtemp)

    def _notify(self, run: Run, what: str) -> None:
        for listener in list(self.listeners):
            listener(run, what)
        if what == "state" and run.isEnded:
            self._startNext()

    def _onNodeRemoved(self, *_arguments) -> None:
        if self._applying is not None:
            self._applying.stopIfDeleted()
        for run in list(self.runs):
            volume = run.volumeNode
            if run.isVolumeInScene and volume.GetScene() is None:
                run.abandon(_("{name} was deleted").format(name=volume.GetName()))

    def _onSceneClose(self, *_arguments) -> None:
        if self._applying is not None:
            self._applying.stop(_("The scene was closed"))
        for run in list(self.runs):
            run.abandon(_("The scene was closed"))
            run.close()
            self._notify(run, "discarded")
        self.runs.clear()
        self.plots.remove()
