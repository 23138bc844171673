"""Run a job with its events: errors become exit codes, events go to their sinks."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from reglora_core import __version__
from reglora_core.errors import Cancelled, OutputError, RegLoRAError
from reglora_core.events import Event, JsonLines, Reporter, watch_for_cancel
from reglora_core.job import AdaptJob, Job, PredictJob
from reglora_core.writing import write_text

DONE, DEFECT, BAD_INPUT, CANCELLED = 0, 1, 2, 3
Result = Any


def work_of(job: Job, report: Reporter) -> Result:
    """Do a job and return its result."""
    if isinstance(job, AdaptJob):
        from reglora_core.adapt import adapt

        return adapt(job, report)
    if isinstance(job, PredictJob):
        from reglora_core.predict import predict

        return predict(job, report)
    from reglora_core.evaluate import evaluate

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
    sinks = list(sinks)
    reporter = Reporter(lambda event: [sink(event) for sink in sinks] and None)
    try:
        if isinstance(job, AdaptJob):
            sinks.append(_event_file(job.out))
        on_start(reporter)
        reporter("started", pid=os.getpid(), version=__version__, command=job.command)
        result = work_of(job, reporter)
    except Cancelled:
        reporter("cancelled", files=_files_there(job))
        return CANCELLED, None
    except RegLoRAError as error:
        reporter("failed", message=error.message, hint=error.hint, exit_code=BAD_INPUT)
        return BAD_INPUT, None
    except Exception as error:  # a defect of ours: said in one line, kept in a file
        log = _write_log(job)
        message = f"defect: {type(error).__name__}: {error}"
        reporter("failed", message=message, hint=f"details are in {log}", exit_code=DEFECT)
        return DEFECT, None
    reporter("finished", files=getattr(result, "files", {}))
    return DONE, result


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

    with events:
        return run_job(job, [JsonLines(events)], listen)[0]


def _event_file(out: Path) -> Callable[[Event], None]:
    from reglora_core.output import EventFile

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"{out}: the output folder cannot be made ({error.strerror})"
        raise OutputError(message, "choose another folder") from error
    return EventFile(out / "events.jsonl")


def _files_there(job: Job) -> dict[str, str]:
    if not isinstance(job, AdaptJob):
        return {}
    adapter = job.out / "adapter.safetensors"
    return {"adapter": str(adapter)} if adapter.exists() else {}


def _write_log(job: Job) -> Path:
    folder = job.out if isinstance(job, AdaptJob) else Path(tempfile.gettempdir())
    log = folder / "reglora-defect.log"
    try:
        write_text(log, traceback.format_exc())
    except OutputError:
        sys.stderr.write(traceback.format_exc())
    return log
