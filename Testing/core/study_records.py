"""Made-up records of a study, for tests of its report."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from reglora_core.report.cohort import Cohort, cohorts_of
from reglora_core.report.folder import read_study_folder
from reglora_core.report.table import Row, Table

Record = dict[str, Any]
DRAWS = ((1, 0), (2, 1), (3, 2))
LAYERS = ("encoder.2.conv1.conv", "encoder.3.conv2.conv", "decoder.0.transp_conv.conv")


def a_record(**changes: Any) -> Record:
    """Return a record of two patients; `case_dice` gives `dice` unless that is given."""
    record: Record = {
        "format": 1, "dataset": "bodies", "method": "linear-probe", "initial_rank": None,
        "organ": "liver", "is_novel": False, "k": 5, "fold": 1, "seed": 0, "role": "validation",
        "case_dice": {"pt_1": 0.8, "pt_2": 0.6},
        "trainable_parameters": 49, "surviving_parameters": 49,
        "initial_layer_ranks": None, "layer_ranks": None, "seconds": 2.5,
        "curve": [{"step": 5, "loss": 0.9, "surviving_rank": None}],
        "settings": {"trains_decoder": False},
    }  # fmt: skip
    record.update(changes)
    if "dice" not in record:
        record["dice"] = fmean(record["case_dice"].values())
    return record


def a_low_rank_record(
    method: str, rank: int, ranks: tuple[int, ...], size: int = 10, **changes: Any
) -> Record:
    """Return a record with `ranks` columns left per layer, `size` parameters each."""
    layers = LAYERS[: len(ranks)]
    return a_record(
        method=method,
        initial_rank=rank,
        initial_layer_ranks=dict.fromkeys(layers, rank),
        layer_ranks=dict(zip(layers, ranks, strict=True)),
        trainable_parameters=size * rank * len(layers),
        surviving_parameters=size * sum(ranks),
        curve=[
            {"step": 5, "loss": 0.9, "surviving_rank": rank * len(layers)},
            {"step": 10, "loss": 0.5, "surviving_rank": sum(ranks)},
        ],
        **changes,
    )


def scored(dice: float, **changes: Any) -> Record:
    """Return a record whose two patients have a mean Dice in percent."""
    cases = {"pt_1": dice / 100 + 0.05, "pt_2": dice / 100 - 0.05}
    return a_record(case_dice=cases, **changes)


def low_rank(method: str, rank: int, dice: float, left: int, **changes: Any) -> Record:
    """Return a record with two layers of `left` columns each."""
    cases = {"pt_1": dice / 100 + 0.05, "pt_2": dice / 100 - 0.05}
    return a_low_rank_record(method, rank, (left, left), case_dice=cases, **changes)


def name_of(record: Record) -> str:
    """Return a name as the study gives it, without the checksum."""
    rank = "" if record["initial_rank"] is None else f"-r{record['initial_rank']}"
    draw = f"k{record['k']}-f{record['fold']}-s{record['seed']}"
    return f"{record['method']}{rank}-{record['organ']}-{draw}-{record['role']}"


def write(folder: Path, record: Record, name: str = "") -> Path:
    """Write a record into a study's folder."""
    path = folder / "fits" / f"{name or name_of(record)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


def write_plan(folder: Path, records: list[Record], **changes: Any) -> Path:
    """Write the plan of a study that has these fits."""
    names = ("method", "initial_rank", "organ", "is_novel", "k", "fold", "seed", "role")
    fits = {name_of(record): {name: record[name] for name in names} for record in records}
    dataset = records[0]["dataset"]
    plan = {"format": 1, "name": "small", "dataset": dataset, "fits": fits, "skipped": []}
    plan.update(changes)
    path = folder / "plans" / f"{plan['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(plan), encoding="utf-8")
    return path


def cohort_of(folder: Path, records: Sequence[Record]) -> Cohort:
    """Return the one cohort of a study with these records."""
    for record in records:
        write(folder, record)
    (cohort,) = cohorts_of(read_study_folder(folder))
    return cohort


def row_of(table: Table, label: str) -> Row:
    """Return the first row of that label."""
    return next(row for block in table.blocks for row in block.rows if row.label == label)


def texts(row: Row) -> list[str]:
    """Return what is written in a row, its label left out."""
    return [cell.text for cell in row.cells]


GAIN = {"zero-shot": -3.0, "linear-probe": 0.0, "bitfit": 0.5, "full-ft": 2.0, "scratch": -20.0,
        "lora": 1.5, "arena": 1.8, "arena+": 2.2, "gates": 2.1, "sora": 1.2,
        "adalora": 1.4}  # fmt: skip


def whole_study(
    ranks: tuple[int, ...] = (8, 32, 64),
    shots: tuple[int, ...] = (1, 5, 10),
    base: tuple[str, ...] = ("Brainstem", "SpinalCord", "LeftParotid", "RightParotid", "Mandible"),
    novel: tuple[str, ...] = ("Larynx", "Esophagus"),
    methods: Iterable[str] = tuple(GAIN),
    layers: int = 12,
) -> Iterator[Record]:
    """Yield records of every method with plausible, seeded numbers."""
    noise = random.Random(0)
    low_rank = ("lora", "arena", "arena+", "gates", "sora", "adalora")
    for organ in (*base, *novel):
        level = 60 + 5 * noise.random() * len(organ) / 4
        for k in shots:
            for fold, seed in ((1, 0), (2, 1), (3, 2)):
                for method in methods:
                    if method == "zero-shot" and organ in novel:
                        continue
                    for rank in ranks if method in low_rank else (None,):
                        fall = 0.04 * (rank or 0) if method == "lora" else 0.003 * (rank or 0)
                        mean = level + GAIN[method] + 3 * (k > 1) + (k > 5) - fall
                        mean += noise.gauss(0, 0.7)
                        cases = {
                            f"pt_{number}": min(0.99, (mean + noise.gauss(0, 4)) / 100)
                            for number in range(201, 213)
                        }
                        own: Record = {
                            "dataset": "openkbp", "method": method, "organ": organ, "k": k,
                            "is_novel": organ in novel, "fold": fold, "seed": seed,
                            "case_dice": cases, "seconds": 30 + 10 * noise.random(),
                        }  # fmt: skip
                        yield a_record(**own, **_network(noise, method, rank, layers))


def _network(noise: random.Random, method: str, rank: int | None, layers: int) -> Record:
    curve = [(step, 0.2 + 0.7 * 0.97**step + noise.gauss(0, 0.02)) for step in range(5, 121, 5)]
    if rank is None:
        sizes = {"zero-shot": 0, "linear-probe": 49, "bitfit": 2106}
        size = sizes.get(method, 1_250_000)
        points = [{"step": s, "loss": loss, "surviving_rank": None} for s, loss in curve]
        points = [] if method == "zero-shot" else points
        return {"trainable_parameters": size, "surviving_parameters": size, "curve": points}
    names = [f"encoder.{2 + n // 4}.block{n % 4 // 2}.conv{1 + n % 2}.conv" for n in range(layers)]
    left = dict.fromkeys(names, rank)
    if method == "arena+":
        left = {name: max(1, 6 - n // 3 + noise.randint(-1, 1)) for n, name in enumerate(names)}
    elif method in ("arena", "sora", "adalora"):
        left = {name: max(1, round(rank * (0.95 - 0.02 * noise.random()))) for name in names}
    total = sum(left.values())
    start = rank * layers
    points = [
        {"step": s, "loss": loss, "surviving_rank": round(start + (total - start) * (s / 120) ** 2)}
        for s, loss in curve
    ]
    sizes = {name: 600 + 200 * n for n, name in enumerate(names)}
    return {
        "initial_rank": rank,
        "initial_layer_ranks": dict.fromkeys(names, rank),
        "layer_ranks": left,
        "trainable_parameters": sum(rank * size for size in sizes.values()),
        "surviving_parameters": sum(left[name] * size for name, size in sizes.items()),
        "curve": points,
    }
