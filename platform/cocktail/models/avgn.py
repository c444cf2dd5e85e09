"""AVGN, the audio-visual grouping network that localizes every sound of a mixture (Mo and Tian, "Audio-Visual Grouping
Network for Sound Localization from Mixtures", CVPR 2023).

The locations of a picture and the vector of a sound each pass a transformer together with one learnable token a class,
shared by both; each class token gathers what belongs to it. What a class sounds like then finds where it is seen.

Shape letters: B batch, K pictures of a mixture, V views (one wide picture, or each picture by itself), N sources,
C classes, T samples, P locations of a view, Q vectors of a sound, D width, H and W height and width of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from cocktail.audio.mixing import superpose
from cocktail.config.mixing import Mixing
from cocktail.layers.class_transformer import ClassTransformer, ClassTransformerConfig, class_grouping
from cocktail.layers.classes import PREDICTED_CLASSES, classes_in, most_probable, of_classes
from cocktail.layers.encoders import unit
from cocktail.layers.transformer import initialize
from cocktail.layers.two_towers import SingleMapLocalizer, TowersConfig, TwoTowers
from cocktail.layers.views import View, view_names, view_of, views_of
from cocktail.losses.class_constraint import Reduction, presence_loss, token_loss
from cocktail.losses.contrast import audio_visual_contrast
from cocktail.metrics.classification import confusion_counts, token_counts
from cocktail.numerics.precision import at_least_float32
from cocktail.types import Localization, MixtureBatch, Query, UsageError, require


@dataclass(frozen=True, kw_only=True)
class AVGNConfig(TowersConfig, ClassTransformerConfig):
    """The paper's network; where paper and code differ, the paper unless said otherwise."""

    depth: int = 3
    """Transformer layers of each modality (Table 4)."""
    source_vectors: Literal["grouped_tokens", "tokens", "grouped_queries", "pooled"] = "grouped_tokens"
    """Vectors that stand for classes. Rows of Table 3: grouped_tokens is both, tokens only AVCT (class tokens that went
    through the transformer), grouped_queries only AVG (free queries a class that did not), pooled neither: the sound's
    own vector and the bare locations, one map for all classes."""
    visual_eps: float | None = None
    """Constant added to the sum of an assignment's column in eq. 8. None is 1e-6, or 1 if hard: a class without
    locations would otherwise get gradients of 1/eps."""
    audio_eps: float = 1.0
    """Constant added to that sum for the sound. Where a sound is one vector, its assignment cancels out of eq. 8 as eps
    goes to 0, and every class gathers the same; with the code's 1 the assignment acts, as a gate up to a half."""
    audio_tokens: Literal["pooled", "map"] = "pooled"
    """Vectors of a sound: one, or one a cell of the audio encoder's map, so that there is something to group."""
    localization_loss: Literal["paper", "code"] = "paper"
    """Cosines of a class's sound with the picture gated by what the class gathered there (eq. 10); or inner products of
    its sound, not normalised, with the bare locations. Both learn in both directions, as the code does."""
    gate: Literal["product", "residual"] = "product"
    """Gate of a location f by what its class gathered, g: f g (eq. 10), or f (1 + g), which no zero in g deletes."""
    negative_gate: Literal["own", "asked"] = "asked"
    """Gate of the pictures of other mixtures, which eq. 10 leaves open: the class of the sound that looks for itself
    there, `asked`; or of each its own source's class, `own`, by whose name mixtures are recognised without looking:
    that is why it is not the default. Scores of three seeds do not part the two (docs/avgn.md). Not read where there is
    no gate."""
    mask_same_class: bool = False
    """Leave pictures and sounds of a source's own class out of its negatives."""
    temperature: float = 0.03
    """Temperature of the localization loss."""
    token_init_std: float = 1.0
    """Standard deviation of the class tokens at the start; the code starts them at zero, where all are alike, and the
    paper is silent. Scores of three seeds do not part 1 from 0.02 (docs/avgn.md). Free queries start at 0.02 at
    least."""
    group_reduction: Reduction = "mean"
    """Mean or sum over the classes in eq. 9, which prints a sum; the code takes means."""
    localization_loss_weight: float = 1.0
    """Weight of the localization loss."""
    token_loss_weight: float = 1.0
    """Weight of the class constraint on the tokens."""
    presence_loss_weight: float = 1.0
    """Weight of the presence losses, of what is heard and of what is seen."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.temperature > 0, f"temperature must be positive, not {self.temperature}")
        for name in ("visual_eps", "audio_eps", "token_init_std"):
            require((getattr(self, name) or 0) >= 0, f"{name} must not be negative, not {getattr(self, name)}")
        if self.has_classes:
            self.require_transformer()
        self._refuse_what_would_do_nothing()

    def _refuse_what_would_do_nothing(self) -> None:
        grouping = (self.grouping, self.assignment, self.visual_eps, self.audio_eps)
        if not self.groups and grouping != ("paper", "soft", None, 1.0):
            raise UsageError(
                f"source_vectors {self.source_vectors} does no grouping: leave grouping, assignment, visual_eps and "
                "audio_eps as they are"
            )
        contrast = (self.audio_tokens, self.localization_loss, self.mask_same_class, self.gate)
        if not self.has_classes and contrast != ("pooled", "paper", False, "product"):
            raise UsageError(
                "source_vectors pooled compares a sound's one vector with the bare locations, of no class: leave "
                "audio_tokens, localization_loss, mask_same_class and gate as they are"
            )
        if self.localization_loss == "code" and self.gate != "product":
            raise UsageError("localization_loss code has no gate: leave gate as it is")

    @property
    def groups(self) -> bool:
        """True where locations are gathered by category-aware grouping."""
        return self.source_vectors in ("grouped_tokens", "grouped_queries")

    @property
    def visual_eps_or_default(self) -> float:
        """visual_eps, or what it stands for."""
        if self.visual_eps is not None:
            return self.visual_eps
        return 1.0 if self.assignment == "hard" else 1e-6

    @property
    def has_classes(self) -> bool:
        """True where there is a vector a class."""
        return self.source_vectors != "pooled"

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, of another rate, or of sources that no class names."""
        super().require_test_mixing(mixing)
        if self.has_classes:
            mixing.require_one_class("AVGN")

    def build(self, num_classes: int) -> AVGN | PooledAVGN:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return AVGN(self, num_classes) if self.has_classes else PooledAVGN(self)


SMALL_AVGN = AVGNConfig(
    width=64,
    resnet_width=16,
    visual_stages=2,
    depth=1,
    num_heads=4,
    token_init_std=0.02,
    localization_loss_weight=0.1,
    initial_weights="none",
)
"""Under a million parameters, for some minutes on two cores and from random weights, by which its locations see little
of the picture, and the localization loss, over its temperature, is one among four.

Class tokens that start nearly alike are, with the default gate, a reading that was above the centred box where only the
objects tell pictures apart; on the small corpus, in so few steps, none is (docs/avgn.md)."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Vectors of what is heard, or seen, in mixtures; named, to be looked at. Those of what is seen have an axis of V
    views behind the batch's."""

    features: Tensor
    """Unit vectors as the encoder gives them: f^v [B, V, P, D] or f^a [B, Q, D]."""
    classes: Tensor
    """Vectors g [..., C, D], one a class."""
    presence_logits: Tensor
    """Logits [..., C] of each class being there."""
    assignment: Tensor | None
    """Division [..., P or Q, C] of each feature among the classes, where there is grouping."""

    def unflatten(self, shape: tuple[int, ...]) -> Vectors:
        """Split the first axis into several."""
        parts = {name: value.unflatten(0, shape) for name, value in vars(self).items() if value is not None}
        return replace(self, **parts)


class ClassVectors(nn.Module):
    """Transformer and grouping of one modality: vectors g of all classes from features and the shared class tokens."""

    def __init__(self, config: AVGNConfig, num_classes: int, eps: float) -> None:
        super().__init__()
        self.in_transformer = config.source_vectors in ("grouped_tokens", "tokens")
        self.layers = ClassTransformer(config)
        self.grouping = class_grouping(config, num_classes, eps) if config.groups else None
        self.presence_head = nn.Linear(config.width, 1).apply(initialize)

    def forward(self, features: Tensor, class_tokens: Tensor) -> Vectors:
        x, tokens, assignment = features, class_tokens.expand(len(features), -1, -1), None
        if self.in_transformer:
            x, tokens = self.layers.with_tokens(x, tokens)
        else:
            x = self.layers(x)
        if self.grouping is not None:
            tokens, assignment = self.grouping(x, tokens)
        logits = at_least_float32(self.presence_head(tokens).squeeze(-1))
        return Vectors(features=features, classes=tokens, presence_logits=logits, assignment=assignment)


class AVGN(TwoTowers):
    """A `cocktail.types.Localizer` and `Classifier`."""

    def __init__(self, config: AVGNConfig, num_classes: int) -> None:
        super().__init__(config, config.audio_tokens)
        self.config = config
        self.num_classes = num_classes
        D = config.width
        # Nothing but their start tells free queries apart.
        std = max(config.token_init_std, 0.02 if config.source_vectors == "grouped_queries" else 0.0)
        self.class_tokens = nn.Parameter(std * torch.randn(num_classes, D))
        self.visual_branch = ClassVectors(config, num_classes, config.visual_eps_or_default)
        self.audio_branch = ClassVectors(config, num_classes, config.audio_eps)
        # The class constraint is one of class tokens: free queries have none.
        self.token_classifier = (
            nn.Linear(D, num_classes).apply(initialize) if config.source_vectors != "grouped_queries" else None
        )
        self.complete()

    def hear(self, mixture: Tensor) -> Vectors:
        """Vectors of what is heard in mixtures [B, T]."""
        return self.audio_branch(self.sounds(mixture), self.class_tokens)

    def see(self, pictures: Tensor, view: View) -> Vectors:
        """Vectors of what is seen in the views of pictures uint8 [B, K, H, W, 3]."""
        views = views_of(pictures, view)
        seen = self.visual_branch(self.visual_encoder(views.flatten(0, 1)), self.class_tokens)
        return seen.unflatten(views.shape[:2])

    def compared(self, heard: Vectors, seen: Vectors, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Sounds [B, N, D] of the sources [B, N], and the locations [B, N, P, D] that they are compared with.

        Of NO_CLASS both mean nothing.
        """
        locations = seen.features[:, view_of(class_ids, seen.features)]
        sounds = at_least_float32(of_classes(heard.classes, class_ids))
        if self.config.localization_loss == "code":
            return sounds, locations
        return unit(sounds), unit(locations * self._gate(self.gathered(seen, class_ids))[:, :, None])

    def _gate(self, gathered: Tensor) -> Tensor:
        gate = at_least_float32(gathered)
        return 1 + gate if self.config.gate == "residual" else gate

    def gathered(self, seen: Vectors, class_ids: Tensor) -> Tensor:
        """g^v [B, N, D] of the named classes [B, N], each of its source's view."""
        return of_classes(seen.classes, class_ids, view_of(class_ids, seen.features))

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses (AVGN eq. 9-11): localization, tokens, and presence of what is heard and of what is seen."""
        assert batch.pictures is not None
        config = self.config
        heard, seen = self.hear(superpose(batch)), self.see(batch.pictures[:, :, 0], config.view)
        losses = {"localization": self._localization_loss(batch, heard, seen)}
        total = config.localization_loss_weight * losses["localization"]
        if self.token_classifier is not None:
            losses["token"] = token_loss(self.token_classifier(self.class_tokens), config.group_reduction)
            total = total + config.token_loss_weight * losses["token"]
        for name, vectors in (("presence", heard), ("visual_presence", seen)):
            logits = vectors.presence_logits
            losses[name] = presence_loss(logits, classes_in(batch, logits), config.group_reduction)
            total = total + config.presence_loss_weight * losses[name]
        return {**losses, "total": total}

    def _localization_loss(self, batch: MixtureBatch, heard: Vectors, seen: Vectors) -> Tensor:
        config, gates = self.config, None
        sounds, locations = self.compared(heard, seen, batch.class_ids)
        if config.negative_gate == "asked":
            views = view_of(batch.class_ids, seen.features)
            locations, gates = seen.features[:, views], self._gate(seen.classes)[:, views]
        return audio_visual_contrast(
            sounds,
            locations,
            batch.present,
            config.temperature,
            class_ids=batch.class_ids,
            mask_same_class=config.mask_same_class,
            gates=gates,
        )

    @torch.no_grad()
    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] for the class constraint (e_i is i) and for presence above 0.5, heard and seen."""
        counts = {}
        if self.token_classifier is not None:
            counts["token"] = token_counts(self.token_classifier(self.class_tokens))
        if batch is not None:
            assert batch.pictures is not None
            seen = self.see(batch.pictures[:, :, 0], self.config.view)
            for name, vectors in (("presence", self.hear(superpose(batch))), ("visual_presence", seen)):
                logits = vectors.presence_logits
                counts[name] = confusion_counts(logits > 0, classes_in(batch, logits))
        return counts

    @torch.no_grad()
    def presence(self, mixture: Tensor) -> Tensor:
        """Probability [B, C] of each class in mixtures [B, T], by ear."""
        return self.hear(mixture).presence_logits.sigmoid()

    @torch.no_grad()
    def localize(self, mixture: Tensor, query: Query) -> Localization:
        """Maps of the named classes by the model's own view; by the other, of predicted classes, and blended with the
        object prior, as alternatives.

        Values are cosines; with the code's loss inner products over the temperature, as the code has them. Predicted
        are as many classes as there are sources, the most probable by ear; they are looked for in the wide picture,
        since none of them belongs to one of several pictures.
        """
        pictures, class_ids = query.shown[:, :, 0], query.named
        heard = self.hear(mixture)
        view, *others = views = view_names(pictures, self.config.view)
        seen = {view: self.see(pictures, view) for view in views}
        own = self._localization(heard, seen[view], class_ids, pictures)
        alternatives = {other: self._localization(heard, seen[other], class_ids, pictures) for other in others}
        alternatives |= self.with_object_prior(own, pictures, view)
        presence = heard.presence_logits.sigmoid()
        predicted = most_probable(presence, (class_ids >= 0).sum(dim=1), class_ids.shape[1])
        alternatives[PREDICTED_CLASSES] = self._localization(heard, seen["wide"], predicted, pictures)
        intermediates = {
            "presence": presence,
            "visual_presence": seen[view].presence_logits.sigmoid().amax(dim=1),
            "audio_vectors": of_classes(heard.classes, class_ids),
            "visual_vectors": self.gathered(seen[view], class_ids),
        }
        if (assignment := seen[view].assignment) is not None:
            intermediates["assignment"] = assignment
        return replace(own, alternatives=alternatives, intermediates=intermediates)

    def _localization(self, heard: Vectors, seen: Vectors, class_ids: Tensor, pictures: Tensor) -> Localization:
        sounds, locations = self.compared(heard, seen, class_ids)
        similarity = torch.einsum("bnd,bnpd->bnp", sounds, locations)
        if self.config.localization_loss == "code":
            similarity = similarity / self.config.temperature
        return Localization(maps=self.maps(similarity, pictures), class_ids=class_ids)


class PooledAVGN(SingleMapLocalizer):
    """The row of Table 3 without tokens and grouping: a `cocktail.types.Localizer` with one map for all classes."""

    def __init__(self, config: AVGNConfig) -> None:
        super().__init__(config)
        self.config = config
        self.complete()

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: localization, by the sound's own vector and the bare locations."""
        loss = audio_visual_contrast(*self.pairs(batch), self.config.temperature)
        return {"localization": loss, "total": self.config.localization_loss_weight * loss}
