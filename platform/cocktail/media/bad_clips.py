"""Reasons why a clip is set aside: a fixed set of them to count by, and what exactly is wrong."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "missing file",
    "undecodable file name",
    "duplicate row",
    "empty truth",
    "empty file",
    "not media",
    "truncated",
    "no audio track",
    "no video track",
    "too short",
    "too long",
    "too costly",
    "sample rate out of range",
    "silent",
    "channels cancel",
    "off scale",
    "clipped",
    "not finite",
    "picture too large",
    "bad picture",
    "bad mask",
    "decode error",
    "incomplete mixture",
]
"""The first four are known when the data set is indexed."""


class BadClip(ValueError):  # noqa: N818 - a verdict on the data, not a fault of the program
    """A clip that cannot be used."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type[BadClip], tuple[Reason, str]]:
        return type(self), (self.reason, self.detail)
