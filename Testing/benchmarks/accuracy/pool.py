"""Jobs in processes of their own, side by side over the cores; finished ones are skipped.

OUT/jobs/NAME.json            what a finished job has measured, written in one step
OUT/adapters/NAME.safetensors of jobs that give their adapter away
OUT/predictions/NAME.seg.nrrd what ours segmented, for the pictures
OUT/failed/NAME.log           the last words of a job that failed; it is tried again next time
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from accuracy.job import PREDICT, ROOT, SLICER, Job


@dataclass(frozen=True)
class Store:
    """The folder of a run's results."""

    out: Path

    def make(self) -> None:
        for name in ("jobs", "adapters", "predictions", "failed"):
            (self.out / name).mkdir(parents=True, exist_ok=True)

    def record(self, job: Job) -> Path:
        return self.out / "jobs" / f"{job.name}.json"

    def adapter(self, job: Job) -> Path:
        return self.out / "adapters" / f"{job.name}.safetensors"

    def prediction(self, job: Job) -> Path:
        return self.out / "predictions" / f"{job.name}.seg.nrrd"

    def log(self, job: Job) -> Path:
        return self.out / "failed" / f"{job.name}.log"

    def is_finished(self, job: Job) -> bool:
        has_adapter = not job.keeps_adapter or self.adapter(job).is_file()
        return self.record(job).is_file() and has_adapter


@dataclass
class Progress:
    """How far a run is, on stderr, with the time left by the pace of finished jobs."""

    jobs: Sequence[Job]
    workers: int
    say: Callable[[str], None] = sys.stderr.write
    done: int = 0
    _seconds: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    _finished: set[str] = field(default_factory=set)

    def add(self, job: Job, seconds: float, failure: str) -> None:
        self.done += 1
        self._finished.add(job.name)
        self._seconds[job.task, job.kind].append(seconds)
        outcome = f"FAILED: {failure}" if failure else f"{seconds:.0f} s"
        line = f"{self.done}/{len(self.jobs)}  {job.name}  {outcome}"
        self.say(f"{line}; {duration(self.seconds_left())} left\n")

    def seconds_left(self) -> float:
        known = {key: sum(every) / len(every) for key, every in self._seconds.items()}
        usual = sum(known.values()) / len(known)
        left = (job for job in self.jobs if job.name not in self._finished)
        return sum(known.get((job.task, job.kind), usual) for job in left) / self.workers


def run_jobs(
    jobs: Sequence[Job],
    store: Store,
    command: Callable[[Job], list[str]],
    workers: int,
    threads: int,
    say: Callable[[str], None] = sys.stderr.write,
) -> dict[str, str]:
    """Run what is not finished; return why jobs failed, by name.

    Args:
        jobs: a job's source comes before it.
        store: where results are, and go.
        command: makes the command line of a job's process; its end without an error and with the
            record written is success.
        workers: processes side by side.
        threads: that each of them may use.
        say: takes a line of progress.
    """
    store.make()
    waiting = [job for job in jobs if not store.is_finished(job)]
    say(f"{len(jobs) - len(waiting)} of {len(jobs)} jobs are finished already\n")
    progress = Progress(waiting, workers, say)
    failures: dict[str, str] = {}
    for is_predicting in (False, True):  # by then every adapter is there
        group = [job for job in waiting if (job.task == PREDICT) == is_predicting]
        with ThreadPoolExecutor(workers) as pool:
            runs = {
                pool.submit(_run, job, store, command(job), threads): job
                for job in _longest_first(group)
            }
            try:
                _collect(runs, store, progress, failures)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return failures


def _longest_first(jobs: Sequence[Job]) -> list[Job]:
    """Order jobs so that no long one is left for the end: many painted voxels take long."""
    return sorted(jobs, key=lambda job: (job.task == SLICER, -len(job.scans) * job.slices))


def _collect(
    runs: dict[Future[tuple[float, str]], Job],
    store: Store,
    progress: Progress,
    failures: dict[str, str],
) -> None:
    for run in as_completed(runs):
        job = runs[run]
        seconds, failure = run.result()
        if failure:
            failures[job.name] = failure
        else:
            store.log(job).unlink(missing_ok=True)
        progress.add(job, seconds, failure)


def _run(job: Job, store: Store, command: list[str], threads: int) -> tuple[float, str]:
    """Run a job's process to its end; return its seconds, and why it failed or an empty text."""
    if job.source is not None and not store.adapter(job.source).is_file():
        return 0.0, f"there is no adapter of {job.source.name}"
    start = time.monotonic()
    done = subprocess.run(
        command,
        input=json.dumps(job.to_dict()),
        capture_output=True,
        text=True,
        check=False,
        env=environment(threads),
    )
    seconds = time.monotonic() - start
    if done.returncode == 0 and store.is_finished(job):
        return seconds, ""
    store.log(job).write_text(done.stderr, encoding="utf-8")
    words = done.stderr.strip().splitlines()
    return seconds, words[-1] if words else f"its process ended with code {done.returncode}"


def environment(threads: int) -> dict[str, str]:
    """Return a job's environment: this tree's library, and no more than its share of the cores."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": str(threads),
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": str(threads),
        "VTK_SMP_MAX_THREADS": str(threads),
    }


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
