"""Multiplicative updates of the divergence and of Virtanen's terms, against scikit-learn and against gradients."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import NMF, non_negative_factorization

from cocktail.layers.factorization import (
    activate,
    activation_terms,
    factorize,
    kl_divergence,
    term_gradients,
    unit_mean,
    wiener_masks,
)

F, M, K = 40, 30, 4
DIVERGENCE: dict[str, Any] = {"n_components": K, "init": "custom", "solver": "mu", "beta_loss": "kullback-leibler"}
"""scikit-learn's settings for the same updates."""


def positive(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.01


V, W, H = positive(3, F, M).pow(3), positive(3, F, K, seed=1), positive(3, K, M, seed=2)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_factors_are_scikit_learns_from_the_same_start(dtype, rtol):
    ours = factorize(V.to(dtype), W.to(dtype), H.to(dtype), 100)
    for b in range(3):
        theirs = NMF(**DIVERGENCE, tol=0.0, max_iter=100)
        bases = theirs.fit_transform(V[b].numpy(), W=W[b].numpy().copy(), H=H[b].numpy().copy())
        for mine, expected in ((ours[0][b], bases), (ours[1][b], theirs.components_)):
            torch.testing.assert_close(mine.double(), torch.from_numpy(expected), rtol=rtol, atol=rtol)
        error = np.sqrt(2 * kl_divergence(V[b], ours[0][b].double() @ ours[1][b].double()).item())
        assert error == pytest.approx(theirs.reconstruction_err_, rel=1e-4)


def test_the_start_is_left_as_it_was():
    before = W.clone(), H.clone()
    factorize(V, W, H, 2)
    activate(V, W, 2)
    assert W.equal(before[0]) and H.equal(before[1])


def test_activations_of_given_bases_reach_the_least_divergence():
    found = activate(V, W, 3000)
    for b in range(3):
        given = {"H": W[b].T.numpy().copy(), "update_H": False}
        of_rows, *_ = non_negative_factorization(V[b].T.numpy(), **given, **DIVERGENCE, tol=0.0, max_iter=3000)
        least = kl_divergence(V[b], W[b] @ torch.from_numpy(of_rows.T))
        torch.testing.assert_close(kl_divergence(V[b], W[b] @ found[b]), least, rtol=1e-9, atol=0.0)


def test_a_base_of_zeros_takes_no_part():
    bases = torch.cat([W, torch.zeros(3, F, 2, dtype=W.dtype)], dim=2)
    found = activate(V, bases, 500)
    torch.testing.assert_close(found[:, :K], activate(V, W, 500), rtol=1e-6, atol=1e-9)
    assert found.isfinite().all()


@pytest.mark.parametrize(("continuity", "sparsity"), [(0.0, 0.0), (5.0, 0.0), (0.0, 2.0), (5.0, 2.0)])
def test_no_update_raises_what_is_minimised(continuity, sparsity):
    def cost(bases, activations):
        steps, sums = activation_terms(activations)
        return kl_divergence(V, bases @ activations) + continuity * steps + sparsity * sums

    costs = [
        cost(*factorize(V, W, H, count, continuity=continuity, sparsity=sparsity)) for count in (0, 1, 2, 5, 20, 100)
    ]
    assert all((later < earlier).all() for earlier, later in itertools.pairwise(costs))


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (3.0, 0.5)])
def test_halves_of_the_terms_gradient_differ_by_it_and_are_not_negative(weights):
    h = H.clone().requires_grad_()
    terms = activation_terms(h)
    (weights[0] * terms[0].sum() + weights[1] * terms[1].sum()).backward()
    minus, plus = term_gradients(H, *weights)
    torch.testing.assert_close(plus - minus, h.grad)
    assert (minus >= 0).all() and (plus >= 0).all()


def test_terms_are_virtanens_and_know_no_scale():
    h = torch.tensor([[[1.0, 3.0, 2.0]]], dtype=torch.float64)
    steps, sums = activation_terms(h)
    assert steps.item() == pytest.approx(5 / (14 / 3))
    assert sums.item() == pytest.approx(6 / (14 / 3) ** 0.5)
    for term, louder in zip((steps, sums), activation_terms(7 * h), strict=True):
        torch.testing.assert_close(term, louder)


def test_continuity_makes_activations_smoother_and_sparsity_sparser():
    plain, smooth, sparse = (
        activation_terms(factorize(V, W, H, 200, **terms)[1])
        for terms in ({}, {"continuity": 20.0}, {"sparsity": 20.0})
    )
    assert (smooth[0] < 0.5 * plain[0]).all()
    assert (sparse[1] < 0.9 * plain[1]).all()


def test_the_factors_of_a_mixture_do_not_depend_on_its_batch():
    v, w, h = V.float(), W.float(), H.float()
    together, alone = factorize(v, w, h, 100), factorize(v[1:2], w[1:2], h[1:2], 100)
    assert all(factor[1:2].equal(own) for factor, own in zip(together, alone, strict=True))
    assert activate(v, w, 50)[2:].equal(activate(v[2:], w[2:], 50))


def test_silence_has_a_factorisation():
    bases, activations = factorize(torch.zeros(1, F, M), W[:1].float(), H[:1].float(), 50)
    assert bases.isfinite().all() and activations.isfinite().all()
    assert (bases @ activations).max() < 1e-6
    assert unit_mean(torch.zeros(1, F, M)).eq(0).all()


def test_magnitudes_of_unit_mean_are_the_same_at_any_loudness():
    torch.testing.assert_close(unit_mean(1e-4 * V), unit_mean(V))
    torch.testing.assert_close(unit_mean(V).mean(dim=(1, 2)), torch.ones(3, dtype=V.dtype))
    assert unit_mean(V.to(torch.bfloat16)).dtype == torch.float32


def test_wiener_masks_are_shares_of_the_model():
    members = torch.tensor([[1.0, 0, 0, 1], [0, 1, 0, 0]], dtype=torch.float64).expand(3, -1, -1)
    masks = wiener_masks(W, H, members)
    first = W[1, 5, 0] * H[1, 0, 7] + W[1, 5, 3] * H[1, 3, 7]
    second = W[1, 5, 1] * H[1, 1, 7]
    torch.testing.assert_close(masks[1, :, 5, 7], torch.stack([first, second]) / (first + second))
    torch.testing.assert_close(masks.sum(dim=1), torch.ones_like(V))
