"""Mixtures whose sources are to be localized: what is known of where these are, and which of them do not count.

Shape letters: B mixtures, N sources, K pictures of a mixture, H and W height and width of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from cocktail.types import NO_CLASS, Negative

NO_TRUTH, EMPTY_TRUTH, SAME_CLASS = "no truth", "empty truth", "same class as another source"
NEGATIVE = "negative"
EXCLUDED = (NEGATIVE, NO_TRUTH, EMPTY_TRUTH, SAME_CLASS)
"""What sounds is not in the picture, as a test wants it; nobody said where the source is; the truth has no pixel in the
picture; or a name does not tell it from another source. The first three leave a mixture without scores, the last counts
in PIAP, but not in CAP and CIoU."""


@dataclass(frozen=True, kw_only=True)
class LocalizedMixtures:
    """B mixtures of N sources each, and what is known of where these are."""

    mixture_ids: Sequence[str]
    class_ids: Tensor
    """int64 [B, N]."""
    truths: Tensor
    """bool [B, N, H, W]: each source in its own picture, or, if there is one for all, in that."""
    has_truth: Tensor
    """bool [B, N]."""
    num_pictures: int
    """K: N, or 1."""
    recordings: Sequence[Sequence[str]] | None = None
    """B times N names, of each source's recording, as those of a `MixtureBatch`."""
    labels: Tensor | None = None
    """bool [B, N, C], all classes of each source, as those of a `MixtureBatch`."""
    negatives: Sequence[Negative | None] | None = None
    """B, of which some are negatives, as those of a `MixtureBatch`."""

    def __post_init__(self) -> None:
        B, N = self.class_ids.shape
        if self.num_pictures not in (1, N):
            raise ValueError(f"{self.num_pictures} pictures of {N} sources: there are as many, or one for all")
        if len(self.mixture_ids) != B or self.truths.shape[:2] != (B, N) or self.has_truth.shape != (B, N):
            raise ValueError(
                f"{len(self.mixture_ids)} ids, truths {list(self.truths.shape)} and has_truth "
                f"{list(self.has_truth.shape)} do not fit classes [{B}, {N}]"
            )

    @property
    def own_truths(self) -> Tensor:
        """bool [B, N, H, W], empty where nobody said."""
        return self.truths & self.has_truth[..., None, None]

    @property
    def wide_truths(self) -> Tensor:
        """bool [B, N, H, K W], over the pictures side by side: a source is in its own picture's columns only."""
        own = self.own_truths
        if self.num_pictures == 1:
            return own
        N, W = own.shape[1], own.shape[-1]
        wide = own.new_zeros(*own.shape[:-1], N * W)
        for n in range(N):
            wide[:, n, :, n * W : (n + 1) * W] = own[:, n]
        return wide

    def truths_of(self, split: bool) -> Tensor:
        """What maps are compared with: those over all pictures, or those that are split."""
        return self.own_truths if split else self.wide_truths

    @property
    def excluded(self) -> list[list[str | None]]:
        """Why each source of each mixture does not count, one of EXCLUDED; None where it does."""
        empty = ~self.own_truths.flatten(2).any(dim=-1)
        of_all = []
        negatives = self.negatives or [None] * len(empty)
        said = (x.tolist() for x in (self.class_ids, self.has_truth, empty))
        for negative, classes, known, bare in zip(negatives, *said, strict=True):
            reasons: list[str | None] = []
            if negative is not None:
                of_all.append([NEGATIVE] * len(classes))
                continue
            for n, class_id in enumerate(classes):
                is_shared = class_id != NO_CLASS and classes.count(class_id) > 1
                reasons.append(
                    NO_TRUTH if not known[n] else EMPTY_TRUTH if bare[n] else SAME_CLASS if is_shared else None
                )
            of_all.append(reasons)
        return of_all
