"""What separators that mask a log-frequency spectrogram by Sound of Pixels' U-Net have in common: their settings, what
they hear and learn, and how their masks become an answer.

Shape letters: B batch, N sources, T samples, F linear bins, R log-frequency rows, M frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from cocktail.audio.masks import MaskKind
from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEnd, FrontEndConfig, ShortTimeTransform
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.layers.spectrogram import InputNorm
from cocktail.layers.unet import UNet
from cocktail.types import MixtureBatch, Separation, require

SOFT_MASKS = "soft masks"
BY_SUBTRACTION, BY_SUBTRACTED_MAGNITUDES = "unseen by subtraction", "unseen by subtracted magnitudes"
"""Names of a model's alternatives for sources that it does not see: what is left of the mixture without those that it
does see, as waveforms, or as magnitudes that do not fall below 0."""


@dataclass(frozen=True, kw_only=True)
class MaskingConfig(ModelConfig):
    """The settings of the audio network and of its masks, which the configuration of each such separator inherits."""

    unet_width: int = 64
    """Channels of the U-Net's first level; the deepest has eight times as many."""
    unet_depth: int = 7
    """Halvings in the U-Net."""
    conv_init_std: float = 0.001
    """Standard deviation of the U-Net's convolution weights at the start; AdamW learns faster from 0.02."""
    input_norm: InputNorm = "none"
    """How the network reads the log spectrogram: as it is, as in Sound of Pixels, or less its mean and over its
    deviation, by mixture."""
    masks: MaskKind = "binary"
    """Targets, and how masks are used: cut at 0.5, taught by the cross-entropy, or as they are, taught by the absolute
    difference. Binary models are scored with soft masks, too."""
    weighted_loss: bool = True
    """Weigh the loss of a bin by the loudness of the mixture there, clamp(ln(1 + |W_mix|), 1e-3, 10)."""
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)

    def __post_init__(self) -> None:
        require(5 <= self.unet_depth < 32, f"unet_depth must be from 5 to 31, not {self.unet_depth}")
        rows = self.front_end.num_rows
        require(rows % 2**self.unet_depth == 0, f"unet_depth {self.unet_depth} halves {rows} rows unevenly")

    def unet(self, in_channels: int = 1) -> UNet:
        """The U-Net of these settings, freshly initialised."""
        return UNet(self.unet_width, self.unet_depth, self.conv_init_std, in_channels)

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: as `require_test_mixing`, or of one source, or
        without a reference for each."""
        require(
            mixing.fewest_sources >= 2,
            "a mixture of one source has nothing to separate: set --mixing.min-sources 2 or more",
        )
        require(
            mixing.arrangement != "whole",
            "whole clips are one sound, with no reference for each source to learn from: leave --mixing.arrangement at "
            "remixed or released",
        )
        self.require_test_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures whose frames cannot be halved so often."""
        frames, step = 1 + mixing.segment_samples // self.front_end.hop_length, 2**self.unet_depth
        nearest = self.front_end.hop_length * step * max(1, round(frames / step)) - 1
        require(
            frames % step == 0,
            f"--mixing.segment-samples {mixing.segment_samples} gives {frames} frames, which model.unet_depth "
            f"{self.unet_depth} halves unevenly: {nearest} samples are the nearest that fit",
        )


@torch.no_grad()
def magnitudes_of(front_end: FrontEnd, batch: MixtureBatch) -> tuple[Tensor, Tensor]:
    """Log-frequency magnitudes of a batch's mixtures [B, 1, R, M] and of their sources [B, N, R, M]."""
    mixture, references = mix(batch)
    magnitudes = front_end.warp(front_end.stft(torch.cat([mixture[:, None], references], dim=1)).abs())
    return magnitudes[:, :1], magnitudes[:, 1:]


def separation_by_masks(
    config: MaskingConfig,
    front_end: ShortTimeTransform,
    transform: Tensor,
    masks: Tensor,
    class_ids: Tensor,
    intermediates: Mapping[str, Tensor],
    seen: Tensor | None = None,
    unseen: Tensor | None = None,
    *,
    in_order: bool = False,
) -> Separation:
    """The answer that masks [B, N, R, M] give, with the phase of the mixture's transform [B, F, M]; of binary ones,
    uncut masks as another reading, and where some sources were asked for that are not seen, bool [B, N] each, what the
    others leave of the mixture."""
    estimates = front_end.apply_soft_mask(transform, masks)
    soft = Separation(estimates=estimates, masks=masks, class_ids=class_ids, in_order=in_order)
    if config.masks == "ratio":
        own, readings = soft, {}
    else:
        own, readings = replace(soft, estimates=front_end.apply_binary_mask(transform, masks)), {SOFT_MASKS: soft}
    if seen is not None and unseen is not None:
        readings |= _by_subtraction(own, config.masks, front_end, transform, seen, unseen)
    return replace(own, intermediates=intermediates, alternatives=readings)


def _by_subtraction(
    own: Separation, kind: MaskKind, front_end: ShortTimeTransform, transform: Tensor, seen: Tensor, unseen: Tensor
) -> dict[str, Separation]:
    """Readings of an answer that give the sources that are not seen, bool [B, N], the mixture less those that are
    (AVSA-Sep, Su et al., eq. 3). None where all or none of a batch's are seen.

    All estimates have the mixture's phase, so to subtract them is to subtract masks: from 1, which may leave less than
    nothing, or of magnitudes, of which at least nothing is left.
    """
    if own.masks is None or not bool(seen.any() & unseen.any()):
        return {}
    masks = front_end.unwarp(own.masks.float())
    used = (masks > 0.5).to(masks.dtype) if kind == "binary" else masks
    left = 1 - (used * seen[..., None, None]).sum(dim=1, keepdim=True)
    readings = {}
    for name, shares in ((BY_SUBTRACTION, left), (BY_SUBTRACTED_MAGNITUDES, left.clamp(min=0))):
        rest = front_end.istft(transform[:, None] * shares).clamp(-1.0, 1.0)
        estimates = torch.where(unseen[..., None], rest, own.estimates)
        readings[name] = Separation(estimates=estimates, class_ids=own.class_ids, in_order=own.in_order)
    return readings
