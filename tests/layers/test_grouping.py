"""Grouping against eq. 5 and 6 written out."""

import pytest
import torch
from torch.nn import functional as F

from cocktail.layers.grouping import CategoryGrouping, GroupViTGrouping, assign
from cocktail.layers.transformer import CrossAttentionBlock, LiteralAttention, TransformerBlock


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
            torch.testing.assert_close(assignment[b, p], scores.softmax(0))
        for i in range(C):
            weights = assignment[b, :, i]
            mean = (weights[:, None] * grouping.value(f)).sum(0) / (weights.sum() + 1e-6)
            torch.testing.assert_close(vectors[b, i], tokens[b, i] + grouping.out(mean), rtol=1e-10, atol=1e-10)


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


def test_soft_assignments_over_patches_sum_to_one_for_each_class():
    _, assignment = CategoryGrouping(8, eps=1e-6, axis="patches")(torch.randn(2, 5, 8), torch.randn(2, 3, 8))
    torch.testing.assert_close(assignment.sum(dim=1), torch.ones(2, 3))


def test_a_hard_assignment_gives_each_patch_to_its_best_class_with_the_soft_ones_gradient():
    scores = torch.randn(2, 5, 3, requires_grad=True)
    hard = assign(scores, "hard", "classes", temperature=2.0, noisy=False)
    torch.testing.assert_close(hard, F.one_hot(scores.argmax(-1), 3).float(), rtol=0, atol=0)
    weights = torch.randn(2, 5, 3)
    (gradient,) = torch.autograd.grad((hard * weights).sum(), scores)
    (expected,) = torch.autograd.grad(((scores / 2).softmax(-1) * weights).sum(), scores)
    torch.testing.assert_close(gradient, expected)


def test_gumbel_noise_draws_classes_with_the_softmaxs_probabilities():
    torch.manual_seed(0)
    scores = torch.tensor([0.0, 1.0, -1.0]).expand(1, 200_000, 3)
    drawn = assign(scores, "hard", "classes", temperature=0.3, noisy=True)
    torch.testing.assert_close(drawn.mean(dim=1)[0], scores[0, 0].softmax(0), atol=0.005, rtol=0)


def test_noise_is_for_training_only():
    grouping = CategoryGrouping(8, eps=1.0, assignment="hard")
    features, tokens = torch.randn(1, 50, 8), 0.01 * torch.randn(1, 3, 8)
    assert not grouping(features, tokens)[1].equal(grouping(features, tokens)[1])
    grouping.eval()
    assert grouping(features, tokens)[1].equal(grouping(features, tokens)[1])


def test_a_class_without_patches_keeps_its_token():
    grouping = CategoryGrouping(8, eps=1.0, assignment="hard").eval()
    torch.nn.init.zeros_(grouping.out.bias)
    tokens = torch.randn(1, 3, 8)
    vectors, assignment = grouping(torch.randn(1, 1, 8), tokens)
    empty = assignment.sum(dim=1)[0] == 0
    assert empty.sum() == 2
    torch.testing.assert_close(vectors[0, empty], tokens[0, empty])


def test_the_groupvit_block_mixes_tokens_attends_and_has_an_mlp_around_the_same_grouping():
    block = GroupViTGrouping(8, 3, num_heads=2, mlp_ratio=2, eps=1e-6)
    features, tokens = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    vectors, assignment = block(features, tokens)
    normed = block.feature_norm(features)
    mixed = block.mixing(block.mixing_norm(tokens).mT).mT
    attended = block.attention(mixed, normed)
    scores = block.query(normed) @ block.key(block.token_norm(attended)).mT / 8**0.5
    torch.testing.assert_close(assignment, scores.softmax(-1))
    means = (assignment / (assignment.sum(1, keepdim=True) + 1e-6)).mT @ block.value(normed)
    grouped = attended + block.out(means)
    torch.testing.assert_close(vectors, grouped + block.channels(block.channel_norm(grouped)))
    moved = tokens.clone()
    moved[:, 0] += 1.0 * torch.randn(2, 8)
    assert not torch.allclose(block(features, moved)[0][:, 1], vectors[:, 1], atol=1e-5)


def test_cross_attention_reads_the_features():
    block = CrossAttentionBlock(8, num_heads=1, mlp_ratio=2)
    tokens, features = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    query = block.query(block.token_norm(tokens))
    key, value = block.key_value(features).chunk(2, dim=-1)
    expected = tokens + block.attention_out((query @ key.mT / 8**0.5).softmax(-1) @ value)
    torch.testing.assert_close(block(tokens, features), expected + block.mlp(block.mlp_norm(expected)))


def test_literal_attention_is_eq_3_as_printed():
    x = torch.randn(2, 4, 8)
    torch.testing.assert_close(LiteralAttention()(x), (x @ x.mT / 8**0.5).softmax(-1) @ x)


def gradients(module: torch.nn.Module, *inputs: torch.Tensor) -> dict[str, torch.Tensor | None]:
    """Of a scalar that depends on all that a module gives, in float64, where rounding is far below all else."""
    torch.manual_seed(1)
    module.double()
    for parameter in module.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    given = module(*(each.double() for each in inputs))
    given = given if isinstance(given, tuple) else (given,)
    torch.stack([(each * torch.randn_like(each)).sum() for each in given]).sum().backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()}


@pytest.mark.parametrize(
    ("settings", "still"),
    [
        ({}, {"key.bias", "token_norm.bias"}),
        ({"assignment": "hard"}, {"key.bias", "token_norm.bias"}),
        ({"axis": "patches"}, {"query.bias"}),
    ],
)
def test_biases_that_cancel_out_of_the_softmax_do_not_learn_and_all_else_does(settings, still):
    torch.manual_seed(0)
    grouping = CategoryGrouping(8, eps=1.0, **settings)
    features, tokens = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    found = gradients(grouping, features, tokens)
    assert {name for name, gradient in found.items() if gradient is None} == still
    assert all(gradient.abs().max() > 1e-6 for gradient in found.values() if gradient is not None)
    grouping.eval()
    before = grouping(features.double(), tokens.double())[1]
    for name in still:
        grouping.get_parameter(name).data += 1.0
    torch.testing.assert_close(grouping(features.double(), tokens.double())[1], before)


@pytest.mark.parametrize(
    ("block", "name", "keys"),
    [
        (TransformerBlock(8, num_heads=2, mlp_ratio=2, stochastic_depth=0.0), "qkv.bias", slice(8, 16)),
        (CrossAttentionBlock(8, num_heads=2, mlp_ratio=2), "key_value.bias", slice(0, 8)),
    ],
)
def test_the_keys_bias_of_attention_does_not_learn_and_changes_nothing(block, name, keys):
    torch.manual_seed(0)
    inputs = (torch.randn(2, 4, 8), torch.randn(2, 5, 8))[: 1 if name == "qkv.bias" else 2]
    bias = block.get_parameter(name)
    gradient = gradients(block, *inputs)[name]
    assert gradient is not None and not gradient[keys].any()
    assert (gradient.abs() > 1e-6).sum() == len(bias) - 8
    before = block(*(each.double() for each in inputs))
    bias.data[keys] += 1.0
    torch.testing.assert_close(block(*(each.double() for each in inputs)), before)
