"""What a browser makes of a page: its elements, and its text."""

from __future__ import annotations

from html.parser import HTMLParser

EVIL = '"><script>alert("1")</script>\'<img src=x onerror=alert(1)>&amp;'
"""Hostile text, without backticks, which make code of what stands between them."""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, ...]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, *(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(page: str) -> tuple[list[tuple[str, ...]], str]:
    """Each element's name and those of its attributes, in order; and all text."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.elements, reader.text
