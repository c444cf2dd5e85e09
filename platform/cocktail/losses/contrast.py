"""The contrast between sounds and pictures that audio-visual localization learns from (AVGN eq. 10; EZ-VSL).

Shape letters: B mixtures, S sources of each, P locations, D width; over all workers, M pictures and R sounds.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.layers.gathering import gather_rows
from cocktail.layers.precision import at_least_float32
from cocktail.layers.randomness import rows_are_counted


def audio_visual_contrast(
    audio: Tensor, visual: Tensor, present: Tensor, temperature: float, class_ids: Tensor | None = None
) -> Tensor:
    """How well each sound finds its own picture among the batch's, and each picture its own sound: a scalar.

    `audio` is [B, S, D], `visual` [B, S, P, D], `present` bool [B, S]: whether there is such a source. Source s of a
    mixture is compared with source s of the others, by the maximum over locations of their inner product, over
    `temperature`; two cross-entropies, each the mean over sources, are added. Given `class_ids` [B, S], sources of a
    class are no negatives of each other. On several workers the batch is that of all.
    """
    total, count = audio.new_zeros(()), audio.new_zeros(())
    with torch.autocast(audio.device.type, enabled=False):
        for s in range(audio.shape[1]):
            here = gather_rows(present[:, s].float() * rows_are_counted()) > 0
            sounds = gather_rows(at_least_float32(audio[:, s]))
            similarity = gather_rows(best_similarity(sounds, at_least_float32(visual[:, s]))) / temperature
            own = torch.eye(len(here), dtype=torch.bool, device=here.device)
            compared = here[:, None] & here[None, :]
            if class_ids is not None:
                ids = gather_rows(class_ids[:, s])
                compared &= ids[:, None] != ids[None, :]
            similarity = similarity.masked_fill(~(compared | own), -torch.inf)
            found = F.log_softmax(similarity, dim=0).diagonal() + F.log_softmax(similarity, dim=1).diagonal()
            total = total - (found * here).sum()
            count = count + here.sum()
    return total / count.clamp(min=1)


def best_similarity(audio: Tensor, visual: Tensor) -> Tensor:
    """The largest inner product [M, R] of sounds [R, D] with the locations of pictures [M, P, D]."""
    return torch.einsum("mpd,rd->mpr", visual, audio).amax(dim=1)
