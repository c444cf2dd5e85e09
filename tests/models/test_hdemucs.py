"""Hybrid Demucs on torchaudio's network, small: its contract, what it learns, its size."""

from dataclasses import replace

import pytest
import torch
from torchaudio.models import HDemucs as Network

from cocktail.audio.mixing import mix
from cocktail.checkpoints.contents import outline
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.losses.waveform import separation_loss
from cocktail.models.hdemucs import SMALL_HDEMUCS, HDemucs, HDemucsConfig
from cocktail.types import NO_CLASS, Query, Separator, UsageError
from tests.made.models.multiply_adds import counted
from tests.made.models.waveforms import BATCH, SHORT, learn_by_heart

C = 4
SMALL = HDemucsConfig(n_fft=1024, channels=4)
MIXTURE, REFERENCES = mix(BATCH)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SMALL.build(C)


def test_it_is_a_separator_that_answers_by_class(model):
    assert isinstance(model, Separator) and isinstance(model, HDemucs)
    ids = torch.tensor([[3, 0], [1, NO_CLASS], [2, 3]])
    separation = model.separate(MIXTURE, Query.naming(ids))
    outputs = model.waveforms(MIXTURE)
    assert outputs.shape == (3, C, 4095)
    assert separation.class_ids.equal(ids)
    torch.testing.assert_close(separation.estimates[0], outputs[0, [3, 0]].clamp(-1, 1))
    torch.testing.assert_close(separation.estimates[1, 0], outputs[1, 1].clamp(-1, 1))
    assert separation.estimates[1, 1].eq(0).all()


def test_of_anonymous_sources_it_names_none():
    separation = replace(SMALL, sources="anonymous").build(C).separate(MIXTURE, Query.blind(torch.tensor([2, 2, 2])))
    assert separation.estimates.shape == REFERENCES.shape
    assert separation.class_ids.eq(NO_CLASS).all()


def test_its_loss_is_the_mean_absolute_error_of_all_stems(model):
    outputs = model.waveforms(MIXTURE)
    targets = torch.zeros_like(outputs)
    for b, ids in enumerate(BATCH.class_ids.tolist()):
        targets[b, ids] = REFERENCES[b]
    losses = model(BATCH)
    torch.testing.assert_close(losses["separation"], (outputs - targets).abs().mean())
    assert losses["total"].equal(losses["separation"])


def test_by_si_sdr_estimates_have_the_level_that_leaves_the_least_of_the_mixture():
    torch.manual_seed(0)
    model = replace(SMALL, sources="anonymous", loss="si_sdr").build(C)
    outputs = model.waveforms(MIXTURE)
    torch.testing.assert_close(
        model(BATCH)["separation"], separation_loss("si_sdr", outputs, REFERENCES, BATCH, stems=False)
    )
    estimates = model.separate(MIXTURE, Query.of(BATCH)).estimates
    left = ((MIXTURE[:, None] - estimates) * estimates).sum(dim=-1)
    torch.testing.assert_close(left, torch.zeros_like(left), rtol=0, atol=1e-3)
    assert learn_by_heart(model, SHORT, steps=60, rate=0.01) > 12


@pytest.mark.parametrize("n_fft", [1024, 2048, 4096])
@pytest.mark.parametrize("num_samples", [4095, 300])
def test_estimates_are_as_long_as_the_mixture_for_each_transform(n_fft, num_samples):
    model = replace(SMALL, n_fft=n_fft).build(C)
    assert model.waveforms(MIXTURE[:1, :num_samples]).shape == (1, C, num_samples)


def test_a_mixtures_answer_does_not_depend_on_its_batch_or_on_being_trained(model):
    together = model.train().waveforms(MIXTURE)
    for b in range(3):
        alone = model.eval().waveforms(MIXTURE[b : b + 1])
        torch.testing.assert_close(alone[0], together[b], rtol=1e-4, atol=1e-5)


def test_a_silent_mixture_has_an_answer_and_gradients_that_are_numbers(model):
    batch = replace(BATCH, sources=torch.zeros_like(BATCH.sources))
    model(batch)["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.waveforms(torch.zeros(1, 2000)).isfinite().all()


@pytest.mark.parametrize("sources", ["stems", "anonymous"])
def test_one_batch_is_learned_by_heart_to_12_db(sources):
    torch.manual_seed(0)
    model = replace(SMALL, sources=sources).build(C)
    assert learn_by_heart(model, SHORT, steps=60, rate=0.01) > 12


def test_gradients_are_those_of_finite_differences():
    torch.manual_seed(0)
    model = replace(SMALL, sources="anonymous").build(C).double()
    references = torch.randn(3, 2, 300, dtype=torch.float64)

    def loss() -> torch.Tensor:
        return separation_loss("l1", model.waveforms(references.sum(dim=1)), references, BATCH, stems=False)

    loss().backward()
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    directions = [torch.randn_like(parameter) for parameter in parameters]
    slope = sum(float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True) if p.grad is not None)
    values = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(step * direction)
            values.append(loss().item())
    assert (values[0] - values[1]) / 2e-6 == pytest.approx(slope, rel=1e-4)


def test_every_parameter_learns_also_under_autocast(model):
    exact = model(BATCH)["total"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)["total"]
    rounded.backward()
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=1e-3)
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # The attention of softmax is the same for keys that are all shifted alike.
    assert all(name.endswith("key.bias") for name in without), without


def test_the_papers_network_has_its_number_of_parameters():
    def count(build) -> int:
        return sum(parameter.numel() for parameter in outline(build).parameters())

    names = ["drums", "bass", "other", "vocals"]
    assert round(count(lambda: HDemucsConfig().build(4)) / 1e6, 1) == 83.6
    stereo = count(lambda: Network(names))
    assert round(stereo / 1e6, 1) == 83.6  # as published, of two channels
    # One channel less is a little less in the first layers and the last.
    first, last = 48 * 8, 48 * 8
    less = (2 + 1) * first + 4 * (2 + 1) * (last + 1)
    assert stereo - count(lambda: HDemucsConfig().build(4)) == less


def of_residuals(width: int, places: int, deep: bool) -> int:
    """Multiply-adds of a layer's two residual branches: a convolution of three to a quarter of the channels and one of
    one back to their double; between them, where it is deep, a memory and attention."""
    inner = width // 4
    each = 3 * width * inner + 2 * width * inner
    if deep:
        # Two layers of LSTM in both directions, four gates each, of `inner` and then of twice as many channels, and a
        # linear layer; content, query, key, outcome and sixteen decays; of each place scores, decays and a mean.
        each += 2 * 4 * inner * (2 * inner + 3 * inner) + 2 * inner**2
        each += 4 * inner**2 + 16 * inner + places * (2 * inner + 16)
    return 2 * each * places


def test_the_papers_networks_multiply_adds_are_counted_by_hand(monkeypatch):
    """Of 16,384 samples: 16 frames of 2048 bins."""
    model = outline(lambda: HDemucsConfig().build(4))
    assert isinstance(model, HDemucs)
    # Torch's inverse transform looks at values, of which there are none; it multiplies nothing that is counted.
    monkeypatch.setattr(model.network, "_ispec", lambda z, length: z.real.new_empty(*z.shape[:-2], length))
    total = 0
    # Each layer has twice the width of the one before, on a quarter of its bins or samples. A convolution goes down to
    # it, one doubles its channels, for a gate, before it goes on and another, of three a side, on the way back.
    for level, places in enumerate((512 * 16, 128 * 16, 32 * 16, 8 * 16, 16, 8)):
        width, kernel, around = 48 * 2**level, 8, 9
        if level == 5:  # bins are one, so the last halves frames
            kernel, around = 4, 3
        outside = width // 2 if level else 2, width // 2 if level else 4 * 2  # real and imaginary
        total += places * (kernel * width * sum(outside) + 2 * width**2 * (1 + around))
        total += of_residuals(width, places, deep=level >= 4)
    for level, places in enumerate(16384 // 4**level for level in range(1, 6)):
        width = 48 * 2**level
        outside = width // 2 if level else 1, width // 2 if level else 4
        total += places * 8 * width * sum(outside)
        if level < 4:  # what is last is added to the bins' layer
            total += places * 2 * width**2 * (1 + 3) + of_residuals(width, places, deep=False)
    assert counted(lambda: model.waveforms(torch.empty(1, 16384))) == total == 3_614_156_800


@pytest.mark.parametrize("config", [HDemucsConfig(), SMALL_HDEMUCS])
def test_it_is_built_without_memory_and_kept_as_json(config):
    outline(lambda: config.build(C))
    require_kept(config, "model.")


def test_settings_and_mixtures_that_cannot_work_are_refused():
    for change, message in (({"n_fft": 512}, "n_fft must be one of"), ({"channels": 6}, "multiple of 4")):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
    with pytest.raises(UsageError, match="there are 309: set --model"):
        SMALL.build(309)
    with pytest.raises(UsageError, match="HDemucs with sources stems names sources by their class"):
        SMALL.require_mixing(Mixing(distinct_classes=False))
    SMALL.require_mixing(Mixing(num_sources=4))
