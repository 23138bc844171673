"""A report as one HTML page that needs nothing else: style and pictures are in it.

It asks no other computer for anything, and its policy forbids it to. Standard library only.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from html import escape
from importlib import resources

from reglora_core.report.document import Document, Picture, Problem, Section
from reglora_core.report.table import Block, Cell, Table

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def to_page(document: Document) -> str:
    """Return a report as the text of an HTML file."""
    style = (resources.files("reglora_core.report") / "page.css").read_text(encoding="utf-8")
    body = [
        f"<header><h1>{escape(document.title)}</h1><p>{escape(document.counts)}.</p></header>",
        *(_contents(document)),
        *(line for section in document.sections for line in _section(section)),
        *(_problem(problem) for problem in document.problems),
    ]
    return "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(document.title)}</title>",
            f"<style>\n{style}</style></head><body><main>",
            *body,
            "</main></body></html>\n",
        )
    )


def _contents(document: Document) -> Iterator[str]:
    yield "<nav>"
    for section in document.sections:
        name = escape(section.heading)
        links = [f'<a href="#{_anchor(section, part.title)}">{escape(part.title)}</a>'
                 for part in section.parts]  # fmt: skip
        yield f"<p><strong>{name}</strong> {' · '.join(links)}</p>"
    if document.problems:
        links = [f'<a href="#{_slug(one.heading)}">{escape(one.heading)}</a>'
                 for one in document.problems]  # fmt: skip
        yield f"<p><strong>Lacking</strong> {' · '.join(links)}</p>"
    yield "</nav>"


def _section(section: Section) -> Iterator[str]:
    yield f"<section><h2>{escape(section.heading)}</h2><p>{escape(section.introduction)}</p>"
    for part in section.parts:
        yield f'<h3 id="{_anchor(section, part.title)}">{escape(part.title)}</h3>'
        yield _picture(part) if isinstance(part, Picture) else "\n".join(_table(part))
    yield "</section>"


def _picture(picture: Picture) -> str:
    title = escape(picture.title, quote=True)
    return (
        "<figure><picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{_data(picture.dark)}">'
        f'<img alt="{title}" src="{_data(picture.light)}"></picture>'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _table(table: Table) -> Iterator[str]:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    yield f'<div class="wide"><table><thead><tr>{head}</tr></thead>'
    for block in table.blocks:
        yield "\n".join(_block(block, len(table.head)))
    yield "</table></div>"
    yield from (f'<p class="note">{escape(note)}</p>' for note in table.notes)


def _block(block: Block, columns: int) -> Iterator[str]:
    yield '<tbody class="published">' if block.is_published else "<tbody>"
    if block.heading:
        heading = escape(block.heading)
        yield f'<tr class="heading"><th colspan="{columns}"><span>{heading}</span></th></tr>'
    for row in block.rows:
        cells = "".join(_cell(cell) for cell in row.cells)
        yield f'<tr><th scope="row">{escape(row.label)}</th>{cells}</tr>'
    yield "</tbody>"


def _cell(cell: Cell) -> str:
    marks = [
        name for name, is_so in (("best", cell.is_best), ("partial", cell.is_partial)) if is_so
    ]
    if cell.verdict:
        marks += ["verdict", _slug(cell.verdict)]
    marked = f' class="{" ".join(marks)}"' if marks else ""
    text = escape(cell.text)
    verdict = f"<span>{escape(cell.verdict)}</span> " if cell.verdict else ""
    return f"<td{marked}>{verdict}{text}</td>"


def _problem(problem: Problem) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in problem.lines)
    heading = f'<h2 id="{_slug(problem.heading)}">{escape(problem.heading)}</h2>'
    return f'<section class="problem">{heading}<ul>{lines}</ul></section>'


def _anchor(section: Section, title: str) -> str:
    return f"{_slug(section.heading)}-{_slug(title)}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9+]+", "-", text.lower()).strip("-")
