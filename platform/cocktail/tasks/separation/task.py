"""What is asked of a model that separates, and how its answers are scored and shown.

Shape letters: B batch, N sources, T samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from torch import Tensor

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.audio.ideal_masks import grid_of, ideal_separations
from cocktail.audio.mixing import mix
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.tasks.rows import CONTROL, MODEL, READING
from cocktail.tasks.separation.results import RESULTS, Metrics, SeparatedBatch, System, score_batch
from cocktail.tasks.separation.scores import UNPROCESSED, SeparationScores
from cocktail.tasks.separation.sight import withholds
from cocktail.tasks.task import MIXTURE, PICTURES, Signature, TensorForm, pictures_form
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, Separator, UsageError, require

if TYPE_CHECKING:  # pages and figures need what a model that is registered does without
    from cocktail.report.page import Part
    from cocktail.tasks.report import Report, Subject
    from cocktail.tasks.separation.examples import SeparatedExample


@dataclass(frozen=True, kw_only=True)
class Separating:
    """Estimates of the sources, by SDR and its kin.

    Beside the model stand what it says if it is read otherwise (soft masks, classes that it predicts itself) and
    controls: the mixture as every estimate (the floor), the mean spectra of the classes in training as fixed
    equalisers, and ideal masks on the model's own grid, or on the common one where it has none.
    """

    metrics: Metrics = "batched"
    by_fuss_rule: bool = False
    class_draw: int | None = None
    """Number of classes in draws over which means are taken, too."""
    class_spectra: ClassSpectra | None = field(default=None, compare=False, repr=False)
    """Mean spectra of the model's classes; without them the control that they make is left out."""

    name = "separation"
    needs_truth = False
    takes_class_spectra = True
    results = RESULTS

    @classmethod
    def of(cls, model: Any, evaluation: Evaluation, mixing: Mixing, several_numbers: bool) -> Separating | None:
        """The task as settings describe it; None of a model that does not separate, or of whole clips, which have no
        reference for each source."""
        if not isinstance(model, Separator) or mixing.arrangement == "whole":
            return None
        return cls(metrics=evaluation.metrics, by_fuss_rule=several_numbers, class_draw=evaluation.class_draw)

    @classmethod
    def of_results(cls, results: pa.Table) -> Separating:
        """The task whose results are in a table."""
        return cls()

    def with_class_spectra(self, spectra: ClassSpectra | None) -> Separating:
        return replace(self, class_spectra=spectra)

    def apply(self, name: str, model: Any, batch: MixtureBatch) -> SeparatedBatch:
        return separate_batch(name, model, batch, self.class_spectra)

    def score(self, answers: SeparatedBatch) -> pa.Table:
        return score_batch(answers, metrics=self.metrics, by_fuss_rule=self.by_fuss_rule)

    def is_scored(self, results: pa.Table) -> np.ndarray:
        return results["sdr"].is_valid().to_numpy()

    def why_not(self, results: pa.Table) -> str:
        return "each has a silent reference"

    def scoreboard(self, results: pa.Table) -> SeparationScores:
        return SeparationScores(withheld=withholds(results))

    def summary(self, results: pa.Table, name: str, notes: tuple[str, ...]) -> Report:
        from cocktail.tasks.separation.controls import spectra_notes
        from cocktail.tasks.separation.report import Summaries, summary_of

        return summary_of(Summaries.of(results), name, (*notes, *spectra_notes(results, name, self.class_spectra)))

    def report(self, results: pa.Table, subject: Subject, folder: Path) -> Report:
        from cocktail.tasks.separation.controls import spectra_notes
        from cocktail.tasks.separation.report import separation_report

        own = spectra_notes(results, subject.name, self.class_spectra)
        return separation_report(results, replace(subject, notes=(*subject.notes, *own)), folder, self.class_draw)

    def examples(self, subject: Subject, batch: MixtureBatch, reading: str | None = None) -> Iterator[SeparatedExample]:
        from cocktail.tasks.separation.examples import separated_examples

        return separated_examples(subject, batch, reading)

    def side_by_side(self, examples: Mapping[str, SeparatedExample]) -> list[Part]:
        from cocktail.tasks.separation.examples import spectrogram_parts

        return spectrogram_parts(examples)

    def signature(self, trained: Any) -> Signature:
        """Mixtures [B, T] in [-1, 1] in, with pictures if the model looks at them; estimates [B, N, T'] out, in the
        order of the named classes."""
        inputs = {MIXTURE: TensorForm(dtype="float32", shape=(-1, -1))}
        outputs = {"estimates": TensorForm(dtype="float32", shape=(-1, -1, -1))}
        if not trained.config.looks:
            return Signature(inputs=inputs, outputs=outputs)
        return Signature(
            inputs=inputs | {PICTURES: pictures_form(trained.mixing)},
            outputs=outputs,
            metadata={"picture_side": trained.mixing.picture_side},
            packages=("torchvision",),
        )

    def answer(self, model: Any, mixture: Tensor, query: Query) -> Tensor:
        separation = model.separate(mixture, query)
        if query.class_ids is not None:
            require(
                bool((separation.class_ids != NO_CLASS).any()),
                "this model cannot say which source is of which class: ask for so many sources, as in "
                'params={"num_sources": 2}, and not by names',
            )
        return separation.estimates


def separate_batch(
    name: str, model: Any, batch: MixtureBatch, class_spectra: ClassSpectra | None = None
) -> SeparatedBatch:
    """A batch and every system's estimates, all cut to the shortest: inverse transforms give back less than T."""
    mixture, references = mix(batch)
    separation = model.separate(mixture, Query.of(batch))
    if (K := separation.estimates.shape[1]) < references.shape[1]:
        raise UsageError(f"{name} gives {K} estimates of mixtures of {references.shape[1]} sources: test it on fewer")
    ideals = ideal_separations(grid_of(model, mixture.device), mixture, references)
    length = shortest(mixture, separation, *ideals.values())

    def cut(signals: Tensor) -> np.ndarray:
        return signals[..., :length].cpu().numpy()

    systems = [System(name=name, kind=MODEL, estimates=cut(separation.estimates), class_ids=_names(separation))]
    for reading, other in separation.alternatives.items():
        systems.append(
            System(
                name=f"{name}, {reading}",
                kind=READING,
                reading=reading,
                estimates=cut(other.estimates),
                class_ids=_names(other),
            )
        )
    if class_spectra is not None and (known := class_spectra.know(batch.class_ids, batch.present)).any():
        by_spectra = class_spectra.separate(mixture, batch.class_ids, batch.present)
        answered = known.cpu().numpy()
        systems += [
            System(name=control, kind=CONTROL, estimates=cut(estimates), answered=answered)
            for control, estimates in by_spectra.items()
        ]
    for control, ideal in ideals.items():
        systems.append(System(name=control, kind=CONTROL, estimates=cut(ideal.estimates)))
    systems.append(System(name=UNPROCESSED, kind=CONTROL, estimates=cut(mixture[:, None])))
    looked_at = {
        key: separation.intermediates[key].float().cpu().numpy()
        for key in ("presence", "visual_presence", "source_vectors", "source_presence")
        if key in separation.intermediates
    }
    return SeparatedBatch(
        mixture_ids=np.array(batch.mixture_ids),
        class_ids=batch.class_ids.cpu().numpy(),
        num_sources=batch.present.sum(dim=1).cpu().numpy(),
        mixture=cut(mixture),
        references=cut(references),
        systems=tuple(systems),
        seen=None if batch.shown is None else batch.shown.cpu().numpy(),
        presence=looked_at.get("presence"),
        visual_presence=looked_at.get("visual_presence"),
        presence_threshold=separation.presence_threshold,
        vectors=looked_at.get("source_vectors"),
        source_presence=looked_at.get("source_presence"),
        labels=None if batch.labels is None else batch.labels.cpu().numpy(),
        recordings=batch.recordings,
    )


def shortest(mixture: Tensor, *separations: Separation) -> int:
    """The length in samples that a mixture and all that is made of it have."""
    made = [other for separation in separations for other in (separation, *separation.alternatives.values())]
    return min(mixture.shape[-1], *(each.estimates.shape[-1] for each in made))


def _names(separation: Separation) -> np.ndarray | None:
    """The classes by which estimates are taken; None of those that are in the order of the sources."""
    return None if separation.in_order else separation.class_ids.cpu().numpy()
