"""Fit the estimate of each organ's Dice, and test it on other scans. Not a test.

    python Testing/benchmarks/fit_confidence.py collect [--data FOLDER] [--cases ...] --out FILE
    python Testing/benchmarks/fit_confidence.py fit --out FILE [--jobs bench/accuracy] [--write]

`collect` paints scans on 3, 5 and 8 slices, fits heads and experts and keeps the evidence with the
true Dice, a line per scan and number of slices; it goes on where it was stopped. `fit`: ridge
regression on the logit of the Dice with fixed signs; its penalty, and the errors that the range is
made from, by leaving one scan of the fit out at a time. The scans of TEST take no part in either:
the table says how well the estimate does on them, also after whole adaptations where the accuracy
benchmark was run (--jobs), beside the held-out Dice that a run had to offer before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import torch  # noqa: TID253
from scipy.optimize import lsq_linear  # noqa: TID253

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from accuracy.episode import Episode, PaintedScan
from accuracy.estimates import Agreement, Said
from accuracy.methods import OURS
from accuracy.scans import sample_scan, torso_scan, validation_patients
from bench_accuracy import data_folder
from reglora_core.confidence import (
    COEFFICIENTS,
    FEATURES,
    WRONG,
    Evidence,
    Regression,
    evidence_of,
    logistic,
    logit,
)
from reglora_core.errors import InputError
from reglora_core.models.loading import load_model
from reglora_core.output import write_json

COUNTS = (3, 5, 8)
KEYS = tuple(field.name for field in fields(Evidence))
THRESHOLDS = (0.5, 0.55, 0.6, 0.65)
PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
SIGNS = {
    "certainty": 1, "heads": 1, "propagation": 1, "experts": 1, "gap": -1, "beyond": -1,
    "slices": -1, "volume": 1,
}  # fmt: skip
FIT = ("torso", *(f"pt_{number}" for number in range(201, 220)))
TEST = (*(f"pt_{number}" for number in range(220, 240)), "sample")


@dataclass(frozen=True)
class Known:
    """An organ of a result: what the run saw of it, and its true Dice."""

    case: str
    slices: int
    organ: str
    evidence: Evidence
    dice: float
    held_out: float | None = None


def collect(arguments: argparse.Namespace) -> int:
    """Add the missing scans to the file."""
    model = load_model(arguments.model, torch.device("cpu"))
    scans = {own.name: own for own in validation_patients(arguments.data, 33)}
    scans["torso"] = torso_scan(arguments.data)
    scans["sample"] = sample_scan(arguments.sample)
    for name in arguments.cases or [*FIT, *TEST]:
        for count in COUNTS:
            if name not in scans or (name, count) in done(arguments.out):
                continue
            painted = PaintedScan.of(scans[name], "axial", count, model.entry.spacing_mm)
            fitted = Episode.of(model, painted).fitted(painted)
            evidence = evidence_of(painted.task, fitted)
            organs = {
                organ: {"dice": dice, "evidence": vars(own)}
                for organ, dice in painted.dice(fitted.scores[0]).items()
                if (own := evidence[organ]) is not None
            }
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            with arguments.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"case": name, "slices": count, "organs": organs}) + "\n")
    return 0


def entries(path: Path) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def done(path: Path) -> set[tuple[str, int]]:
    return {(entry["case"], entry["slices"]) for entry in entries(path)}


def read_collected(path: Path, cases: Sequence[str]) -> list[Known]:
    """Return the organs of the cases of which something was found."""
    return [
        Known(entry["case"], entry["slices"], organ, Evidence(**own["evidence"]), own["dice"])
        for entry in entries(path)
        if entry["case"] in cases
        for organ, own in entry["organs"].items()
    ]


def read_jobs(folder: Path, cases: Sequence[str]) -> list[Known]:
    """Return the painted organs of the accuracy benchmark's jobs of which something was found."""
    found = []
    for path in sorted((folder / "jobs").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        job, report = record["job"], record.get("report", {})
        case = "-".join(scan["name"] for scan in job["scans"])
        if job["role"] != "in-scan" or case not in cases or "evidence" not in report:
            continue
        held_out = {organ["name"]: organ["held_out_dice"] for organ in report["organs"]}
        ours = next(own for own in record["results"] if own["method"] == OURS)
        for organ in ours["organs"]:
            name, own = organ["name"], report["evidence"].get(organ["name"])
            if own is not None and organ["reference_voxels"]:
                evidence = Evidence(**{key: own[key] for key in KEYS})
                before = held_out.get(name)
                found.append(Known(case, job["slices"], name, evidence, organ["dice"], before))
    return found


def solve(known: Sequence[Known], ridge: float) -> np.ndarray:
    """Return the weights that minimise squared error on the logit scale.

    Every scan counts the same; the penalty leaves the constant out. What speaks for an organ may
    not lower its estimate, what speaks against it may not raise it (SIGNS): few kinds of anatomy
    are at hand, and a weight that only fits one of them would mislead on the next.
    """
    features = np.array([own.evidence.features() for own in known])
    target = np.array([logit(own.dice) for own in known])
    counts = Counter(own.case for own in known)
    weights = np.array([1 / counts[own.case] for own in known])
    roots = np.sqrt(weights * len(known) / weights.sum())
    penalty = np.sqrt(ridge) * np.eye(len(FEATURES))[1:]
    signs = [SIGNS.get(name, 0) for name in FEATURES]
    bounds = (
        [0.0 if sign > 0 else -np.inf for sign in signs],
        [0.0 if sign < 0 else np.inf for sign in signs],
    )
    found = lsq_linear(
        np.vstack([roots[:, None] * features, penalty]),
        np.concatenate([roots * target, np.zeros(len(penalty))]),
        bounds,
    )
    solution: np.ndarray = found.x
    return solution


def left_out_errors(known: Sequence[Known], ridge: float) -> np.ndarray:
    """Return truth minus estimate (logit) of every organ, by fits without its scan."""
    weights = {
        case: solve([own for own in known if own.case != case], ridge)
        for case in {own.case for own in known}
    }
    return np.array(
        [logit(own.dice) - float(weights[own.case] @ own.evidence.features()) for own in known]
    )


def fit(known: Sequence[Known]) -> Regression:
    """Return the regression with the penalty of the smallest left-out error."""
    errors = {ridge: left_out_errors(known, ridge) for ridge in PENALTIES}
    ridge = min(PENALTIES, key=lambda own: float(np.mean(errors[own] ** 2)))
    low, high = widest_range(known, errors[ridge])
    below = best_threshold(known, errors[ridge])
    cases = tuple(sorted({own.case for own in known}))
    weights = tuple(round(float(value), 4) for value in solve(known, ridge))
    return Regression(weights, (round(low, 4), round(high, 4)), below, cases, len(known), ridge)


def best_threshold(known: Sequence[Known], errors: np.ndarray) -> float:
    """Return the estimate below which to flag an organ: the best F1 score on scans left out."""
    true = np.array([own.dice for own in known])
    score = np.array([logit(own.dice) for own in known]) - errors
    said = np.array([logistic(value) for value in score])
    wrong = true < WRONG

    def f1(threshold: float) -> float:
        flagged = said < threshold
        return float(2 * (flagged & wrong).sum() / max(flagged.sum() + wrong.sum(), 1))

    return max(THRESHOLDS, key=f1)


def widest_range(known: Sequence[Known], errors: np.ndarray) -> tuple[float, float]:
    """Return the 10 % and 90 % quantile of the errors, of that anatomy for which it is farther out.

    The patients are many and alike, and would make a range that other anatomies do not keep to.
    """
    is_patient = np.array([own.case.startswith("pt_") for own in known])
    groups = [errors[mask] for mask in (is_patient, ~is_patient) if mask.any()]
    low, high = zip(*(np.quantile(own, [0.1, 0.9]) for own in groups), strict=True)
    return float(min(low)), float(max(high))


def described(name: str, known: Sequence[Known], regression: Regression) -> str:
    """Return a line of the table."""
    said = [
        Said(own.dice, found.dice, found.range, found.is_doubtful)
        for own in known
        for found in [regression(own.evidence)]
    ]
    own = Agreement.of(said)
    before = [own.dice - own.held_out for own in known if own.held_out is not None]
    cells = [
        name,
        str(len(known)),
        f"{own.bias:+.3f}",
        f"{own.size:.3f}",
        "-" if own.correlation is None else f"{own.correlation:.2f}",
        f"{own.inside:.0%}",
        f"{own.hits} of {own.flagged}",
        f"{own.hits} of {own.wrong}",
        f"{statistics.mean(map(abs, before)):.3f} ({len(before)})" if before else "-",
    ]
    return f"| {' | '.join(cells)} |"


def fit_and_test(arguments: argparse.Namespace) -> int:
    """Print the table and the weights; write them where asked to."""
    known = read_collected(arguments.out, FIT)
    if len({own.case for own in known}) < 3:
        message = f"{arguments.out}: fewer than three scans to fit on"
        raise InputError(message, "run collect first")
    regression = fit(known)
    heading = (
        "scans", "organs", "true - said", "mean size", "r", "in the range", "flagged: wrong",
        "wrong: flagged", "held-out Dice: mean size",
    )  # fmt: skip
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    lines.append(described("fitted on", known, regression))
    patients = [case for case in TEST if case.startswith("pt_")]
    for where, cases in (("OpenKBP", patients), ("sample CT", ["sample"])):
        for what, found in (
            ("first result", read_collected(arguments.out, cases)),
            ("adapted", read_jobs(arguments.jobs, cases)),
        ):
            if len(found) > 2:
                lines.append(described(f"{where}, {what}", found, regression))
    pairs = zip(FEATURES, regression.weights, strict=True)
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.write(", ".join(f"{name} {weight:+.2f}" for name, weight in pairs))
    sys.stdout.write(
        f"\nridge {regression.ridge:g}, errors {regression.errors}, "
        f"flag below {regression.doubtful_below:g}\n"
    )
    if arguments.write:
        write_json(COEFFICIENTS, regression.to_dict())
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("collect")
    one.add_argument("--data", type=Path, default=data_folder())
    one.add_argument("--sample", type=Path, default=HERE.parents[1] / ".cache" / "sample")
    one.add_argument("--model", default="reglora-tiny")
    one.add_argument("--cases", nargs="*", default=())
    one.set_defaults(work=collect)
    other = commands.add_parser("fit")
    other.add_argument("--jobs", type=Path, default=Path("bench") / "accuracy")
    other.add_argument("--write", action="store_true", help=f"to {COEFFICIENTS.name}")
    other.set_defaults(work=fit_and_test)
    for own in (one, other):
        own.add_argument("--out", type=Path, default=Path("bench") / "confidence.jsonl")
    arguments = parser.parse_args(argv)
    try:
        code: int = arguments.work(arguments)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return code


if __name__ == "__main__":
    sys.exit(main())
