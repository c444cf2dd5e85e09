"""Attention maps are what the paper's equations say, whatever channels come in."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.layers.decoupled_attention import Activation, Attention, DecoupledAttention

PLACES = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def attention(activation: Activation = "softplus", dropout: float = 0.0) -> DecoupledAttention:
    torch.manual_seed(0)
    return DecoupledAttention(8, 5, activation, dropout).double()


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_the_expansive_part_adds_up_to_one_even_where_a_channel_is_nowhere_positive(activation):
    network = attention(activation)
    with torch.no_grad():
        network.expansive.weight[2], network.expansive.bias[2] = 0.0, -40.0
    expansive = network(PLACES).expansive
    assert (expansive > 0).all()
    torch.testing.assert_close(expansive.sum(dim=1), torch.ones(3, 5, dtype=torch.float64))
    torch.testing.assert_close(expansive[..., 2], torch.full((3, 6), 1 / 6, dtype=torch.float64))


def test_scores_are_means_of_the_product_and_shift_with_the_discriminative_part():
    seen = attention()(PLACES)
    places = seen.expansive.shape[1]
    by_hand = torch.stack([(seen.expansive[:, q] * seen.discriminative[:, q]) for q in range(places)]).sum(0) / places
    torch.testing.assert_close(seen.scores("mean"), by_hand)
    torch.testing.assert_close(seen.scores("sum"), by_hand * places)
    one_class = F.one_hot(torch.tensor(1), seen.discriminative.shape[-1]).double()
    moved = Attention(expansive=seen.expansive, discriminative=seen.discriminative + 3.0 * one_class)
    shift = (3.0 * one_class).expand_as(by_hand)  # of that class, and of no other
    torch.testing.assert_close(moved.scores("mean") - seen.scores("mean"), shift / places)
    torch.testing.assert_close(moved.scores("sum") - seen.scores("sum"), shift)


def features_of(maps: Tensor, pool) -> Tensor:
    """Of a picture of three places with features 1, 10 and 100."""
    expansive = torch.tensor([[0.2, 0.3, 0.5]])[..., None]
    seen = Attention(expansive=expansive, discriminative=maps[None, :, None] / expansive)
    places = torch.tensor([[[1.0], [10.0], [100.0]]])
    return seen.attended(places, torch.tensor([0]), torch.tensor([0]), pool)[0, 0]


def test_an_object_is_the_mean_by_the_positive_part_of_its_map_or_the_sum_by_all_of_it():
    maps = torch.tensor([0.3, -0.5, 0.1])
    assert features_of(maps, "positive").item() == pytest.approx((0.3 + 10) / 0.4, rel=1e-4)
    assert features_of(maps, "literal").item() == pytest.approx(0.3 - 5 + 10, rel=1e-5)


def test_where_a_map_is_nowhere_positive_the_expansive_part_weighs():
    maps = torch.tensor([-0.3, -0.5, 0.0])
    assert features_of(maps, "positive").item() == pytest.approx(0.2 + 3 + 50, rel=1e-5)
    assert features_of(maps, "literal").item() == pytest.approx(-0.3 - 5, rel=1e-5)


def test_objects_look_in_their_own_picture_for_their_own_class():
    seen, network = attention()(PLACES), attention()
    one = seen.attended(PLACES, torch.tensor([2, 0, 2]), torch.tensor([4, 1, 1]), "positive")
    for row, (picture, class_id) in enumerate(((2, 4), (0, 1), (2, 1))):
        alone = network(PLACES[picture : picture + 1])
        weights = alone.maps[0, :, class_id].relu()
        torch.testing.assert_close(one[row], weights @ PLACES[picture] / (weights.sum() + 1e-6))


def test_both_dropouts_of_the_expansive_part_act_in_training_and_on_average_leave_its_strengths():
    network, places = DecoupledAttention(2, 1, "softplus", 0.25), torch.ones(1, 40000, 2)
    with torch.no_grad():
        network.expansive.weight.fill_(0.5)
        network.expansive.bias.fill_(1.0)
    torch.manual_seed(0)
    seen, undropped = network.train()(places), network.eval()(places)
    torch.testing.assert_close(undropped.expansive, torch.full((1, 40000, 1), 1 / 40000))
    assert seen.discriminative.equal(undropped.discriminative)
    # A place without any strength has F(0) = ln 2, which says by what all of them were divided.
    strengths = (seen.expansive / seen.expansive.min() * math.log(2)).double().expm1().log()
    # Nothing, or a bias and none, one or two features of 1/2, made up for what is dropped.
    expected = [0.0, 1 / 0.75, (1 + 0.5 / 0.75) / 0.75, (1 + 1.0 / 0.75) / 0.75]
    assert strengths.mul(1000).round().unique().tolist() == [round(1000 * strength) for strength in expected]
    assert strengths.mean().item() == pytest.approx(2.0, abs=0.03)
