"""Splits of data that come without any: whole recordings are dealt to them by a hash of a seed and their names.

A recording's split does not depend on which others there are, so it stays when some are added.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cocktail.types import require


@dataclass(frozen=True, kw_only=True)
class DrawnSplits:
    """How recordings are dealt to splits."""

    val_share: float = 0.1
    """Share of the recordings to choose checkpoints by, 0 to 1."""
    test_share: float = 0.1
    """Share of the recordings to test on, 0 to 1."""
    split_seed: int = 0
    """Seed that splits are drawn with."""

    def __post_init__(self) -> None:
        require(
            min(self.val_share, self.test_share) >= 0 and self.val_share + self.test_share < 1,
            f"val_share {self.val_share:g} and test_share {self.test_share:g} must not be negative, and be less than 1 "
            "together",
        )

    def split_of(self, recording: str) -> str:
        """`test`, `val` or `train`: the former two with the probabilities that are asked for."""
        key = f"split {self.split_seed}".encode()
        digest = hashlib.blake2b(recording.encode(), digest_size=8, key=key).digest()
        place = int.from_bytes(digest, "little") / 2**64
        if place < self.test_share:
            return "test"
        return "val" if place < self.test_share + self.val_share else "train"
