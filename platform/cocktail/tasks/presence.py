"""How well a model says what is in a mixture.

Shape letters: M mixtures, C classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from cocktail.metrics.classification import PrecisionRecallF1, confusion_counts, precision_recall_f1
from cocktail.metrics.intervals import FEWEST_RECORDINGS, TOO_FEW, Interval, Recordings, ratio_values
from cocktail.report.markdown import INTERVAL, format_count, markdown_table
from cocktail.tasks.rows import label_sets

_ROUNDING = 1e-9
PRESENCE_SCORES = ("precision", "recall", "F1", INTERVAL)
"""Headers of `PresenceScores.cells` behind the first; the interval is of F1."""


@dataclass(frozen=True, kw_only=True)
class PresenceScores:
    """How well a model says which classes are in a mixture: those above its threshold of presence. Higher is better."""

    micro: PrecisionRecallF1
    """Scores of all decisions together."""
    macro: PrecisionRecallF1
    """The mean over classes, those that never occur among them."""
    micro_f1: Interval | None
    """95 % interval of F1, by recording; None where `why_no_interval` says so."""
    why_no_interval: str
    macro_f1: Interval | None
    """None also where a class is of too few recordings, or where the model errs in all mixtures alike, as one does that
    never errs: `why_no_macro_interval` says so."""
    why_no_macro_interval: str
    num_mixtures: int
    num_recordings: int | None
    """Recordings that these are made of; None if that is not known."""

    @property
    def values(self) -> dict[str, float]:
        """The scores by name, as metrics are logged: `micro_precision` ... `macro_f1`, and `micro_f1_low` ..."""
        averages = {"micro": self.micro, "macro": self.macro}
        values = {
            f"{name}_{score}": value for name, scores in averages.items() for score, value in scores._asdict().items()
        }
        for name, interval in (("micro_f1", self.micro_f1), ("macro_f1", self.macro_f1)):
            if interval is not None:
                values |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        return values

    @property
    def cells(self) -> list[list[str]]:
        """A row each for micro and macro: its name, precision, recall, F1, and the interval of F1."""
        averages = (
            ("micro", self.micro, self.micro_f1, self.why_no_interval),
            ("macro", self.macro, self.macro_f1, self.why_no_macro_interval),
        )
        return [
            [
                name,
                *(f"{value:.3f}" for value in scores),
                why_none if interval is None else f"{interval.low:.3f} to {interval.high:.3f}",
            ]
            for name, scores, interval, why_none in averages
        ]

    def to_markdown(self) -> str:
        """The scores as a Markdown table."""
        counts = [str(self.num_mixtures), format_count(self.num_recordings)]
        rows = [[*cells, *counts] for cells in self.cells]
        return markdown_table(["classes present", *PRESENCE_SCORES, "mixtures", "recordings"], rows)


def presence_in(rows: pa.Table, column: str, num_classes: int) -> PresenceScores | None:
    """The classes in a column of a system's rows against those of each mixture's sources, as `presence_scores`."""
    said = said_in(rows, column)
    sources = {name: each for name, each in sources_in(rows).items() if name in said}
    return presence_of(said, sources, sources, num_classes)


Sources = dict[str, list[tuple[set[int], str | None]]]
"""Classes and recording of each source, by mixture."""


def sources_in(rows: pa.Table) -> Sources:
    """The sources of a system's rows, of mixtures whose sources all have classes: of others nobody knows what is in
    them."""
    sources: dict[str, list[tuple[set[int] | None, str | None]]] = defaultdict(list)
    columns = rows.select(["mixture_id", "recording"]).to_pydict()
    for mixture_id, recording, own in zip(*columns.values(), label_sets(rows), strict=True):
        sources[mixture_id].append((own, recording))
    return {
        name: [(own or set(), recording) for own, recording in each]
        for name, each in sources.items()
        if all(own is not None for own, _ in each)
    }


def said_in(rows: pa.Table, column: str) -> dict[str, set[int]]:
    """The classes that a column of a system's rows names, by mixture; without mixtures of which it says nothing."""
    columns = rows.select(["mixture_id", column]).to_pydict()
    return {name: set(classes) for name, classes in zip(*columns.values(), strict=True) if classes is not None}


def presence_of(
    said: Mapping[str, set[int]], sources: Sources, of_mixtures: Sources, num_classes: int
) -> PresenceScores | None:
    """What is said of mixtures against the classes of some of their sources; None if there are no mixtures.

    `of_mixtures` holds all of their sources: by their recordings mixtures depend on each other.
    """
    known = list(of_mixtures)
    if not known:
        return None

    def table(sets: Mapping[str, set[int]]) -> torch.Tensor:
        """bool [mixtures, C]."""
        return torch.tensor([[class_id in sets[name] for class_id in range(num_classes)] for name in known])

    truth = {name: set[int]().union(*(own for own, _ in sources.get(name, ()))) for name in known}
    named, there = table(said), table(truth)
    counts = confusion_counts(named, there)
    micro_values, macro_values = f1_values(named.numpy(), there.numpy())
    recordings = Recordings([[recording for _, recording in of_mixtures[name]] for name in known])
    of_classes = defaultdict[int, set[str | None]](set)
    for name in known:
        for own, recording in sources.get(name, ()):
            for class_id in own:
                of_classes[class_id].add(recording)
    why_no_macro = recordings.why_none
    if min(map(len, of_classes.values()), default=0) < FEWEST_RECORDINGS:
        why_no_macro = why_no_macro or f"{TOO_FEW} of a class"
    if np.ptp(macro_values) < _ROUNDING:
        why_no_macro = why_no_macro or "all alike"
    macro_f1 = None if why_no_macro else recordings.interval(macro_values)
    return PresenceScores(
        micro=precision_recall_f1(counts, "micro"),
        macro=precision_recall_f1(counts, "macro"),
        micro_f1=recordings.interval_of_share(micro_values),
        why_no_interval=recordings.why_none,
        macro_f1=macro_f1 and macro_f1.within(0, 1),
        why_no_macro_interval=why_no_macro,
        num_mixtures=len(known),
        num_recordings=recordings.number,
    )


def f1_values(predicted: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values [M] whose means are the micro and the macro F1 of bool [M, C] each, and that vary as these do.

    F1 is the ratio of 2 |predicted and true| to |predicted| + |true|: see `ratio_values`. A class without either is 0.
    """
    parts, wholes = 2.0 * (predicted & truth), predicted.astype(np.float64) + truth
    by_class = [
        ratio_values(part, whole) if whole.any() else np.zeros(len(whole))
        for part, whole in zip(parts.T, wholes.T, strict=True)
    ]
    return ratio_values(parts.sum(axis=1), wholes.sum(axis=1)), np.mean(by_class, axis=0)
