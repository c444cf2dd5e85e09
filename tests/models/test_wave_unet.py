"""Wave-U-Net, on small networks: the computation written out in numpy, the difference output, switches, learning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cocktail.audio.mixing import mix
from cocktail.checkpoints.contents import outline
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.losses.waveform import separation_loss
from cocktail.models.wave_unet import (
    SMALL_WAVE_U_NET,
    WaveUNet,
    WaveUNetConfig,
    merged_doubled_convolution,
    plain_doubled_convolution,
)
from cocktail.types import NO_CLASS, Classifier, Query, Separator, UsageError
from tests.made.models.small_sgn import tones
from tests.made.models.waveforms import BATCH, SHORT, learn_by_heart

C = 4
SMALL = WaveUNetConfig(levels=4, channels=6, down_kernel_size=7, up_kernel_size=5)
MIXTURE = mix(BATCH)[0]


def build(**switches) -> WaveUNet:
    """A network with switches thrown, which shares every weight that it has with the network without."""
    torch.manual_seed(0)
    plain = SMALL.build(C)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model = replace(SMALL, **switches).build(C)
    ours = model.state_dict()
    shared = {name: value for name, value in plain.state_dict().items() if ours[name].shape == value.shape}
    model.load_state_dict({**ours, **shared})
    return model


def in_numpy(model: WaveUNet, mixture: np.ndarray, film=None) -> np.ndarray:
    """The outputs [K, T] of the network itself for a mixture [T], by loops; `film` changes channels at each place."""

    def convolve(x, convolution):
        weight, bias = convolution.weight.detach().numpy(), convolution.bias.detach().numpy()
        half = weight.shape[-1] // 2
        padded = np.pad(x, ((0, 0), (half, half)))
        sums = [sum(np.correlate(p, w, "valid") for p, w in zip(padded, rows, strict=True)) for rows in weight]
        return np.stack(sums) + bias[:, None]

    def activate(x, place):
        x = x if film is None or place is None else film(place, x)
        return np.where(x > 0, x, 0.2 * x)

    T = len(mixture)
    whole = np.pad(mixture, (0, -T % 2 ** len(model.down)))[None]
    x, skips = whole, []
    for convolution in model.down:
        skips.append(activate(convolve(x, convolution), None))
        x = skips[-1][:, ::2]
    x = activate(convolve(x, model.bottom), 0)
    for place, convolution in enumerate(model.up, start=1):
        times = np.arange(2 * x.shape[1]) / 2
        x = np.stack([np.interp(times, np.arange(x.shape[1]), row) for row in x])
        x = activate(convolve(np.concatenate([x, skips.pop()]), convolution), place)
    return np.tanh(convolve(np.concatenate([x, whole]), model.out))[:, :T]


@pytest.mark.parametrize("num_samples", [4095, 2000])
def test_it_is_the_network_written_out(num_samples):
    model = build(outputs=3)
    mixture = MIXTURE[:2, :num_samples]
    outputs = model.waveforms(mixture).detach()
    assert outputs.shape == (2, 3, num_samples)
    for b in range(2):
        expected = in_numpy(model, mixture[b].numpy())
        np.testing.assert_allclose(outputs[b, :2], expected, atol=2e-6)
        np.testing.assert_allclose(outputs[b, 2], mixture[b].numpy() - expected.sum(axis=0), atol=4e-6)


def test_classes_that_are_asked_for_scale_and_shift_what_is_written_out():
    model = build(sources="asked")
    outputs = model.asked(model.encode(MIXTURE[:1]), torch.tensor([[3, 1]]), MIXTURE.shape[1]).detach()
    for n, class_id in enumerate([3, 1]):
        tables = [table.detach()[class_id] for name, table in model.named_parameters() if name.startswith("films.")]

        def film(place, x, tables=tables):
            scale, shift = 1 + tables[place][0], tables[place][1]
            return x * scale.numpy()[:, None] + shift.numpy()[:, None]

        np.testing.assert_allclose(outputs[0, n], in_numpy(model, MIXTURE[0].numpy(), film)[0], atol=2e-6)


@pytest.mark.parametrize("taps", [1, 3, 5, 7])
def test_the_fast_convolution_of_doubled_samples_is_the_plain_one_gradients_and_all(taps):
    torch.manual_seed(0)
    given = [torch.randn(*shape, dtype=torch.float64) for shape in ((2, 3, 8), (2, 4, 16), (6, 7, taps), (6,))]
    results = []
    for convolution in (plain_doubled_convolution, merged_doubled_convolution):
        inputs = [each.clone().requires_grad_() for each in given]
        out = convolution(*inputs)
        (out * torch.arange(out.numel()).view(out.shape).sin()).sum().backward()
        results.append((out, *(each.grad for each in inputs)))
    for plain, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain)


@pytest.mark.parametrize("switches", [{}, {"outputs": 4}, {"sources": "stems"}, {"class_head": True}])
def test_estimates_add_up_to_the_mixture(switches):
    torch.testing.assert_close(build(**switches).waveforms(MIXTURE).sum(dim=1), MIXTURE, rtol=0, atol=1e-6)
    model = replace(SMALL, **switches).build(C)
    query = Query.naming(torch.arange(C).expand(3, -1)) if model.stems else Query.of(BATCH)
    estimates = model.separate(0.1 * MIXTURE, query).estimates
    assert estimates.abs().max() < 1  # so nothing was cut off
    torch.testing.assert_close(estimates.sum(dim=1), 0.1 * MIXTURE, rtol=0, atol=1e-7)


def test_a_head_adds_its_loss_and_says_what_is_there_and_changes_nothing_else():
    plain, model = build(), build(class_head=True, class_loss_weight=0.5)
    assert isinstance(model, Separator) and isinstance(model, Classifier)
    before, losses = plain(BATCH), model(BATCH)
    torch.testing.assert_close(losses["separation"], before["separation"])
    heard = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [0, 0, 1, 1]])
    bottom = F.leaky_relu(model.encode(MIXTURE)[-1], 0.2)
    assert model.class_head is not None
    presence = model.class_head.linear(bottom.mean(dim=-1)).sigmoid()
    torch.testing.assert_close(losses["presence"], F.binary_cross_entropy(presence, heard))
    torch.testing.assert_close(losses["total"], losses["separation"] + 0.5 * losses["presence"])
    separation = model.separate(MIXTURE, Query.of(BATCH))
    torch.testing.assert_close(separation.estimates, plain.separate(MIXTURE, Query.of(BATCH)).estimates)
    torch.testing.assert_close(separation.intermediates["presence"], presence)
    counts = model.confusion(BATCH)["presence"]
    assert counts[:, 0].equal(((presence > 0.5) & (heard > 0)).sum(dim=0).to(counts.dtype))
    assert plain.confusion(BATCH) == {} == model.confusion(None)
    assert "presence" not in plain.separate(MIXTURE, Query.of(BATCH)).intermediates


def test_asked_classes_are_answered_in_their_order_for_any_number_of_them():
    model = build(sources="asked")
    ids = torch.tensor([[3, 0, 2], [1, 2, NO_CLASS], [0, NO_CLASS, NO_CLASS]])
    separation = model.separate(MIXTURE, Query.naming(ids))
    turned = model.separate(MIXTURE, Query.naming(ids.flip(1)))
    assert separation.class_ids.equal(ids)
    torch.testing.assert_close(turned.estimates, separation.estimates.flip(1))
    assert separation.estimates[ids < 0].eq(0).all()
    assert not torch.allclose(separation.estimates[0, 0], separation.estimates[0, 1], atol=1e-3)
    with pytest.raises(UsageError, match="name those that are meant"):
        model.separate(MIXTURE, Query.blind(torch.tensor([2, 2, 2])))


def test_asked_sources_that_are_absent_have_no_loss():
    model = build(sources="asked")
    batch = tones([[0, 3], [2, NO_CLASS]])
    batch = replace(batch, sources=batch.sources * batch.present[..., None])
    mixture, references = mix(batch)
    errors = (model.asked(model.encode(mixture), batch.class_ids, mixture.shape[1]) - references).square().mean(-1)
    torch.testing.assert_close(model(batch)["total"], (errors[0].mean() + errors[1, 0]) / 2)


@pytest.mark.parametrize("switches", [{}, {"sources": "asked"}, {"sources": "stems", "class_head": True}])
def test_a_mixtures_answer_does_not_depend_on_its_batch_or_on_being_trained(switches):
    model = build(**switches)
    together = model.train().separate(MIXTURE, Query.of(BATCH)).estimates
    for b in range(3):
        alone = model.eval().separate(MIXTURE[b : b + 1], Query.of(BATCH.rows(b, b + 1))).estimates
        torch.testing.assert_close(alone[0], together[b], rtol=0, atol=1e-6)


@pytest.mark.parametrize("switches", [{}, {"sources": "asked"}, {"sources": "stems", "class_head": True}])
def test_one_batch_is_learned_by_heart_to_12_db(switches):
    torch.manual_seed(0)
    model = replace(SMALL, **switches).build(C)
    assert learn_by_heart(model, SHORT, steps=100, rate=0.01) > 12


@pytest.mark.parametrize("switches", [{"outputs": 2}, {"sources": "stems"}, {"sources": "asked"}])
def test_gradients_are_those_of_finite_differences(switches):
    torch.manual_seed(0)
    config = WaveUNetConfig(levels=2, channels=2, down_kernel_size=3, up_kernel_size=3, **switches)
    model = config.build(2).double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    names, values = zip(*model.named_parameters(), strict=True)
    batch = tones([[0, 1]])
    references = torch.randn(1, 2, 12, dtype=torch.float64)

    def loss(*parameters):
        weights = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(Losses(model), {f"model.{k}": v for k, v in weights.items()}, (references,))

    class Losses(torch.nn.Module):
        def __init__(self, model: WaveUNet) -> None:
            super().__init__()
            self.model = model

        def forward(self, references):
            mixture = references.sum(dim=1)
            levels = self.model.encode(mixture)
            if self.model.films is not None:
                return self.model.asked(levels, batch.class_ids, 12).square().mean()
            outputs = self.model.outputs(levels, mixture)
            return separation_loss("mse", outputs, references, batch, stems=self.model.stems)

    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


@pytest.mark.parametrize("switches", [{}, {"sources": "asked"}, {"class_head": True}])
def test_every_parameter_learns_also_under_autocast(switches):
    model = build(**switches)
    exact = model(BATCH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)
    rounded["total"].backward()
    for name, loss in exact.items():
        torch.testing.assert_close(rounded[name], loss, rtol=0.05, atol=1e-4)
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_the_papers_network_has_the_authors_number_of_parameters():
    model = outline(lambda: WaveUNetConfig().build(2))
    assert isinstance(model, WaveUNet)
    # The authors tell of 10.2 million of theirs.
    assert sum(parameter.numel() for parameter in model.parameters()) == 10_263_002
    with FlopCounterMode(display=False) as counter:
        model.waveforms(torch.empty(1, 65535, device="meta"))
    # Two for each weight and place: a level's convolutions act on half the samples of the one before.
    places = [65536 // 2**level for level in range(13)]
    down = sum(15 * 24 * (level + 1) * max(24 * level, 1) * places[level] for level in range(13))
    up = sum(5 * 24 * level * (24 * (level + 1) + 24 * level) * places[level - 1] for level in range(1, 13))
    assert counter.get_total_flops() == 2 * (down + up + 25 * 65536)


@pytest.mark.parametrize("config", [WaveUNetConfig(), SMALL_WAVE_U_NET, replace(SMALL, sources="asked")])
def test_it_is_built_without_memory_and_kept_as_json(config):
    outline(lambda: config.build(C))
    require_kept(config, "model.")


def test_settings_and_mixtures_that_cannot_work_are_refused():
    for change, message in (
        ({"levels": 0}, "levels must be from 1"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"up_kernel_size": 4}, "up_kernel_size must be odd"),
        ({"class_loss_weight": 0.0}, "class_loss_weight must be positive"),
        ({"class_head": True, "sources": "asked"}, "nothing to learn by class_head"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
    with pytest.raises(UsageError, match="no-distinct-classes"):
        replace(SMALL, class_head=True).require_mixing(Mixing(distinct_classes=False))
    replace(SMALL, sources="asked").require_mixing(Mixing(num_sources=3))
    SMALL.require_mixing(Mixing(distinct_classes=False))
