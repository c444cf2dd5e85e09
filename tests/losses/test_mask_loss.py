"""Mask losses written out bin by bin."""

import math

import torch

from cocktail.losses.mask_loss import (
    absolute_mask_loss,
    ideal_masks,
    loudness_weights,
    mask_loss,
    mask_loss_of,
    pairwise_mask_loss,
)


def test_targets_are_dominance_or_shares_of_the_mixture():
    sources, mixture = torch.tensor([[[[3.0, 1.0]], [[1.0, 2.0]]]]), torch.tensor([[[[4.0, 3.0]]]])
    assert ideal_masks(sources, mixture, "binary").flatten().tolist() == [1, 0, 0, 1]
    torch.testing.assert_close(
        ideal_masks(sources, mixture, "ratio").flatten(), torch.tensor([3 / 4, 1 / 3, 1 / 4, 2 / 3])
    )


def test_bins_weigh_as_the_logarithm_of_their_loudness_within_limits():
    weights = loudness_weights(torch.tensor([0.0, math.e - 1, 1e9]))
    torch.testing.assert_close(weights, torch.tensor([1e-3, 1.0, 10.0]))


def test_a_masks_loss_is_the_weighed_cross_entropy_over_the_number_of_bins():
    logits, targets = torch.tensor([[[[0.5, -1.0, 2.0]]]]), torch.tensor([[[[1.0, 0.0, 0.25]]]])
    weights = torch.tensor([[[[2.0, 0.0, 1.0]]]])
    p = [1 / (1 + math.exp(-z)) for z in (0.5, -1.0, 2.0)]
    bins = [-math.log(p[0]), -math.log(1 - p[1]), -0.25 * math.log(p[2]) - 0.75 * math.log(1 - p[2])]
    torch.testing.assert_close(mask_loss(logits, targets), torch.tensor([[sum(bins) / 3]]))
    torch.testing.assert_close(mask_loss(logits, targets, weights), torch.tensor([[(2 * bins[0] + bins[2]) / 3]]))


def test_ratio_masks_have_the_weighed_absolute_difference():
    logits, targets = torch.tensor([[[[0.0, 0.0, math.log(3)]]]]), torch.tensor([[[[1.0, 0.25, 0.75]]]])
    torch.testing.assert_close(absolute_mask_loss(logits, targets), torch.tensor([[0.25]]))
    weights = torch.tensor([[[[2.0, 1.0, 5.0]]]])
    torch.testing.assert_close(absolute_mask_loss(logits, targets, weights), torch.tensor([[1.25 / 3]]))
    assert mask_loss_of("ratio") is absolute_mask_loss and mask_loss_of("binary") is mask_loss


def test_each_mask_meets_each_target():
    torch.manual_seed(0)
    logits, targets, weights = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5), torch.rand(2, 1, 4, 5)
    pairs = pairwise_mask_loss(logits, targets, weights)
    assert pairs.shape == (2, 3, 3)
    for i in range(3):
        for j in range(3):
            alone = mask_loss(logits[:, [i]], targets[:, [j]], weights)
            torch.testing.assert_close(pairs[:, i, j], alone[:, 0])
