"""A self-contained HTML page from a title and sections; everything that is text is escaped here."""

import html
from collections.abc import Sequence
from pathlib import Path

from export.errors import ExportError
from export.replace_files import replace_files
from firmware_bridge.errors import BridgeError

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; } td, th { padding: .2rem .9rem .2rem 0; text-align: left; vertical-align: top; }
tr { border-bottom: 1px solid #ddd; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
svg, img { max-width: 100%; height: auto; } p.warning { background: #fff3cd; padding: .5rem .8rem; }
"""


def table_html(header: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """A table; with `numbers`, cells of the second column on that look like numbers are aligned right."""
    lines = [_row("th", header, header, False)] if any(header) else []
    if rows and lines:
        lines = [_row("th", header, rows[0], numbers)]  # a column's head stands over its numbers
    lines += [_row("td", row, row, numbers) for row in rows]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[str], like: Sequence[str], numbers: bool) -> str:
    parts = []
    for index, cell in enumerate(cells):
        text = like[index] if index < len(like) else ""
        number = numbers and index > 0 and text[:1].isdigit() and len(text) < 14
        kind = ' class="number"' if number else ""
        parts.append(f"<{tag}{kind}>{html.escape(cell)}</{tag}>")
    return f"<tr>{''.join(parts)}</tr>"


def warning_html(text: str) -> str:
    """A paragraph that is meant to be seen."""
    return f'<p class="warning">{html.escape(text)}</p>'


def page_html(title: str, sections: Sequence[tuple[str, str]]) -> str:
    """The page; `sections` are (heading, HTML body), the body already escaped."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>\n{content}\n" for heading, content in sections)
    escaped = html.escape(title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escaped}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>{escaped}</h1>\n{body}</body></html>\n"
    )


def replace_text(path: Path, text: str) -> None:
    """Write a file so that a failure leaves the previous one. Raises BridgeError."""
    try:
        replace_files(path.parent, {path.name: text.encode()})
    except ExportError as error:
        raise BridgeError(str(error)) from error
