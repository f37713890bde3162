"""Pages of HTML that need nothing beside them: tables that sort at a click, and texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

MOST_ROWS = 2000
LONG = 40  # letters of a cell that has lines
STYLE = """
body { font: 14px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 1.5rem; }
h1 { font-size: 1.2rem; font-weight: 600; margin: 0 0 1rem; }
table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid #e3e3e3; text-align: left; vertical-align: top; }
th { position: sticky; top: 0; background: #fff; border-bottom: 2px solid #1f5f99; }
th { cursor: pointer; white-space: nowrap; }
th[aria-sort=ascending]::after { content: " \\2191"; }
th[aria-sort=descending]::after { content: " \\2193"; }
td { white-space: nowrap; }
td.long { white-space: normal; min-width: 20rem; max-width: 40rem; overflow-wrap: anywhere; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tr:hover td { background: #f4f8fb; }
pre { font: 13px/1.45 ui-monospace, monospace; }
p { color: #707070; }
"""
SORT = """
for (const head of document.querySelectorAll("th")) {
  head.addEventListener("click", () => {
    const place = head.cellIndex, body = document.querySelector("tbody");
    const up = head.getAttribute("aria-sort") !== "ascending";
    for (const other of document.querySelectorAll("th")) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const value = row => row.cells[place].dataset.value ?? row.cells[place].textContent;
    const order = (a, b) => value(a).localeCompare(value(b), "en", { numeric: true });
    const numbers = (a, b) => Number(value(a)) - Number(value(b));
    const compare = body.rows.length && body.rows[0].cells[place].className === "number" ? numbers : order;
    body.append(...[...body.rows].sort((a, b) => (up ? 1 : -1) * compare(a, b)));
  });
}
"""


def page(title: str, body: str, script: str = "") -> str:
    """Return a page."""
    code = f"<script>{script}</script>" if script else ""
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body><h1>{escape(title)}</h1>{body}{code}</body></html>\n"


def table_page(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a page with a table of text; columns of numbers are rounded, and hold all digits for sorting."""
    numeric = [is_numeric(row[place] for row in rows) for place in range(len(columns))]
    head = "".join(f"<th>{escape(column.replace('_', ' '))}</th>" for column in columns)
    shown = rows[:MOST_ROWS]
    body = "".join("<tr>" + "".join(map(cell, row, numeric)) + "</tr>" for row in shown)
    more = f"<p>The first {MOST_ROWS} of {len(rows)} rows.</p>" if len(rows) > MOST_ROWS else ""
    return page(title, f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}", SORT)


def source_page(title: str, text: str) -> str:
    """Return a page with a text as it is."""
    return page(title, f"<pre>{escape(text)}</pre>")


def is_numeric(values: Iterable[str]) -> bool:
    """Tell whether a column holds numbers, and perhaps gaps."""
    found = [value for value in values if value != ""]
    return bool(found) and all(as_number(value) is not None for value in found)


def as_number(text: str) -> float | None:
    """Return the number that a text is; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def cell(text: str, numeric: bool) -> str:
    """Return a cell of a table."""
    if not numeric:
        return f'<td class="long">{escape(text)}</td>' if len(text) > LONG else f"<td>{escape(text)}</td>"
    value = as_number(text)
    short = text if value is None or text.lstrip("-").isdecimal() else f"{value:.6g}"
    return f'<td class="number" data-value="{escape(text)}">{escape(short)}</td>'
