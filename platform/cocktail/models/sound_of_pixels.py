"""Sound of Pixels, separation by pictures of the sources (Zhao et al., "The Sound of Pixels", ECCV 2018).

A U-Net hears K maps in a mixture's log spectrogram; what is seen of a source weighs them, and their sum is its mask.
Each place of a picture picks a mask, too: the energy of what it lets through says where the sound comes from.

Shape letters: B batch, N sources, T samples, F linear bins, R log-frequency rows, M frames, K feature maps (and
pictures of a mixture), V views (one wide picture, or each picture by itself), P places of a view, H and W height and
width of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cocktail.audio.stft import FrontEnd
from cocktail.layers.mask_head import MaskHead
from cocktail.layers.masking import magnitudes_of, separation_by_masks
from cocktail.layers.pixel_vectors import PixelEncoder, SeesPixelsConfig, sources_shown
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.layers.views import View, to_pictures, view_names, views_of
from cocktail.losses.mask_loss import ideal_masks, loudness_weights, mask_loss_of, mean_over_sources
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, Localization, MixtureBatch, Query, Separation

PLACES_AT_ONCE = 8
"""Places whose masks are in memory together: at 256 x 256 half a megabyte of linear bins each."""


@dataclass(frozen=True, kw_only=True)
class SoundOfPixelsConfig(SeesPixelsConfig):
    """The paper's network."""

    def build(self, num_classes: int) -> SoundOfPixels:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return SoundOfPixels(self)


SMALL_SOUND_OF_PIXELS = SoundOfPixelsConfig(
    unet_width=16,
    conv_init_std=0.02,
    input_norm="mixture",
    resnet_width=16,
    visual_stages=3,
    initial_weights="none",
)
"""Two million parameters, for some minutes on two cores."""


class SoundOfPixels(nn.Module):
    """A `cocktail.types.Separator` and a `Localizer`."""

    def __init__(self, config: SoundOfPixelsConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front_end)
        self.visual_encoder = PixelEncoder(config)
        self.unet = config.unet()
        self.mask_head = MaskHead(self.unet.out_channels, config.num_maps, config.conv_init_std)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def features(self, magnitude: Tensor) -> Tensor:
        """Features of the U-Net, before the maps, of log-frequency magnitudes [B, 1, R, M]."""
        spectrogram = log_spectrogram(magnitude, self.config.input_norm)
        return self.unet(spectrogram.contiguous(memory_format=torch.channels_last))

    def mask_logits(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Logits [B, N, R, M] of the masks that vectors [B, N, K] pick."""
        return at_least_float32(self.mask_head(features, vectors))

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss of the masks, the mean over bins, then over sources.

        Differs from the paper: ratio masks are learned up to 1, which is as far as a sigmoid goes, and not up to 5.
        """
        assert batch.pictures is not None
        magnitude, sources = magnitudes_of(self.front_end, batch)
        targets = ideal_masks(sources, magnitude, self.config.masks)
        vectors = self.visual_encoder.of_sources(batch.pictures, batch.present)
        logits = self.mask_logits(self.features(magnitude), vectors)
        weights = loudness_weights(magnitude) if self.config.weighted_loss else None
        loss = mean_over_sources(mask_loss_of(self.config.masks)(logits, targets, weights), batch.present)
        return {"reconstruction": loss, "total": loss}

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates in the order of the sources' pictures, with the mixture's phase; masks are zeros where there is no
        source.

        Raises UsageError if there are not pictures of each source by itself.
        """
        pictures, seen, class_ids = sources_shown(query)
        transform = self.front_end.stft(mixture)
        features = self.features(self.front_end.warp(transform.abs())[:, None])
        vectors = self.visual_encoder.of_sources(pictures, seen)
        masks = self.mask_logits(features, vectors).sigmoid() * seen[..., None, None]
        looked_at = {"source_vectors": vectors}
        return separation_by_masks(
            self.config, self.front_end, transform, masks, class_ids, looked_at, seen, query.unseen
        )

    @torch.no_grad()
    def localize(self, mixture: Tensor, query: Query) -> Localization:
        """Maps of the energy that each place's mask lets through, of all pictures as one, by which one map serves for
        all that is heard; of each source's picture by itself as another reading.

        `mixture` [B, T] is a sum of sources, as localizers have it; the network knows means.
        """
        pictures = query.shown[:, :, 0]
        transform = self.front_end.stft(mixture / query.num_sources[:, None])
        features = self.features(self.front_end.warp(transform.abs())[:, None])

        def reading(view: View) -> Localization:
            views = views_of(pictures, view)
            vectors = self.visual_encoder.of_places(views.flatten(0, 1)).unflatten(0, views.shape[:2])
            energies = self.energies(transform, features, vectors.flatten(1, 2)).unflatten(1, vectors.shape[1:3])
            maps = to_pictures(energies, pictures.shape[2], self.visual_encoder.resnet.stride)
            return Localization(maps=maps, class_ids=torch.full(maps.shape[:2], NO_CLASS, device=maps.device))

        view, *others = view_names(pictures, "wide")
        return replace(reading(view), alternatives={other: reading(other) for other in others})

    @torch.no_grad()
    def sounds_of_places(self, mixture: Tensor, pictures: Tensor) -> Tensor:
        """The sound of each place [B, h, w, T'] of pictures uint8 [B, H, W, 3], with the phase of mixtures [B, T], as
        sources' estimates are made: 14 x 14 sounds of a picture of 224 pixels by the paper's network (section 3.1)."""
        transform = self.front_end.stft(mixture)
        features = self.features(self.front_end.warp(transform.abs())[:, None])
        vectors = self.visual_encoder.of_places(pictures)
        apply = self.front_end.apply_binary_mask if self.config.masks == "binary" else self.front_end.apply_soft_mask
        maps = self.mask_head.maps(features)
        sounds = [
            apply(transform, self.mask_head.of_maps(maps, some).sigmoid())
            for some in vectors.split(PLACES_AT_ONCE, dim=1)
        ]
        return torch.cat(sounds, dim=1).unflatten(1, (pictures.shape[1] // self.visual_encoder.resnet.stride, -1))

    def energies(self, transform: Tensor, features: Tensor, vectors: Tensor) -> Tensor:
        """Mean energy [B, P] over bins of what is left of the mixtures' transforms [B, F, M] by the masks, as they are
        used, that vectors [B, P, K] pick."""
        power = transform.abs().square().flatten(1)
        energies = power.new_empty(vectors.shape[:2])
        for b, maps in enumerate(self.mask_head.maps(features).split(1)):
            for first in range(0, vectors.shape[1], PLACES_AT_ONCE):
                some = slice(first, first + PLACES_AT_ONCE)
                masks = self.front_end.unwarp(self.mask_head.of_maps(maps, vectors[b : b + 1, some]).sigmoid())[0]
                kept = (masks > 0.5).to(power.dtype) if self.config.masks == "binary" else masks.square()
                energies[b, some] = kept.flatten(1) @ power[b] / power.shape[1]
        return energies
