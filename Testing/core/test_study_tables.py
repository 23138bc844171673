"""The tables of docs/study.md are those of the fits beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

import study_tables

HEAD = ",".join(study_tables.DECIMALS)


def rows_of(*lines: str) -> list[dict[str, str]]:
    names = HEAD.split(",")
    return [dict(zip(names, line.split(","), strict=True)) for line in lines]


ROWS = rows_of(
    "Larynx,novel,arena+,8,5,1,0,40.00,9,2000,1500,12,75.00,20",
    "Larynx,novel,arena+,8,5,2,1,44.00,9,2000,1700,14,70.83,20",
    "Larynx,novel,arena+,8,10,1,0,50.00,9,2000,1700,18,62.50,20",
    "Larynx,novel,bitfit,,5,1,0,31.25,9,1200,1200,,,20",
)


def test_the_page_says_what_the_fits_say() -> None:
    page = study_tables.PAGE.read_text(encoding="utf-8")
    own = [study_tables.read_fits(study_tables.fits_path(role)) for role in study_tables.ROLES]
    assert min(map(len, own)) > 100
    assert study_tables.with_tables(page, study_tables.tables(*own)) == page


def test_means_deviations_and_columns_are_those_of_the_draws() -> None:
    table = study_tables.tables(ROWS, ROWS)["larynx"]
    assert table[1:] == [
        ["`bitfit`", "1,200", "", "31.2", "", ""],
        ["`arena+`, rank 8", "2,000", "", "42.0 (2.8)", "50.0", "13, 18 of 48"],
    ]


def test_a_mean_over_organs_needs_all_of_them() -> None:
    line = next(
        row for row in study_tables.tables(ROWS, ROWS)["must"] if row[:2] == ["`arena+`", "8"]
    )
    assert line[2:] == ["", "", "", "", "", "42.0 (2.8)", "", "", "", ""]


def test_a_table_without_a_place_is_named() -> None:
    with pytest.raises(ValueError, match="has 0 places for the table 'must'"):
        study_tables.with_tables("", study_tables.tables(ROWS, ROWS))


def test_a_report_is_rounded_and_sorted(tmp_path: Path) -> None:
    path = tmp_path / "fits.csv"
    first = "arena,8,Larynx,novel,5,2,1,40.123,9,20,10,True,50,3,25.006,19.6,a"
    names = (
        "method,initial_rank,organ,kind,k,fold,seed,dice_percent,patients,trainable_parameters,"
        "surviving_parameters,trains_decoder,pruned_percent,surviving_rank,"
        "pruned_columns_percent,seconds,record"
    )
    path.write_text(f"{names}\n{first}\n{first.replace(',2,1,', ',1,0,')}\n", encoding="utf-8")
    assert study_tables.shortened(path).splitlines() == [
        HEAD,
        "Larynx,novel,arena,8,5,1,0,40.12,9,20,10,3,25.01,20",
        "Larynx,novel,arena,8,5,2,1,40.12,9,20,10,3,25.01,20",
    ]
