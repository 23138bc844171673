"""What came out of a run of a study, as text."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from reglora_core.study.records import Record
from reglora_core.study.sweep import Sweep


def summary(sweep: Sweep) -> str:
    """Return mean and deviation over draws of every method, rank, organ and k, and the counts."""
    lines = [f"{'method':16} {'rank':>4}  {'organ':16} {'k':>3} {'fits':>5}  Dice, % (deviation)"]
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in sweep.records():
        key = tuple(record[name] for name in ("method", "initial_rank", "organ", "k"))
        groups.setdefault(key, []).append(record)
    for (method, rank, organ, k), records in groups.items():
        shown = "" if rank is None else str(rank)
        scores = [100 * record["dice"] for record in records]
        lines.append(f"{method:16} {shown:>4}  {organ:16} {k:3} {len(records):5}  {_mean(scores)}")
    lines += ["", *(str(skip) for skip in sweep.skips)]
    lines += [f"failed: {name}: {failure}" for name, failure in sweep.failed.items()]
    lines.append(
        f"{len(sweep.names)} fits: {sweep.kept} were finished before, {len(sweep.made)} made now, "
        f"{len(sweep.failed)} failed; records in {sweep.folder}"
    )
    return "\n".join(lines) + "\n"


def _mean(scores: Sequence[float]) -> str:
    if len(scores) < 2:
        return f"{fmean(scores):.1f}"
    return f"{fmean(scores):.1f} ({stdev(scores):.1f})"
