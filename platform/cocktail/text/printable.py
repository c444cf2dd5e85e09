"""Names that strangers gave, made fit for where they are written: a terminal, Markdown, csv, a figure, a file's name.

A label may hold an escape sequence that rewrites a terminal, a line break that ends a table's row, a tag that a page
would run, or a formula that a spreadsheet would. Where a name is looked up it stays as it is; where it is shown, it
passes through here.
"""

from __future__ import annotations

import re
import unicodedata

MAX_FILE_LETTERS = 60
MAX_METRIC_LETTERS = 100

_UNPRINTABLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of Unicode's controls, marks that turn the direction of writing, halves of letters, and line ends."""
_JOINERS = "\u200c\u200d"
"""Format marks that words of Persian or Indian scripts, and families of emoji, are written with."""
_ENTITY = re.compile(r"&(?=#?\w+;)")


def on_one_line(text: str, most_letters: int | None = None) -> str:
    """Text for a terminal or a log: on one line, every control escaped as Python does, and cut where it is longer."""
    if most_letters is not None and len(text) > most_letters:
        text = text[: most_letters - 1].rstrip(" ,.") + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_shown(letter) for letter in text)


def _shown(letter: str) -> str:
    if unicodedata.category(letter) not in _UNPRINTABLE or letter in _JOINERS:
        return letter
    return letter.encode("unicode_escape").decode()


def on_lines(text: str) -> str:
    """Text of several lines of our own for a terminal: the line breaks stay, every other control is escaped."""
    return "\n".join(on_one_line(line) for line in text.split("\n"))


def whole_lines(text: str, most_letters: int) -> str:
    """As many of a text's lines, from the first on, as a place takes; where some are left out, the last says so."""
    if len(text) <= most_letters:
        return text
    rest = "\n\n(more follows in table.md)"
    return text[: text.rfind("\n", 0, most_letters - len(rest)) + 1].rstrip("\n") + rest


def in_markdown(text: str) -> str:
    """Text as a cell or a heading of Markdown: no tag, no link, no code, and no end of the cell."""
    shown = _ENTITY.sub("&amp;", on_one_line(text)).replace("<", "&lt;")
    return re.sub(r"([\\|`\[\]])", r"\\\1", shown)


def in_csv(text: str) -> str:
    """Text as a cell of csv that no spreadsheet takes for a formula: an apostrophe stands before what begins one."""
    shown = on_one_line(text)
    return f"'{shown}" if text[:1] in tuple("=+-@\t\r") else shown


def as_file_name(text: str) -> str:
    """Text as a part of a file's name: small letters of ASCII, digits and dashes, of bounded length, never empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MAX_FILE_LETTERS].strip("-") or "unnamed"


def as_metric_name(text: str) -> str:
    """Text as a part of a metric's name in MLflow: letters of ASCII, digits, dashes, dots, underscores, never empty."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", text.replace(",", "").replace(" ", "_"))[:MAX_METRIC_LETTERS]
    return plain if plain.strip("._") else "unnamed"
