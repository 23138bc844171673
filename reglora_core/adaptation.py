"""Adapt a base network to painted slices: the work behind `reglora adapt`."""

from __future__ import annotations

import datetime
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np  # noqa: TID253
import torch  # noqa: TID253

from reglora_core import __version__, lora
from reglora_core.adapter import Adapter, load_adapter, save_adapter
from reglora_core.annotation import annotation_of, native_slice
from reglora_core.confidence import Estimates, estimates
from reglora_core.correction import Route, WarmStart, choose_route, correct
from reglora_core.device import choose_device
from reglora_core.errors import Cancelled, InputError, ResourceError
from reglora_core.events import Report, ignore
from reglora_core.fit import (
    ExpertScores,
    Fitted,
    Refinement,
    Task,
    Trial,
    fit_heads,
    mean_dice,
    probabilities,
    try_out,
)
from reglora_core.forecast import adapt_setting
from reglora_core.grids import AXIS_NAMES, Orientation
from reglora_core.head import Groups, HeadConfig
from reglora_core.islands import is_one_piece
from reglora_core.job import AdaptJob
from reglora_core.known_classes import KnownClass, match_classes
from reglora_core.memory import prepare, with_enough_memory
from reglora_core.methods.adaptation import MethodConfig, refuse_undefined, start_from_scratch
from reglora_core.methods.catalogue import method_entry
from reglora_core.methods.trained import (
    UPDATE,
    load_trained_state,
    remove_trained,
    trained_count,
    trained_state,
)
from reglora_core.models.base import BaseModel, in_precision
from reglora_core.models.loading import load_model
from reglora_core.models.slices import axis_name
from reglora_core.next_slice import NextSlice, suggest
from reglora_core.organs import Organ
from reglora_core.output import output_folder, refuse_to_overwrite, write_json
from reglora_core.refine import RefineConfig
from reglora_core.result import label_map_of, painted_over
from reglora_core.samples import Painting
from reglora_core.scan import prepare_scan
from reglora_core.volumes import LabelMap, read_image, read_labels, write_segmentation

T = TypeVar("T")
DEFAULT_STEPS = RefineConfig.steps
MIN_STEPS = 20  # of an update that is worth its time; its schedule needs some
SLOWER = 1.2  # than the measured pace: what the planned steps may be without running out of time
LARGE_BYTES = 20_000_000  # of an adapter file: worth a word
WRITING_SECONDS = 8.0  # of the budget, kept for predicting and writing after the last step


@dataclass(frozen=True)
class OrganResult:
    """One organ of a result.

    Attributes:
        name, value, color: as painted.
        expected_dice: an estimate (reglora_core.confidence); None where nothing was found of it.
        expected_range: holds the true Dice in four of five cases.
        is_doubtful: whether it is probably wrong.
        held_out_dice: Dice on slices left out, a lower bound; None where it is unknown.
        voxels, ml: over all images.
    """

    name: str
    value: int
    expected_dice: float | None
    expected_range: tuple[float, float] | None
    is_doubtful: bool
    held_out_dice: float | None
    voxels: int
    ml: float
    color: tuple[int, int, int]


@dataclass(frozen=True)
class AdaptResult:
    """What a run has written.

    Attributes:
        adapter: the adapter file.
        segmentations: one file per image.
        organs: their results, voxels and volumes over all images.
        report: the report file.
        is_adapted: whether the low-rank update is in use.
    """

    adapter: Path
    segmentations: tuple[Path, ...]
    organs: tuple[OrganResult, ...]
    report: Path
    is_adapted: bool

    @property
    def files(self) -> dict[str, str | list[str]]:
        return {
            "adapter": str(self.adapter),
            "segmentations": [str(path) for path in self.segmentations],
            "report": str(self.report),
        }


class _OutOfTime(Exception):
    """The budget is spent, or what is left of it does not suffice."""


def adapt(job: AdaptJob, report: Report = ignore) -> AdaptResult:
    """Fit the painted organs, segment the painted images, write both.

    What is best so far is on disk from the first preview on: a run that is cancelled, killed or
    out of time leaves an adapter and segmentations that work.

    Raises:
        InputError: an input cannot be used; its text says which and why.
        OutputError: the output folder cannot be written.
        ResourceError: memory does not suffice even for the smallest windows.
        Cancelled: the report asked to stop.
    """
    start = time.monotonic()
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    outputs = [segmentation_path(job.out, number) for number in range(len(job.images))]
    for output in outputs:
        refuse_to_overwrite(output, (*job.images, *job.labels))
    with output_folder(job.out):
        model = in_precision(load_model(job.model, choose_device(job.device)), job.precision)
        if job.from_adapter is not None and not job.correct:
            load_adapter(job.from_adapter).attach_to(model)
        method = MethodConfig(job.method, job.rank)
        refuse_undefined(model, method)
        task, label_maps = read_task(job, model, report)
        model = model.cut_along(task.paintings[0].annotation.axis)
        scans = [painting.scan for painting in task.paintings]
        model = prepare(model, scans, adapt_setting(job.method, len(task.organs)), report)
        route = choose_route(job, model, task.organs, report)
        if job.method == "scratch":
            start_from_scratch(model, task.paintings[0].scan.inside, job.seed)
        return _Run(job, model, task, label_maps, report, start).all(route)


def segmentation_path(out: Path, number: int) -> Path:
    """Return where the segmentation of an image is written; numbers count from 0."""
    return out / f"segmentation_{number + 1}.seg.nrrd"


def read_task(job: AdaptJob, model: BaseModel, report: Report) -> tuple[Task, list[LabelMap]]:
    """Read images and labels; organs of the same name are the same organ in all of them.

    A network of slices gets them in the direction in which the first scan is painted.
    """
    scans, label_maps, annotations = [], [], []
    for number, (path, label_path) in enumerate(zip(job.images, job.labels, strict=True)):
        image = read_image(path)
        labels = read_labels(label_path, image, job.names or None, job.ignore_label)
        if len(labels.layers) > 1 and not labels.has_overlap:
            labels = labels.with_layers_merged()
        orientation = Orientation.of(image.GetDirection())
        annotation = annotation_of(
            labels, orientation, job.annotated_for(number), job.not_painted_for(number)
        )
        annotations.append(annotation)
        model = model.cut_along(annotations[0].axis)
        scans.append(prepare_scan(path, image, model.entry.spacing_mm))
        label_maps.append(labels)
        report("progress", stage="read", step=len(scans), steps=len(job.images))
    organs = _all_organs(label_maps)
    names = [organ.name for organ in organs]
    paintings = []
    for scan, annotation in zip(scans, annotations, strict=True):
        organ_of = tuple(names.index(organ.name) for organ in annotation.organs)
        paintings.append(Painting(scan, annotation, organ_of))
    groups = _groups(label_maps, names)
    given = tuple(
        _given(job.expert_for(number), paintings[number], organs, groups)
        for number in range(len(paintings))
    )
    _warn_of_little_paint(paintings, organs, report)
    head = method_entry(job.method).head
    return Task(organs, groups, tuple(paintings), given, head), label_maps


def _all_organs(label_maps: list[LabelMap]) -> tuple[Organ, ...]:
    """Return the organs of all label maps, told apart by name; values stay unique."""
    organs: dict[str, Organ] = {}
    for labels in label_maps:
        for organ in labels.organs:
            if organ.name in organs:
                continue
            taken = {known.value for known in organs.values()}
            value = organ.value
            if value in taken:
                value = next(v for v in range(1, 65536) if v not in taken)
            organs[organ.name] = replace(organ, value=value)
    return tuple(sorted(organs.values(), key=lambda organ: organ.value))


def _groups(label_maps: list[LabelMap], names: list[str]) -> Groups:
    """Put organs into one group, or into one per layer where organs overlap."""
    if not any(labels.has_overlap for labels in label_maps):
        return (tuple(range(len(names))),)
    if len(label_maps) > 1:
        # layers of several files need not agree: every organ stands for itself
        return tuple((index,) for index in range(len(names)))
    layers: dict[int, list[int]] = {}
    for organ, layer in zip(label_maps[0].organs, label_maps[0].layer_of, strict=True):
        index = names.index(organ.name)
        if not any(index in group for group in layers.values()):  # names may occur twice
            layers.setdefault(layer, []).append(index)
    return tuple(tuple(group) for _, group in sorted(layers.items()))


def _given(
    path: Path | None, painting: Painting, organs: tuple[Organ, ...], groups: Groups
) -> torch.Tensor | None:
    """Read a propagation result that came with the job, as group labels on the working grid."""
    if path is None:
        return None
    if len(groups) > 1:
        message = f"{path.name}: a propagation result cannot hold organs that overlap"
        raise InputError(message, "leave it out for overlapping organs")
    scan = painting.scan
    labels = read_labels(path, scan.image)
    table = {organ.name: number + 1 for number, organ in enumerate(organs)}
    by_value = {organ.value: number + 1 for number, organ in enumerate(organs)}
    native = np.zeros(labels.shape, dtype=np.int64)
    for index, organ in enumerate(labels.organs):
        native[labels.mask(index)] = table.get(organ.name, by_value.get(organ.value, 0))
    canonical = np.ascontiguousarray(scan.orientation.canonical(native))
    return scan.grid.nearest_to_working(torch.from_numpy(canonical))


def _warn_of_little_paint(
    paintings: list[Painting], organs: tuple[Organ, ...], report: Report
) -> None:
    counts = dict.fromkeys((organ.name for organ in organs), 0)
    for painting in paintings:
        for own, organ in enumerate(painting.annotation.organs):
            counts[organ.name] += len(painting.annotation.slices_of(own))
    single = [name for name, count in counts.items() if count == 1]
    if single:
        report(
            "warning",
            message=f"painted on one slice only: {', '.join(single)}; a second slice gives an "
            "organ a shape between them",
        )


class _Run:
    """One adaptation, from the read task to the written files."""

    def __init__(
        self,
        job: AdaptJob,
        model: BaseModel,
        task: Task,
        label_maps: list[LabelMap],
        report: Report,
        start: float,
    ) -> None:
        self.job, self.model, self.task = job, model, task
        self.label_maps, self.start = label_maps, start
        self.earlier = trained_state(model.network)  # of the adapter that it starts from
        self.has_result = False
        self.generator = torch.Generator().manual_seed(job.seed)
        self.outer_report = report
        self.losses: list[tuple[float, float]] = []
        self.pass_seconds = 0.0  # of the heads over all scans
        self.route = Route("")
        self.next_slice: NextSlice | None = None
        self.known_classes: dict[str, KnownClass] = {}

    def report(self, event: str, /, **fields: object) -> None:
        """Pass an event on, with the time left; stop where the budget is spent.

        But not between windows: what is fitted is used, though that takes longer than planned.
        """
        left = self._seconds_to_train()
        if event == "progress" and fields.get("stage") != "windows":
            if left < 0 and self.has_result and self.job.steps is None:
                raise _OutOfTime
            step, steps = fields.get("step"), fields.get("steps")
            if fields.get("stage") == "refine" and isinstance(step, int) and isinstance(steps, int):
                fields["seconds_left"] = round(max(0.0, self._seconds_left(step, steps, left)), 1)
        self.outer_report(event, **fields)

    def _seconds_left(self, step: int, steps: int, left: float) -> float:
        if not self.losses or step <= 1:
            self.losses.append((time.monotonic(), step))
            return left
        since, first = self.losses[0]
        pace = (time.monotonic() - since) / max(step - first, 1)
        return min(left, pace * (steps - step)) + WRITING_SECONDS

    def all(self, route: Route) -> AdaptResult:
        """Correct; or fit, write the first result, test it, refine it, write what is best."""
        self.route = route
        if route.start is not None:
            return self._corrected(route.start)
        best = self._with_enough_memory(self._first)
        result = self._write(best, is_final=False)
        self.has_result = True
        try:
            self.known_classes = self._with_enough_memory(self._matched)
            best, trial = self._with_enough_memory(lambda: self._tested(best))
            if method_entry(self.job.method).kind != "none":
                best = self._with_enough_memory(lambda: self._refined(best, trial))
        except _OutOfTime:
            self._keep_first(best, f"the budget of {self.job.budget:g} s was spent")
        except ResourceError as error:
            self._keep_first(best, error.message)
        except Cancelled:
            self._say_organs(result)
            raise
        return self._write(best, is_final=True)

    def _corrected(self, start: WarmStart) -> AdaptResult:
        self.job = replace(self.job, method=start.adapter.method)
        self.task = replace(self.task, head=start.adapter.head)
        names = {organ.name for organ in self.task.organs}
        known = start.adapter.known_classes  # kept, for the sake of the seconds
        self.known_classes = {name: own for name, own in known.items() if name in names}

        def work() -> Fitted:
            return correct(self.model, self.task, start, self.generator, self.report)

        return self._write(self._with_enough_memory(work), is_final=True)

    def _keep_first(self, first: Fitted, why: str) -> None:
        self._begin_anew()
        update = method_entry(self.job.method).update
        first.remarks.append(f"{why} before {update}; the result is the first one")

    def _with_enough_memory(self, work: Callable[[], T]) -> T:
        """Do the work on this run's model, with smaller windows where memory runs out."""

        def on(model: BaseModel) -> T:
            if model is not self.model:
                self.model = model
                self._begin_anew()
            return work()

        return with_enough_memory(on, self.model, self.outer_report)[0]

    def _first(self) -> Fitted:
        heads = fit_heads(self.model, self.task, self.task.paintings, self.generator, self.report)
        experts = ExpertScores(self.task, self.task.paintings)
        start = time.monotonic()
        own = probabilities(self.model, heads, self.task.paintings, self.report)
        self.pass_seconds = time.monotonic() - start
        scores = experts.fused(own, self.task.groups)
        return Fitted(heads, experts, own, scores, is_adapted=bool(self.earlier))

    def _matched(self) -> dict[str, KnownClass]:
        """Compare the organs with the base network's own classes, without any update."""
        if self.job.method == "scratch" or self.task.head != "mlp":
            return {}
        names = [organ.name for organ in self.task.organs]
        remove_trained(self.model.network)
        try:
            return match_classes(
                self.model, self.task.paintings, self.task.groups, names, self.job.seed
            )
        finally:
            self._begin_anew()

    def _tested(self, first: Fitted) -> tuple[Fitted, Trial | None]:
        """Test the first result on slices left out."""
        trial = try_out(self.model, self.task, self.generator, self.report)
        if trial is None:
            return first, None
        return replace(first, held_out=trial.dice), trial

    def _refined(self, first: Fitted, trial: Trial | None) -> Fitted:
        method = MethodConfig(self.job.method, self.job.rank)
        steps = DEFAULT_STEPS if self.job.steps is None else self.job.steps
        config = RefineConfig(method, steps=steps)
        if method.entry.kind != "low-rank":
            config = replace(config, learning_rate=method.learning_rate)
        work = Refinement(self.model, self.task, config, self.generator, self.report)
        if self.job.steps is not None:
            return work(first, trial)
        steps = self._affordable_steps(work.pace(first))
        work.config = replace(config, steps=steps)
        refined = work(first, trial)
        if steps < DEFAULT_STEPS:
            refined.remarks.append(
                f"{steps} steps of the update instead of {DEFAULT_STEPS}, for the budget of "
                f"{self.job.budget:g} s"
            )
        return refined

    def _affordable_steps(self, pace: float) -> int:
        """Return how many steps the rest of the budget allows, at most the default.

        Raises:
            _OutOfTime: too few to be worth it.
        """
        passes = 2 * self.pass_seconds  # to test the update, and to use it
        steps = int((self._seconds_to_train() - passes) / max(SLOWER * pace, 1e-6))
        if steps < MIN_STEPS:
            raise _OutOfTime
        return min(steps, DEFAULT_STEPS)

    def _seconds_to_train(self) -> float:
        elapsed = time.monotonic() - self.start
        return self.job.budget - WRITING_SECONDS - elapsed

    def _begin_anew(self) -> None:
        """Take back what was trained; an earlier adapter's update is the start, if there is one."""
        remove_trained(self.model.network)
        if self.earlier:
            load_trained_state(self.model.network, self.earlier)

    def _write(self, fitted: Fitted, is_final: bool) -> AdaptResult:
        """Write adapter, segmentations and report; tell of them."""
        out = self.job.out
        paths, maps = [], []
        for number, scores in enumerate(fitted.scores):
            painting = self.task.paintings[number]
            scores = [group.to(self.model.device) for group in scores]
            label_map = label_map_of(scores, self.task.organs, self.task.groups, painting.scan)
            label_map = painted_over(label_map, self.label_maps[number], painting)
            path = segmentation_path(out, number)
            write_segmentation(path, label_map, painting.scan.image)
            paths.append(path)
            maps.append(label_map)
        adapter = out / "adapter.safetensors"
        save_adapter(self._adapter(fitted), adapter)
        if is_final and adapter.stat().st_size > LARGE_BYTES:
            fitted.remarks.append(
                f"the adapter file has {adapter.stat().st_size / 1e6:.0f} MB: {self.job.method} "
                "trains whole parts of the network"
            )
        found = estimates(self.task, fitted)
        organs = _organ_results(self.task, fitted, maps, found)
        self.next_slice = suggest(self.task, fitted)
        result = AdaptResult(adapter, tuple(paths), organs, out / "report.json", fitted.is_adapted)
        write_json(result.report, self._report_entries(result, fitted, found, is_final))
        if is_final:
            for remark in fitted.remarks:
                self.outer_report("warning", message=remark)
            self._say_organs(result)
        else:
            for path in paths:
                self.outer_report("preview", file=str(path))
        return result

    def _say_organs(self, result: AdaptResult) -> None:
        for organ in result.organs:
            self.outer_report(
                "organ",
                name=organ.name,
                expected_dice=organ.expected_dice,
                expected_range=organ.expected_range,
                is_doubtful=organ.is_doubtful,
                held_out_dice=organ.held_out_dice,
                ml=organ.ml,
                voxels=organ.voxels,
            )
        if self.next_slice is not None:
            self.outer_report("next_slice", **asdict(self.next_slice))

    def _adapter(self, fitted: Fitted) -> Adapter:
        network, entry = self.model.network, self.model.entry
        state = trained_state(network) if fitted.is_adapted else {}
        updates = {k.removeprefix(UPDATE): v for k, v in state.items() if k.startswith(UPDATE)}
        return Adapter(
            base=entry.name,
            base_sha256=self.model.sha256,
            organs=self.task.organs,
            groups=self.task.groups,
            modality=self.task.paintings[0].scan.modality,
            spacing_mm=entry.spacing_mm,
            slice_axis=axis_name(self.model.slice_axis),
            method=self._method_used(fitted),
            hidden=HeadConfig().hidden,
            head=self.task.head,
            ranks=lora.effective_ranks(network) if fitted.is_adapted else {},
            held_out_dice=fitted.held_out,
            in_one_piece=_in_one_piece(self.task, fitted),
            known_classes=self.known_classes,
            provenance={
                "version": __version__,
                "base_licence": entry.licence,
                "seed": self.job.seed,
                "images": len(self.task.paintings),
                "annotated_slices": [len(p.annotation.slices) for p in self.task.paintings],
                "made": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
            },
            update=updates,
            trained={k: v for k, v in state.items() if not k.startswith(UPDATE)},
            heads=tuple(head.state_dict() for head in fitted.heads),
        )

    def _method_used(self, fitted: Fitted) -> str:
        """Return the job's method, or that of its heads alone where its update is not in use."""
        trains_network = method_entry(self.job.method).kind != "none"
        if fitted.is_adapted or not trains_network:
            return self.job.method
        return "mask-decoder" if self.task.head == "masks" else "head"

    def _report_entries(
        self, result: AdaptResult, fitted: Fitted, found: Estimates, is_final: bool
    ) -> dict[str, object]:
        return {
            "format": 1,
            "is_final": is_final,
            "path": self.route.path,
            "path_reason": self.route.why,
            "seconds": round(time.monotonic() - self.start, 1),
            "base": self.model.entry.name,
            "base_sha256": self.model.sha256,
            "method": self.job.method,
            "is_adapted": fitted.is_adapted,
            "initial_rank": self.job.rank,
            "ranks": lora.effective_ranks(self.model.network) if fitted.is_adapted else {},
            "trained_values": trained_count(self.model.network) if fitted.is_adapted else 0,
            "organs": [vars(organ) for organ in result.organs],
            "evidence": {
                name: vars(own.evidence) if own is not None else None for name, own in found.items()
            },
            "mean_held_out_dice": mean_dice(fitted.held_out) if fitted.held_out else None,
            "annotated": [_described(p) for p in self.task.paintings],
            "next_slice": None if self.next_slice is None else asdict(self.next_slice),
            "remarks": fitted.remarks,
            "images": [str(path) for path in self.job.images],
            "seed": self.job.seed,
            "versions": {
                "reglora": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }


def _in_one_piece(task: Task, fitted: Fitted) -> tuple[str, ...]:
    """Return the organs that are in one piece in every scan in which they are painted."""
    found: dict[str, bool] = {}
    for painting, groups in zip(task.paintings, fitted.scores, strict=True):
        painted = painting.painted_organs
        for group, scores in zip(task.groups, groups, strict=True):
            labels = scores.argmax(0)
            for place, organ in enumerate(group, start=1):
                if organ in painted:
                    name = task.organs[organ].name
                    found[name] = found.get(name, True) and is_one_piece(labels == place)
    return tuple(name for name, is_whole in found.items() if is_whole)


def _described(painting: Painting) -> dict[str, object]:
    own = painting.annotation
    slices = [native_slice(own, painting.scan.orientation, k) for k in own.slices]
    return {"axis": AXIS_NAMES[own.axis], "slices": sorted(slices)}


def _organ_results(
    task: Task, fitted: Fitted, maps: list[LabelMap], found: Estimates
) -> tuple[OrganResult, ...]:
    results = []
    for organ in task.organs:
        voxels, ml = 0, 0.0
        for painting, labels in zip(task.paintings, maps, strict=True):
            own = next(k for k, known in enumerate(labels.organs) if known.name == organ.name)
            count = int(labels.mask(own).sum())
            voxels += count
            ml += count * float(np.prod(painting.scan.image.GetSpacing())) / 1000
        own_estimate = found[organ.name]
        results.append(
            OrganResult(
                name=organ.name,
                value=organ.value,
                expected_dice=own_estimate.dice if own_estimate else None,
                expected_range=own_estimate.range if own_estimate else None,
                is_doubtful=own_estimate is None or own_estimate.is_doubtful,
                held_out_dice=fitted.held_out.get(organ.name),
                voxels=voxels,
                ml=round(ml, 2),
                color=organ.color,
            )
        )
    return tuple(results)


__all__ = ["AdaptResult", "OrganResult", "adapt", "read_task"]
