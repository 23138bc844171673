"""Segment every scan of a folder by one adapter: `reglora predict` where --image is a cohort.

The folder written to keeps, in cohort.json, which adapter made what is in it; a run that was
stopped goes on, and another adapter is refused there.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from reglora_core.errors import InputError
from reglora_core.events import Report, ignore
from reglora_core.output import output_folder
from reglora_core.pool import RayConfig, run_on_ray, run_plain
from reglora_core.writing import write_text

FORMAT = 1
SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
NAME = "cohort.json"
Scan = tuple[Path, Path]  # of an image, and of its segmentation
Volumes = dict[str, float]  # ml by organ


@dataclass(frozen=True)
class CohortJob:
    """Which scans are segmented by what.

    Attributes:
        adapter: file.
        images: folder of volume files, or of folders with one DICOM series each.
        out: folder of the segmentations, NAME.seg.nrrd.
        model: a file of base weights, when the adapter's base is not in the registry.
        device: auto takes a GPU where there is one.
        ray: None: one scan after the other in this process.
        precision: of the networks; auto: 16 bits where they are fast.
    """

    adapter: Path
    images: Path
    out: Path
    model: str = ""
    device: str = "auto"
    ray: RayConfig | None = None
    precision: str = "auto"


@dataclass
class Cohort:
    """What became of a folder's scans.

    Attributes:
        ml: volumes by scan, of those that are segmented.
        kept: number of them that were segmented before.
        failed: failure by scan.
        has_defect: whether one of them is no bad input.
    """

    ml: dict[str, Volumes] = field(default_factory=dict)
    kept: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    has_defect: bool = False

    def to_table(self) -> str:
        """Return volumes in ml of every scan, and the counts, as text."""
        organs = list(dict.fromkeys(organ for own in self.ml.values() for organ in own))
        width = max((len(name) for name in self.ml), default=4)
        cells = [max(len(organ), 9) for organ in organs]
        titles = "  ".join(f"{o:>{n}}" for o, n in zip(organs, cells, strict=True))
        lines = [f"{'ml':{width}}  {titles}".rstrip()]
        for name, own in self.ml.items():
            shown = [f"{own[o]:{n}.1f}" for o, n in zip(organs, cells, strict=True)]
            lines.append(f"{name:{width}}  {'  '.join(shown)}".rstrip())
        lines += ["", *(f"failed: {name}: {why}" for name, why in self.failed.items())]
        made = len(self.ml) - self.kept
        total = len(self.ml) + len(self.failed)
        counts = f"{self.kept} were segmented before, {made} now, {len(self.failed)} failed"
        return "\n".join([*lines, f"{total} scans: {counts}"]) + "\n"


def is_cohort(folder: Path) -> bool:
    """Tell whether a path is a folder of scans; one with slices of one DICOM series is not."""
    if not folder.is_dir():
        return False
    has_files = any(path.is_file() for path in folder.iterdir())
    return any(_is_volume(path) for path in folder.iterdir()) or not has_files


def cohort_scans(folder: Path) -> dict[str, Path]:
    """Return the scans of a folder by name: volume files, and folders of DICOM series.

    Raises:
        InputError: there are none, or two have the same name.
    """
    scans: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        is_series = path.is_dir() and not path.name.startswith(".")
        if not (is_series or _is_volume(path)):
            continue
        name = path.name if is_series else _stem(path)
        if name in scans:
            message = f"{folder}: {scans[name].name} and {path.name} would both become {name}"
            raise InputError(message, "rename one of them")
        scans[name] = path
    if not scans:
        message = f"{folder}: holds no scan"
        raise InputError(message, f"give a folder of files {', '.join(SUFFIXES)}, or of series")
    return scans


def predict_cohort(job: CohortJob, report: Report = ignore) -> Cohort:
    """Segment the scans that are not segmented yet.

    Raises:
        InputError: no scans, the adapter cannot be used, or the output folder is another
            adapter's.
        OutputError: the output folder cannot be written.
    """
    scans = cohort_scans(job.images)
    if job.out.resolve() == job.images.resolve():
        message = f"{job.out}: the segmentations would lie among the scans"
        raise InputError(message, "choose another folder for --out")
    _check(job)
    with output_folder(job.out):
        record = _Record.of(job)
        cohort = Cohort({name: own for name, own in record.done().items() if name in scans})
        cohort.kept = len(cohort.ml)
        _segment(job, scans, partial(_worker, job), cohort, record, report)
    cohort.ml = {name: cohort.ml[name] for name in scans if name in cohort.ml}
    return cohort


@dataclass
class _Record:
    """cohort.json: which adapter, and the volumes of the scans that are done."""

    folder: Path
    adapter: str  # checksum of its file
    scans: dict[str, Volumes] = field(default_factory=dict)

    @classmethod
    def of(cls, job: CohortJob) -> _Record:
        from reglora_core.models.checkpoints import sha256_of

        record = cls(job.out, sha256_of(job.adapter))
        path = job.out / NAME
        if not path.exists():
            return record
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            adapter, record.scans = entries["adapter"], dict(entries["scans"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            message = f"{path}: the record of this folder is damaged"
            raise InputError(message, "delete the folder, or choose another") from error
        if adapter != record.adapter:
            message = f"{job.out}: holds segmentations by another adapter ({adapter[:12]})"
            raise InputError(message, "choose another folder")
        return record

    def done(self) -> dict[str, Volumes]:
        return {n: own for n, own in self.scans.items() if target(self.folder, n).is_file()}

    def add(self, name: str, own: Volumes) -> None:
        self.scans[name] = own
        entries = {"format": FORMAT, "adapter": self.adapter, "scans": self.scans}
        write_text(self.folder / NAME, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def target(folder: Path, name: str) -> Path:
    """Return where a scan's segmentation goes."""
    return folder / f"{name}.seg.nrrd"


def _segment(
    job: CohortJob,
    scans: dict[str, Path],
    make: Callable[[], Callable[[Scan], Volumes]],
    cohort: Cohort,
    record: _Record,
    report: Report,
) -> None:
    left = [name for name in scans if name not in cohort.ml]
    report("progress", stage="scans", step=cohort.kept, steps=len(scans))
    if not left:
        return
    items = [(scans[name], target(job.out, name)) for name in left]
    outcomes = run_plain(make, items) if job.ray is None else run_on_ray(make, items, job.ray)
    for number, outcome in outcomes:
        name = left[number]
        if outcome.result is None:
            cohort.failed[name] = outcome.failure
            cohort.has_defect |= outcome.is_defect
            report("warning", message=f"{name}: {outcome.failure}")
        else:
            cohort.ml[name] = outcome.result
            record.add(name, outcome.result)
        done = len(cohort.ml) + len(cohort.failed)
        report("progress", stage="scans", step=done, steps=len(scans))


def _check(job: CohortJob) -> None:
    """Say once, before anything is begun, what is wrong with the adapter or the network."""
    from reglora_core.adapter import load_adapter
    from reglora_core.device import choose_device
    from reglora_core.models.loading import load_model

    adapter = load_adapter(job.adapter)
    adapter.check_base(load_model(job.model or adapter.base, choose_device(job.device)))


def _worker(job: CohortJob) -> Callable[[Scan], Volumes]:
    """Return the function that segments one scan.

    The network is loaded for each scan: it holds the update for good once it has segmented.
    """
    from reglora_core.job import PredictJob
    from reglora_core.prediction import predict

    def segment(scan: Scan) -> Volumes:
        image, out = scan
        own = PredictJob(job.adapter, image, out, job.model, job.device, precision=job.precision)
        return predict(own).ml

    return segment


def _is_volume(path: Path) -> bool:
    name = path.name.lower()
    return path.is_file() and name.endswith(SUFFIXES) and not name.startswith(".")


def _stem(path: Path) -> str:
    suffix = next(own for own in (".nii.gz", *SUFFIXES) if path.name.lower().endswith(own))
    return path.name[: -len(suffix)]
