"""Means over random draws of some of the classes, where a paper tested on some of them and does not say on which
(co-segmentation: 11 of the 15 instruments of AudioSet-SingleSource)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from cocktail.report.markdown import format_cell, markdown_table
from cocktail.tasks.rows import CONTROL, systems_of
from cocktail.tasks.separation.tables import HEADERS, SCORES, mixture_scores, scored_mixtures
from cocktail.types import NO_CLASS

NUM_DRAWS = 100
SEED = 0


@dataclass(frozen=True, kw_only=True)
class ClassDraws:
    """A system's scores over draws of classes, in dB."""

    num_drawn: int
    num_classes: int
    """Classes that were drawn from."""
    num_empty: int
    """Draws without a mixture of their classes alone, which count for nothing."""
    means: dict[str, float]
    """Of the draws' mean scores."""
    deviations: dict[str, float]
    """Standard deviation of the draws' mean scores: what the choice of classes does to a paper's number."""
    controls: dict[str, dict[str, float]]
    """Means of the controls over the same draws, by name."""

    @property
    def values(self) -> dict[str, float]:
        """The scores by name, as metrics are logged."""
        of_each = {f"{score}_mean": value for score, value in self.means.items()}
        return of_each | {f"{score}_std": value for score, value in self.deviations.items()}

    @property
    def note(self) -> str:
        """What the table is of."""
        left_out = f"; {self.num_empty} draws had no mixture" if self.num_empty else ""
        return (
            f"Over {NUM_DRAWS} draws of {self.num_drawn} of the {self.num_classes} classes, each of the mixtures of "
            f"its classes alone, in dB{left_out}:"
        )

    @property
    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows."""
        lines = {"mean of the draws": self.means, "their standard deviation": self.deviations}
        lines |= {f"{name}, mean of the draws": means for name, means in self.controls.items()}
        rows = [[name, *(format_cell(values.get(score, np.nan)) for score in SCORES)] for name, values in lines.items()]
        return ["", *(HEADERS[score] for score in SCORES)], rows

    def to_markdown(self) -> str:
        return f"{self.note}\n\n{markdown_table(*self.table)}"


def class_draws(results: pa.Table, system: str, num_drawn: int, num_draws: int = NUM_DRAWS) -> ClassDraws | None:
    """The scores of a system, and of the controls, over draws of so many classes, the same ones for the same classes;
    None where there are not more classes than are drawn, or no mixture has a score. Mixtures with a source of no class
    are in none."""
    mixtures = scored_mixtures(mixture_scores(results, system))
    classes = sorted(set[int]().union(*mixtures["class_ids"].to_pylist()) - {NO_CLASS})
    if len(classes) <= num_drawn:
        return None
    generator = np.random.default_rng(SEED)
    draws = [set(generator.choice(classes, num_drawn, replace=False).tolist()) for _ in range(num_draws)]
    means = _means_by_draw(mixtures, draws)
    num_counted = len(means[SCORES[0]])
    if num_counted == 0:
        return None
    controls = {
        name: {
            score: float(np.mean(each))
            for score, each in _means_by_draw(scored_mixtures(mixture_scores(results, name)), draws).items()
            if each
        }
        for name in systems_of(results, CONTROL)
    }
    return ClassDraws(
        num_drawn=num_drawn,
        num_classes=len(classes),
        num_empty=num_draws - num_counted,
        means={score: float(np.mean(each)) for score, each in means.items()},
        deviations={score: _deviation(each) for score, each in means.items()},
        controls=controls,
    )


def _means_by_draw(mixtures: pa.Table, draws: Sequence[set[int]]) -> dict[str, list[float]]:
    """By SCORES, the mean over the mixtures of each draw's classes alone, of draws that have some."""
    of_mixtures = [set(ids) for ids in mixtures["class_ids"].to_pylist()]
    values = {score: mixtures[score].to_numpy(zero_copy_only=False).astype(float) for score in SCORES}
    means: dict[str, list[float]] = {score: [] for score in SCORES}
    for drawn in draws:
        inside = np.array([ids <= drawn for ids in of_mixtures], bool)
        for score, column in values.items() if inside.any() else ():
            means[score].append(float(column[inside].mean()))
    return means


def _deviation(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
