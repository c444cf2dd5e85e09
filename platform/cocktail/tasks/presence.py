"""How well a model says what is in a mixture.

Shape letters: M mixtures, C classes.
"""

from __future__ import annotations

from collections import defaultdict
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
    """How well a model says which classes are in a mixture: those of presence above 0.5. Higher is better."""

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
    labels: dict[str, list[set[int] | None]] = defaultdict(list)
    of_mixtures: dict[str, list[str | None]] = defaultdict(list)
    predicted: dict[str, set[int]] = {}
    said = rows.select(["mixture_id", "recording", column]).to_pydict()
    for mixture_id, recording, classes, own in zip(*said.values(), label_sets(rows), strict=True):
        labels[mixture_id].append(own)
        of_mixtures[mixture_id].append(recording)
        if classes is not None:
            predicted[mixture_id] = set(classes)
    truth = {mixture_id: set().union(*(own or () for own in each)) for mixture_id, each in labels.items()}
    known = [mixture_id for mixture_id in predicted if None not in labels[mixture_id]]
    if not known:
        return None

    def table(sets: dict[str, set[int]]) -> torch.Tensor:
        """bool [mixtures, C]."""
        return torch.tensor([[class_id in sets[name] for class_id in range(num_classes)] for name in known])

    found, there = table(predicted), table(truth)
    counts = confusion_counts(found, there)
    micro_values, macro_values = f1_values(found.numpy(), there.numpy())
    recordings = Recordings([of_mixtures[mixture_id] for mixture_id in known])
    of_classes = defaultdict[int, set[str | None]](set)
    for mixture_id in known:
        for own, recording in zip(labels[mixture_id], of_mixtures[mixture_id], strict=True):
            for class_id in own or ():
                of_classes[class_id].add(recording)
    why_no_macro = recordings.why_none
    if min(map(len, of_classes.values())) < FEWEST_RECORDINGS:
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
