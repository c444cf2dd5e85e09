"""What a report of a scored model is made of, whatever the model is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cocktail.report.learning import History
from cocktail.report.page import Heading, Part, Table
from cocktail.types import MixtureBatch

ABOUT_INTERVALS = (
    "Intervals say how far other recordings could move a mean: mixtures that share a recording are not taken for "
    "independent. The model is of one seed; what another seed would give, they do not say."
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The model that a report is about, and test mixtures to show."""

    name: str
    """The name of its own system in results."""
    model: Any
    """A `Separator`, a `Localizer`, or both."""
    classes: tuple[str, ...]
    sample_rate_hz: int
    examples: MixtureBatch | None = None
    histories: Mapping[str, History] = field(default_factory=dict)
    """Metrics of its training by step."""
    steps_per_epoch: int | None = None
    notes: tuple[str, ...] = ()
    """Sentences that stand beside the scores."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the scores are of, by what it is: run, checkpoint, step, data, commit."""


def facts_parts(facts: Mapping[str, str]) -> list[Part]:
    """What the scores of a page are of: its first table; nothing where nobody said it."""
    rows = [[name, f"`{value}`" if "`" not in value else value] for name, value in facts.items()]
    return [Heading("What was scored"), Table(["what", "value"], rows)] if rows else []


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a report says; its files lie in the folder that it was written to."""

    text: str
    """Tables in Markdown."""
    metrics: Mapping[str, float]
    """Scores and counts by name, as `<system>/<score>`."""
    headline: Mapping[str, str]
    """The few scores that say how good the model is, by name."""
    parts: Sequence[Part] = ()
    """The tables as a page shows them that has those of other tasks beside them."""
