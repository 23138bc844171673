"""`reglora bench report`: from a study's records to tables, figures and one page."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reglora_core.events import Report, Reporter, ignore
from reglora_core.output import output_folder
from reglora_core.progress import ProgressBar, cancel_on_interrupt
from reglora_core.report.claims import Claim, K, must_hold
from reglora_core.report.cohort import Cohort, cohorts_of
from reglora_core.report.columns import all_columns
from reglora_core.report.document import (
    Document,
    Picture,
    Section,
    counts_of,
    missing_lines,
    problems_of,
)
from reglora_core.report.folder import StudyFolder, read_study_folder
from reglora_core.report.labels import ADAPTIVE, method_label
from reglora_core.report.markdown import to_markdown
from reglora_core.report.page import to_page
from reglora_core.report.paired import Comparison, compare_all
from reglora_core.report.table import Table
from reglora_core.report.tables import (
    claims_table,
    dice_table,
    layer_table,
    paired_table,
    rank_table,
    size_table,
)
from reglora_core.writing import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from reglora_core.pictures.style import Palette

REPORT = "report"
PRINTED = 5  # lines of each list on the terminal; the page has all


@dataclass(frozen=True)
class Drawing:
    """A figure that is still to be drawn, once per palette."""

    file: str
    title: str
    caption: str
    draw: Callable[[Palette], Figure | None]


@dataclass(frozen=True)
class Written:
    """What a report found and where it is."""

    study: StudyFolder
    claims: dict[str, list[Claim]]
    page: Path


def run(options: argparse.Namespace) -> int:
    """Do what `reglora bench report` was asked for; return the exit code."""
    bar = ProgressBar(sys.stderr)
    reporter = Reporter(bar)
    cancel_on_interrupt(reporter)
    written = write_report(options.study, options.out or options.study / REPORT, reporter)
    bar.close()
    sys.stdout.write(summary(written))
    return 0


def write_report(folder: Path, out: Path, report: Report = ignore) -> Written:
    """Read a study's records and write tables, figures and the page.

    Args:
        folder: as `reglora bench run --out` leaves it.
        out: gets report.html, report.md, and a folder of PNG and CSV per dataset and role.
        report: receives progress and a warning per record that is left out; may raise `Cancelled`.

    Raises:
        InputError: there is no usable fit.
        OutputError: a file cannot be written.
    """

    def on_file(done: int, every: int) -> None:
        report("progress", stage="records", step=done, steps=every)

    study = read_study_folder(folder, on_file)
    for unused in (*study.damaged, *study.doubled):
        report("warning", message=f"left out: {unused}")
    claims, sections = {}, []
    with output_folder(out):
        for cohort in cohorts_of(study):
            claims[cohort.name] = must_hold(cohort)
            sections.append(_write_section(cohort, claims[cohort.name], out, report))
        document = Document(
            f"Study {study.name}", counts_of(study), tuple(problems_of(study)), tuple(sections)
        )
        write_text(out / "report.md", to_markdown(document))
        write_text(out / "report.html", to_page(document))
    return Written(study, claims, out / "report.html")


def summary(written: Written) -> str:
    """Return what a report found as text for a terminal."""
    study = written.study
    lines = [f"study {study.name}: {counts_of(study)}"]
    missing = missing_lines(study)
    lines += [f"  missing: {line}" for line in missing[:PRINTED]]
    if len(missing) > PRINTED:
        lines.append(f"  and {len(missing) - PRINTED} cells more; the page lists them")
    for name, claims in written.claims.items():
        lines += ["", f"must hold, {name}:"]
        for claim in claims:
            measured = f": {claim.measured}" if claim.measured else ""
            why = f" ({claim.why})" if claim.why else ""
            lines.append(f"  {claim.verdict:11}  {claim.sentence}{measured}{why}")
    lines += ["", f"page  {written.page}"]
    return "\n".join(lines) + "\n"


def _write_section(cohort: Cohort, claims: list[Claim], out: Path, report: Report) -> Section:
    folder = out / cohort.name
    folder.mkdir(parents=True, exist_ok=True)
    comparisons = compare_all(cohort)
    for columns in all_columns(cohort, comparisons, claims):
        write_text(folder / f"{columns.name}.csv", columns.text())
    plans = list(_parts(cohort, claims, comparisons))
    parts: list[Table | Picture] = []
    for number, part in enumerate(plans, start=1):
        if isinstance(part, Drawing):
            picture = _draw(part, out, cohort.name)
            parts += [picture] if picture else []
        elif not part.is_empty:
            parts.append(part)
        report("progress", stage="report", step=number, steps=len(plans))
    arms, shots = len(cohort.arms()), ", ".join(str(k) for k in cohort.shots)
    introduction = (
        f"{len(cohort.fits)} fits of {arms} methods and ranks to {len(cohort.organs())} organs, "
        f"{shots} shots, scored on {len(cohort.patients)} {cohort.role} patients."
    )
    if cohort.role == "validation":
        introduction += " Choices were made on validation patients: test patients decide."
    return Section(f"{cohort.dataset}, {cohort.role} patients", introduction, tuple(parts))


def _parts(
    cohort: Cohort, claims: list[Claim], comparisons: list[Comparison]
) -> Iterator[Table | Drawing]:
    """Yield tables and figures in the order of the page."""
    yield claims_table(claims)
    yield _rank_drawing(cohort)
    yield rank_table(cohort)
    yield from (dice_table(cohort, kind) for kind in cohort.kinds)
    yield paired_table(cohort, comparisons)
    yield _size_drawing(cohort)
    yield from (size_table(cohort, kind) for kind in cohort.kinds)
    k = K if K in cohort.shots else cohort.shots[-1]
    for method in ADAPTIVE:
        if cohort.ranks(method):
            yield _heat_drawing(cohort, method, k)
            yield layer_table(cohort, method, k)
    yield from _curve_drawings(cohort)


def _rank_drawing(cohort: Cohort) -> Drawing:
    def draw(palette: Palette) -> Figure | None:
        from reglora_core.report.rank_chart import draw_rank_chart

        return draw_rank_chart(cohort, palette)

    caption = (
        "Mean Dice over organs; bars are standard deviations over draws, hollow marks have fits "
        "missing, dashed lines are methods without a rank. Right: the ARENA paper's Figure 1 "
        "(three organs thin, their mean with marks), for comparison of the shape alone."
    )
    return Drawing("dice_by_rank", "Dice against initial rank", caption, draw)


def _size_drawing(cohort: Cohort) -> Drawing:
    def draw(palette: Palette) -> Figure | None:
        from reglora_core.report.size_chart import draw_size_chart

        return draw_size_chart(cohort, palette)

    caption = (
        "Mean Dice over organs against parameters in the network: hollow where training began, "
        "filled what survived; small numbers are initial ranks of ARENA+. Where the decoder is "
        "trained too (novel organs), its parameters are counted."
    )
    return Drawing("dice_by_parameters", "Dice against trainable parameters", caption, draw)


def _heat_drawing(cohort: Cohort, method: str, k: int) -> Drawing:
    def draw(palette: Palette) -> Figure | None:
        from reglora_core.report.heat_map import draw_heat_map

        return draw_heat_map(cohort, method, k, palette)

    caption = (
        "Columns left at the end, mean over draws, on one scale over all initial ranks. An empty "
        "cell is a layer that is not adapted for that organ, or that has no finished fit."
    )
    name = method_label(method)
    title = f"Surviving rank per layer and organ: {name}"
    file = f"surviving_rank_{method.replace('+', '_plus')}"
    return Drawing(file, title, caption, draw)


def _curve_drawings(cohort: Cohort) -> Iterator[Drawing]:
    def losses(palette: Palette) -> Figure | None:
        from reglora_core.report.curves import draw_losses

        return draw_losses(cohort, palette)

    def surviving(palette: Palette) -> Figure | None:
        from reglora_core.report.curves import draw_surviving

        return draw_surviving(cohort, palette)

    caption = "Mean over organs and draws; the band is one standard deviation, of ARENA+ alone."
    yield Drawing("learning_curves", "Learning curves", caption, losses)
    caption = (
        "Columns of all layers, mean over organs and draws; numbers are initial ranks of ARENA+."
    )
    yield Drawing("surviving_rank_curves", "Surviving rank over the training", caption, surviving)


def _draw(drawing: Drawing, out: Path, folder: str) -> Picture | None:
    """Draw and write a figure for light and for dark pages."""
    from reglora_core.pictures.style import DARK, LIGHT, save

    files = []
    for palette, ending in ((LIGHT, ""), (DARK, "_dark")):
        figure = drawing.draw(palette)
        if figure is None:
            return None
        files.append(f"{folder}/{drawing.file}{ending}.png")
        save(figure, out / files[-1])
    light, dark = ((out / file).read_bytes() for file in files)
    return Picture(drawing.title, drawing.caption, files[0], files[1], light, dark)
