"""Tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from cocktail.metrics.intervals import Interval
from cocktail.text.printable import in_markdown, on_one_line

INTERVAL = "95 % interval, by recording"
"""Header of intervals of `cocktail.metrics.intervals`."""
NOT_KNOWN = "not known"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, are_markup: bool = False) -> str:
    """Cells as an aligned Markdown table: numbers to the right, text and the first column to the left.

    Cells are text, of which nothing acts; with `are_markup`, Markdown already.
    """
    fit = _in_a_cell if are_markup else in_markdown
    cells = [[fit(cell) for cell in row] for row in (header, *rows)]
    columns = list(zip(*cells, strict=True))
    widths = [max(map(len, column)) for column in columns]
    are_numbers = [False, *(is_number_column(column[1:]) for column in columns[1:])]

    def line(row: list[str]) -> str:
        padded = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(row, widths, are_numbers, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rules = ["-" * (width + 1) + ("-", ":")[is_number] for width, is_number in zip(widths, are_numbers, strict=True)]
    return "\n".join([line(cells[0]), f"|{'|'.join(rules)}|", *(line(row) for row in cells[1:])])


def _in_a_cell(markup: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", on_one_line(markup))


def is_number_column(cells: Sequence[str]) -> bool:
    """Whether each of a column's cells is a number, begins with one, or is empty."""
    return all(cell[:1] in "+-0123456789" for cell in cells)


def to_markdown(table: pa.Table, titles: Mapping[str, str]) -> str:
    """A table as Markdown, with the titles of columns that have one and the names of the others in words."""
    header = [titles.get(name, name.replace("_", " ")) for name in table.column_names]
    return markdown_table(header, [[format_cell(value) for value in row.values()] for row in table.to_pylist()])


def format_cell(value: str | int | float | None) -> str:
    """Two decimals for what is not whole; nothing for what is not there."""
    if value is None or value != value:  # not a number
        return ""
    return format_decimals(value) if isinstance(value, float) else str(value)


def format_decimals(value: float, digits: int = 2) -> str:
    """A number with so many decimals; what rounds to zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def format_interval(interval: Interval | None, why_none: str) -> str:
    """Two decimals, or why there is no interval."""
    return why_none if interval is None else f"{format_cell(interval.low)} to {format_cell(interval.high)}"


def format_count(number: int | None) -> str:
    return NOT_KNOWN if number is None else str(number)
