"""Non-negative factorisation of magnitudes, V ~ W H, by multiplicative updates (Lee and Seung, "Algorithms for
Non-negative Matrix Factorization", NIPS 2000): the generalised Kullback-Leibler divergence never rises.

Optional terms on the activations follow Virtanen ("Monaural Sound Source Separation by Nonnegative Matrix
Factorization with Temporal Continuity and Sparseness Criteria", IEEE TASLP 15(3), 2007).

Shape letters: B batch, N sources, F frequency bins, M frames in time, K components.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LEAST = 1e-12
"""What no factor falls below: zero would stay zero, and 0 / 0 is no number. Magnitudes are about 1 (`unit_mean`)."""


def unit_mean(magnitude: Tensor) -> Tensor:
    """Magnitudes [..., F, M] over their mean, so that weights and bounds mean the same at any loudness; silence stays.

    In float32 at least.
    """
    magnitude = magnitude.to(torch.promote_types(magnitude.dtype, torch.float32))
    mean = magnitude.mean(dim=(-2, -1), keepdim=True)
    return magnitude / mean.clamp(min=torch.finfo(mean.dtype).tiny)


def kl_divergence(magnitude: Tensor, model: Tensor) -> Tensor:
    """Divergence [...] of magnitudes V from a model Y > 0, both [..., F, M]: V log(V / Y) - V + Y, summed over bins."""
    bins = torch.xlogy(magnitude, magnitude) - torch.xlogy(magnitude, model) - magnitude + model
    return bins.sum(dim=(-2, -1))


@torch.no_grad()
def factorize(
    magnitude: Tensor,
    bases: Tensor,
    activations: Tensor,
    num_iterations: int,
    *,
    continuity: float = 0.0,
    sparsity: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Bases W [B, F, K] and activations H [B, K, M] after so many updates of both, W first, from the given ones.

    Minimises the divergence of V [B, F, M], plus the weighted terms of `activation_terms`. A mixture's factors do not
    depend on the others of its batch.
    """
    W, H = _own(bases), _own(activations)
    for v, w, h in _parts(magnitude, W, H):
        ratio = torch.empty_like(v)
        for _ in range(num_iterations):
            _ratio(v, w, h, ratio)
            w.mul_(ratio @ h.mT).div_(h.sum(dim=2)[:, None]).clamp_(min=_LEAST)
            _ratio(v, w, h, ratio)
            _update_activations(w, h, ratio, continuity, sparsity)
    return W, H


@torch.no_grad()
def activate(magnitude: Tensor, bases: Tensor, num_iterations: int) -> Tensor:
    """Activations H [B, K, M] of given bases W [B, F, K] in V [B, F, M], after so many updates from equal shares.

    A base may be zero, but not all of a mixture's.
    """
    W = bases.detach()
    share = magnitude.sum(dim=1, keepdim=True) / W.sum(dim=(1, 2))[:, None, None]
    H = _own(share.expand(-1, W.shape[2], -1)).clamp_(min=_LEAST)
    for v, w, h in _parts(magnitude, W, H):
        ratio = torch.empty_like(v)
        for _ in range(num_iterations):
            _ratio(v, w, h, ratio)
            _update_activations(w, h, ratio)
    return H


def activation_terms(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Temporal continuity and sparsity [B] of activations [B, K, M] (Virtanen, section III), whatever their scale.

    With s^2 a component's mean square: the sum of (h_t - h_{t-1})^2 / s^2, and the sum of h_t / s.
    """
    square = activations.square().mean(dim=2)
    steps = activations.diff(dim=2).square().sum(dim=2)
    return (steps / square).sum(dim=1), (activations.sum(dim=2) / square.sqrt()).sum(dim=1)


def wiener_masks(bases: Tensor, activations: Tensor, members: Tensor) -> Tensor:
    """Each source's share of the model, (W H)_n / W H, [B, N, F, M] in [0, 1].

    `members` [B, N, K] is 1 where a component is one of a source's, else 0; components of no source are left out.
    """
    models = (bases[:, None] * members[:, :, None]) @ activations[:, None]
    return models / models.sum(dim=1, keepdim=True).clamp(min=torch.finfo(models.dtype).tiny)


def _own(factor: Tensor) -> Tensor:
    """A copy that updates may write into."""
    return factor.clone(memory_format=torch.contiguous_format)


def _parts(*tensors: Tensor) -> zip[tuple[Tensor, ...]]:
    """Views of what is updated at a time: on CPUs one mixture, which fits into a core's cache."""
    size = 1 if tensors[0].device.type == "cpu" else len(tensors[0])
    return zip(*(tensor.split(size) for tensor in tensors), strict=True)


def _ratio(v: Tensor, w: Tensor, h: Tensor, out: Tensor) -> None:
    """V / W H."""
    torch.bmm(w, h, out=out)
    torch.div(v, out, out=out)


def _update_activations(w: Tensor, h: Tensor, ratio: Tensor, continuity: float = 0.0, sparsity: float = 0.0) -> None:
    """H <- H (W' [V / W H] + minus) / (W' 1 + plus), with the two halves of the terms' gradient."""
    lowers, raises = w.mT @ ratio, w.sum(dim=1)[..., None]
    if continuity or sparsity:
        minus, plus = term_gradients(h, continuity, sparsity)
        lowers, raises = lowers + minus, raises + plus
    h.mul_(lowers).div_(raises.clamp(min=_LEAST)).clamp_(min=_LEAST)


def term_gradients(activations: Tensor, continuity: float, sparsity: float) -> tuple[Tensor, Tensor]:
    """The gradient of the weighted `activation_terms` as the difference of two tensors [B, K, M] that are not negative:
    minus, then plus."""
    h, num_frames = activations, activations.shape[2]
    energy = h.square().sum(dim=2, keepdim=True)
    deviation = (energy / num_frames).sqrt()
    # A frame beyond an end is taken to be as the end, from which there is no step.
    neighbours = torch.cat([h[..., :1], h[..., :-1]], dim=2) + torch.cat([h[..., 1:], h[..., -1:]], dim=2)
    steps = h.diff(dim=2).square().sum(dim=2, keepdim=True) / energy
    factor = 2 * continuity * num_frames / energy
    minus = factor * (neighbours + steps * h) + sparsity * h / deviation * (h.sum(dim=2, keepdim=True) / energy)
    return minus, factor * 2 * h + sparsity / deviation
