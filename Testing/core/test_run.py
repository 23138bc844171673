"""The worker: what a parent process sees of a job, and what is left when it ends early."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import phantom
import pytest

from reglora_core import run
from reglora_core.adapter import load_adapter
from reglora_core.errors import Cancelled, InputError, OutputError, ResourceError
from reglora_core.events import Reporter, parse
from reglora_core.job import AdaptJob, Job, job_to_dict
from reglora_core.output import LOCK, output_folder
from reglora_core.run import BAD_INPUT, CANCELLED, DEFECT, DONE, run_job
from reglora_core.volumes import read_image, read_labels

posix_only = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
WORKER = """
import os, sys, time
from pathlib import Path
from reglora_core import run
from reglora_core.job import PredictJob

def work_of(job, report):
    print("a stray print")
    os.write(1, b"a library's own noise\\n")
    for step in range(int(sys.argv[1])):
        report("progress", stage="refine", step=step, steps=1)
        time.sleep(0.01)

run.work_of = work_of
sys.exit(run.run_as_worker(PredictJob(Path("a"), Path("b"), Path("c.nrrd")), sys.stdin, sys.stdout))
"""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start Python with pipes; end it if it still runs at the end."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def wait_for(process: subprocess.Popen[str], name: str, stage: str = "") -> dict[str, Any]:
    """Read events until one of that name and stage."""
    assert process.stdout is not None
    for line in process.stdout:
        event = parse(line)
        assert event is not None, line
        if event["event"] == name and (not stage or event.get("stage") == stage):
            return event
    message = f"the worker ended before {name} {stage}"
    raise AssertionError(message)


def ending_of(process: subprocess.Popen[str]) -> tuple[list[dict[str, Any]], float]:
    """Return the remaining events and the seconds until the worker had ended."""
    start = time.monotonic()
    assert process.stdout is not None
    events = [parse(line) for line in process.stdout]
    process.wait(60)
    assert None not in events
    return [event for event in events if event is not None], time.monotonic() - start


def test_only_events_are_on_stdout_and_the_rest_is_on_stderr() -> None:
    with started("-c", WORKER, "3") as process:
        events, _ = ending_of(process)
        assert process.returncode == DONE
        assert [event["event"] for event in events] == [
            "started", "progress", "progress", "progress", "finished",
        ]  # fmt: skip
        assert events[0]["pid"] == process.pid
        assert process.stderr is not None
        noise = process.stderr.read()
    assert "a stray print" in noise
    assert "a library's own noise" in noise


@pytest.mark.parametrize("how", ["line", "end of the stream"])
def test_a_worker_stops_within_a_fraction_of_a_second(how: str) -> None:
    with started("-c", WORKER, "100000") as process:
        wait_for(process, "progress")
        assert process.stdin is not None
        if how == "line":
            process.stdin.write("cancel\n")
            process.stdin.flush()
        else:
            process.stdin.close()
        events, seconds = ending_of(process)
        assert process.returncode == CANCELLED
        assert events[-1]["event"] == "cancelled"
        assert seconds < 1.5  # 0.02 to 0.1 s on a quiet computer


@posix_only
def test_a_worker_whose_parent_is_gone_stops_without_a_word() -> None:
    with started("-c", WORKER, "100000") as process:
        wait_for(process, "progress")
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.close()
        assert process.wait(20) == CANCELLED
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@posix_only
def test_a_worker_leads_a_process_group() -> None:
    with started("-c", WORKER, "100000") as process:
        wait_for(process, "progress")
        assert os.getpgid(process.pid) == process.pid


def a_job(folder: Path, model: Path, **changes: Any) -> AdaptJob:
    image, labels = phantom.write_case(folder / "fäll 1")
    job = AdaptJob((image,), (labels,), folder / "out put", str(model), names=phantom.NAMES)
    return replace(job, **changes)


def job_file(job: Job, folder: Path) -> str:
    path = folder / "job.json"
    path.write_text(json.dumps(job_to_dict(job)), encoding="utf-8")
    return str(path)


def leftovers(folder: Path) -> list[str]:
    """Return the files that belong neither to a result nor to its log."""
    expected = {"adapter.safetensors", "segmentation_1.seg.nrrd", "report.json", "events.jsonl"}
    return sorted(path.name for path in folder.iterdir() if path.name not in expected)


def test_a_cancelled_adaptation_keeps_what_was_finished(
    tmp_path: Path, small_weights: Path
) -> None:
    job = a_job(tmp_path, small_weights, steps=100_000, method="arena")
    with started("-m", "reglora_core", "run", job_file(job, tmp_path)) as process:
        wait_for(process, "progress", "refine")
        code, _ = run_job(replace(job, method="head"), [])  # into the folder that is in use
        assert code == BAD_INPUT
        assert process.stdin is not None
        process.stdin.write("cancel\n")
        process.stdin.flush()
        events, _ = ending_of(process)
        assert process.returncode == CANCELLED
    steps = [event["time"] for event in events if event["event"] in ("progress", "ranks")]
    # by the worker's clock: at most one more step, often none
    assert not steps or events[-1]["time"] - steps[-1] < 2
    assert events[-1]["event"] == "cancelled"
    assert events[-1]["files"]["adapter"] == str(job.out / "adapter.safetensors")
    assert [event["name"] for event in events if event["event"] == "organ"] == ["liver", "spleen"]
    assert load_adapter(job.out / "adapter.safetensors").organs[0].name == "liver"
    assert leftovers(job.out) == []
    told = [
        json.loads(line)["event"] for line in (job.out / "events.jsonl").read_text().splitlines()
    ]
    assert (told[0], told[-1]) == ("started", "cancelled")


@posix_only
def test_a_killed_adaptation_leaves_a_good_adapter_and_a_free_folder(
    tmp_path: Path, small_weights: Path, quick_fits: None
) -> None:
    job = a_job(tmp_path, small_weights, steps=100_000, method="arena")
    with started("-m", "reglora_core", "run", job_file(job, tmp_path)) as process:
        wait_for(process, "progress", "refine")
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
    assert load_adapter(job.out / "adapter.safetensors").method == "head"
    labels = read_labels(job.out / "segmentation_1.seg.nrrd", read_image(job.images[0]))
    assert [organ.name for organ in labels.organs] == ["liver", "spleen"]
    assert leftovers(job.out) == [LOCK]
    code, result = run_job(replace(job, method="head"), [])
    assert code == DONE
    assert result.adapter.exists()
    assert leftovers(job.out) == []


def test_bad_input_is_an_event_and_leaves_everything_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "events.jsonl").write_text("of the run before\n")
    (out / "adapter.safetensors").write_text("of the run before\n")
    job = AdaptJob((tmp_path / "gone.nrrd",), (tmp_path / "l.nrrd",), out)
    with started("-m", "reglora_core", "run", job_file(job, tmp_path)) as process:
        events, _ = ending_of(process)
        assert process.returncode == BAD_INPUT
    assert [event["event"] for event in events] == ["started", "failed"]
    assert "gone.nrrd" in events[-1]["message"]
    assert all(path.read_text() == "of the run before\n" for path in out.iterdir())
    assert sorted(path.name for path in out.iterdir()) == ["adapter.safetensors", "events.jsonl"]


@pytest.mark.parametrize(
    ("error", "code", "event"),
    [
        (InputError("m", "h"), BAD_INPUT, "failed"),
        (ResourceError("m", "h"), BAD_INPUT, "failed"),
        (Cancelled(), CANCELLED, "cancelled"),
        (RuntimeError("m"), DEFECT, "failed"),
        (MemoryError(), DEFECT, "failed"),
    ],
)
def test_an_error_becomes_an_exit_code_and_a_last_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, event: str
) -> None:
    def fail(job: Job, report: Reporter) -> None:
        raise error

    monkeypatch.setattr(run, "work_of", fail)
    events: list[dict[str, Any]] = []
    job = AdaptJob((tmp_path / "i",), (tmp_path / "l",), tmp_path)
    assert run_job(job, [events.append]) == (code, None)
    assert [entry["event"] for entry in events] == ["started", event]


def test_a_defect_is_told_in_one_line_and_kept_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: Job, report: Reporter) -> None:
        message = "two\nlines of trouble"
        raise RuntimeError(message)

    monkeypatch.setattr(run, "work_of", fail)
    events: list[dict[str, Any]] = []
    run_job(AdaptJob((tmp_path / "i",), (tmp_path / "l",), tmp_path), [events.append])
    assert events[-1]["message"] == "defect: RuntimeError: two lines of trouble"
    assert str(tmp_path / run.LOG) in events[-1]["hint"]
    log = (tmp_path / run.LOG).read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "lines of trouble" in log


def test_a_cancelled_job_does_not_claim_the_files_of_the_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "adapter.safetensors").write_text("of the run before")

    def cancel(job: Job, report: Reporter) -> None:
        raise Cancelled

    monkeypatch.setattr(run, "work_of", cancel)
    events: list[dict[str, Any]] = []
    run_job(AdaptJob((tmp_path / "i",), (tmp_path / "l",), tmp_path), [events.append])
    assert events[-1]["files"] == {}


def test_a_folder_is_free_again_after_its_run(tmp_path: Path) -> None:
    with output_folder(tmp_path / "a b" / "ü") as out:
        assert (out / LOCK).read_text() == str(os.getpid())
        with pytest.raises(OutputError, match=f"another run \\(process {os.getpid()}\\)"):
            output_folder(out).__enter__()
    assert list(out.iterdir()) == []
    with output_folder(out):
        pass


@pytest.mark.parametrize("content", ["", "no number", "999999999", "1"])
def test_a_lock_file_that_nobody_holds_is_taken_over(tmp_path: Path, content: str) -> None:
    (tmp_path / LOCK).write_text(content)
    with output_folder(tmp_path):
        assert (tmp_path / LOCK).read_text() == str(os.getpid())


def test_a_place_for_the_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="cannot be made"):
            output_folder(path).__enter__()
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        output_folder(tmp_path).__enter__()
    tmp_path.chmod(0o700)
