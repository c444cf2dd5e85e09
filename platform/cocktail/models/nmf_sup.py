"""NMF-sup, non-negative factorisation with dictionaries of the classes: `cocktail.models.nmf` where classes are known.

A dictionary of spectra a class is learned on the training sources, and fixed in a test: of a mixture only the
activations of the named classes' dictionaries are found (Smaragdis, Raj and Shashanka, "Supervised and Semi-Supervised
Separation of Sounds from Single-Channel Mixtures", ICA 2007).

It is learned as dictionaries are online (Mairal et al., "Online Learning for Matrix Factorization and Sparse Coding",
JMLR 11, 2010): for the sources of a batch the best activations are found first, without a gradient, and one step is
taken down the divergence that these leave. At the best activations that is the gradient of the least divergence itself.

Shape letters: B batch, N sources, S sources of all mixtures of a batch, C classes, T samples, F linear bins, M frames,
K components of a class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig, ParameterGroup
from cocktail.layers.factorization import activate, kl_divergence, unit_mean, wiener_masks
from cocktail.types import MixtureBatch, Query, Separation, require


@dataclass(frozen=True, kw_only=True)
class NMFSupConfig(ModelConfig):
    """No paper has this row; it is the supervised form of the one that has."""

    num_components: int = 25
    """Components of a class, K."""
    num_iterations: int = 200
    """Updates of a test mixture's activations, as many as in NMF."""
    num_training_iterations: int = 30
    """Updates of a training source's activations, before each step of the dictionaries."""
    rate_factor: float = 200.0
    """Learning rate of the dictionaries over the training's. They are kept as logarithms, which Adam moves by about its
    learning rate a step, and which have some ten to go: the rates of networks would not get there."""
    init_std: float = 0.5
    """Standard deviation of the logarithms at the start, so that no two spectra of a class are alike."""
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)
    """Transform of the mixture: SGN's, whose 512 linear bins are factorised as they are. num_rows is for the ceilings
    and for masks that are drawn."""

    def __post_init__(self) -> None:
        for name in ("num_components", "num_iterations", "num_training_iterations"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("rate_factor", "init_std"):
            require(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for sources that no class names, or whole clips, which have no reference for each source."""
        require(
            mixing.arrangement != "whole",
            "whole clips are one sound, with no reference for each source, which NMF-sup learns and is scored by: "
            "leave --mixing.arrangement at remixed or released",
        )
        mixing.require_one_class("NMF-sup")

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        """All in one group without weight decay, which would only make spectra flat."""
        parameters = tuple(model.parameters())
        return (ParameterGroup(parameters=parameters, rate_factor=self.rate_factor, weight_decay=0.0),)

    def build(self, num_classes: int) -> NMFSup:
        """Dictionaries of a list of classes, freshly initialised from torch's random state."""
        return NMFSup(self, num_classes)


SMALL_NMF_SUP = NMFSupConfig(num_training_iterations=15)
"""The same dictionaries, with half of the work in training, for some minutes on two cores."""


class NMFSup(nn.Module):
    """A `cocktail.types.Separator` whose only parameters are the logarithms of the dictionaries, but for a factor."""

    def __init__(self, config: NMFSupConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front_end)
        shape = (num_classes, self.front_end.num_bins, config.num_components)
        self.log_spectra = nn.Parameter(config.init_std * torch.randn(shape))

    def dictionaries(self, class_ids: Tensor) -> Tensor:
        """Spectra [..., F, K] of classes [...], each adding up to 1 over bins; of NO_CLASS, some that mean nothing."""
        return self.log_spectra[class_ids.clamp(min=0)].softmax(dim=-2)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: the divergence of each source's magnitudes from its class's dictionary, a bin of a source of mean
        magnitude 1, the mean over mixtures of the sum over sources."""
        with torch.autocast(batch.sources.device.type, enabled=False):
            magnitude = unit_mean(self.front_end.stft(mix(batch)[1]).abs())
            divergence = self.divergence(magnitude[batch.present], batch.class_ids[batch.present])
        loss = divergence.sum() / len(batch)
        return {"divergence": loss, "total": loss}

    def divergence(self, magnitude: Tensor, class_ids: Tensor) -> Tensor:
        """The mean over bins, [S], of what divergence of magnitudes [S, F, M] the dictionaries of classes [S] leave."""
        bases = self.dictionaries(class_ids)
        activations = activate(magnitude, bases, self.config.num_training_iterations)
        return kl_divergence(magnitude, bases @ activations) / magnitude.shape[1:].numel()

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates of the named classes [B, N] by soft masks, (W H)_n / W H; silence of NO_CLASS."""
        class_ids = query.named
        transform = self.front_end.stft(mixture)
        magnitude = unit_mean(transform.abs())
        named = class_ids >= 0
        bases = self.dictionaries(class_ids) * named[..., None, None]
        N, K = bases.shape[1], bases.shape[3]
        bases = bases.transpose(1, 2).flatten(2)  # [B, F, N K]
        activations = activate(magnitude, bases, self.config.num_iterations)
        members = torch.eye(N, device=bases.device).repeat_interleave(K, dim=1)
        masks = wiener_masks(bases, activations, members.expand(len(bases), -1, -1))
        masks = masks.where(named[..., None, None], 0.0)
        return Separation(
            estimates=self.front_end.istft(transform[:, None] * masks).clamp(-1.0, 1.0),
            masks=self.front_end.warp(masks),
            class_ids=class_ids,
            intermediates={"activations": activations},
        )
