"""What a report of a scored model is made of, whatever the model is for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cocktail.report.learning import History
from cocktail.types import MixtureBatch


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that a report is about, and test mixtures to show."""

    name: str
    """As results name its own system."""
    model: Any
    """A `Separator` or `Localizer`."""
    classes: tuple[str, ...]
    examples: MixtureBatch | None
    sample_rate_hz: int
    histories: Mapping[str, History]
    """Metrics of its training by step."""
    steps_per_epoch: int | None
    notes: tuple[str, ...] = ()
    """To be told with the scores."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report says; its files lie in the folder that it was written to."""

    text: str
    """Tables in Markdown."""
    metrics: Mapping[str, float]
    """As MLflow takes them."""
    headline: Mapping[str, str]
    """The few scores that say how good the model is, by name."""
