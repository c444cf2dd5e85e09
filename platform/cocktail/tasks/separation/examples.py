"""Figures and sounds of a few separated mixtures, for eyes and ears.

Shape letters: B batch, N sources, K estimates, T samples, R rows, M frames, P patches, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cocktail.audio.ideal_masks import IDEAL_BINARY_MASK, IDEAL_RATIO_MASK, grid_of, ideal_separations
from cocktail.audio.mixing import mix
from cocktail.drawing import save_png, to_png
from cocktail.metrics.separation import LIMIT_DB, is_silent, match, si_sdr_pairs
from cocktail.report.figures import LONGEST_LABEL, masks_figure, panel, patch_grid, shorten, write_sounds
from cocktail.report.page import Part, Picture, Sounds, Table, players
from cocktail.tasks.report import Subject
from cocktail.tasks.rows import names_of
from cocktail.tasks.separation.task import shortest
from cocktail.types import MixtureBatch, Query, Separation

FIGURE_DPI = 90
MOST_FOUND = 5
"""Classes of a mixture that a page shows, the most probable, beside those that are there."""
SPECTROGRAM_DPI, SPECTROGRAM_COLOURS = 80, 128
"""A picture of noise is large otherwise."""


@dataclass(frozen=True, kw_only=True)
class SeparatedExample:
    """One mixture, what was made of it, and its sounds in [-1, 1]."""

    mixture_id: str
    class_names: list[str]
    mixture: np.ndarray
    """[T]."""
    references: np.ndarray
    """[N, T]."""
    estimates: np.ndarray
    """[N, T]: the model's own."""
    columns: Mapping[str, np.ndarray]
    """What the figure shows beside the truth, [N, T] by heading: the model's, its other readings, and ideal masks that
    models are taught."""
    chosen: Mapping[str, Sequence[str]]
    """Headings of systems that choose classes by themselves, and the N classes that they chose."""
    masks: Mapping[str, np.ndarray]
    """[N, R, M] by heading; empty of a model without masks."""
    insight: Mapping[str, Any]
    """What `masks_figure` shows of how the masks came about."""
    sample_rate_hz: int

    def store(self, folder: Path) -> None:
        """Write `<mixture id>.png`, a folder of wavs and, of a model with masks, `<mixture id>-masks.png`."""
        folder.mkdir(parents=True, exist_ok=True)
        title, rate = f"mixture {self.mixture_id}", self.sample_rate_hz
        figure = panel(self.mixture, self.references, self.columns, self.class_names, rate, title, self.chosen)
        save_png(figure, folder / f"{self.mixture_id}.png", FIGURE_DPI)
        if self.masks:
            figure = masks_figure(self.masks, self.class_names, title, **self.insight)
            save_png(figure, folder / f"{self.mixture_id}-masks.png", FIGURE_DPI)
        sounds = self.mixture, self.references, self.estimates
        write_sounds(folder / self.mixture_id, *sounds, self.class_names, rate)

    def players(self) -> Sounds:
        """Players of the mixture, and of each source as it is and as it was estimated, side by side."""
        sounds = [("mixture", "mixture", self.mixture)]
        for n, class_name in enumerate(self.class_names):
            sounds.append((f"truth-{n}", f"truth: {class_name}", self.references[n]))
            sounds.append((f"estimate-{n}", f"estimate: {class_name}", self.estimates[n]))
        return players(self.mixture_id, sounds, self.sample_rate_hz)


def separated_examples(subject: Subject, batch: MixtureBatch, reading: str | None = None) -> Iterator[SeparatedExample]:
    """Each mixture of a batch by a model as it is, its alternatives and ideal masks; or by one reading of the model.

    An alternative that finds more or fewer sources than there are is left out, and so is one that says what another
    says; estimates of no class, or of one not in the mixture, stand beside the references that they fit best.
    """
    with torch.no_grad():
        mixtures, references = mix(batch)
        separation = subject.model.separate(mixtures, Query.of(batch))
        ideals = ideal_separations(grid_of(subject.model, mixtures.device), mixtures, references)
    ideals = {name: ideals[name] for name in (IDEAL_BINARY_MASK, IDEAL_RATIO_MASK)}
    separation = separation if reading is None else separation.alternatives[reading]
    length = shortest(mixtures, separation, *ideals.values())
    for b, mixture_id in enumerate(batch.mixture_ids):
        count = int(batch.present[b].sum())
        class_ids, sources = batch.class_ids[b, :count], references[b, :count, :length]
        labels = None if batch.labels is None else batch.labels[b, :count]
        own = align(separation, b, sources, class_ids)
        columns = {f"estimate{own.mark}": own.estimates}
        chosen: dict[str, list[str]] = {}
        for name, alternative in separation.alternatives.items():
            if not fits(alternative, b, count):
                continue
            other = align(alternative, b, sources, class_ids)
            if any(np.array_equal(other.estimates, known) for known in list(columns.values())[1:]):
                continue
            columns[name + other.mark] = other.estimates
            if not other.mark:
                chosen[name] = names_of(other.class_ids, subject.classes)
        columns |= {name: ideal.estimates[b, :count, :length].numpy() for name, ideal in ideals.items()}
        yield SeparatedExample(
            mixture_id=mixture_id,
            class_names=marked_names(batch, b, names_of(class_ids, subject.classes, labels)),
            mixture=mixtures[b, :length].numpy(),
            references=sources.numpy(),
            estimates=own.estimates,
            columns=columns,
            chosen=chosen,
            masks=_masks(own, ideals, b, count),
            insight={} if separation.masks is None else insight(separation, b, class_ids, subject.classes, labels),
            sample_rate_hz=subject.sample_rate_hz,
        )


def marked_names(batch: MixtureBatch, b: int, names: list[str]) -> list[str]:
    """Names of mixture b's sources, marked where its pictures do not show one."""
    if batch.pictures is None or batch.seen is None:
        return names
    return [name if seen else f"{name} (invisible)" for name, seen in zip(names, batch.seen[b].tolist(), strict=False)]


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What a system makes of one mixture, in the order of its N references."""

    estimates: np.ndarray
    """[N, T]."""
    masks: np.ndarray | None
    """[N, R, M]; None of a system without masks."""
    class_ids: Tensor
    """[N]: those of the estimates."""
    in_order: bool = False
    """Whether it is known which estimate is whose."""

    @property
    def mark(self) -> str:
        """What to add to the system's name if an estimate is of no class, so that only its sound says whose it is."""
        return " (matched)" if (self.class_ids < 0).any() and not self.in_order else ""


def align(separation: Separation, b: int, references: Tensor, class_ids: Tensor) -> Aligned:
    """Mixture b's estimates, cut to its references' length, and masks in the order of these [N, T] of classes [N].

    By class, and by the best mean SI-SDR where classes do not decide. What is silent fits nothing.
    """
    estimates = separation.estimates[b, :, : references.shape[-1]]
    order = torch.arange(len(references)) if separation.in_order else _best_order(separation, b, references, class_ids)
    return Aligned(
        estimates=estimates[order].numpy(),
        masks=None if separation.masks is None else separation.masks[b, order].numpy(),
        class_ids=separation.class_ids[b, order],
        in_order=separation.in_order,
    )


def _best_order(separation: Separation, b: int, references: Tensor, class_ids: Tensor) -> Tensor:
    """int64 [N]: which estimate of mixture b is whose."""
    estimates = separation.estimates[b, :, : references.shape[-1]]
    scores = torch.full((len(estimates), len(references)), -LIMIT_DB, dtype=torch.float64)
    rows, columns = (~is_silent(signals) for signals in (estimates, references))
    scores[rows[:, None] & columns] = si_sdr_pairs(references[None, columns], estimates[None, rows]).flatten()
    return match(class_ids, separation.class_ids[b], scores)


def fits(separation: Separation, b: int, count: int) -> bool:
    """Whether the estimates of mixture b can stand beside so many references: as many if they have classes."""
    class_ids = separation.class_ids[b]
    num_named = int((class_ids >= 0).sum())
    if separation.in_order:
        return True
    return num_named == count if num_named else len(class_ids) >= count


def _masks(own: Aligned, ideals: Mapping[str, Separation], b: int, count: int) -> dict[str, np.ndarray]:
    """A model's masks and the ideal ones, by heading; none of a model without masks."""
    if own.masks is None:
        return {}
    ideal = {name: each.masks[b, :count].numpy() for name, each in ideals.items() if each.masks is not None}
    return {f"predicted mask{own.mark}": own.masks, **ideal}


def insight(
    separation: Separation, b: int, class_ids: Tensor, classes: tuple[str, ...], labels: Tensor | None = None
) -> dict[str, Any]:
    """What `masks_figure` can show of how mixture b's masks came about: assignment and presence, where there are.

    Sources have the classes [N], or all of labels bool [N, C].
    """
    assert separation.masks is not None
    parts: dict[str, Any] = {}
    if "assignment" in separation.intermediates:
        assignment = separation.intermediates["assignment"][b].float().numpy()
        rows, frames = separation.masks.shape[-2:]
        parts["assignment"] = [
            patch_grid(assignment[:, i], rows, frames) if i >= 0 else None for i in class_ids.tolist()
        ]
    if "presence" in separation.intermediates:
        presence = separation.intermediates["presence"][b].tolist()
        parts["presence"] = dict(zip(classes, presence, strict=False))  # a model may not know all that is tested
        there = class_ids[class_ids >= 0] if labels is None else labels.any(dim=0).nonzero()[:, 0]
        parts["threshold"] = separation.presence_threshold
        parts["true_classes"] = [classes[i] for i in there.tolist()]
    return parts


def spectrogram_parts(examples: Mapping[str, SeparatedExample]) -> list[Part]:
    """A page's view of one mixture by several models, by label: spectrograms of their estimates, and players."""
    first = next(iter(examples.values()))
    name, class_names = first.mixture_id, first.class_names
    length = min(example.mixture.shape[-1] for example in examples.values())
    estimates = {label: example.estimates[:, :length] for label, example in examples.items()}
    mixture, references = first.mixture[:length], first.references[:, :length]
    figure = panel(
        mixture,
        references,
        {shorten(label, LONGEST_LABEL): values for label, values in estimates.items()},
        [shorten(class_name, LONGEST_LABEL) for class_name in class_names],
        first.sample_rate_hz,
        f"mixture {name}",
    )
    picture = Picture(
        f"{name}.png",
        to_png(figure, SPECTROGRAM_DPI, SPECTROGRAM_COLOURS),
        f"Spectrograms of mixture {name} ({' and '.join(class_names)}): the mixture, the true sources, and the "
        f"estimates by {' and by '.join(examples)}. Time in s, frequency in kHz, level in dB.",
    )
    sounds = [("mixture", "mixture", mixture)]
    sounds += [(f"truth-{n}", f"truth: {c}", references[n]) for n, c in enumerate(class_names)]
    for k, (label, values) in enumerate(estimates.items()):
        sounds += [(f"estimate-{k}-{n}", f"{label}: {c}", values[n]) for n, c in enumerate(class_names)]
    presence = first.insight.get("presence") if len(examples) == 1 else None
    found = [] if presence is None else [_presence_table(presence, first.insight["true_classes"])]
    return [picture, players(name, sounds, first.sample_rate_hz), *found]


def _presence_table(presence: Mapping[str, float], there: Sequence[str]) -> Table:
    """The classes that a model finds most probable in a mixture, and those that are there."""
    best = sorted(presence, key=presence.__getitem__, reverse=True)
    shown = best[:MOST_FOUND] + [name for name in best[MOST_FOUND:] if name in there]
    rows = [[name, f"{presence[name]:.2f}", "there" if name in there else ""] for name in shown]
    return Table(["class", "probability", ""], rows, "What the model finds in the mixture")
