"""Dropout of a batch that is divided."""

import pytest
import torch

from cocktail.layers.dropout import Dropout
from cocktail.numerics.randomness import rows_of_batch


def dropped(rows: list[int], probability: float = 0.75) -> torch.Tensor:
    torch.manual_seed(0)
    with rows_of_batch(torch.tensor(rows), 6):
        return Dropout(probability)(torch.ones(len(rows), 40, 5, 5))


def test_an_example_loses_the_same_whoever_has_it():
    assert torch.equal(dropped([4, 5]), dropped([0, 1, 2, 3, 4, 5])[4:])


def test_an_example_of_several_rows_loses_the_same_whoever_has_it():
    """Rows of sources, one after the other, where a batch is divided by mixtures."""
    dropout, features = Dropout(0.5), torch.ones(8, 30)
    torch.manual_seed(3)
    whole = dropout(features)
    for rows in (torch.tensor([0, 1]), torch.tensor([2, 3])):
        torch.manual_seed(3)
        with rows_of_batch(rows, 4):
            part = dropout(features[:4])
        assert part.equal(whole.unflatten(0, (4, 2))[rows].flatten(0, 1))


def test_a_share_is_dropped_and_the_rest_scaled_up_in_training_alone():
    values = dropped([0, 1, 2, 3, 4, 5])
    assert set(values.unique().tolist()) == {0.0, 4.0}
    assert (values == 0).float().mean().item() == pytest.approx(0.75, abs=0.02)
    features = torch.rand(2, 3)
    assert Dropout(0.9).eval()(features) is features and Dropout(0.0)(features) is features
