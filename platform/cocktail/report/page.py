"""A report out of parts: one HTML page that needs nothing else, and the same in Markdown with its files beside it.

All text comes from users, labels and errors among it: the templates escape all that they are given, and the page
forbids itself to fetch anything or to run a script that is not its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import jinja2
import numpy as np
import soundfile
from markupsafe import Markup

from cocktail.report.markdown import is_number_column, markdown_table
from cocktail.text.printable import on_lines

REPORT_NAME, PAGE_NAME = "report.md", "report.html"
_ENDS_CELL = {"|", "\\"}


@dataclass(frozen=True)
class Heading:
    template: ClassVar = "heading.html"
    text: str
    level: int = 2

    def markdown(self) -> str:
        return f"{'#' * self.level} {plain(self.text)}"


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands between backticks is code."""

    template: ClassVar = "text.html"
    text: str

    def markdown(self) -> str:
        return plain(self.text)


@dataclass(frozen=True)
class Table:
    """Cells of one or more lines: the first is the value, the others say more about it."""

    template: ClassVar = "table.html"
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    faint: Sequence[str] = ()
    """Headings of columns that are there for comparison."""

    @property
    def css_classes(self) -> list[str]:
        """Names of CSS classes, a string a column."""
        styles = []
        for i, heading in enumerate(self.header):
            is_number = i > 0 and is_number_column([row[i].split("\n")[0] for row in self.rows])
            styles.append(" ".join(["number"] * is_number + ["faint"] * (heading in self.faint)))
        return styles

    def markdown(self) -> str:
        rows = [[plain(cell.replace("\n", " ")) for cell in row] for row in self.rows]
        caption = f"{plain(self.caption)}\n\n" if self.caption else ""
        return caption + markdown_table([plain(text) for text in self.header], rows, are_markup=True)


@dataclass(frozen=True)
class Picture:
    """A PNG; the name is its file's, without a folder."""

    template: ClassVar = "picture.html"
    name: str
    png: bytes
    caption: str

    def markdown(self) -> str:
        return f"![{plain(self.caption)}]({self.name})"


@dataclass(frozen=True)
class Pictures:
    """Small pictures side by side, as many in a row as there is room for."""

    template: ClassVar = "pictures.html"
    pictures: Sequence[Picture]

    def markdown(self) -> str:
        return "\n\n".join(picture.markdown() for picture in self.pictures)


@dataclass(frozen=True)
class Sound:
    """A WAV, or what else a browser plays; the name is its file's, without a folder."""

    name: str
    data: bytes
    label: str
    media_type: str = "audio/wav"


@dataclass(frozen=True)
class Sounds:
    """Players side by side."""

    template: ClassVar = "sounds.html"
    sounds: Sequence[Sound]

    def markdown(self) -> str:
        return "\n".join(f"- [{plain(sound.label)}]({sound.name})" for sound in self.sounds)


Simple = Heading | Text | Table | Picture | Pictures | Sounds


@dataclass(frozen=True)
class Folded:
    """Parts that the page shows when they are asked for."""

    template: ClassVar = "folded.html"
    title: str
    parts: Sequence[Simple]

    def markdown(self) -> str:
        return "\n\n".join([f"### {plain(self.title)}", *(part.markdown() for part in self.parts)])


Part = Simple | Folded


def inline(text: str) -> Markup:
    """Escaped text; what stands between backticks becomes code."""
    code = Markup("<code>{}</code>")
    return Markup().join(code.format(piece) if is_code else piece for piece, is_code in _pieces(text))


def plain(text: str) -> str:
    """Text in which no viewer of Markdown finds HTML, a link or a picture; code is left as it is, where it is text in
    any case, unless it could end the cell of a table."""
    pieces = _pieces(on_lines(text))
    return "".join(
        f"`{piece}`" if is_code and not _ENDS_CELL & set(piece) else _escaped(f"`{piece}`" if is_code else piece)
        for piece, is_code in pieces
    )


def _escaped(text: str) -> str:
    return re.sub(r"[\\`<|\[\]]", r"\\\g<0>", text)


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Pieces of a text, and whether each stood between backticks, which are left out."""
    return ((piece, i % 2 == 1) for i, piece in enumerate(re.split(r"`([^`\n]+)`", text)))


def _data_uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def players(name: str, sounds: Sequence[tuple[str, str, np.ndarray]], sample_rate_hz: int) -> Sounds:
    """Players of a mixture's sounds (kind, label, waveform [T] in [-1, 1]), as 16-bit WAV."""
    encoded = []
    for kind, label, waveform in sounds:
        data = io.BytesIO()
        soundfile.write(data, waveform, sample_rate_hz, format="WAV", subtype="PCM_16")
        encoded.append(Sound(f"{name}-{kind}.wav", data.getvalue(), label))
    return Sounds(encoded)


_FOLDER = Path(__file__).parent
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader([_FOLDER / "templates", _FOLDER]),  # style and script lie beside this file
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {"inline": inline, "data_uri": _data_uri}


def to_html(title: str, parts: Sequence[Part]) -> str:
    """One page that holds its pictures and sounds, style and script."""
    script = _TEMPLATES.get_template("page.js").render()
    script_hash = "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return _TEMPLATES.get_template("page.html").render(title=title, parts=parts, script_hash=script_hash)


def to_markdown(title: str, parts: Sequence[Part]) -> str:
    """The page as text, whose pictures and sounds are files beside it."""
    return "\n\n".join([f"# {plain(title)}", *(part.markdown() for part in parts)]) + "\n"


def store_report(folder: Path, title: str, parts: Sequence[Part]) -> None:
    """Write report.html, report.md and the files that the latter shows."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in _files(parts):
        (folder / name).write_bytes(data)
    (folder / REPORT_NAME).write_text(to_markdown(title, parts), "utf-8")
    (folder / PAGE_NAME).write_text(to_html(title, parts), "utf-8")


def _files(parts: Sequence[Part]) -> Iterator[tuple[str, bytes]]:
    for part in parts:
        if isinstance(part, Folded):
            yield from _files(part.parts)
        elif isinstance(part, Picture):
            yield part.name, part.png
        elif isinstance(part, Pictures):
            yield from _files(part.pictures)
        elif isinstance(part, Sounds):
            yield from ((sound.name, sound.data) for sound in part.sounds)
