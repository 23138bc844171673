"""The rank that a method's penalty chooses, on tasks of known and of unknown rank. Not a test.

    python Testing/benchmarks/bench_rank.py

Prints the two synthetic tables of docs/experiments.md ("The rank that the penalty chooses").
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]  # this tree is measured, whichever is installed

from reglora_core.process import tune_process

tune_process()

import torch  # noqa: TID253

from reglora_core.lora import LowRankConfig
from teachers import Regression, few_noisy_shots

SEEDS = range(6)
VARIANTS = {  # what is kept of arena+, lambda
    "gates 1, lambda 0.2": (True, 0.2),
    "gates 1, lambda 0.08": (True, 0.08),
    "gates 2 / i, lambda 0.2": (False, 0.2),
    "gates 2 / i, lambda 0.08": (False, 0.08),
    "gates 2 / i, lambda 0": (False, 0.0),
}


def known_ranks() -> None:
    """Print surviving rank and error of the update by true and initial rank."""
    sys.stdout.write("true rank: surviving rank (error) from 8, 16, 32, 64\n")
    for method in ("arena", "arena+"):
        for true_rank in (1, 3, 6, 12):
            cells = []
            for rank in (8, 16, 32, 64):
                regression = Regression.of_seed(0, true_rank=true_rank)
                ranks = regression.fit(LowRankConfig(method, rank), 600, 2e-3).effective_ranks()
                cells.append(f"{ranks['0']:3d} ({regression.error():.3f})")
            sys.stdout.write(f"{method:7}{true_rank:3d}: {'  '.join(cells)}\n")


def unknown_ranks() -> None:
    """Print the surviving columns of a few-shot task and its Dice by start, lambda, rank."""
    sys.stdout.write("surviving columns (Dice) from 8, 32, 64; mean of six seeds\n")
    for name, (has_equal_gates, penalty) in VARIANTS.items():
        cells = []
        for rank in (8, 32, 64):
            config = LowRankConfig("arena+", rank, penalty)
            fits = [few_noisy_shots(config, n, has_equal_gates=has_equal_gates) for n in SEEDS]
            ranks, losses = zip(*fits, strict=True)
            cells.append(f"{fmean(ranks):5.1f} ({100 - 100 * fmean(losses):.1f})")
        sys.stdout.write(f"{name:26}{'  '.join(cells)}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    unknown_ranks()
    known_ranks()
