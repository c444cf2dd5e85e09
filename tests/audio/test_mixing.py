"""Mixtures and ideal masks by hand calculation."""

import torch

from cocktail.audio.masks import ideal_binary_mask
from cocktail.audio.mixing import mix
from cocktail.types import MixtureBatch


def batch(sources: list[list[int]], gains: list[float]) -> MixtureBatch:
    return MixtureBatch(
        mixture_ids=("a",),
        sources=torch.tensor([sources], dtype=torch.int16),
        gains=torch.tensor([gains]),
        class_ids=torch.tensor([list(range(len(sources)))]),
        present=torch.ones(1, len(sources), dtype=torch.bool),
    )


def test_sources_are_scaled_clipped_divided_and_summed():
    mixture, references = mix(batch([[16384, -32768], [8192, 32767]], [1.5, 0.5]))
    # 16384/32768 * 1.5 = 0.75; -1 * 1.5 is clipped to -1; half of each, for two sources.
    assert references[0, 0].tolist() == [0.375, -0.5]
    assert references[0, 1, 0].item() == 0.0625
    torch.testing.assert_close(mixture, references.sum(dim=1))


def test_three_sources_are_divided_by_three():
    mixture, references = mix(batch([[32767], [0], [0]], [1.0, 1.0, 1.0]))
    torch.testing.assert_close(references[0, 0], torch.tensor([32767 / 32768 / 3]))
    torch.testing.assert_close(mixture[0], references[0, 0])


def test_mixing_leaves_the_batch_as_it_was():
    stored = batch([[16384], [8192]], [1.5, 0.5])
    mix(stored)
    assert stored.sources.tolist() == [[[16384], [8192]]]


def test_ideal_masks_can_both_be_set_or_neither():
    sources = torch.tensor([1.0, 0.2, 1.0, 0.1]).view(1, 2, 1, 2)  # source 0: 1.0, 0.2; source 1: 1.0, 0.1
    mixture = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)
    masks = ideal_binary_mask(sources, mixture)
    assert masks[0, :, 0, 0].tolist() == [1.0, 1.0]
    assert masks[0, :, 0, 1].tolist() == [0.0, 0.0]


def test_the_threshold_is_strict():
    half = ideal_binary_mask(torch.full((1, 1, 1, 1), 0.5), torch.ones(1, 1, 1, 1))
    assert half.item() == 0.0
