"""What one job does in its own process: paint, run a method, score, write the record."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import SimpleITK as sitk  # noqa: TID253

import reglora_core
from accuracy.experts import simple_experts
from accuracy.job import ADAPT, ANCHORS, IN_SCAN, PREDICT, SLICER, Job, Options
from accuracy.paint import Paint, paint
from accuracy.pool import Store
from accuracy.records import FILL, FIRST, GROW, INTERPOLATED, OURS, PROPAGATED
from accuracy.scans import Scan
from reglora_core.agreement import KeptSlices
from reglora_core.errors import InputError
from reglora_core.evaluation import Evaluation, compare
from reglora_core.output import write_json
from reglora_core.volumes import LabelMap, read_labels, write_segmentation

ANCHOR_SPACING_MM = "3"
ANCHOR_NAMES = {"grow_from_seeds": GROW, "fill_between_slices": FILL}
EXPERT_NAMES = {"propagated": PROPAGATED, "interpolated": INTERPOLATED}

Entries = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """One scan with its reference, and the paint on it where there is any."""

    image: sitk.Image
    reference: LabelMap
    paint: Paint | None

    @classmethod
    def of(cls, scan: Scan, job: Job) -> Bench:
        image, reference = scan.read()
        own = paint(image, reference, job.axis, job.slices) if job.slices else None
        return cls(image, reference, own)

    @property
    def kept_slices(self) -> KeptSlices:
        """What is scored: the slices that are not painted."""
        if self.paint is not None:
            return self.paint.kept_slices
        return KeptSlices.all_but(0, (), self.reference.shape[0])

    def score(self, file: Path, names: dict[int, str] | None = None) -> list[Entries]:
        """Return Dice, HD95, surface Dice and volumes of every organ of a file."""
        found = read_labels(file, self.image, names)
        spacing_mm = self.image.GetSpacing()[::-1]
        scores = compare(found, self.reference, spacing_mm, self.kept_slices)
        return Evaluation(scores).to_dict()["organs"]

    def dice(self, prediction: LabelMap) -> list[Entries]:
        """Return every organ's Dice alone: much faster."""
        places = {organ.name: index for index, organ in enumerate(prediction.organs)}
        organs = []
        for index, organ in enumerate(self.reference.organs):
            expected = self.kept_slices.of(self.reference.mask(index))
            found = np.zeros_like(expected)
            if organ.name in places:
                found = self.kept_slices.of(prediction.mask(places[organ.name]))
            total = int(expected.sum()) + int(found.sum())
            dice = round(2 * int((expected & found).sum()) / total, 4) if total else None
            voxels = int(expected.sum())
            organs.append({"name": organ.name, "dice": dice, "reference_voxels": voxels})
        return organs


def run(job: Job, options: Options, store: Store) -> None:
    """Do a job and write its record."""
    start = time.perf_counter()
    work = {ADAPT: _adapt, SLICER: _slicer, PREDICT: _predict}[job.task]
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        entries = work(job, options, store, Path(folder))
    record = {
        "job": job.to_dict(),
        "options": vars(options),
        "load_before": round(load, 2),
        "job_seconds": round(time.perf_counter() - start, 1),
        **entries,
    }
    write_json(store.record(job), record)


def _adapt(job: Job, options: Options, store: Store, folder: Path) -> Entries:
    benches = [Bench.of(scan, job) for scan in job.scans]
    painted = [folder / f"painted_{number}.seg.nrrd" for number in range(len(benches))]
    for bench, path in zip(benches, painted, strict=True):
        write_segmentation(path, bench.paint.labels, bench.image)
    first = folder / "first.seg.nrrd"
    first_seconds: list[float] = []

    def report(event: str, /, **fields: Any) -> None:
        if event == "preview" and not first_seconds:
            first_seconds.append(round(time.perf_counter() - start, 1))
            shutil.copyfile(fields["file"], first)

    start = time.perf_counter()
    result = reglora_core.adapt(
        [scan.image for scan in job.scans],
        painted,
        folder / "run",
        report,
        annotated=tuple(bench.paint.annotated for bench in benches),
        model=job.model,
        method=options.method,
        steps=options.steps,
        budget=options.budget,
        seed=options.seed,
        threads=options.threads,
    )
    seconds, peak = round(time.perf_counter() - start, 1), peak_mb()
    if job.keeps_adapter:
        shutil.copyfile(result.adapter, store.adapter(job))
    entries = {
        "paint": [_described(bench.paint) for bench in benches],
        "is_adapted": result.is_adapted,
        "first_seconds": first_seconds[0] if first_seconds else None,
        "report": json.loads(result.report.read_text(encoding="utf-8")),
    }
    if job.role != IN_SCAN:
        return {**entries, "results": [], "seconds": seconds, "peak_mb": peak}
    shutil.copyfile(result.segmentations[0], store.prediction(job))
    bench = benches[0]
    results = [
        _result(OURS, bench.score(result.segmentations[0]), seconds, peak),
        _result(FIRST, bench.dice(read_labels(first, bench.image)), first_seconds[0]),
    ]
    experts = simple_experts(job.scans[0].image, painted[0], bench.paint.annotated, job.model)
    results += [_result(EXPERT_NAMES[name], bench.dice(found)) for name, found in experts]
    return {**entries, "results": results}


def _slicer(job: Job, options: Options, store: Store, folder: Path) -> Entries:
    del options, store
    bench = Bench.of(job.scans[0], job)
    assert bench.paint is not None
    painted = folder / "painted.seg.nrrd"
    write_segmentation(painted, bench.paint.labels, bench.image)
    command = [sys.executable, str(ANCHORS), str(job.scans[0].image), str(painted)]
    command += ["--spacing", ANCHOR_SPACING_MM, "--annotated", bench.paint.anchors_annotated]
    done = subprocess.run(
        [*command, "--out", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        message = f"Slicer's tools: {(done.stderr.strip().splitlines() or ['no words'])[-1]}"
        raise InputError(message)
    record = json.loads((folder / "anchors.json").read_text(encoding="utf-8"))
    names = {organ.value: organ.name for organ in bench.paint.labels.organs}
    results = []
    for key, name in ANCHOR_NAMES.items():
        own = record[key]
        scores = bench.score(folder / own["file"], names)
        results.append(_result(name, scores, own["seconds"], own["peak_memory_mib"]))
    version = record["slicer_core"]
    return {"paint": [_described(bench.paint)], "slicer_core": version, "results": results}


def _predict(job: Job, options: Options, store: Store, folder: Path) -> Entries:
    assert job.source is not None
    scan, out = job.scans[0], folder / "predicted.seg.nrrd"
    start = time.perf_counter()
    reglora_core.predict(
        store.adapter(job.source), scan.image, out, model=job.model, threads=options.threads
    )
    seconds, peak = round(time.perf_counter() - start, 1), peak_mb()
    shutil.copyfile(out, store.prediction(job))
    bench = Bench.of(scan, job)  # scored where so many painted slices on this scan would be
    left_out = [] if bench.paint is None else [_described(bench.paint)]
    return {"paint": left_out, "results": [_result(OURS, bench.score(out), seconds, peak)]}


def _described(own: Paint) -> Entries:
    return {
        "direction": own.direction,
        "axis": own.axis,
        "slices": list(own.slices),
        "slices_of_organs": own.slices_of_organs(),
    }


def _result(
    method: str, organs: list[Entries], seconds: float | None = None, peak: float | None = None
) -> Entries:
    return {"method": method, "seconds": seconds, "peak_mb": peak, "organs": organs}


def peak_mb() -> float:
    """Return this process's peak of memory in MiB; Linux counts kilobytes, macOS bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10))
