"""How often a model is right about each class of each source, by the threshold of presence (co-segmentation, Table 2).

The paper's percentages are all of 396 decisions, 36 items times 11 classes: one less the Hamming loss. Saying that
nothing is ever there scores ten in eleven by it where each item has one class of eleven, so that control, exact matches
and the macro F1 stand beside it.

Shape letters: I items, each a source of a test mixture, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from cocktail.metrics.classification import confusion_counts, entry_accuracy, precision_recall_f1
from cocktail.metrics.intervals import Interval, Recordings
from cocktail.report.markdown import INTERVAL, format_count, markdown_table
from cocktail.tasks.presence import f1_values
from cocktail.tasks.rows import label_sets

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""tau of the paper's table."""
ALL_ABSENT = "all absent"
ABOUT_ACCURACY = (
    "Classes of each source by its own picture, a decision a class: presence above tau against what is there. Accuracy "
    "is the share of right decisions (one less the Hamming loss), exact match that of sources all of whose decisions "
    "are right, in percent; higher is better. A model that never finds anything has the last line's."
)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Scores of one rule for what is present; the shares are in [0, 1], and lack an interval where `why_none` says."""

    rule: str
    """tau, or what else decides."""
    accuracy: float
    exact_match: float
    macro_f1: float
    """Mean over all classes of the model, those that never occur among them."""
    accuracy_interval: Interval | None
    """None also where as many decisions of each item are right: nothing says how far another could differ."""
    exact_interval: Interval | None
    f1_interval: Interval | None
    """None also where all items are decided alike."""


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """Decisions by each threshold, and by the control that finds nothing, on the same items."""

    decisions: tuple[Decisions, ...]
    num_items: int
    num_left_out: int
    """Items of which a class is not known, or none of the model's."""
    num_recordings: int | None
    why_none: str
    """Why there are no intervals; empty if there are."""

    @property
    def values(self) -> dict[str, float]:
        """The scores by name, as metrics are logged: `tau_0.3_accuracy` ... `all_absent_macro_f1`."""
        values: dict[str, float] = {}
        for each in self.decisions:
            name = each.rule.replace(" ", "_")
            values |= {
                f"{name}_accuracy": each.accuracy,
                f"{name}_exact_match": each.exact_match,
                f"{name}_macro_f1": each.macro_f1,
            }
        return values

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows; shares in percent, F1 in [0, 1]."""
        scores = [each for score in ("accuracy", "exact match", "macro F1") for each in (score, INTERVAL)]
        header = ["presence", *scores, "sources", "recordings"]
        rows = [
            [
                each.rule.replace("_", " "),
                f"{100 * each.accuracy:.2f}",
                self._cell(each.accuracy_interval, 100, 2),
                f"{100 * each.exact_match:.2f}",
                self._cell(each.exact_interval, 100, 2),
                f"{each.macro_f1:.3f}",
                self._cell(each.f1_interval, 1, 3),
                str(self.num_items),
                format_count(self.num_recordings),
            ]
            for each in self.decisions
        ]
        return header, rows

    def _cell(self, interval: Interval | None, scale: float, digits: int) -> str:
        if interval is None:
            return self.why_none or "all alike"
        return f"{scale * interval.low:.{digits}f} to {scale * interval.high:.{digits}f}"

    @property
    def note(self) -> str:
        """What the table is of, and how many sources are not in it."""
        left_out = self.num_left_out
        return ABOUT_ACCURACY + (f" Left out: {left_out} sources of a class that is not known." if left_out else "")

    def to_markdown(self) -> str:
        return f"{self.note}\n\n{markdown_table(*self.table)}"


def class_accuracy(rows: pa.Table, thresholds: Sequence[float] = THRESHOLDS) -> ClassAccuracy | None:
    """The `source_presence` of a system's rows against all classes of each source; None where there is none.

    A source whose classes nobody said, or of a class that the model does not know, is left out, and counted.
    """
    said = [
        (presence, labels, recording)
        for presence, labels, recording in zip(
            rows["source_presence"].to_pylist(), label_sets(rows), rows["recording"].to_pylist(), strict=True
        )
        if presence is not None
    ]
    items = [each for each in said if each[1] is not None and max(each[1]) < len(each[0])]
    if not items:
        return None
    presence = np.array([each[0] for each in items])
    truth = np.array([[class_id in (each[1] or ()) for class_id in range(presence.shape[1])] for each in items])
    recordings = Recordings([[each[2]] for each in items])
    rules: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [
        (f"tau_{threshold:g}", lambda presence, tau=threshold: presence > tau) for threshold in thresholds
    ]
    rules.append((ALL_ABSENT, np.zeros_like))
    decisions = tuple(_decisions(name, rule(presence).astype(bool), truth, recordings) for name, rule in rules)
    return ClassAccuracy(
        decisions=decisions,
        num_items=len(items),
        num_left_out=len(said) - len(items),
        num_recordings=recordings.number,
        why_none=recordings.why_none,
    )


def _decisions(rule: str, said: np.ndarray, truth: np.ndarray, recordings: Recordings) -> Decisions:
    """Scores of what was said, bool [I, C], against the truth."""
    found, there = torch.from_numpy(said), torch.from_numpy(truth)
    right = said == truth

    def interval(values: np.ndarray) -> Interval | None:
        found = recordings.interval(values) if np.ptp(values) > 0 else None
        return found and found.within(0, 1)

    return Decisions(
        rule=rule,
        accuracy=entry_accuracy(found, there),
        exact_match=float(right.all(axis=1).mean()),
        macro_f1=precision_recall_f1(confusion_counts(found, there), "macro").f1,
        accuracy_interval=interval(right.mean(axis=1)),
        exact_interval=recordings.interval_of_share(right.all(axis=1).astype(float)),
        f1_interval=interval(f1_values(said, truth)[1]),
    )
