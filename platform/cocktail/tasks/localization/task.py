"""What is asked of a model that localizes, and how its answers are scored and shown.

Shape letters: B batch, N sources, T samples, K pictures of a mixture, H and W height and width of one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.audio.mixing import superpose
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.tasks.localization.mixtures import NEGATIVE, SAME_CLASS, LocalizedMixtures
from cocktail.tasks.localization.results import LOCALIZATION_RESULTS, score_maps
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.tasks.localization.scores import LocalizationScores
from cocktail.tasks.rows import MODEL, rows_of
from cocktail.tasks.task import MIXTURE, PICTURES, Signature, TensorForm, pictures_form
from cocktail.types import Localizer, MixtureBatch, Query, UsageError

if TYPE_CHECKING:  # pages and figures need what a model that is registered does without
    from cocktail.report.page import Part
    from cocktail.tasks.localization.examples import LocalizedExample
    from cocktail.tasks.report import Report, Subject


@dataclass(frozen=True, kw_only=True)
class Localizing:
    """Maps of where the sources are, by AP and IoU.

    Beside the model stand what it says if it is read otherwise (predicted classes, each picture by itself) and
    controls: a constant map, a centred box and the truth.
    """

    rules: ScoringRules = field(default_factory=ScoringRules)

    name = "localization"
    needs_truth = True
    takes_class_spectra = False

    @classmethod
    def of(cls, model: Any, evaluation: Evaluation, mixing: Mixing, several_numbers: bool) -> Localizing | None:
        """The task as settings describe it; None of a model that does not localize, or of mixtures without one
        picture of each source, its own, shown and whole, for which there is truth."""
        own = mixing.whole_pictures and evaluation.frames_from is None
        if not isinstance(model, Localizer) or mixing.pictures_per_source != 1 or not own:
            return None
        return cls(rules=ScoringRules.of(evaluation))

    @classmethod
    def of_results(cls, results: pa.Table) -> Localizing:
        """The task whose results are in a table, with their rules. Raises UsageError if nothing says what they are."""
        return cls(rules=ScoringRules.read_from(results))

    @property
    def results(self) -> pa.Schema:
        return LOCALIZATION_RESULTS.with_metadata({**LOCALIZATION_RESULTS.metadata, **self.rules.metadata})

    def with_class_spectra(self, spectra: ClassSpectra | None) -> Localizing:
        return self

    def apply(self, name: str, model: Any, batch: MixtureBatch) -> pa.Table:
        """Scored at once, where the maps are: they are far larger than their scores."""
        assert batch.truth is not None and batch.has_truth is not None
        mixture, counts = superpose(batch), batch.present.sum(dim=1)
        tables = []
        for count in counts.unique().tolist():
            rows = torch.nonzero(counts == count).flatten()
            query = Query.of(batch).rows(rows, count)
            group = LocalizedMixtures(
                mixture_ids=[batch.mixture_ids[row] for row in rows.tolist()],
                class_ids=batch.class_ids[rows, :count],
                truths=batch.truth[rows, :count],
                has_truth=batch.has_truth[rows, :count],
                num_pictures=query.shown.shape[1],
                recordings=None if batch.recordings is None else [batch.recordings[row] for row in rows.tolist()],
                labels=None if batch.labels is None else batch.labels[rows, :count],
                negatives=None if batch.negatives is None else [batch.negatives[row] for row in rows.tolist()],
            )
            settings = {"peak_share": self.rules.peak_share, "fixed_threshold": self.rules.fixed_threshold}
            tables.append(score_maps(group, name, model.localize(mixture[rows], query), **settings))
        return pa.concat_tables(tables)

    def score(self, answers: pa.Table) -> pa.Table:
        return answers

    def is_scored(self, results: pa.Table) -> np.ndarray:
        excluded = results["excluded"]
        has_scores = pc.is_in(excluded, pa.array([SAME_CLASS, NEGATIVE]))  # pyright: ignore[reportAttributeAccessIssue]
        return pc.or_(excluded.is_null(), has_scores).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]

    def why_not(self, results: pa.Table) -> str:
        counts = rows_of(results, "kind", [MODEL])["excluded"].drop_null().value_counts().to_pylist()
        return ", ".join(f"{count['counts']} sources with {count['values']}" for count in counts)

    def scoreboard(self, results: pa.Table) -> LocalizationScores:
        return LocalizationScores(rules=self.rules, numbers=tuple(sorted(results["num_sources"].unique().to_pylist())))

    def summary(self, results: pa.Table, name: str, notes: tuple[str, ...]) -> Report:
        from cocktail.tasks.localization.report import summary_of

        return summary_of(results, name, notes, self.rules)

    def report(self, results: pa.Table, subject: Subject, folder: Path) -> Report:
        from cocktail.tasks.localization.report import localization_report

        return localization_report(results, subject, folder, self.rules)

    def examples(self, subject: Subject, batch: MixtureBatch, reading: str | None = None) -> Iterator[LocalizedExample]:
        """Maps of the model, beside which its other readings stand anyway, so that a reading is shown as the model."""
        from cocktail.tasks.localization.examples import localized_examples

        return localized_examples(subject, batch, self.rules)

    def side_by_side(self, examples: Mapping[str, LocalizedExample]) -> list[Part]:
        from cocktail.tasks.localization.examples import overlay_parts

        return overlay_parts(examples)

    def signature(self, trained: Any) -> Signature:
        """The plain sum of the sources [B, T] and pictures, K being 1 or N, a picture for each class, in; maps
        [B, N, H, K W] over the pictures side by side, in the order of the named classes, out."""
        return Signature(
            inputs={
                MIXTURE: TensorForm(dtype="float32", shape=(-1, -1)),
                PICTURES: pictures_form(trained.mixing),
            },
            outputs={"maps": TensorForm(dtype="float32", shape=(-1, -1, -1, -1))},
            metadata={"picture_side": trained.mixing.picture_side},
            packages=("torchvision",),
        )

    def answer(self, model: Any, mixture: Tensor, query: Query) -> Tensor:
        """Maps over the pictures side by side. A model that learned from each picture by itself has these as another
        reading; one map for all that is heard is every class's."""
        (B, K, _, _, W, _), N = query.shown.shape, query.room
        if K not in (1, N):
            raise UsageError(f"there are {K} pictures of {N} sources: give one a source, or one in all")
        own = model.localize(mixture, query)
        for reading in (own, *own.alternatives.values()):
            if reading.maps.shape[-1] == K * W:
                return reading.maps.expand(B, N, -1, -1)
        raise UsageError(f"this model has no maps over {K} pictures side by side: give it one picture")
