"""MP-Net, recursive separation by pictures of the sources (Xu, Dai and Lin, "Recursive Visual Sound Separation Using
Minus-Plus Net", ICCV 2019).

The minus net, which is Sound of Pixels' network, takes the loudest source out of a mixture, then the loudest out of
what remains, until none is left. What two sources share goes to the one that is taken first; the plus net gives some of
it back to those that come later. It learns in three stages, each a run that starts from the one before: minus, plus
with minus as it is, both.

All masks here are shares of the mixture, and logarithms of them: products of sigmoids, whose losses and gradients are
exact however small they become. What remains is a share, too, so no magnitude ever becomes negative.

Shape letters: B batch, N sources, T samples, F linear bins, R log-frequency rows, M frames, K feature maps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEnd
from cocktail.layers.mask_head import MapHead, MaskHead
from cocktail.layers.masking import magnitudes_of, separation_by_masks
from cocktail.layers.pixel_vectors import PixelEncoder, SeesPixelsConfig, sources_shown
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.layers.stages import LearnsInStages
from cocktail.losses.mask_loss import ideal_masks, loudness_weights, mean_over_sources
from cocktail.numerics.precision import at_least_float32
from cocktail.types import MixtureBatch, Query, Separation

STAGES = ("minus", "plus", "joint")
_MINUS, _PLUS = ("visual_encoder", "unet", "mask_head"), ("plus_unet", "plus_head")
"""Modules of either net; those of the minus net are named and sized as Sound of Pixels', whose weights it may take."""
_LEARNING = {"minus": _MINUS, "plus": _PLUS, "joint": _MINUS + _PLUS}


@dataclass(frozen=True, kw_only=True)
class MPNetConfig(SeesPixelsConfig):
    """The paper's network, with the 32 maps of Sound of Pixels, whose weights then fit; the authors' script has 16."""

    stage: Literal["minus", "plus", "joint"] = "minus"
    """Stage of training: the minus net by itself; the plus net on a minus net that stays as it is; both. Answers in the
    first are the minus net's alone."""
    training_order: Literal["true", "estimated"] = "true"
    """Order in which sources are taken in training: by their true energy, or by the estimated one, as in testing. It is
    the energy of estimates by uncut masks of what remains, which is what is taken: of cut ones, several may have none.
    The authors' code goes by estimates in training, too: by the mean magnitude that cut masks leave of the whole
    mixture."""
    plus_hears: Literal["remainder", "estimate"] = "remainder"
    """What the plus net hears beside all that was taken before: what there was to take from, or what was taken of it,
    as in the authors' code."""

    def build(self, num_classes: int) -> MPNet:
        """The network, freshly initialised from torch's random state; it knows no classes."""
        return MPNet(self)


SMALL_MP_NET = MPNetConfig(
    unet_width=16,
    conv_init_std=0.02,
    input_norm="mixture",
    resnet_width=16,
    visual_stages=3,
    initial_weights="none",
)
"""Four million parameters, for some minutes a stage on two cores."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What a recursion makes of mixtures, in the order of the pictures."""

    log_shares: Tensor
    """Logarithms [B, N, R, M] of the shares of the mixture that are each source's."""
    log_rests: Tensor
    """Logarithms [B, N, R, M] of one less these shares."""
    order: Tensor
    """Sources in the order in which they were taken, int64 [B, N], those that are not there last."""


Choose = Callable[[Tensor, Tensor], Tensor]
"""Picks a source for each mixture, int64 [B], of logarithms of shares [B, N, R, M] and of those not yet taken, bool
[B, N]."""


class MPNet(LearnsInStages):
    """A `cocktail.types.Separator`."""

    def __init__(self, config: MPNetConfig) -> None:
        super().__init__()
        self.config = config
        self.front_end = FrontEnd(config.front_end)
        self.visual_encoder = PixelEncoder(config)
        self.unet = config.unet()
        self.mask_head = MaskHead(self.unet.out_channels, config.num_maps, config.conv_init_std)
        self.plus_unet = config.unet(in_channels=2)
        self.plus_head = MapHead(self.plus_unet.out_channels, 1, config.conv_init_std)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.rest(name for name in _MINUS + _PLUS if name not in _LEARNING[config.stage])

    def take_apart(self, magnitude: Tensor, vectors: Tensor, present: Tensor, order: Tensor | Choose) -> Shares:
        """Take sources with the vectors [B, N, K] that are `present`, bool [B, N], out of log-frequency magnitudes
        [B, 1, R, M]: in an order int64 [B, N] that is known, or as they are picked.

        Gradients do not pass from a step to those before, as in the authors' code.
        """
        log_left = torch.zeros_like(magnitude)
        log_taken = torch.full_like(magnitude, -torch.inf)
        rows, free = torch.arange(len(vectors), device=vectors.device), torch.ones_like(present)
        shares, rests, chosen = [], [], []
        for step in range(vectors.shape[1]):
            # Where nothing is left to take, the mixture stands in: silence would count in BatchNorm's statistics.
            some = (free & present).any(dim=1)[:, None, None, None]
            heard = torch.where(some, log_left.exp(), 1.0) * magnitude
            features = self.unet(self._spectrogram(heard))
            if isinstance(order, Tensor):
                pick = order[:, step]
                logits = at_least_float32(self.mask_head(features, vectors[rows, pick][:, None]))
            else:
                each = at_least_float32(self.mask_head(features, vectors))
                pick = order(log_left + F.logsigmoid(each), free)
                logits = each[rows, pick][:, None]
            free = free.scatter(1, pick[:, None], False)
            share, left = log_left + F.logsigmoid(logits), log_left + F.logsigmoid(-logits)
            before, taken_before = share.detach(), log_taken
            log_taken, log_left = torch.logaddexp(log_taken, before), left.detach()
            rest = torch.logaddexp(taken_before, left)
            if self.config.stage != "minus" and step:
                beside = heard if self.config.plus_hears == "remainder" else before.exp() * magnitude
                given = self._plus(beside, taken_before.exp() * magnitude)
                share = torch.logaddexp(share, taken_before + F.logsigmoid(given))
                rest = torch.logaddexp(left, taken_before + F.logsigmoid(-given))
            shares.append(share)
            rests.append(rest)
            chosen.append(pick)
        by_step = torch.stack(chosen, dim=1)
        back = by_step.argsort(dim=1)[:, :, None, None].expand(-1, -1, *magnitude.shape[2:])
        return Shares(
            log_shares=torch.cat(shares, dim=1).gather(1, back),
            log_rests=torch.cat(rests, dim=1).gather(1, back),
            order=by_step,
        )

    def _plus(self, beside: Tensor, taken: Tensor) -> Tensor:
        """Logits [B, 1, R, M] of the share of what was `taken` before that is given back, magnitudes [B, 1, R, M]."""
        return self.plus_head(self.plus_unet(self._spectrogram(torch.cat([beside, taken], dim=1))))

    def _spectrogram(self, magnitude: Tensor) -> Tensor:
        spectrogram = log_spectrogram(magnitude, self.config.input_norm)
        return spectrogram.contiguous(memory_format=torch.channels_last)

    def _loudest(self, transform: Tensor, present: Tensor) -> Choose:
        """Picks the source whose uncut estimate out of transforms [B, F, M] has most energy; those not there last."""
        power = transform.abs().square()[:, None]

        @torch.no_grad()
        def choose(log_shares: Tensor, free: Tensor) -> Tensor:
            masks = self.front_end.unwarp(log_shares.exp())
            energies = (masks.square() * power).mean(dim=(2, 3)).masked_fill(~present, -1.0)
            return energies.masked_fill(~free, -torch.inf).argmax(dim=1)

        return choose

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss of all sources' masks, as shares of the mixture: the mean over bins, then over sources.

        The authors' code adds what remains after all steps, without a gradient, so that nothing is learned from it.
        """
        assert batch.pictures is not None
        config, present = self.config, batch.present
        magnitude, sources = magnitudes_of(self.front_end, batch)
        targets = ideal_masks(sources, magnitude, config.masks)
        mixture, references = mix(batch)
        if config.training_order == "true":
            energies = references.square().mean(dim=2).masked_fill(~present, -1.0)
            order = energies.argsort(dim=1, descending=True, stable=True)
        else:
            order = self._loudest(self.front_end.stft(mixture), present)
        vectors = self.visual_encoder.of_sources(batch.pictures, present)
        shares = self.take_apart(magnitude, vectors, present, order)
        if config.masks == "binary":
            bins = -(targets * shares.log_shares + (1 - targets) * shares.log_rests)
        else:
            bins = (shares.log_shares.exp() - targets).abs()
        weighed = loudness_weights(magnitude) * bins if config.weighted_loss else bins
        loss = mean_over_sources(weighed.mean(dim=(2, 3)), present)
        return {"reconstruction": loss, "total": loss}

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates in the order of the sources' pictures, with the mixture's phase; masks are zeros where there is no
        source. Sources are taken in the order of their estimated energy.

        Raises UsageError if there are not pictures of each source by itself.
        """
        pictures, seen, class_ids = sources_shown(query)
        transform = self.front_end.stft(mixture)
        magnitude = self.front_end.warp(transform.abs())[:, None]
        vectors = self.visual_encoder.of_sources(pictures, seen)
        shares = self.take_apart(magnitude, vectors, seen, self._loudest(transform, seen))
        masks = shares.log_shares.exp().clamp(max=1.0) * seen[..., None, None]
        looked_at = {"source_vectors": vectors, "order": shares.order}
        return separation_by_masks(
            self.config, self.front_end, transform, masks, class_ids, looked_at, seen, query.unseen
        )
