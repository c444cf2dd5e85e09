"""Means by class: what counts in them, and for how long."""

import pytest
import torch

from cocktail.numerics.class_means import ClassMeans
from cocktail.numerics.randomness import rows_of_batch
from cocktail.types import NO_CLASS

IDS = torch.tensor([[0, 2], [2, NO_CLASS]])
HERE = torch.tensor([[True, True], [True, True]])


def test_what_came_in_one_step_counts_alike_and_what_came_before_less():
    means = ClassMeans(3, 1, memory=0.5)
    means.add(torch.tensor([[[1.0], [2.0]], [[6.0], [99.0]]]), IDS, HERE)
    assert means.means().tolist() == [[1.0], [0.0], [4.0]]
    means.add(torch.tensor([[[10.0], [0.0]], [[0.0], [99.0]]]), IDS, HERE)
    # Of class 0 one before, with half its weight; of class 2 two before, with a quarter of theirs.
    expected = torch.tensor([[(0.5 * 1 + 10) / 1.5], [0.0], [0.25 * 8 / 2.5]])
    torch.testing.assert_close(means.means(), expected)


def test_a_class_that_does_not_come_keeps_its_mean_for_ever():
    means = ClassMeans(3, 1, memory=0.5)
    means.add(torch.full((2, 2, 1), 3.0), IDS, HERE)
    for _ in range(2000):
        means.add(torch.ones(2, 2, 1), torch.zeros_like(IDS), HERE)
    torch.testing.assert_close(means.means(), torch.tensor([[1.0], [0.0], [3.0]]))


@pytest.mark.parametrize("counted", [True, False])
def test_sources_that_are_not_there_and_rows_that_stand_in_count_for_nothing(counted):
    means = ClassMeans(3, 1, memory=0.5)
    with rows_of_batch(torch.arange(2), 2, counted=counted):
        means.add(torch.ones(2, 2, 1), IDS, torch.tensor([[True, False], [False, True]]))
    assert means.get_buffer("weights").tolist() == [float(counted), 0.0, 0.0]
