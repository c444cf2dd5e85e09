"""SGN, the semantic grouping network for audio-only separation (Mo and Tian, "Semantic Grouping Network for
Audio Source Separation").

A spectrogram's patches and one learnable token a class pass a transformer; each class token gathers the
patches that belong to it (`cocktail.layers.grouping`); the vectors of the classes in the mixture pick
their masks out of a U-Net's feature maps.

Shape letters: B batch, N sources, C classes, T samples, F linear bins, R log-frequency rows, M frames,
P patches, D width (also the number of feature maps).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.masks import ideal_binary_mask
from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.config import Mixing
from cocktail.layers.grouping import CategoryGrouping
from cocktail.layers.mask_head import MaskHead
from cocktail.layers.transformer import TransformerBlock, initialize
from cocktail.layers.unet import UNet
from cocktail.types import MixtureBatch, Separation, UsageError


@dataclass(frozen=True, kw_only=True)
class SGNConfig:
    """The paper's network; where the paper is silent, Sound of Pixels' recipe, on which its numbers rest."""

    width: int = 256
    """Width of patches, class tokens and source vectors, and the number of U-Net feature maps."""
    depth: int = 6
    """Transformer blocks."""
    num_heads: int = 8
    """Attention heads a block."""
    mlp_ratio: float = 4.0
    """Hidden width of a block's MLP over its width."""
    stochastic_depth: float = 0.1
    """Probability of dropping a residual branch in training, the same in every block."""
    patch_size: int = 16
    """Side of a square patch, in rows and frames."""
    grouping_eps: float = 1e-6
    """Added to the sum of an assignment's column in eq. 6."""
    unet_width: int = 64
    """Channels of the U-Net's first level; the deepest has eight times as many."""
    unet_depth: int = 7
    """Halvings in the U-Net."""
    conv_init_std: float = 0.001
    """Standard deviation of the U-Net's convolution weights at the start; AdamW learns faster from 0.02."""
    num_frames: int = 256
    """Frames in time that the position table covers: 1 + segment samples // hop length."""
    weighted_loss: bool = True
    """Weigh the mask loss of a bin by the loudness of the mixture there, clamp(ln(1 + |W_mix|), 1e-3, 10)."""
    token_loss_weight: float = 1.0
    """Weight of the class constraint on the tokens."""
    presence_loss_weight: float = 1.0
    """Weight of the presence loss."""
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)

    def __post_init__(self) -> None:
        rows, side = self.front_end.num_rows, self.patch_size
        if rows % side or self.num_frames % side:
            raise ValueError(f"patch_size {side} must divide the {rows} rows and the {self.num_frames} frames")
        if rows % 2**self.unet_depth or self.num_frames % 2**self.unet_depth:
            raise ValueError(f"unet_depth {self.unet_depth} halves {rows} rows and {self.num_frames} frames unevenly")

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError if mixtures have another number of frames, one source, or sources that no class names."""
        if mixing.fewest_sources < 2:
            raise UsageError(
                "a mixture of one source has nothing to separate: SGN takes --mixing.min-sources 2 or more"
            )
        if not mixing.distinct_classes:
            raise UsageError("SGN names sources by their class: leave out --mixing.no-distinct-classes")
        segment_samples = mixing.segment_samples
        frames = 1 + segment_samples // self.front_end.hop_length
        if frames != self.num_frames:
            raise UsageError(
                f"mixing.segment_samples {segment_samples} gives {frames} frames, but model.num_frames is "
                f"{self.num_frames}: set one to fit the other"
            )

    def build(self, num_classes: int) -> SGN:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return SGN(self, num_classes)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What one pass through the network gives; named, so that it can be looked at without hooks."""

    logits: Tensor
    """Mask logits [B, N, R, M]."""
    presence_logits: Tensor
    """[B, C]: is the class in the mixture?"""
    assignment: Tensor
    """[B, P, C]: each patch's division among the classes."""
    source_vectors: Tensor
    """g of the selected classes [B, N, D]."""


class SGN(nn.Module):
    """A `cocktail.types.Separator`."""

    def __init__(self, config: SGNConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        D = config.width
        num_patches = (config.front_end.num_rows // config.patch_size) * (config.num_frames // config.patch_size)
        self.front_end = FrontEnd(config.front_end)
        self.patch_embedding = nn.Conv2d(1, D, config.patch_size, stride=config.patch_size)
        # Zero at the start, which equals none; the paper names none, but a patch must know its frequency.
        self.position = nn.Parameter(torch.zeros(num_patches, D))
        self.class_tokens = nn.Parameter(torch.empty(num_classes, D))
        self.blocks = nn.ModuleList(
            TransformerBlock(D, config.num_heads, config.mlp_ratio, config.stochastic_depth)
            for _ in range(config.depth)
        )
        self.grouping = CategoryGrouping(D, config.grouping_eps)
        self.token_classifier = nn.Linear(D, num_classes)
        self.presence_head = nn.Linear(D, 1)
        self.unet = UNet(config.unet_width, config.unet_depth, config.conv_init_std)
        self.mask_head = MaskHead(self.unet.out_channels, D, config.conv_init_std)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        nn.init.trunc_normal_(self.class_tokens, std=0.02)
        self.token_classifier.apply(initialize)
        self.presence_head.apply(initialize)

    def predict(self, magnitude: Tensor, class_ids: Tensor) -> Prediction:
        """Masks of the named classes [B, N] from the mixture's log-frequency magnitudes [B, 1, R, M].

        An absent source, of NO_CLASS, gets some mask, which means nothing.
        """
        spectrogram = torch.log(magnitude + 1e-10)
        patches = self.patch_embedding(spectrogram).flatten(2).transpose(1, 2) + self.position
        tokens = self.class_tokens.expand(len(patches), -1, -1)
        x = torch.cat([patches, tokens.to(patches.dtype)], dim=1)
        for block in self.blocks:
            x = block(x)
        P = patches.shape[1]
        class_vectors, assignment = self.grouping(x[:, :P], x[:, P:])
        rows = torch.arange(len(class_ids), device=class_ids.device)[:, None]
        source_vectors = class_vectors[rows, class_ids.clamp(min=0)]
        features = self.unet(spectrogram.contiguous(memory_format=torch.channels_last))
        return Prediction(
            logits=self.mask_head(features, source_vectors),
            presence_logits=self.presence_head(class_vectors).squeeze(-1),
            assignment=assignment,
            source_vectors=source_vectors,
        )

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses (SGN eq. 7-9): reconstruction (mean over bins, sum over sources), tokens and presence (means).

        Mixtures may have different numbers of sources.

        Differs from the paper: eq. 7 sums over the C classes, these are means, because the sum over
        hundreds of classes would drown the reconstruction.
        """
        with torch.no_grad():
            mixture, references = mix(batch)
            magnitudes = self.front_end.stft(torch.cat([mixture[:, None], references], dim=1)).abs()
            magnitudes = self.front_end.warp(magnitudes)
            magnitude, sources = magnitudes[:, :1], magnitudes[:, 1:]
            targets = ideal_binary_mask(sources, magnitude)
            weights = torch.log1p(magnitude).clamp(1e-3, 10.0) if self.config.weighted_loss else None
            present = torch.zeros(len(batch), len(self.class_tokens), device=mixture.device)
            present.scatter_add_(1, batch.class_ids.clamp(min=0), batch.present.float())
        prediction = self.predict(magnitude, batch.class_ids)
        bins = F.binary_cross_entropy_with_logits(prediction.logits.float(), targets, weight=weights, reduction="none")
        token_ids = torch.arange(len(self.class_tokens), device=mixture.device)
        losses = {
            "reconstruction": (bins.mean(dim=(2, 3)) * batch.present).sum(dim=1).mean(),
            "token": F.cross_entropy(self.token_classifier(self.class_tokens).float(), token_ids),
            "presence": F.binary_cross_entropy_with_logits(prediction.presence_logits.float(), present),
        }
        losses["total"] = (
            losses["reconstruction"]
            + self.config.token_loss_weight * losses["token"]
            + self.config.presence_loss_weight * losses["presence"]
        )
        return losses

    @torch.no_grad()
    def separate(self, mixture: Tensor, class_ids: Tensor) -> Separation:
        """Estimates of the named classes [B, N] by thresholded masks, with the mixture's phase."""
        transform = self.front_end.stft(mixture)
        prediction = self.predict(self.front_end.warp(transform.abs())[:, None], class_ids)
        masks = prediction.logits.float().sigmoid()
        return Separation(
            estimates=self.front_end.apply_binary_mask(transform, masks),
            masks=masks,
            intermediates={
                "assignment": prediction.assignment,
                "presence": prediction.presence_logits.float().sigmoid(),
                "source_vectors": prediction.source_vectors,
            },
        )

    @torch.no_grad()
    def oracle(self, mixture: Tensor, references: Tensor) -> Separation:
        """Separation by the ideal binary masks of the log-frequency grid."""
        transform = self.front_end.stft(mixture)
        magnitude = self.front_end.warp(transform.abs())[:, None]
        masks = ideal_binary_mask(self.front_end.warp(self.front_end.stft(references).abs()), magnitude)
        return Separation(estimates=self.front_end.apply_binary_mask(transform, masks), masks=masks)
