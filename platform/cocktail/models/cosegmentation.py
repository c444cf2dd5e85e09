"""Weakly supervised audio-visual co-segmentation: which classes a picture shows, where, and what of a mixture each of
them is (Rahman and Sigal, "Weakly-Supervised Audio-Visual Sound Source Detection and Separation", ICME 2021).

A segmenter learns from labels alone to point at each class in a picture. What it points at of a class, beside what a
U-Net hears, makes the coefficients of a mask. All of it learns together: there is no detector.

Shape letters: B batch, N sources, K pictures of a mixture, P pictures of a source, C classes, T samples, R
log-frequency rows, M frames, Q places of the pictures of a source, D visual features, O objects, S room for objects of
a source, H and W height and width of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from cocktail.config.mixing import Mixing
from cocktail.layers.classes import PREDICTED_CLASSES, classes_among, most_probable
from cocktail.layers.decoupled_attention import Activation, Attention, DecoupledAttention, FeaturePool, ScorePool
from cocktail.layers.mask_bases import MaskBases, MaskBasesConfig, Objects, logit_of_any
from cocktail.layers.masking import magnitudes_of
from cocktail.layers.pixel_vectors import sources_shown
from cocktail.layers.views import to_pictures
from cocktail.losses.class_constraint import presence_losses
from cocktail.losses.mask_loss import ideal_masks, loudness_weights, mask_loss, mean_over_sources
from cocktail.metrics.classification import confusion_counts
from cocktail.types import NO_CLASS, Localization, MixtureBatch, Query, Separation, require

NAMED_CLASSES = "named classes"
"""The name of the reading that is told the classes of the sources."""
SPLIT = "split"
_OF_SEGMENTER = {
    "attention_act": "softplus",
    "attention_dropout": 0.5,
    "score_pool": "mean",
    "feature_pool": "positive",
    "presence_threshold": 0.3,
    "most_classes": 4,
    "class_loss_weight": 1.0,
}
"""Settings that nothing reads without the segmenter, at their defaults."""


@dataclass(frozen=True, kw_only=True)
class CoSegmentationConfig(MaskBasesConfig):
    """The paper's network; where the paper is silent, the recipes that it builds on.

    Pictures keep their brightness and colour, which Co-Separation varies in training.
    """

    needs_known_classes: ClassVar[bool] = False

    segmenter: bool = True
    """Look for objects. Without, the greatest of each visual feature stands for all of a picture, and nothing is
    learned of classes: the paper's row "mask coefficient"."""
    attention_act: Activation = "softplus"
    """F of eq. 1, which the paper leaves open. Where a class finds nothing, relu attends to all places alike, and
    learns nothing; softplus goes on learning."""
    attention_dropout: float = 0.5
    """Share that the dropouts of the expansive attention drop, which the paper leaves open."""
    score_pool: ScorePool = "mean"
    """Class scores as printed, the mean of a map over its places: as its expansive part adds up to 1, they are a
    weighted mean over the number of places, 49, and move slowly from a probability of a half. `sum` does not divide."""
    feature_pool: FeaturePool = "positive"
    """Weights of places in what stands for an object: the positive part of its map, made to add up to 1, so that what
    speaks against the object does not turn its features around; or the map itself, as printed."""
    presence_threshold: float = 0.3
    """tau: probability above which a class is taken to be in a picture, and one at least; the best of the paper's Table
    2."""
    most_classes: int = 4
    """Classes that a picture is taken to show in testing, at most: the paper's videos have two. A model that has
    learned little finds all that there are, and each would have a mask."""
    class_loss_weight: float = 1.0
    """Weight of the loss of classes, which the paper leaves open."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.most_classes >= 1, f"most_classes must be at least 1, not {self.most_classes}")
        require(0 <= self.attention_dropout < 1, f"attention_dropout must be in [0, 1), not {self.attention_dropout}")
        require(0 < self.presence_threshold < 1, f"presence_threshold must be in (0, 1), not {self.presence_threshold}")
        require(self.class_loss_weight >= 0, f"class_loss_weight must not be negative, not {self.class_loss_weight}")
        unread = [
            f"{name} to {default}"
            for name, default in _OF_SEGMENTER.items()
            if getattr(self, name) != default and not self.segmenter
        ]
        require(not unread, f"without the segmenter there are no attention and no classes: set {', '.join(unread)}")

    def build(self, num_classes: int) -> CoSegmentation | MaskCoefficients:
        """The network, freshly initialised from torch's random state; without the segmenter it knows no classes."""
        return CoSegmentation(self, num_classes) if self.segmenter else MaskCoefficients(self)

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: as `require_test_mixing`, or of sources of which
        no class is known."""
        super().require_mixing(mixing)
        require(
            mixing.distinct_classes or not self.segmenter,
            "the segmenter learns from the classes of sources: leave out --mixing.no-distinct-classes",
        )


SMALL_COSEGMENTATION = CoSegmentationConfig(
    unet_width=16,
    conv_init_std=0.02,
    input_norm="mixture",
    visual_width=128,
    coef_width=128,
    score_pool="sum",
    resnet_width=16,
    visual_stages=3,
    initial_weights="none",
)
"""For some minutes on two cores. Class scores are sums: their means over 64 places would take long to leave a half."""


class MaskCoefficients(MaskBases):
    """The network without the segmenter: a `cocktail.types.Separator`."""

    config: CoSegmentationConfig

    def reconstruction(self, batch: MixtureBatch, vectors: Tensor, objects: Objects) -> Tensor:
        """Loss of the sources' masks, of objects with vectors [O, D]: the mean over bins, then over sources.

        Differs from what is said of several objects, whose masks are added up: a sum of probabilities passes 1, where
        there is no cross-entropy, so binary masks have the probability that there is any. Of one both are the same.
        """
        magnitude, sources = magnitudes_of(self.front_end, batch)
        targets = ideal_masks(sources, magnitude, self.config.masks)
        weights = loudness_weights(magnitude) if self.config.weighted_loss else None
        logits, _ = self.mask_logits(magnitude, vectors, objects)
        if self.config.masks == "binary":
            losses = mask_loss(logit_of_any(logits), targets, weights)
        else:
            bins = (logits.sigmoid().sum(dim=2) - targets).abs()
            losses = (bins if weights is None else weights * bins).mean(dim=(2, 3))
        return mean_over_sources(losses, batch.present)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss of the masks, one of each source."""
        assert batch.pictures is not None
        objects = Objects.of(batch.present[..., None])
        loss = self.reconstruction(batch, self._of_whole_pictures(batch.pictures, batch.present, objects), objects)
        return {"reconstruction": loss, "total": loss}

    def _of_whole_pictures(self, pictures: Tensor, present: Tensor, objects: Objects) -> Tensor:
        """Vectors [O, D] of sources of which nobody knows what to look for: the greatest of each feature."""
        return self.visual_encoder.of_sources(pictures, present).amax(dim=2)[objects.mixtures, objects.sources]

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates in the order of the sources' pictures, with the mixture's phase.

        Raises UsageError if there are not pictures of each source by itself.
        """
        pictures, seen, class_ids = sources_shown(query)
        objects = Objects.of(seen[..., None])
        vectors = self._of_whole_pictures(pictures, seen, objects)
        return self.separation(mixture, vectors, objects, class_ids, {}, in_order=True)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is seen in the pictures of mixtures."""

    places: Tensor
    """V_f [B, K, Q, D]."""
    attention: Attention
    """Of B K pictures, each by itself or several of one source together."""
    scores: Tensor
    """S [B, K, C]: logits of each class being there."""

    def attended(self, objects: Objects, pool: FeaturePool) -> Tensor:
        """V_fm [O, D], each object in its source's picture, or in the one of all."""
        K = self.places.shape[1]
        pictures = objects.mixtures * K + objects.sources.clamp(max=K - 1)
        return self.attention.attended(self.places.flatten(0, 1), pictures, objects.class_ids, pool)

    @property
    def maps(self) -> Tensor:
        """X_m [B, K, Q, C]."""
        return self.attention.maps.unflatten(0, self.places.shape[:2])


class CoSegmentation(MaskCoefficients):
    """A `cocktail.types.Separator`, a `Localizer` and a `Classifier`."""

    def __init__(self, config: CoSegmentationConfig, num_classes: int) -> None:
        super().__init__(config)
        self.num_classes = num_classes
        self.segmenter = DecoupledAttention(
            config.visual_width, num_classes, config.attention_act, config.attention_dropout
        )

    def see(self, pictures: Tensor, present: Tensor) -> Seen:
        """What is seen in pictures uint8 [B, K, P, H, W, 3], of which those that are not `present`, bool [B, K], mean
        nothing."""
        places = self.visual_encoder.of_sources(pictures, present)
        attention = self.segmenter(places.flatten(0, 1))
        scores = attention.scores(self.config.score_pool, pictures.shape[2]).unflatten(0, places.shape[:2])
        return Seen(places=places, attention=attention, scores=scores)

    def labels_of(self, batch: MixtureBatch) -> Tensor:
        """y, bool [B, N, C]: the classes of each source that is present, of those that the model knows."""
        ids, present = batch.class_ids[..., None], batch.present[..., None]
        labels = None if batch.labels is None else batch.labels[:, :, None, : self.num_classes]
        return classes_among(ids, present, self.num_classes, labels)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses: of the masks of each source's labelled classes together, and of the classes (eq. 3: the sum over
        classes; the mean over a mixture's sources, as masks have it)."""
        assert batch.pictures is not None
        seen, labels = self.see(batch.pictures, batch.present), self.labels_of(batch)
        objects = Objects.of(labels)
        reconstruction = self.reconstruction(batch, seen.attended(objects, self.config.feature_pool), objects)
        classes = mean_over_sources(presence_losses(seen.scores, labels).sum(dim=2), batch.present)
        total = reconstruction + self.config.class_loss_weight * classes
        return {"reconstruction": reconstruction, "visual_presence": classes, "total": total}

    @torch.no_grad()
    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] of the classes that are seen in each source's picture, of presence above tau."""
        if batch is None:
            return {}
        assert batch.pictures is not None
        said = self.see(batch.pictures, batch.present).scores.sigmoid() > self.config.presence_threshold
        return {"visual_presence": confusion_counts(said[batch.present], self.labels_of(batch)[batch.present])}

    def classes_in(self, presence: Tensor) -> Tensor:
        """The classes, bool [B, K, C], that pictures of presence [B, K, C] are taken to show."""
        best = most_probable(presence.flatten(0, 1), None, self.config.most_classes, self.config.presence_threshold)
        ids = best.unflatten(0, presence.shape[:2])
        return classes_among(ids, ids != NO_CLASS, self.num_classes)

    def named(self, class_ids: Tensor, labels: Tensor | None = None) -> Tensor:
        """bool [B, N, C] of class ids [B, N], or of labels of sources of several classes, bool [B, N, C]; none of a
        source whose classes are not known, or not among the model's."""
        labels = None if labels is None else labels[:, :, None, : self.num_classes]
        known = torch.ones_like(class_ids, dtype=torch.bool) if labels is not None else class_ids >= 0
        return classes_among(class_ids[..., None], known[..., None], self.num_classes, labels)

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates in the order of the sources' pictures, with the mixture's phase, by the classes that are found in
        each picture; by those that its source has, where they are known, as another reading.

        Where classes are asked for by name, estimates are of them: each in its own picture, or all in one. Of several
        sources in one picture that nobody names they are of its most probable classes.
        """
        if query.shown.shape[1] == 1 < query.room:
            return self._separate_in_one_picture(mixture, query)
        pictures, shown, class_ids = sources_shown(query)
        seen = self.see(pictures, shown)
        presence = seen.scores.sigmoid() * shown[..., None]
        found = self.classes_in(presence) & shown[..., None]
        looked_at = {"presence": presence.amax(dim=1), "source_presence": presence}
        named = self.named(class_ids, query.labels) & shown[..., None]
        labels = torch.where(named.any(dim=2, keepdim=True), named, found)
        if query.by_name:
            return self._of_labels(mixture, seen, labels, class_ids, looked_at, in_order=True)
        own = self._of_labels(mixture, seen, found, class_ids, looked_at, in_order=True)
        if not (named.any() and query.alternatives):
            return own
        told = self._of_labels(mixture, seen, labels, class_ids, {}, in_order=True)
        return replace(own, alternatives={**own.alternatives, NAMED_CLASSES: told})

    def _of_labels(
        self,
        mixture: Tensor,
        seen: Seen,
        labels: Tensor,
        class_ids: Tensor,
        looked_at: dict[str, Tensor],
        in_order: bool,
    ) -> Separation:
        objects = Objects.of(labels)
        vectors = seen.attended(objects, self.config.feature_pool)
        answer = self.separation(mixture, vectors, objects, class_ids, looked_at, in_order)
        return replace(answer, presence_threshold=self.config.presence_threshold)

    def _separate_in_one_picture(self, mixture: Tensor, query: Query) -> Separation:
        seen = self.see(query.shown, torch.ones_like(query.num_sources[:, None], dtype=torch.bool))
        presence = seen.scores.sigmoid()[:, 0]
        class_ids = query.class_ids
        if class_ids is None:
            class_ids = most_probable(presence, query.num_sources, query.room)
        looked_at = {"presence": presence}
        return self._of_labels(mixture, seen, self.named(class_ids), class_ids, looked_at, in_order=False)

    @torch.no_grad()
    def localize(self, mixture: Tensor, query: Query) -> Localization:
        """Attention maps X_m of the named classes, of each picture by itself and side by side; in each source's own
        picture alone, and of as many classes as there are sources, the most probable by sight, as other readings.

        A source of several classes has the sum of their maps, and one of which none is known that of the classes that
        are found in its picture.
        """
        pictures, shown = query.shown, query.seen
        assert shown is not None
        K, height = pictures.shape[1], pictures.shape[3]
        class_ids = query.class_ids
        seen = self.see(pictures[:, :, :1], shown[:, :K])
        presence = seen.scores.sigmoid() * shown[:, :K, None]
        of_mixture = presence.amax(dim=1)
        predicted = most_probable(of_mixture, query.num_sources, query.room)
        class_ids = predicted if class_ids is None else class_ids
        own_picture = torch.arange(query.room, device=pictures.device).clamp(max=K - 1)
        named = self.named(class_ids, query.labels)
        found = self.classes_in(presence)[:, own_picture]
        labels = torch.where(named.any(dim=2, keepdim=True), named, found)

        def over_all(labels: Tensor) -> Tensor:
            """Maps [B, N, H, K W] of labels [B, N, C]."""
            cells = torch.einsum("bkqc,bnc->bknq", seen.maps, labels.to(seen.maps.dtype))
            maps = to_pictures(cells.flatten(0, 1), height, self.config.stride).unflatten(0, cells.shape[:2])
            return maps.permute(0, 2, 3, 1, 4).flatten(3)

        own = Localization(
            maps=over_all(labels),
            class_ids=class_ids,
            in_order=query.room == K,
            intermediates={"visual_presence": of_mixture},
            presence_threshold=self.config.presence_threshold,
        )
        alternatives = {PREDICTED_CLASSES: Localization(maps=over_all(self.named(predicted)), class_ids=predicted)}
        if K > 1:
            each = own.maps.unflatten(3, (K, -1))[:, torch.arange(query.room), :, own_picture]
            alternatives[SPLIT] = Localization(maps=each.transpose(0, 1), class_ids=class_ids, in_order=True)
        return replace(own, alternatives=alternatives)
