"""Ray's overhead: the same fits by plain loops and by Ray, on as many cores.

    python Testing/benchmarks/bench_ray.py --data ../shared/data/openkbp --base weights.safetensors

Plain: one process per core, each with a loop over its share of the fits (every second one on two
cores), which is the least that so many cores can take. Ray: `reglora bench run` as a user has it.
Both read the dataset, load the network and start from nothing; both are timed from outside, in
turn, so that what else runs on the computer meets both. Prints the ratio of the wall times, and
what Ray takes to start and per task with nothing to do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from reglora_core.pool import RayConfig, run_on_ray, run_plain

STUDY = ROOT / "Testing/benchmarks/study/must_hold_base.json"
EMPTY_TASKS = 1000


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        studies = _studies(options, Path(folder))
        ratios = []
        for number in range(options.repeats):
            out = Path(folder) / str(number)
            plain = _seconds(_plain_commands(options, studies[1:], out / "plain"))
            ray = _seconds([_command(options, studies[0], out / "ray", _ray_options(options))])
            ratios.append(ray / plain)
            _say(
                f"{options.fits} fits: plain {plain:.1f} s, Ray {ray:.1f} s, ratio {ratios[-1]:.3f}"
            )
    _say(f"median ratio {median(ratios):.3f} ({options.workers} workers, {os.cpu_count()} cores)")
    start, per_task = _empty_tasks(options.workers)
    _say(f"Ray with nothing to do: {start:.1f} s to start, {1000 * per_task:.2f} ms a task")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--base", required=True, type=Path, help="base network's weights")
    parser.add_argument("--workers", default=2, type=int)
    parser.add_argument("--fits", default=8, type=int)
    parser.add_argument("--steps", default=120, type=int)
    parser.add_argument("--repeats", default=1, type=int)
    return parser.parse_args()


def _studies(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Write the study of all fits, then one per worker with its share of them."""
    entries = json.loads(STUDY.read_text(encoding="utf-8"))
    entries["methods"] = [{"name": "lora", "ranks": [8]}]
    entries["organs"] = entries["organs"][:1]
    entries["fit"]["steps"] = options.steps
    draws = [[1 + number % 3, number] for number in range(options.fits)]
    shares = [draws, *(draws[worker :: options.workers] for worker in range(options.workers))]
    paths = []
    for number, share in enumerate(shares):
        path = folder / f"study{number}.json"
        path.write_text(json.dumps({**entries, "draws": share}), encoding="utf-8")
        paths.append(path)
    return paths


def _plain_commands(
    options: argparse.Namespace, studies: Sequence[Path], out: Path
) -> list[list[str]]:
    return [_command(options, study, out / study.stem, ["--plain"]) for study in studies]


def _ray_options(options: argparse.Namespace) -> list[str]:
    return ["--workers", str(options.workers)]


def _command(options: argparse.Namespace, study: Path, out: Path, more: Sequence[str]) -> list[str]:
    paths = ["--data", str(options.data), "--out", str(out), "--base", str(options.base)]
    program = [sys.executable, "-m", "reglora_core", "bench", "run", str(study)]
    return [*program, *paths, "--device", "cpu", *more]


def _seconds(commands: Sequence[Sequence[str]]) -> float:
    """Run commands at once; return the seconds until the last one has ended."""
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    running = [
        subprocess.Popen(command, env=one_thread, stdout=subprocess.DEVNULL) for command in commands
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit(f"a run ended with exit code {max(codes)}")
    return time.monotonic() - start


def _empty_tasks(workers: int) -> tuple[float, float]:
    """Return the seconds until Ray's first task is done, and those of each task after it."""
    items = list(range(EMPTY_TASKS))
    start = time.monotonic()
    finished = [time.monotonic() for _ in run_on_ray(_nothing, items, RayConfig(workers=workers))]
    ray = (finished[-1] - finished[0]) / (len(items) - 1)
    plain_start = time.monotonic()
    list(run_plain(_nothing, items))
    plain = (time.monotonic() - plain_start) / len(items)
    return finished[0] - start, ray - plain


def _nothing() -> Callable[[int], int]:
    return partial(int)


if __name__ == "__main__":
    main()
