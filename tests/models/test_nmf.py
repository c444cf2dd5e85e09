"""Blind factorisation: its groups, masks and settings, on mixtures whose sources are known."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.fft import dct

from cocktail.audio.stft import FrontEndConfig
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.metrics.separation import si_sdr_pairs
from cocktail.models.nmf import NMF, NMFConfig
from cocktail.types import NO_CLASS, Query, Separator, UsageError

RATE = 4000
SAMPLES = 64 * 315 // 2
SMALL = NMFConfig(
    num_components=16,
    num_iterations=100,
    sample_rate_hz=RATE,
    front_end=FrontEndConfig(n_fft=254, hop_length=64, num_rows=64),
)
PAIRS = Mixing(num_sources=2, sample_rate_hz=RATE, segment_samples=2 * RATE)


def melody(lowest: float, highest: float, seed: int) -> torch.Tensor:
    """One of four notes at a time [T], a new one every 315 samples, of harmonics within a band."""
    generator = torch.Generator().manual_seed(seed)
    notes = torch.randint(4, (SAMPLES // 315,), generator=generator).repeat_interleave(315).roll(100 * seed)
    time, sound = torch.arange(SAMPLES) / RATE, torch.zeros(SAMPLES)
    for number, pitch in enumerate((105.0, 131.0, 152.0, 187.0)):
        for harmonic in range(1, 20):
            if lowest < harmonic * pitch < highest:
                sound += 0.05 * (notes == number) * torch.sin(2 * math.pi * harmonic * pitch * time)
    return sound


SOURCES = torch.stack([torch.stack([melody(0, 700, seed), melody(1000, 1900, seed + 10)]) for seed in range(3)])
MIXTURES = SOURCES.sum(dim=1)


def two(mixtures: torch.Tensor) -> Query:
    return Query.blind(torch.full((len(mixtures),), 2))


def built(config: NMFConfig = SMALL, classes: int = 0, seed: int = 0) -> NMF:
    torch.manual_seed(seed)
    return config.build(classes)


def test_it_is_a_separator_with_nothing_to_keep_or_to_train():
    model = built(classes=5)
    assert isinstance(model, Separator)
    assert not SMALL.trains and list(model.parameters()) == [] and list(model.state_dict()) == ["seed"]
    require_kept(SMALL, "model.")
    require_built_without_values(SMALL, 5)


def test_sources_of_disjoint_spectra_are_separated_by_twelve_decibels():
    separation = built().separate(MIXTURES, two(MIXTURES))
    scores = si_sdr_pairs(SOURCES[..., : SAMPLES // 64 * 64], separation.estimates)
    in_order, swapped = (scores.diagonal(dim1=1, dim2=2), scores.flip(1).diagonal(dim1=1, dim2=2))
    best = torch.where((in_order.sum(dim=1) > swapped.sum(dim=1))[:, None], in_order, swapped)
    assert best.mean(dim=1).min() > 12
    assert separation.class_ids.eq(NO_CLASS).all() and separation.class_ids.shape == (3, 2)
    assert separation.masks is not None and separation.masks.shape == (3, 2, 64, 1 + SAMPLES // 64)


def test_estimates_add_up_to_the_mixture_whatever_its_number_of_sources():
    counts = torch.tensor([2, 3, 1])
    separation = built().separate(MIXTURES, Query.blind(counts))
    length = SAMPLES // 64 * 64
    assert separation.estimates.shape == (3, 3, length)
    torch.testing.assert_close(separation.estimates.sum(dim=1), MIXTURES[:, :length], rtol=0.0, atol=1e-4)
    heard = separation.estimates.abs().amax(dim=2) > 1e-3
    assert heard.tolist() == [[True, True, False], [True, True, True], [True, False, False]]


def test_the_answer_for_a_mixture_depends_neither_on_its_batch_nor_on_its_loudness():
    model = built()
    together = model.separate(MIXTURES, two(MIXTURES))
    alone = model.separate(MIXTURES[1:2], two(MIXTURES[1:2]))
    assert together.estimates[1:2].equal(alone.estimates)
    fainter = model.separate(0.01 * MIXTURES, two(MIXTURES))
    torch.testing.assert_close(100 * fainter.estimates, together.estimates, rtol=0.0, atol=1e-3)


def test_named_classes_are_not_listened_to():
    model = built(classes=4)
    blind = model.separate(MIXTURES, two(MIXTURES))
    named = model.separate(MIXTURES, Query.naming(torch.tensor([[0, 1], [2, 3], [3, 0]])))
    assert named.estimates.equal(blind.estimates) and named.class_ids.eq(NO_CLASS).all()


def test_silence_gives_silence():
    silence = torch.zeros(1, SAMPLES)
    assert built().separate(silence, two(silence)).estimates.eq(0).all()


def test_timbres_are_cepstra_of_mel_energies_at_any_loudness():
    model = built(replace(SMALL, num_mels=12, num_mfccs=5))
    bases = torch.rand(2, 128, 3)
    timbres = model.timbres(bases)
    frequencies, edges = torch.linspace(0, RATE / 2, 128), torch.linspace(0, mel(RATE / 2), 14)
    below, centre, above = (700 * (10 ** (edges[i : i + 12] / 2595) - 1) for i in range(3))
    rising = (frequencies[:, None] - below) / (centre - below)
    falling = (above - frequencies[:, None]) / (above - centre)
    energies = bases[1, :, 2].square() @ rising.minimum(falling).clamp(min=0)
    expected = dct(torch.log10(1 + 1e4 * energies / energies.max()).numpy(), norm="ortho")[:5]
    torch.testing.assert_close(timbres[1, 2], torch.from_numpy(expected), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(model.timbres(1e-3 * bases), timbres, rtol=1e-4, atol=1e-4)


def mel(hz: float) -> float:
    return 2595 * math.log10(1 + hz / 700)


def test_its_start_is_drawn_where_it_is_built_and_kept_with_it():
    first, again, other = (built(seed=seed).separate(MIXTURES, two(MIXTURES)) for seed in (1, 1, 2))
    assert again.estimates.equal(first.estimates) and not other.estimates.allclose(first.estimates, atol=1e-3)
    model = built(seed=3)
    model.load_state_dict(built(seed=1).state_dict())
    assert model.separate(MIXTURES, two(MIXTURES)).estimates.equal(first.estimates)


@pytest.mark.parametrize(
    ("change", "factors_stay"),
    [
        ({"num_components": 6}, False),
        ({"num_iterations": 20}, False),
        ({"continuity": 50.0}, False),
        ({"sparsity": 50.0}, False),
        ({"num_mfccs": 2}, True),
        ({"num_mels": 10}, True),
    ],
)
def test_each_setting_changes_the_factors_or_only_how_they_are_grouped(change, factors_stay):
    plain = built().separate(MIXTURES, two(MIXTURES)).intermediates
    model = built(replace(SMALL, **change))
    other = model.separate(MIXTURES, two(MIXTURES)).intermediates
    assert other["bases"].shape != plain["bases"].shape or other["bases"].equal(plain["bases"]) == factors_stay
    timbres = built().timbres(plain["bases"])
    assert not factors_stay or not torch.equal(model.timbres(plain["bases"]), timbres)


def test_settings_and_mixtures_that_do_not_fit_are_refused():
    for change, message in (
        ({"num_components": 0}, "num_components must be at least 1"),
        ({"continuity": -1.0}, "continuity must not be negative"),
        ({"num_mels": 5}, "num_mfccs 9 cannot be more than the num_mels 5"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
    SMALL.require_test_mixing(replace(PAIRS, distinct_classes=False, min_sources=1, num_sources=4))
    with pytest.raises(UsageError, match="places the mel bands"):
        NMFConfig().require_test_mixing(PAIRS)
    with pytest.raises(UsageError, match="cannot be shared by 17 sources"):
        SMALL.require_test_mixing(replace(PAIRS, num_sources=17))
