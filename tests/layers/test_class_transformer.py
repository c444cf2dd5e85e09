"""Class tokens beside features, and which grouping settings ask for."""

from dataclasses import replace

import pytest
import torch

from cocktail.layers.class_transformer import ClassTransformer, ClassTransformerConfig, class_grouping
from cocktail.layers.grouping import CategoryGrouping, GroupViTGrouping
from cocktail.types import UsageError

SMALL = ClassTransformerConfig(width=8, depth=2, num_heads=2, stochastic_depth=0.0)
FEATURES, TOKENS = torch.randn(3, 5, 8), torch.randn(3, 4, 8)


@pytest.mark.parametrize("attention", ["block", "literal"])
def test_features_and_tokens_are_one_sequence_and_come_back_apart(attention):
    transformer = ClassTransformer(replace(SMALL, attention=attention))
    features, tokens = transformer.with_tokens(FEATURES, TOKENS)
    together = transformer(torch.cat([FEATURES, TOKENS], dim=1))
    assert features.equal(together[:, :5]) and tokens.equal(together[:, 5:])
    assert not transformer.with_tokens(FEATURES, TOKENS.flip(2))[0].equal(features)


def test_layers_follow_one_another():
    transformer = ClassTransformer(SMALL)
    first, second = transformer
    assert transformer(FEATURES).equal(second(first(FEATURES)))


def test_the_grouping_is_the_one_that_settings_ask_for():
    plain = class_grouping(SMALL, 4, eps=0.5, axis="patches")
    assert type(plain) is CategoryGrouping
    assert (plain.eps, plain.axis, plain.assignment) == (0.5, "patches", "soft")
    hard = class_grouping(replace(SMALL, grouping="groupvit", assignment="hard", gumbel_temperature=2.0), 4, eps=1.0)
    assert type(hard) is GroupViTGrouping
    assert (hard.eps, hard.axis, hard.assignment, hard.temperature) == (1.0, "classes", "hard", 2.0)
    vectors, assignment = hard(FEATURES, TOKENS)
    assert vectors.shape == (3, 4, 8) and assignment.shape == (3, 5, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "must be at least 1"),
        ({"num_heads": 0}, "must be at least 1"),
        ({"num_heads": 3}, "num_heads divide width 8"),
        ({"stochastic_depth": 1.0}, r"stochastic_depth must be in \[0, 1\)"),
        ({"gumbel_temperature": 0.0}, "gumbel_temperature must be positive"),
    ],
)
def test_settings_that_no_transformer_can_have_are_refused(change, message):
    SMALL.require_transformer()
    with pytest.raises(UsageError, match=message):
        replace(SMALL, **change).require_transformer()
