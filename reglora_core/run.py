"""Run a job with its events: errors become exit codes, events go to their sinks."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from reglora_core import __version__
from reglora_core.errors import Cancelled, OutputError, RegLoRAError
from reglora_core.events import Event, JsonLines, Reporter, watch_for_cancel
from reglora_core.job import AdaptJob, Job, PredictJob
from reglora_core.output import EventFile
from reglora_core.writing import write_text

DONE, DEFECT, BAD_INPUT, CANCELLED = 0, 1, 2, 3
LOG = "reglora-defect.log"
Result = Any


def work_of(job: Job, report: Reporter) -> Result:
    """Do a job and return its result."""
    if isinstance(job, AdaptJob):
        from reglora_core.adaptation import adapt

        return adapt(job, report)
    if isinstance(job, PredictJob):
        from reglora_core.prediction import predict

        return predict(job, report)
    from reglora_core.evaluation import evaluate

    return evaluate(job.prediction, job.reference, job.slices_not_in)


def run_job(
    job: Job,
    sinks: list[Callable[[Event], None]],
    on_start: Callable[[Reporter], None] = lambda reporter: None,
) -> tuple[int, Result]:
    """Run a job; never raises.

    Args:
        job: what to do.
        sinks: receive the events.
        on_start: gets the reporter, to cancel by it.

    Returns:
        The exit code, and the result (None where there is none).
    """
    written = _Written()
    sinks = [*sinks, written]
    if isinstance(job, AdaptJob):
        sinks.append(EventFile(job.out / "events.jsonl"))
    reporter = Reporter(*sinks)
    try:
        on_start(reporter)
        reporter("started", pid=os.getpid(), version=__version__, command=job.command)
        result = work_of(job, reporter)
    except Cancelled:
        reporter("cancelled", files=written.files(job))
        return CANCELLED, None
    except RegLoRAError as error:
        reporter("failed", message=error.message, hint=error.hint, exit_code=BAD_INPUT)
        return BAD_INPUT, None
    except Exception as error:  # a defect of ours: said in one line, kept in a file
        folder = job.out if isinstance(job, AdaptJob) else None
        message, hint = log_defect(error, folder)
        reporter("failed", message=message, hint=hint, exit_code=DEFECT)
        return DEFECT, None
    reporter("finished", files=getattr(result, "files", {}))
    return DONE, result


def log_defect(error: Exception, folder: Path | None = None) -> tuple[str, str]:
    """Keep an error's traceback in a file; return one line about it, and where the file is."""
    trace = "".join(traceback.format_exception(error))
    message = " ".join(f"defect: {type(error).__name__}: {error}".split())
    for place in (folder, Path(tempfile.gettempdir())):
        if place is None or not place.is_dir():
            continue
        with suppress(OutputError):
            write_text(place / LOG, trace)
            return message, f"details are in {place / LOG}"
    sys.stderr.write(trace)
    return message, "details are above"


def run_as_worker(job: Job, stdin: IO[str], stdout: IO[str]) -> int:
    """Run a job for a parent process: events on stdout, ``cancel`` or the end of stdin stops it.

    Whatever else is printed goes to stderr. Where the platform has process groups the worker
    leads one, so that its parent can end everything it started.
    """
    events = os.fdopen(os.dup(stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), stdout.fileno())
    if hasattr(os, "setsid") and os.getpid() != os.getpgid(0):
        os.setsid()

    def listen(reporter: Reporter) -> None:
        watch_for_cancel(stdin, reporter.cancel)

    try:
        return run_job(job, [JsonLines(events)], listen)[0]
    finally:
        with suppress(OSError):  # closing flushes what a parent that is gone never read
            events.close()


class _Written:
    """A sink that remembers which results this run has written."""

    def __init__(self) -> None:
        self._segmentations: list[str] = []

    def __call__(self, event: Event) -> None:
        if event["event"] == "preview" and event["file"] not in self._segmentations:
            self._segmentations.append(event["file"])

    def files(self, job: Job) -> dict[str, str | list[str]]:
        """Return the results by their kind; an adapter is there from the first preview on."""
        if not isinstance(job, AdaptJob) or not self._segmentations:
            return {}
        adapter = str(job.out / "adapter.safetensors")
        return {"adapter": adapter, "segmentations": self._segmentations}
