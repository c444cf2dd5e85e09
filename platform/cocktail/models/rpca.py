"""Robust principal component analysis, blind separation of what repeats from what does not (SGN's baseline).

A mixture's magnitudes are parted into a matrix of low rank and a sparse one (Huang et al., "Singing-Voice Separation
from Monaural Recordings Using Robust Principal Component Analysis", ICASSP 2012), by the inexact augmented Lagrangian
(Lin, Chen and Ma, "The Augmented Lagrange Multiplier Method for Exact Recovery of Corrupted Low-Rank Matrices", 2009,
algorithm 5). Nothing is learned, and nothing says which source is whose.

Shape letters: B batch, T samples, F linear bins, R log-frequency rows, M frames; the two sources are L and S.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.layers.masking import SOFT_MASKS
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require

_FIRST_PENALTY = 1.25
"""The first penalty mu, over 1 / |V|_2 (Lin et al., section 4)."""
_PENALTY_GROWTH = 1.5
"""Factor of mu at each iteration."""
_MOST_PENALTY = 1e7
"""Largest mu over the first, as in the public code of the method."""


@dataclass(frozen=True, kw_only=True)
class RPCAConfig(ModelConfig):
    """The cited work's method and constants, on SGN's transform."""

    trains: ClassVar[bool] = False

    sparsity: float = 1.0
    """Constant k of lambda = k / sqrt(max(F, M)), the weight of the sparse part: with more of it less is sparse."""
    gain: float = 1.0
    """Constant g of the mask: a bin is the sparse source's where |S| > g |L|."""
    masks: Literal["binary", "soft"] = "binary"
    """Binary masks, or shares |S| / (|S| + g |L|), which are above a half in the same bins. Binary ones are scored
    soft, too."""
    tolerance: float = 1e-6
    """Norm of V - L - S over that of V at which it stops."""
    max_iterations: int = 200
    """Iterations after which it stops in any case; some 40 reach the tolerance."""
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    """Transform of the mixture: SGN's, of whose 512 linear bins the magnitudes are parted as they are. num_rows is for
    the ceilings and for masks that are drawn."""

    def __post_init__(self) -> None:
        for name in ("sparsity", "gain", "tolerance"):
            require(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        require(self.max_iterations >= 1, f"max_iterations must be at least 1, not {self.max_iterations}")

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures of any other number of sources than two."""
        require(
            mixing.fewest_sources == mixing.num_sources == 2,
            "RPCA has two answers, what repeats and what does not: test it on mixtures of two sources, not of "
            f"{mixing.fewest_sources} to {mixing.num_sources} (--mixing.num-sources 2, no --mixing.min-sources)",
        )

    def build(self, num_classes: int) -> RPCA:
        """There is nothing to initialise, and no class is known."""
        return RPCA(self)


class RPCA(nn.Module):
    """A `cocktail.types.Separator` without parameters."""

    def __init__(self, config: RPCAConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front_end)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        raise AssertionError("it learns nothing")

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates of the low-rank source, then of the sparse one, by masks that add up to 1.

        Raises UsageError if another number of sources than two is asked for.
        """
        require(
            query.room == 2 and bool((query.num_sources == 2).all()),
            "RPCA separates two sources, no other number: test it on mixtures of two",
        )
        config = self.config
        transform = self.front_end.stft(mixture)
        low_rank, sparse = robust_pca(
            transform.abs(),
            sparsity=config.sparsity,
            tolerance=config.tolerance,
            max_iterations=config.max_iterations,
        )
        intermediates = {"low_rank": low_rank, "sparse": sparse}
        binary, soft = (self._by_masks(transform, masks) for masks in masks_of(low_rank, sparse, config.gain))
        if config.masks == "soft":
            return replace(soft, intermediates=intermediates)
        return replace(binary, intermediates=intermediates, alternatives={SOFT_MASKS: soft})

    def _by_masks(self, transform: Tensor, masks: Tensor) -> Separation:
        """The separation by masks [B, 2, F, M] of linear bins."""
        return Separation(
            estimates=self.front_end.istft(transform[:, None] * masks).clamp(-1.0, 1.0),
            masks=self.front_end.warp(masks),
            class_ids=torch.full(masks.shape[:2], NO_CLASS, device=masks.device),
        )


def masks_of(low_rank: Tensor, sparse: Tensor, gain: float) -> tuple[Tensor, Tensor]:
    """Binary and soft masks [B, 2, F, M] of the low-rank and the sparse source, each pair adding up to 1."""
    loud, faint = sparse.abs(), gain * low_rank.abs()
    of_sparse = (loud > faint).to(loud.dtype), loud / (loud + faint).clamp(min=torch.finfo(loud.dtype).tiny)
    binary, soft = (torch.stack([1 - mask, mask], dim=1) for mask in of_sparse)
    return binary, soft


@torch.no_grad()
def robust_pca(
    matrices: Tensor, *, sparsity: float = 1.0, tolerance: float = 1e-6, max_iterations: int = 200
) -> tuple[Tensor, Tensor]:
    """Matrices L of low rank and sparse S, [B, F, M], that minimise |L|_* + lambda |S|_1 where L + S = V [B, F, M].

    lambda is sparsity / sqrt(max(F, M)). Each matrix stops by itself, at the first iteration whose residual
    |V - L - S|_F is at most tolerance times |V|_F, so no answer depends on the others of a batch. Computed in float64.
    """
    low_rank, sparse = torch.empty_like(matrices), torch.empty_like(matrices)
    tall = matrices.shape[1] >= matrices.shape[2]
    # On a CPU one at a time, which fits into a core's cache.
    size = 1 if matrices.device.type == "cpu" else len(matrices)
    for start in range(0, len(matrices), size):
        chosen = slice(start, start + size)
        part = matrices[chosen].double()
        L, S = _augmented_lagrangian(part if tall else part.mT, sparsity, tolerance, max_iterations)
        low_rank[chosen], sparse[chosen] = (each.to(matrices) if tall else each.mT.to(matrices) for each in (L, S))
    return low_rank, sparse


def _augmented_lagrangian(V: Tensor, sparsity: float, tolerance: float, max_iterations: int) -> tuple[Tensor, Tensor]:
    """L and S of V [B, F, M] with F >= M, in float64: what is silent is parted at once."""
    weight = sparsity / math.sqrt(max(V.shape[1:]))
    done_L, done_S = torch.zeros_like(V), torch.zeros_like(V)
    size = torch.linalg.matrix_norm(V)
    running = (size > 0).nonzero()[:, 0]
    V, size = V[running], size[running, None, None]
    spectral = torch.linalg.eigvalsh(V.mT @ V)[:, -1, None, None].clamp(min=0).sqrt()
    penalty = _FIRST_PENALTY / spectral
    # The multiplier starts within the dual norm's ball (Lin et al., section 4).
    Y = V / torch.maximum(spectral, V.abs().amax(dim=(1, 2), keepdim=True) / weight)
    L, most = torch.zeros_like(V), penalty * _MOST_PENALTY
    for _ in range(max_iterations):
        if len(running) == 0:
            break
        goal = V + Y / penalty
        S = _shrink(goal - L, weight / penalty)
        L = singular_value_threshold(goal - S, 1 / penalty)
        residual = V - L - S
        Y = Y + penalty * residual
        penalty = torch.minimum(penalty * _PENALTY_GROWTH, most)
        done_L[running], done_S[running] = L, S
        left = torch.linalg.matrix_norm(residual) > tolerance * size[:, 0, 0]
        if not left.all():
            running = running[left]
            V, Y, L, penalty, most, size = (each[left] for each in (V, Y, L, penalty, most, size))
    return done_L, done_S


def _shrink(values: Tensor, threshold: Tensor) -> Tensor:
    """Values nearer to zero by a threshold, or zero."""
    return values - values.clamp(-threshold, threshold)


def singular_value_threshold(matrices: Tensor, threshold: Tensor) -> Tensor:
    """Matrices [B, F, M] with singular values lower by a threshold [B, 1, 1], or zero; float64, F >= M.

    By the eigenvectors W of X'X, as X W diag(1 - threshold / s) W' over the singular values s above the threshold: for
    fewer columns than rows, faster than a singular value decomposition. Squares cost half of the digits, of which
    float64 has enough: singular values are exact to 1e-16 |X|^2 / s.
    """
    squares, vectors = torch.linalg.eigh(matrices.mT @ matrices)
    values = squares.clamp(min=0).sqrt()[:, None]
    rank = int((values > threshold).sum(dim=2).max())
    if rank == 0:
        return torch.zeros_like(matrices)
    values, vectors = values[..., -rank:], vectors[..., -rank:]  # eigenvalues ascend
    kept = (1 - threshold / values.clamp(min=torch.finfo(values.dtype).tiny)).clamp(min=0)
    return (matrices @ vectors * kept) @ vectors.mT
