"""A head that says classes, and features that classes change."""

import torch

from cocktail.layers.class_conditioning import ClassHead, FiLM
from cocktail.types import NO_CLASS


def test_the_head_classifies_the_mean_over_all_places():
    torch.manual_seed(0)
    head = ClassHead(3, 5)
    for shape in ((2, 3, 7), (2, 3, 4, 6)):
        features = torch.randn(shape)
        mean = features.flatten(2).mean(2)
        torch.testing.assert_close(head(features), mean @ head.linear.weight.T + head.linear.bias)


def test_film_scales_and_shifts_channels_by_class():
    film = FiLM(4, 3)
    with torch.no_grad():
        film.table.copy_(torch.arange(24).view(4, 2, 3))
    scale, shift = film.scale_and_shift(torch.tensor([[0, 3], [2, NO_CLASS]]))
    assert scale.tolist() == [[[1, 2, 3], [19, 20, 21]], [[13, 14, 15], [1, 1, 1]]]
    assert shift.tolist() == [[[3, 4, 5], [21, 22, 23]], [[15, 16, 17], [0, 0, 0]]]
    for shape in ((2, 3, 7), (2, 3, 2, 5)):
        features = torch.randn(shape)
        out = film(features, torch.tensor([1, NO_CLASS]))
        for channel in range(3):
            torch.testing.assert_close(out[0, channel], features[0, channel] * (7 + channel) + 9 + channel)
        assert out[1].equal(features[1])


def test_only_the_classes_of_a_batch_learn():
    film = FiLM(4, 3)
    film(torch.randn(3, 3, 7), torch.tensor([1, 3, NO_CLASS])).square().sum().backward()
    assert film.table.grad is not None
    assert film.table.grad.abs().sum((1, 2)).gt(0).tolist() == [False, True, False, True]
