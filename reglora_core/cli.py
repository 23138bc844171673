"""The command line: arguments become a job, errors become exit codes.

0 done, 2 bad input or usage, 3 cancelled (what was finished is kept), 1 a defect of ours.
Heavy libraries are imported only when there is work for them.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from reglora_core import __version__
from reglora_core.cohort import CohortJob, is_cohort, predict_cohort
from reglora_core.errors import Cancelled, InputError, RegLoRAError
from reglora_core.events import JsonLines, Reporter
from reglora_core.job import DEVICES, METHODS, PRECISIONS, AdaptJob, Job, PredictJob, read_job
from reglora_core.models.command import add_models
from reglora_core.process import tune_process
from reglora_core.progress import ProgressBar, cancel_on_interrupt
from reglora_core.study.command import add_pool, add_run, pool_of

NOT_A_DEVICE = "Research use only: not a medical device."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    tune_process()
    try:
        options = _parser().parse_args(arguments)
        code: int = options.work(options)
    except RegLoRAError as error:
        return _end(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _end(str(Cancelled()), Cancelled.exit_code)
    except Exception as error:
        from reglora_core.run import DEFECT, log_defect

        return _end("; ".join(log_defect(error)), DEFECT)
    return code


def _end(line: str, code: int) -> int:
    sys.stderr.write(f"reglora: {line}\n")
    return code


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(message, f"see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reglora",
        description="Segment organs from a few painted slices with adaptive-rank LoRA.",
        epilog=NOT_A_DEVICE,
    )
    parser.add_argument("--version", action="version", version=f"reglora {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_adapt(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    add_models(commands)
    _add_run(commands)
    _add_demo(commands)
    _add_pretrain(commands)
    _add_bench(commands)
    return parser


def _add_adapt(commands: Any) -> None:
    parser = commands.add_parser("adapt", help="adapt a base network to painted slices")
    parser.set_defaults(work=_adapt)
    parser.add_argument(
        "--image",
        action="append",
        required=True,
        type=Path,
        metavar="I",
        help="image file or DICOM folder; repeat for several",
    )
    parser.add_argument(
        "--labels",
        action="append",
        required=True,
        type=Path,
        metavar="L",
        help="label file of the image in the same place",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder")
    parser.add_argument(
        "--model",
        default="reglora-tiny",
        metavar="NAME|FILE",
        help="base network (see reglora models list)",
    )
    parser.add_argument(
        "--method",
        default="arena",
        metavar="NAME",
        help=f"one of {', '.join(METHODS)} (default arena; docs/methods.md)",
    )
    parser.add_argument("--rank", default=8, type=int, help="initial rank (default 8)")
    parser.add_argument(
        "--annotated",
        action="append",
        metavar="auto|all|axial:12,40,77",
        help="which slices are fully annotated (default auto); once, or once per image",
    )
    parser.add_argument("--ignore-label", type=int, metavar="N", help="value of unlabelled voxels")
    parser.add_argument("--names", metavar="1=liver,2=spleen|FILE.json", help="organ names")
    parser.add_argument("--from-adapter", type=Path, metavar="A", help="start from this adapter")
    parser.add_argument(
        "--correct",
        action="store_true",
        help="the paint was corrected: keep that adapter's update and fit its heads on (seconds)",
    )
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument(
        "--budget",
        default=55.0,
        type=float,
        metavar="SECONDS",
        help="stop adapting in time for this (default 55)",
    )
    limit.add_argument(
        "--steps", type=int, metavar="N", help="a number of adaptation steps instead"
    )
    _add_device(parser)
    parser.add_argument("--seed", default=0, type=int)


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser("predict", help="segment an image by an adapter")
    parser.set_defaults(work=_predict)
    parser.add_argument("--adapter", required=True, type=Path, metavar="A")
    parser.add_argument(
        "--image",
        required=True,
        type=Path,
        metavar="I",
        help="image file, DICOM folder, or a folder of many of these",
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE|DIR",
        help="ends in .seg.nrrd, .nii.gz or .nrrd; a folder for a folder of images",
    )
    parser.add_argument(
        "--model",
        default="",
        metavar="FILE",
        help="base weights, if the adapter's base was given as a file",
    )
    _add_device(parser)
    add_pool(parser)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", metavar="|".join(DEVICES))
    parser.add_argument(
        "--precision",
        default="auto",
        metavar="|".join(PRECISIONS),
        help="of the networks (default auto: 16 bits where they are fast)",
    )
    parser.add_argument("--threads", type=int, metavar="N", help="processor cores to use")
    parser.add_argument("--events", action="store_true", help="print JSON events on stdout")


def _add_evaluate(commands: Any) -> None:
    parser = commands.add_parser("evaluate", help="compare a segmentation with a reference")
    parser.set_defaults(work=_evaluate)
    parser.add_argument("--prediction", required=True, type=Path, metavar="P")
    parser.add_argument("--reference", required=True, type=Path, metavar="R")
    parser.add_argument(
        "--slices-not-in",
        type=Path,
        metavar="L",
        help="leave out the slices that this label file paints",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _add_run(commands: Any) -> None:
    parser = commands.add_parser("run", help="run a job file; JSON events on stdout")
    parser.set_defaults(work=_run)
    parser.add_argument("job", type=Path, metavar="JOB.json")


def _add_demo(commands: Any) -> None:
    parser = commands.add_parser("demo", help="five painted slices of a real CT, start to end")
    parser.set_defaults(work=_demo)
    parser.add_argument("--out", default=Path("demo"), type=Path, metavar="DIR")
    parser.add_argument(
        "--data",
        default=Path(".cache/sample"),
        type=Path,
        metavar="DIR",
        help="where the sample CT lies (make demo fetches it)",
    )
    parser.add_argument("--slices", default=5, type=int, help="number of painted slices")
    parser.add_argument(
        "--budget",
        default=55.0,
        type=float,
        metavar="SECONDS",
        help="for the adaptation (default 55); more on a slow computer",
    )
    parser.add_argument(
        "--anchors",
        type=Path,
        metavar="SCRIPT",
        help="script that runs Slicer's own tools on the same slices",
    )


def _add_pretrain(commands: Any) -> None:
    parser = commands.add_parser("pretrain", help="pre-train the embedded base network")
    parser.set_defaults(work=_pretrain)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="the data folder")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="DIR",
        help="checkpoint (resumed from), losses, weights",
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, metavar="N")


def _add_bench(commands: Any) -> None:
    parser = commands.add_parser("bench", help="studies on cohorts of patients")
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="list what is in a dataset, and what is wrong with it")
    check.set_defaults(work=_bench_check)
    check.add_argument(
        "dataset",
        metavar="DATASET",
        help="description, a .json file (docs/protocol.md), or the name of one that is shipped",
    )
    check.add_argument("--data", required=True, type=Path, metavar="DIR", help="its folder")
    add_run(actions)
    report = actions.add_parser("report", help="tables and figures of a study")
    report.set_defaults(work=_report)
    report.add_argument("study", type=Path, metavar="STUDYDIR", help="folder that bench run wrote")
    report.add_argument("--out", type=Path, metavar="DIR", help="default STUDYDIR/report")


def _report(options: argparse.Namespace) -> int:
    from reglora_core.report.command import run

    return run(options)


def _adapt(options: argparse.Namespace) -> int:
    from reglora_core.organs import parse_names

    job = AdaptJob(
        images=tuple(options.image),
        labels=tuple(options.labels),
        out=options.out,
        model=options.model,
        method=options.method,
        rank=options.rank,
        annotated=tuple(options.annotated or ["auto"]),
        ignore_label=options.ignore_label,
        names=parse_names(options.names) if options.names else {},
        from_adapter=options.from_adapter,
        correct=options.correct,
        budget=options.budget,
        steps=options.steps,
        device=options.device,
        threads=options.threads,
        seed=options.seed,
        precision=options.precision,
    )
    return _with_progress(job, options.events)


def _predict(options: argparse.Namespace) -> int:
    if is_cohort(options.image):
        return _predict_cohort(options)
    job = PredictJob(
        options.adapter,
        options.image,
        options.out,
        model=options.model,
        device=options.device,
        threads=options.threads,
        precision=options.precision,
    )
    return _with_progress(job, options.events)


def _predict_cohort(options: argparse.Namespace) -> int:
    sink = JsonLines(sys.stdout) if options.events else ProgressBar(sys.stderr)
    reporter = Reporter(sink)
    cancel_on_interrupt(reporter)
    ray = pool_of(options, reporter)
    job = CohortJob(
        options.adapter,
        options.image,
        options.out,
        model=options.model,
        device=options.device,
        precision=options.precision,
        ray=ray,
    )
    cohort = predict_cohort(job, reporter)
    if isinstance(sink, ProgressBar):
        sink.close()
        sys.stdout.write(cohort.to_table())
    if cohort.has_defect:
        return 1
    return 2 if cohort.failed else 0


def _with_progress(job: Job, has_events: bool) -> int:
    """Run a job with a progress bar on stderr, or with events on stdout."""
    from reglora_core.run import run_job
    from reglora_core.tables import result_table

    bar = ProgressBar(sys.stderr)
    sinks: list[Any] = [JsonLines(sys.stdout)] if has_events else [bar]
    code, result = run_job(job, sinks, cancel_on_interrupt)
    if has_events:
        return code
    bar.close()
    if result is not None:
        sys.stdout.write(result_table(result))
    return code


def _evaluate(options: argparse.Namespace) -> int:
    from reglora_core.evaluation import evaluate

    evaluation = evaluate(options.prediction, options.reference, options.slices_not_in)
    if options.json:
        sys.stdout.write(json.dumps(evaluation.to_dict(), indent=1) + "\n")
    else:
        sys.stdout.write(evaluation.to_table() + "\n")
    return 0


def _run(options: argparse.Namespace) -> int:
    from reglora_core.run import run_as_worker

    return run_as_worker(read_job(options.job), sys.stdin, sys.stdout)


def _demo(options: argparse.Namespace) -> int:
    from reglora_core.demo import run_demo

    return run_demo(
        options.data,
        options.out,
        options.slices,
        options.anchors,
        cancel_on_interrupt,
        options.budget,
    )


def _pretrain(options: argparse.Namespace) -> int:
    from reglora_core.pretraining.command import run_pretraining

    bar = ProgressBar(sys.stderr)
    run_pretraining(
        options.config, options.data, options.out, options.device, options.threads, Reporter(bar)
    )
    bar.close()
    return 0


def _bench_check(options: argparse.Namespace) -> int:
    from reglora_core.protocol.command import check_dataset

    bar = ProgressBar(sys.stderr)
    text, inventory = check_dataset(options.dataset, options.data, Reporter(bar))
    bar.close()
    sys.stdout.write(text)
    inventory.require_usable()
    return 0
