"""Figures and sounds of a few mixtures, for eyes and ears.

Shape letters: B batch, N sources, K estimates, T samples, R rows, M frames, P patches, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cocktail.audio.mixing import mix
from cocktail.metrics.separation import LIMIT_DB, is_silent, match, si_sdr_pairs
from cocktail.report.figures import masks_figure, panel, patch_grid, write_sounds
from cocktail.tasks.rows import names_of
from cocktail.types import MixtureBatch, Query, Separation, Separator

FIGURE_DPI = 90


def store_examples(
    folder: Path,
    separator: Separator,
    batch: MixtureBatch,
    classes: tuple[str, ...],
    sample_rate_hz: int,
    systems: Sequence[str] = (),
) -> None:
    """Separate a batch; write `<mixture id>.png`, `<mixture id>-masks.png` and a folder of wavs for each mixture.

    The first figure shows the model's estimates, its alternatives and its ceilings: all, or those that `systems` names.
    An alternative that finds more or fewer sources than there are is left out, and so is one that says what another
    says; estimates of no class, or of one not in the mixture, stand beside the references that they fit best. Raises
    ValueError if `systems` names what the model does not have.
    """
    with torch.inference_mode():
        mixtures, references = mix(batch)
        separation = separator.separate(mixtures, Query.of(batch))
        ceilings = separator.oracle(mixtures, references)
    others = {**separation.alternatives, **ceilings}
    if unknown := set(systems) - set(others):
        raise ValueError(f"the model has no {', '.join(sorted(unknown))} to draw: choose from {', '.join(others)}")
    length = separation.estimates.shape[-1]
    folder.mkdir(parents=True, exist_ok=True)
    for b, mixture_id in enumerate(batch.mixture_ids):
        count = int(batch.present[b].sum())
        class_ids, sources = batch.class_ids[b, :count], references[b, :count, :length]
        own = align(separation, b, sources, class_ids)
        columns, masks = {f"estimate{own.mark}": own.estimates}, {f"predicted mask{own.mark}": own.masks}
        found: dict[str, list[str]] = {}
        for name in systems or others:
            if name in ceilings:
                columns[name] = ceilings[name].estimates[b, :count].numpy()
            elif fits(separation.alternatives[name], b, count):
                other = align(separation.alternatives[name], b, sources, class_ids)
                if any(np.array_equal(other.estimates, columns[shown]) for shown in list(columns)[1:]):
                    continue
                columns[name + other.mark] = other.estimates
                if not other.mark:
                    found[name] = names_of(other.class_ids, classes)
        masks |= {name: ceiling.masks[b, :count].numpy() for name, ceiling in ceilings.items()}
        names, title = names_of(class_ids, classes), f"mixture {mixture_id}"
        sounds = mixtures[b, :length].numpy(), sources.numpy()
        figure = panel(*sounds, columns, names, sample_rate_hz, title, found)
        figure.savefig(folder / f"{mixture_id}.png", dpi=FIGURE_DPI)
        figure = masks_figure(masks, names, title, **insight(separation, b, class_ids, classes))
        figure.savefig(folder / f"{mixture_id}-masks.png", dpi=FIGURE_DPI)
        write_sounds(folder / mixture_id, *sounds, own.estimates, names, sample_rate_hz)


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """What a system makes of one mixture, in the order of its N references."""

    estimates: np.ndarray
    """[N, T]."""
    masks: np.ndarray
    """[N, R, M]."""
    class_ids: Tensor
    """[N]: those of the estimates."""

    @property
    def mark(self) -> str:
        """What to add to the system's name if an estimate is of no class, so that only its sound says whose it is."""
        return " (matched)" if (self.class_ids < 0).any() else ""


def align(separation: Separation, b: int, references: Tensor, class_ids: Tensor) -> Aligned:
    """Mixture b's estimates and masks in the order of its references [N, T] of classes [N].

    By class, and by the best mean SI-SDR where classes do not decide. What is silent fits nothing.
    """
    estimates = separation.estimates[b]
    scores = torch.full((len(estimates), len(references)), -LIMIT_DB, dtype=torch.float64)
    rows, columns = (~is_silent(signals) for signals in (estimates, references))
    scores[rows[:, None] & columns] = si_sdr_pairs(references[None, columns], estimates[None, rows]).flatten()
    order = match(class_ids, separation.class_ids[b], scores)
    return Aligned(
        estimates=estimates[order].numpy(),
        masks=separation.masks[b, order].numpy(),
        class_ids=separation.class_ids[b, order],
    )


def fits(separation: Separation, b: int, count: int) -> bool:
    """Whether the estimates of mixture b can stand beside so many references: as many if they have classes."""
    class_ids = separation.class_ids[b]
    found = int((class_ids >= 0).sum())
    return found == count if found else len(class_ids) >= count


def insight(separation: Separation, b: int, class_ids: Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """What `masks_figure` can show of how mixture b's masks came about: assignment and presence, where there are."""
    shown: dict[str, Any] = {}
    if "assignment" in separation.intermediates:
        assignment = separation.intermediates["assignment"][b].float().numpy()
        rows, frames = separation.masks.shape[-2:]
        shown["assignment"] = [
            patch_grid(assignment[:, i], rows, frames) if i >= 0 else None for i in class_ids.tolist()
        ]
    if "presence" in separation.intermediates:
        presence = separation.intermediates["presence"][b].tolist()
        shown["presence"] = dict(zip(classes, presence, strict=True))
        shown["true_classes"] = [classes[i] for i in class_ids.tolist() if i >= 0]
    return shown
