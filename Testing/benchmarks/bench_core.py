"""Seconds and peak memory of the library on the sample CT; `make bench`. Not a test.

    python Testing/benchmarks/bench_core.py --data .cache/sample --out bench [--threads N]

Every figure is of a process of its own, from its start to its end, PyTorch's import included:

    adapt             reglora adapt, 512x512x133, five painted slices, ten organs, default budget
    first preview     until the line with the first segmentation comes out of that process
    predict           reglora predict on the same CT by the adapter made before
    predict, large    the same on 512x512x300: the CT with itself upside down beneath, repeated
    help, import      reglora --help; `import reglora_core` beside an empty program; medians

then bench_lora.py: a training step beside HuggingFace PEFT's LoRA at equal rank, and merged
against base inference, as ratios (below 1 is in our favour). Peak memory is the resident set's
(ru_maxrss). The load of the computer before the start is written down too: figures of a busy
computer say little.

This file imports nothing heavy, because a child process starts out with its parent's peak.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from reglora_core.events import Event, parse

HERE = Path(__file__).resolve().parent
LARGE_SLICES = 300
REPEATS = 9
GOALS = {  # seconds, MB
    "first preview": (20.0, None),
    "adapt": (90.0, 4096),
    "predict, large": (30.0, 3072),
    "reglora --help": (0.5, None),
}


class Measured(NamedTuple):
    seconds: float
    peak_mb: float
    first_preview: float | None = None


def measure(
    command: Sequence[str | Path], on_event: Callable[[Event], None] = lambda event: None
) -> Measured:
    """Run a command to its end; stop with its last words if it fails.

    Args:
        command: its standard output may be events, one a line.
        on_event: is told of each as it comes.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        preview, failure = None, ""
        for line in process.stdout:
            event = parse(line)
            if event is None:
                continue
            on_event(event)
            if event["event"] == "preview" and preview is None:
                preview = time.perf_counter() - start
            if event["event"] == "failed":
                failure = f"{event['message']}; {event.get('hint', '')}".rstrip("; ")
        assert process.stderr is not None
        words = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{words}{failure}")
    return Measured(seconds, peak_mb(usage), preview)


def peak_mb(usage: resource.struct_rusage) -> float:
    """Linux counts kilobytes, macOS bytes."""
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def median_seconds(command: Sequence[str | Path]) -> float:
    return statistics.median(measure(command).seconds for _ in range(REPEATS))


def prepare(data: Path, out: Path) -> None:
    """Write the painted slices and the large volume (in a process of its own)."""
    import numpy as np
    import SimpleITK as sitk

    from reglora_core.sample import evenly_spaced, read_sample
    from reglora_core.volumes import write_segmentation

    sample = read_sample(data)
    slices = evenly_spaced(sample.reference.painted(), 5)
    write_segmentation(out / "painted.seg.nrrd", sample.painted_on(slices), sample.image)
    voxels = sitk.GetArrayFromImage(sample.image)
    piled = np.concatenate([voxels, voxels[::-1], voxels])[:LARGE_SLICES]
    large = sitk.GetImageFromArray(piled)
    large.SetSpacing(sample.image.GetSpacing())
    large.SetDirection(sample.image.GetDirection())
    sitk.WriteImage(large, str(out / "large.nrrd"))


def rows_of_the_core(data: Path, out: Path, threads: list[str]) -> list[dict[str, object]]:
    measure([sys.executable, __file__, "--data", data, "--out", out, "--prepare"])
    reglora = [sys.executable, "-m", "reglora_core"]
    image, adapter = data / "cxr.nii.gz", out / "run" / "adapter.safetensors"
    adapt = [*reglora, "adapt", "--image", image, "--labels", out / "painted.seg.nrrd"]
    adapted = measure([*adapt, "--out", out / "run", "--events", *threads])
    predict = [*reglora, "predict", "--adapter", adapter, "--out", out / "predicted.seg.nrrd"]
    same = measure([*predict, "--image", image, *threads])
    large = measure([*predict, "--image", out / "large.nrrd", *threads])
    empty = median_seconds([sys.executable, "-c", "pass"])
    imported = median_seconds([sys.executable, "-c", "import reglora_core"])
    console_script = Path(sys.executable).with_name("reglora")
    asked = median_seconds([console_script, "--help"])
    return [
        row("adapt", adapted.seconds, adapted.peak_mb),
        row("first preview", adapted.first_preview),
        row("predict", same.seconds, same.peak_mb),
        row("predict, large", large.seconds, large.peak_mb),
        row("import reglora_core", imported - empty),
        row("reglora --help", asked),
        {"what": "adapter, kB", "size": round(adapter.stat().st_size / 1000)},
    ]


def row(what: str, seconds: float | None, peak: float | None = None) -> dict[str, object]:
    goal_seconds, goal_mb = GOALS.get(what, (None, None))
    return {
        "what": what,
        "seconds": None if seconds is None else round(seconds, 3),
        "peak_mb": None if peak is None else round(peak),
        "goal_seconds": goal_seconds,
        "goal_mb": goal_mb,
    }


def rows_of_lora(
    python: Path, out: Path, networks: list[str], threads: list[str]
) -> list[dict[str, object]]:
    """Run bench_lora.py with a Python that has peft."""
    has_peft = subprocess.run(
        [python, "-c", "import torchvision_operators, peft"], capture_output=True, check=False
    )
    if has_peft.returncode != 0:
        sys.stdout.write(f"{python} has no peft (`make bench` installs it); left out\n")
        return []
    record = out / "lora.json"
    command = [python, HERE / "bench_lora.py", "--json", record, "--network", *networks]
    subprocess.run([*map(str, command), *threads], check=True, stdout=subprocess.DEVNULL)
    rows: list[dict[str, object]] = json.loads(record.read_text())
    return rows


def core_table(rows: list[dict[str, object]]) -> str:
    lines = [f"{'':22}{'seconds':>10}{'goal':>8}{'peak MB':>10}{'goal':>8}"]
    keys = (("seconds", 10), ("goal_seconds", 8), ("peak_mb", 10), ("goal_mb", 8))
    for entry in rows:
        if "size" in entry:
            lines.append(f"{entry['what']:22}{entry['size']:>10}")
            continue
        cells = [("" if entry[key] is None else f"{entry[key]}").rjust(wide) for key, wide in keys]
        lines.append(f"{entry['what']:22}{''.join(cells)}".rstrip())
    return "\n".join(lines)


def lora_table(rows: list[dict[str, object]]) -> str:
    heading = ("", "", "seconds", "ratio", "ratio (CPU)", "peak MB", "ratio")
    keys = ("network", "what", "seconds", "ratio", "cpu_ratio", "memory_mb", "memory_ratio")
    cells = [[_cell(entry.get(key)) for key in keys] for entry in rows]
    widths = [max(map(len, column)) for column in zip(heading, *cells, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [heading, *cells]
    )


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value or "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path(".cache/sample"), help="the sample CT")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--threads", type=int, help="processor cores to use (default: all)")
    parser.add_argument(
        "--networks",
        nargs="*",
        default=["dynunet", "swinunetr"],
        help="for the comparison with PEFT; none: leave it out",
    )
    parser.add_argument(
        "--peft-python", type=Path, default=Path(sys.executable), help="a Python that has peft"
    )
    parser.add_argument("--prepare", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.prepare:
        prepare(arguments.data, arguments.out)
        return
    threads = [] if arguments.threads is None else ["--threads", str(arguments.threads)]
    record: dict[str, object] = {
        "cores": os.cpu_count(),
        "threads": arguments.threads,
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    sys.stdout.write(f"load before the start: {os.getloadavg()[0]:.1f}\n\n")
    core = rows_of_the_core(arguments.data, arguments.out, threads)
    sys.stdout.write(core_table(core) + "\n\n")
    sys.stdout.flush()
    lora = []
    if arguments.networks:
        python = arguments.peft_python
        lora = rows_of_lora(python, arguments.out, arguments.networks, threads)
    if lora:
        sys.stdout.write(lora_table(lora) + "\n\n")
    path = arguments.out / "bench.json"
    path.write_text(json.dumps({**record, "core": core, "lora": lora}, indent=1) + "\n")
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
