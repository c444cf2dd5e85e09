"""What is left of mixtures without the sources that are seen."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cocktail.audio.mixing import mix
from cocktail.layers.masking import BY_SUBTRACTED_MAGNITUDES, BY_SUBTRACTION
from cocktail.types import MixtureBatch, Query, Separation


def assert_what_is_not_seen_is_what_is_left(model: Any, batch: MixtureBatch) -> Separation:
    """AVSA-Sep, eq. 3: sources that are not seen are the mixture less the estimates of those that are, as waveforms, or
    bin by bin as magnitudes, down to 0. Gives the answer back."""
    mixture = mix(batch)[0]
    own = model.separate(mixture, Query.of(batch))
    transform, masks = model.front_end.stft(mixture), model.front_end.unwarp(own.masks)
    used = (masks > 0.5).float() if model.config.masks == "binary" else masks
    left, floored = (own.alternatives[name].estimates for name in (BY_SUBTRACTION, BY_SUBTRACTED_MAGNITUDES))
    length = left.shape[-1]
    inner = slice(256, length - 256)  # a transform does not give back its ends

    def assert_close(found: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(found[inner], expected[inner], rtol=0, atol=1e-5)

    assert batch.seen is not None
    for b, seen in enumerate(batch.seen):
        assert seen.any() and not seen.all()
        assert own.estimates[b][seen].abs().max() > 1e-3 and left[b][~seen].abs().amax(dim=1).min() > 1e-3
        rest = mixture[b, :length] - own.estimates[b][seen].sum(dim=0)
        loudness = transform[b].abs() - sum(used[b, n] * transform[b].abs() for n in range(len(seen)) if seen[n])
        floor = model.front_end.istft(torch.polar(loudness.clamp(min=0), transform[b].angle())[None])[0]
        for n in range(len(seen)):
            assert_close(left[b, n], own.estimates[b, n] if seen[n] else rest)
            assert_close(floored[b, n], own.estimates[b, n] if seen[n] else floor)
    return own
