"""The parts of the correction benchmark that can be checked by hand."""

import csv
from pathlib import Path

import pytest
import torch  # noqa: TID253

from bench_corrections import run_all, write_rows
from corrections.rules import RULES, Seen
from corrections.tables import rounds_table, rules_table
from reglora_core.experts import PaintedGrid

PLANES = 40


def seen(painted, first=0, last=PLANES - 1, doubtful=None, differing=None):
    """One organ on the planes first to last, for certain but on one plane; 3 mm apart."""
    fused = torch.zeros(2, PLANES, 3, 3)
    fused[0] = 1
    fused[:, first : last + 1, 1, 1] = torch.tensor([0.0, 1.0])[:, None]
    heads, propagated = fused.clone(), fused.clone()
    if doubtful is not None:
        fused[:, doubtful, 1, 2] = 0.5
    if differing is not None:
        heads[:, differing, 1, 2] = torch.tensor([0.0, 1.0])
    planes = torch.zeros(len(painted), 3, 3, dtype=torch.long)
    planes[:, 1, 1] = 1
    positions = torch.tensor(painted) + 0.5
    paint = PaintedGrid(0, positions, planes, (PLANES, 3, 3), (3.0, 3.0, 3.0), 1)
    is_open = torch.ones(PLANES, dtype=torch.bool)
    is_open[painted] = False
    return Seen(paint, fused, heads, propagated, is_open)


@pytest.mark.parametrize(
    ("rule", "shown", "expected"),
    [
        ("gap", {"painted": [5, 15, 35], "first": 2, "last": 37}, 25),
        ("gap", {"painted": [5, 15], "first": 5, "last": 31}, 23),  # 16 counted twice
        ("even", {"painted": [5, 15], "first": 0, "last": 30}, 25),  # of 5, 15 and 25
        ("confidence", {"painted": [5, 15, 35], "doubtful": 11}, 11),
        ("disagreement", {"painted": [5, 15, 35], "differing": 30}, 30),
        ("confidence", {"painted": list(range(PLANES)), "doubtful": 11}, None),
    ],
)
def test_a_rule_chooses_the_plane_that_its_words_say(rule, shown, expected):
    assert RULES[rule](seen(**shown)) == expected


def rule_row(case, rule, number, dice):
    return {"case": case, "rule": rule, "round": str(number), "whole": str(dice), "off": str(dice)}


def test_rules_are_compared_case_by_case():
    rows = [rule_row(case, "gap", 1, dice) for case, dice in (("a", 0.5), ("b", 0.9))]
    rows += [rule_row(case, "even", 1, dice) for case, dice in (("a", 0.6), ("b", 0.9))]
    table = rules_table(rows)
    assert "2 cases" in table
    assert "| gap | 0.700 |" in table
    assert "| even | 0.750 (+0.050 ± 0.050) |" in table


def test_rounds_show_what_one_slice_changed_near_and_far():
    before = {"round": "0", "painted": "3", "before": "", "after": "0.5", "far_before": ""}
    before |= {"far_after": "", "anew": "", "seconds": "60.0", "case": "a"}
    after = {"round": "1", "painted": "4", "before": "0.5", "after": "0.6", "far_before": "0.4"}
    after |= {"far_after": "0.39", "anew": "", "seconds": "9.0", "case": "a"}
    lines = rounds_table([before, after]).splitlines()
    assert lines[-2] == "| 0 | 3 | 0.500 |  |  |  |  | 60.0 (60.0) |"
    assert lines[-1].startswith("| 1 | 4 | 0.500, 0.600 | +0.100 | 0.400, 0.390 | -0.010 (-0.010)")


def test_finished_cases_are_not_run_again_and_a_failure_loses_nothing(tmp_path: Path):
    write_rows(tmp_path / "done.csv", [{"case": "done", "round": 0}])
    assert run_all({"done": (None, None), "new": (None, None)}, _work, tmp_path, 1) == 0
    assert run_all({"done": (None, None), "bad": (None, "fail")}, _work, tmp_path, 1) == 1
    with (tmp_path / "new.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == [{"case": "new", "round": "0"}]
    assert not (tmp_path / "bad.csv").exists()


def _work(_scan, options):
    if options == "fail":
        message = "it failed"
        raise ValueError(message)
    return [{"case": "new", "round": 0}]
