"""`reglora demo`: organs of a real CT from a few painted slices, from start to end.

The sample's reference is painted on a few slices, everything else about it is hidden. The base
network is adapted to that paint, the result is compared with the reference on the other slices,
and Slicer's own tools do the same from the same paint.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from reglora_core.events import Event, Reporter
from reglora_core.job import AdaptJob, PredictJob
from reglora_core.progress import ProgressBar
from reglora_core.run import DONE, run_job

if TYPE_CHECKING:
    from reglora_core.adaptation import AdaptResult
    from reglora_core.evaluation import Evaluation
    from reglora_core.pictures import MethodDice
    from reglora_core.sample import Sample

OURS = "RegLoRASegment"
ANCHORS = {"grow_from_seeds": "Grow from seeds", "fill_between_slices": "Fill between slices"}
ANCHOR_SPACING_MM = "3"
OnStart = Callable[[Reporter], None]


def run_demo(
    data: Path,
    out: Path,
    slices: int,
    anchors: Path | None,
    on_start: OnStart = lambda reporter: None,
    budget: float = 55.0,
) -> int:
    """Run the demo; return the exit code.

    Args:
        data: folder of the sample CT.
        out: folder for results and pictures.
        slices: number of painted slices.
        anchors: the script that runs Slicer's own tools, or None.
        on_start: gets the reporter of what is running, to cancel by it.
        budget: seconds for the adaptation.

    Raises:
        InputError: the sample is missing, or so many slices cannot be painted.
        OutputError: the folder cannot be written.
    """
    from reglora_core.sample import evenly_spaced, read_sample

    _say("reading the sample CT")
    sample = read_sample(data)
    chosen = evenly_spaced(sample.reference.painted(), slices)
    files = _Files(out)
    _write_inputs(sample, chosen, files)
    _say(f"adapting to axial slices {', '.join(map(str, chosen))}")
    job = AdaptJob(images=(sample.path,), labels=(files.painted,), out=out, budget=budget)
    code, result, events = _run(job, on_start)
    if code != DONE:
        return code
    _say("predicting the same CT by the adapter alone")
    code, _, predict_events = _run(
        PredictJob(result.adapter, sample.path, files.prediction), on_start
    )
    if code != DONE:
        return code
    _say("comparing with the reference on the slices that were not painted")
    evaluation = _evaluate(result.segmentations[0], files)
    rows, remark = _anchor_rows(sample, files, anchors)
    rows = [_row(OURS, evaluation, _time_of(events, "finished")), *rows]
    _say("drawing the pictures")
    _draw(sample, chosen, files, _Outcome(result, evaluation, events, rows))
    table = comparison_table(rows)
    sys.stdout.write(f"\nDice on the {_kept(evaluation)} slices that were not painted\n\n{table}\n")
    sys.stdout.write(remark)
    sys.stdout.write(_times(events, predict_events) + _places(files, result))
    return DONE


@dataclass(frozen=True)
class _Files:
    """What the demo writes beside the adaptation's own files."""

    out: Path
    pictures: dict[str, str] = field(
        default_factory=lambda: {
            "painted.png": "the painted slices",
            "result.png": "the result above the reference, three views",
            "training.png": "loss, and the rank of every layer, over time",
            "comparison.png": "Dice of every organ, beside Slicer's own tools",
        }
    )

    @property
    def painted(self) -> Path:
        return self.out / "painted.seg.nrrd"

    @property
    def reference(self) -> Path:
        return self.out / "reference.seg.nrrd"

    @property
    def prediction(self) -> Path:
        return self.out / "by_adapter_alone.seg.nrrd"

    @property
    def anchors(self) -> Path:
        return self.out / "anchors"


@dataclass(frozen=True)
class _Outcome:
    """What is drawn."""

    result: AdaptResult
    evaluation: Evaluation
    events: list[Event]
    rows: list[MethodDice]


def _say(text: str) -> None:
    sys.stderr.write(f"demo: {text}\n")
    sys.stderr.flush()


def _write_inputs(sample: Sample, slices: tuple[int, ...], files: _Files) -> None:
    from reglora_core.output import output_folder
    from reglora_core.volumes import write_segmentation

    with output_folder(files.out):
        write_segmentation(files.reference, sample.reference, sample.image)
        write_segmentation(files.painted, sample.painted_on(slices), sample.image)


def _run(job: AdaptJob | PredictJob, on_start: OnStart) -> tuple[int, AdaptResult, list[Event]]:
    events: list[Event] = []
    bar = ProgressBar(sys.stderr)
    code, result = run_job(job, [bar, events.append], on_start)
    bar.close()
    return code, result, events


def _evaluate(prediction: Path, files: _Files) -> Evaluation:
    from reglora_core.evaluation import evaluate

    return evaluate(prediction, files.reference, files.painted)


def _row(method: str, evaluation: Evaluation, seconds: float | None) -> MethodDice:
    from reglora_core.pictures import MethodDice

    dice = {score.name: score.score.dice for score in evaluation.scores if score.is_in_reference}
    return MethodDice(method, dice, seconds)


def _kept(evaluation: Evaluation) -> int:
    assert evaluation.kept_slices is not None
    return int(evaluation.kept_slices.is_kept.sum())


def _anchor_rows(
    sample: Sample, files: _Files, script: Path | None
) -> tuple[list[MethodDice], str]:
    """Return one row per tool of Slicer's, or why there is none."""
    if script is None or not script.is_file() or find_spec("slicer") is None:
        reason = "slicer-core is not installed" if script else "no script was given by --anchors"
        return [], f"Slicer's own tools are left out: {reason}.\n"
    _say("running Slicer's Grow from seeds and Fill between slices on the same slices")
    command = [sys.executable, str(script), str(sample.path), str(files.painted)]
    command += ["--spacing", ANCHOR_SPACING_MM, "--out", str(files.anchors)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return [], f"Slicer's own tools are left out: {reason}\n"
    record = json.loads((files.anchors / "anchors.json").read_text(encoding="utf-8"))
    rows = [
        _row(name, _evaluate(files.anchors / record[key]["file"], files), record[key]["seconds"])
        for key, name in ANCHORS.items()
    ]
    return rows, f"Slicer's own tools ran at {ANCHOR_SPACING_MM} mm on the same painted slices.\n"


def comparison_table(rows: Sequence[MethodDice]) -> str:
    """Return the Dice of every organ, one column a method, with means and seconds."""
    organs = list(dict.fromkeys(organ for row in rows for organ in row.dice))
    first = max(len(organ) for organ in [*organs, "seconds"])
    widths = [max(len(row.method), 6) for row in rows]

    def line(name: str, cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]
        return "  ".join([name.ljust(first), *padded]).rstrip()

    rule = "-" * (first + sum(widths) + 2 * len(widths))
    lines = [line("organ", [row.method for row in rows]), rule]
    for organ in organs:
        lines.append(line(organ, [_dice(row.dice.get(organ)) for row in rows]))
    lines += [rule, line("mean", [_dice(row.mean) for row in rows])]
    seconds = ["-" if row.seconds is None else f"{row.seconds:.1f}" for row in rows]
    return "\n".join([*lines, line("seconds", seconds)]) + "\n"


def _dice(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def _time_of(events: Sequence[Event], name: str) -> float | None:
    return next((float(event["time"]) for event in events if event["event"] == name), None)


def _times(events: Sequence[Event], predict_events: Sequence[Event]) -> str:
    rows = {
        "first preview after": _time_of(events, "preview"),
        "adaptation and result after": _time_of(events, "finished"),
        "prediction by the adapter alone": _time_of(predict_events, "finished"),
    }
    lines = [f"{name:32}{seconds:6.1f} s" for name, seconds in rows.items() if seconds is not None]
    return "\n" + "\n".join(lines) + "\n"


def _draw(sample: Sample, slices: tuple[int, ...], files: _Files, outcome: _Outcome) -> None:
    from reglora_core import pictures
    from reglora_core.volumes import read_labels

    painted = sample.painted_on(slices)
    prediction = read_labels(outcome.result.segmentations[0], sample.image)
    figures = (
        pictures.draw_annotated_slices(sample.image, painted, 0, slices),
        pictures.draw_result(
            sample.image, prediction, sample.reference, outcome.evaluation, (0, slices)
        ),
        pictures.draw_training(outcome.events),
        pictures.draw_comparison(
            outcome.rows, f"Dice of ten organs from {len(slices)} painted slices"
        ),
    )
    for figure, name in zip(figures, files.pictures, strict=True):
        pictures.save(figure, files.out / name)


def _places(files: _Files, result: AdaptResult) -> str:
    kilobytes = result.adapter.stat().st_size / 1000
    entries = {
        **{files.out / name: text for name, text in files.pictures.items()},
        result.segmentations[0]: "the result; opens in 3D Slicer",
        files.painted: "what was painted",
        files.reference: "what it was compared with",
        result.adapter: f"the adapter ({kilobytes:.0f} kB)",
        result.report: "everything about the run",
    }
    width = max(len(str(path)) for path in entries)
    lines = [f"{path!s:{width}}  {text}" for path, text in entries.items()]
    again = f"reglora predict --adapter {result.adapter} --image SCAN --out SCAN.seg.nrrd"
    return "\n" + "\n".join(lines) + f"\n\nAnother scan, nothing painted:\n  {again}\n"


__all__ = ["comparison_table", "run_demo"]
