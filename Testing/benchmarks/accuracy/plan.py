"""All jobs of a run, and a sentence for everything that is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from accuracy.job import ADAPT, IN_SCAN, NEXT, PREDICT, SLICER, SOURCE, Job
from accuracy.scans import Scan, mr_scan, sample_scan, torso_scan, validation_patients

COUNTS = (2, 3, 5, 8, 12)
FEW = 5  # what all patients are painted on
AXES = ("axial", "coronal", "sagittal")
SOURCES = 5  # the first validation patients give adapters, all others test them
NEXT_SLICES = 5  # painted per source, and on each other patient for comparison
TO_TORSO_SLICES = (5, 8)
SPREAD = ((1, 10), (2, 5), (5, 2))  # ten slices: patients x slices on each


@dataclass(frozen=True)
class Choice:
    """What a run covers.

    Attributes:
        sample: folder of the sample CT.
        data: folder of the other scans.
        counts: numbers of painted slices.
        axes: directions of painting, beside axial for some of the scans only.
        counts_of_other_axes: of them, those that are painted in other directions than the first.
        patients: how many OpenKBP validation patients, from the first on.
        patients_of_all_axes: of them, how many are painted in the other directions too.
        patients_of_all_counts: of them, how many are painted on other numbers of slices than
            five, where five is among the counts.
        cases: names of the scans that are scored; none: all.
        has_next_patient: whether adapters are carried over to other patients.
        next_patients: to how many OpenKBP patients at most.
        model: base network.
    """

    sample: Path
    data: Path
    counts: tuple[int, ...] = COUNTS
    axes: tuple[str, ...] = AXES
    counts_of_other_axes: tuple[int, ...] = COUNTS
    patients: int = 33
    patients_of_all_axes: int = 4
    patients_of_all_counts: int = 33
    cases: tuple[str, ...] = ()
    has_next_patient: bool = True
    next_patients: int = 33
    model: str = "reglora-tiny"

    def covers(self, case: str) -> bool:
        return not self.cases or case in self.cases

    def of_other_axes(self, counts: Iterable[int]) -> list[int]:
        return [count for count in counts if count in self.counts_of_other_axes]

    def quick(self) -> Choice:
        """Return the small subset of `--quick`; which counts it takes is up to `_counts`."""
        return replace(
            self, axes=("axial",), patients=4, patients_of_all_axes=0, has_next_patient=False
        )


@dataclass
class Plan:
    """Jobs in their order (a job's source comes before it), and what is not done and why."""

    jobs: list[Job] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def make_plan(choice: Choice, has_slicer: bool = True, is_quick: bool = False) -> Plan:
    """Return the jobs of a run; their digests are still empty."""
    plan = Plan()
    choice = choice.quick() if is_quick else choice
    patients = validation_patients(choice.data, choice.patients)
    if not has_slicer:
        plan.remarks.append("Slicer's tools are left out: slicer-core is not installed.")
    if not patients:
        plan.remarks.append(f"Only the sample CT: no other scans at {choice.data}.")
    for scan in _scans(choice, patients, plan, is_quick):
        for axis in _axes(scan, patients, choice):
            counts = _counts(scan, patients, choice, is_quick)
            for count in counts if axis == choice.axes[0] else choice.of_other_axes(counts):
                plan.jobs += _in_scan(scan, axis, count, choice, has_slicer)
    if choice.has_next_patient:
        if patients and choice.covers("torso"):
            plan.jobs += _to_torso(choice)
        plan.jobs += _to_other_patients(choice, patients, plan)
    return plan


def _in_scan(scan: Scan, axis: str, count: int, choice: Choice, has_slicer: bool) -> list[Job]:
    ours = Job(ADAPT, IN_SCAN, (scan,), axis, count, choice.model)
    return [ours, Job(SLICER, IN_SCAN, (scan,), axis, count)] if has_slicer else [ours]


def _scans(choice: Choice, patients: Sequence[Scan], plan: Plan, is_quick: bool) -> Iterable[Scan]:
    scans = [sample_scan(choice.sample)]
    if patients and not is_quick:
        scans += [torso_scan(choice.data), mr_scan(choice.data)]
    scans += patients
    return [scan for scan in scans if choice.covers(scan.name)]


def _axes(scan: Scan, patients: Sequence[Scan], choice: Choice) -> tuple[str, ...]:
    is_in_all = scan.name in ("sample", "torso") or scan in patients[: choice.patients_of_all_axes]
    return choice.axes if is_in_all else choice.axes[:1]


def _counts(
    scan: Scan, patients: Sequence[Scan], choice: Choice, is_quick: bool
) -> tuple[int, ...]:
    if is_quick:
        return (3, 5, 8) if scan.name == "sample" else (FEW,)
    if scan in patients[choice.patients_of_all_counts :] and FEW in choice.counts:
        return (FEW,)
    return choice.counts


def _to_torso(choice: Choice) -> list[Job]:
    sample, target = (sample_scan(choice.sample),), (torso_scan(choice.data),)
    jobs = []
    for slices in TO_TORSO_SLICES:
        source = Job(ADAPT, SOURCE, sample, "axial", slices, choice.model)
        label = f"sample CT, {slices} slices"
        jobs += [source, Job(PREDICT, NEXT, target, "axial", 0, choice.model, source, label)]
    return jobs


def _to_other_patients(choice: Choice, patients: list[Scan], plan: Plan) -> list[Job]:
    sources, others = patients[:SOURCES], patients[SOURCES:]
    covered = [scan for scan in others if choice.covers(scan.name)][: choice.next_patients]
    if not others:
        plan.remarks.append(
            f"Adapters are not carried over between OpenKBP patients: that takes more than "
            f"{SOURCES}, and there are {len(patients)}."
        )
    if not covered:
        return []
    jobs = []
    for count, slices in ((SOURCES, NEXT_SLICES), *SPREAD):
        for group in _groups(sources, count):
            source = Job(ADAPT, SOURCE, group, "axial", slices, choice.model)
            label = f"{count} patient{'s' if count > 1 else ''} x {slices} slices"
            jobs.append(source)
            jobs += [
                Job(PREDICT, NEXT, (own,), "axial", NEXT_SLICES, choice.model, source, label)
                for own in covered
            ]
    return jobs


def _groups(scans: list[Scan], size: int) -> list[tuple[Scan, ...]]:
    """Return as many whole groups of neighbours as there are."""
    return [tuple(scans[k : k + size]) for k in range(0, len(scans) - size + 1, size)]
