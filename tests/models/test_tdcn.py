"""TDCN++: its layers, links, masks, mixture consistency, loss and outputs."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cocktail.audio.mixing import mix
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.losses.thresholded import pairwise_thresholded_log_mse
from cocktail.models.tdcn import SMALL_TDCN, TDCN, Block, Dense, ScalarNorm, TDCNConfig
from cocktail.tasks.rows import MODEL, rows_of
from cocktail.tasks.separation.task import Separating
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separator, UsageError
from tests.made.models.small_sgn import SAMPLES, tones

TINY = TDCNConfig(n_fft=256, hop_length=64, width=16, inner_width=24, repeats=3, blocks=3)
BATCH = tones([[0, 3], [2, 1]])
MIXTURE, REFERENCES = mix(BATCH)


def build(**changes: Any) -> TDCN:
    torch.manual_seed(0)
    return replace(TINY, **changes).build(5)


def some_silent() -> MixtureBatch:
    """A mixture of two tones, and one of a single tone."""
    present = torch.tensor([[True, True], [True, False]])
    sources = BATCH.sources * present[..., None].to(torch.int16)
    return replace(BATCH, sources=sources, present=present, class_ids=BATCH.class_ids.where(present, NO_CLASS))


def test_it_is_a_separator_whose_configuration_is_kept_and_which_is_built_without_memory():
    assert isinstance(build(), Separator)
    for config in (TDCNConfig(), SMALL_TDCN, replace(TINY, outputs=4)):
        require_kept(config, "model.")
        with torch.device("meta"):
            config.build(5)


def test_the_published_size_is_counted_by_hand():
    with torch.device("meta"):
        model = TDCNConfig(outputs=4).build(1)
        parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.network.named_children()}
    # Per block two dense layers and a scale each, a convolution with bias, two slopes, two norms of two scalars.
    block = 2 * (256 * 512 + 1) + 512 * (3 + 1) + 2 + 4
    assert parts == {
        "input_norm": 2,
        "dense_in": 257 * 256 + 256 + 1,
        "blocks": 32 * block,
        "links": 6 * (256 * 256 + 256 + 1),
    }
    # Nine million, which FUSS's baseline has, masks and mixture weights without biases.
    assert sum(p.numel() for p in model.parameters()) == sum(parts.values()) + 256 * 4 * 257 + 256 * 4 == 9_179_401
    with FlopCounterMode(display=False) as flops, torch.device("meta"):
        model.network(torch.empty(1, 257, 1251))
    products = 257 * 256 + 32 * (2 * 256 * 512 + 3 * 512) + 6 * 256 * 256
    assert flops.get_total_flops() == 2 * 1251 * products


def test_blocks_are_dilated_and_scaled_as_published():
    network = TDCNConfig(width=8, inner_width=8).build(1).network
    blocks = [block for block in network.blocks if isinstance(block, Block)]
    assert [block.convolution.dilation[0] for block in blocks] == 4 * [1, 2, 4, 8, 16, 32, 64, 128]
    torch.testing.assert_close(
        torch.tensor([block.dense_out.state_dict()["scale"] for block in blocks]), 0.9 ** torch.arange(32.0)
    )
    assert all(block.dense_in.scale == 1 for block in blocks)
    assert all(
        layer.weight.item() == pytest.approx(0.1) for layer in blocks[0].modules() if isinstance(layer, nn.PReLU)
    )


def test_a_block_is_written_out_step_by_step():
    torch.manual_seed(0)
    block, x = Block(TINY, 4), torch.randn(2, 16, 40)  # dilated by 2

    def norm(y: Tensor) -> Tensor:
        return (y - y.mean(2, keepdim=True)) / (y.var(2, keepdim=True, correction=0) + 1e-3).sqrt()

    def prelu(y: Tensor) -> Tensor:
        return y.relu() - 0.1 * (-y).relu()

    y = norm(prelu(torch.einsum("od,bdm->bom", block.dense_in.weight, x)))
    padded, taps = F.pad(y, (2, 2)), block.convolution.weight[:, 0]
    y = sum(taps[:, t, None] * padded[..., 2 * t : 2 * t + 40] for t in range(3))
    y = torch.einsum("od,bdm->bom", block.dense_out.weight, norm(prelu(y)))  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(block(x), x + 0.9**4 * y, atol=1e-5, rtol=1e-5)


def test_norms_are_over_time_by_channel_and_over_the_whole_map_of_a_mixture_with_scalars():
    x = torch.randn(3, 5, 70) * torch.tensor([1.0, 10, 100])[:, None, None] + 7
    by_channel, by_map = ScalarNorm()(x), ScalarNorm(axes=2)(x)
    torch.testing.assert_close(by_channel.mean(2), torch.zeros(3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(by_channel.var(2, correction=0), torch.ones(3, 5), atol=5e-3, rtol=0)
    torch.testing.assert_close(by_map.mean((1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(by_map.var((1, 2), correction=0), torch.ones(3), atol=5e-3, rtol=0)
    assert [p.shape for p in ScalarNorm().parameters()] == [torch.Size([])] * 2


def test_links_lead_from_what_enters_a_repeat_to_what_enters_each_later_one():
    network = build().network
    assert [len(links) for links in network.links] == [1, 2]  # pyright: ignore[reportArgumentType]
    entering: dict[int, Tensor] = {}
    leaving: dict[int, Tensor] = {}
    for index, block in enumerate(network.blocks):
        block.register_forward_hook(
            lambda _, inputs, output, index=index: (
                entering.update({index: inputs[0]}),
                leaving.update({index: output}),
            )[0]
        )
    magnitude = torch.rand(2, 129, 30)
    out = network(magnitude)
    first = network.dense_in(network.input_norm(magnitude))
    torch.testing.assert_close(entering[0], first)
    (to_3,), (to_6, to_6_from_3) = (links for links in network.links if isinstance(links, nn.ModuleList))
    torch.testing.assert_close(entering[3], leaving[2] + to_3(entering[0]))
    torch.testing.assert_close(entering[6], leaving[5] + to_6(entering[0]) + to_6_from_3(entering[3]))
    torch.testing.assert_close(out, leaving[8])
    for index in (1, 2, 4, 5, 7, 8):
        assert entering[index] is leaving[index - 1]


def test_dense_layers_scale_behind_their_bias():
    dense = Dense(3, 2, bias=True, scale=0.5)
    nn.init.normal_(dense.bias)  # pyright: ignore[reportArgumentType]
    x = torch.randn(1, 3, 4)
    expected = 0.5 * (torch.einsum("od,bdm->bom", dense.weight, x) + dense.bias[:, None])  # pyright: ignore[reportOptionalSubscript]
    torch.testing.assert_close(dense(x), expected)


@pytest.mark.parametrize("outputs", [2, 4])
def test_estimates_are_masked_and_what_is_missing_is_shared_out_by_learned_weights(outputs):
    model = build(outputs=outputs)
    estimates, masks = model.estimates(MIXTURE)
    assert estimates.shape == (2, outputs, SAMPLES)
    assert masks.shape == (2, outputs, 129, 64) and masks.min() > 0 and masks.max() < 1
    apart = model.front_end.istft(model.front_end.stft(MIXTURE)[:, None] * masks, SAMPLES)
    features = model.network(model.front_end.stft(MIXTURE).abs())
    weights = (features.mean(2) @ model.mixture_weights.weight.T).softmax(1)
    missing = MIXTURE - apart.sum(1)
    torch.testing.assert_close(estimates, apart + weights[..., None] * missing[:, None])
    torch.testing.assert_close(estimates.sum(1), MIXTURE, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("outputs", [2, 4])
def test_the_loss_is_the_mean_over_outputs_in_the_best_order_with_silence_for_who_is_not_there(outputs):
    model, batch = build(outputs=outputs), some_silent()
    mixture, references = mix(batch)
    estimates, _ = model.estimates(mixture)
    padded = F.pad(references, (0, 0, 0, outputs - 2))
    pairs = pairwise_thresholded_log_mse(estimates, padded, mixture)
    best = [
        min(sum(table[k, n] for n, k in enumerate(order)) for order in itertools.permutations(range(outputs)))
        for table in pairs
    ]
    losses = model(batch)
    torch.testing.assert_close(losses["total"], torch.stack(best).mean() / outputs)  # pyright: ignore[reportArgumentType]
    assert losses["reconstruction"].equal(losses["total"])


@pytest.mark.parametrize(("active", "silent"), [(30.0, 20.0), (20.0, 20.0), (30.0, 5.0)])
def test_each_limit_is_that_of_its_kind_of_source_and_changes_the_loss_alone(active, silent):
    """Of a mixture of a tone and silence."""
    batch = some_silent().rows(1, 2)
    mixture, references = mix(batch)
    plain, model = build(), build(active_limit_db=active, silent_limit_db=silent)
    assert plain.state_dict().keys() == model.state_dict().keys()
    estimates, _ = model.estimates(mixture)
    torch.testing.assert_close(plain.estimates(mixture)[0], estimates)
    tone, power = references[0, 0], references[0, 0].square().sum()
    of_tone = (estimates[0] - tone).square().sum(dim=1) + power / 10 ** (active / 10)
    of_silence = estimates[0].square().sum(dim=1) + mixture.square().sum() / 10 ** (silent / 10)
    orders = [5 * (of_tone[k].log10() + of_silence[1 - k].log10()) for k in range(2)]
    torch.testing.assert_close(model(batch)["total"], min(orders))
    assert (model(batch)["total"] == plain(batch)["total"]) == ((active, silent) == (30.0, 20.0))


def test_silent_mixtures_have_silent_estimates_and_finite_losses_and_gradients():
    model = build()
    loss = model(replace(BATCH, sources=torch.zeros_like(BATCH.sources)))["total"]
    loss.backward()
    assert loss.item() == pytest.approx(-80)
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.separate(torch.zeros_like(MIXTURE), Query.of(BATCH)).estimates.eq(0).all()


def test_answers_are_all_outputs_the_loudest_first_with_their_masks_and_no_classes():
    model = build(outputs=4).eval()
    separation = model.separate(MIXTURE, Query.of(BATCH))
    assert separation.class_ids.eq(NO_CLASS).all() and separation.estimates.shape == (2, 4, SAMPLES)
    power = separation.estimates.square().sum(-1)
    assert power.diff(dim=1).le(0).all()
    estimates, masks = model.estimates(MIXTURE)
    for b, k in itertools.product(range(2), range(4)):
        own = (estimates[b, k] - separation.estimates[b]).abs().amax(-1).argmin()
        assert separation.masks is not None and separation.masks[b, own].equal(masks[b, k])


def test_a_mixture_is_separated_alike_alone_and_in_a_batch_in_training_and_after():
    for model in (build(), build().eval()):
        together, _ = model.estimates(MIXTURE)
        alone = torch.cat([model.estimates(MIXTURE[b : b + 1])[0] for b in range(2)])
        torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-4)


def test_a_louder_mixture_has_louder_estimates():
    model = build().double()
    quiet, loud = (model.estimates(level * MIXTURE.double())[0] for level in (20, 40))
    torch.testing.assert_close(2 * quiet, loud, atol=1e-2, rtol=1e-2)  # but for what is added to the variance


@pytest.mark.parametrize("outputs", [2, 4])
def test_every_parameter_learns(outputs):
    model = build(outputs=outputs)
    model(some_silent())["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_gradients_are_those_of_finite_differences():
    model = build(width=4, inner_width=5, n_fft=32, hop_length=8, outputs=3).double()
    batch = some_silent()
    batch = replace(batch, sources=batch.sources[..., :400])
    model(batch)["total"].backward()
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, directions, strict=True))  # pyright: ignore[reportOptionalOperand]
    step, ends = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(parameters, directions, strict=True):
                p.add_(sign * step * d)
            ends.append(model(batch)["total"])
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-5, atol=1e-7)


def test_bfloat16_autocast_gives_the_losses_of_float32_to_its_precision():
    exact, model = build()(BATCH)["total"], build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)["total"]
        estimates, _ = model.estimates(MIXTURE)
    rounded.backward()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0.1)
    torch.testing.assert_close(estimates.sum(1), MIXTURE, atol=1e-6, rtol=1e-6)


def test_one_batch_is_learned_by_heart_and_outputs_left_over_become_silent():
    torch.manual_seed(0)
    batch = some_silent()
    model = build(outputs=3, width=32, inner_width=48, repeats=2)
    adam = torch.optim.Adam(model.parameters(), 3e-3)
    first = model(batch)["total"].item()
    for _ in range(150):
        loss = model(batch)["total"]
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss.item() < first - 15
    mixture, references = mix(batch)
    estimates = model.separate(mixture, Query.of(batch)).estimates
    error = pairwise_thresholded_log_mse(estimates, references, mixture)
    power = 10 * references.square().sum(-1).log10()
    assert (power[0] - error[0].amin(0)).min() > 15  # both tones of the first mixture are 15 dB above their errors
    shares = estimates.square().sum(-1) / mixture.square().sum(-1, keepdim=True)
    assert shares[0, 2] < 0.03 and shares[1, 1] < 0.03


def test_of_more_outputs_than_sources_those_that_fit_are_scored_and_the_fuss_rule_counts_all():
    model, batch = build(outputs=4).eval(), some_silent()
    task = Separating(by_fuss_rule=True)
    table = task.score(task.apply("tdcn", model, batch))
    own = rows_of(table, "kind", [MODEL])
    assert own["num_sources"].to_pylist().count(2) == 2 and len(own) == 3 and task.is_scored(own).all()
    assert set(own["fuss_active_estimates"].to_pylist()) <= {1, 2, 3, 4}
    assert max(own["fuss_active_estimates"].to_pylist()) > 2


def test_settings_and_mixtures_that_do_not_fit_are_refused():
    for changes, message in (
        ({"hop_length": 100}, "hop_length"),
        ({"kernel_size": 2}, "odd"),
        ({"repeats": 0}, "repeats must be"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(TINY, **changes)
    with pytest.raises(UsageError, match="outputs is 2: raise it"):
        TINY.require_mixing(Mixing(num_sources=4, min_sources=1))
    replace(TINY, outputs=4).require_mixing(Mixing(num_sources=4, min_sources=1, distinct_classes=False))
    with pytest.raises(UsageError, match="whole clips"):
        TINY.require_mixing(Mixing(arrangement="whole"))
    with pytest.raises(UsageError, match="3 are asked for"):
        build().separate(MIXTURE, Query.blind(torch.tensor([3, 2])))
