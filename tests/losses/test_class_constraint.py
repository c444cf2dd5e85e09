"""Cross-entropies of classes written out."""

import torch

from cocktail.losses.class_constraint import presence_loss, token_loss


def test_token_i_is_to_be_taken_for_class_i():
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 3.0], [1.0, 1.0, 1.0]])
    expected = -torch.stack([logits.softmax(1)[i, i].log() for i in range(3)]).mean()
    torch.testing.assert_close(token_loss(logits), expected)
    torch.testing.assert_close(token_loss(logits, "sum"), 3 * expected)


def test_presence_is_a_cross_entropy_a_class_and_mixtures_are_averaged():
    logits = torch.tensor([[0.5, -1.0, 2.0], [0.0, 3.0, -0.5]])
    truth = torch.tensor([[True, False, False], [False, True, True]])
    p = logits.sigmoid()
    entropies = -torch.where(truth, p, 1 - p).log()
    torch.testing.assert_close(presence_loss(logits, truth), entropies.mean())
    torch.testing.assert_close(presence_loss(logits, truth, "sum"), entropies.sum(1).mean())
    torch.testing.assert_close(presence_loss(logits[:, None], truth[:, None], "sum"), entropies.sum(1).mean())


def test_they_are_at_least_float32_whatever_the_logits_are():
    logits = torch.eye(3, dtype=torch.bfloat16)
    assert token_loss(logits).dtype == presence_loss(logits, logits > 0).dtype == torch.float32
    assert token_loss(logits.double()).dtype == presence_loss(logits.double(), logits > 0).dtype == torch.float64
