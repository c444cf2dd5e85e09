"""What trained models are for: what is asked of them on test mixtures, and how their answers are scored.

Shape letters: B batch, N sources, L estimates of a system, T samples, C classes, D width of vectors.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa

from cocktail.types import MixtureBatch


class Task(Protocol):
    """What is asked of a kind of model. Small: travels to any worker."""

    @property
    def results(self) -> pa.Schema:
        """The table of results: rows of a mixture, system and source."""
        ...

    @property
    def answers_format(self) -> Literal["numpy", "pyarrow"]:
        """What `apply` gives: columns, or a table."""
        ...

    def apply(self, name: str, model: Any, batch: MixtureBatch) -> Any:
        """What a model of that name, and every control, answers to a batch."""
        ...

    def score(self, answers: Any) -> pa.Table:
        """The results of what `apply` gave."""
        ...

    def is_scored(self, results: pa.Table) -> np.ndarray:
        """bool [rows]: whether a row has scores."""
        ...

    def why_not(self, results: pa.Table) -> str:
        """Why none has."""
        ...
