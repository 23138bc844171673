"""One finished fit, one JSON file: `fits/NAME.json` in the folder of a study.

NAME says what was fitted and ends in a checksum of everything that the result depends on: a fit
of other settings, or on another base network, is another fit. `plans/NAME.json` says which
fits the study of that name has, finished or not. docs/study.md has the entries. Standard library
only.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reglora_core.study.plan import FitPlan, Skip
from reglora_core.writing import write_text

FORMAT = 1
PLANS = "plans"
Record = dict[str, Any]


def fit_name(plan: FitPlan, dataset: str, settings: Mapping[str, Any]) -> str:
    """Return a fit's name; settings hold how it is trained and the base network's checksum.

    Which other ranks a study asks for is no part of it, so studies share their fits.
    """
    own = asdict(plan)
    del own["method"]["ranks"]
    whole = json.dumps([dataset, own, settings], sort_keys=True)
    checksum = hashlib.sha256(whole.encode("utf-8")).hexdigest()[:12]
    rank = "" if plan.rank is None else f"-r{plan.rank}"
    draw = f"k{plan.k}-f{plan.fold}-s{plan.seed}"
    return f"{plan.method.name}{rank}-{plan.organ}-{draw}-{plan.role}-{checksum}"


def write_plan(
    folder: Path, study: Mapping[str, str], fits: Mapping[str, FitPlan], skips: Sequence[Skip]
) -> Path:
    """Write which fits a study has, by name, and what it asks for and does not get.

    Args:
        study: its name and dataset.

    Raises:
        OutputError: it cannot be written.
    """
    file_name = re.sub(r"[^A-Za-z0-9_+-]+", "-", study["name"]).strip("-") or "study"
    path = folder / PLANS / f"{file_name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = {name: _identity(plan) for name, plan in fits.items()}
    plan = {"format": FORMAT, **study, "fits": listed, "skipped": [str(skip) for skip in skips]}
    write_text(path, json.dumps(plan, indent=1) + "\n")
    return path


def _identity(plan: FitPlan) -> dict[str, Any]:
    names = ("organ", "is_novel", "k", "fold", "seed", "role")
    own = {name: getattr(plan, name) for name in names}
    return {"method": plan.method.name, "initial_rank": plan.rank, **own}


def write_record(folder: Path, name: str, record: Record) -> Path:
    """Write a finished fit; a reader never meets half of it.

    Raises:
        OutputError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    write_text(path, json.dumps(record, indent=1) + "\n")
    return path


def finished(folder: Path, names: Iterable[str]) -> set[str]:
    """Return which fits are done; a damaged record does not count, and is made again."""
    return {name for name in names if read_record(folder / f"{name}.json") is not None}


def read_record(path: Path) -> Record | None:
    """Return a finished fit, or None where there is none, or one that is damaged or newer."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("format") == FORMAT else None
