"""Conv-TasNet on torchaudio's network, small: its contract, what it learns, its size."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from cocktail.audio.mixing import mix
from cocktail.checkpoints.contents import outline
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.losses.waveform import separation_loss
from cocktail.metrics.separation import si_sdr_pairs
from cocktail.models.conv_tasnet import SMALL_CONV_TASNET, ConvTasNet, ConvTasNetConfig
from cocktail.types import NO_CLASS, Query, Separator, UsageError
from tests.made.models.waveforms import BATCH, SHORT, learn_by_heart

C = 4
SMALL = ConvTasNetConfig(filter_length=16, num_filters=32, width=16, hidden_width=32, num_blocks=4, num_repeats=1)
MIXTURE, REFERENCES = mix(BATCH)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SMALL.build(C)


def test_it_is_a_separator_that_names_no_source(model):
    assert isinstance(model, Separator)
    separation = model.separate(MIXTURE, Query.of(BATCH))
    assert separation.estimates.shape == REFERENCES.shape
    assert separation.class_ids.eq(NO_CLASS).all()
    assert separation.masks is None


def test_its_loss_is_minus_the_evaluations_score_in_the_best_order(model):
    scores = si_sdr_pairs(REFERENCES, model.waveforms(MIXTURE).detach())
    either = torch.stack([scores[:, 0, 0] + scores[:, 1, 1], scores[:, 0, 1] + scores[:, 1, 0]])
    losses = model(BATCH)
    expected = -(either.amax(dim=0) / 2).mean()
    torch.testing.assert_close(losses["separation"].double(), expected, rtol=1e-3, atol=0.01)
    assert losses["total"].equal(losses["separation"])


def test_estimates_have_the_level_of_their_part_of_the_mixture_whatever_the_networks_is(model):
    before = model.separate(MIXTURE, Query.of(BATCH)).estimates
    with torch.no_grad():
        model.network.decoder.weight.mul_(-50)
    torch.testing.assert_close(model.separate(MIXTURE, Query.of(BATCH)).estimates, before, rtol=1e-4, atol=1e-5)
    rest = MIXTURE[:, None] - before
    torch.testing.assert_close((rest * before).sum(dim=-1), torch.zeros(3, 2), rtol=0, atol=1e-3)


@pytest.mark.parametrize("num_samples", [4095, 2000, 1001])
def test_estimates_are_as_long_as_the_mixture(model, num_samples):
    assert model.waveforms(MIXTURE[:, :num_samples]).shape == (3, 2, num_samples)


def test_a_mixtures_answer_does_not_depend_on_its_batch_or_on_being_trained(model):
    together = model.train().separate(MIXTURE, Query.of(BATCH)).estimates
    for b in range(3):
        alone = model.eval().separate(MIXTURE[b : b + 1], Query.of(BATCH.rows(b, b + 1))).estimates
        torch.testing.assert_close(alone[0], together[b], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sources", ["anonymous", "stems"])
def test_one_batch_is_learned_by_heart_to_18_db(sources):
    torch.manual_seed(0)
    assert learn_by_heart(replace(SMALL, sources=sources).build(C), SHORT, steps=60, rate=0.01) > 18


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    config = ConvTasNetConfig(filter_length=4, num_filters=3, width=2, hidden_width=3, num_blocks=2, num_repeats=1)
    model = config.build(C).double()
    references = torch.randn(3, 2, 16, dtype=torch.float64)
    names, values = zip(*model.named_parameters(), strict=True)

    def loss(*parameters):
        weights = dict(zip(names, parameters, strict=True))
        outputs = torch.func.functional_call(Outputs(model), {f"model.{k}": v for k, v in weights.items()}, references)
        return separation_loss("si_sdr", outputs, references, BATCH, stems=False)

    class Outputs(torch.nn.Module):
        def __init__(self, model) -> None:
            super().__init__()
            self.model = model

        def forward(self, references):
            return self.model.waveforms(references.sum(dim=1))

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


def test_every_parameter_learns_also_under_autocast(model):
    exact = model(BATCH)["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)["total"]
    rounded.backward()
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.1)
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_settings_are_the_networks(model):
    assert SMALL.build(C).network.mask_generator.mask_activate.__class__ is torch.nn.Sigmoid
    assert replace(SMALL, mask_activation="relu").build(C).network.mask_generator.mask_activate.__class__ is (
        torch.nn.ReLU
    )
    assert replace(SMALL, outputs=3).build(C).waveforms(MIXTURE).shape[1] == 3
    assert replace(SMALL, sources="stems").build(C).waveforms(MIXTURE).shape[1] == C


def test_the_papers_network_has_its_number_of_parameters():
    model = outline(lambda: ConvTasNetConfig().build(C))
    assert isinstance(model, ConvTasNet)
    # Table II says 5.1 million. torchaudio leaves out the last block's way to a next one: 512 times 128, and 128.
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == 4_984_881
    assert round((counted + 512 * 128 + 128) / 1e6, 1) == 5.1
    with FlopCounterMode(display=False) as counter:
        model.waveforms(torch.empty(1, 65535, device="meta"))
    frames = 65536 // 8 + 1
    block = 128 * 512 + 3 * 512 + 2 * 512 * 128
    weights = 16 * 512 + 512 * 128 + 24 * block - 512 * 128 + 128 * 1024 + 2 * 512 * 16
    assert counter.get_total_flops() == pytest.approx(2 * weights * frames, rel=0.01)


@pytest.mark.parametrize("config", [ConvTasNetConfig(), SMALL_CONV_TASNET])
def test_it_is_built_without_memory_and_kept_as_json(config):
    outline(lambda: config.build(C))
    require_kept(config, "model.")


def test_settings_and_mixtures_that_cannot_work_are_refused():
    for change, message in (
        ({"filter_length": 15}, "must be even"),
        ({"num_blocks": 0}, "num_blocks must be at least"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
    with pytest.raises(UsageError, match="outputs is 2: raise it"):
        SMALL.require_mixing(Mixing(num_sources=3))
    SMALL.require_mixing(Mixing(distinct_classes=False))
