"""BSS Eval v3 "sources" (Vincent et al., 2006) in batches: SDR, SIR and SAR in dB, one filter for the whole signal.

An estimate x is projected on its own reference delayed by 0 to L - 1 samples (P x) and on all references so delayed
(Q x). Then SDR = |Px|^2 / (|x|^2 - |Px|^2), SIR = |Px|^2 / (|Qx|^2 - |Px|^2), SAR = |Qx|^2 / (|x|^2 - |Qx|^2). The
projections' energies are quadratic forms d' G^-1 d of correlations at lags below L, so no signal is filtered.

Shape letters: B mixtures, N sources, T samples, L taps, K block length of the transforms.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

TAPS = 512
_TRANSFORM = 4096
_RANK_TOLERANCE = 1e-13
"""Eigenvalues of a singular Gram matrix below this share of the largest count as zero."""


class BssScores(NamedTuple):
    """Scores in dB, not clipped: infinite where a denominator is zero."""

    sdr: Tensor
    sir: Tensor
    sar: Tensor


def bss_eval(references: Tensor, estimates: Tensor, taps: int = TAPS) -> BssScores:
    """SDR, SIR and SAR float64 [B, N] of estimates [B, N, T] against references [B, N, T], in their given order.

    What mir_eval's `bss_eval_sources` computes without permutation. Raises ValueError if a signal is all zero or not
    finite: leave such mixtures out before.
    """
    sdr, sir, sar = bss_eval_pairs(references, estimates, taps)
    own = torch.arange(references.shape[1])
    return BssScores(sdr[:, own, own], sir[:, own, own], sar[:, own, own])


def bss_eval_pairs(references: Tensor, estimates: Tensor, taps: int = TAPS) -> BssScores:
    """The scores [B, N, N] of every estimate (second axis) taken as that of every reference (third axis)."""
    references, estimates = references.double(), estimates.double()
    for name, signals in (("a reference", references), ("an estimate", estimates)):
        if not torch.isfinite(signals).all():
            raise ValueError(f"{name} holds values that are not finite")
        if (signals == 0).all(dim=-1).any():
            raise ValueError(f"{name} is silent: all of its samples are zero")
    # Scores do not depend on scale, and sums of squares of faint signals would lose digits.
    references = references / references.abs().amax(dim=-1, keepdim=True)
    estimates = estimates / estimates.abs().amax(dim=-1, keepdim=True)
    B, N, _ = references.shape
    auto, cross = _correlations(references, estimates, taps)
    gram = _block_toeplitz(auto)  # [B, N L, N L]
    energy = estimates.square().sum(dim=-1)[..., None]  # [B, N, 1]
    factor, info = torch.linalg.cholesky_ex(gram)
    together = _projected_energy(gram, factor, info, cross.reshape(B, N, N * taps))[..., None].expand(B, N, N)
    alone = []
    for n in range(N):
        block = slice(n * taps, (n + 1) * taps)
        # The factor of the first block is the first block of the factor, where there is one.
        factor_n, info_n = torch.linalg.cholesky_ex(gram[:, block, block]) if n else (factor[:, block, block], info)
        alone.append(_projected_energy(gram[:, block, block], factor_n, info_n, cross[:, :, n]))
    alone = torch.stack(alone, dim=-1)
    return BssScores(
        _decibels(alone, energy - alone), _decibels(alone, together - alone), _decibels(together, energy - together)
    )


def _decibels(wanted: Tensor, rest: Tensor) -> Tensor:
    return 10 * torch.log10(wanted.clamp(min=0) / rest.clamp(min=0))


def _correlations(references: Tensor, estimates: Tensor, taps: int) -> tuple[Tensor, Tensor]:
    """(auto [B, N, N, 2 L - 1], cross [B, N, N, L]).

    auto[i, j, L - 1 + l] is the sum over t of s_i(t) s_j(t + l); cross[k, i, l] that of s_i(t) x_k(t + l). By blocks of
    K samples against the K + 2 (L - 1) around them, whose transforms' products are summed before they are inverted.
    """
    reach = taps - 1
    size = max(_TRANSFORM, 4 * taps)
    K = size - 2 * reach
    blocks = -(-references.shape[-1] // K)

    def windows(signals: Tensor, length: int) -> Tensor:
        """[B, N, blocks, size]: windows of a length from `reach` before each block's begin, or from its begin."""
        before = reach if length > K else 0
        padded = torch.nn.functional.pad(signals, (before, blocks * K + length - signals.shape[-1]))
        return torch.fft.rfft(padded.unfold(-1, length, K)[..., :blocks, :], n=size)

    short = windows(references, K).conj()
    auto = torch.fft.irfft(torch.einsum("bikf,bjkf->bijf", short, windows(references, K + 2 * reach)), n=size)
    cross = torch.fft.irfft(torch.einsum("bikf,bjkf->bjif", short, windows(estimates, K + 2 * reach)), n=size)
    return auto[..., : 2 * taps - 1], cross[..., reach : reach + taps]


def _block_toeplitz(auto: Tensor) -> Tensor:
    """The Gram matrix [B, N L, N L] of all references at all delays: entry (i a, j b) is auto[i, j] at lag a - b."""
    B, N, _, width = auto.shape
    taps = (width + 1) // 2
    gram = auto.new_empty(B, N, taps, N, taps)
    # s_i(t - a) s_j(t - b) summed over t has the lag l = a - b of s_i(u) s_j(u + l). Backwards, row a of a block is
    # the window from L - 1 - a on.
    gram.permute(0, 1, 3, 2, 4)[:] = auto.flip(-1).unfold(-1, taps, 1).flip(-2)
    return gram.reshape(B, N * taps, N * taps)


def _projected_energy(gram: Tensor, factor: Tensor, info: Tensor, correlations: Tensor) -> Tensor:
    """d' G^-1 d [B, N] for correlations d [B, N, M] and Gram matrices G [B, M, M], with their Cholesky factors.

    G^+ stands for G^-1 where G has no factor (`info` is not 0): where the references are linearly dependent.
    """
    right = correlations.transpose(1, 2)
    energy = torch.linalg.solve_triangular(factor, right, upper=False).square().sum(dim=1)
    for b in torch.nonzero(info).flatten().tolist():
        values, vectors = torch.linalg.eigh(gram[b])
        kept = values > _RANK_TOLERANCE * values[-1]
        projected = vectors[:, kept].T @ right[b]
        energy[b] = (projected.square() / values[kept, None]).sum(dim=0)
    return energy
