"""NMF, blind separation by non-negative factorisation of each mixture (SGN's and the co-segmentation paper's baseline).

A mixture's magnitudes are a sum of components, each a spectrum times its activation over time (Virtanen, "Monaural
Sound Source Separation by Nonnegative Matrix Factorization with Temporal Continuity and Sparseness Criteria", IEEE
TASLP 15(3), 2007). Spectra of like timbre are taken for one source (Spiertz and Gnann, "Source-Filter Based Clustering
for Monaural Blind Source Separation", DAFx 2009: NMF-MFCC). Nothing is learned, and nothing says which source is whose.

Shape letters: B batch, N sources, T samples, F linear bins, R log-frequency rows, M frames, K components.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torchaudio.functional import create_dct, melscale_fbanks

from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.layers.factorization import factorize, unit_mean, wiener_masks
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require

_LOUDEST = 1e4
"""Energy that a spectrum's loudest mel band is scaled to before log10(1 + x), so that 40 dB are told apart."""


@dataclass(frozen=True, kw_only=True)
class NMFConfig(ModelConfig):
    """The papers name neither their numbers nor their grouping; these are those of the works that they cite."""

    trains: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("scikit-learn", "torchaudio")

    num_components: int = 20
    """Components of a mixture, K."""
    num_iterations: int = 200
    """Updates of all spectra and activations."""
    continuity: float = 0.0
    """Weight of Virtanen's temporal continuity, the squared steps of activations, beside the divergence of magnitudes
    whose mean is 1. Without it, this is NMF by the divergence alone."""
    sparsity: float = 0.0
    """Weight of Virtanen's sparseness, the sum of activations over their deviation."""
    num_mels: int = 20
    """Mel bands by which the timbre of a spectrum is described."""
    num_mfccs: int = 9
    """Mel-frequency cepstral coefficients that sources are told apart by, from the first on."""
    sample_rate_hz: int = 11025
    """Rate of the sound, in Hz, which mel bands are of: the mixtures must have it."""
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    """Transform of the mixture: SGN's, whose 512 linear bins are factorised as they are, so that only the method
    differs from the other rows of a table. num_rows is for the ceilings and for masks that are drawn."""

    def __post_init__(self) -> None:
        for name in ("num_components", "num_iterations", "num_mfccs", "sample_rate_hz"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("continuity", "sparsity"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, not {getattr(self, name)}")
        require(
            self.num_mfccs <= self.num_mels,
            f"num_mfccs {self.num_mfccs} cannot be more than the num_mels {self.num_mels} that they describe",
        )

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures of another rate, or of more sources than there are components."""
        require(
            mixing.sample_rate_hz == self.sample_rate_hz,
            f"model.sample_rate_hz {self.sample_rate_hz} places the mel bands, but mixing.sample_rate_hz is "
            f"{mixing.sample_rate_hz}: set one to fit the other",
        )
        require(
            mixing.num_sources <= self.num_components,
            f"{self.num_components} components cannot be shared by {mixing.num_sources} sources: raise "
            "--model.num-components",
        )

    def build(self, num_classes: int) -> NMF:
        """Its random start alone is drawn, from torch's random state; no class is known."""
        return NMF(self)


class NMF(nn.Module):
    """A `cocktail.types.Separator` without parameters."""

    seed: Tensor
    """Seed of the random start of factors and of k-means, int64 []: one for all mixtures."""

    def __init__(self, config: NMFConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("seed", torch.randint(2**31, ()))
        self.front_end = FrontEnd(config.front_end)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        raise AssertionError("it learns nothing")

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates by soft masks, (W H)_n / W H, in no order; silence behind the last of a mixture's sources.

        Raises UsageError if more sources are asked for than there are components.
        """
        config = self.config
        require(
            query.room <= config.num_components,
            f"{config.num_components} components cannot be shared by the {query.room} sources that are asked for",
        )
        transform = self.front_end.stft(mixture)
        magnitude = unit_mean(transform.abs())
        start = self.start(magnitude)
        terms = {"continuity": config.continuity, "sparsity": config.sparsity}
        bases, activations = factorize(magnitude, *start, config.num_iterations, **terms)
        groups = self.groups(bases, query.num_sources)
        sources = torch.arange(query.room, device=groups.device)
        masks = wiener_masks(bases, activations, (groups[:, None] == sources[:, None]).to(bases.dtype))
        return Separation(
            estimates=self.front_end.istft(transform[:, None] * masks).clamp(-1.0, 1.0),
            masks=self.front_end.warp(masks),
            class_ids=torch.full(masks.shape[:2], NO_CLASS, device=masks.device),
            intermediates={"bases": bases, "activations": activations, "groups": groups},
        )

    def start(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """Bases [B, F, K] and activations [B, K, M] to start from: uniform in (0, 1], alike for all mixtures, so that
        none depends on which others are there."""
        (B, F, M), K = magnitude.shape, self.config.num_components
        generator = torch.Generator().manual_seed(int(self.seed))
        bases, activations = (1 - torch.rand(shape, generator=generator) for shape in ((F, K), (K, M)))
        return bases.to(magnitude).expand(B, -1, -1), activations.to(magnitude).expand(B, -1, -1)

    def timbres(self, bases: Tensor) -> Tensor:
        """Mel-frequency cepstral coefficients [B, K, num_mfccs] of spectra [B, F, K], whatever their loudness."""
        mels = bases.mT.square() @ self._mel_bands.to(bases)
        loudest = mels.amax(dim=-1, keepdim=True).clamp(min=torch.finfo(mels.dtype).tiny)
        return torch.log10(1 + _LOUDEST * mels / loudest) @ self._cosines.to(bases)

    def groups(self, bases: Tensor, num_sources: Tensor) -> Tensor:
        """The source of each component, int64 [B, K], by k-means of the timbres of bases [B, F, K]."""
        timbres = self.timbres(bases).cpu().numpy()
        with warnings.catch_warnings():
            # The components of silence are all alike, and then there are fewer groups than sources.
            warnings.simplefilter("ignore", ConvergenceWarning)
            groups = [
                torch.from_numpy(self._k_means(count).fit_predict(timbre))
                for timbre, count in zip(timbres, num_sources.tolist(), strict=True)
            ]
        return torch.stack(groups).long().to(bases.device)

    def _k_means(self, num_groups: int) -> KMeans:
        """The best of ten starts; pyright takes scikit-learn's default, "auto", for the type."""
        return KMeans(num_groups, n_init=10, random_state=int(self.seed))  # pyright: ignore[reportArgumentType]

    @functools.cached_property
    def _mel_bands(self) -> Tensor:
        """Triangles [F, num_mels], made when first asked for, since a build on the meta device has no values."""
        F, rate = self.front_end.num_bins, self.config.sample_rate_hz
        return melscale_fbanks(F, 0.0, rate / 2, self.config.num_mels, rate)

    @functools.cached_property
    def _cosines(self) -> Tensor:
        """The discrete cosine transform [num_mels, num_mfccs]."""
        return create_dct(self.config.num_mfccs, self.config.num_mels, norm="ortho")
