"""What each part of the first result is worth: the same heads and experts, fused without it.

    python Testing/benchmarks/bench_ablation.py [--data FOLDER] [--sample FOLDER] [--model NAME]
        [--patients 8] [--counts 3 5 8] --out bench/ablation.csv

Mean Dice of the painted organs off the painted slices, axial painting, seed 0; resumable, a line
of the file per scan and number of slices. What the low-rank update adds is in the page of
bench_accuracy.py ("The result and its parts").
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch  # noqa: TID253

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]

from accuracy.episode import Episode, PaintedScan
from accuracy.scans import sample_scan, torso_scan, validation_patients
from bench_accuracy import data_folder
from reglora_core.fusion import FusionConfig, fuse
from reglora_core.islands import without_unpainted_islands_
from reglora_core.models.base import BaseModel
from reglora_core.models.loading import load_model

Scores = list[torch.Tensor]
Variant = Callable[[Episode, PaintedScan], Scores]


def fused(config: FusionConfig, has_islands_rule: bool = True, is_single: bool = False) -> Variant:
    """Return a variant of the fusion."""

    def variant(episode: Episode, painted: PaintedScan) -> Scores:
        experts = painted.experts
        heads = (episode.by_single_head if is_single else episode.by_heads)[0]
        paint = experts.paints[0][0]
        own = fuse(heads, experts.propagated[0][0], experts.interpolated[0][0], paint, config)
        return [without_unpainted_islands_(own, paint.seeds()) if has_islands_rule else own]

    return variant


VARIANTS: dict[str, Variant] = {
    "everything": fused(FusionConfig()),
    "one head instead of two": fused(FusionConfig(), is_single=True),
    "without heads": fused(FusionConfig(heads=0.0)),
    "without propagation": fused(FusionConfig(propagation=0.0)),
    "without interpolation": fused(FusionConfig(interpolation=0.0)),
    "interpolation in gaps of any width": fused(FusionConfig(interpolation_gap=(1e5, 2e5))),
    "heads as strong beyond the paint": fused(FusionConfig(heads_beyond=1.0)),
    "with unpainted islands": fused(FusionConfig(), has_islands_rule=False),
    "heads alone": lambda episode, painted: [episode.by_heads[0]],
    "propagation alone": lambda episode, painted: painted.experts.propagated[0],
    "interpolation alone": lambda episode, painted: painted.experts.interpolated[0],
}


def measure(model: BaseModel, painted: PaintedScan) -> dict[str, float]:
    episode = Episode.of(model, painted)
    return {
        name: painted.mean_dice([own.clone() for own in variant(episode, painted)])
        for name, variant in VARIANTS.items()
    }


def read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, line: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(line), lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(line)


def table(lines: Sequence[dict[str, str]]) -> str:
    """Return the mean of every variant per kind of scan and n, as Markdown."""
    groups = sorted({(line["kind"], int(line["n"])) for line in lines})
    heading = [f"{kind}, n = {count}" for kind, count in groups]
    text = [f"| | {' | '.join(heading)} |", "|---" * (len(heading) + 1) + "|"]
    for name in VARIANTS:
        cells = []
        for kind, count in groups:
            own = [line for line in lines if (line["kind"], int(line["n"])) == (kind, count)]
            mean = statistics.mean(float(line[name]) for line in own)
            difference = mean - statistics.mean(float(line["everything"]) for line in own)
            cells.append(f"{mean:.3f}" + (f" ({difference:+.3f})" if name != "everything" else ""))
        text.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(text) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--sample", type=Path, default=HERE.parents[1] / ".cache" / "sample")
    parser.add_argument("--model", default="reglora-tiny")
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--counts", type=int, nargs="+", default=(3, 5, 8))
    parser.add_argument("--out", type=Path, default=Path("bench") / "ablation.csv")
    arguments = parser.parse_args(argv)
    model = load_model(arguments.model, torch.device("cpu"))
    scans = [sample_scan(arguments.sample), torso_scan(arguments.data)]
    scans += validation_patients(arguments.data, arguments.patients)
    for scan in scans:
        for count in arguments.counts:
            key = {"case": scan.name, "kind": scan.kind, "n": str(count)}
            if any(key.items() <= line.items() for line in read(arguments.out)):
                continue
            painted = PaintedScan.of(scan, "axial", count, model.entry.spacing_mm)
            append(arguments.out, {**key, **measure(model, painted)})
    sys.stdout.write(table(read(arguments.out)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
