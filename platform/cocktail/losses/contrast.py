"""The contrast between sounds and pictures that audio-visual localization learns from (AVGN eq. 10; EZ-VSL).

Shape letters: B mixtures, S sources of each, P locations, C classes, D width; M pictures, and R sounds of all workers.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.numerics.gathering import gather_rows
from cocktail.numerics.precision import at_least_float32
from cocktail.numerics.randomness import rows_are_counted

EPS = 1e-12
"""Least length that a vector is divided by, as in torch's `normalize`."""


def audio_visual_contrast(
    audio: Tensor,
    visual: Tensor,
    present: Tensor,
    temperature: float,
    *,
    class_ids: Tensor | None = None,
    mask_same_class: bool = False,
    gates: Tensor | None = None,
) -> Tensor:
    """The loss, a scalar, of each sound finding its own picture among the batch's, and each picture its own sound.

    `audio` is [B, S, D], `visual` [B, S, P, D], `present` bool [B, S]: whether there is such a source. Source s of a
    mixture is compared with source s of the others, by the maximum over locations of their inner product, over
    `temperature`; two cross-entropies, each the mean over sources, are added. With `mask_same_class` sources of a class
    are no negatives of each other. Given `gates` [B, S, C, D], a picture's locations pass its gate of the class of the
    sound that looks for them and become unit vectors. Both need `class_ids` [B, S]. On several workers the batch is
    that of all.
    """
    assert class_ids is not None or not (mask_same_class or gates is not None)
    total, count = audio.new_zeros(()), audio.new_zeros(())
    with torch.autocast(audio.device.type, enabled=False):
        for s in range(audio.shape[1]):
            here = gather_rows(present[:, s].float() * rows_are_counted()) > 0
            sounds = gather_rows(at_least_float32(audio[:, s]))
            ids = None if class_ids is None else gather_rows(class_ids[:, s])
            asked = None
            if gates is not None and ids is not None:
                asked = at_least_float32(gates[:, s, ids.clamp(min=0)])
            similarity = gather_rows(best_similarity(sounds, at_least_float32(visual[:, s]), asked)) / temperature
            own = torch.eye(len(here), dtype=torch.bool, device=here.device)
            compared = here[:, None] & here[None, :]
            if mask_same_class and ids is not None:
                compared &= ids[:, None] != ids[None, :]
            similarity = similarity.masked_fill(~(compared | own), -torch.inf)
            log_share = F.log_softmax(similarity, dim=0).diagonal() + F.log_softmax(similarity, dim=1).diagonal()
            total = total - (log_share * here).sum()
            count = count + here.sum()
    return total / count.clamp(min=1)


def best_similarity(audio: Tensor, visual: Tensor, gates: Tensor | None = None) -> Tensor:
    """The largest inner product [M, R] of sounds [R, D] with the locations of pictures [M, P, D]; with locations that
    passed `gates` [M, R, D] and have length one, if these are given."""
    if gates is None:
        return torch.einsum("mpd,rd->mpr", visual, audio).amax(dim=1)
    # As many gated locations as pairs, times their width, would not fit into memory.
    product = torch.einsum("mpd,mrd->mpr", visual, gates * audio)
    square = torch.einsum("mpd,mrd->mpr", visual.square(), gates.square())
    return (product / square.clamp(min=EPS**2).sqrt()).amax(dim=1)
