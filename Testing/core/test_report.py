"""The report of a study on made-up records: its numbers by hand, its gaps by name."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from study_records import (
    DRAWS,
    Record,
    a_low_rank_record,
    a_record,
    cohort_of,
    low_rank,
    name_of,
    row_of,
    scored,
    texts,
    write,
    write_plan,
)

from reglora_core.cli import main
from reglora_core.report.claims import Claim, must_hold, over_ranks
from reglora_core.report.cohort import cohorts_of, dice_percent
from reglora_core.report.document import missing_lines
from reglora_core.report.fits import Arm
from reglora_core.report.folder import read_study_folder
from reglora_core.report.paired import compare_all, holm, signed_rank_p
from reglora_core.report.tables import dice_table

# Means and deviations


def test_mean_and_deviation_are_over_draws_and_the_mean_over_organs_is_per_draw(
    tmp_path: Path,
) -> None:
    dice = {"liver": (70, 74, 78), "spleen": (50, 60, 70)}
    records = [
        scored(value, organ=organ, fold=fold, seed=seed)
        for organ, values in dice.items()
        for value, (fold, seed) in zip(values, DRAWS, strict=True)
    ]
    cohort = cohort_of(tmp_path, records)
    arm = Arm("linear-probe")
    liver = cohort.organ_spread(arm, 5, "liver", dice_percent)
    # deviations -4, 0, 4: sqrt(32 / 2) = 4
    assert (liver.mean, liver.deviation) == pytest.approx((74, 4))
    mean = cohort.mean_spread(arm, 5, "base", dice_percent)
    # per draw 60, 67, 74: deviations -7, 0, 7
    assert (mean.mean, mean.deviation, mean.count) == (pytest.approx(67), pytest.approx(7), 3)
    assert texts(row_of(dice_table(cohort, "base"), "linear probe")) == [
        "74.0 ± 4.0", "60.0 ± 10.0", "67.0 ± 7.0",
    ]  # fmt: skip


def test_a_gap_is_counted_and_the_mean_over_organs_leaves_its_draw_out(tmp_path: Path) -> None:
    records = [
        scored(dice, organ=organ, fold=fold, seed=seed)
        for organ, dice in (("liver", 80), ("spleen", 40))
        for fold, seed in DRAWS
        if (organ, fold) != ("spleen", 2)
    ]
    records += [scored(50, method="bitfit", organ=o, fold=f, seed=s)
                for o in ("liver", "spleen") for f, s in DRAWS]  # fmt: skip
    table = dice_table(cohort_of(tmp_path, records), "base")
    probe = row_of(table, "linear probe")
    assert texts(probe) == ["80.0 ± 0.0", "40.0 ± 0.0 (2/3)", "60.0 ± 0.0 (2/3)"]
    assert [cell.is_partial for cell in probe.cells] == [False, True, True]
    # the highest without gaps: a mean with gaps is not compared
    assert [cell.is_best for cell in probe.cells] == [True, False, False]
    assert [cell.is_best for cell in row_of(table, "BitFit").cells] == [False, True, True]


def test_an_organ_without_any_fit_gives_no_mean(tmp_path: Path) -> None:
    probe = [scored(80, organ="liver", fold=f, seed=s) for f, s in DRAWS]
    other = [scored(50, method="bitfit", organ=o, fold=1, seed=0) for o in ("liver", "spleen")]
    table = dice_table(cohort_of(tmp_path, probe + other), "base")
    assert texts(row_of(table, "linear probe"))[1:] == [
        "\N{EN DASH} (0/3)", "\N{EN DASH} (0/3)",
    ]  # fmt: skip


def test_base_and_novel_organs_and_shots_stand_apart(tmp_path: Path) -> None:
    records = [
        scored(70, organ="liver", k=1),
        scored(80, organ="liver", k=5),
        scored(30, organ="larynx", is_novel=True, k=5),
    ]
    cohort = cohort_of(tmp_path, records)
    base, novel = dice_table(cohort, "base"), dice_table(cohort, "novel")
    assert (base.head, novel.head) == (("method", "liver", "mean"), ("method", "larynx", "mean"))
    assert [block.heading for block in base.blocks if not block.is_published] == [
        "1-shot", "5-shot",
    ]  # fmt: skip


# Paired tests


def test_the_signed_rank_test_is_wilcoxons() -> None:
    # ranks 1..5 all positive: 2 of the 2^5 signs are as extreme
    assert signed_rank_p([0.1, 0.2, 0.3, 0.4, 0.5]) == pytest.approx(2 / 32)
    # only rank 1 negative, T = 1: sums 0 and 1, two-sided 4 of 32
    assert signed_rank_p([-0.1, 0.2, 0.3, 0.4, 0.5, 0.0]) == pytest.approx(4 / 32)
    assert signed_rank_p([0.0, 0.0]) == 1.0


def test_holms_correction_steps_down() -> None:
    # sorted .01 .02 .03 .5: 4 x .01, 3 x .02, 2 x .03 (not below .06), 1 x .5
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def paired_records() -> list[Record]:
    """ARENA+ above LoRA by 1, 2, 3, 4, 5 points in five patients, twice; LoRA lacks one fit."""
    records = []
    for organ in ("liver", "spleen"):
        ours = {f"pt_{n}": 0.5 + n / 100 for n in range(1, 6)}
        records.append(a_low_rank_record("arena+", 8, (2,), organ=organ, case_dice=ours))
        other = dict.fromkeys(ours, 0.5)
        if organ == "liver":
            other = {**other, "pt_9": 0.1}  # a patient that only one has is no pair
        records.append(a_low_rank_record("lora", 8, (8,), organ=organ, case_dice=other))
        records.append(a_record(organ=organ, case_dice=dict.fromkeys(ours, 0.5)))
    records.append(a_low_rank_record("lora", 32, (32,), case_dice={"pt_1": 0.5}))
    records.append(a_low_rank_record("arena+", 8, (2,), fold=2, case_dice={"pt_1": 0.9}))
    return records


def test_pairs_are_the_same_patient_organ_and_draw(tmp_path: Path) -> None:
    comparisons = compare_all(cohort_of(tmp_path, paired_records()))
    assert [(one.ours, one.other) for one in comparisons] == [
        (Arm("arena+", 8), Arm("linear-probe")),
        (Arm("arena+", 8), Arm("lora", 8)),
    ]  # LoRA at 32 has no ARENA+ at 32 beside it
    one = comparisons[1]
    assert one.difference == pytest.approx(3)
    assert (one.pairs, one.patients, one.fits, one.expected_fits) == (10, 5, 2, 4)
    assert one.p_patients == pytest.approx(2 / 32)
    assert one.holm_patients == pytest.approx(4 / 32)  # two comparisons
    assert one.p_pairs == pytest.approx(2 / 2**10, rel=0.5)  # ties among the ten
    low, high = one.interval
    assert 1 < low < 3 < high < 5


# What must hold


def claims_for(folder: Path, ours: dict[int, tuple[float, int]], **extra: Any) -> list[Claim]:
    """Return claims of ARENA+ with (dice, columns per layer) by rank; LoRA at 70, gates at 71."""
    records = []
    for fold, seed in DRAWS:
        draw = {"fold": fold, "seed": seed, **extra}
        for rank, (dice, left) in ours.items():
            records.append(low_rank("arena+", rank, dice, left, **draw))
            records.append(low_rank("lora", rank, 70 - rank / 100, rank, **draw))
            records.append(low_rank("gates", rank, 71, rank, **draw))
    return must_hold(cohort_of(folder, records))


def test_claims_at_their_limits_pass(tmp_path: Path) -> None:
    claims = claims_for(tmp_path, {8: (71.0, 4), 32: (70.7, 4), 64: (70.75, 4)})
    assert [claim.verdict for claim in claims] == ["passed"] * 6
    assert claims[0].measured.startswith("0.30 points")
    assert claims[1].measured.startswith("70.70 against 69.92")
    assert claims[2].measured == "0 % (columns left: 8: 8.0, 32: 8.0, 64: 8.0)"
    assert claims[3].measured == "50 % of the parameters, 0.00 points lost"
    assert claims[4].measured == "88 % of the parameters, 0.30 points lost"


@pytest.mark.parametrize(
    ("ours", "missed"),
    [
        ({8: (72.0, 4), 32: (70.9, 4), 64: (71.0, 4)}, {0}),  # 1.1 points
        ({8: (69.9, 4), 32: (70.5, 4), 64: (70.8, 4)}, {1, 3, 4}),  # below LoRA's 69.92
        ({8: (71, 4), 32: (71, 5), 64: (71, 5)}, {2}),  # 25 % more
        ({8: (71, 5), 32: (71, 5), 64: (71, 5)}, {3}),  # 3 of 8 pruned
    ],
)
def test_claims_that_do_not_hold_are_missed(
    tmp_path: Path, ours: dict[int, tuple[float, int]], missed: set[int]
) -> None:
    claims = claims_for(tmp_path, ours)
    assert {number for number, one in enumerate(claims) if one.verdict == "missed"} == missed


def test_other_initial_ranks_are_no_part_of_the_claims(tmp_path: Path) -> None:
    ours = {4: (50.0, 1), 8: (71.0, 4), 32: (70.7, 4), 64: (70.75, 4)}
    claims = claims_for(tmp_path, ours)  # 4 would vary by 21 points, and lies below LoRA
    assert [claim.verdict for claim in claims] == ["passed"] * 6


def test_with_a_fit_missing_no_claim_that_needs_it_is_decided(tmp_path: Path) -> None:
    claims_for(tmp_path, {8: (71.0, 4), 32: (70.7, 4), 64: (70.75, 4)})
    next((tmp_path / "fits").glob("arena+-r32*")).unlink()
    (cohort,) = cohorts_of(read_study_folder(tmp_path))
    claims = must_hold(cohort)
    decided = [number for number, one in enumerate(claims) if one.verdict != "not decided"]
    assert decided == [3, 5]  # pruning from ranks 8 and 64
    assert claims[0].why == "only 2 of 3 organs x draws are finished in every arm"


def test_a_rank_or_method_that_the_study_lacks_leaves_claims_open(tmp_path: Path) -> None:
    claims = claims_for(tmp_path / "ranks", {8: (71.0, 4), 32: (70.7, 4)})
    assert claims[0].why == "no fits of initial rank 64"
    alone = must_hold(cohort_of(tmp_path / "methods", [scored(70)]))
    assert alone[1].why == ("no fits of ARENA+ (ours) and LoRA at k = 5 and initial rank 8, 32, 64")
    assert [claim.sentence.rpartition(": ")[2] for claim in alone[3:]] == [
        "initial rank 8", "initial rank 32", "initial rank 64",
    ]  # fmt: skip
    assert {claim.verdict for claim in alone} == {"not decided"}


def test_parameters_of_a_trained_decoder_do_not_count_as_unpruned(tmp_path: Path) -> None:
    records = [
        {**low_rank("arena+", 8, 70, 2), "organ": "liver"},
        {**low_rank("arena+", 8, 70, 2), "organ": "larynx", "is_novel": True,
         "trainable_parameters": 10_160, "surviving_parameters": 10_040,
         "settings": {"trains_decoder": True}},
    ]  # fmt: skip
    (row,) = over_ranks(cohort_of(tmp_path, records), 5, ["arena+"])
    assert row.pruned == {8: pytest.approx(75)}  # 40 of 160, the liver alone
    assert row.pruned_columns == {8: pytest.approx(75)}


# Records that are missing, damaged, doubled or of another study


DAMAGE: dict[str, tuple[Any, str]] = {
    "cut short": ('{"format": 1, "dat', "not JSON: damaged or cut short"),
    "no object": ("[1]", "not a JSON object"),
    "newer": (a_record(format=2), "format is 2, not 1"),
    "no organ": ({**a_record(), "organ": None}, "no organ"),
    "text for a number": (a_record(k="5"), "k is '5'"),
    "true for a number": (a_record(fold=True), "fold is True"),
    "NaN": (json.dumps(a_record(seconds=math.nan)), "seconds is nan"),
    "percent": (
        a_record(case_dice={"pt_1": 80.0}, dice=0.8),
        "case_dice of pt_1 is 80.0, not from 0 to 1",
    ),
    "no case": (a_record(case_dice={}, dice=0.5), "case_dice is empty"),
    "another mean": (a_record(dice=0.71), "dice is not the mean of case_dice"),
    "another role": (a_record(role="shots"), "role is 'shots'"),
    "a curve of numbers": (a_record(curve=[1, 2]), "a point of the curve is 1"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_is_named_and_left_out(tmp_path: Path, kind: str) -> None:
    content, why = DAMAGE[kind]
    write(tmp_path, a_record(organ="spleen"))
    path = write(tmp_path, a_record(), "bad")
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    study = read_study_folder(tmp_path)
    assert [str(one) for one in study.damaged] == [f"bad.json: {why}"]
    assert [fit.key.organ for fit in study.fits] == ["spleen"]


def test_without_a_plan_every_combination_is_expected(tmp_path: Path) -> None:
    for record in (
        low_rank("lora", 8, 70, 8),
        low_rank("lora", 8, 70, 8, organ="larynx", is_novel=True, fold=2, seed=1),
        a_record(method="zero-shot"),
    ):
        write(tmp_path, record)
    study = read_study_folder(tmp_path)
    assert not study.is_planned
    assert missing_lines(study) == [
        "bodies, validation: zero-shot, liver, 5-shot: 1 of 2 (fold 2 seed 1)",
        "bodies, validation: LoRA, rank 8, liver, 5-shot: 1 of 2 (fold 2 seed 1)",
        "bodies, validation: LoRA, rank 8, larynx, 5-shot: 1 of 2 (fold 1 seed 0)",
    ]  # zero-shot has no novel organ


def test_a_plan_says_which_records_count_and_which_are_missing(tmp_path: Path) -> None:
    planned = [scored(70, fold=fold, seed=seed) for fold, seed in DRAWS]
    write_plan(tmp_path, planned, skipped=["skipped: zero-shot of larynx"])
    write(tmp_path, planned[0])
    write(tmp_path, planned[1], "a-copy-with-other-settings")
    write(tmp_path, scored(10, organ="spleen"), name_of(planned[2]))
    study = read_study_folder(tmp_path)
    assert (study.is_planned, study.name) == (True, "small")
    assert [fit.key.draw.fold for fit in study.fits] == [1]
    assert [str(one) for one in study.foreign] == [
        "a-copy-with-other-settings.json: not a fit of this study, or made with other settings",
        f"{name_of(planned[2])}.json: says it is another fit than the study's plan has under "
        "this name",
    ]
    assert missing_lines(study) == [
        "bodies, validation: linear probe, liver, 5-shot: 2 of 3 (fold 2 seed 1, fold 3 seed 2)"
    ]
    assert study.skipped == ("skipped: zero-shot of larynx",)


def test_studies_that_share_a_folder_are_reported_together(tmp_path: Path) -> None:
    base, novel = [scored(70)], [scored(40, organ="larynx", is_novel=True)]
    write_plan(tmp_path, base, name="base organ")
    write_plan(tmp_path, novel, name="novel organ", skipped=["skipped: zero-shot of larynx"])
    write(tmp_path, base[0])
    study = read_study_folder(tmp_path)
    assert study.name == "base organ; novel organ"
    assert study.foreign == ()
    assert [key.organ for _, key in study.missing] == ["larynx"]
    assert study.skipped == ("skipped: zero-shot of larynx",)


def test_doubled_records_count_once_and_not_at_all_where_they_disagree(tmp_path: Path) -> None:
    write(tmp_path, scored(70), "first")
    write(tmp_path, scored(70), "second")
    write(tmp_path, scored(50, organ="spleen"), "third")
    write(tmp_path, scored(51, organ="spleen"), "fourth")
    study = read_study_folder(tmp_path)
    assert [fit.name for fit in study.fits] == ["first"]
    said = [str(one) for one in study.doubled]
    assert said[0] == "second.json: the same result as first.json"
    assert [one.split(":")[0] for one in said[1:]] == ["fourth.json", "third.json"]
    assert "one of 2 files that disagree on linear-probe, spleen, k = 5" in said[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"no finished fit \(0 records in fits/\); run `reglora bench run` first"),
        ("{", r"none of 1 records can be used, the first: bad.json: not JSON"),
    ],
)
def test_a_study_without_a_usable_fit_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    if content is not None:
        write(tmp_path, a_record(), "bad").write_text(content)
    assert main(["bench", "report", str(tmp_path)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("reglora:")]
    assert len(lines) == 1
    assert re.search(message, lines[0])
    assert not (tmp_path / "report").exists()


def test_a_damaged_plan_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, a_record())
    write_plan(tmp_path, [a_record()], fits={"a": {"method": "lora"}})
    assert main(["bench", "report", str(tmp_path)]) == 2
    assert "small.json: the study's plan is damaged (no role)" in capsys.readouterr().err


# The papers' numbers


def test_published_numbers_stand_below_and_say_that_they_are_of_other_data(
    tmp_path: Path,
) -> None:
    table = dice_table(cohort_of(tmp_path, [scored(70)]), "base")
    published = table.blocks[-1]
    assert published.is_published
    assert published.heading.startswith("published, other data: TotalSegmentator v1, SwinUNETR")
    by_label = {row.label: texts(row)[-1] for row in published.rows}
    assert (by_label["ARENA, rank 8"], by_label["zero-shot"]) == ("76.8", "72.1")


def test_on_the_papers_data_set_numbers_are_not_called_other(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, [scored(70, dataset="totalsegmentator-v1")])
    assert "other data" not in dice_table(cohort, "base").blocks[-1].heading
    novel = [scored(70, organ="heart", is_novel=True, k=10)]
    row = row_of(dice_table(cohort_of(tmp_path / "novel", novel), "novel"), "LoRA + decoder "
                 "(lung 26.2, gluteus 69.9)")  # fmt: skip
    assert texts(row) == ["76.1", "57.4"]
