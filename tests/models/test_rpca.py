"""Robust PCA: what it recovers, when it stops, and its masks."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cocktail.audio.stft import FrontEndConfig
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.metrics.separation import si_sdr
from cocktail.models.rpca import SOFT_MASKS, RPCAConfig, masks_of, robust_pca, singular_value_threshold
from cocktail.types import NO_CLASS, Query, Separator, UsageError

SMALL = RPCAConfig(front_end=FrontEndConfig(n_fft=254, hop_length=64, num_rows=64))
RATE, SAMPLES = 4000, 64 * 127
PAIRS = Mixing(num_sources=2, sample_rate_hz=RATE, segment_samples=2 * RATE)


def parts(seed: int, rows: int = 100, columns: int = 60, rank: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix of low rank, and one of whose entries a twentieth are not zero."""
    random = np.random.default_rng(seed)
    low = random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns))
    sparse = np.where(random.random((rows, columns)) < 0.05, random.uniform(-10, 10, (rows, columns)), 0.0)
    return torch.from_numpy(low), torch.from_numpy(sparse)


LOW, SPARSE = (torch.stack(each) for each in zip(*(parts(seed) for seed in range(3)), strict=True))
SUM = LOW + SPARSE


def by_decompositions(matrix: np.ndarray, weight: float, tolerance: float) -> tuple[np.ndarray, np.ndarray, int]:
    """The same method written out by numpy's singular value decomposition; the number of iterations is the third."""
    spectral = np.linalg.norm(matrix, 2)
    dual = matrix / max(spectral, np.abs(matrix).max() / weight)
    low, mu, count, residual = np.zeros_like(matrix), 1.25 / spectral, 0, matrix
    sparse = low
    while np.linalg.norm(residual) > tolerance * np.linalg.norm(matrix) or count == 0:
        goal = matrix - low + dual / mu
        sparse = np.sign(goal) * np.maximum(np.abs(goal) - weight / mu, 0)
        u, s, v = np.linalg.svd(matrix - sparse + dual / mu, full_matrices=False)
        low = u @ np.diag(np.maximum(s - 1 / mu, 0)) @ v
        residual = matrix - low - sparse
        dual, mu, count = dual + mu * residual, 1.5 * mu, count + 1
    return low, sparse, count


def test_a_matrix_of_low_rank_and_a_sparse_one_are_recovered_from_their_sum():
    low, sparse = robust_pca(SUM)
    assert (torch.linalg.matrix_norm(low - LOW) / torch.linalg.matrix_norm(LOW)).max() < 1e-5
    assert torch.linalg.matrix_rank(low, rtol=1e-6).tolist() == [3, 3, 3]
    assert ((sparse.abs() > 1e-3) == (SPARSE.abs() > 1e-3)).double().mean() > 0.999


def test_it_is_the_augmented_lagrangian_by_singular_value_decompositions_and_stops_when_that_does():
    for b in range(3):
        low, sparse, count = by_decompositions(SUM[b].numpy(), 1 / math.sqrt(100), 1e-6)
        assert 10 < count < 60
        own = robust_pca(SUM[b : b + 1])
        for mine, expected in zip(own, (low, sparse), strict=True):
            torch.testing.assert_close(mine[0], torch.from_numpy(expected), rtol=0.0, atol=1e-9)
        for limit, reached in ((count - 1, False), (count, True)):
            cut = robust_pca(SUM[b : b + 1], max_iterations=limit)
            residual = torch.linalg.matrix_norm(SUM[b] - cut[0][0] - cut[1][0]) / torch.linalg.matrix_norm(SUM[b])
            assert (residual <= 1e-6) == reached
        assert robust_pca(SUM[b : b + 1], max_iterations=count)[0].equal(own[0])


def test_a_looser_tolerance_stops_sooner():
    low, sparse = robust_pca(SUM, tolerance=1e-2)
    residual = torch.linalg.matrix_norm(SUM - low - sparse) / torch.linalg.matrix_norm(SUM)
    assert (residual <= 1e-2).all() and (residual > 1e-6).all()


def test_singular_values_are_lowered_by_a_threshold():
    thresholds = torch.tensor([5.0, 0.1, 1e3], dtype=torch.float64)[:, None, None]
    u, s, v = torch.linalg.svd(SUM, full_matrices=False)
    expected = u * (s[:, None] - thresholds).clamp(min=0) @ v
    torch.testing.assert_close(singular_value_threshold(SUM, thresholds), expected, rtol=0.0, atol=1e-11)
    assert expected[2].eq(0).all()


def test_the_parts_of_a_matrix_do_not_depend_on_its_batch_its_scale_or_its_longer_side():
    quiet = 1e-3 * SUM[1:2]
    batch = torch.cat([SUM[:1], quiet, torch.zeros_like(quiet)])
    together = robust_pca(batch)
    for whole, alone, scaled, wide in zip(
        together, robust_pca(quiet), robust_pca(SUM[1:2]), robust_pca(batch.mT), strict=True
    ):
        assert whole[1:2].equal(alone)
        torch.testing.assert_close(whole[1:2], 1e-3 * scaled, rtol=0.0, atol=1e-9)
        torch.testing.assert_close(wide.mT, whole, rtol=0.0, atol=1e-9)
        assert whole[2].eq(0).all()


def test_a_heavier_sparse_part_is_sparser():
    few, many = (robust_pca(SUM.float(), sparsity=k)[1].abs().gt(1e-4).sum() for k in (2.0, 0.5))
    assert few < many


def hum_and_blips() -> tuple[torch.Tensor, torch.Tensor]:
    """A steady hum [T], and twenty short tones anywhere [T]."""
    random = np.random.default_rng(0)
    time = np.arange(SAMPLES) / RATE
    hum = sum(0.1 * np.sin(2 * np.pi * 125 * n * time) for n in (1, 2, 3, 5))
    blips = np.zeros(SAMPLES)
    for start, frequency in zip(random.integers(0, SAMPLES - 200, 20), random.uniform(700, 1900, 20), strict=True):
        blips[start : start + 200] += 0.3 * np.hanning(200) * np.sin(2 * np.pi * frequency * time[:200])
    return torch.from_numpy(hum).float(), torch.from_numpy(blips).float()


def test_a_steady_hum_and_blips_are_told_apart_by_fifteen_decibels():
    sources = torch.stack(hum_and_blips())[None]
    separation = SMALL.build(0).separate(sources.sum(dim=1), Query.blind(torch.tensor([2])))
    assert si_sdr(sources, separation.estimates).min() > 15
    assert separation.class_ids.tolist() == [[NO_CLASS, NO_CLASS]]
    torch.testing.assert_close(separation.estimates.sum(dim=1), sources.sum(dim=1), rtol=0.0, atol=1e-4)


def test_masks_cut_or_share_by_the_gain_and_add_up_to_one():
    low = torch.tensor([[[1.0, -2.0, 0.0, 3.0]]])
    sparse = torch.tensor([[[1.5, 1.0, 0.0, -4.0]]])
    binary, soft = masks_of(low, sparse, gain=1.0)
    assert binary[0, 1, 0].tolist() == [1, 0, 0, 1]
    torch.testing.assert_close(soft[0, 1, 0], torch.tensor([0.6, 1 / 3, 0, 4 / 7]))
    assert (soft[:, 1] > 0.5).float().equal(binary[:, 1])
    assert masks_of(low, sparse, gain=1.4)[0][0, 1, 0].tolist() == [1, 0, 0, 0]
    for masks in (binary, soft):
        torch.testing.assert_close(masks.sum(dim=1), torch.ones(1, 1, 4))


def test_binary_masks_are_the_default_and_soft_ones_another_reading():
    mixture = torch.stack(hum_and_blips()).sum(dim=0, keepdim=True)
    query = Query.blind(torch.tensor([2]))
    own = SMALL.build(0).separate(mixture, query)
    soft = replace(SMALL, masks="soft").build(0).separate(mixture, query)
    assert own.alternatives[SOFT_MASKS].estimates.equal(soft.estimates) and not soft.alternatives
    assert not own.estimates.equal(soft.estimates)
    assert own.intermediates["sparse"].equal(soft.intermediates["sparse"])
    greedy = replace(SMALL, gain=0.1).build(0).separate(mixture, query)
    assert greedy.intermediates["sparse"].equal(own.intermediates["sparse"])
    assert greedy.masks is not None and own.masks is not None
    assert greedy.masks[:, 1].sum() > own.masks[:, 1].sum()


def test_it_is_a_separator_with_nothing_to_keep_or_to_train():
    model = SMALL.build(5)
    assert isinstance(model, Separator)
    assert not SMALL.trains and list(model.parameters()) == [] and model.state_dict() == {}
    require_kept(SMALL, "model.")
    require_built_without_values(SMALL, 5)
    silence = torch.zeros(1, SAMPLES)
    assert model.separate(silence, Query.blind(torch.tensor([2]))).estimates.eq(0).all()


def test_settings_and_mixtures_that_do_not_fit_are_refused():
    for change, message in (({"gain": 0.0}, "gain must be positive"), ({"max_iterations": 0}, "at least 1")):
        with pytest.raises(UsageError, match=message):
            replace(SMALL, **change)
    SMALL.require_test_mixing(replace(PAIRS, distinct_classes=False))
    for mixing in (replace(PAIRS, num_sources=3), replace(PAIRS, min_sources=1)):
        with pytest.raises(UsageError, match="mixtures of two sources"):
            SMALL.require_test_mixing(mixing)
    for counts in ([3], [1]):
        with pytest.raises(UsageError, match="separates two sources"):
            SMALL.build(0).separate(torch.zeros(1, SAMPLES), Query.blind(torch.tensor(counts)))
