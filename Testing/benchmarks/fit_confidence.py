"""Fit the estimate of each organ's Dice on finished jobs of the accuracy benchmark. Not a test.

    python Testing/benchmarks/fit_confidence.py --out bench/accuracy [--write]
        [--fit torso pt_201 ... pt_219] [--test pt_220 ... pt_239 sample]

The runs' own evidence (report.json) and the true Dice come from OUT/jobs. Ridge regression on the
logit of the Dice with fixed signs; its penalty, and the errors that the range is made from, by
leaving one scan of the fit out at a time. The scans of --test take no part in either: the table
says how well the estimate does on them, beside the held-out Dice that a run had to offer before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np  # noqa: TID253
from scipy.optimize import lsq_linear  # noqa: TID253

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from accuracy.methods import OURS
from reglora_core.confidence import (
    COEFFICIENTS,
    DOUBTFUL,
    FEATURES,
    LARGEST,
    SMALLEST,
    Evidence,
    Regression,
)
from reglora_core.output import write_json

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0)
SIGNS = {
    "certainty": 1, "heads": 1, "propagation": 1, "experts": 1, "gap": -1, "beyond": -1,
    "slices": -1, "volume": 1, "held_out": 1,
}  # fmt: skip
FIT = ("torso", *(f"pt_{number}" for number in range(201, 220)))
TEST = (*(f"pt_{number}" for number in range(220, 240)), "sample")


@dataclass(frozen=True)
class Known:
    """An organ of a finished job: what the run saw of it, and its true Dice."""

    case: str
    slices: int
    organ: str
    evidence: Evidence
    dice: float


def read_known(folder: Path, cases: Sequence[str]) -> list[Known]:
    """Return the painted organs of the cases' jobs of which something was found."""
    found = []
    for path in sorted((folder / "jobs").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        job = record["job"]
        evidence = record.get("report", {}).get("evidence", {})
        case = "-".join(scan["name"] for scan in job["scans"])
        if job["role"] != "in-scan" or case not in cases or not evidence:
            continue
        ours = next(own for own in record["results"] if own["method"] == OURS)
        for organ in ours["organs"]:
            own = evidence.get(organ["name"])
            if own is not None and organ["reference_voxels"]:
                known = Known(case, job["slices"], organ["name"], Evidence(**own), organ["dice"])
                found.append(known)
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


def logit(dice: float) -> float:
    clipped = min(max(dice, SMALLEST), LARGEST)
    return float(np.log(clipped / (1 - clipped)))


def left_out_errors(known: Sequence[Known], ridge: float) -> np.ndarray:
    """Return truth minus estimate (logit) of every organ, by fits without its scan."""
    errors = []
    for case in sorted({own.case for own in known}):
        weights = solve([own for own in known if own.case != case], ridge)
        errors += [
            logit(own.dice) - float(np.dot(weights, own.evidence.features()))
            for own in known
            if own.case == case
        ]
    return np.array(errors)


def fit(known: Sequence[Known]) -> Regression:
    """Return the regression with the penalty of the smallest left-out error."""
    errors = {ridge: left_out_errors(known, ridge) for ridge in PENALTIES}
    ridge = min(PENALTIES, key=lambda own: float(np.mean(errors[own] ** 2)))
    low, high = np.quantile(errors[ridge], [0.1, 0.9])
    cases = tuple(sorted({own.case for own in known}))
    weights = tuple(round(float(value), 4) for value in solve(known, ridge))
    return Regression(weights, (round(low, 4), round(high, 4)), cases, len(known), ridge)


def described(name: str, known: Sequence[Known], regression: Regression) -> str:
    """Return a line of the table."""
    said = [regression(own.evidence) for own in known]
    true = [own.dice for own in known]
    errors = [dice - own.dice for dice, own in zip(true, said, strict=True)]
    inside = [own.range[0] <= dice <= own.range[1] for dice, own in zip(true, said, strict=True)]
    flagged = [dice for dice, own in zip(true, said, strict=True) if own.is_doubtful]
    wrong = sum(dice < DOUBTFUL for dice in true)
    hits = sum(dice < DOUBTFUL for dice in flagged)
    held_out = [
        dice - own.evidence.held_out
        for dice, own in zip(true, known, strict=True)
        if own.evidence.held_out is not None
    ]
    cells = [
        name,
        str(len(known)),
        f"{statistics.mean(errors):+.3f}",
        f"{statistics.mean(map(abs, errors)):.3f}",
        f"{np.corrcoef(true, [own.dice for own in said])[0, 1]:.2f}",
        f"{statistics.mean(inside):.0%}",
        f"{hits} of {len(flagged)}",
        f"{hits} of {wrong}",
        f"{statistics.mean(map(abs, held_out)):.3f} ({len(held_out)})" if held_out else "-",
    ]
    return f"| {' | '.join(cells)} |"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("bench") / "accuracy")
    parser.add_argument("--fit", nargs="+", default=FIT)
    parser.add_argument("--test", nargs="*", default=TEST)
    parser.add_argument("--write", action="store_true", help=f"to {COEFFICIENTS.name}")
    arguments = parser.parse_args(argv)
    if shared := set(arguments.fit) & set(arguments.test):
        parser.error(f"both in --fit and in --test: {' '.join(sorted(shared))}")
    known = read_known(arguments.out, arguments.fit)
    if len({own.case for own in known}) < 3:
        parser.error(f"{arguments.out}: fewer than three scans to fit on; run bench_accuracy first")
    regression = fit(known)
    heading = (
        "scans", "organs", "true - said", "mean size", "r", "in the range", "flagged: wrong",
        "wrong: flagged", "held-out Dice: mean size",
    )  # fmt: skip
    lines = [f"| {' | '.join(heading)} |", "|---" * len(heading) + "|"]
    lines.append(described("fitted on", known, regression))
    for case in (
        ("OpenKBP", [c for c in arguments.test if c.startswith("pt_")]),
        *((c, [c]) for c in arguments.test if not c.startswith("pt_")),
    ):
        if own := read_known(arguments.out, case[1]):
            lines.append(described(case[0], own, regression))
    pairs = zip(FEATURES, regression.weights, strict=True)
    sys.stdout.write("\n".join(lines) + "\n\n")
    sys.stdout.write(", ".join(f"{name} {weight:+.2f}" for name, weight in pairs))
    sys.stdout.write(f"\nridge {regression.ridge:g}, errors {regression.errors}\n")
    if arguments.write:
        write_json(COEFFICIENTS, regression.to_dict())
    return 0


if __name__ == "__main__":
    sys.exit(main())
