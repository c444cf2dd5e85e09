"""How well a model says what is in a mixture."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa
import torch

from cocktail.metrics.classification import PrecisionRecallF1, confusion_counts, precision_recall_f1
from cocktail.report.markdown import markdown_table
from cocktail.types import NO_CLASS


@dataclass(frozen=True, kw_only=True)
class PresenceScores:
    """How well a model says which classes are in a mixture: those of presence above 0.5. Higher is better."""

    micro: PrecisionRecallF1
    """Scores of all decisions together."""
    macro: PrecisionRecallF1
    """The mean over classes, those that never occur among them."""
    num_mixtures: int

    @property
    def values(self) -> dict[str, float]:
        """The scores by name, as metrics are logged: `micro_precision` ... `macro_f1`."""
        averages = {"micro": self.micro, "macro": self.macro}
        return {
            f"{name}_{score}": value for name, scores in averages.items() for score, value in scores._asdict().items()
        }

    def to_markdown(self) -> str:
        """The scores as a Markdown table."""
        rows = [
            [name, *(f"{value:.3f}" for value in scores), str(self.num_mixtures)]
            for name, scores in (("micro", self.micro), ("macro", self.macro))
        ]
        return markdown_table(["classes present", "precision", "recall", "F1", "mixtures"], rows)


def presence_in(rows: pa.Table, column: str, num_classes: int) -> PresenceScores | None:
    """The classes in a column of a system's rows against those of each mixture's sources, as `presence_scores`."""
    rows = rows.select(["mixture_id", "class_id", column])
    truth: dict[str, set[int]] = defaultdict(set)
    predicted: dict[str, set[int]] = {}
    for mixture_id, class_id, classes in zip(*rows.to_pydict().values(), strict=True):
        truth[mixture_id].add(class_id)
        if classes is not None:
            predicted[mixture_id] = set(classes)
    known = [mixture_id for mixture_id in predicted if NO_CLASS not in truth[mixture_id]]
    if not known:
        return None

    def table(sets: dict[str, set[int]]) -> torch.Tensor:
        """bool [mixtures, C]."""
        return torch.tensor([[class_id in sets[name] for class_id in range(num_classes)] for name in known])

    counts = confusion_counts(table(predicted), table(truth))
    return PresenceScores(
        micro=precision_recall_f1(counts, "micro"),
        macro=precision_recall_f1(counts, "macro"),
        num_mixtures=len(known),
    )
