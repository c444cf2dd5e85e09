"""Grouping against eq. 5 and 6 written out."""

import pytest
import torch

from cocktail.layers.grouping import CategoryGrouping
from cocktail.layers.transformer import TransformerBlock


def test_grouping_is_eq_5_and_6_written_out():
    torch.manual_seed(0)
    B, P, C, D = 2, 5, 3, 8
    grouping = CategoryGrouping(D, eps=1e-6).double()
    features, tokens = torch.randn(B, P, D).double(), torch.randn(B, C, D).double()
    vectors, assignment = grouping(features, tokens)
    for b in range(B):
        f, c = grouping.feature_norm(features[b]), grouping.token_norm(tokens[b])
        for p in range(P):
            scores = torch.stack([grouping.query(f[p]) @ grouping.key(c[i]) / D**0.5 for i in range(C)])
            torch.testing.assert_close(assignment[b, p], scores.softmax(0).float())
        for i in range(C):
            weights = assignment[b, :, i].double()
            mean = (weights[:, None] * grouping.value(f)).sum(0) / (weights.sum() + 1e-6)
            torch.testing.assert_close(vectors[b, i], tokens[b, i] + grouping.out(mean), rtol=1e-6, atol=1e-6)


def test_each_patch_divides_itself_among_the_classes():
    _, assignment = CategoryGrouping(8, eps=1e-6)(torch.randn(2, 5, 8), torch.randn(2, 3, 8))
    torch.testing.assert_close(assignment.sum(dim=-1), torch.ones(2, 5))


def test_stochastic_depth_acts_in_training_only_and_keeps_the_mean():
    torch.manual_seed(0)
    block = TransformerBlock(16, num_heads=2, mlp_ratio=2, stochastic_depth=0.5)
    x = torch.randn(1, 4, 16).expand(4000, 4, 16)
    branch = block._attend(block.attention_norm(x))
    dropped = block.train()._drop(branch)
    assert set((dropped / branch).round(decimals=3).unique().tolist()) == {0.0, 2.0}
    torch.testing.assert_close(dropped.mean(0), branch.mean(0), atol=0.05 * branch.abs().max().item(), rtol=0)
    assert block.eval()._drop(branch) is branch


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="multiple of the number of heads"):
        TransformerBlock(10, num_heads=4, mlp_ratio=2, stochastic_depth=0.0)
