"""Names, colours and codes of organs."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import pytest

from reglora_core.errors import InputError
from reglora_core.organs import Organ, organ, parse_names

DEMO_ORGANS = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "liver",
    "stomach",
    "pancreas",
    "aorta",
    "inferior_vena_cava",
    "duodenum",
    "spinal_cord",
)


def code_of(found: Organ) -> str:
    return found.terminology.split("~")[2].split("^")[1]


def modifier_of(found: Organ) -> str:
    return found.terminology.split("~")[3]


def test_a_known_organ_has_the_entry_that_slicer_stores() -> None:
    assert organ(5, "liver").terminology == (
        "Segmentation category and type - DICOM master list"
        "~SCT^123037004^Anatomical Structure~SCT^10200004^Liver~^^"
        "~Anatomic codes - DICOM master list~^^~^^"
    )


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("spleen", "78961009"),
        ("kidney_right", "64033007"),
        ("stomach", "69695003"),
        ("pancreas", "15776009"),
        ("aorta", "15825003"),
        ("inferior_vena_cava", "64131007"),
        ("duodenum", "38848004"),
        ("spinal_cord", "2748008"),
        ("gallbladder", "28231008"),
        ("Oesophagus", "32849002"),
        ("lungs", "39607008"),
        ("heart", "80891009"),
        ("Bladder", "89837001"),
        ("brain", "12738006"),
        ("BrainStem", "15926001"),
        ("Parotid Gland Lt", "45289007"),
        ("RightParotid", "45289007"),
        ("mandible", "91609006"),
        ("larynx", "4596009"),
        ("small intestine", "30315005"),
        ("colon", "71854001"),
        ("trachea", "44567001"),
        ("portal vein", "32764006"),
        ("adrenal_gland_left", "23451007"),
        ("vertebrae_L1", "66794005"),
        ("L1 vertebra", "66794005"),
    ],
)
def test_common_organs_carry_their_snomed_code(name: str, code: str) -> None:
    assert code_of(organ(1, name)) == code


def test_the_side_is_a_modifier() -> None:
    assert modifier_of(organ(2, "kidney_right")) == "SCT^24028007^Right"
    assert modifier_of(organ(3, "kidney_left")) == "SCT^7771000^Left"
    assert modifier_of(organ(5, "liver")) == "^^"


@pytest.mark.parametrize(
    "name", ["left kidney", "Kidney_Left", "LeftKidney", "KIDNEY-LEFT", "L kidney"]
)
def test_case_order_and_separators_do_not_matter(name: str) -> None:
    found = organ(3, name)
    assert found.terminology == organ(3, "kidney_left").terminology
    assert found.color == organ(3, "kidney_left").color
    assert found.name == name


def test_the_two_sides_are_told_apart() -> None:
    assert organ(1, "kidney_left").color != organ(1, "kidney_right").color


def test_the_demo_organs_differ_visibly_in_colour() -> None:
    colors = [organ(1, name).color for name in DEMO_ORGANS]
    for first, second in combinations(colors, 2):
        assert sum(abs(a - b) for a, b in zip(first, second, strict=True)) >= 40


def test_an_unknown_organ_gets_a_stable_colour_and_no_code() -> None:
    found = organ(9, "my lesion")
    assert found == Organ(9, "my lesion", found.color, "")
    assert found.color == organ(17, "My_Lesion").color
    assert found.color != organ(9, "my other lesion").color
    assert max(found.color) >= 190  # bright enough to see on a dark scan


def test_names_without_letters_still_get_a_colour() -> None:
    assert organ(1, "---").terminology == ""


def test_names_are_parsed_from_the_command_line() -> None:
    assert parse_names("1=liver, 2 = left  kidney,") == {1: "liver", 2: "left kidney"}


@pytest.mark.parametrize("content", [{"1": "liver", "7": "aorta"}, {"liver": 1, "aorta": 7}])
def test_names_are_parsed_from_json_either_way_round(
    tmp_path: Path, content: dict[str, object]
) -> None:
    file = tmp_path / "naïve names.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    assert parse_names(file) == {1: "liver", 7: "aorta"}
    assert parse_names(str(file)) == {1: "liver", 7: "aorta"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1=liver,spleen", "'spleen' is not a value and a name"),
        ("x=liver", "'x' is not a label value"),
        ("0=background", "'0' is not a label value"),
        ("-1=liver", "'-1' is not a label value"),
        ("65536=liver", "'65536' is not a label value"),
        ("1=", "an organ has an empty name"),
        ("1=liver,1=spleen", "label value 1 is both 'liver' and 'spleen'"),
        ("1=liver,2=liver", "the name 'liver' is given twice"),
    ],
)
def test_names_that_make_no_sense_are_refused(text: str, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        parse_names(text)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not a JSON file"),
        ("[1]", "holds no table"),
        ("{}", "holds no table"),
        ('{"1": true}', "'1' is paired with True"),
        ('{"1": ["liver"]}', "'1' is paired with"),
        ('{"liver": 1, "spleen": 1}', "label value 1 is both"),
        ('{"liver": "spleen"}', "'liver' is not a label value"),
    ],
)
def test_a_names_file_that_makes_no_sense_is_refused(
    tmp_path: Path, content: str, expected: str
) -> None:
    file = tmp_path / "names.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(expected)):
        parse_names(file)


def test_a_names_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json: the names cannot be read"):
        parse_names(tmp_path / "absent.json")
