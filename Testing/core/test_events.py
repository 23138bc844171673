"""Events: the lines between a job and its parent."""

from __future__ import annotations

import io
import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from reglora_core.errors import Cancelled
from reglora_core.events import NAMES, JsonLines, Reporter, ignore, parse, watch_for_cancel
from reglora_core.output import EventFile

DEEP = "[" * 100_000


@pytest.mark.parametrize("name", sorted(NAMES))
def test_an_event_is_the_same_after_writing_and_parsing(name: str) -> None:
    stream = io.StringIO()
    Reporter(JsonLines(stream))(name, message="Größe 3 µm\nzweite Zeile", number=1)
    event = parse(stream.getvalue())
    assert event is not None
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().isascii()
    assert event["event"] == name
    assert event["message"] == "Größe 3 µm\nzweite Zeile"
    assert event["time"] >= 0


@pytest.mark.parametrize(
    "line",
    [
        "",
        "loading weights ...",
        "{",
        "null",
        "3",
        '"progress"',
        "[]",
        "{}",
        '{"event": "exploded"}',
        '{"event": null}',
        '{"event": ["progress"]}',
        '{"event": {"progress": 1}}',
        '{"evnt": "progress"}',
        "\x00\x01",
        DEEP,
        '{"event": "progress"',
    ],
)
def test_a_line_that_is_no_event_is_log_text(line: str) -> None:
    assert parse(line) is None


def test_numbers_that_json_lacks_become_null() -> None:
    events: list[dict[str, Any]] = []
    report = Reporter(events.append)
    report("progress", loss=math.nan, nested={"a": [math.inf, 1.0]}, file=Path("a b"))
    assert events[0]["loss"] is None
    assert events[0]["nested"] == {"a": [None, 1.0]}
    assert events[0]["file"] == "a b"


def test_every_sink_gets_every_event_in_order() -> None:
    first: list[dict[str, Any]] = []
    second: list[dict[str, Any]] = []
    report = Reporter(first.append, second.append)
    report("started")
    report("finished")
    assert [event["event"] for event in first] == ["started", "finished"]
    assert first == second
    assert first[0]["time"] <= first[1]["time"]


def test_after_cancel_the_next_report_stops_the_work() -> None:
    events: list[dict[str, Any]] = []
    report = Reporter(events.append)
    report("progress", step=1)
    report.cancel()
    assert report.is_cancelled
    for name in ("progress", "ranks", "started"):
        with pytest.raises(Cancelled):
            report(name)
    assert [event["event"] for event in events] == ["progress"]


@pytest.mark.parametrize("name", ["finished", "failed", "cancelled", "organ", "preview", "warning"])
def test_closing_events_pass_after_cancel(name: str) -> None:
    events: list[dict[str, Any]] = []
    report = Reporter(events.append)
    report.cancel()
    report(name)
    assert events[0]["event"] == name


def test_reporting_to_nobody_does_nothing() -> None:
    ignore("progress", step=3)


@pytest.mark.parametrize("text", ["cancel\n", "noise\n cancel \nmore\n", "", "noise\n"])
def test_a_cancel_line_or_the_end_of_the_stream_cancels(text: str) -> None:
    asked = threading.Event()
    watch_for_cancel(io.StringIO(text), asked.set)
    assert asked.wait(5)


def test_other_lines_do_not_cancel() -> None:
    asked = threading.Event()
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "w") as parent:
        thread = watch_for_cancel(stream, asked.set)
        parent.write("cancellation\nhello\n")
        parent.flush()
        assert not asked.wait(0.2)
        parent.write("cancel\n")
        parent.flush()
        assert asked.wait(5)
        thread.join(5)


def test_bytes_that_are_no_text_cancel_too() -> None:
    asked = threading.Event()
    stream = io.TextIOWrapper(io.BytesIO(b"\xff\xfe\xff\n"), encoding="utf-8")
    watch_for_cancel(stream, asked.set)
    assert asked.wait(5)


def test_a_reader_that_is_gone_stops_the_lines_but_not_the_work() -> None:
    class Closed(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    report = Reporter(JsonLines(Closed()))
    report("progress", step=1)
    report("progress", step=2)


def test_the_event_file_is_left_alone_until_there_is_something_to_tell(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("of the run before\n")
    report = Reporter(EventFile(path))
    report("started")
    report("progress", stage="read", step=1)
    report("failed", message="m")
    assert path.read_text() == "of the run before\n"


def test_the_event_file_holds_every_event_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("of the run before\n")
    report = Reporter(EventFile(path))
    for name, stage in (("started", ""), ("progress", "read"), ("progress", "head")):
        report(name, stage=stage)
    report("finished")
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["event"] for event in events] == ["started", "progress", "progress", "finished"]


def test_an_event_file_that_cannot_be_written_does_not_stop_the_work(tmp_path: Path) -> None:
    report = Reporter(EventFile(tmp_path / "no folder" / "events.jsonl"))
    report("progress", stage="head")
    report("finished")
