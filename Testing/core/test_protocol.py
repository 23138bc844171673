"""The protocol on small folders in every layout: inventory, rules for bad input, draws, access."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np  # noqa: TID253
import phantom
import pytest

from reglora_core.cli import main
from reglora_core.errors import InputError
from reglora_core.protocol.access import check_purpose, check_unseen
from reglora_core.protocol.cases import read_case
from reglora_core.protocol.command import inventory_table
from reglora_core.protocol.dataset import (
    Dataset,
    dataset_from_dict,
    members,
    read_dataset,
    shipped_datasets,
)
from reglora_core.protocol.inventory import Inventory, take_inventory
from reglora_core.protocol.sampling import draw_shots, few_shot_tasks, too_few

SHAPE = (3, 4, 5)
TEST = ("pt_9", "pt_10")


def an_image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE).astype(np.int16)


def labels_with(*values: int) -> np.ndarray:
    """Return a label map that has each value in one plane's row."""
    labels = np.zeros(SHAPE, np.uint8)
    for row, value in enumerate(values):
        labels[1, row] = value
    return labels


def write(path: Path, array: np.ndarray, **geometry: Any) -> Path:
    return phantom.write(path, phantom.image_of(array, **geometry))


def add_pair(data: Path, case: str, *values: int, seed: int | None = None) -> None:
    number = int(case.rpartition("_")[2])
    write(data / "scans" / f"{case}_ct.nii.gz", an_image(number if seed is None else seed))
    write(data / "scans" / f"{case}_labels.nii.gz", labels_with(*values))


@pytest.fixture
def a_dataset() -> Dataset:
    """Pairs: two for pre-training, five shots, one for validation, two to test."""
    return Dataset(
        name="pairs",
        images=("scans/{case}_ct.nii.gz",),
        labels=("scans/{case}_labels.nii.gz",),
        case="pt_[0-9]+",
        names={"1": "liver", "2": "spleen", "3": "stomach"},
        base=("liver",),
        novel=("spleen",),
        pretraining=("liver",),
        roles={
            "pretraining": ("pt_1..pt_2",),
            "shots": ("pt_3..pt_7",),
            "validation": ("pt_8",),
            "test": TEST,
        },
    )


@pytest.fixture
def a_folder(tmp_path: Path) -> Path:
    for number in range(1, 11):
        values = (1, 2) if number != 7 else (1,)  # pt_7 has no spleen drawn
        add_pair(tmp_path, f"pt_{number}", *values)
    return tmp_path


def problems(inventory: Inventory) -> list[str]:
    return [str(problem) for problem in inventory.problems]


def test_a_clean_folder_has_its_roles_organs_and_no_problem(
    a_dataset: Dataset, a_folder: Path
) -> None:
    inventory = take_inventory(a_dataset, a_folder)
    assert problems(inventory) == []
    assert list(inventory.cases) == [f"pt_{number}" for number in range(1, 11)]
    assert inventory.patients("shots") == tuple(f"pt_{number}" for number in range(3, 8))
    assert inventory.patients("shots", "spleen") == ("pt_3", "pt_4", "pt_5", "pt_6")
    assert inventory.patients("test") == TEST
    assert inventory.cases["pt_1"].voxels == {"liver": 5, "spleen": 5}
    inventory.require_usable()


def test_an_undrawn_organ_is_unknown_or_absent_as_the_dataset_says(
    a_dataset: Dataset, a_folder: Path
) -> None:
    partial = take_inventory(a_dataset, a_folder)
    assert partial.cases["pt_7"].voxels == {"liver": 5}
    case = read_case(partial, "pt_7", "fit")
    assert case.is_known("liver")
    assert not case.is_known("spleen")
    complete = take_inventory(replace(a_dataset, is_partial=False), a_folder)
    assert complete.cases["pt_7"].voxels == {"liver": 5, "spleen": 0}
    case = read_case(complete, "pt_7", "fit")
    assert case.is_known("spleen")
    assert not case.masks["spleen"].any()


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated image": (
        lambda scans: truncate(scans / "pt_3_ct.nii.gz"),
        "skipped: pt_3: pt_3_ct.nii.gz: damaged or cut short",
    ),
    "truncated labels": (
        lambda scans: truncate(scans / "pt_3_labels.nii.gz"),
        "skipped: pt_3: pt_3_labels.nii.gz: damaged or cut short",
    ),
    "empty file": (
        lambda scans: (scans / "pt_3_ct.nii.gz").write_bytes(b""),
        "skipped: pt_3: pt_3_ct.nii.gz: is empty",
    ),
    "no labels": (
        lambda scans: (scans / "pt_3_labels.nii.gz").unlink(),
        "skipped: pt_3: has an image, but no labels",
    ),
    "no image": (
        lambda scans: (scans / "pt_3_ct.nii.gz").unlink(),
        "skipped: pt_3: has labels, but no image",
    ),
    "misnamed": (
        lambda scans: rename(scans / "pt_3_ct.nii.gz", "patient3_ct.nii.gz"),
        "skipped: scans/patient3_ct.nii.gz: misnamed",
    ),
    "another size": (
        lambda scans: write(scans / "pt_3_labels.nii.gz", np.ones((3, 4, 6), np.uint8)),
        "skipped: pt_3: pt_3_labels.nii.gz has (6, 4, 3) voxels, its image (5, 4, 3)",
    ),
    "another place": (
        lambda scans: write(scans / "pt_3_labels.nii.gz", labels_with(1), origin=(0, 0, 0)),
        "skipped: pt_3: pt_3_labels.nii.gz lies elsewhere than its image",
    ),
    "a copy of the same role": (
        lambda scans: write(scans / "pt_4_ct.nii.gz", an_image(3)),
        "skipped: pt_4: has the same image as pt_3",
    ),
    "a copy across roles": (
        lambda scans: write(scans / "pt_9_ct.nii.gz", an_image(3)),
        "refused: pt_9: has the same image as pt_3, which is in another role",
    ),
    "an unknown value": (
        lambda scans: write(scans / "pt_3_labels.nii.gz", labels_with(1, 2, 77)),
        "noted: pt_3: label values without a name: 77",
    ),
    "a test patient that is missing": (
        lambda scans: rename(scans / "pt_9_ct.nii.gz", "pt_99_ct.nii.gz"),
        "refused: pt_9: a test patient that is missing or was skipped",
    ),
    "a damaged test patient": (
        lambda scans: truncate(scans / "pt_10_labels.nii.gz"),
        "refused: pt_10: a test patient that is missing or was skipped",
    ),
    "a validation patient that is missing": (
        lambda scans: (scans / "pt_8_labels.nii.gz").unlink(),
        "skipped: pt_8: a validation patient that is missing or was skipped",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_named_and_follows_its_rule(
    a_dataset: Dataset, a_folder: Path, kind: str
) -> None:
    spoil, expected = BAD[kind]
    spoil(a_folder / "scans")
    inventory = take_inventory(a_dataset, a_folder)
    assert any(problem.startswith(expected) for problem in problems(inventory)), problems(inventory)
    severity, subject = expected.split(": ")[:2]
    assert (subject in inventory.cases) == (severity != "skipped" and "missing or" not in expected)
    if severity == "refused":
        with pytest.raises(InputError, match=rf"refused, the first .*{subject}"):
            inventory.require_usable()
        with pytest.raises(InputError):
            few_shot_tasks(inventory, shots=(1,), folds=1)
    else:
        inventory.require_usable()


def test_the_same_case_in_two_folders_is_refused(a_dataset: Dataset, a_folder: Path) -> None:
    two = replace(
        a_dataset,
        images=(*a_dataset.images, "more/{case}_ct.nii.gz"),
        labels=(*a_dataset.labels, "more/{case}_labels.nii.gz"),
    )
    write(a_folder / "more" / "pt_3_ct.nii.gz", an_image(50))
    inventory = take_inventory(two, a_folder)
    assert problems(inventory) == [
        "refused: pt_3: is there twice: scans/pt_3_ct.nii.gz and more/pt_3_ct.nii.gz"
    ]


def test_a_patient_in_two_roles_is_refused(a_dataset: Dataset, a_folder: Path) -> None:
    roles = {**a_dataset.roles, "pretraining": ("pt_1", "pt_9")}
    inventory = take_inventory(replace(a_dataset, roles=roles), a_folder)
    assert problems(inventory) == ["refused: pt_9: is in the roles pretraining and test"]


def test_an_organ_that_no_case_has_is_refused(a_dataset: Dataset, a_folder: Path) -> None:
    inventory = take_inventory(replace(a_dataset, novel=("spleen", "stomach")), a_folder)
    assert problems(inventory) == ["refused: stomach: no case has this organ"]


def test_a_wanted_organ_without_a_label_value_is_refused(
    a_dataset: Dataset, a_folder: Path
) -> None:
    with pytest.raises(InputError, match=r"organ 'heart' is no name.*liver, spleen, stomach"):
        take_inventory(replace(a_dataset, novel=("heart",)), a_folder)


def test_too_few_patients_for_k_are_counted_and_refused(a_dataset: Dataset, a_folder: Path) -> None:
    inventory = take_inventory(a_dataset, a_folder)
    assert too_few(inventory, (1, 4, 5)) == {
        ("liver", 5): 5,
        ("spleen", 4): 4,
        ("spleen", 5): 4,
    }
    with pytest.raises(InputError, match=r"liver k = 5: 5, spleen k = 5: 4"):
        few_shot_tasks(inventory, shots=(1, 5))
    assert "too few for k = 5: spleen has 4 patients" in inventory_table(inventory, (5,))


@pytest.mark.parametrize(
    ("index", "text"),
    [
        ("patients.json", json.dumps({"pt_1": {}, "pt_77": {}, "note": 1})),
        ("meta.csv", "image_id;age\npt_1;50\npt_77;60\n"),
    ],
)
def test_a_case_of_the_index_that_is_not_there_is_missing(
    a_dataset: Dataset, a_folder: Path, index: str, text: str
) -> None:
    (a_folder / index).write_text(text, encoding="utf-8")
    inventory = take_inventory(replace(a_dataset, index=index), a_folder)
    assert problems(inventory) == [f"skipped: pt_77: missing: {index} lists it"]


# Organs in files of their own: TotalSegmentator


def add_organs(data: Path, case: str, **organs: bool) -> None:
    write(data / case / "ct.nii.gz", an_image(int(case[1:])))
    for organ, is_there in organs.items():
        path = data / case / "segmentations" / f"{organ}.nii.gz"
        write(path, labels_with(1) if is_there else labels_with())


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_totalsegmentator_folders_with_fsefts_lists(tmp_path: Path, version: str) -> None:
    whole = read_dataset(f"totalsegmentator-{version}")
    assert len(whole.base) == 9
    assert len(whole.novel) == {"v1": 16, "v2": 11}[version]  # v2 has no chambers of the heart
    dataset = replace(whole, base=("spleen", "aorta"), novel=(), pretraining=())
    for number in range(6):
        add_organs(tmp_path, f"s000{number}", spleen=True, aorta=number != 1)
    add_organs(tmp_path, "s0006", aorta=True)  # no file of the spleen: unknown
    lists = tmp_path / "partitions"
    lists.mkdir()
    for organ, shots, test in [("spleen", "0123", "45"), ("aorta", "456", "03")]:
        for name, numbers in (("train", shots), ("test", test)):
            lines = [
                f"set/data/s000{n}/ct.nii.gz   set/data/s000{n}/segmentations/{organ}.nii.gz\n"
                for n in numbers
            ]
            (lists / f"{organ}_{name}.txt").write_text("".join(lines), encoding="utf-8")
    inventory = take_inventory(dataset, tmp_path)
    assert problems(inventory) == []
    assert inventory.patients("shots", "spleen") == ("s0000", "s0001", "s0002", "s0003")
    assert inventory.patients("test", "aorta") == ("s0000", "s0003")
    assert inventory.cases["s0001"].voxels == {"spleen": 5, "aorta": 0}
    assert inventory.cases["s0006"].voxels == {"aorta": 5}
    check_purpose(inventory, "s0000", "fit", organ="spleen")
    with pytest.raises(InputError, match="test role"):
        check_purpose(inventory, "s0000", "fit", organ="aorta")
    mask = read_case(inventory, "s0004", "fit", organ="aorta").masks["aorta"]
    assert mask.sum() == 5


def test_lists_that_are_not_there_say_where_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"spleen_train.txt: .*fewshot-finetuning"):
        take_inventory(read_dataset("totalsegmentator-v1"), tmp_path)


def test_a_list_with_a_patient_who_is_missing_says_that_the_draw_differs(tmp_path: Path) -> None:
    dataset = replace(read_dataset("totalsegmentator-v1"), base=("spleen",), novel=(), index="")
    lists = tmp_path / "partitions"
    lists.mkdir()
    (lists / "spleen_train.txt").write_text("d/s0000/ct.nii.gz x\nd/s0009/ct.nii.gz x\n")
    (lists / "spleen_test.txt").write_text("d/s0001/ct.nii.gz x\n")
    for case in ("s0000", "s0001"):
        add_organs(tmp_path, case, spleen=True)
    said = problems(take_inventory(dataset, tmp_path))
    assert said == [
        "skipped: s0009: missing or skipped, so draws differ from the published ones of spleen"
    ]


def test_organ_files_may_have_other_names(tmp_path: Path) -> None:
    dataset = Dataset(
        name="own", images=("{case}/ct.nii.gz",), labels=("{case}/{organ}.nii.gz",),
        base=("liver",), files={"liver": "hepar"}, roles={"shots": ("rest",)},
    )  # fmt: skip
    write(tmp_path / "a" / "ct.nii.gz", an_image(1))
    write(tmp_path / "a" / "hepar.nii.gz", labels_with(1))
    inventory = take_inventory(dataset, tmp_path)
    assert inventory.cases["a"].voxels == {"liver": 5}
    assert inventory.patients("shots") == ("a",)


# FLARE22 and the shipped descriptions


def test_a_flare22_folder(tmp_path: Path) -> None:
    dataset = read_dataset("flare22")
    assert len(dataset.base) == 9
    assert len(dataset.roles["test"]) == 22
    for number in range(1, 4):
        image = tmp_path / "train" / "images" / f"FLARE22_Tr_000{number}_0000.nii.gz"
        write(image, an_image(number))
        write(tmp_path / "train" / "labels" / f"FLARE22_Tr_000{number}.nii.gz", labels_with(1, 13))
    small = replace(
        dataset,
        base=("liver", "kidney_left"),
        pretraining=(),
        roles={"shots": dataset.roles["shots"]},
    )
    inventory = take_inventory(small, tmp_path)
    assert problems(inventory) == []
    assert inventory.patients("shots", "kidney_left") == (
        "FLARE22_Tr_0001", "FLARE22_Tr_0002", "FLARE22_Tr_0003",
    )  # fmt: skip
    refused = take_inventory(replace(small, roles=dataset.roles), tmp_path).of("refused")
    assert len(refused) == 22


def test_every_shipped_description_can_be_read() -> None:
    for name in shipped_datasets():
        dataset = read_dataset(name)
        assert dataset.name == name
        assert dataset.licence
        assert dataset.source


# Draws


def test_shots_are_drawn_by_fsefts_rule() -> None:
    pool = [f"s{number:04}" for number in range(35)]
    for k, fold in [(1, 1), (5, 2), (10, 3), (30, 1)]:
        random.seed(fold - 1)
        published = random.sample(pool, min(k + 1, 30))
        draw = draw_shots(pool, k, fold)
        assert (list(draw.shots), draw.validation) == (published[:-1], published[-1])
    # by value, so that a change of Python's generator would be noticed
    assert draw_shots(pool, 2, 1).shots == ("s0024", "s0026")
    assert len(draw_shots(pool, 100, 1).shots) == 29


def test_drawing_leaves_the_global_generator_alone() -> None:
    random.seed(7)
    expected = random.random()
    random.seed(7)
    draw_shots(["a", "b", "c"], 1, 1)
    assert random.random() == expected


@pytest.mark.parametrize(("count", "k", "fold"), [(5, 5, 1), (0, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_a_draw_that_cannot_be_is_refused(count: int, k: int, fold: int) -> None:
    with pytest.raises(InputError):
        draw_shots([str(number) for number in range(count)], k, fold)


def test_the_tasks_of_a_study(a_dataset: Dataset, a_folder: Path) -> None:
    inventory = take_inventory(a_dataset, a_folder)
    tasks = few_shot_tasks(inventory, shots=(1, 3), folds=2, seeds=3)
    assert len(tasks) == 2 * 2 * 2 * 3
    assert tasks == few_shot_tasks(inventory, shots=(1, 3), folds=2, seeds=3)
    for task in tasks:
        assert len(task.draw.shots) == task.k
        drawn = {*task.draw.shots, task.draw.validation}
        assert drawn <= set(inventory.patients("shots", task.organ))
        assert task.test == TEST
        assert task.choices == ("pt_8",)
        assert not drawn & {*task.test, *task.choices}
        assert task.is_novel == (task.organ == "spleen")
    by_seed = {task.seed: task.draw for task in tasks if (task.k, task.fold) == (3, 2)}
    assert len({draw.shots for draw in by_seed.values()}) <= 2  # one per organ


# Who may be seen


@pytest.mark.parametrize(
    ("case", "purpose", "is_allowed"),
    [
        ("pt_1", "pretrain", True),
        ("pt_1", "fit", False),
        ("pt_3", "fit", True),
        ("pt_3", "choose", True),
        ("pt_3", "pretrain", False),
        ("pt_8", "choose", True),
        ("pt_8", "score", False),
        ("pt_9", "score", True),
        ("pt_9", "choose", False),
        ("pt_9", "fit", False),
        ("pt_9", "pretrain", False),
    ],
)
def test_a_role_says_what_a_patient_may_be_used_for(
    a_dataset: Dataset, a_folder: Path, case: str, purpose: Any, is_allowed: bool
) -> None:
    inventory = take_inventory(a_dataset, a_folder)
    if is_allowed:
        assert read_case(inventory, case, purpose).masks
    else:
        with pytest.raises(InputError, match=rf"{case} .* not to be used to {purpose}"):
            read_case(inventory, case, purpose)


def test_pretraining_never_sees_a_novel_organ(a_dataset: Dataset, a_folder: Path) -> None:
    inventory = take_inventory(a_dataset, a_folder)
    assert set(read_case(inventory, "pt_1", "pretrain").masks) == {"liver"}
    with pytest.raises(InputError, match="novel organ 'spleen' is given to pre-training"):
        replace(a_dataset, pretraining=("liver", "spleen"))


def test_a_network_that_has_seen_a_test_patient_is_refused(
    a_dataset: Dataset, a_folder: Path
) -> None:
    inventory = take_inventory(a_dataset, a_folder)
    check_unseen(inventory, ["pt_1", "pt_2", "pt_8"], "the base network")
    with pytest.raises(InputError, match=r"base network has seen 1 patients of role test: pt_10"):
        check_unseen(inventory, ["pt_1", "pt_10"], "the base network")
    with pytest.raises(InputError, match="role shots: pt_3, pt_4"):
        check_unseen(inventory, ["pt_4", "pt_3"], "the choice of lambda")


# Descriptions

ENTRIES: dict[str, Any] = {
    "name": "x",
    "images": ["{case}.nii.gz"],
    "labels": ["{case}_l.nii.gz"],
    "base": ["liver"],
    "names": {"1": "liver"},
}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imagse": []}, "unknown entry 'imagse'"),
        ({"labels": []}, "1 patterns of images, 0 of labels"),
        ({"images": ["ct.nii.gz"]}, "name {case} in it, once"),
        ({"images": ["../{case}.nii.gz"]}, "stay below the data folder"),
        ({"images": ["/{case}.nii.gz"]}, "stay below the data folder"),
        ({"base": []}, "no base organ"),
        ({"novel": ["liver"]}, "'liver' is listed twice"),
        ({"names": {}}, "no names of the label values"),
        ({"case": "("}, "case '('"),
        ({"is_partial": "no"}, "is_partial is 'no'"),
        ({"base": [1]}, "base is [1]"),
        ({"roles": ["a"]}, "roles is ['a']"),
        ({"roles": {"exam": []}}, "role 'exam'"),
        ({"roles": {"test": ["rest"]}}, "test patients are a fixed list"),
        ({"roles": {"shots": ["rest"], "validation": ["rest"]}}, "one other role"),
        ({"roles": {"test": ["a", "a"]}}, "'a' is listed twice"),
    ],
)
def test_a_description_that_makes_no_sense_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refused:
        dataset_from_dict({**ENTRIES, **changes}, "x.json")
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "name": "x"}'])
def test_a_file_that_is_no_description_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "d.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        read_dataset(path)


def test_a_missing_description_lists_those_that_are_shipped() -> None:
    with pytest.raises(InputError, match=r"flare22, openkbp, totalsegmentator-v1"):
        read_dataset("gone")


def test_ranges_go_by_number_and_lists_keep_their_order() -> None:
    present = ["pt_10", "pt_2", "pt_9", "pt_100", "other_9"]
    assert members(("pt_2..pt_10",), present) == (["pt_2", "pt_9", "pt_10"], [])
    assert members(("pt_100", "pt_2", "pt_3"), present) == (["pt_100", "pt_2"], ["pt_3"])


# The command


def test_bench_check_prints_the_inventory(
    a_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    entries = {
        "format": 1, "name": "pairs", "images": ["scans/{case}_ct.nii.gz"],
        "labels": ["scans/{case}_labels.nii.gz"], "case": "pt_[0-9]+",
        "names": {"1": "liver", "2": "spleen"}, "base": ["liver"], "novel": ["spleen"],
        "roles": {"shots": ["rest"], "test": ["pt_9"]},
    }  # fmt: skip
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(entries), encoding="utf-8")
    truncate(a_folder / "scans" / "pt_3_ct.nii.gz")
    assert main(["bench", "check", str(path), "--data", str(a_folder)]) == 0
    out = capfd.readouterr().out
    assert "9 usable cases" in out
    assert "skipped: 1\n  pt_3: pt_3_ct.nii.gz: damaged" in out
    assert "too few for k = 10: spleen has 7 patients" in out
    truncate(a_folder / "scans" / "pt_9_ct.nii.gz")
    assert main(["bench", "check", str(path), "--data", str(a_folder)]) == 2
    captured = capfd.readouterr()
    assert "refused: 1\n  pt_9: a test patient" in captured.out
    assert captured.err.splitlines()[-1].startswith("reglora: dataset pairs: 1 refused")


def test_bench_check_of_a_folder_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "check", "openkbp", "--data", "gone"]) == 2
    assert "gone: no such folder" in capfd.readouterr().err


@pytest.mark.data
def test_the_real_openkbp_folder(data_folder: Path) -> None:
    inventory = take_inventory(read_dataset("openkbp"), data_folder / "openkbp")
    assert problems(inventory) == []
    recorded = json.loads((data_folder / "openkbp" / "patients.json").read_text(encoding="utf-8"))
    assert len(inventory.cases) == len(recorded) == 203
    for name, case in inventory.cases.items():
        drawn = {organ: count for organ, count in recorded[name]["voxels"].items() if count}
        assert case.voxels == drawn, name
    listed = [case for own in inventory.roles.values() for case in own]
    assert sorted(listed) == sorted(inventory.cases)
    tasks = few_shot_tasks(inventory)
    assert len(tasks) == 7 * 3 * 3
    assert not too_few(inventory, (1, 5, 10))
    assert {task.organ for task in tasks if task.is_novel} == {"Larynx", "Esophagus"}
