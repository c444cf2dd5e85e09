"""Pictures compared with the sounds of a batch: which of them count."""

import torch

from cocktail.losses.correspondence import Pairs, correspondence_loss


def asked(pairs: Pairs, pictures: torch.Tensor, sounds: torch.Tensor) -> torch.Tensor:
    """How far sounds are from pictures: the own one, and in the mean the others."""
    apart = (pictures[:, None] - sounds[None]).abs()
    return 10 * pairs.of_own(apart) + pairs.mean_over_others(apart)


PICTURES, SOUNDS = (
    torch.tensor([[1.0, 5.0], [2.0, 5.0], [4.0, 5.0]]),
    torch.tensor([[1.0, 5.0], [3.0, 6.0], [9.0, 7.0]]),
)


def test_each_picture_meets_its_own_sound_and_those_of_other_mixtures_of_the_same_source():
    here = torch.ones(3, 2, dtype=torch.bool)
    first = [(2 + 8) / 2, 10 + (1 + 7) / 2, 50 + (3 + 1) / 2]
    second = [(1 + 2) / 2, 10 + (0 + 2) / 2, 20 + (0 + 1) / 2]
    loss = correspondence_loss(asked, PICTURES, SOUNDS, here)
    torch.testing.assert_close(loss, torch.tensor(sum(first + second) / 6))


def test_a_source_that_is_not_there_is_neither_asked_nor_heard():
    here = torch.tensor([[True], [False], [True]])
    loss = correspondence_loss(asked, PICTURES[:, :1], SOUNDS[:, :1], here)
    torch.testing.assert_close(loss, torch.tensor((8 + 50 + 3) / 2))
    pairs = Pairs.of(here[:, 0])
    assert pairs.masked(torch.zeros(3, 3)).isinf().tolist() == [[False, True, False], [False] * 3, [False, True, False]]


def test_of_nothing_and_of_one_mixture_alone_there_is_no_comparison():
    assert correspondence_loss(asked, PICTURES, SOUNDS, torch.zeros(3, 2, dtype=torch.bool)) == 0
    one = torch.ones(1, 1, dtype=torch.bool)
    assert correspondence_loss(asked, PICTURES[1:2, :1], SOUNDS[1:2, :1], one) == 10
