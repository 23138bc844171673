"""The parts of the accuracy benchmark that can be checked by hand, and one small run of it."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np  # noqa: TID253
import phantom
import pytest
import SimpleITK as sitk  # noqa: TID253

from accuracy.figures import draw_dice_against_slices, draw_differences, draw_estimates
from accuracy.job import ADAPT, IN_SCAN, NEXT, PREDICT, SLICER, SOURCE, Job, Options, digest_of
from accuracy.methods import EXPERTS, FILL, FIRST, GROW, OURS
from accuracy.paint import array_axis, paint
from accuracy.pairs import Pairs
from accuracy.plan import Choice, make_plan
from accuracy.pool import Progress, Store, run_jobs
from accuracy.records import rows_of
from accuracy.scans import HEAD_AND_NECK, Scan, validation_patients
from accuracy.scoring import Bench
from accuracy.tables import summary_lines, summary_text
from accuracy.worst import behind, lowest
from bench_core import measure
from reglora_core.evaluation import compare
from reglora_core.organs import organ
from reglora_core.volumes import LabelMap

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench_accuracy.py"
SHAPE = (12, 14, 16)
TURNED = (0, 0, 1, 1, 0, 0, 0, 1, 0)  # x of the file runs towards posterior, y to S, z to L


def an_image(direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    return phantom.image_of(np.zeros(SHAPE, np.int16), direction=direction)


def a_reference():
    """A liver on z 2 to 8, y 3 to 9, x 1 to 13, and a spleen on slice z = 9 alone."""
    liver, spleen = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    liver[2:9, 3:10, 1:14] = True
    spleen[9, 3:5, 1:3] = True
    return LabelMap.from_masks([organ(1, "liver"), organ(2, "spleen")], [liver, spleen])


def a_scan(name="pt_1", folder=Path("data")):
    files = (folder / f"{name}_ct.nii.gz", folder / f"{name}_labels.nii.gz", folder / "labels.json")
    return Scan(name, HEAD_AND_NECK, *files)


def a_job(name="pt_1", task=ADAPT, role=IN_SCAN, **fields):
    return Job(task, role, (a_scan(name),), "axial", 5, "reglora-tiny", **fields)


@pytest.mark.parametrize(
    ("direction", "axis", "slices"),
    [
        # the first and the last slice with an organ are 2 and 9, 3 and 9, 1 and 13
        ("axial", 0, (3, 6, 8)),  # 2 + 7 (i + 1/2) / 3 = 3.2, 5.5, 7.8
        ("coronal", 1, (4, 6, 8)),  # 3 + 6 (i + 1/2) / 3
        ("sagittal", 2, (3, 7, 11)),  # 1 + 12 (i + 1/2) / 3
    ],
)
def test_slices_are_painted_in_the_middles_of_equal_parts(direction, axis, slices):
    own = paint(an_image(), a_reference(), direction, 3)

    assert (own.axis, own.slices) == (axis, slices)
    expected = np.zeros(SHAPE, bool)
    index = [slice(None)] * 3
    index[axis] = list(slices)
    expected[tuple(index)] = a_reference().painted()[tuple(index)]
    assert (own.labels.painted() == expected).all()


def test_directions_are_the_patients_and_not_the_files():
    axes = [array_axis(an_image(TURNED), name) for name in ("axial", "coronal", "sagittal")]

    assert axes == [1, 2, 0]


def test_an_organ_that_no_painted_slice_meets_is_not_among_the_painted_ones():
    own = paint(an_image(), a_reference(), "axial", 3)

    assert own.slices_of_organs() == {"liver": 3}
    assert own.annotated == "axial:3,6,8"


def test_dice_is_taken_off_the_painted_slices():
    reference = a_reference()
    own = paint(an_image(), reference, "axial", 3)
    half = reference.mask(0).copy()
    half[:, 3:6] = False  # rows 6 to 9 of 3 to 9 are found
    prediction = LabelMap.from_masks([organ(1, "liver")], [half])
    bench = Bench(an_image(), reference, own)

    liver, spleen = bench.dice(prediction)

    # four slices are not painted; a slice has 7 x 13 voxels, of which 4 x 13 are found
    assert liver == {"name": "liver", "dice": round(8 / 11, 4), "reference_voxels": 4 * 7 * 13}
    assert spleen == {"name": "spleen", "dice": 0.0, "reference_voxels": 4}
    full = compare(prediction, reference, (3.0, 3.0, 3.0), own.kept_slices)
    assert [round(score.score.dice, 4) for score in full] == [liver["dice"], spleen["dice"]]


def test_a_job_survives_being_written_to_json():
    source = a_job("pt_2", role=SOURCE)
    job = a_job(task=PREDICT, role=NEXT, source=source, label="1 patient x 5 slices", digest="d")

    assert Job.from_dict(json.loads(json.dumps(job.to_dict()))) == job


def test_a_jobs_name_tells_case_and_paint_and_changes_with_what_it_depends_on():
    job = a_job(digest="one")

    assert job.name.startswith("pt_1_axial_n5_adapt_")
    assert replace(job, digest="two").name != job.name
    assert replace(job, role=SOURCE).name != job.name
    follower = a_job("pt_9", PREDICT, NEXT, source=job)
    assert replace(follower, source=replace(job, digest="two")).name != follower.name


def test_the_digest_follows_options_and_weights(tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"one")
    of_one = digest_of(Options(steps=60), str(weights))

    assert digest_of(Options(steps=60), str(weights)) == of_one
    assert digest_of(Options(steps=60, seed=1), str(weights)) != of_one
    assert digest_of(Options(), str(weights)) != of_one
    weights.write_bytes(b"two")
    assert digest_of(Options(steps=60), str(weights)) != of_one


def test_threads_count_only_where_time_can_run_out():
    assert Options(steps=60).that_decide() == Options(steps=60, threads=8).that_decide()
    assert Options().that_decide() != Options(threads=8).that_decide()


WRITES = "import json, sys; open(sys.argv[1], 'w').write(json.dumps(json.load(sys.stdin)))"
CRASHES = "import sys; sys.stderr.write('first words\\nno memory\\n'); sys.exit(3)"


def run_with(jobs, store, code_of, lines=None):
    def command(job):
        return [sys.executable, "-c", code_of(job), str(store.record(job))]

    say = (lambda text: None) if lines is None else lines.append
    return run_jobs(jobs, store, command, workers=2, threads=1, say=say)


def test_a_job_that_crashes_is_reported_and_the_others_go_on(tmp_path):
    jobs, store = [a_job(f"pt_{k}") for k in range(3)], Store(tmp_path)

    failures = run_with(jobs, store, lambda job: CRASHES if job == jobs[1] else WRITES)

    assert failures == {jobs[1].name: "no memory"}
    assert [store.is_finished(job) for job in jobs] == [True, False, True]
    assert store.log(jobs[1]).read_text() == "first words\nno memory\n"


def test_finished_jobs_are_skipped_and_failed_ones_tried_again(tmp_path):
    jobs, store = [a_job(f"pt_{k}") for k in range(3)], Store(tmp_path)
    run_with(jobs, store, lambda job: CRASHES if job == jobs[1] else WRITES)
    lines = []

    failures = run_with(jobs, store, lambda job: WRITES if job == jobs[1] else CRASHES, lines)

    assert failures == {}
    assert lines[0] == "2 of 3 jobs are finished already\n"
    assert store.is_finished(jobs[1])
    assert not store.log(jobs[1]).exists()


def test_a_job_that_ends_well_without_a_record_has_failed(tmp_path):
    failures = run_with([a_job()], Store(tmp_path), lambda job: "pass")

    assert failures == {a_job().name: "its process ended with code 0"}


def test_a_source_is_finished_only_with_its_adapter(tmp_path):
    source, store = a_job(role=SOURCE), Store(tmp_path)
    follower = a_job("pt_9", PREDICT, NEXT, source=source)

    failures = run_with([source, follower], store, lambda job: WRITES)

    assert failures[follower.name] == f"there is no adapter of {source.name}"
    store.adapter(source).write_bytes(b"adapter")
    assert run_with([source, follower], store, lambda job: WRITES) == {}


def test_the_time_left_goes_by_the_pace_of_each_kind_of_job():
    jobs = [a_job(f"pt_{k}", task) for task in (ADAPT, SLICER) for k in range(3)]
    progress = Progress(jobs, workers=2, say=lambda text: None)

    progress.add(jobs[0], 60.0, "")
    progress.add(jobs[3], 4.0, "")

    assert progress.seconds_left() == pytest.approx((2 * 60 + 2 * 4) / 2)


@pytest.fixture
def a_data_folder(tmp_path):
    """Files of eight patients, numbered so that the order of texts is another one."""
    folder = tmp_path / "data" / "openkbp" / "validation"
    folder.mkdir(parents=True)
    for number in (201, 202, 203, 204, 206, 207, 1000, 99):
        (folder / f"pt_{number}_ct.nii.gz").touch()
    return tmp_path / "data"


def test_patients_come_in_the_order_of_their_numbers(a_data_folder):
    names = [scan.name for scan in validation_patients(a_data_folder, 3)]

    assert names == ["pt_99", "pt_201", "pt_202"]


def test_every_scan_is_painted_axially_and_some_in_all_directions(a_data_folder):
    plan = make_plan(Choice(Path("sample"), a_data_folder, patients_of_all_axes=1))

    adapted = [job for job in plan.jobs if (job.task, job.role) == (ADAPT, IN_SCAN)]
    paint = {case: [job for job in adapted if job.case == case] for case in ("pt_99", "pt_201")}
    assert [(job.axis, job.slices) for job in paint["pt_201"]] == [
        ("axial", count) for count in (2, 3, 5, 8, 12)
    ]
    assert len(paint["pt_99"]) == 15
    slicer = [job for job in plan.jobs if job.task == SLICER]
    assert [(job.case, job.axis, job.slices) for job in slicer] == [
        (job.case, job.axis, job.slices) for job in adapted
    ]


def test_the_sample_ct_s_adapters_are_carried_over_to_the_torso_ct(a_data_folder):
    plan = make_plan(Choice(Path("sample"), a_data_folder))

    followers = [job for job in plan.jobs if job.case == "torso" and job.task == PREDICT]
    assert [(job.source.case, job.source.slices, job.slices) for job in followers] == [
        ("sample", 5, 0),
        ("sample", 8, 0),
    ]


def test_a_run_can_be_made_smaller_by_counts_and_followers(a_data_folder):
    choice = Choice(
        Path("sample"),
        a_data_folder,
        counts_of_other_axes=(5,),
        patients_of_all_counts=1,
        next_patients=2,
    )
    plan = make_plan(choice)

    adapted = [job for job in plan.jobs if (job.task, job.role) == (ADAPT, IN_SCAN)]
    counts = {
        case: {job.slices for job in adapted if job.case == case} for case in ("pt_99", "pt_201")
    }
    assert counts == {"pt_99": {2, 3, 5, 8, 12}, "pt_201": {5}}
    sagittal = [job.slices for job in adapted if (job.case, job.axis) == ("sample", "sagittal")]
    assert sagittal == [5]
    followers = {job.case for job in plan.jobs if job.task == PREDICT}
    assert followers == {"torso", "pt_206", "pt_207"}


def test_adapters_come_from_the_first_five_patients_and_are_tested_on_the_others(a_data_folder):
    plan = make_plan(Choice(Path("sample"), a_data_folder))

    followers = [job for job in plan.jobs if job.task == PREDICT and job.case != "torso"]
    assert {job.case for job in followers} == {"pt_206", "pt_207", "pt_1000"}
    groups = {}
    for job in followers:
        groups.setdefault(job.label, set()).add((job.source.case, job.source.slices))
    first = ("pt_99", "pt_201", "pt_202", "pt_203", "pt_204")
    assert groups == {
        "5 patients x 5 slices": {("-".join(first), 5)},
        "1 patient x 10 slices": {(name, 10) for name in first},
        "2 patients x 5 slices": {("pt_99-pt_201", 5), ("pt_202-pt_203", 5)},
        "5 patients x 2 slices": {("-".join(first), 2)},
    }
    names = [job.name for job in plan.jobs]
    assert len(set(names)) == len(names)
    assert all(plan.jobs.index(job.source) < plan.jobs.index(job) for job in followers)


def test_chosen_cases_are_scored_alone_with_the_adapters_they_need(a_data_folder):
    plan = make_plan(Choice(Path("sample"), a_data_folder, counts=(5,), cases=("pt_207",)))

    assert {job.case for job in plan.jobs if job.role != SOURCE} == {"pt_207"}
    assert len([job for job in plan.jobs if job.role == SOURCE]) == 9
    assert len([job for job in plan.jobs if job.role == NEXT]) == 9
    alone = make_plan(Choice(Path("sample"), a_data_folder, cases=("pt_99",)))
    assert {job.role for job in alone.jobs} == {IN_SCAN}


def test_the_quick_subset_is_small(a_data_folder):
    plan = make_plan(Choice(Path("sample"), a_data_folder), is_quick=True)

    ours = [(job.case, job.slices) for job in plan.jobs if job.task == ADAPT]
    patients = ("pt_99", "pt_201", "pt_202", "pt_203")
    assert ours == [("sample", 3), ("sample", 5), ("sample", 8), *((own, 5) for own in patients)]


def a_record(case, task, dice_by_method, **entries):
    """A record as a job writes it, two organs a method; mandible was not met by the paint."""
    job = a_job(case, task)
    results = [
        {
            "method": method,
            "seconds": 50.0,
            "peak_mb": 2000,
            "organs": [
                {"name": "Larynx", "dice": larynx, "reference_voxels": 100, "hd95_mm": 3.0},
                {"name": "Mandible", "dice": mandible, "reference_voxels": 50},
                {"name": "Brainstem", "dice": None, "reference_voxels": 0},
            ],
        }
        for method, (larynx, mandible) in dice_by_method.items()
    ]
    painted = [{"direction": "axial", "axis": 0, "slices": [1], "slices_of_organs": {"Larynx": 1}}]
    options = {"threads": 2}
    common = {"job": job.to_dict(), "options": options, "load_before": 0.5, "paint": painted}
    return {**common, "results": results, **entries}


def ours_says(held_out_dice, remark):
    said = {"expected_dice": 0.7, "expected_range": [0.65, 0.85], "is_doubtful": False}
    organs = [{"name": "Larynx", "held_out_dice": held_out_dice, **said}]
    return {"is_adapted": True, "report": {"organs": organs, "remarks": [remark]}}


@pytest.fixture
def records():
    parts = {FIRST: (0.6, 0.6), EXPERTS[0]: (0.5, 0.7), EXPERTS[1]: (0.1, 0.1)}
    return [
        a_record("pt_1", ADAPT, {OURS: (0.8, 0.4), **parts}, **ours_says(0.7, "took 9.5 s")),
        a_record("pt_2", ADAPT, {OURS: (0.6, 0.2), **parts}, **ours_says(0.7, "took 8 s")),
        a_record("pt_1", SLICER, {GROW: (0.4, 0.2), FILL: (0.0, 0.2)}),
        a_record("pt_2", SLICER, {GROW: (0.5, 0.5), FILL: (0.2, 0.2)}),
    ]


@pytest.fixture
def rows(records):
    return [row for record in records for row in rows_of(record)]


def test_rows_are_the_organs_that_can_be_scored(rows):
    ours = [row for row in rows if (row.case, row.method) == ("pt_1", OURS)]

    assert [(row.organ, row.dice, row.painted_on) for row in ours] == [
        ("Larynx", 0.8, 1),
        ("Mandible", 0.4, 0),
    ]
    assert [row.held_out_dice for row in ours] == [0.7, None]
    assert [row.expected_dice for row in ours] == [0.7, None]
    assert [row.expected_low for row in ours] == [0.65, None]


def test_the_summary_has_means_and_spreads_over_cases_and_organs(rows):
    lines = {line["method"]: line for line in summary_lines(rows)}

    # means of the cases .6 and .4, of the organs .7 and .3
    ours = lines[OURS]
    assert (ours["cases"], ours["mean_dice"], ours["lowest_case"]) == (2, 0.5, 0.4)
    assert ours["sd_of_cases"] == pytest.approx(0.2 / 2**0.5, abs=1e-4)
    assert ours["sd_of_organs"] == pytest.approx(0.4 / 2**0.5, abs=1e-4)
    assert (ours["median_seconds"], ours["update_kept"]) == (50.0, 2)


def test_the_page_compares_case_by_case(rows, records):
    text = summary_text(rows, records, ["The torso CT is left out."])

    # ours .6 and .4, Grow .3 and .5: differences +.3 and -.1
    assert (
        "| head and neck CT | axial | 5 | 2 | 0.500 ± 0.141 | 0.400 ± 0.141 | 0.150 ± 0.071 "
        "| +0.100 ± 0.283 | 1 of 2 cases | - | - |" in text
    )
    # the best expert has .6 on both: +.0 and -.2
    assert "| -0.100 | -0.200 | 1 of 2 |" in text
    # true .8 and .6 where .7 was said, one of them in the range; nobody could know of the Mandible
    assert "| head and neck CT | 5 | 2 | 0 | +0.000 | 0.100 | - | 50% | 0 | - | 0 | - |" in text
    assert "- The torso CT is left out." in text
    assert "- In 2 runs: took # s." in text


def test_the_worst_cases_come_first(rows):
    names = {row.case: row.job for row in rows if row.method == OURS}

    assert [job for _, job in lowest(rows)] == [names["pt_2"], names["pt_1"]]
    assert behind(rows) == [(pytest.approx(-0.1), names["pt_2"])]


def test_charts_are_drawn_of_any_rows(rows):
    alone = [row for row in rows if row.case == "pt_1" and row.method == OURS]

    for draw in (draw_dice_against_slices, draw_differences, draw_estimates):
        assert draw(rows).axes
        assert draw(alone).axes


def test_tests_of_pairs_agree_with_a_hand_calculation():
    ours = dict(zip("abcdef", (0.61, 0.62, 0.63, 0.64, 0.65, 0.66), strict=True))
    pairs = Pairs.of_values(ours, dict.fromkeys("abcdefg", 0.6), "cases")

    assert (pairs.wins, pairs.losses) == (6, 0)
    assert pairs.mean == pytest.approx(0.035)
    # all six of one sign: 2 / 2^6 in both tests
    assert pairs.sign_p == pytest.approx(1 / 32)
    assert pairs.wilcoxon_p == pytest.approx(1 / 32)


def test_too_few_pairs_are_not_tested():
    pairs = Pairs((0.1, 0.2, 0.0, 0.3, 0.1, 0.1), "cases")  # one tie

    assert pairs.sign_p is None
    assert pairs.wilcoxon_p is None


def test_a_measured_command_that_fails_says_its_last_event():
    event = json.dumps({"event": "failed", "message": "no paint", "hint": "paint a slice"})
    code = f"import sys; print({event!r}); sys.exit(2)"
    events = []

    with pytest.raises(SystemExit, match="no paint; paint a slice"):
        measure([sys.executable, "-c", code], events.append)

    assert [own["event"] for own in events] == ["failed"]


def bench(*arguments, words=None):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, input=words)


def test_code_that_has_changed_since_the_start_is_not_measured(tmp_path):
    job = json.dumps(a_job(digest="of other code").to_dict())

    done = bench("job", "--out", tmp_path, "--options", "{}", words=job)

    assert done.returncode == 2
    assert "changed since the benchmark began" in done.stderr


def test_a_folder_without_a_run_has_no_report(tmp_path):
    done = bench("report", "--out", tmp_path)

    assert done.returncode == 2
    assert "no benchmark was run here" in done.stderr


@pytest.mark.slow
def test_a_small_run_from_scan_to_table(tmp_path, small_weights):
    folder = tmp_path / "data" / "openkbp"
    hounsfield, labels = phantom.body()
    phantom.write(folder / "validation" / "pt_1_ct.nii.gz", phantom.image_of(hounsfield))
    phantom.write(folder / "validation" / "pt_1_labels.nii.gz", phantom.image_of(labels))
    (folder / "labels.json").write_text(json.dumps(phantom.NAMES))
    out = tmp_path / "out"
    options = ["--data", tmp_path / "data", "--cases", "pt_1", "--counts", 3, "--axes", "coronal"]
    options += ["--method", "head", "--steps", 0, "--model", small_weights, "--out", out]

    done = bench("run", *options)

    assert done.returncode == 0, done.stderr
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    ours = {row["organ"]: float(row["dice"]) for row in rows if row["method"] == OURS}
    record = json.loads(next((out / "jobs").glob("*_adapt_*.json")).read_text())
    prediction = sitk.ReadImage(str(next((out / "predictions").glob("*.seg.nrrd"))))
    found = np.delete(sitk.GetArrayFromImage(prediction), record["paint"][0]["slices"], 1)
    expected = np.delete(labels, record["paint"][0]["slices"], 1)
    for value, name in phantom.NAMES.items():
        assert ours[name] == pytest.approx(
            phantom.dice(found == value, expected == value), abs=1e-4
        )
    page = (out / "summary.md").read_text(encoding="utf-8")
    assert "head and neck CT | coronal | 3 | 1 |" in page
    again = bench("run", *options)
    assert again.returncode == 0
    assert "jobs are finished already" in again.stderr
    assert " left" not in again.stderr
