"""Sound of Pixels without its eyes: the U-Net alone, with a mask an output (SGN Tables I and II, "SoP without visual").

With nothing seen, nothing says which output is whose. Outputs learn in the order of the least loss, or in the order in
which sources happen to be drawn, which no network can know.

Shape letters: B batch, N sources, R log-frequency rows, M frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cocktail.audio.stft import FrontEnd
from cocktail.config.mixing import Mixing
from cocktail.layers.mask_head import MapHead
from cocktail.layers.masking import MaskingConfig, magnitudes_of, separation_by_masks
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.layers.waveform_separator import require_room
from cocktail.losses.mask_loss import (
    ideal_masks,
    loudness_weights,
    mask_loss_of,
    mean_over_sources,
    pairwise_mask_loss,
)
from cocktail.losses.permutation import permutation_invariant_loss
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require


@dataclass(frozen=True, kw_only=True)
class SoundOfPixelsAudioConfig(MaskingConfig):
    """Sound of Pixels' U-Net, on its own."""

    outputs: int = 2
    """Masks, one a source, at most: of mixtures with fewer sources, those that fit them best learn, and are scored."""
    pit: bool = True
    """Learn in the order of the least loss (permutation-invariant training). Without it outputs keep the order in which
    sources are drawn, by which all come to say the same: SGN remarks that both of its outputs look alike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.outputs >= 2, f"outputs must be at least 2, not {self.outputs}")

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures of fewer sources at most than there are masks, which would learn nothing, or as
        `MaskingConfig` does."""
        super().require_mixing(mixing)
        require(
            mixing.num_sources >= self.outputs,
            f"the mixtures have {mixing.num_sources} sources at most, model.outputs is {self.outputs}: lower it",
        )

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures of more sources than masks, or as `MaskingConfig` does."""
        super().require_test_mixing(mixing)
        require(
            mixing.num_sources <= self.outputs,
            f"the mixtures have up to {mixing.num_sources} sources, model.outputs is {self.outputs}: raise it",
        )

    def build(self, num_classes: int) -> SoundOfPixelsAudio:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return SoundOfPixelsAudio(self)


SMALL_SOUND_OF_PIXELS_AUDIO = SoundOfPixelsAudioConfig(unet_width=16, conv_init_std=0.02, input_norm="mixture")
"""Under two million parameters, for a few minutes on two cores."""


class SoundOfPixelsAudio(nn.Module):
    """A `cocktail.types.Separator` whose estimates no class names."""

    def __init__(self, config: SoundOfPixelsAudioConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front_end)
        self.unet = config.unet()
        self.head = MapHead(self.unet.out_channels, config.outputs, config.conv_init_std)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def mask_logits(self, magnitude: Tensor) -> Tensor:
        """Logits [B, N, R, M] of all masks, of log-frequency magnitudes [B, 1, R, M]."""
        spectrogram = log_spectrogram(magnitude, self.config.input_norm)
        return self.head(self.unet(spectrogram.contiguous(memory_format=torch.channels_last)))

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss of the masks, the mean over bins, then over a mixture's sources, then over mixtures."""
        magnitude, sources = magnitudes_of(self.front_end, batch)
        targets = ideal_masks(sources, magnitude, self.config.masks)
        weights = loudness_weights(magnitude) if self.config.weighted_loss else None
        logits, loss_of = self.mask_logits(magnitude), mask_loss_of(self.config.masks)
        present = batch.present
        if self.config.pit:
            pairs = pairwise_mask_loss(logits, targets, weights, loss_of)
            loss = (permutation_invariant_loss(pairs, present) / present.sum(dim=1)).mean()
        else:
            loss = mean_over_sources(loss_of(logits, targets, weights), present)
        return {"reconstruction": loss, "total": loss}

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates of all masks, in no order, with the mixture's phase; of more masks than sources those that fit best
        are scored. Raises UsageError for more sources than masks."""
        require_room(query, self.config.outputs)
        transform = self.front_end.stft(mixture)
        masks = self.mask_logits(self.front_end.warp(transform.abs())[:, None]).sigmoid()
        unnamed = torch.full(masks.shape[:2], NO_CLASS, device=masks.device)
        return separation_by_masks(self.config, self.front_end, transform, masks, unnamed, {})
