"""What one job does: paint, run a method, score, write the record.

The job's own process stays small until the method has run, because a child process starts out
with its parent's peak of memory: paint is made by one child, the method is run by another one,
as a user runs it, and only then the scoring is imported.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accuracy.job import ADAPT, ANCHORS, IN_SCAN, PREDICT, SLICER, Job, Options
from accuracy.methods import ANCHOR_NAMES, FIRST, OURS
from accuracy.pool import Store
from bench_core import Measured, measure
from reglora_core.events import Event
from reglora_core.output import write_json

BENCHMARK = Path(__file__).resolve().parents[1] / "bench_accuracy.py"
REGLORA = (sys.executable, "-m", "reglora_core")
ANCHOR_SPACING_MM = "3"

Entries = dict[str, Any]


def run(job: Job, options: Options, store: Store) -> None:
    """Do a job and write its record."""
    start, load = time.perf_counter(), os.getloadavg()[0]
    tasks: dict[str, Callable[[Job, Options, Store, Path], Entries]] = {
        ADAPT: _adapt,
        SLICER: _slicer,
        PREDICT: _predict,
    }
    with tempfile.TemporaryDirectory() as folder:
        entries = tasks[job.task](job, options, store, Path(folder))
    record = {
        "job": job.to_dict(),
        "options": asdict(options),
        "load_before": round(load, 2),
        "job_seconds": round(time.perf_counter() - start, 1),
        **entries,
    }
    write_json(store.record(job), record)


def painted_path(folder: Path, number: int) -> Path:
    """Return where the paint of a job's scan is written; numbers count from 0."""
    return folder / f"painted_{number}.seg.nrrd"


def _adapt(job: Job, options: Options, store: Store, folder: Path) -> Entries:
    paint = _paint(job, folder)
    out, first = folder / "run", folder / "first.seg.nrrd"

    def keep_first(event: Event) -> None:
        if event["event"] == "preview" and not first.exists():
            shutil.copyfile(event["file"], first)

    measured = measure(_adapt_command(job, options, paint, folder), keep_first)
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    entries = {"paint": paint, "is_adapted": report["is_adapted"], "report": report}
    if job.keeps_adapter:
        shutil.copyfile(out / "adapter.safetensors", store.adapter(job))
    if job.role != IN_SCAN:
        return {**entries, **_costs(measured), "results": []}
    final = out / "segmentation_1.seg.nrrd"
    shutil.copyfile(final, store.prediction(job))
    from accuracy.scoring import Bench, expert_results

    bench = Bench.of(job.scans[0], job)
    results = [
        {"method": OURS, **_costs(measured), "organs": bench.score(final)},
        {
            "method": FIRST,
            "seconds": _rounded(measured.first_preview),
            "organs": bench.dice_of(first),
        },
        *expert_results(bench, job, painted_path(folder, 0)),
    ]
    return {**entries, "results": results}


def _adapt_command(
    job: Job, options: Options, paint: Sequence[Entries], folder: Path
) -> list[str | Path]:
    command: list[str | Path] = [*REGLORA, "adapt", "--events", "--out", folder / "run"]
    for number, (scan, own) in enumerate(zip(job.scans, paint, strict=True)):
        command += ["--image", scan.image, "--labels", painted_path(folder, number)]
        command += ["--annotated", f"{own['direction']}:{_listed(own['slices'])}"]
    command += ["--model", job.model, "--method", options.method, "--seed", str(options.seed)]
    command += ["--threads", str(options.threads)]
    if options.steps is None:
        return [*command, "--budget", str(options.budget)]
    return [*command, "--steps", str(options.steps)]


def _slicer(job: Job, options: Options, store: Store, folder: Path) -> Entries:
    del options, store
    paint = _paint(job, folder)
    where = f"{'zyx'[paint[0]['axis']]}:{_listed(paint[0]['slices'])}"
    command = [sys.executable, ANCHORS, job.scans[0].image, painted_path(folder, 0)]
    command += ["--spacing", ANCHOR_SPACING_MM, "--annotated", where, "--out", folder]
    measure(command)
    record = json.loads((folder / "anchors.json").read_text(encoding="utf-8"))
    from accuracy.scoring import Bench

    bench = Bench.of(job.scans[0], job)
    results = [
        {
            "method": name,
            "seconds": record[key]["seconds"],
            "peak_mb": record[key]["peak_memory_mib"],
            "organs": bench.score(folder / record[key]["file"]),
        }
        for key, name in ANCHOR_NAMES.items()
    ]
    return {"paint": paint, "slicer_core": record["slicer_core"], "results": results}


def _predict(job: Job, options: Options, store: Store, folder: Path) -> Entries:
    assert job.source is not None
    out = folder / "predicted.seg.nrrd"
    command = [*REGLORA, "predict", "--adapter", store.adapter(job.source), "--out", out]
    command += ["--image", job.scans[0].image, "--model", job.model]
    measured = measure([*command, "--threads", str(options.threads), "--events"])
    shutil.copyfile(out, store.prediction(job))
    from accuracy.scoring import Bench

    bench = Bench.of(job.scans[0], job)  # scored where so many painted slices here would be
    results = [{"method": OURS, **_costs(measured), "organs": bench.score(out)}]
    return {"paint": bench.described_paint(), "results": results}


def _paint(job: Job, folder: Path) -> list[Entries]:
    """Let a child write the paint; return what it has painted, one entry a scan."""
    command = [sys.executable, str(BENCHMARK), "paint", "--out", str(folder)]
    entries = json.dumps(job.to_dict())
    done = subprocess.run(command, input=entries, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    painted: list[Entries] = json.loads((folder / "paint.json").read_text(encoding="utf-8"))
    return painted


def _listed(slices: Sequence[int]) -> str:
    return ",".join(map(str, slices))


def _costs(measured: Measured) -> Entries:
    return {"seconds": _rounded(measured.seconds), "peak_mb": round(measured.peak_mb)}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
