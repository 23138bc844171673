"""`reglora bench run`: a study on this computer or on a cluster, and a table of what came out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from reglora_core.events import Report, Reporter
from reglora_core.pool import RayConfig, has_ray
from reglora_core.progress import ProgressBar, cancel_on_interrupt
from reglora_core.study.config import read_study

DEFECT, BAD_INPUT = 1, 2


def add_run(actions: Any) -> None:
    """Add `run` to the actions of `reglora bench`."""
    parser = actions.add_parser("run", help="fit and score every method of a study")
    parser.set_defaults(work=run)
    parser.add_argument("study", type=Path, metavar="STUDY.json", help="docs/study.md")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="the dataset")
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="finished fits; gone on from"
    )
    parser.add_argument("--base", default="", metavar="NAME|FILE", help="base network instead")
    parser.add_argument("--device", default="auto")
    add_pool(parser)


def add_pool(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where many pieces of work are done."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--ray", default="", metavar="ADDRESS", help="a Ray cluster; else this computer"
    )
    place.add_argument("--plain", action="store_true", help="one after the other, without Ray")
    parser.add_argument(
        "--workers", default=0, type=int, metavar="N", help="at once on this computer (its cores)"
    )
    parser.add_argument("--cpus", default=1, type=int, metavar="N", help="cores of each")
    parser.add_argument("--gpus", default=0.0, type=float, metavar="N", help="GPUs of each, or 0.5")


def pool_of(options: argparse.Namespace, report: Report) -> RayConfig | None:
    """Return where the work is done: None is this process.

    Raises:
        InputError: a number that cannot be, or a cluster without Ray.
    """
    config = RayConfig(options.ray, options.workers, options.cpus, options.gpus)
    if options.plain:
        return None
    if not has_ray() and not (options.ray or options.workers):
        report("warning", message="Ray is not installed: one after the other")
        return None
    return config


def run(options: argparse.Namespace) -> int:
    """Do what `reglora bench run` was asked for; return the exit code."""
    from reglora_core.study.summary import summary
    from reglora_core.study.sweep import SweepConfig, run_study

    bar = ProgressBar(sys.stderr)
    reporter = Reporter(bar)
    cancel_on_interrupt(reporter)
    where = SweepConfig(pool_of(options, reporter), options.base, options.device)
    sweep = run_study(read_study(options.study), options.data, options.out, where, reporter)
    bar.close()
    sys.stdout.write(summary(sweep))
    if sweep.defects:
        return DEFECT
    return BAD_INPUT if sweep.failed else 0
