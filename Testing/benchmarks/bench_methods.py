"""The low-rank methods side by side on patients that the base network never saw. Not a test.

    python Testing/benchmarks/bench_methods.py --data ../shared/data/openkbp/validation \
        [--patients 8] [--slices 5] [--methods head lora arena arena+] [--json FILE]

Of each patient the reference is painted on a few axial slices (evenly spaced), a method adapts to
them with a fixed number of steps, and the Dice of the organs on all other slices is averaged. The
first patients in the order of their numbers are taken. `kept`: in how many patients the held-out
test kept the update; where it did not, the result is that of the heads alone.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from reglora_core.process import tune_process

tune_process()

import reglora_core
from accuracy.paint import paint as on_evenly_spaced_slices
from reglora_core.volumes import read_image, read_labels, write_segmentation


def patients_in(folder: Path, count: int) -> list[tuple[Path, Path]]:
    """Return image and label files of the first patients."""
    images = folder.glob("pt_*_ct.nii.gz")
    ordered = sorted(images, key=lambda path: int(re.findall(r"\d+", path.name)[0]))
    return [(path, path.with_name(path.name.replace("_ct", "_labels"))) for path in ordered[:count]]


def paint(image: Path, labels: Path, names: dict[int, str], slices: int, folder: Path) -> None:
    """Write reference.seg.nrrd, and painted.seg.nrrd with a few of its slices."""
    volume = read_image(image)
    reference = read_labels(labels, volume, names)
    write_segmentation(folder / "reference.seg.nrrd", reference, volume)
    painted = on_evenly_spaced_slices(volume, reference, "axial", slices).labels
    write_segmentation(folder / "painted.seg.nrrd", painted, volume)


def try_method(method: str, image: Path, folder: Path, options: argparse.Namespace) -> dict:
    """Adapt by one method; return its mean Dice off the painted slices and what it kept."""
    out = folder / method
    result = reglora_core.adapt(
        image,
        folder / "painted.seg.nrrd",
        out,
        method=method,
        rank=options.rank,
        steps=options.steps,
        seed=options.seed,
        model=options.model,
    )
    painted, reference = folder / "painted.seg.nrrd", folder / "reference.seg.nrrd"
    scores = reglora_core.evaluate(result.segmentations[0], reference, painted)
    report = json.loads(result.report.read_text(encoding="utf-8"))
    return {
        "patient": image.name,
        "method": method,
        "dice": scores.mean_dice,
        "is_adapted": result.is_adapted,
        "rank": sum(report["ranks"].values()),
        "seconds": report["seconds"],
    }


def table(rows: list[dict], methods: Sequence[str]) -> str:
    """Return the means, with the difference from the first method, patient by patient."""
    lines = [f"{'method':10}{'Dice':>8}{'sd':>7}{'diff':>9}{'sd':>7}{'kept':>8}{'rank':>7}{'s':>7}"]
    first = {row["patient"]: row["dice"] for row in rows if row["method"] == methods[0]}
    for method in methods:
        own = [row for row in rows if row["method"] == method]
        dice = [row["dice"] for row in own]
        differences = [row["dice"] - first[row["patient"]] for row in own]
        adapted = [row for row in own if row["is_adapted"]]
        rank = statistics.mean(row["rank"] for row in adapted) if adapted else 0.0
        lines.append(
            f"{method:10}{statistics.mean(dice):8.3f}{_deviation(dice):7.3f}"
            f"{statistics.mean(differences):+9.4f}{_deviation(differences):7.3f}"
            f"{len(adapted):5d}/{len(own)}{rank:7.0f}"
            f"{statistics.median(row['seconds'] for row in own):7.1f}"
        )
    return "\n".join(lines)


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of pt_N_ct.nii.gz")
    parser.add_argument("--patients", type=int, default=8)
    parser.add_argument("--slices", type=int, default=5)
    parser.add_argument("--methods", nargs="+", default=["head", "lora", "arena", "arena+"])
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="reglora-tiny")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = json.loads((options.data.parent / "labels.json").read_text(encoding="utf-8"))
    by_value = {int(value): name for value, name in names.items()}
    rows = []
    for image, labels in patients_in(options.data, options.patients):
        with tempfile.TemporaryDirectory() as folder:
            paint(image, labels, by_value, options.slices, Path(folder))
            for method in options.methods:
                rows.append(try_method(method, image, Path(folder), options))
                sys.stderr.write(f"{rows[-1]}\n")
                if options.json:
                    options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    sys.stdout.write(table(rows, options.methods) + "\n")


if __name__ == "__main__":
    main()
