"""A report out of parts: one HTML page that needs nothing else, and the same in Markdown with its files beside it.

All text comes from users, labels and errors among it: it is escaped wherever it is written, and the page forbids
itself to fetch anything or to run a script that is not its own.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import soundfile

from cocktail.report.markdown import is_number_column, markdown_table

REPORT_NAME, PAGE_NAME = "report.md", "report.html"


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2

    def html(self) -> str:
        return f"<h{self.level}>{inline(self.text)}</h{self.level}>"

    def markdown(self) -> str:
        return f"{'#' * self.level} {plain(self.text)}"


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands between backticks is code."""

    text: str

    def html(self) -> str:
        return f"<p>{inline(self.text)}</p>"

    def markdown(self) -> str:
        return plain(self.text)


@dataclass(frozen=True)
class Table:
    """Cells of one or more lines: the first is the value, the others say more about it."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    faint: Sequence[str] = ()
    """Headings of columns that are there for comparison."""

    def html(self) -> str:
        classes = []
        for i, heading in enumerate(self.header):
            is_number = i > 0 and is_number_column([row[i].split("\n")[0] for row in self.rows])
            names = [name for name, holds in (("number", is_number), ("faint", heading in self.faint)) if holds]
            classes.append(f' class="{" ".join(names)}"' if names else "")
        head = "".join(
            f'<th scope="col"{kind}><button type="button">{inline(text)}</button></th>'
            for text, kind in zip(self.header, classes, strict=True)
        )
        body = "".join(
            f"<tr>{''.join(f'<td{kind}>{_cell(cell)}</td>' for cell, kind in zip(row, classes, strict=True))}</tr>\n"
            for row in self.rows
        )
        caption = f"<caption>{inline(self.caption)}</caption>" if self.caption else ""
        return (
            f'<div class="wide" tabindex="0"><table>{caption}\n<thead><tr>{head}</tr></thead>\n'
            f"<tbody>\n{body}</tbody></table></div>"
        )

    def markdown(self) -> str:
        rows = [[plain(cell.replace("\n", " ")) for cell in row] for row in self.rows]
        caption = f"{plain(self.caption)}\n\n" if self.caption else ""
        return caption + markdown_table([plain(text) for text in self.header], rows)


@dataclass(frozen=True)
class Picture:
    """A PNG; the name is its file's, without a folder."""

    name: str
    png: bytes
    caption: str

    def html(self) -> str:
        source = _data_uri("image/png", self.png)
        alt = html.escape(self.caption, quote=True)
        return f'<figure><img alt="{alt}" src="{source}"><figcaption>{inline(self.caption)}</figcaption></figure>'

    def markdown(self) -> str:
        return f"![{plain(self.caption)}]({self.name})"


@dataclass(frozen=True)
class Sound:
    """A WAV; the name is its file's, without a folder."""

    name: str
    wav: bytes
    label: str


@dataclass(frozen=True)
class Sounds:
    """Players side by side."""

    sounds: Sequence[Sound]

    def html(self) -> str:
        players = "".join(
            f"<figure><figcaption>{inline(sound.label)}</figcaption>"
            f'<audio controls preload="metadata" src="{_data_uri("audio/wav", sound.wav)}"></audio></figure>\n'
            for sound in self.sounds
        )
        return f'<div class="sounds">{players}</div>'

    def markdown(self) -> str:
        return "\n".join(f"- [{plain(sound.label)}]({sound.name})" for sound in self.sounds)


Simple = Heading | Text | Table | Picture | Sounds


@dataclass(frozen=True)
class Folded:
    """Parts that the page shows when they are asked for."""

    title: str
    parts: Sequence[Simple]

    def html(self) -> str:
        return (
            f"<details><summary>{inline(self.title)}</summary>{''.join(part.html() for part in self.parts)}</details>"
        )

    def markdown(self) -> str:
        return "\n\n".join([f"### {plain(self.title)}", *(part.markdown() for part in self.parts)])


Part = Simple | Folded


def inline(text: str) -> str:
    """Escaped text; what stands between backticks becomes code."""
    return re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text, quote=True))


def plain(text: str) -> str:
    """Text that no viewer of Markdown takes for HTML; code is left as it is, where it is text in any case."""
    pieces = re.split(r"(`[^`\n]+`)", text)
    return "".join(piece if piece.startswith("`") else piece.replace("<", "\\<") for piece in pieces)


def _cell(text: str) -> str:
    value, *more = text.split("\n")
    return inline(value) + "".join(f"<small>{inline(line)}</small>" for line in more)


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def players(name: str, sounds: Sequence[tuple[str, str, np.ndarray]], sample_rate_hz: int) -> Sounds:
    """Of a mixture's sounds: (kind, label, waveform [T] in [-1, 1]), as 16-bit WAV."""
    found = []
    for kind, label, waveform in sounds:
        data = io.BytesIO()
        soundfile.write(data, waveform, sample_rate_hz, format="WAV", subtype="PCM_16")
        found.append(Sound(f"{name}-{kind}.wav", data.getvalue(), label))
    return Sounds(found)


def to_html(title: str, parts: Sequence[Part]) -> str:
    """One page that holds its pictures and sounds, style and script."""
    style, script = (files("cocktail.report").joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    body = "\n".join(part.html() for part in parts)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{html.escape(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{inline(title)}</h1>
{body}
</main>
<script>{script}</script>
</body>
</html>
"""


def to_markdown(title: str, parts: Sequence[Part]) -> str:
    """The same as text, whose pictures and sounds are files beside it."""
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
        elif isinstance(part, Sounds):
            yield from ((sound.name, sound.wav) for sound in part.sounds)
