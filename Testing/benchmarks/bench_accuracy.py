"""Accuracy on every labelled scan at hand, beside Slicer's own tools on the same paint. Not a test.

    python Testing/benchmarks/bench_accuracy.py run --sample .cache/sample --out bench/accuracy
        [--data FOLDER] [--quick] [--steps 60] [--jobs N] ...
    python Testing/benchmarks/bench_accuracy.py report --out bench/accuracy

What is run, the rules and the columns are described in docs/benchmarks.md. A finished job is a file
in OUT/jobs and is not run again as long as options, weights and code are the same. `report` makes
the tables and figures of the last plan again, from the jobs that are finished.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]  # this tree is measured, whichever one is installed

from accuracy.job import Job, Options, current_digest, slicer_version
from accuracy.plan import AXES, COUNTS, Choice, Plan, make_plan
from accuracy.pool import Store, run_jobs
from reglora_core.errors import Cancelled, InputError, RegLoRAError
from reglora_core.job import METHODS
from reglora_core.output import output_folder, write_json

PLAN = "plan.json"
SOME_FAILED = 1


def run(arguments: argparse.Namespace) -> int:
    """Run what is not finished, then report; 1 where a job failed."""
    workers = arguments.jobs or os.cpu_count() or 1
    threads = max(1, (os.cpu_count() or 1) // workers)
    options = Options(arguments.method, arguments.steps, arguments.budget, arguments.seed, threads)
    plan = make_plan(choice_of(arguments), bool(slicer_version()), arguments.quick)
    jobs = with_digests(plan.jobs, options)
    if not jobs:
        message = f"--cases: {' '.join(arguments.cases)}: no such scan"
        raise InputError(message, "give sample, torso, mr, or pt_201 and the like")
    store = Store(arguments.out)
    with output_folder(store.out):
        entries = {"jobs": [job.to_dict() for job in jobs], "remarks": plan.remarks}
        write_json(store.out / PLAN, {**entries, "options": asdict(options)})
        failures = run_jobs(jobs, store, lambda job: command(store, options), workers, threads)
        for name, why in failures.items():
            sys.stderr.write(f"failed: {name}: {why}\n")
        report(store)
    return SOME_FAILED if failures else 0


def choice_of(arguments: argparse.Namespace) -> Choice:
    entries = {own.name: getattr(arguments, own.name) for own in fields(Choice)}
    if Path(entries["model"]).is_file():
        entries["model"] = str(Path(entries["model"]).resolve())
    for name in ("sample", "data"):
        entries[name] = entries[name].resolve()
    for name in ("counts", "axes", "cases", "counts_of_other_axes"):
        entries[name] = tuple(entries[name])
    return Choice(**entries)


def with_digests(jobs: Sequence[Job], options: Options) -> list[Job]:
    """Return the jobs with the checksums of what they depend on."""
    examples = {(job.task, job.model): job for job in jobs}
    known = {key: current_digest(job, options) for key, job in examples.items()}

    def complete(job: Job) -> Job:
        source = complete(job.source) if job.source else None
        return replace(job, digest=known[job.task, job.model], source=source)

    return [complete(job) for job in jobs]


def command(store: Store, options: Options) -> list[str]:
    """Return the command line of a job's process; the job comes on its standard input."""
    own = [sys.executable, str(Path(__file__).resolve()), "job", "--out", str(store.out.resolve())]
    return [*own, "--options", json.dumps(asdict(options))]


def work(arguments: argparse.Namespace) -> int:
    """Do the one job that is described on the standard input."""
    from accuracy.work import run as run_job

    job, options = Job.from_dict(json.load(sys.stdin)), Options(**json.loads(arguments.options))
    if job.digest != current_digest(job, options):
        message = f"{job.name}: code or weights have changed since the benchmark began"
        raise InputError(message, "run it again; what is finished is not lost")
    run_job(job, options, Store(arguments.out))
    return 0


def make_paint(arguments: argparse.Namespace) -> int:
    """Write the paint of the job that is described on the standard input."""
    from accuracy.scoring import write_paint

    write_paint(Job.from_dict(json.load(sys.stdin)), arguments.out)
    return 0


def report_again(arguments: argparse.Namespace) -> int:
    report(Store(arguments.out))
    return 0


def report(store: Store) -> None:
    """Write tables, figures and pictures of the last plan's finished jobs.

    Raises:
        InputError: there is no plan, or no job of it is finished.
    """
    from accuracy.report import write_report

    path = store.out / PLAN
    if not path.is_file():
        message = f"{path}: no benchmark was run here"
        raise InputError(message, "run it first, or name its folder by --out")
    entries = json.loads(path.read_text(encoding="utf-8"))
    plan = Plan([Job.from_dict(job) for job in entries["jobs"]], entries["remarks"])
    sys.stdout.write(f"{write_report(plan, store)}\n")


def data_folder() -> Path:
    return Path(os.environ.get("REGLORA_DATA") or ROOT.parent / "shared" / "data")


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    add_run(commands.add_parser("run", help="run what is not finished, then report"))
    again = commands.add_parser("report", help="tables and figures of what is finished")
    again.set_defaults(work=report_again)
    add_out(again)
    one = commands.add_parser("job", help="one job, given on the standard input")
    one.set_defaults(work=work)
    one.add_argument("--options", required=True)
    add_out(one)
    paint = commands.add_parser("paint", help="the paint of such a job alone")
    paint.set_defaults(work=make_paint)
    add_out(paint)
    return whole


def add_run(own: argparse.ArgumentParser) -> None:
    own.set_defaults(work=run)
    add_out(own)
    own.add_argument("--sample", type=Path, default=ROOT / ".cache" / "sample")
    own.add_argument(
        "--data", type=Path, default=data_folder(), help="the other scans (REGLORA_DATA)"
    )
    own.add_argument("--quick", action="store_true", help="a small subset")
    own.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="painted slices")
    own.add_argument(
        "--counts-of-other-axes",
        type=int,
        nargs="*",
        default=COUNTS,
        help="of them, those painted in other directions than the first of --axes",
    )
    own.add_argument("--axes", nargs="+", default=AXES, choices=AXES)
    own.add_argument("--patients", type=int, default=33, help="of OpenKBP's validation set")
    own.add_argument(
        "--patients-of-all-axes",
        type=int,
        default=4,
        help="of them, painted in all directions (the others axially only)",
    )
    own.add_argument(
        "--patients-of-all-counts",
        type=int,
        default=33,
        help="of them, painted on all numbers of slices (the others on five)",
    )
    own.add_argument(
        "--cases", nargs="*", default=(), help="score only these: sample, mr, pt_201, ..."
    )
    own.add_argument(
        "--no-next-patient",
        dest="has_next_patient",
        action="store_false",
        help="carry no adapters over to other patients",
    )
    own.add_argument(
        "--next-patients",
        type=int,
        default=33,
        help="to so many OpenKBP patients, at most, adapters are carried over",
    )
    own.add_argument("--model", default="reglora-tiny", help="base network: a name or a file")
    own.add_argument("--method", default="arena", choices=METHODS)
    own.add_argument("--budget", type=float, default=55.0, help="seconds per adaptation")
    own.add_argument("--steps", type=int, help="a number of steps instead: repeatable")
    own.add_argument("--seed", type=int, default=0)
    own.add_argument("--jobs", type=int, help="processes side by side (default: one per core)")


def add_out(own: argparse.ArgumentParser) -> None:
    own.add_argument("--out", type=Path, default=Path("bench") / "accuracy")


def main(argv: Sequence[str] | None = None) -> int:
    try:
        arguments = parser().parse_args(argv)
        code: int = arguments.work(arguments)
    except RegLoRAError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("stopped; run it again to go on with what is not finished\n")
        return Cancelled.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())
