"""Mix-and-Localize, sounds of a mixture found by a random walk (Hu, Chen and Owens, "Mix and Localize: Localizing Sound
Sources in Mixtures", CVPR 2022).

Heads make as many vectors of a mixture's sound as it has sources. From the heads of one window of the mixture one walks
to its pictures, and from these to the heads of another window: the walk is to end at the head where it began.

Its heads have no names, and no label reaches the loss. To ask for a class, it is noted to which head the pictures of
each class walk: the head of a source is the one that pictures of its class went to most. Training notes those that it
met last. Where it validates, notes of the held-out mixtures, by the weights that are validated, take their place, and
so are in the checkpoint of that step, which is the one that is selected; classes without such mixtures keep theirs.

Shape letters: B batch, K pictures of a mixture, V views, N sources, H heads, C classes, T samples, P locations of a
view, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.config.mixing import Mixing
from cocktail.layers.class_maps import ClassMapLocalizer, unnamed
from cocktail.layers.encoders import unit
from cocktail.layers.two_towers import TowersConfig
from cocktail.layers.views import View
from cocktail.losses.permutation import best_order
from cocktail.numerics.class_means import ClassMeans
from cocktail.numerics.precision import at_least_float32
from cocktail.types import MixtureBatch, Query, require

_EPS = 1e-6
"""Least share of the pictures of a class that a head is taken to have."""


@dataclass(frozen=True, kw_only=True)
class MixAndLocalizeConfig(TowersConfig):
    """The paper's network. Training looks at each picture by itself, as the paper's does; `view` is how answers do."""

    width: int = 128
    dilate: bool = True
    num_heads: int = 2
    """Vectors of a mixture's sound, one a source that it is trained on."""
    temperature: float = 0.07
    """Temperature of both steps of the walk."""
    window_seconds: float = 0.96
    """Length of the two windows, the first and the last of a mixture. Answers hear all of it."""
    head_memory: float = 0.99
    """Share of what is noted of a class's heads in training that another picture of the class leaves: notes are of
    about the last 1 / (1 - this) pictures. Notes of held-out mixtures take their place."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_heads >= 2, f"num_heads must be at least 2, not {self.num_heads}: one has nothing to choose")
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")
        require(self.window_seconds >= 0.1, f"window_seconds must be at least 0.1, not {self.window_seconds}")
        require(0 <= self.head_memory < 1, f"head_memory must be in [0, 1), not {self.head_memory}")

    @property
    def window_samples(self) -> int:
        return round(self.window_seconds * self.spectrum.sample_rate_hz)

    def fitted_to(self, mixing: Mixing) -> Self:
        """A head a source."""
        return replace(self, num_heads=max(mixing.num_sources, 2))

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: of another number of sources than heads, with one
        picture for all, or too short for two windows."""
        super().require_mixing(mixing)
        require(
            mixing.num_sources == self.num_heads,
            f"mixtures have {mixing.num_sources} sources and the network {self.num_heads} heads: give each a head with "
            "--model.num-heads, of two sources or more",
        )
        require(
            mixing.clips_per_mixture == mixing.num_sources,
            "a walk needs a picture of each source, and a whole clip has one for all: leave out "
            "--mixing.arrangement whole",
        )
        require(
            mixing.segment_samples >= 2 * self.window_samples,
            f"a mixture of {mixing.segment_samples} samples has no two windows of {self.window_seconds:g} s: lower "
            "--model.window-seconds",
        )

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, of another rate, or of more sources than heads."""
        super().require_test_mixing(mixing)
        require(
            mixing.num_sources <= self.num_heads,
            f"mixtures have {mixing.num_sources} sources, and the network {self.num_heads} heads: raise "
            "--model.num-heads",
        )

    def build(self, num_classes: int) -> MixAndLocalize:
        """The network, freshly initialised from torch's random state; of the classes it only takes notes."""
        return MixAndLocalize(self, num_classes)


SMALL_MIX_AND_LOCALIZE = MixAndLocalizeConfig(
    width=64, resnet_width=16, visual_stages=2, dilate=False, initial_weights="none"
)
"""Under a million parameters, for some minutes on two cores; the encoders of SMALL_AVGN."""


class MixAndLocalize(ClassMapLocalizer):
    """A `cocktail.types.Localizer` that is `Noting`."""

    def __init__(self, config: MixAndLocalizeConfig, num_classes: int) -> None:
        super().__init__(config, unit_length=False)
        self.config = config
        D, H = config.width, config.num_heads
        self.heads = nn.ModuleList(nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, D)) for _ in range(H))
        self.heads_of_classes = ClassMeans(num_classes, H, config.head_memory)
        self.complete()

    def sounds(self, mixture: Tensor) -> Tensor:
        """Unit vectors of the heads [B, H, D] of mixtures [B, T]."""
        heard = super().sounds(mixture)[:, 0]
        return unit(torch.stack([head(heard) for head in self.heads], dim=1))

    def locations(self, pictures: Tensor, view: View) -> Tensor:
        """Unit vectors [B, V, P, D] of the views of pictures uint8 [B, K, H, W, 3]."""
        return unit(super().locations(pictures, view))

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: -ln of the probability that a walk from a head of the last window by the pictures ends at the same head
        of the first, the mean over heads and mixtures."""
        to_pictures, to_heads = self._steps(batch)
        stays = torch.logsumexp(to_pictures + to_heads, dim=1)
        loss = -stays.mean()
        if self.training:
            self.heads_of_classes.add(to_heads.exp(), batch.class_ids, batch.present)
        return {"localization": loss, "total": loss}

    def _steps(self, batch: MixtureBatch) -> tuple[Tensor, Tensor]:
        """Logarithms of the probabilities [B, K, H] of both steps of the walk: from each head of the last window to the
        pictures, and from each picture to the heads of the first."""
        assert batch.pictures is not None
        mixture, length = superpose(batch), self.config.window_samples
        locations = self.locations(batch.pictures[:, :, 0], "split")
        first, last = (
            self._likeness(self.sounds(window), locations) for window in (mixture[:, :length], mixture[:, -length:])
        )
        return last.log_softmax(dim=1), first.log_softmax(dim=2)

    @torch.no_grad()
    def notes_of(self, batch: MixtureBatch) -> Tensor:
        """For each class the sum of the probabilities by which its pictures walk to each head, and their number
        [C, H + 1]."""
        to_heads = at_least_float32(self._steps(batch)[1].exp())
        noted = torch.cat([to_heads, torch.ones_like(to_heads[..., :1])], dim=2).flatten(0, 1)
        counted = (batch.present & (batch.class_ids >= 0)).flatten()
        notes = noted.new_zeros(len(self.heads_of_classes.get_buffer("weights")), noted.shape[1])
        return notes.index_add(0, batch.class_ids.flatten()[counted], noted[counted])

    @torch.no_grad()
    def keep_notes(self, notes: Tensor) -> None:
        """Match heads to classes by notes [C, H + 1] of held-out mixtures; classes without any keep theirs."""
        self.heads_of_classes.replace(notes[:, :-1], notes[:, -1])

    def _likeness(self, heads: Tensor, locations: Tensor) -> Tensor:
        """Best cosine over the temperature [B, K, H] of heads [B, H, D] with the locations of pictures [B, K, P, D]."""
        with torch.autocast(heads.device.type, enabled=False):
            return torch.einsum("bkpd,bhd->bkph", locations, heads).amax(dim=2) / self.config.temperature

    def asked_classes(self, query: Query) -> Tensor:
        """The named classes, or NO_CLASS for each source. Raises UsageError for more sources than heads."""
        require(
            query.room <= self.config.num_heads,
            f"there are {query.room} sources, and the network has {self.config.num_heads} heads: ask for fewer",
        )
        return unnamed(query) if query.class_ids is None else query.class_ids

    def of_classes_heard(self, sounds: Tensor, class_ids: Tensor) -> Tensor:
        """The head [B, N, D] of each of the named classes [B, N], by their notes; any other head for NO_CLASS."""
        H, N = sounds.shape[1], class_ids.shape[1]
        shares = self.heads_of_classes.means().clamp(min=_EPS).log()  # [C, H]
        known = shares[class_ids.clamp(min=0)] * (class_ids >= 0)[..., None]
        # Places behind the last source take what is left.
        gains = F.pad(known, (0, 0, 0, H - N)).transpose(1, 2)  # [B, H, H]
        heads = best_order(-gains)[:, :N]
        return torch.take_along_dim(sounds, heads[..., None], dim=1)

    def likelihood(self, heard: Tensor, locations: Tensor, class_ids: Tensor) -> Tensor:
        """Cosines of a class's head with locations."""
        return torch.einsum("bnd,bnpd->bnp", heard, locations)
