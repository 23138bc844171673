"""A whole study: what is done already is kept, the rest is fitted, one record for each fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from reglora_core.errors import InputError
from reglora_core.events import Report, ignore
from reglora_core.output import output_folder
from reglora_core.pool import Outcome, RayConfig, run_on_ray, run_plain
from reglora_core.protocol.dataset import read_dataset
from reglora_core.protocol.inventory import Inventory, take_inventory
from reglora_core.study.config import StudyConfig
from reglora_core.study.plan import FitPlan, Skip, plan_fits
from reglora_core.study.records import (
    Record,
    finished,
    fit_name,
    read_record,
    write_plan,
    write_record,
)

if TYPE_CHECKING:
    from reglora_core.study.work import Bench


@dataclass(frozen=True)
class SweepConfig:
    """Where a study is run.

    Attributes:
        ray: None: one fit after the other in this process.
        base: weights to use in place of the study's own.
        device: of the fits; auto takes a GPU where there is one.
    """

    ray: RayConfig | None = None
    base: str = ""
    device: str = "auto"


@dataclass
class Sweep:
    """What a run of a study did.

    Attributes:
        folder: of the records.
        names: of all fits of the study, in order.
        kept: number of fits that were finished before.
        made: names of those fitted now.
        failed: failure by name; nothing is written for them, so the next run tries again.
        defects: those of them that are no bad input.
        skips: what the study asks for and does not get.
        seconds: that the fits of this run took together, waiting included.
    """

    folder: Path
    names: list[str]
    skips: list[Skip]
    kept: int = 0
    made: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    defects: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def records(self) -> list[Record]:
        """Return the finished fits in the study's order."""
        found = (read_record(self.folder / f"{name}.json") for name in self.names)
        return [record for record in found if record is not None]


def run_study(
    config: StudyConfig, data: Path, out: Path, where: SweepConfig, report: Report = ignore
) -> Sweep:
    """Run a study, or what is left of it.

    Args:
        config: of the study.
        data: folder of its dataset.
        out: `plans/` gets the list of fits, `fits/` the records, `base/` the
            base network where the study pre-trains one.
        where: in this process or on Ray.
        report: receives progress and a warning per failure; may raise `Cancelled`.

    Raises:
        InputError: the dataset, the study or the base network cannot be used.
        OutputError: the output folder cannot be written, or another run is using it.
    """
    inventory = _inventory(config, data, report)
    plans, skips = plan_fits(config, inventory)
    with output_folder(out):
        weights = _weights(config, inventory, out, where, report)
        make = partial(_bench, config, inventory, weights, where.device)
        names = _names(make(), plans)
        study = {"name": config.name, "dataset": inventory.dataset.name}
        write_plan(out, study, dict(zip(names, plans, strict=True)), skips)
        sweep = Sweep(out / "fits", names, skips)
        done = finished(sweep.folder, names)
        sweep.kept = len(done)
        left = [(name, plan) for name, plan in zip(names, plans, strict=True) if name not in done]
        _run(sweep, left, partial(_worker, make), where.ray, report)
    return sweep


def _names(bench: Bench, plans: list[FitPlan]) -> list[str]:
    dataset, study = bench.inventory.dataset.name, bench.config.name
    names = [fit_name(plan, dataset, bench.settings(plan)) for plan in plans]
    if len(set(names)) < len(names):
        message = f"study {study}: the same fit is asked for twice"
        raise InputError(message, "name each method, rank, k and draw once")
    return names


def _run(
    sweep: Sweep,
    left: list[tuple[str, FitPlan]],
    make: Callable[[], Callable[[FitPlan], Record]],
    ray: RayConfig | None,
    report: Report,
) -> None:
    """Fit what is left; a record is written as soon as its fit is finished."""
    started = time.monotonic()
    plans = [plan for _, plan in left]
    report("progress", stage="fits", step=sweep.kept, steps=len(sweep.names))
    for number, outcome in _outcomes(make, plans, ray):
        name = left[number][0]
        if outcome.result is None:
            sweep.failed[name] = outcome.failure
            if outcome.is_defect:
                sweep.defects.add(name)
            report("warning", message=f"{name}: {outcome.failure}")
        else:
            write_record(sweep.folder, name, outcome.result)
            sweep.made.append(name)
        sweep.seconds = time.monotonic() - started
        done = len(sweep.made) + len(sweep.failed)
        report(
            "progress",
            stage="fits",
            step=sweep.kept + done,
            steps=len(sweep.names),
            seconds_left=sweep.seconds / done * (len(left) - done),
        )


def _outcomes(
    make: Callable[[], Callable[[FitPlan], Record]], plans: list[FitPlan], ray: RayConfig | None
) -> Iterator[tuple[int, Outcome[Record]]]:
    if not plans:
        return iter(())
    return run_plain(make, plans) if ray is None else run_on_ray(make, plans, ray)


def _inventory(config: StudyConfig, data: Path, report: Report) -> Inventory:
    def at_case(done: int, every: int) -> None:
        report("progress", stage="check", step=done, steps=every)

    inventory = take_inventory(read_dataset(config.dataset), data, at_case)
    for problem in inventory.of("skipped"):
        report("warning", message=str(problem))
    return inventory


def _weights(
    config: StudyConfig, inventory: Inventory, out: Path, where: SweepConfig, report: Report
) -> str:
    """Return the base network's weights: given, or pre-trained now; checked for leaks."""
    from reglora_core.device import choose_device
    from reglora_core.study.base import check_base, pretrain_base

    weights = where.base or config.base
    if not weights:
        device = choose_device(where.device)
        weights = str(pretrain_base(config, inventory, out / "base", device, report))
    check_base(weights, inventory)
    return weights


def _bench(config: StudyConfig, inventory: Inventory, weights: str, device: str) -> Bench:
    from reglora_core.device import choose_device
    from reglora_core.study.work import Bench

    return Bench.of(config, inventory, weights, choose_device(device))


def _worker(make: Callable[[], Bench]) -> Callable[[FitPlan], Record]:
    """Return the function that does one fit, with a base network of its own."""
    from reglora_core.study.work import run_fit

    return partial(run_fit, make())
