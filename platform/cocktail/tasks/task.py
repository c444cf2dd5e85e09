"""What trained models are for: what is asked of them on test mixtures, and how their answers are scored and shown.

All that differs between tasks is behind `Task`; who uses one knows neither separation nor localization.

Shape letters: B batch, N sources, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

import numpy as np
import pyarrow as pa
from torch import Tensor

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.tasks.scores import Scoreboard
from cocktail.types import MixtureBatch, Query

if TYPE_CHECKING:  # pages and figures need what a model that is registered does without
    from cocktail.report.page import Part
    from cocktail.tasks.report import Report, Subject

MIXTURE, PICTURES = "mixture", "pictures"
"""What a model may be given, by name."""


@dataclass(frozen=True, kw_only=True)
class TensorForm:
    """Type and shape of a tensor; -1 is any length."""

    dtype: str
    shape: tuple[int, ...]


def pictures_form(mixing: Mixing) -> TensorForm:
    """Pictures [B, K, H, W, 3], one of each source, or [B, K, P, H, W, 3] where a model has learned from several."""
    side = mixing.picture_side
    several = (mixing.pictures_per_source,) if mixing.pictures_per_source > 1 else ()
    return TensorForm(dtype="uint8", shape=(-1, -1, *several, side, side, 3))


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a trained model takes and gives when it is used, as plain data."""

    inputs: Mapping[str, TensorForm]
    """Forms of the inputs by name, MIXTURE first."""
    outputs: Mapping[str, TensorForm]
    """Form of what `Task.answer` gives, by its name."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What one has to know to make the inputs."""
    packages: tuple[str, ...] = ()
    """Packages that are needed beside those that any model needs."""


class Example(Protocol):
    """What a model makes of one mixture, to look at and to listen to."""

    @property
    def mixture_id(self) -> str: ...

    def store(self, folder: Path) -> None:
        """Write `<mixture id>.png` and a folder of sounds."""
        ...


ExampleT = TypeVar("ExampleT", bound=Example)


class Task(Protocol[ExampleT]):
    """What is asked of a kind of model. Small: travels to any worker."""

    @property
    def name(self) -> str:
        """The task's own name, as results carry it: `separation`."""
        ...

    @property
    def needs_truth(self) -> bool:
        """Whether nothing is scored without the places of the sources in their pictures."""
        ...

    @property
    def takes_class_spectra(self) -> bool:
        """Whether a control is made of the mean spectra of the classes, measured where the model is trained."""
        ...

    @property
    def results(self) -> pa.Schema:
        """The table of results: rows of a mixture, system and source. Its metadata says what they are of."""
        ...

    @classmethod
    def of(cls, model: Any, evaluation: Evaluation, mixing: Mixing, several_numbers: bool) -> Self | None:
        """The task as settings describe it, on mixtures of one number of sources or of several; None of a model that
        does not do it, or of mixtures that cannot test it."""
        ...

    @classmethod
    def of_results(cls, results: pa.Table) -> Self:
        """The task whose results are in a table. Raises UsageError if nothing says by which rules they came about."""
        ...

    def with_class_spectra(self, spectra: ClassSpectra | None) -> Self:
        """The task with the mean spectra of the model's classes, or without, where there are none."""
        ...

    def apply(self, name: str, model: Any, batch: MixtureBatch) -> Any:
        """What a model of that name, and every control, answers to a batch that lies on the model's device."""
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

    def scoreboard(self, results: pa.Table) -> Scoreboard:
        """How a table of its results is read."""
        ...

    def summary(self, results: pa.Table, name: str, notes: tuple[str, ...]) -> Report:
        """The scores of the model of that name and of what stands beside it, without a file: what a run is sure of
        before anything is drawn."""
        ...

    def report(self, results: pa.Table, subject: Subject, folder: Path) -> Report:
        """The report of a model's results; its files are written to a folder."""
        ...

    def examples(self, subject: Subject, batch: MixtureBatch, reading: str | None = None) -> Iterator[ExampleT]:
        """What a model, or a reading of it, makes of each mixture of a batch."""
        ...

    def side_by_side(self, examples: Mapping[str, ExampleT]) -> list[Part]:
        """A page's view of what several models, by label, make of one mixture."""
        ...

    def signature(self, trained: Any) -> Signature:
        """What a `cocktail.inference.trained.Trained` takes and gives when it is used for this task."""
        ...

    def answer(self, model: Any, mixture: Tensor, query: Query) -> Tensor:
        """What a model gives for named classes: the one output of `signature`. Raises UsageError for what does not fit.

        `mixture` is float32 [B, T].
        """
        ...
