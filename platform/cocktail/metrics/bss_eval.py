"""BSS Eval v3 "sources" (Vincent et al., 2006) in batches: SDR, SIR and SAR in dB, one filter for the whole signal.

An estimate x is projected on one reference delayed by 0 to L - 1 samples (P x) and on all references so delayed (Q x).
Then SDR = |Px|^2 / (|x|^2 - |Px|^2), SIR = |Px|^2 / (|Qx|^2 - |Px|^2), SAR = |Qx|^2 / (|x|^2 - |Qx|^2). With the
correlations d of x with the delayed references and G of those with each other, |Qx|^2 = d' G^-1 d: no signal is
filtered. The same code gives |Px|^2, as the projection on all of one reference.

Sample by sample, the N sources side by side, G is a block Toeplitz matrix. The generalized Schur algorithm (Kailath and
Sayed, 1995, "Displacement structure") factors it in (N L)^2 steps instead of (N L)^3. It is less exact than a dense
Cholesky factor, so the filters y that it gives are used once more: with the residual r = d - G y, d' G^-1 d =
y' (d + r) + r' G^-1 r. Where the last term is not tiny, or there is no factor, the dense way is taken.

Shape letters: B mixtures, N sources, K estimates, T samples, L taps, P projection problems, M rows of a block, F
frequencies.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

TAPS = 512
_MIN_TRANSFORM = 4096
_BLOCK_ROWS = 16
_ROWS_AT_ONCE = 16384
"""Rows of Gram matrices factored at once on a CPU: enough to make the steps' overhead small; more only take memory."""
_LARGEST_CORRECTION = 1e-10
"""A correction r' G^-1 r up to this share of |x|^2 is exact to about its power 3/2: 1e-15 of |x|^2, as d and G are."""
_RANK_TOLERANCE = 1e-13
"""Eigenvalues of a singular Gram matrix below this share of the largest count as zero."""


class BssScores(NamedTuple):
    """Scores in dB, not clipped: infinite where a denominator is zero, -infinite where nothing is of the reference."""

    sdr: Tensor
    sir: Tensor
    sar: Tensor


class _Correlations(NamedTuple):
    """Correlations of signals scaled to a peak of 1: no score depends on scale, and squares of faint samples lose
    digits."""

    auto: Tensor
    """Correlations of references [B, N, N, 2 L - 1]: entry (i, j, L - 1 + l) is the sum over t of s_i(t) s_j(t + l)."""
    cross: Tensor
    """Correlations with estimates [B, K, N, L]: entry (k, i, l) is the sum over t of s_i(t) x_k(t + l)."""
    energy: Tensor
    """Energy of the estimates [B, K]: |x_k|^2."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """Makes the calling thread compute alone: the steps are so small that waiting for others would take most time.

    On a busy machine a hundred times as much. Nor do scores then depend on the number of threads.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_thread()
def bss_eval(references: Tensor, estimates: Tensor, taps: int = TAPS) -> BssScores:
    """SDR, SIR and SAR float64 [B, N] of estimates [B, N, T] against references [B, N, T], in their given order.

    What mir_eval's `bss_eval_sources` computes without permutation. Raises ValueError if a signal is all zero (leave
    such mixtures out before), not finite or shorter than `taps` N samples.
    """
    if references.shape != estimates.shape:
        raise ValueError(f"{list(estimates.shape)} estimates cannot be paired with {list(references.shape)} references")
    auto, cross, energy = _correlations(references, estimates, taps)
    own = cross.diagonal(dim1=1, dim2=2).movedim(-1, 1)[:, :, None]  # [B, N, 1, L]
    alone = _energies_alone(auto, own, energy[..., None])[..., 0]
    return _scores(alone, _projected_energies(auto, cross, energy), energy)


@_one_thread()
def bss_eval_pairs(references: Tensor, estimates: Tensor, taps: int = TAPS) -> BssScores:
    """The scores [B, K, N] of each of any number of estimates [B, K, T], taken as that of each reference [B, N, T].

    Estimates of several systems cost little more than one's: what depends on references alone is computed once.
    """
    auto, cross, energy = _correlations(references, estimates, taps)
    N = references.shape[1]
    alone = _energies_alone(auto, cross.transpose(1, 2), energy[:, None].expand(-1, N, -1)).transpose(1, 2)
    together = _projected_energies(auto, cross, energy)[..., None].expand_as(alone)
    return _scores(alone, together, energy[..., None])


def bss_eval_best(references: Tensor, estimates: Tensor, taps: int = TAPS) -> tuple[BssScores, Tensor]:
    """The scores [B, N] of `bss_eval` in the order of estimates with the highest mean SIR, and that order [B, N].

    The order's entry n is the index of the estimate of reference n, as in mir_eval's `bss_eval_sources` with
    permutation. All N! orders are compared; of equal ones the first in lexicographic order wins.
    """
    if references.shape != estimates.shape:
        raise ValueError(f"{list(estimates.shape)} estimates cannot be paired with {list(references.shape)} references")
    pairs = bss_eval_pairs(references, estimates, taps)
    N = references.shape[1]
    orders = torch.tensor(list(itertools.permutations(range(N))), device=references.device)
    # Limits beyond what float64 can tell apart keep the mean of an infinite and a -infinite SIR defined.
    mean_sir = pairs.sir.clamp(-1000, 1000)[:, orders, torch.arange(N)].mean(dim=-1)
    best = orders[mean_sir.argmax(dim=-1)]
    return BssScores(*(score.gather(1, best[:, None])[:, 0] for score in pairs)), best


def _scores(alone: Tensor, together: Tensor, energy: Tensor) -> BssScores:
    return BssScores(
        _decibels(alone, energy - alone), _decibels(alone, together - alone), _decibels(together, energy - together)
    )


def _decibels(wanted: Tensor, rest: Tensor) -> Tensor:
    ratio = wanted.clamp(min=0) / rest.clamp(min=0)
    return 10 * torch.log10(torch.where(wanted > 0, ratio, 0))


def _correlations(references: Tensor, estimates: Tensor, taps: int) -> _Correlations:
    """The correlations of checked signals, mixture by mixture: one's spectra fit a cache, a batch's do not."""
    (B, N, T), (others, K, length) = references.shape, estimates.shape
    if (others, length) != (B, T):
        raise ValueError(f"{others} x {length} samples of estimates cannot be scored against {B} x {T} of references")
    if taps * N > T:
        raise ValueError(
            f"signals of {T} samples are too short: {N} filters of {taps} taps fit any of less than {taps * N}"
        )
    peaks = _peaks(references, "a reference"), _peaks(estimates, "an estimate")
    lagged, energy = references.new_empty(B, N, N + K, taps, dtype=torch.float64), peaks[1].new_empty(B, K)
    for b in range(B):
        signals = torch.cat([references[b] / peaks[0][b, :, None], estimates[b] / peaks[1][b, :, None]])
        lagged[b] = _lagged_products(signals, N, taps)
        energy[b] = signals[N:].square().sum(dim=-1)
    auto, cross = lagged[:, :, :N], lagged[:, :, N:]
    # The sum of s_i(t) s_j(t - l) is that of s_j(t) s_i(t + l).
    auto = torch.cat([auto.transpose(1, 2).flip(-1)[..., :-1], auto], dim=-1)
    return _Correlations(auto, cross.transpose(1, 2), energy)


def _peaks(signals: Tensor, name: str) -> Tensor:
    """Largest magnitude float64 [B, N] of each signal."""
    peaks = torch.stack([mixture.abs().amax(dim=-1) for mixture in signals]).double()
    if not torch.isfinite(peaks).all():
        raise ValueError(f"{name} holds values that are not finite")
    if (peaks == 0).any():
        raise ValueError(f"{name} is silent: all of its samples are zero")
    return peaks


def _lagged_products(signals: Tensor, N: int, taps: int) -> Tensor:
    """Lagged products [N, S, L]: entry (i, j, l) is the sum over t of x_i(t) x_j(t + l), for signals x [S, T] and i
    among the first N.

    By blocks of samples against the L - 1 samples longer windows from their begin on, whose transforms' products are
    summed before they are inverted.
    """
    size = max(_MIN_TRANSFORM, 4 * taps)
    hop = size - taps + 1
    blocks = -(-signals.shape[-1] // hop)
    padded = torch.nn.functional.pad(signals, (0, blocks * hop + size - signals.shape[-1]))
    windows = torch.fft.rfft(padded.unfold(-1, size, hop)[:, :blocks])  # [S, blocks, F]
    parts = torch.fft.rfft(padded[:N, : blocks * hop].unflatten(-1, (blocks, hop)), n=size)
    return torch.fft.irfft((parts.conj()[:, None] * windows).sum(dim=-2), n=size)[..., :taps]


def _energies_alone(auto: Tensor, cross: Tensor, energy: Tensor) -> Tensor:
    """|P x|^2 [B, N, K] on each reference alone: cross [B, N, K, L] and energy [B, N, K] are those of its estimates."""
    own = auto.diagonal(dim1=1, dim2=2).movedim(-1, 1).flatten(0, 1)  # [B N, 2 L - 1]
    projected = _projected_energies(own[:, None, None], cross.flatten(0, 1)[:, :, None], energy.flatten(0, 1))
    return projected.unflatten(0, energy.shape[:2])


def _projected_energies(auto: Tensor, cross: Tensor, energy: Tensor) -> Tensor:
    """Energies d' G^-1 d [P, K] for G of auto [P, N, N, 2 L - 1] and d of cross [P, K, N, L]; energy [P, K] is the
    signals'."""
    if auto.is_cuda:  # a small step for each of hundreds of blocks is what a GPU is slow at
        return _dense_energies(auto, cross)
    projected = []
    _, _, N, taps = cross.shape
    at_once = max(1, _ROWS_AT_ONCE // (N * taps))
    for part in zip(*(values.split(at_once) for values in (auto, cross, energy)), strict=True):
        values, reliable = _schur_energies(*part)
        if not reliable.all():
            values[~reliable] = _dense_energies(part[0][~reliable], part[1][~reliable])
        projected.append(values)
    return torch.cat(projected)


def _schur_energies(auto: Tensor, cross: Tensor, energy: Tensor) -> tuple[Tensor, Tensor]:
    """Energies d' G^-1 d [P, K], and for which problems [P] it is as exact as the correlations are."""
    right = cross.transpose(2, 3).flatten(2)  # [P, K, L N]
    factor, factored = _schur_factor(_first_rows(auto))
    filters = _solve_upper(factor, _solve_lower(factor, right))
    residual = right - _times_gram(auto, filters)
    correction = _solve_lower(factor, residual).square().sum(dim=-1)
    values = (filters * (right + residual)).sum(dim=-1) + correction
    return values, factored & (correction <= _LARGEST_CORRECTION * energy).all(dim=-1)


def _first_rows(auto: Tensor) -> Tensor:
    """The first M rows [P, M, L N] of the Gram matrices: entry (a i, b j) is auto[i, j] at lag a - b.

    s_i(t - a) s_j(t - b) summed over t has the lag a - b of s_i(u) s_j(u + l). M = N delays, as many as divide L.
    """
    N, taps = auto.shape[1], (auto.shape[-1] + 1) // 2
    delays = next(power for power in (16, 8, 4, 2, 1) if power * N <= max(_BLOCK_ROWS, N) and taps % power == 0)
    backwards = auto.flip(-1)
    rows = [backwards[..., taps - 1 - a : 2 * taps - 1 - a] for a in range(delays)]
    return torch.stack(rows, dim=1).transpose(3, 4).reshape(len(auto), delays * N, taps * N)


def _schur_factor(first_rows: Tensor) -> tuple[list[Tensor], Tensor]:
    """Blocks of rows of upper triangular U with U' U = G, and for which problems [P] there is such U.

    Of the first M rows [P, M, L N] of block Toeplitz matrices G. Block k is [P, M, L N - k M]: what is left of the
    diagonal is zero and not kept. With Z, which shifts down by a block, G - Z G Z' = A' A - C' C for A and C of M rows
    each, A being U's first block. A shifted by a block and C, from there on, are turned into U's next block and the
    next C by the hyperbolic rotation that makes C's first block zero. The rotation is applied in the mixed form, the
    new A before the new C, which is stable (Bojanczyk et al., 1987).
    """
    P, M, rows = first_rows.shape
    identity = torch.eye(M, dtype=first_rows.dtype, device=first_rows.device).expand(P, M, M)
    root, info = torch.linalg.cholesky_ex(first_rows[..., :M])
    gain = loss = torch.linalg.solve_triangular(root, first_rows, upper=False)
    factor, failures = [gain], [info]
    for _ in range(rows // M - 1):
        gain, loss = gain[..., :-M], loss[..., M:]
        W = torch.linalg.solve_triangular(gain[..., :M], loss[..., :M], upper=True, left=False)
        narrow, info = torch.linalg.cholesky_ex(torch.baddbmm(identity, W.mT, W, alpha=-1))
        failures.append(info)
        wide, info = torch.linalg.cholesky_ex(torch.baddbmm(identity, W, W.mT, alpha=-1))
        failures.append(info)
        inverse = torch.linalg.solve_triangular(narrow, identity, upper=False)
        gain = torch.bmm(inverse, torch.baddbmm(gain, W.mT, loss, alpha=-1))
        back = torch.linalg.solve_triangular(wide, torch.bmm(W, narrow), upper=False)
        loss = torch.bmm(wide.mT, loss).baddbmm_(back, gain, alpha=-1)
        factor.append(gain)
    return factor, (torch.stack(failures) == 0).all(dim=0)


def _solve_lower(factor: list[Tensor], right: Tensor) -> Tensor:
    """Z [P, K, L N] with U' z = d for each row d of right [P, K, L N]."""
    M, solved = factor[0].shape[1], []
    for rows in factor:
        solved.append(torch.linalg.solve_triangular(rows[..., :M], right[..., :M], upper=True, left=False))
        right = torch.baddbmm(right[..., M:], solved[-1], rows[..., M:], alpha=-1)
    return torch.cat(solved, dim=-1)


def _solve_upper(factor: list[Tensor], right: Tensor) -> Tensor:
    """Y [P, K, L N] with U y = z for each row z of right [P, K, L N]."""
    M, solved = factor[0].shape[1], torch.empty_like(right)
    for rows in reversed(factor):
        begin = right.shape[-1] - rows.shape[-1]
        here, later = slice(begin, begin + M), slice(begin + M, None)
        known = torch.baddbmm(right[..., here], solved[..., later], rows[..., M:].mT, alpha=-1)
        solved[..., here] = torch.linalg.solve_triangular(rows[..., :M].mT, known, upper=False, left=False)
    return solved


def _times_gram(auto: Tensor, filters: Tensor) -> Tensor:
    """G y [P, K, L N] for each row y of filters [P, K, L N]: convolutions of the references' correlations with it."""
    N, taps = auto.shape[1], (auto.shape[-1] + 1) // 2
    spectra = torch.fft.rfft(filters.unflatten(-1, (taps, N)).transpose(2, 3), n=2 * taps)  # [P, K, N, F]
    products = (torch.fft.rfft(auto, n=2 * taps)[:, None] * spectra[:, :, None]).sum(dim=3)
    return torch.fft.irfft(products, n=2 * taps)[..., taps - 1 : 2 * taps - 1].transpose(2, 3).flatten(2)


def _dense_energies(auto: Tensor, cross: Tensor) -> Tensor:
    """Energies d' G^-1 d [P, K] by a Cholesky factor of G, and d' G^+ d where it has none: of linearly dependent
    references."""
    gram, right = _gram(auto), cross.flatten(2).mT
    factor, info = torch.linalg.cholesky_ex(gram)
    energies = torch.linalg.solve_triangular(factor, right, upper=False).square().sum(dim=1)
    for p in torch.nonzero(info).flatten().tolist():
        values, vectors = torch.linalg.eigh(gram[p])
        kept = values > _RANK_TOLERANCE * values[-1]
        projected = vectors[:, kept].T @ right[p]
        energies[p] = (projected.square() / values[kept, None]).sum(dim=0)
    return energies


def _gram(auto: Tensor) -> Tensor:
    """The Gram matrices [P, N L, N L]: entry (i a, j b) is auto[i, j] at lag a - b."""
    P, N, _, width = auto.shape
    taps = (width + 1) // 2
    gram = auto.new_empty(P, N, taps, N, taps)
    # Backwards, row a of a block is the window from L - 1 - a on.
    backwards = auto.flip(-1)
    for a in range(taps):
        gram[:, :, a] = backwards[..., taps - 1 - a : 2 * taps - 1 - a]
    return gram.reshape(P, N * taps, N * taps)
