"""Scores beside BSS Eval, and their treatment: SI-SDR, plain SNR, silence, matching, clipping.

All scores are in dB and higher is better. SI-SDR (Le Roux et al., 2019) of an estimate x of a reference s is
10 lg |a s|^2 / |x - a s|^2 with a = <x, s> / <s, s>, so 10 lg c^2 / (1 - c^2) for the cosine c of x and s; no mean is
removed. Infinite scores stay infinite until `clip_db`.

Shape letters: B mixtures, N references, K estimates, T samples.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cocktail.metrics.bss_eval import BssScores

LIMIT_DB = 100.0
"""Scores are clipped to plus or minus this before they are averaged."""
SILENCE = 1e-5
"""A signal whose absolute values sum to no more than this is silent, as in Sound of Pixels' evaluation."""
SILENT_ESTIMATE_GAIN = 1e-8
"""A silent estimate is scored as the mixture times this: what doing nothing is worth."""
_DIRECT_ABOVE_DB = 50.0
"""Score above which `si_sdr_pairs` takes the residual itself.

1 - c^2 is off by some 1e-15 in float64: 1e-9 dB at 50 dB, 1e-6 dB at 80 dB, anything at 150 dB.
"""


def clip_db(scores: Tensor) -> Tensor:
    """Scores of any shape, in dB, within plus or minus LIMIT_DB, so that they can be averaged. NaN stays NaN."""
    return scores.clamp(-LIMIT_DB, LIMIT_DB)


def is_silent(signals: Tensor) -> Tensor:
    """Whether each of the signals [..., T] is silent, by SILENCE: bool [...]."""
    return signals.abs().sum(dim=-1, dtype=torch.float64) <= SILENCE


def replace_silent(estimates: Tensor, mixture: Tensor) -> tuple[Tensor, Tensor]:
    """Estimates [B, K, T] with the silent ones replaced by a faint mixture [B, T], and which were: bool [B, K].

    Scores that ignore scale give a replaced estimate the mixture's. It may still be silent by `is_silent`, but is not
    all zero unless the mixture is, so that it can be scored.
    """
    silent = is_silent(estimates)
    return torch.where(silent[..., None], SILENT_ESTIMATE_GAIN * mixture[:, None], estimates), silent


def si_sdr(references: Tensor, estimates: Tensor) -> Tensor:
    """SI-SDR float64 [...] of estimates [..., T] of references [..., T], which are broadcast; not clipped.

    Higher is better: above 250 dB, or inf, for a reference at any scale, -inf for what is orthogonal to it. Raises
    ValueError if a signal is all zero (see `replace_silent`) or not finite.
    """
    references, estimates = _to_unit_peak("a reference", references), _to_unit_peak("an estimate", estimates)
    scale = (estimates * references).sum(dim=-1) / references.square().sum(dim=-1)
    target = scale[..., None] * references
    return 10 * torch.log10(target.square().sum(dim=-1) / (estimates - target).square().sum(dim=-1))


def si_sdr_pairs(references: Tensor, estimates: Tensor) -> Tensor:
    """`si_sdr` float64 [B, K, N] of every estimate [B, K, T] taken as that of every reference [B, N, T].

    By inner products, and by residuals where inner products lack the digits. Raises ValueError as `si_sdr` does.
    """
    references, estimates = _to_unit_peak("a reference", references), _to_unit_peak("an estimate", estimates)
    products = estimates @ references.mT
    energies = estimates.square().sum(dim=-1)[..., None] * references.square().sum(dim=-1)[:, None]
    squared_cosines = products.square() / energies
    scores = 10 * torch.log10(squared_cosines / (1 - squared_cosines).clamp(min=0))
    for n in range(references.shape[1]):
        b, k = torch.nonzero(scores[..., n] > _DIRECT_ABOVE_DB, as_tuple=True)
        scores[b, k, n] = si_sdr(references[b, n], estimates[b, k])
    return scores


def snr(references: Tensor, estimates: Tensor) -> Tensor:
    """Plain SNR 10 lg |s|^2 / |x - s|^2, float64 [...], of estimates [..., T] of references [..., T]; not clipped.

    Higher is better. Neither gain nor filter is free: BSS Eval's "images" SDR of one channel, not its "sources" SDR. A
    silent estimate has 0 dB. Raises ValueError if a reference is all zero, or a signal not finite.
    """
    references, estimates = _finite("a reference", references), _finite("an estimate", estimates)
    _refuse_zeros("a reference", references)
    return 10 * torch.log10(references.square().sum(dim=-1) / (estimates - references).square().sum(dim=-1))


def match(class_ids_references: Tensor, class_ids_estimates: Tensor, scores: Tensor) -> Tensor:
    """Assignment of estimates to references: int64 [N], for each reference the index of its estimate.

    An estimate of a reference's class is that reference's, by class ids [N] and [K] (NO_CLASS is none's). What is left
    on both sides goes together in the order with the highest mean of `scores` [K, N] out of all orders; so do several
    of one class. With SIR as the score and no classes, that is mir_eval's rule (Vincent et al., 2006).

    Infinite scores count as LIMIT_DB: orders that differ only beyond it are equally good. Raises ValueError for fewer
    estimates than references, shapes that do not fit, or a score that is NaN.
    """
    K, N = len(class_ids_estimates), len(class_ids_references)
    if scores.shape != (K, N):
        raise ValueError(f"scores are {tuple(scores.shape)}, not one row for each of {K} estimates of {N} references")
    if K < N:
        raise ValueError(f"{K} estimates cannot be matched with {N} references: give each reference an estimate")
    if scores.isnan().any():
        raise ValueError("a score to match by is NaN: leave mixtures that cannot be scored out before")
    gain = clip_db(scores).cpu().numpy()
    of_references, of_estimates = class_ids_references.tolist(), class_ids_estimates.tolist()
    named = sorted({class_id for class_id in of_references if class_id >= 0} & set(of_estimates))
    matched: dict[int, int] = {}  # from a reference to its estimate

    def pair(estimates: list[int], references: list[int]) -> None:
        rows, columns = linear_sum_assignment(gain[estimates][:, references], maximize=True)
        matched.update({references[n]: estimates[k] for k, n in zip(rows.tolist(), columns.tolist(), strict=True)})

    for class_id in named:
        pair(
            [k for k, other in enumerate(of_estimates) if other == class_id],
            [n for n, other in enumerate(of_references) if other == class_id],
        )
    taken = set(matched.values())
    pair([k for k in range(K) if k not in taken], [n for n in range(N) if n not in matched])
    return torch.tensor([matched[n] for n in range(N)], dtype=torch.int64, device=scores.device)


def reference_bss_eval(references: Tensor, estimates: Tensor) -> BssScores:
    """BSS Eval by mir_eval itself: SDR, SIR and SAR float64 [K, N] of estimates [K, T] against references [N, T].

    Entry (k, n) takes estimate k as that of reference n, all references being there: the scores of
    `mir_eval.separation.bss_eval_sources` in any order of the estimates, as none depends on the other estimates. Not
    clipped. Slow: K N decompositions, each of a matrix 512 N square. Raises ValueError if a signal is all zero or not
    finite.
    """
    import mir_eval.separation

    references, estimates = _finite("a reference", references), _finite("an estimate", estimates)
    _refuse_zeros("a reference", references)
    _refuse_zeros("an estimate", estimates)
    sources = references.cpu().numpy()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "mir_eval.separation.bss_eval_sources", FutureWarning)
        scores = [
            mir_eval.separation.bss_eval_sources(sources, copies, compute_permutation=False)[:3]
            for copies in estimates[:, None].expand(-1, len(references), -1).cpu().numpy()
        ]
    return BssScores(*(torch.from_numpy(np.stack(values)) for values in zip(*scores, strict=True)))


def _finite(name: str, signals: Tensor) -> Tensor:
    """The signals in float64, if all are finite."""
    if not torch.isfinite(signals).all():
        raise ValueError(f"{name} holds values that are not finite: leave its mixture out before")
    return signals.double()


def _refuse_zeros(name: str, signals: Tensor) -> None:
    if (signals == 0).all(dim=-1).any():
        raise ValueError(f"{name} is silent, all of its samples are zero: leave its mixture out, or replace it, before")


def _to_unit_peak(name: str, signals: Tensor) -> Tensor:
    """The signals [..., T] in float64 with a peak of one: squares of faint ones would vanish."""
    signals = _finite(name, signals)
    _refuse_zeros(name, signals)
    return signals / signals.abs().amax(dim=-1, keepdim=True)
