"""Figures and sounds of a few mixtures, for eyes and ears."""

from __future__ import annotations

from pathlib import Path

import torch

from cocktail.audio.mixing import mix
from cocktail.report.figures import separation_figure, write_sounds
from cocktail.types import MixtureBatch, Separator


def store_examples(
    folder: Path, separator: Separator, batch: MixtureBatch, classes: tuple[str, ...], sample_rate_hz: int
) -> None:
    """Separate a batch and write `<mixture id>.png` and a folder of wavs for each mixture."""
    with torch.inference_mode():
        mixtures, references = mix(batch)
        separation = separator.separate(mixtures, batch.class_ids)
        ideal = separator.oracle(mixtures, references)
    length = separation.estimates.shape[-1]
    folder.mkdir(parents=True, exist_ok=True)
    for b, mixture_id in enumerate(batch.mixture_ids):
        count = int(batch.present[b].sum())
        names = [classes[class_id] for class_id in batch.class_ids[b, :count].tolist()]
        mixture, reference = mixtures[b, :length].numpy(), references[b, :count, :length].numpy()
        estimate = separation.estimates[b, :count].numpy()
        figure = separation_figure(
            mixture,
            reference,
            estimate,
            separation.masks[b, :count].numpy(),
            ideal.masks[b, :count].numpy(),
            names,
            sample_rate_hz,
            f"mixture {mixture_id}",
        )
        figure.savefig(folder / f"{mixture_id}.png", dpi=80)
        write_sounds(folder / mixture_id, mixture, reference, estimate, names, sample_rate_hz)
