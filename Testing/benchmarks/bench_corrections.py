"""Correction rounds: what one more painted slice gives, and which slice to paint. Not a test.

    python Testing/benchmarks/bench_corrections.py rounds --out bench/corrections
        [--cases pt_201 sample ...] [--rounds 5] [--start 3] [--data FOLDER] [--sample FOLDER]
    python Testing/benchmarks/bench_corrections.py rules --out bench/corrections
        [--patients 12] [--rules gap even confidence disagreement] [--jobs N]
    python Testing/benchmarks/bench_corrections.py report --out bench/corrections

`rounds` runs the command line as a user does: a full adaptation on evenly spaced axial slices,
then rounds in which the reference is painted on the slice that report.json suggests and
`reglora adapt --correct` runs. Dice are off all slices painted by then, before and after the
round, also on those more than 30 mm from the new slice; seconds are of the whole process.

`rules` compares rules for the next slice in memory, on the working grid, by heads and experts
alone. What is finished is a CSV per case in OUT and is not run again; `report` makes the tables.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]  # this tree is measured, whichever one is installed

from accuracy.scans import Scan, sample_scan, torso_scan, validation_patients
from corrections.tables import rounds_table, rules_table
from reglora_core.process import tune_process
from reglora_core.writing import write_atomically

Row = dict[str, object]


def scans_of(options: argparse.Namespace) -> list[Scan]:
    """Return the scans that are there, in a fixed order, reduced to --cases where given."""
    found = [*validation_patients(options.data, options.patients), torso_scan(options.data)]
    found += [sample_scan(options.sample)] if "sample" in options.cases else []
    known = [scan for scan in found if scan.image.is_file()]
    return [scan for scan in known if not options.cases or scan.name in options.cases]


def rules(options: argparse.Namespace) -> int:
    work = {scan.name: (scan, options) for scan in scans_of(options)}
    return run_all(work, _rules_of, options.out / "rules", options.jobs)


def _rules_of(scan: Scan, options: argparse.Namespace) -> list[Row]:
    import torch

    from corrections.rules_bench import compare_rules

    torch.set_num_threads(options.threads)
    return compare_rules(scan, options.model, options.start, options.rounds, options.rules)


def rounds(options: argparse.Namespace) -> int:
    work = {scan.name: (scan, options) for scan in scans_of(options)}
    return run_all(work, _rounds_of, options.out / "rounds", options.jobs)


def _rounds_of(scan: Scan, options: argparse.Namespace) -> list[Row]:
    from corrections.rounds_bench import play_rounds

    folder = options.out / "work" / scan.name
    return play_rounds(scan, folder, options)


def run_all(
    work: dict[str, tuple[Scan, argparse.Namespace]],
    do: Callable[[Scan, argparse.Namespace], list[Row]],
    out: Path,
    jobs: int,
) -> int:
    """Do what is not finished; return 1 where a case failed."""
    out.mkdir(parents=True, exist_ok=True)
    left = {name: own for name, own in work.items() if not (out / f"{name}.csv").is_file()}
    sys.stderr.write(f"{len(work) - len(left)} of {len(work)} cases are finished already\n")
    has_failed = False
    with ProcessPoolExecutor(jobs) as pool:
        going = {pool.submit(do, *own): name for name, own in left.items()}
        for task in as_completed(going):
            name = going[task]
            error = task.exception()
            if error is None:
                write_rows(out / f"{name}.csv", task.result())
            has_failed |= error is not None
            sys.stderr.write(f"{name}: {error or 'finished'}\n")
    return int(has_failed)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    def write(place: Path) -> None:
        with place.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(path, write)


def report(options: argparse.Namespace) -> int:
    for name, table in (("rules", rules_table), ("rounds", rounds_table)):
        rows: list[dict[str, str]] = []
        for path in sorted((options.out / name).glob("*.csv")):
            with path.open(newline="", encoding="utf-8") as file:
                rows += csv.DictReader(file)
        if rows:
            sys.stdout.write(f"{table(rows)}\n\n")
    return 0


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    data = Path(os.environ.get("REGLORA_DATA") or ROOT.parent / "shared" / "data")
    for name, work in (("rounds", rounds), ("rules", rules), ("report", report)):
        own = commands.add_parser(name)
        own.set_defaults(work=work)
        own.add_argument("--out", type=Path, default=Path("bench") / "corrections")
        if work is report:
            continue
        own.add_argument("--data", type=Path, default=data)
        own.add_argument("--sample", type=Path, default=ROOT / ".cache" / "sample")
        own.add_argument("--patients", type=int, default=12, help="of OpenKBP's validation set")
        own.add_argument("--cases", nargs="*", default=(), help="only these: torso, pt_201, ...")
        own.add_argument("--start", type=int, default=3, help="evenly spaced slices at first")
        own.add_argument("--rounds", type=int, default=5)
        own.add_argument("--model", default="reglora-tiny")
        own.add_argument("--jobs", type=int, default=1, help="cases side by side")
        own.add_argument("--threads", type=int, default=1, help="cores of each")
        if work is rules:
            every = ["gap", "even", "confidence", "disagreement"]
            own.add_argument("--rules", nargs="+", default=every, choices=every)
        else:
            own.add_argument("--steps", type=int, default=120, help="of the full adaptation")
            own.add_argument(
                "--anew", action="store_true", help="beside each round adapt in full as well"
            )
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    tune_process()
    options = parser().parse_args(argv)
    code: int = options.work(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
