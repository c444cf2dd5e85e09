"""AVSA-Sep, separation of what is seen and of what is only heard (Su, Vosoughi, Deng, Tian and Xu, "Separating
Invisible Sounds Toward Universal Audiovisual Scene-Aware Sound Separation", 2023).

Sound of Pixels' U-Net hears a mixture; a vector picks each source's mask out of its maps, by one synthesizer whatever
the vector is made of: of pictures of the source, or, where there are none, of its class. A parser says which classes
are heard and not seen. It shares no parameter with the separator, and learns beside it what it would learn alone.

Differs from the paper: its loss is a sum over a batch, ours a mean over sources and mixtures, as Sound of Pixels' is.

Shape letters: B batch, N sources, E estimates, P pictures of a source, C classes, T samples, F linear bins, R
log-frequency rows, M frames, K feature maps, H and W height and width of a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEnd
from cocktail.config.mixing import Mixing
from cocktail.config.model import ParameterGroup, Start, all_parameters
from cocktail.layers.classes import PREDICTED_CLASSES, PREDICTED_NUMBER, ROOM_FOR_SOURCES
from cocktail.layers.mask_head import MaskHead
from cocktail.layers.masking import MaskingConfig, magnitudes_of, separation_by_masks
from cocktail.layers.pixel_vectors import PixelEncoder, SeesPixelsConfig, sources_shown
from cocktail.layers.scene_parser import Scene, SceneParser, drawn_among, stand_in_pictures
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.losses.class_constraint import presence_loss
from cocktail.losses.mask_loss import ideal_masks, loudness_weights, mask_loss_of, mean_over_sources
from cocktail.losses.triplet import Distance, TripletReduction, triplet_mask_loss
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require

BY_LABELS = "all by labels"
"""The name of the alternative that takes the true classes of all sources, seen or not."""


@dataclass(frozen=True, kw_only=True)
class AVSASepConfig(SeesPixelsConfig):
    """The paper's network."""

    learns_unseen: ClassVar[bool] = True
    needs_known_classes: ClassVar[bool] = True

    branches: Literal["both", "labels"] = "both"
    """What picks masks: pictures of a source or its label, in turn; or labels alone (SG-Sep, Table 3). Sound of Pixels
    is pictures alone."""
    picture_weight: float = 1.5
    """Weight of the loss of masks by pictures, lambda of eq. 2; masks by labels weigh 2 less it. Of labels alone it
    does nothing, and they weigh 1, as Sound of Pixels' masks do."""
    triplet_weight: float = 0.1
    """Weight eta of the triplet loss, which the paper does not give. Of labels alone there are no triplets."""
    triplet_margin: float = 0.1
    """How much nearer to a source's true mask the one branch's mask of it has to be than the other branch's masks of
    other sources; a tenth of the largest distance."""
    triplet_distance: Distance = "rms"
    """Distance of masks: root of the mean of squared differences, which is from 0 to 1, or of their sum, which is some
    dozens for 256 x 256 bins, and beside which a margin of 1 means nothing. The paper names none."""
    triplet_reduction: TripletReduction = "mean"
    """Mean or sum over the other sources of a mixture, or the nearest alone. The paper does not say; the mean weighs
    alike in mixtures of two and three."""
    parser: bool = True
    """Learn the semantic parser, too."""
    parser_threshold: float = 0.5
    """Probability above which the parser takes a class for visible, or audible; the paper gives none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.picture_weight <= 2, f"picture_weight must be from 0 to 2, not {self.picture_weight}")
        for name in ("triplet_weight", "triplet_margin"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, not {getattr(self, name)}")
        require(0 < self.parser_threshold < 1, f"parser_threshold must be between 0 and 1, not {self.parser_threshold}")
        channels = self.resnet_width * 2 ** (self.visual_stages - 1)
        require(
            not self.parser or channels % 8 == 0,
            f"the parser's encoders have eighths of the ResNet's {channels} channels: set resnet_width and "
            "visual_stages so that these are a multiple of 8",
        )

    @property
    def looks(self) -> bool:
        """Whether pictures pick masks: not of labels alone, whose parser may do without."""
        return self.branches == "both"

    def build(self, num_classes: int) -> AVSASep:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return AVSASep(self, num_classes)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures of sources that no class names, or, where something sees, without pictures."""
        if self.branches == "both" or self.parser:
            super().require_test_mixing(mixing)
        else:
            MaskingConfig.require_test_mixing(self, mixing)
        mixing.require_one_class("AVSA-Sep")

    def start(self) -> Start | None:
        """ImageNet's weights, of the ResNet-18s that there are."""
        modules = ("visual_encoder.resnet",) if self.branches == "both" else ()
        modules += ("parser.resnet",) if self.parser else ()
        return Start(setting="initial_weights", chosen=self.initial_weights, modules=modules) if modules else None

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        """The ResNet-18s, which may learn more slowly, and all else; whose they are makes no difference."""
        start = self.start()
        if start is None:
            return all_parameters(model)
        seeing = tuple(p for name in start.modules for p in model.get_submodule(name).parameters())
        known = {id(parameter) for parameter in seeing}
        others = tuple(parameter for parameter in model.parameters() if id(parameter) not in known)
        return ParameterGroup(parameters=seeing, rate_factor=start.rate_factor), ParameterGroup(parameters=others)


SMALL_AVSA_SEP = AVSASepConfig(
    unet_width=16,
    conv_init_std=0.02,
    input_norm="mixture",
    resnet_width=16,
    visual_stages=3,
    initial_weights="none",
)
"""Two and a half million parameters, for some minutes on two cores."""


class AVSASep(nn.Module):
    """A `cocktail.types.Separator`, and a `Classifier` by its parser."""

    def __init__(self, config: AVSASepConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.front_end = FrontEnd(config.front_end)
        self.visual_encoder = PixelEncoder(config) if config.branches == "both" else None
        self.label_alignment = nn.Linear(num_classes, config.num_maps)
        self.unet = config.unet()
        self.mask_head = MaskHead(self.unet.out_channels, config.num_maps, config.conv_init_std)
        # Last, so that the separator starts from the same numbers without it.
        self.parser = SceneParser(num_classes, config.resnet_width, config.visual_stages) if config.parser else None
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def spectrogram(self, magnitude: Tensor) -> Tensor:
        """What the networks hear [B, 1, R, M] of log-frequency magnitudes."""
        return log_spectrogram(magnitude, self.config.input_norm).contiguous(memory_format=torch.channels_last)

    def spectrogram_of(self, mixture: Tensor) -> Tensor:
        """The same of mixtures [B, T]."""
        return self.spectrogram(self.front_end.warp(self.front_end.stft(mixture).abs())[:, None])

    def label_vectors(self, class_ids: Tensor) -> Tensor:
        """Vectors f_s in (0, 1) [B, N, K] of classes [B, N]; those of NO_CLASS mean nothing."""
        one_hot = F.one_hot(class_ids.clamp(min=0), self.num_classes).to(self.label_alignment.weight.dtype)
        return at_least_float32(self.label_alignment(one_hot)).sigmoid()

    def mask_logits(self, features: Tensor, vectors: Tensor) -> Tensor:
        """Logits [B, E, R, M] of the masks that vectors [B, E, K] pick."""
        return at_least_float32(self.mask_head(features, vectors))

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses of masks by either branch (eq. 1 and 2), of triplets, and of the parser's heads.

        Masks by pictures are of the sources that are shown.
        """
        magnitude, sources = magnitudes_of(self.front_end, batch)
        spectrogram = self.spectrogram(magnitude)
        losses, total = self._separation_losses(batch, magnitude, sources, self.unet(spectrogram))
        if self.parser is not None:
            of_parser = self._parser_losses(self.parser, batch, spectrogram)
            losses |= of_parser
            total = total + sum(of_parser.values())
        return {**losses, "total": total}

    def _separation_losses(
        self, batch: MixtureBatch, magnitude: Tensor, sources: Tensor, features: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The separator's losses by name, and what it learns from."""
        config, present = self.config, batch.present
        targets = ideal_masks(sources, magnitude, config.masks)
        weights = loudness_weights(magnitude) if config.weighted_loss else None
        mask_loss, labels = mask_loss_of(config.masks), self.label_vectors(batch.class_ids)
        if self.visual_encoder is None:
            logits = self.mask_logits(features, labels)
            by_labels = mean_over_sources(mask_loss(logits, targets, weights), present)
            return {"by_labels": by_labels}, by_labels
        pictures, shown = stand_in_pictures(batch), batch.shown
        assert pictures is not None and shown is not None
        vectors = self.visual_encoder.of_sources(pictures, torch.ones_like(shown))
        seen, named = self.mask_logits(features, torch.cat([vectors, labels], dim=1)).chunk(2, dim=1)
        by_pictures = mean_over_sources(mask_loss(seen, targets, weights), shown)
        by_labels = mean_over_sources(mask_loss(named, targets, weights), present)
        losses = {"by_pictures": by_pictures, "by_labels": by_labels}
        total = config.picture_weight * by_pictures + (2 - config.picture_weight) * by_labels
        if config.triplet_weight:
            masks = {"pictures": (seen.sigmoid(), shown), "labels": (named.sigmoid(), present)}
            triplets = [
                triplet_mask_loss(
                    targets,
                    masks[own][0],
                    masks[other][0],
                    masks[own][1],
                    masks[other][1],
                    margin=config.triplet_margin,
                    distance=config.triplet_distance,
                    reduction=config.triplet_reduction,
                )
                for own, other in (("pictures", "labels"), ("labels", "pictures"))
            ]
            losses["triplet"] = mean_over_sources(triplets[0] + triplets[1], present)
            total = total + config.triplet_weight * losses["triplet"]
        return losses, total

    def _parser_losses(self, parser: SceneParser, batch: MixtureBatch, spectrogram: Tensor) -> dict[str, Tensor]:
        """Cross-entropies of both heads, of what is heard and of what is seen where pictures show some of the sources,
        as many as are drawn of those that are shown."""
        assert batch.shown is not None
        shown = drawn_among(batch.shown)
        scene = parser(spectrogram, stand_in_pictures(batch), shown)
        return {
            "parser_visible": presence_loss(scene.visible, parser.classes_of(batch, shown)),
            "parser_audible": presence_loss(scene.audible, parser.classes_of(batch, batch.present)),
        }

    @torch.no_grad()
    def parse(self, mixture: Tensor, query: Query) -> Scene:
        """What the parser finds in mixtures [B, T] and in the pictures of a question, if it has any.

        Raises UsageError if the model was trained without one.
        """
        return self._scene(self.spectrogram_of(mixture), query)

    def _scene(self, spectrogram: Tensor, query: Query) -> Scene:
        require(
            self.parser is not None,
            "this model was trained without a parser, and does not say what is heard: name the classes, or train it "
            "with model.parser",
        )
        assert self.parser is not None
        return self.parser(spectrogram, query.pictures, query.asked & ~query.unseen)

    @torch.no_grad()
    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] for the parser's sets, if there is a parser and something to hear."""
        if batch is None or self.parser is None:
            return {}
        magnitude = self.front_end.warp(self.front_end.stft(mix(batch)[0]).abs())[:, None]
        return self.parser.confusion(self.spectrogram(magnitude), batch, self.config.parser_threshold)

    @torch.no_grad()
    def presence(self, mixture: Tensor) -> Tensor | None:
        """Probability [B, C] of each class being heard in mixtures [B, T]; None without a parser."""
        if self.parser is None:
            return None
        return self.parser.audible(self.spectrogram_of(mixture)).sigmoid()

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates in the order of the question, with the mixture's phase: of pictures where a source is seen, else of
        its class. Where no classes are named, the parser names those that are not seen.

        A source that is neither seen nor named has no estimate: its mask is zeros. Raises UsageError if nothing says
        what an unseen source is, or if there are pictures, but not of each source by itself.
        """
        transform = self.front_end.stft(mixture)
        spectrogram = self.spectrogram(self.front_end.warp(transform.abs())[:, None])
        visual, by_sight = self._see(query)
        unseen = query.asked & ~by_sight
        class_ids = query.class_ids
        must_name = class_ids is None and bool(unseen.any())
        scene = self._scene(spectrogram, query) if self.parser is not None or must_name else None
        if class_ids is None:
            class_ids = torch.full(unseen.shape, NO_CLASS, device=unseen.device)
            class_ids = class_ids if scene is None else self._named_unseen(scene, unseen, class_ids)
        reading = _Reader(self, transform, self.unet(spectrogram), visual)
        looked_at = {"source_vectors": reading.vectors(by_sight, class_ids)}
        if scene is not None:
            looked_at |= {"presence": scene.audible.sigmoid(), "visual_presence": scene.visible.sigmoid()}
        masks = reading.masks(by_sight, class_ids)
        subtracted = () if self.visual_encoder is None else (by_sight, unseen)
        own = separation_by_masks(self.config, self.front_end, transform, masks, class_ids, looked_at, *subtracted)
        own = replace(own, presence_threshold=self.config.parser_threshold)
        if not query.alternatives:
            return replace(own, alternatives={})
        readings = dict(own.alternatives)
        if query.class_ids is not None and bool(by_sight.any()):
            readings[BY_LABELS] = reading(torch.zeros_like(by_sight), class_ids)
        if query.class_ids is not None and scene is not None and bool(unseen.any()):
            as_many = by_sight, self._named_unseen(scene, unseen, class_ids)
            for name, parsed in ((PREDICTED_CLASSES, as_many), (PREDICTED_NUMBER, self._found(scene, *as_many))):
                answer = reading(*parsed)
                readings[name] = replace(answer, class_ids=_told_once(*parsed))
        return replace(own, alternatives=readings)

    def _see(self, query: Query) -> tuple[Tensor | None, Tensor]:
        """Vectors f_v [B, N, K] of the sources that pictures pick, where there are some, and which, bool [B, N]."""
        nothing = torch.zeros_like(query.asked)
        if self.visual_encoder is None or query.pictures is None:
            return None, nothing
        pictures, seen, _ = sources_shown(query)
        return self.visual_encoder.of_sources(pictures, seen), seen

    def _apart(self, scene: Scene) -> Scene:
        """A scene as it names the sources that labels pick: of labels alone, those that are seen, too."""
        if self.visual_encoder is not None:
            return scene
        return replace(scene, visible=torch.full_like(scene.visible, -torch.inf))

    def _named_unseen(self, scene: Scene, unseen: Tensor, class_ids: Tensor) -> Tensor:
        return self._apart(scene).name_unseen(unseen, class_ids, self.config.parser_threshold)

    def _found(self, scene: Scene, by_sight: Tensor, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Which estimates pictures pick, bool [B, E], and classes [B, E]: of the sources that are seen, then of all
        that the parser hears and does not see."""
        found = self._apart(scene).invisible_ids(self.config.parser_threshold, ROOM_FOR_SOURCES)
        seen = class_ids.where(by_sight, NO_CLASS)
        return torch.cat([by_sight, torch.zeros_like(found, dtype=torch.bool)], 1), torch.cat([seen, found], 1)


def _told_once(by_sight: Tensor, class_ids: Tensor) -> Tensor:
    """class_ids [B, E] but those that a label shares with a source that is seen, bool [B, E]: it is no second one."""
    of_seen = class_ids.where(by_sight, NO_CLASS)
    again = ((class_ids[:, :, None] == of_seen[:, None]) & (class_ids >= 0)[:, :, None]).any(dim=2) & ~by_sight
    return class_ids.where(~again, NO_CLASS)


@dataclass(frozen=True)
class _Reader:
    """A mixture's features, read by vectors of either kind."""

    model: AVSASep
    transform: Tensor
    features: Tensor
    visual: Tensor | None
    """Vectors f_v [B, N, K]."""

    def vectors(self, by_sight: Tensor, class_ids: Tensor) -> Tensor:
        """Vectors [B, E, K]: of pictures where `by_sight`, bool [B, E], says so, of which the first N have some; else
        of classes [B, E]."""
        labels = self.model.label_vectors(class_ids)
        if self.visual is None:
            return labels
        visual = F.pad(self.visual, (0, 0, 0, labels.shape[1] - self.visual.shape[1]))
        return torch.where(by_sight[..., None], visual, labels)

    def masks(self, by_sight: Tensor, class_ids: Tensor) -> Tensor:
        """Masks [B, E, R, M], zeros where there is neither."""
        masks = self.model.mask_logits(self.features, self.vectors(by_sight, class_ids)).sigmoid()
        return masks * (by_sight | (class_ids >= 0))[..., None, None]

    def __call__(self, by_sight: Tensor, class_ids: Tensor) -> Separation:
        """The answer that these give."""
        front_end, masks = self.model.front_end, self.masks(by_sight, class_ids)
        binary = self.model.config.masks == "binary"
        apply = front_end.apply_binary_mask if binary else front_end.apply_soft_mask
        return Separation(estimates=apply(self.transform, masks), masks=masks, class_ids=class_ids)
