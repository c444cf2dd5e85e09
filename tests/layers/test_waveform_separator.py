"""What separators of waveforms share: answers to queries, and mixtures that are refused."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from cocktail.audio.mixing import mix
from cocktail.config.mixing import Mixing
from cocktail.layers.waveform_separator import (
    WaveformSeparator,
    WaveformSeparatorConfig,
    projected,
)
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separator, UsageError
from tests.made.models.small_sgn import tones

C = 4
PAIRS = tones([[0, 3], [2, 1]])


@dataclass(frozen=True, kw_only=True)
class GainsConfig(WaveformSeparatorConfig):
    """Outputs that are the mixture at several gains, and a little noise of their own."""

    any_level: bool = False

    def build(self, num_classes: int) -> "Gains":
        return Gains(self, self.outputs_of(num_classes))


class Gains(WaveformSeparator):
    def __init__(self, config: GainsConfig, K: int) -> None:
        super().__init__(config, any_level=config.any_level)
        self.gains = nn.Parameter(torch.linspace(0.9, 0.1, K).roll(1))

    def waveforms(self, mixture: Tensor) -> Tensor:
        noise = torch.randn(len(self.gains), mixture.shape[1], generator=torch.Generator().manual_seed(0))
        return self.gains[:, None] * (mixture[:, None] + 0.02 * noise)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        raise AssertionError("it learns nothing")


@pytest.mark.parametrize("any_level", [False, True])
def test_anonymous_outputs_are_answered_the_loudest_first_and_have_no_class(any_level):
    model = GainsConfig(any_level=any_level, outputs=3).build(C)
    assert isinstance(model, Separator)
    mixture, _ = mix(PAIRS)
    for query in (Query.of(PAIRS), Query.blind(torch.tensor([2, 1]))):
        separation = model.separate(mixture, query)
        assert separation.estimates.shape == (2, 3, mixture.shape[1])
        assert separation.class_ids.eq(NO_CLASS).all()
        levels = separation.estimates.square().sum(dim=-1)
        assert (levels[:, :-1] >= levels[:, 1:]).all()
        if not any_level:
            torch.testing.assert_close(separation.estimates.sum(dim=1), model.waveforms(mixture).sum(dim=1))
    with pytest.raises(UsageError, match="separates 3 sources, and 4 are asked for"):
        model.separate(mixture, Query.blind(torch.tensor([4, 1])))


def test_stems_are_answered_in_the_order_asked_for():
    model = GainsConfig(sources="stems").build(C)
    mixture, _ = mix(PAIRS)
    asked = torch.tensor([[3, 0, 2], [1, NO_CLASS, NO_CLASS]])
    separation = model.separate(mixture, Query.naming(asked))
    outputs = model.waveforms(mixture)
    assert separation.class_ids.equal(asked)
    torch.testing.assert_close(separation.estimates[0], outputs[0, [3, 0, 2]])
    torch.testing.assert_close(separation.estimates[1, 0], outputs[1, 1])
    assert separation.estimates[1, 1:].eq(0).all()
    with pytest.raises(UsageError, match="name those that are meant"):
        model.separate(mixture, Query.blind(torch.tensor([2, 2])))


def test_estimates_stay_within_full_scale():
    model = GainsConfig().build(C)
    with torch.no_grad():
        model.gains.mul_(100)
    estimates = model.separate(mix(PAIRS)[0], Query.of(PAIRS)).estimates
    assert estimates.abs().max() == 1.0


def test_a_projection_gives_uncorrelated_sources_their_own_level_and_sign():
    time = torch.arange(1000) / 1000
    sources = torch.stack([torch.sin(2 * torch.pi * 50 * time), 0.3 * torch.sin(2 * torch.pi * 70 * time)])[None]
    gains = torch.tensor([[-40.0], [1e-4]])
    torch.testing.assert_close(projected(sources.sum(dim=1), gains * sources), sources, rtol=0, atol=1e-5)
    assert projected(sources.sum(dim=1), 0 * sources).eq(0).all()


@pytest.mark.parametrize("num_classes", [1, 33])
def test_stems_of_too_many_classes_or_of_one_are_refused(num_classes):
    with pytest.raises(UsageError, match=f"there are {num_classes}: set --model.sources anonymous"):
        GainsConfig(sources="stems").build(num_classes)


def test_mixtures_that_do_not_fit_are_refused():
    anonymous, stems = GainsConfig(outputs=3), GainsConfig(sources="stems")
    anonymous.require_mixing(Mixing(num_sources=3, min_sources=1, distinct_classes=False))
    anonymous.require_test_mixing(Mixing(num_sources=2))
    stems.require_mixing(Mixing(num_sources=4))
    for config, mixing, message in (
        (anonymous, Mixing(num_sources=2), "outputs is 3: lower it"),
        (anonymous, Mixing(num_sources=4), "outputs is 3: raise it"),
        (stems, Mixing(num_sources=1), "nothing to separate"),
        (stems, Mixing(num_sources=2, distinct_classes=False), "Gains with sources stems names sources by their class"),
        (stems, Mixing(num_sources=2, several_classes=True), "several-classes"),
        (anonymous, Mixing(num_sources=3, arrangement="whole"), "whole clips are one sound"),
    ):
        with pytest.raises(UsageError, match=message):
            config.require_mixing(mixing)
    with pytest.raises(UsageError, match="outputs must be at least 2"):
        GainsConfig(outputs=1)
