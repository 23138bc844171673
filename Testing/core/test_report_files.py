"""What the report of a study writes and draws: page, Markdown, CSV, tables, figures."""

from __future__ import annotations

import csv
import io
import math
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import numpy as np  # noqa: TID253
import pytest
from matplotlib.figure import Figure  # noqa: TID253
from study_records import (
    DRAWS,
    LAYERS,
    a_low_rank_record,
    a_record,
    cohort_of,
    low_rank,
    row_of,
    scored,
    texts,
    whole_study,
    write,
    write_plan,
)

from reglora_core.cli import main
from reglora_core.pictures.style import DARK, LIGHT
from reglora_core.report.claims import must_hold
from reglora_core.report.cohort import cohorts_of, dice_percent, surviving_rank
from reglora_core.report.columns import all_columns
from reglora_core.report.curves import draw_losses, draw_surviving
from reglora_core.report.fits import Arm, fit_of
from reglora_core.report.folder import read_study_folder
from reglora_core.report.heat_map import draw_heat_map
from reglora_core.report.paired import compare_all
from reglora_core.report.rank_chart import draw_rank_chart
from reglora_core.report.size_chart import LABEL_POINTS, count_label, draw_size_chart
from reglora_core.report.tables import rank_table, size_table

# Files


class _Addresses(HTMLParser):
    """Collects everything that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        names = ("src", "srcset", "href", "data", "poster", "action")
        self.found += [value or "" for name, value in attrs if name in names]


@pytest.fixture(scope="module")
def a_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report on a study of two ranks, with a fit missing."""
    folder = tmp_path_factory.mktemp("study")
    methods = ("zero-shot", "linear-probe", "scratch", "lora", "gates", "arena+")
    organs = (("Mandible",), ("<b>|Larynx",))
    records = list(whole_study((8, 32), (5,), *organs, methods, layers=3))
    write_plan(folder, records)
    for record in records[1:]:
        write(folder, record)
    assert main(["bench", "report", str(folder)]) == 0
    return folder / "report"


def test_the_page_fetches_nothing_and_has_every_picture_in_it(a_report: Path) -> None:
    text = (a_report / "report.html").read_text(encoding="utf-8")
    parser = _Addresses()
    parser.feed(text)
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in parser.found)
    assert parser.tags.isdisjoint({"script", "link", "iframe", "object", "b"})
    assert not re.search(r"https?://|url\(|@import", text)
    pictures = list(a_report.glob("*/*.png"))
    assert text.count("data:image/png;base64,") == len(pictures)
    anchors = {address[1:] for address in parser.found if address.startswith("#")}
    assert anchors == set(re.findall(r'<h[23] id="([^"]+)"', text))


def test_markdown_names_pictures_that_are_there_and_escapes_names(a_report: Path) -> None:
    text = (a_report / "report.md").read_text(encoding="utf-8")
    named = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(named) == 5
    assert all((a_report / name).is_file() for name in named)
    assert "&lt;b>\\|Larynx" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    columns = {len(re.findall(r"(?<!\\)\|", row)) for row in rows if "from scratch" in row}
    assert columns == {4, 9, 10}


def test_pictures_are_png_files_and_nothing_unfinished_is_left(a_report: Path) -> None:
    for path in a_report.glob("*/*.png"):
        content = path.read_bytes()
        assert content[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = struct.unpack(">II", content[16:24])
        assert 800 <= width <= 4000
        assert 300 <= height <= 3000
    names = {path.name for path in a_report.rglob("*")}
    assert not [name for name in names if name.startswith(".") and name != ".reglora.lock"]


def test_a_report_says_what_is_missing_and_prints_the_claims(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [scored(70, fold=fold, seed=seed) for fold, seed in DRAWS]
    write_plan(tmp_path, records)
    for record in records[:2]:
        write(tmp_path, record)
    write(tmp_path, a_record(), "bad").write_text("{")
    assert main(["bench", "report", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert "2 of 3 fits, 1 are missing; 1 damaged, 0 doubled and 0 foreign" in printed.out
    assert "missing: bodies, validation: linear probe, liver, 5-shot: 1 of 3" in printed.out
    assert "left out: bad.json: not JSON" in printed.err
    assert "not decided" in printed.out
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Missing fits: 1" in text
    assert "(fold 3 seed 2)" in text


def test_csv_gives_back_the_numbers(a_report: Path) -> None:
    folder = a_report / "openkbp-validation"
    study = read_study_folder(a_report.parent)
    (cohort,) = cohorts_of(study)
    with (folder / "cases.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    read = {
        (r["method"], r["initial_rank"], r["organ"], r["fold"], r["case"]): float(r["dice_percent"])
        for r in rows
    }
    assert len(read) == sum(len(fit.case_dice) for fit in cohort.fits)
    for fit in cohort.fits:
        rank = str(fit.key.arm.initial_rank or "")
        for case, dice in fit.case_dice.items():
            key = (fit.key.arm.method, rank, fit.key.organ, str(fit.key.draw.fold), case)
            assert read[key] == 100 * dice
    with (folder / "dice.csv").open(encoding="utf-8", newline="") as file:
        means = [r for r in csv.DictReader(file) if (r["kind"], r["organ"]) == ("base", "mean")]
    own = cohort.mean_spread(Arm("arena+", 8), 5, "base", dice_percent)
    ours = [r for r in means if (r["method"], r["initial_rank"]) == ("arena+", "8")]
    assert [float(r["mean"]) for r in ours] == [own.mean]
    with (folder / "published.csv").open(encoding="utf-8", newline="") as file:
        assert {r["data"] for r in csv.DictReader(file)} == {"TotalSegmentator v1, SwinUNETR"}


def test_every_csv_row_is_as_long_as_its_head(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, [low_rank("arena+", 8, 70, 2), low_rank("lora", 8, 70, 8)])
    for columns in all_columns(cohort, compare_all(cohort), must_hold(cohort)):
        lengths = {len(row) for row in csv.reader(io.StringIO(columns.text()))}
        assert lengths == {len(columns.head)}, columns.name


def test_a_name_from_a_record_stays_within_the_folder(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, [a_record(dataset="../../etc/x")])
    assert cohort.name == "etc-x-validation"


# Tables of ranks and parameters, figures


def test_the_table_over_ranks_compares_what_all_arms_have(tmp_path: Path) -> None:
    records = [low_rank("lora", rank, dice, rank, fold=fold, seed=seed)
               for fold, seed in DRAWS for rank, dice in ((8, 60 + fold), (32, 50 + fold))
               if (fold, rank) != (3, 32)]  # fmt: skip
    table = rank_table(cohort_of(tmp_path, records))
    # folds 1 and 2 alone: 61.5 and 51.5
    assert texts(row_of(table, "LoRA")) == [
        "61.5", "51.5", "10.00", "16.0", "64.0", "300", "0",
    ]  # fmt: skip
    assert "over the 2 of 3 organs x draws" in table.notes[1]


def test_an_arm_without_any_fit_does_not_empty_the_table_over_ranks(tmp_path: Path) -> None:
    records = [low_rank(method, 8, 70, 8) for method in ("lora", "gates")]
    write_plan(tmp_path, records)
    table = rank_table(cohort_of(tmp_path, records[:1]))
    assert [row.label for row in table.blocks[0].rows] == ["LoRA"]


def test_parameters_and_columns_are_means_over_organs_and_draws(tmp_path: Path) -> None:
    records = [low_rank("arena+", 8, 70, left, fold=left) for left in (2, 4)]
    records.append(scored(70, fold=2))
    table = size_table(cohort_of(tmp_path, records), "base")
    cells = texts(row_of(table, "ARENA+ (ours), rank 8"))
    # 160 parameters at first; 40 and 80 left; 75 and 50 %
    assert cells[:3] == ["160 ± 0", "60 ± 28", "62.5 ± 17.7"]
    assert cells[3] == "6.0 ± 2.8"
    probe = texts(row_of(table, "linear probe"))
    assert probe[:4] == ["49 (1/2)", "49 (1/2)", "0.0 (1/2)", "\N{EN DASH} (1/2)"]
    assert probe[-1] == "49"


def test_the_rank_chart_draws_the_means(tmp_path: Path) -> None:
    records = [low_rank("lora", rank, 70 - rank / 8, rank, fold=f, seed=s)
               for rank in (8, 32) for f, s in DRAWS]  # fmt: skip
    figure = draw_rank_chart(cohort_of(tmp_path, records), LIGHT)
    assert figure is not None
    first = figure.axes[0].lines[0]
    assert list(first.get_ydata()) == pytest.approx([69, 66])
    assert "OTHER DATA" in figure.axes[-1].get_title(loc="left")


def test_the_heat_map_shows_mean_columns_per_layer_and_organ(tmp_path: Path) -> None:
    records = [
        a_low_rank_record("arena+", 8, ranks, organ=organ, fold=fold)
        for organ, fold, ranks in (
            ("liver", 1, (2, 4, 6)), ("liver", 2, (4, 4, 7)), ("spleen", 1, (1, 0)),
        )
    ]  # fmt: skip
    figure = draw_heat_map(cohort_of(tmp_path, records), "arena+", 5, DARK)
    assert figure is not None
    shown = np.ma.filled(figure.axes[0].images[0].get_array(), math.nan)
    np.testing.assert_allclose(shown, [[3, 1], [4, 0], [6.5, math.nan]])
    layers = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert layers == [*(layer.removesuffix(".conv") for layer in LAYERS), "all layers"]
    assert "13.5" in {text.get_text() for text in figure.axes[0].texts}  # 3 + 4 + 6.5


def test_curves_are_means_at_the_steps_that_all_fits_have(tmp_path: Path) -> None:
    long = [{"step": 5, "loss": 0.8, "surviving_rank": 16},
            {"step": 10, "loss": 0.6, "surviving_rank": 8}]  # fmt: skip
    short = [{"step": 5, "loss": 0.4, "surviving_rank": 12}]
    records = [
        {**low_rank("arena+", 8, 70, 2, fold=1), "curve": long},
        {**low_rank("arena+", 8, 70, 2, fold=2), "curve": short},
    ]
    cohort = cohort_of(tmp_path, records)
    losses, surviving = draw_losses(cohort, LIGHT), draw_surviving(cohort, LIGHT)
    assert losses is not None
    assert surviving is not None
    assert losses.axes[0].lines[0].get_xydata() == pytest.approx(np.array([[5, 0.6]]))
    assert surviving.axes[0].lines[0].get_xydata() == pytest.approx(np.array([[5, 14]]))


def test_a_panel_without_a_finished_fit_says_so(tmp_path: Path) -> None:
    records = [low_rank("lora", 8, 70, 8), low_rank("lora", 8, 70, 8, organ="x", is_novel=True)]
    write_plan(tmp_path, records)
    figure = draw_rank_chart(cohort_of(tmp_path, records[:1]), LIGHT)
    assert figure is not None
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes[:2]]
    assert said == [[], ["no finished fits"]]


def test_the_rank_is_written_where_no_mark_is(tmp_path: Path) -> None:
    records = [low_rank("arena+", 8, 70, 2), low_rank("gates", 8, 70.25, 8)]
    figure = draw_size_chart(cohort_of(tmp_path, records), LIGHT)
    axes = figure.axes[0]
    (label,) = [text for text in axes.texts if text.get_text() == "8"]
    mark, above = (axes.transData.transform((label.xy[0], dice)) for dice in (70, 70.25))
    pixels = LABEL_POINTS * figure.dpi / 72
    assert abs(above[1] - mark[1] - pixels) < pixels  # where it would stand otherwise
    place = mark + np.array(label.xyann) * figure.dpi / 72
    assert math.dist(place, above) >= pixels


def test_numbers_of_parameters_are_short() -> None:
    assert [count_label(n) for n in (49, 17_280, 1_500_000)] == ["49", "17.28 k", "1.5 M"]


def test_a_study_of_one_method_without_a_rank_has_what_can_be_drawn(tmp_path: Path) -> None:
    cohort = cohort_of(tmp_path, [a_record(curve=[])])
    assert draw_rank_chart(cohort, LIGHT) is None
    assert draw_surviving(cohort, LIGHT) is None
    assert draw_losses(cohort, LIGHT) is None
    assert draw_heat_map(cohort, "arena+", 5, LIGHT) is None
    assert isinstance(draw_size_chart(cohort, LIGHT), Figure)
    assert rank_table(cohort).is_empty


def test_a_fit_without_ranks_has_no_surviving_rank() -> None:
    assert math.isnan(surviving_rank(fit_of("probe", a_record())))
    assert surviving_rank(fit_of("ours", a_low_rank_record("arena+", 8, (2, 3)))) == 5
