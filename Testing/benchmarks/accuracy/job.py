"""One piece of work of the benchmark, and the checksum of all that its result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from accuracy.scans import Scan

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CORE = ROOT / "reglora_core"
ANCHORS = HERE.parent / "slicer_anchors.py"
NO_PART_OF_A_RESULT = {"pictures", "pretraining", "demo.py", "cli.py", "progress.py", "tables.py"}
MEASURES = [HERE / name for name in ("scans.py", "paint.py", "scoring.py", "work.py", "experts.py")]
SCORES = [CORE / name for name in ("sample.py", "evaluation.py", "agreement.py")]

# tasks
ADAPT, SLICER, PREDICT = "adapt", "slicer", "predict"
# roles
IN_SCAN, SOURCE, NEXT = "in-scan", "source", "next"


@dataclass(frozen=True)
class Options:
    """How ours is run; `budget` does not count where `steps` is given."""

    method: str = "arena"
    steps: int | None = None
    budget: float = 55.0
    seed: int = 0
    threads: int = 1

    def that_decide(self) -> dict[str, Any]:
        """Return those that a result depends on: threads only where time runs out."""
        entries = asdict(self)
        for name in ("budget", "threads") if self.steps is not None else ("steps",):
            del entries[name]
        return entries


@dataclass(frozen=True)
class Job:
    """One run of one method.

    Attributes:
        task: ADAPT to paint, SLICER's tools on the same paint, or PREDICT by an adapter.
        role: IN_SCAN is scored on the painted scan, a SOURCE gives its adapter away, NEXT is
            scored on a scan of which nothing was painted.
        scans: that are painted; for PREDICT the one that is segmented.
        axis: axial, coronal or sagittal.
        slices: painted per scan; for PREDICT those that are left out of its score, so that it can
            be compared with as many painted ones.
        model: base network, a name or a file; empty for SLICER.
        source: for PREDICT, the job whose adapter is used.
        label: what the tables call the source, as in "5 patients x 2 slices".
        digest: checksum of options, base network and code; see `digest_of`.
    """

    task: str
    role: str
    scans: tuple[Scan, ...]
    axis: str
    slices: int
    model: str = ""
    source: Job | None = None
    label: str = ""
    digest: str = ""

    @property
    def case(self) -> str:
        return "-".join(scan.name for scan in self.scans)

    @property
    def kind(self) -> str:
        return self.scans[0].kind

    @property
    def name(self) -> str:
        """The name of what it leaves behind, without a suffix."""
        by = f"_by_{self.source.case}_n{self.source.slices}" if self.source else ""
        return f"{self.case}{by}_{self.axis}_n{self.slices}_{self.task}_{self.checksum}"

    @property
    def checksum(self) -> str:
        """Ten digits of the checksum of what the job is and of what it depends on."""
        entries = [self.task, self.role, self.case, self.axis, self.slices, self.digest]
        if self.source is not None:
            entries.append(self.source.checksum)
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()[:10]

    @property
    def keeps_adapter(self) -> bool:
        return self.role == SOURCE

    def to_dict(self) -> dict[str, Any]:
        entries = asdict(self)
        entries["scans"] = [
            {key: str(value) if isinstance(value, Path) else value for key, value in scan.items()}
            for scan in entries["scans"]
        ]
        entries["source"] = self.source.to_dict() if self.source else None
        return entries

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Job:
        scans = tuple(Scan.from_dict(scan) for scan in entries["scans"])
        source = cls.from_dict(entries["source"]) if entries["source"] else None
        return cls(**{**entries, "scans": scans, "source": source})


def digest_of(options: Options, model: str) -> str:
    """Return the checksum of what a result of ours depends on beside its paint."""
    decide = json.dumps([options.that_decide(), model_checksum(model)])
    return _checksum(decide, [*core_files(), *MEASURES])


def current_digest(job: Job, options: Options) -> str:
    """Return the digest that a job has by the code and the weights as they are now."""
    if job.task == SLICER:
        return digest_of_anchors(slicer_version())
    return digest_of(options, job.model)


def slicer_version() -> str:
    """Return the version of slicer-core, or an empty text where it is not installed."""
    try:
        return version("slicer-core")
    except PackageNotFoundError:
        return ""


def digest_of_anchors(slicer: str) -> str:
    """Return the checksum of what a result of Slicer's tools depends on beside its paint."""
    return _checksum(slicer, [ANCHORS, *SCORES, *MEASURES])


def core_files() -> list[Path]:
    """Return the library's files that can change a result."""
    files = (path.relative_to(CORE) for path in CORE.rglob("*.py"))
    return [CORE / path for path in files if not NO_PART_OF_A_RESULT & set(path.parts)]


def model_checksum(model: str) -> str:
    """Return the SHA-256 of a base network's weights.

    Raises:
        ModelError: there is no such network, or its weights are not here.
    """
    from reglora_core.models.registry import model_entry, model_names, weights_file

    is_file = model not in model_names() and Path(model).is_file()
    path = Path(model) if is_file else weights_file(model_entry(model))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _checksum(text: str, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(text.encode())
    for path in sorted(files):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
