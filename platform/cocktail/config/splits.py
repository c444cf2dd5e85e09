"""Splits of a data set and parts of them: `train[5%:]` to learn from, `train[:5%]` to choose a checkpoint by.

A part is made of whole recordings, which are drawn by a hash of their names: it stays the same when other recordings
join the data set, and two parts that do not overlap never share a recording.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cocktail.types import UsageError

_PERCENT = r"\d+(?:\.\d+)?"
_FORM = re.compile(rf"(?P<name>[^\[\]]+)(?:\[(?:(?P<first>{_PERCENT})%)?:(?:(?P<last>{_PERCENT})%)?\])?")


@dataclass(frozen=True)
class Split:
    """A split, or the part of its recordings whose hashes lie in [first, last), of 0 to 1."""

    name: str
    first: float = 0.0
    last: float = 1.0

    @classmethod
    def of(cls, text: str) -> Split:
        """The split that `train`, `train[5%:]`, `train[:5%]` or `train[5%:10%]` says. Raises UsageError for others."""
        matched = _FORM.fullmatch(text)
        part = matched and cls(matched["name"], float(matched["first"] or 0) / 100, float(matched["last"] or 100) / 100)
        if not part or not 0 <= part.first < part.last <= 1:
            raise UsageError(
                f"{text!r} is no split: give its name, or a part of its recordings as 'train[5%:]' or 'train[:5%]'"
            )
        return part

    @property
    def is_whole(self) -> bool:
        """Whether it is the split itself."""
        return (self.first, self.last) == (0.0, 1.0)

    def overlaps(self, other: Split) -> bool:
        """Whether recordings may be in both."""
        return self.name == other.name and self.first < other.last and other.first < self.last

    def holds(self, recordings: Sequence[str]) -> np.ndarray:
        """bool [recordings]: which recordings of the split, by name, are in this part."""
        digests = b"".join(hashlib.blake2b(name.encode(), digest_size=4).digest() for name in recordings)
        places = np.frombuffer(digests, "<u4") / 2**32
        return (self.first <= places) & (places < self.last)
