"""ResUNetDecouple+: magnitude and phase apart, its losses, gradients, and sources with and without names."""

import cmath
import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from cocktail.audio.mixing import mix
from cocktail.audio.stft import ShortTimeTransform
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.layers.class_conditioning import FiLM
from cocktail.models.resunet import (
    SMALL_RESUNET,
    ResidualBlock,
    ResidualUNet,
    ResUNet,
    ResUNetConfig,
    turned_and_masked,
)
from cocktail.tasks.choice import tasks_of
from cocktail.tasks.rows import MODEL, rows_of
from cocktail.types import NO_CLASS, Classifier, MixtureBatch, Query, Separator, UsageError
from tests.made.models.small_sgn import SAMPLES, tones

C = 5
TINY = ResUNetConfig(
    n_fft=254, hop_length=64, channels=(8, 16, 16, 16), blocks=1, bottom_stages=1, batch_norm_momentum=0.1
)
BATCH = tones([[0, 3], [2, 1]])
MIXTURE, REFERENCES = mix(BATCH)


def build(**changes: Any) -> ResUNet:
    torch.manual_seed(0)
    return replace(TINY, **changes).build(C)


def silent(batch: MixtureBatch) -> MixtureBatch:
    return replace(batch, sources=torch.zeros_like(batch.sources))


def test_it_is_a_separator_whose_configuration_is_kept_and_which_is_built_without_memory():
    assert isinstance(build(), Separator) and isinstance(build(class_head=True), Classifier)
    for config in (ResUNetConfig(), SMALL_RESUNET, replace(TINY, sources="asked"), replace(TINY, class_head=True)):
        require_kept(config, "model.")
        with torch.device("meta"):
            config.build(C)


def test_ideal_maps_give_back_a_source_exactly():
    torch.manual_seed(0)
    sources = torch.randn(2, 3, 4000, dtype=torch.float64)
    front_end = ShortTimeTransform(254, 64).double()
    S = front_end.stft(sources)
    X = S.sum(dim=1, keepdim=True)
    assert (S.abs() > X.abs()).any() and (S.abs() < X.abs()).any()
    mask = (S.abs() / X.abs()).clamp(1e-3, 0.9)  # in (0, 1): what it cannot reach is left to Q
    turn = S / S.abs() * (X.conj() / X.abs()) * torch.rand(S.shape, dtype=torch.float64).add(0.5) / 2
    maps = torch.stack([mask.logit(), turn.real.atanh(), turn.imag.atanh(), S.abs() - mask * X.abs()], dim=2)
    estimates = front_end.istft(turned_and_masked(maps, X), 4000)
    torch.testing.assert_close(estimates, sources, atol=1e-12, rtol=0)
    # Without Q, what is louder than the mixture is out of reach.
    assert (front_end.istft(turned_and_masked(maps[:, :, :3], X), 4000) - sources).abs().max() > 0.1


def test_magnitudes_and_phases_by_hand():
    X = torch.tensor([2j])[:, None]
    for logit, real, imaginary, q, expected in (
        (0.0, 1.0, 0.0, 0.0, 1j),  # half of it, not turned
        (0.0, 0.0, 5.0, 0.0, -1.0),  # turned by a quarter, whatever the length of P
        (0.0, -3.0, 0.0, 2.0, -3j),  # turned by a half, and Q on top
        (0.0, 1.0, 0.0, -1.5, 0.0),  # no magnitude is below zero
        (0.0, 3.0, 1.0, 0.0, 1j * cmath.exp(1j * math.atan2(math.tanh(1), math.tanh(3)))),  # P is the tanh of both
    ):
        maps = torch.tensor([logit, real, imaginary, q])[:, None, None]
        torch.testing.assert_close(turned_and_masked(maps, X), torch.tensor([[expected]], dtype=torch.complex64))


@pytest.mark.parametrize("level", [0.0, 1e-30, 1e-12, 1.0])
def test_estimates_and_gradients_are_finite_where_nothing_is_heard_or_no_direction_is_said(level):
    X = level * torch.tensor([0, 1.0, 1j, 0])[:, None]
    maps = torch.zeros(4, 4, 1)
    maps[1, :2], maps[2, :2] = 1e-20, torch.tensor([[0.0], [1.0]])
    maps = maps.requires_grad_()
    out = turned_and_masked(maps.transpose(0, 1), X.T)
    torch.view_as_real(out).sum().backward()
    assert torch.view_as_real(out).isfinite().all()
    assert maps.grad is not None and maps.grad.isfinite().all()


@pytest.mark.parametrize("out", [3, 5])
def test_a_residual_block_is_written_out_step_by_step(out):
    torch.manual_seed(0)
    block, x = ResidualBlock(3, out, 0.1), torch.randn(2, 3, 8, 9)

    def normed(y: Tensor) -> Tensor:
        y = (y - y.mean((0, 2, 3), keepdim=True)) / (y.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
        return y.clamp(min=0) + 0.01 * y.clamp(max=0)

    first, second = (each.weight for each in block.convolutions if isinstance(each, nn.Conv2d))
    y = F.conv2d(normed(F.conv2d(normed(x), first, padding=1)), second, padding=1)
    shortcut = block.shortcut
    beside = F.conv2d(x, shortcut.weight, shortcut.bias) if isinstance(shortcut, nn.Conv2d) else x
    assert isinstance(shortcut, nn.Conv2d) == (out != 3)
    torch.testing.assert_close(block(x), beside + y, atol=1e-5, rtol=1e-4)


def test_silent_mixtures_have_silent_estimates_and_finite_losses_and_gradients():
    model = build(class_head=True)
    losses = model(silent(BATCH))
    losses["total"].backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["separation"] == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert model.eval().separate(torch.zeros_like(MIXTURE), Query.of(BATCH)).estimates.eq(0).all()


def test_the_direct_term_off_is_the_direct_term_at_zero():
    with_q, without = build(), build(direct=False)
    state = with_q.state_dict()
    for name in ("network.maps.weight", "network.maps.bias"):
        per_output = state[name].unflatten(0, (2, 4))
        per_output[:, 3] = 0
        state[name] = per_output[:, :3].flatten(0, 1).clone()
    without.load_state_dict(state)
    torch.testing.assert_close(without(BATCH)["total"], with_q(BATCH)["total"])
    ours, theirs = (model.eval().separate(MIXTURE, Query.of(BATCH)).estimates for model in (with_q, without))
    torch.testing.assert_close(ours, theirs)


def test_the_loss_is_the_mean_absolute_difference_in_the_best_order():
    model = build(outputs=3)
    transforms, _, _ = model._apply_network(MIXTURE, None)
    estimates = model.front_end.istft(transforms, SAMPLES)
    padded = torch.cat([REFERENCES, torch.zeros(2, 1, SAMPLES)], dim=1)  # the third output is to be silent
    expected = [
        min(
            sum((estimates[b, k] - padded[b, n]).abs().mean() for n, k in enumerate(order))
            for order in itertools.permutations(range(3))
        )
        for b in range(2)
    ]
    torch.testing.assert_close(model(BATCH)["total"], torch.stack(expected).mean() / 3)  # pyright: ignore[reportArgumentType]


def test_sources_in_another_order_have_the_same_loss_without_names():
    swapped = replace(BATCH, sources=BATCH.sources.flip(1).contiguous(), class_ids=BATCH.class_ids.flip(1))
    torch.testing.assert_close(build()(BATCH)["total"], build()(swapped)["total"])


def three_and_two() -> MixtureBatch:
    batch = tones([[0, 3, 1], [2, 1, NO_CLASS]])
    return replace(batch, sources=batch.sources * batch.present[..., None].to(torch.int16))


def test_sources_that_are_asked_for_are_compared_with_their_own_references():
    batch, model = three_and_two(), build(sources="asked")
    mixture, references = mix(batch)
    transforms, _, _ = model._apply_network(mixture, batch.class_ids)
    errors = (model.front_end.istft(transforms, SAMPLES) - references).abs().mean(-1)
    expected = (errors[0].mean() + errors[1, :2].mean()) / 2
    torch.testing.assert_close(model(batch)["total"], expected)


def test_stems_are_compared_with_their_own_references_and_those_that_are_not_there_with_silence():
    batch, model = three_and_two(), build(sources="stems")
    mixture, references = mix(batch)
    transforms, _, _ = model._apply_network(mixture, None)
    targets = torch.zeros(2, C, SAMPLES)
    targets[0, [0, 3, 1]], targets[1, [2, 1]] = references[0], references[1, :2]
    torch.testing.assert_close(
        model(batch)["total"], (model.front_end.istft(transforms, SAMPLES) - targets).abs().mean()
    )


@pytest.mark.parametrize("sources", ["anonymous", "asked", "stems"])
def test_sources_that_are_not_there_change_no_loss_and_no_statistics(sources):
    padded = replace(
        BATCH,
        sources=F.pad(BATCH.sources, (0, 0, 0, 2)),
        gains=F.pad(BATCH.gains, (0, 2)),
        class_ids=F.pad(BATCH.class_ids, (0, 2), value=NO_CLASS),
        present=F.pad(BATCH.present, (0, 2)),
    )
    plain, other = build(sources=sources, outputs=4), build(sources=sources, outputs=4)
    torch.testing.assert_close(other(padded)["total"], plain(BATCH)["total"])
    torch.testing.assert_close(other.state_dict(), plain.state_dict())


@pytest.mark.parametrize("sources", ["asked", "stems"])
def test_named_estimates_follow_the_classes_and_no_class_is_silent(sources):
    model = build(sources=sources).eval()
    for film in model.modules():
        if isinstance(film, FiLM):
            nn.init.normal_(film.table)
    ids = torch.tensor([[0, 3, NO_CLASS], [2, 1, 0]])
    forward = model.separate(MIXTURE, Query.naming(ids))
    backward = model.separate(MIXTURE, Query.naming(ids.flip(1)))
    assert forward.class_ids.equal(ids)
    torch.testing.assert_close(forward.estimates, backward.estimates.flip(1))
    assert forward.estimates[0, 2].eq(0).all() and forward.estimates[1].abs().amax(-1).gt(0).all()
    assert (forward.estimates[1, 0] - forward.estimates[1, 1]).abs().max() > 1e-3
    with pytest.raises(UsageError, match="name those that are meant"):
        model.separate(MIXTURE, Query.blind(torch.tensor([2, 2])))


def test_estimates_without_names_are_all_outputs_the_loudest_first():
    separation = build(outputs=4).eval().separate(MIXTURE, Query.of(BATCH))
    assert separation.estimates.shape == (2, 4, SAMPLES)
    assert separation.class_ids.eq(NO_CLASS).all()
    assert separation.estimates.abs().max() <= 1
    assert separation.estimates.square().sum(-1).diff(dim=1).le(0).all()
    assert separation.intermediates["source_vectors"].shape == (2, 4, 8)


@pytest.mark.parametrize("sources", ["anonymous", "asked"])
def test_a_mixture_is_separated_alike_alone_and_in_a_batch(sources):
    model = build(sources=sources, class_head=sources == "anonymous").eval()
    together = model.separate(MIXTURE, Query.of(BATCH))
    for b in range(2):
        alone = model.separate(MIXTURE[b : b + 1], Query.of(BATCH.rows(b, b + 1)))
        torch.testing.assert_close(alone.estimates[0], together.estimates[b], atol=1e-5, rtol=1e-4)
        for name, value in together.intermediates.items():
            torch.testing.assert_close(alone.intermediates[name][0], value[b], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("n_fft", "length"), [(254, 4000), (256, 4095), (256, 5001)])
def test_any_length_and_a_bin_too_many_are_separated(n_fft, length):
    model = build(n_fft=n_fft).eval()
    estimates = model.separate(torch.rand(1, length), Query.blind(torch.tensor([2]))).estimates
    assert estimates.shape == (1, 2, length)
    assert estimates.isfinite().all()


def test_the_class_head_learns_what_is_heard_and_changes_no_estimate():
    plain, headed = build(), build(class_head=True, class_loss_weight=0.5)
    headed.load_state_dict(plain.state_dict() | {k: v for k, v in headed.state_dict().items() if "head" in k})
    assert headed.class_head is not None
    nn.init.normal_(headed.class_head.linear.weight)
    losses = headed(BATCH)
    bottom, _ = build().network.encode(headed.front_end.stft(MIXTURE).abs())
    logits = headed.class_head(bottom)
    truth = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1, 1, 0, 0]])
    torch.testing.assert_close(losses["presence"], F.binary_cross_entropy(logits.sigmoid(), truth))
    torch.testing.assert_close(losses["separation"], plain(BATCH)["separation"])
    torch.testing.assert_close(losses["total"], losses["separation"] + 0.5 * losses["presence"])
    ours, theirs = (model.eval().separate(MIXTURE, Query.of(BATCH)) for model in (headed, plain))
    torch.testing.assert_close(ours.estimates, theirs.estimates)
    assert ours.intermediates["presence"].shape == (2, C) and "presence" not in theirs.intermediates
    counts = headed.confusion(BATCH)["presence"]
    assert counts.shape == (C, 3) and counts[:, [0, 2]].sum() == 4
    assert plain.confusion(BATCH) == headed.confusion(None) == {}


@pytest.mark.parametrize("changes", [{"outputs": 4}, {"class_head": True}, {"sources": "asked"}, {"sources": "stems"}])
def test_it_is_scored_as_any_separator_is(changes):
    model = build(**changes).eval()
    (task,) = tasks_of(model, Evaluation(), Mixing())
    results = task.score(task.apply("resunet", model, BATCH))
    own = rows_of(results, "kind", [MODEL])
    assert len(own) == 4 and task.is_scored(own).all()
    named = changes.get("sources") is not None
    assert (own["estimate_class_id"].to_pylist() == own["class_id"].to_pylist()) == named


@pytest.mark.parametrize(
    "changes", [{}, {"direct": False}, {"class_head": True}, {"sources": "asked"}, {"sources": "stems"}]
)
def test_every_parameter_learns(changes):
    model = build(**changes)
    model(BATCH)["total"].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    "changes", [{}, {"direct": False}, {"class_head": True}, {"sources": "asked"}, {"sources": "stems"}]
)
def test_gradients_are_those_of_finite_differences(changes):
    model = build(channels=(4, 4), **changes).double()
    model(BATCH)["total"].backward()
    parameters = list(model.parameters())
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    slope = sum((p.grad * d).sum() for p, d in zip(parameters, directions, strict=True))  # pyright: ignore[reportOptionalOperand]
    step, ends = 1e-8, []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(parameters, directions, strict=True):
                p.add_(sign * step * d)
            ends.append(model(BATCH)["total"])
    torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), slope, rtol=1e-4, atol=1e-7)


def test_bfloat16_autocast_gives_the_losses_of_float32_to_its_precision():
    exact = build(class_head=True)(BATCH)
    model = build(class_head=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(BATCH)
    rounded["total"].backward()
    for name, loss in exact.items():
        assert rounded[name].dtype == torch.float32
        torch.testing.assert_close(rounded[name], loss, rtol=0.03, atol=0.0)


@pytest.mark.parametrize(
    "changes", [{"direct": False}, {"class_head": True}, {"sources": "asked"}, {"sources": "stems"}]
)
def test_one_batch_is_learned_by_heart(changes):
    """To a tenth of what silence would cost."""
    model = build(**changes)
    adam = torch.optim.Adam(model.parameters(), 5e-3)
    is_stems = changes.get("sources") == "stems"  # three of its five outputs learn to be silent, too
    for _ in range(160 if is_stems else 60):
        losses = model(BATCH)
        adam.zero_grad()
        losses["total"].backward()
        adam.step()
    silence = REFERENCES.abs().mean(-1).sum(1).mean() / (C if is_stems else 2)
    assert losses["separation"] < 0.1 * silence
    assert "presence" not in losses or losses["presence"] < 0.01


def test_batch_norm_momentum_is_the_weight_of_a_batch_in_all_running_averages_and_in_nothing_else():
    """Which start at a mean of 0 and a variance of 1."""
    light, heavy = build(batch_norm_momentum=0.1), build(batch_norm_momentum=0.4)
    assert light(BATCH)["total"].equal(heavy(BATCH)["total"])
    moved = heavy.state_dict()
    for name, value in light.state_dict().items():
        start = float(name.endswith("running_var"))
        factor = 4 if "running" in name else 1
        torch.testing.assert_close(moved[name] - start, factor * (value - start))
        assert "running" not in name or value.ne(start).any(), name


def test_the_papers_network_has_its_number_of_parameters_and_of_convolutions():
    with torch.device("meta"):
        network = ResidualUNet(ResUNetConfig(n_fft=2048, hop_length=441), num_outputs=1, num_classes=0)
    # The paper says 102 million, of a network for two channels of sound, which have a few thousand more.
    assert sum(p.numel() for p in network.parameters()) == 102_570_824
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    shortcuts = [m for m in layers if m.kernel_size == (1, 1) and m is not network.maps]
    assert len(layers) - len(shortcuts) == 143  # its name in the authors' code


def test_the_operations_of_a_mixture_are_counted_by_hand():
    with torch.device("meta"), FlopCounterMode(display=False) as flops:
        network = ResUNetConfig().build(1).network
        bottom, skips = network.encode(torch.empty(1, 512, 256))
        maps, _ = network.decode(bottom, skips, (512, 256))
    assert maps.shape == (1, 2, 4, 512, 256)

    def stage(before: int, width: int) -> int:
        """Products of a place: eight convolutions 3x3, the first from `before` channels, and a shortcut."""
        return 9 * width * (before + 7 * width) + (before * width if before != width else 0)

    channels, places = (1, 32, 64, 128, 256, 384, 384), [512 * 256 // 4**level for level in range(6)]
    ways = list(zip(channels, channels[1:], places, strict=False))
    down = sum(n * stage(before, width) for before, width, n in ways)
    across = places[5] // 2 * 4 * stage(384, 384)
    # A transposed convolution has as many products as its input has places, times the channels, times its kernel.
    up = sum(n * (stage(2 * width, width) + width * after) for width, after, n in up_ways(channels, places))
    last = places[0] * (stage(32, 32) + 32 * 8)
    assert flops.get_total_flops() == 2 * (down + across + up + last)


def up_ways(channels: tuple[int, ...], places: list[int]) -> list[tuple[int, int, int]]:
    """Of each up stage its channels, those that enter it, and the places of its outcome."""
    return list(zip(channels[1:], (*channels[2:], channels[-1]), places, strict=True))


def test_settings_and_mixtures_that_do_not_fit_are_refused():
    for changes, message in (
        ({"n_fft": 300}, "unevenly"),
        ({"hop_length": 100}, "hop_length"),
        ({"channels": (8,)}, "two stages"),
        ({"blocks": 0}, "blocks must be"),
        ({"class_head": True, "sources": "asked"}, "leave out one"),
        ({"class_loss_weight": -1.0}, "must be positive"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(TINY, **changes)
    three, nameless = Mixing(num_sources=3), Mixing(distinct_classes=False)
    with pytest.raises(UsageError, match="outputs is 2: raise it"):
        TINY.require_mixing(three)
    replace(TINY, outputs=3).require_mixing(three)
    replace(TINY, sources="stems").require_mixing(three)
    with pytest.raises(UsageError, match="2 to 32, and there are 33"):
        replace(TINY, sources="stems").build(33)
    TINY.require_mixing(nameless)
    with pytest.raises(UsageError, match="by their class"):
        replace(TINY, sources="stems").require_mixing(nameless)
    with pytest.raises(UsageError, match="class_head learns"):
        replace(TINY, class_head=True).require_mixing(nameless)
    with pytest.raises(UsageError, match="whole clips"):
        TINY.require_mixing(Mixing(arrangement="whole"))
    with pytest.raises(UsageError, match="3 are asked for"):
        build().separate(MIXTURE, Query.blind(torch.tensor([3, 3])))
