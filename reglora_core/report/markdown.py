"""A report as Markdown, with its pictures beside it. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator

from reglora_core.report.document import Document, Picture, Section
from reglora_core.report.table import Cell, Table


def to_markdown(document: Document) -> str:
    """Return a report as Markdown text."""
    lines = [f"# {_text(document.title)}", "", f"{_text(document.counts)}.", ""]
    for section in document.sections:
        lines += _section(section)
    for problem in document.problems:
        lines += [f"## {_text(problem.heading)}", ""]
        lines += [f"- {_text(line)}" for line in problem.lines]
        lines.append("")
    return "\n".join(lines)


def _section(section: Section) -> Iterator[str]:
    yield from (f"## {_text(section.heading)}", "", _text(section.introduction), "")
    for part in section.parts:
        yield f"### {_text(part.title)}"
        yield ""
        if isinstance(part, Picture):
            yield from (f"![{_text(part.title)}]({part.file})", "", _text(part.caption), "")
        else:
            yield from _table(part)


def _table(table: Table) -> Iterator[str]:
    yield _row([_text(name) for name in table.head])
    yield _row(["---", *["---:"] * (len(table.head) - 1)])
    for block in table.blocks:
        if block.heading:
            yield _row([f"**{_text(block.heading)}**", *[""] * (len(table.head) - 1)])
        for row in block.rows:
            label = f"*{_text(row.label)}*" if block.is_published else _text(row.label)
            yield _row([label, *(_cell(cell) for cell in row.cells)])
    yield ""
    for note in table.notes:
        yield from (_text(note), "")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    text = _text(cell.text)
    if cell.verdict:
        return f"**{cell.verdict}**: {text}" if text else f"**{cell.verdict}**"
    return f"**{text}**" if cell.is_best else text


def _text(text: str) -> str:
    """Return text in which nothing is a mark of Markdown or HTML, on one line."""
    text = " ".join(text.split()).replace("\\", "\\\\").replace("<", "&lt;")
    for mark in "|*_`[]":
        text = text.replace(mark, f"\\{mark}")
    return text
