"""A class head beside the separation of waveforms: SGN's tables name such a "classifier with category as supervision".

Shape letters: B batch, C classes, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cocktail.audio.mixing import mix
from cocktail.config.mixing import Mixing
from cocktail.layers.classes import classes_among
from cocktail.layers.waveform_separator import WaveformSeparatorConfig
from cocktail.metrics.classification import confusion_counts
from cocktail.types import MixtureBatch, require


@dataclass(frozen=True, kw_only=True)
class ClassHeadConfig(WaveformSeparatorConfig):
    """The settings of a separator of waveforms that may have a class head."""

    class_head: bool = False
    """A head on the bottom of the network that learns which classes are heard, as a task beside the separation: SGN's
    "classifier with category as supervision", of which its paper says no more. It names no source."""
    class_loss_weight: float = 1.0
    """Weight of that head's loss; nothing else reads it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.class_loss_weight > 0, f"class_loss_weight must be positive, not {self.class_loss_weight}")
        require(
            not (self.class_head and self.sources == "asked"),
            "a network that is told the classes has nothing to learn by class_head: leave out one of class_head and "
            "sources asked",
        )

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: as other separators of waveforms, or with sources
        whose classes a class head would not be told."""
        require(
            not self.class_head or mixing.distinct_classes,
            "class_head learns the classes of sources: leave out --mixing.no-distinct-classes",
        )
        super().require_mixing(mixing)


class HearsClasses(nn.Module):
    """A `cocktail.types.Classifier` by a class head, which a model adds as `presence_logits`."""

    num_classes: int

    def presence_logits(self, mixture: Tensor) -> Tensor | None:
        """Logits [B, C] of each class being heard in mixtures [B, T]; None without a class head."""
        raise NotImplementedError

    def heard(self, batch: MixtureBatch) -> Tensor:
        """Truth y, bool [B, C]: which classes are in the mixtures."""
        return classes_among(batch.class_ids, batch.present, self.num_classes, batch.labels)

    @torch.no_grad()
    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] for the class head's presence above 0.5, if there is one and something to hear."""
        if batch is None or (logits := self.presence_logits(mix(batch)[0])) is None:
            return {}
        return {"presence": confusion_counts(logits > 0, self.heard(batch))}
