"""DSOL, discriminative sounding objects localization (Hu, Qian, Jiang, Tan, Wen, Ding, Lin and Dou, NeurIPS 2020).

It learns in two stages, each a run that starts from the one before. Single: from sources by themselves, where a sound
comes from, which class it is, and a dictionary of what objects of each class look like. Mixtures: a location that looks
like a class and sounds speaks for the class being heard; the classes that are found so have to be those that the first
stage's ear makes out.

Shape letters: B batch, K pictures of a mixture, V views, N sources, C classes, T samples, P locations of a view,
D width; M pictures, R sounds of all workers, Z parts of a picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import amplified, superpose
from cocktail.config.mixing import Mixing
from cocktail.layers.class_maps import ClassMapLocalizer
from cocktail.layers.encoders import unit
from cocktail.layers.stages import LearnsInStages
from cocktail.layers.two_towers import TowersConfig
from cocktail.losses.correspondence import Pairs, correspondence_loss
from cocktail.numerics.class_means import ClassMeans
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, Localization, MixtureBatch, require

STAGES = ("single", "mixtures")
WHATEVER_SOUNDS = "whatever sounds"
"""The name of the reading by the audio-visual map alone, which knows no classes."""


@dataclass(frozen=True, kw_only=True)
class DSOLConfig(TowersConfig):
    """The paper's network, with the true classes where it clusters."""

    dilate: bool = True
    stage: Literal["single", "mixtures"] = "single"
    """Stage of training: on the sources of mixtures by themselves, each with its picture; or on mixtures, with the ear
    and the dictionary of the first."""
    initial_scale: float = 5.0
    """Scale of the cosines of the audio-visual map at the start, as published; it learns, and stays positive."""
    initial_class_scale: float = 50.0
    """Scale of the cosines of class maps at the start; it learns in the second stage, and stays positive. Of an object
    on a tenth of a picture 50 leaves five in the mean that says how much is found of a class; the published network's
    vectors are of no fixed length."""
    mask_threshold: float = 0.05
    """Audio-visual likelihood above which a location is part of the object that sounds."""
    dictionary_memory: float = 0.99
    """Share of a class's entry in the dictionary that another object of the class leaves: entries are means over about
    the last 1 / (1 - this) objects."""
    suppression: bool = True
    """Multiply class maps by the audio-visual map, so that what is silent is no class's."""
    correspondence_weight: float = 0.5
    """Weight of the correspondence in the second stage."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("initial_scale", "initial_class_scale"):
            require(getattr(self, name) > 0, f"{name} must be positive, not {getattr(self, name)}")
        require(0 <= self.mask_threshold < 1, f"mask_threshold must be in [0, 1), not {self.mask_threshold}")
        require(0 <= self.dictionary_memory < 1, f"dictionary_memory must be in [0, 1), not {self.dictionary_memory}")
        weight = self.correspondence_weight
        require(weight >= 0, f"correspondence_weight must not be negative, not {weight}")

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: in the first stage, whose sources do not come by
        themselves."""
        super().require_mixing(mixing)
        require(
            self.stage != "single" or mixing.clips_per_mixture == mixing.num_sources,
            "stage single learns from sources by themselves, and a whole clip has several: leave out "
            "--mixing.arrangement whole; stage mixtures can learn from it",
        )

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, of another rate, or of sources that no class names."""
        super().require_test_mixing(mixing)
        mixing.require_one_class("DSOL")

    def build(self, num_classes: int) -> DSOL:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return DSOL(self, num_classes)


SMALL_DSOL = DSOLConfig(
    width=64, resnet_width=16, visual_stages=2, dilate=False, initial_weights="none", mask_threshold=0.5
)
"""Under a million parameters, for some minutes a stage on two cores; the encoders of SMALL_AVGN. In 300 steps hardly
any likelihood falls below 0.05, and objects would be whole pictures."""


class DSOL(ClassMapLocalizer, LearnsInStages):
    """A `cocktail.types.Localizer`. In the first stage it answers by the dictionary as it is by then."""

    def __init__(self, config: DSOLConfig, num_classes: int) -> None:
        super().__init__(config)
        self.config = config
        self.audio_head = nn.Linear(config.width, num_classes)
        self.visual_head = nn.Linear(config.width, num_classes)
        self.dictionary = ClassMeans(num_classes, config.width, config.dictionary_memory)
        self.log_scale = nn.Parameter(torch.tensor(math.log(config.initial_scale)))
        class_scale = torch.tensor(math.log(config.initial_class_scale))
        self.log_class_scale = nn.Parameter(class_scale, requires_grad=config.stage == "mixtures")
        self.complete()
        self.rest(("audio_encoder", "audio_head", "visual_head") if config.stage == "mixtures" else ())

    def sounding(self, sounds: Tensor, locations: Tensor) -> Tensor:
        """The audio-visual map s in (0, 1), [B, N, P], of sounds [B, N, D] and locations [B, N, P, D]."""
        return (self.log_scale.exp() * torch.einsum("bnd,bnpd->bnp", sounds, locations)).sigmoid()

    @property
    def entries(self) -> Tensor:
        """The dictionary D [C, D], of unit vectors; zeros of a class that there was nothing of."""
        return unit(self.dictionary.means())

    def class_maps(self, likeness: Tensor) -> Tensor:
        """m of the cosines of locations with entries of the dictionary, any shape: what is unlike a class is 0.

        Where m is suppressed it must not be negative, or silence would make it more. The published network's features
        are none below 0, so neither is its m.
        """
        return self.log_class_scale.exp() * (likeness.relu() if self.config.suppression else likeness)

    def of_classes_heard(self, sounds: Tensor, class_ids: Tensor) -> Tensor:
        """The mixture's vector, for all classes the same."""
        return sounds.expand(-1, class_ids.shape[1], -1)

    def likelihood(self, heard: Tensor, locations: Tensor, class_ids: Tensor) -> Tensor:
        """m s: what looks like the class, where it sounds."""
        entries = self.entries[class_ids.clamp(min=0)]
        maps = self.class_maps(torch.einsum("bnd,bnpd->bnp", entries, locations))
        return maps * self.sounding(heard, locations) if self.config.suppression else maps

    def presence(self, sounds: Tensor) -> Tensor:
        """The ear's distribution over classes."""
        return at_least_float32(self.audio_head(sounds[:, 0])).softmax(dim=1)

    def other_readings(self, sounds: Tensor, locations: Tensor, pictures: Tensor) -> dict[str, Localization]:
        """By the audio-visual map alone: one for all that is heard, in each view."""
        V = locations.shape[1]
        likelihood = self.sounding(sounds.expand(-1, V, -1), locations)
        nobody = torch.full((len(sounds), V), NO_CLASS, device=sounds.device)
        return {WHATEVER_SOUNDS: Localization(maps=self.maps(likelihood, pictures), class_ids=nobody)}

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses: of the stage's classes, and correspondence. What is compared is so in float32."""
        assert batch.pictures is not None
        pictures = batch.pictures[:, :, 0]
        if self.config.stage == "single":
            sources = amplified(batch)
            sounds = self.sounds(sources.flatten(0, 1)).squeeze(1).unflatten(0, sources.shape[:2])
            locations = self.locations(pictures, "split")
            with torch.autocast(sounds.device.type, enabled=False):
                return self._single(sounds, locations, batch)
        sounds, locations = self.sounds(superpose(batch)), self.locations(pictures, self.view)
        with torch.autocast(sounds.device.type, enabled=False):
            return self._mixtures(sounds, locations, batch.present[:, : locations.shape[1]], pictures.shape[2])

    def _single(self, sounds: Tensor, locations: Tensor, batch: MixtureBatch) -> dict[str, Tensor]:
        """Of the sources by themselves, sounds [B, N, D] and locations [B, N, P, D]: correspondence, and the classes of
        the sounds and of the objects.

        Differs from the paper, which takes turns, an epoch of one and an epoch of the other, and k-means' clusters for
        classes: both at once, and the true ones.
        """
        losses = {"localization": correspondence_loss(self._by_best_locations, locations, sounds, batch.present)}
        objects = self._objects(sounds, locations)
        ids = batch.class_ids.masked_fill(~batch.present, NO_CLASS).flatten()
        for name, logits in (("class", self.audio_head(sounds)), ("visual_class", self.visual_head(objects))):
            each = at_least_float32(logits).flatten(0, 1)
            summed = F.cross_entropy(each, ids, ignore_index=NO_CLASS, reduction="sum")
            losses[name] = summed / (ids != NO_CLASS).sum().clamp(min=1)
        if self.training:
            self.dictionary.add(objects, batch.class_ids, batch.present)
        return {**losses, "total": torch.stack(list(losses.values())).sum()}

    def _objects(self, sounds: Tensor, locations: Tensor) -> Tensor:
        """The mean [B, N, D] of locations [B, N, P, D] that sound; of the likeliest, where none is likely enough."""
        with torch.no_grad():
            likely = self.sounding(sounds, locations)
            inside = (likely > self.config.mask_threshold) | (likely == likely.amax(dim=2, keepdim=True))
            weights = inside / inside.sum(dim=2, keepdim=True)
        return torch.einsum("bnp,bnpd->bnd", weights.to(locations.dtype), locations)

    def _mixtures(self, sounds: Tensor, seen: Tensor, present: Tensor, height: int) -> dict[str, Tensor]:
        """Of mixtures, sounds [B, 1, D], locations [B, V, P, D] of pictures of a height in pixels, and which views
        there are [B, V]: how far the classes that are found are from those that are heard, and correspondence.

        Differs from the published code, where a copy of the audio network says what is heard, and the network itself
        goes on learning: here it stays as it is. The divergence is the sum over classes, as it is defined; the code's
        is their mean.
        """
        heard = sounds.expand(-1, present.shape[1], -1)
        maps = self.class_maps(seen @ self.entries.T)  # [B, V, P, C]
        if self.config.suppression:
            maps = maps * self.sounding(heard, seen)[..., None]
        found = maps.mean(dim=2).mean(dim=1).log_softmax(dim=1)
        category = F.kl_div(found, self.presence(sounds), reduction="batchmean")
        rows = height // self.visual_encoder.resnet.stride

        def by_quarters(pairs: Pairs, locations: Tensor, sounds: Tensor) -> Tensor:
            return self._of_one_clip(pairs, best_of_quarters(_cosines(locations, sounds).unflatten(2, (rows, -1))))

        correspondence = correspondence_loss(by_quarters, seen, heard, present)
        total = category + self.config.correspondence_weight * correspondence
        return {"category": category, "localization": correspondence, "total": total}

    def _by_best_locations(self, pairs: Pairs, locations: Tensor, sounds: Tensor) -> Tensor:
        return self._of_one_clip(pairs, _cosines(locations, sounds).amax(dim=2)[..., None])

    def _of_one_clip(self, pairs: Pairs, best: Tensor) -> Tensor:
        """Losses [M] of pictures and sounds being of one clip, by the best cosines [M, R, Z] of parts of pictures: the
        best of all decides for the own sound, and each for those of others, so that all parts are pushed down."""
        logits = self.log_scale.exp() * best
        own = F.softplus(-pairs.of_own(logits).amax(dim=1))
        return (own + pairs.mean_over_others(F.softplus(logits).mean(dim=2))) / 2


def _cosines(locations: Tensor, sounds: Tensor) -> Tensor:
    """Of pictures [M, P, D] and sounds [R, D]: [M, R, P]."""
    return torch.einsum("mpd,rd->mrp", locations, sounds)


def best_of_quarters(cells: Tensor) -> Tensor:
    """The largest value of each quarter of each square picture, [..., Z], of pictures side by side [..., H, K H]."""
    H = cells.shape[-2]
    pictures, parts = cells.unflatten(-1, (-1, H)), min(2, H)
    quarters = [
        quarter.amax(dim=(-3, -1))
        for rows in pictures.tensor_split(parts, dim=-3)
        for quarter in rows.tensor_split(parts, dim=-1)
    ]
    return torch.cat(quarters, dim=-1)
