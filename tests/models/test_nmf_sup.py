"""Dictionaries of classes: how they are learned, how far, and what they separate."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from sklearn.decomposition import NMF

from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEndConfig
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.layers.factorization import unit_mean
from cocktail.metrics.separation import si_sdr
from cocktail.models.nmf_sup import SMALL_NMF_SUP, NMFSup, NMFSupConfig
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separator, UsageError
from tests.made.models.small_sgn import tones

C, SAMPLES = 3, 64 * 63
SMALL = NMFSupConfig(
    num_components=4,
    num_iterations=100,
    num_training_iterations=10,
    front_end=FrontEndConfig(n_fft=128, hop_length=64, num_rows=32),
)
BATCH: dict[str, Any] = {"n_components": 4, "init": "random", "solver": "mu", "beta_loss": "kullback-leibler"}
PAIRS = [[0, 1], [1, 2], [2, 0], [1, 0]]


def coloured_noises(class_ids: list[list[int]], seed: int) -> MixtureBatch:
    """Mixtures of noises: each class has four resonances, of which a source sounds some, anew every 256 samples."""
    random, of_class = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(0)
    centres = torch.rand(C, 4, 1, generator=of_class) * 0.9 + 0.05
    ids = torch.tensor(class_ids)
    bins = torch.linspace(0, 1, SAMPLES // 2 + 1)
    noise = torch.fft.rfft(torch.randn(*ids.shape, 4, SAMPLES, generator=random))
    shapes = torch.exp(-0.5 * ((bins - centres[ids]) / 0.03).square())
    levels = torch.rand(*ids.shape, 4, SAMPLES // 252, generator=random).square().repeat_interleave(252, dim=-1)
    waves = (torch.fft.irfft(noise * shapes, n=SAMPLES) * levels).sum(dim=2)
    return MixtureBatch(
        mixture_ids=tuple(str(n) for n in range(len(ids))),
        sources=(waves / waves.abs().amax(dim=-1, keepdim=True) * 30000).to(torch.int16),
        gains=torch.ones(ids.shape),
        class_ids=ids,
        present=ids >= 0,
    )


def learned(model: NMFSup, batch: MixtureBatch, steps: int) -> float:
    """The loss after so many steps on a batch, at the demo's kind of rate, falling."""
    (group,) = model.config.parameter_groups(model)
    optimizer = torch.optim.Adam(group.parameters, 1e-3 * group.rate_factor)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss = torch.zeros(())
    for _ in range(steps):
        loss = model(batch)["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return loss.item()


@pytest.fixture(scope="module")
def trained() -> tuple[NMFSup, MixtureBatch, float]:
    torch.manual_seed(0)
    model, batch = SMALL.build(C), coloured_noises(PAIRS, seed=1)
    return model, batch, learned(model, batch, 300)


def test_it_reaches_the_divergence_of_batch_factorisation_on_the_same_solos(trained):
    model, batch, _ = trained
    magnitude = unit_mean(model.front_end.stft(mix(batch)[1]).abs())
    for class_id in range(C):
        solos = magnitude[batch.class_ids == class_id]
        ids = torch.full((len(solos),), class_id)
        own = replace_iterations(model, 2000).divergence(solos, ids).mean().item()
        frames = torch.cat(list(solos), dim=1).double().numpy()
        least = float("inf")
        for seed in range(3):
            theirs = NMF(**BATCH, random_state=seed, max_iter=2000, tol=1e-7).fit(frames)
            least = min(least, theirs.reconstruction_err_**2 / 2 / frames.size)
        assert 0.99 * least < own < 1.06 * least


def replace_iterations(model: NMFSup, num_training_iterations: int) -> NMFSup:
    other = NMFSup(replace(model.config, num_training_iterations=num_training_iterations), C)
    other.load_state_dict(model.state_dict())
    return other


def test_one_batch_is_learned_by_heart_to_a_divergence_a_bin_below_a_third(trained):
    _, batch, last = trained
    torch.manual_seed(0)
    assert SMALL.build(C)(batch)["total"].item() > 1.5
    assert last < 0.33


def test_other_sounds_of_the_classes_are_separated_in_the_order_asked_for(trained):
    model, _, _ = trained
    other = coloured_noises(PAIRS, seed=2)
    mixture, references = mix(other)
    separation = model.separate(mixture, Query.of(other))
    assert si_sdr(references[..., :SAMPLES], separation.estimates).mean() > 6
    assert separation.class_ids.equal(other.class_ids)
    swapped = model.separate(mixture, Query.naming(other.class_ids.flip(1)))
    torch.testing.assert_close(swapped.estimates.flip(1), separation.estimates, rtol=0.0, atol=1e-4)
    torch.testing.assert_close(separation.estimates.sum(dim=1), mixture[:, :SAMPLES], rtol=0.0, atol=1e-3)


def test_sources_without_a_class_are_silent_and_do_not_change_the_others(trained):
    model, batch, _ = trained
    mixture, _ = mix(batch)
    two = model.separate(mixture, Query.of(batch))
    behind = torch.full((4, 1), NO_CLASS)
    three = model.separate(mixture, Query.naming(torch.cat([batch.class_ids, behind], dim=1)))
    torch.testing.assert_close(three.estimates[:, :2], two.estimates, rtol=0.0, atol=1e-4)
    assert three.estimates[:, 2].eq(0).all()
    none = model.separate(mixture[:1], Query.naming(torch.tensor([[NO_CLASS, NO_CLASS]])))
    assert none.estimates.eq(0).all()


def test_the_gradient_is_that_of_the_least_divergence():
    """Activations have no gradient, and at the least need none (Danskin): finite differences go by the least alone."""
    torch.manual_seed(0)
    config = replace(SMALL, num_components=2, num_training_iterations=1500)
    model = config.build(1)
    model.log_spectra = torch.nn.Parameter(torch.randn(1, 6, 2, dtype=torch.float64))
    magnitude = torch.rand(1, 6, 5, dtype=torch.float64) + 0.1

    def least(log_spectra: torch.Tensor) -> torch.Tensor:
        model.log_spectra.data.copy_(log_spectra)
        return model.divergence(magnitude, torch.zeros(1, dtype=torch.int64)).sum()

    start = model.log_spectra.detach().clone()
    least(start).backward()
    assert model.log_spectra.grad is not None
    with torch.no_grad():
        for place in range(start.numel()):
            step = torch.zeros(start.numel(), dtype=start.dtype)
            step[place] = 1e-5
            slope = (least(start + step.view_as(start)) - least(start - step.view_as(start))) / 2e-5
            torch.testing.assert_close(slope, model.log_spectra.grad.flatten()[place], rtol=1e-4, atol=1e-7)


def updated(magnitude: torch.Tensor, spectra: torch.Tensor, times: int) -> torch.Tensor:
    """Activations of spectra [B, F, K] in magnitudes [B, F, M] after so many multiplicative updates of equal shares."""
    share = magnitude.sum(dim=1, keepdim=True) / spectra.sum(dim=(1, 2))[:, None, None]
    activations = share.expand(-1, spectra.shape[2], -1)
    for _ in range(times):
        ratio = magnitude / (spectra @ activations)
        activations = activations * (spectra.mT @ ratio) / spectra.sum(dim=1)[..., None]
    return activations


@pytest.mark.parametrize(("in_training", "in_a_test"), [(1, 3), (3, 1), (3, 3)])
@torch.no_grad()
def test_activations_are_updated_so_often_in_training_and_so_often_in_a_test(in_training, in_a_test):
    torch.manual_seed(0)
    model = replace(SMALL, num_training_iterations=in_training, num_iterations=in_a_test).build(C)
    batch = coloured_noises(PAIRS, seed=6)
    mixture, references = mix(batch)
    magnitude = unit_mean(model.front_end.stft(references).abs()).flatten(0, 1)
    spectra = model.dictionaries(batch.class_ids.flatten())
    approximation = spectra @ updated(magnitude, spectra, in_training)
    bins = torch.xlogy(magnitude, magnitude / approximation) - magnitude + approximation
    torch.testing.assert_close(model(batch)["total"], 2 * bins.mean())
    both = spectra.unflatten(0, (4, 2)).transpose(1, 2).flatten(2)
    expected = updated(unit_mean(model.front_end.stft(mixture).abs()), both, in_a_test)
    torch.testing.assert_close(model.separate(mixture, Query.of(batch)).intermediates["activations"], expected)


@pytest.mark.parametrize("init_std", [0.5, 2.0])
def test_init_std_is_the_deviation_of_logarithms_at_the_start(init_std):
    torch.manual_seed(0)
    values = replace(SMALL, init_std=init_std).build(C).log_spectra
    assert values.std().item() == pytest.approx(init_std, rel=0.1)
    assert values.mean().item() == pytest.approx(0.0, abs=0.1 * init_std)


def test_only_dictionaries_of_classes_in_the_batch_learn():
    model = SMALL.build(5)
    model(tones([[0, 3], [3, 1]]))["total"].backward()
    assert model.log_spectra.grad is not None
    assert model.log_spectra.grad.abs().sum(dim=(1, 2)).gt(0).tolist() == [True, True, False, True, False]


def test_absent_and_silent_sources_cost_nothing():
    model = SMALL.build(4)
    batch = coloured_noises([[0, 1]], seed=3)
    alone = replace(
        batch,
        class_ids=torch.tensor([[0, NO_CLASS]]),
        present=torch.tensor([[True, False]]),
        sources=batch.sources * torch.tensor([1, 0], dtype=torch.int16)[None, :, None],
    )
    with_silence = replace(alone, class_ids=batch.class_ids, present=batch.present)
    assert model(alone)["total"] > 0.1
    torch.testing.assert_close(model(with_silence)["total"], model(alone)["total"])


def test_loss_is_the_mean_over_mixtures_and_knows_no_loudness():
    model, batch = SMALL.build(C), coloured_noises(PAIRS, seed=4)
    halves = [model(batch.rows(start, start + 2))["total"] for start in (0, 2)]
    torch.testing.assert_close(model(batch)["total"], (halves[0] + halves[1]) / 2)
    quiet = replace(batch, gains=batch.gains * torch.tensor([0.1, 1.0]))
    torch.testing.assert_close(model(quiet)["total"], model(batch)["total"], rtol=1e-4, atol=0.0)


def test_autocast_changes_nothing():
    model, batch = SMALL.build(C), coloured_noises(PAIRS, seed=5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(batch)["total"]
    assert rounded.equal(model(batch)["total"])


def test_checkpoints_hold_the_dictionaries_alone():
    assert isinstance(SMALL.build(C), Separator)
    for config in (NMFSupConfig(), SMALL_NMF_SUP):
        with torch.device("meta"):
            weights = config.build(11).state_dict()
        assert {name: tuple(value.shape) for name, value in weights.items()} == {"log_spectra": (11, 512, 25)}
        require_kept(config, "model.")
        require_built_without_values(config, 11)


def test_dictionaries_are_spectra_whatever_is_learned():
    model = SMALL.build(C)
    with torch.no_grad():
        model.log_spectra.mul_(100)
    spectra = model.dictionaries(torch.arange(C))
    assert (spectra >= 0).all()
    torch.testing.assert_close(spectra.sum(dim=1), torch.ones(C, 4))


def test_settings_and_mixtures_that_do_not_fit_are_refused():
    for change, message in (({"num_iterations": 0}, "at least 1"), ({"rate_factor": 0.0}, "must be positive")):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
    SMALL.require_mixing(Mixing(num_sources=3, min_sources=1))
    for mixing, message in (
        (Mixing(distinct_classes=False), "by their class"),
        (Mixing(arrangement="whole"), "whole clips"),
    ):
        with pytest.raises(UsageError, match=message):
            SMALL.require_test_mixing(mixing)
