"""What separators of waveforms are tested with: mixtures of tones, and learning one batch
by heart."""

from __future__ import annotations

import itertools
from dataclasses import replace

import torch
from torch import Tensor, nn

from cocktail.audio.mixing import mix
from cocktail.metrics.separation import si_sdr_pairs
from cocktail.types import MixtureBatch, Query, Separator
from tests.made.models.small_sgn import tones

BATCH = tones([[0, 3], [2, 1], [3, 2]])
SHORT = replace(BATCH, sources=BATCH.sources[..., :1023])


def learn_by_heart(model: nn.Module, batch: MixtureBatch, steps: int, rate: float) -> float:
    """Train on a batch over and over; returns the mean SI-SDR in dB of its sources, each with the estimate of its own
    class, or in the best order where estimates have none."""
    adam = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        loss = model(batch)["total"]
        adam.zero_grad()
        loss.backward()
        adam.step()
    mixture, references = mix(batch)
    separator = model.eval()
    assert isinstance(separator, Separator)
    separation = separator.separate(mixture, Query.of(batch))
    scores = si_sdr_pairs(references, separation.estimates)
    named = bool((separation.class_ids >= 0).all())
    return float(torch.stack([_mean(each, named) for each in scores]).mean())


def _mean(scores: Tensor, named: bool) -> Tensor:
    K, N = scores.shape
    orders = [range(N)] if named else itertools.permutations(range(K), N)
    return max(scores[list(order), range(N)].mean() for order in orders)
