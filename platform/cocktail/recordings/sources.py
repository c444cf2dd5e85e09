"""Which sources a recording is separated into: by name, by number, or by what is heard in it and when.

Shape letters: W windows, C classes, N sources, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from cocktail.types import UsageError, require

MOST_STEMS = 32
"""Classes of which all are separated if a model has no opinion on which are there, at most."""

_OFF_OF_ON = 0.6
"""Share of the probability from which on a class is there at which it ends, if nobody says."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What one asks of a recording."""

    classes: tuple[str, ...] = ()
    """Names of the classes to separate, or to look for, whether they are heard or not."""
    num_sources: int | None = None
    """Number of sources: of a model that knows classes, the so many that are most present on the whole."""
    on: float | None = None
    """Probability of a class from which on it is there. None is the model's own, mostly 0.5."""
    off: float | None = None
    """Probability below which a class that was there has ended. Lower than `on`, so that one that wavers around it does
    not come and go. None is three fifths of `on`."""

    def __post_init__(self) -> None:
        for name, value in (("on", self.on), ("off", self.off)):
            require(value is None or 0 < value <= 1, f"{name} must be above 0 and at most 1, not {value}")
        if self.on is not None:
            self.thresholds(self.on)
        require(self.num_sources is None or self.num_sources >= 1, f"num_sources must not be {self.num_sources}")
        require(
            not self.classes or self.num_sources is None,
            "classes say how many sources there are: give classes or num-sources, not both",
        )

    def thresholds(self, own: float) -> tuple[float, float]:
        """`on` and `off` for a model with a threshold of its own. Raises UsageError for an `off` above the `on`."""
        on = own if self.on is None else self.on
        off = _OFF_OF_ON * on if self.off is None else self.off
        require(off <= on, f"off and on must satisfy 0 < off <= on <= 1, not {off:g}, {on:g}")
        return on, off

    @property
    def by_presence(self) -> bool:
        """Whether it is what is heard that decides."""
        return not self.classes and self.num_sources is None


def class_ids_named(names: Sequence[str], known: Sequence[str]) -> list[int]:
    """The places of named classes among those that a model knows.

    Raises UsageError for names that it does not know, with those that it does, and for names given twice.
    """
    unknown = [name for name in names if name not in known]
    require(
        not unknown,
        f"the model does not know {', '.join(map(repr, unknown))}. It knows {', '.join(known) or 'no classes'}",
    )
    require(len(set(names)) == len(names), f"a class is named twice: {', '.join(names)}")
    return [known.index(name) for name in names]


def by_hysteresis(presence: np.ndarray, on: float, off: float) -> np.ndarray:
    """Whether each class is there in each window, bool [W, C], by its probabilities [W, C].

    A run of windows of at least `off` counts if one of them has at least `on`.
    """
    active = np.zeros(presence.shape, bool)
    for c in range(presence.shape[1]):
        above = np.concatenate([[False], presence[:, c] >= off, [False]])
        edges = np.flatnonzero(above[1:] != above[:-1])
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            active[first:end, c] = presence[first:end, c].max() >= on
    return active


def most_present(presence: np.ndarray, number: int) -> list[int]:
    """The classes with the highest mean probability over all windows [W, C], the highest first.

    Raises UsageError for more than there are.
    """
    require(
        number <= presence.shape[1], f"{number} sources are asked for, and the model knows {presence.shape[1]} classes"
    )
    return np.argsort(-presence.mean(axis=0), kind="stable")[:number].tolist()


class NothingHeardError(UsageError):
    """No class of the model is there."""


def nothing_heard(presence: np.ndarray, names: Sequence[str], on: float, how: str = "heard") -> NothingHeardError:
    """What to tell where no class is there, heard or seen."""
    best = int(presence.max(axis=0).argmax())
    return NothingHeardError(
        f"none of the model's {len(names)} classes is {how}: the likeliest is {names[best]}, at most "
        f"{presence[:, best].max():.2f}, and from {on:g} on one counts. Give --classes, or a lower --on"
    )


def order_like(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The order int [N] of sources `now` [N, T] by which each is likest to the same place of those `before` [N, T].

    Likeness is the correlation, signs apart, as levels may differ. The sum over sources decides; where nothing sounds,
    the order stays.
    """
    scale = np.linalg.norm(before, axis=1)[:, None] * np.linalg.norm(now, axis=1)[None]
    likeness = np.abs(before @ now.T) / np.where(scale > 0, scale, np.inf)
    staying = 1e-6 * np.eye(len(now))
    return linear_sum_assignment(-(likeness + staying))[1]
