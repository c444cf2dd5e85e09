"""AVGN, the audio-visual grouping network that localizes every sound of a mixture (Mo and Tian, "Audio-Visual Grouping
Network for Sound Localization from Mixtures", CVPR 2023).

The locations of a picture and the vector of a sound each pass a transformer together with one learnable token a class,
shared by both; each class token gathers what belongs to it. What a class sounds like then finds where it is seen.

Shape letters: B batch, K pictures of a mixture, V views (one wide picture, or each picture by itself), N sources,
C classes, T samples, P locations of a view, Q vectors of a sound, D width, H and W height and width of a picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.audio.power_spectrum import LogPowerSpectrum, PowerSpectrumConfig
from cocktail.config.mixing import Mixing
from cocktail.layers.classes import classes_among, most_probable
from cocktail.layers.encoders import AudioEncoder, VisualEncoder, unit
from cocktail.layers.grouping import CategoryGrouping, GroupViTGrouping
from cocktail.layers.object_prior import ObjectPrior
from cocktail.layers.transformer import LiteralAttention, TransformerBlock, initialize
from cocktail.layers.views import View, require_pictures, to_pictures, view_names, view_of, views_of
from cocktail.losses.contrast import audio_visual_contrast
from cocktail.metrics.classification import confusion_counts, token_counts
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, Localization, MixtureBatch, Query, UsageError

PREDICTED_CLASSES, WITH_OBJECT_PRIOR = "predicted classes", "with object prior"


@dataclass(frozen=True, kw_only=True)
class AVGNConfig:
    """The paper's network; where paper and code differ, the paper unless said otherwise."""

    fewest_mixtures: ClassVar[int] = 2

    width: int = 512
    """Width of locations, sounds and class tokens."""
    resnet_width: int = 64
    """Channels of the first stage of both encoders, which are ResNet-18s; torchvision's weights have 64."""
    visual_stages: Literal[2, 3, 4] = 4
    """Stages of the visual encoder; the paper's and torchvision's have four. A location of four sees the whole picture,
    and only learns from ImageNet's weights to speak of what lies there; of two it sees 99 pixels."""
    depth: int = 3
    """Transformer layers of each modality (Table 4)."""
    attention: Literal["block", "literal"] = "block"
    """A transformer layer is a block with heads, MLP and residuals, or eq. 4-5 as printed, without weights."""
    num_heads: int = 8
    """Attention heads a block."""
    mlp_ratio: float = 4.0
    """Hidden width of a block's MLP over its width."""
    stochastic_depth: float = 0.1
    """Probability of dropping a residual branch in training, the same in every block."""
    source_vectors: Literal["grouped_tokens", "tokens", "grouped_queries", "pooled"] = "grouped_tokens"
    """What stands for a class. Rows of Table 3: grouped_tokens is both, tokens only AVCT (class tokens that went
    through the transformer), grouped_queries only AVG (free queries a class that did not), pooled neither: the sound's
    own vector and the bare locations, one map for all classes."""
    grouping: Literal["paper", "groupvit"] = "paper"
    """Eq. 6-8, or with token mixing, cross-attention and an MLP around them as in the authors' code."""
    assignment: Literal["soft", "hard"] = "soft"
    """Each location divides itself among the classes, or belongs to one (Table 4): Gumbel noise and straight-through
    gradients in training, the best class in testing."""
    gumbel_temperature: float = 1.0
    """Of the hard assignment's gradient."""
    visual_eps: float | None = None
    """Added to the sum of an assignment's column in eq. 8. None is 1e-6, or 1 if hard: a class without locations would
    otherwise get gradients of 1/eps."""
    audio_eps: float = 1.0
    """The same for the sound. Where that is one vector, its assignment cancels out of eq. 8 as eps goes to 0, and every
    class gathers the same; with the code's 1 the assignment acts, as a gate up to a half."""
    audio_tokens: Literal["pooled", "map"] = "pooled"
    """A sound is one vector, or one a cell of the audio encoder's map, so that there is something to group."""
    view: View = "wide"
    """The pictures of a mixture side by side as one, in which every class has to be found (the paper); or each by
    itself, beside which the other class is hidden (the code, a different and easier task). Both are scored."""
    localization_loss: Literal["paper", "code"] = "paper"
    """Cosines of a class's sound with the picture gated by what its class gathered there (eq. 10); or inner products of
    its sound, not normalised, with the bare locations. Both learn in both directions, as the code does."""
    gate: Literal["product", "residual"] = "product"
    """A location f meets what its class gathered, g, as f g (eq. 10), or as f (1 + g), which no zero in g deletes."""
    negative_gate: Literal["own", "asked"] = "own"
    """What gates the pictures of other mixtures, which eq. 10 leaves open: each its own source's class, by whose name
    mixtures can be told apart without looking; or the class of the sound that looks for itself there."""
    mask_same_class: bool = False
    """Leave pictures and sounds of a source's own class out of its negatives."""
    temperature: float = 0.03
    """Of the localization loss."""
    token_init_std: float = 0.0
    """Standard deviation of the class tokens at the start; the code starts them at zero, where all are alike. Free
    queries start at 0.02 at least."""
    group_reduction: Literal["mean", "sum"] = "mean"
    """Over the classes in eq. 9, which prints a sum; the code takes means."""
    localization_loss_weight: float = 1.0
    """Weight of the localization loss."""
    token_loss_weight: float = 1.0
    """Weight of the class constraint on the tokens."""
    presence_loss_weight: float = 1.0
    """Weight of the presence losses, of what is heard and of what is seen."""
    initial_weights: str = "auto"
    """Of the visual encoder: file or URI of torchvision's ResNet-18 weights; `auto` takes ImageNet's where torchvision
    keeps them and random ones otherwise, and says which; `none` are random ones."""
    ogl_alpha: float | None = None
    """Test maps also blended with what looks like an object to ImageNet's ResNet-18 (EZ-VSL's object-guided
    localization): the maps' share, 0.4 there and 0.3 in AVGN's code. None leaves this out. Needs initial_weights."""
    spectrum: PowerSpectrumConfig = field(default_factory=PowerSpectrumConfig)

    def __post_init__(self) -> None:
        for name in ("temperature", "gumbel_temperature"):
            if getattr(self, name) <= 0:
                raise UsageError(f"{name} must be positive, not {getattr(self, name)}")
        for name in ("visual_eps", "audio_eps", "token_init_std"):
            if (getattr(self, name) or 0) < 0:
                raise UsageError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.has_classes and (self.depth < 1 or self.num_heads < 1 or self.width % self.num_heads):
            raise UsageError(
                f"depth {self.depth} and num_heads {self.num_heads} must be at least 1, and num_heads divide width "
                f"{self.width}"
            )
        if not 0 <= self.stochastic_depth < 1:
            raise UsageError(f"stochastic_depth must be in [0, 1), not {self.stochastic_depth}")
        if self.ogl_alpha is not None and not 0 <= self.ogl_alpha <= 1:
            raise UsageError(f"ogl_alpha must be in [0, 1], not {self.ogl_alpha}")
        self._refuse_what_would_do_nothing()

    def _refuse_what_would_do_nothing(self) -> None:
        grouping = (self.grouping, self.assignment, self.visual_eps, self.audio_eps)
        if not self.groups and grouping != ("paper", "soft", None, 1.0):
            raise UsageError(
                f"source_vectors {self.source_vectors} does no grouping: leave grouping, assignment, visual_eps and "
                "audio_eps as they are"
            )
        gates = (self.gate, self.negative_gate)
        contrast = (self.audio_tokens, self.localization_loss, self.mask_same_class, *gates)
        if not self.has_classes and contrast != ("pooled", "paper", False, "product", "own"):
            raise UsageError(
                "source_vectors pooled compares a sound's one vector with the bare locations, of no class: leave "
                "audio_tokens, localization_loss, mask_same_class, gate and negative_gate as they are"
            )
        if self.localization_loss == "code" and gates != ("product", "own"):
            raise UsageError("localization_loss code has no gate: leave gate and negative_gate as they are")

    @property
    def groups(self) -> bool:
        """Whether locations are gathered by category-aware grouping."""
        return self.source_vectors in ("grouped_tokens", "grouped_queries")

    @property
    def visual_eps_or_default(self) -> float:
        """visual_eps, or what it stands for."""
        if self.visual_eps is not None:
            return self.visual_eps
        return 1.0 if self.assignment == "hard" else 1e-6

    @property
    def has_classes(self) -> bool:
        """Whether there is a vector a class."""
        return self.source_vectors != "pooled"

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: as `require_test_mixing`, or of several numbers
        of sources."""
        if mixing.fewest_sources != mixing.num_sources:
            raise UsageError(
                f"localization learns from mixtures of one number of sources, not of {mixing.fewest_sources} to "
                f"{mixing.num_sources}: leave out --mixing.min-sources"
            )
        self.require_test_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, of another rate, or of sources that no class names."""
        require_pictures(mixing, self.spectrum, self.visual_stages if self.ogl_alpha is None else 4)
        if self.has_classes and not mixing.distinct_classes:
            raise UsageError("AVGN names sources by their class: leave out --mixing.no-distinct-classes")

    def build(self, num_classes: int) -> AVGN:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return AVGN(self, num_classes)


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
of the picture, classes differ from the start, and the localization loss, over its temperature, is one among four."""


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """What one modality finds; named, to be looked at. Of pictures, each has an axis of V views behind the batch's."""

    features: Tensor
    """Unit vectors as the encoder gives them: f^v [B, V, P, D] or f^a [B, Q, D]."""
    classes: Tensor | None = None
    """g [..., C, D], one a class, where there are classes."""
    presence_logits: Tensor | None = None
    """[..., C]: is the class there?"""
    assignment: Tensor | None = None
    """[..., P or Q, C]: each feature's division among the classes."""

    def unflatten(self, shape: tuple[int, int]) -> Vectors:
        """The first axis as two."""
        parts = {name: value for name, value in vars(self).items() if value is not None}
        return Vectors(**{name: value.unflatten(0, shape) for name, value in parts.items()})


class ClassVectors(nn.Module):
    """One modality's transformer and grouping: vectors g of all classes from features and the shared class tokens."""

    def __init__(self, config: AVGNConfig, num_classes: int, eps: float) -> None:
        super().__init__()
        D = config.width
        self.in_transformer = config.source_vectors in ("grouped_tokens", "tokens")
        self.layers = nn.ModuleList(
            TransformerBlock(D, config.num_heads, config.mlp_ratio, config.stochastic_depth)
            if config.attention == "block"
            else LiteralAttention()
            for _ in range(config.depth)
        )
        self.grouping = None
        if config.groups:
            settings = {"eps": eps, "assignment": config.assignment, "temperature": config.gumbel_temperature}
            self.grouping = (
                CategoryGrouping(D, **settings)
                if config.grouping == "paper"
                else GroupViTGrouping(
                    D, num_classes, num_heads=config.num_heads, mlp_ratio=config.mlp_ratio, **settings
                )
            )
        self.presence_head = nn.Linear(D, 1).apply(initialize)

    def forward(self, features: Tensor, class_tokens: Tensor) -> Vectors:
        tokens, x = class_tokens.expand(len(features), -1, -1).to(features.dtype), features
        if self.in_transformer:
            x = torch.cat([features, tokens], dim=1)
        for layer in self.layers:
            x = layer(x)
        if self.in_transformer:
            x, tokens = x[:, : features.shape[1]], x[:, features.shape[1] :]
        assignment = None
        if self.grouping is not None:
            tokens, assignment = self.grouping(x, tokens)
        logits = at_least_float32(self.presence_head(tokens).squeeze(-1))
        return Vectors(features=features, classes=tokens, presence_logits=logits, assignment=assignment)


class AVGN(nn.Module):
    """A `cocktail.types.Localizer`, and a `Classifier` unless one map serves all classes."""

    def __init__(self, config: AVGNConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        D = config.width
        self.spectrum = LogPowerSpectrum(config.spectrum)
        self.visual_encoder = VisualEncoder(D, config.resnet_width, config.visual_stages)
        self.audio_encoder = AudioEncoder(D, config.audio_tokens, config.resnet_width)
        self.class_tokens = self.token_classifier = self.visual_branch = self.audio_branch = None
        if config.has_classes:
            # Nothing but their start tells free queries apart.
            std = max(config.token_init_std, 0.02 if config.source_vectors == "grouped_queries" else 0.0)
            self.class_tokens = nn.Parameter(std * torch.randn(num_classes, D))
            self.visual_branch = ClassVectors(config, num_classes, config.visual_eps_or_default)
            self.audio_branch = ClassVectors(config, num_classes, config.audio_eps)
        if config.source_vectors in ("grouped_tokens", "tokens"):
            self.token_classifier = nn.Linear(D, num_classes).apply(initialize)
        self.object_prior = None if config.ogl_alpha is None else ObjectPrior()
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def load_initial(self, state: Mapping[str, Tensor]) -> None:
        """Start the visual encoder from torchvision's weights of a ResNet-18; an object prior keeps them."""
        self.visual_encoder.resnet.load_torchvision(state)
        if self.object_prior is not None:
            self.object_prior.resnet.load_torchvision(state)

    def hear(self, mixture: Tensor) -> Vectors:
        """What is heard in mixtures [B, T]."""
        return self._vectors(self.audio_encoder(self.spectrum(mixture)), self.audio_branch)

    def see(self, pictures: Tensor, view: View) -> Vectors:
        """What is seen in the views of pictures uint8 [B, K, H, W, 3]."""
        views = views_of(pictures, view)
        seen = self._vectors(self.visual_encoder(views.flatten(0, 1)), self.visual_branch)
        return seen.unflatten((views.shape[0], views.shape[1]))

    def _vectors(self, features: Tensor, branch: ClassVectors | None) -> Vectors:
        if branch is None or self.class_tokens is None:
            return Vectors(features=features)
        return branch(features, self.class_tokens)

    def compared(self, heard: Vectors, seen: Vectors, class_ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the sounds of sources [B, N] are [B, N, D], and the locations that they are compared with [B, N, P, D].

        Of NO_CLASS both mean nothing.
        """
        locations = seen.features[:, view_of(class_ids, seen.features)]
        if heard.classes is None:
            return heard.features.expand(-1, class_ids.shape[1], -1), locations
        sounds = at_least_float32(_of_classes(heard.classes, class_ids))
        if self.config.localization_loss == "code":
            return sounds, locations
        return unit(sounds), unit(locations * self._gate(self.gathered(seen, class_ids))[:, :, None])

    def _gate(self, gathered: Tensor) -> Tensor:
        gate = at_least_float32(gathered)
        return 1 + gate if self.config.gate == "residual" else gate

    def gathered(self, seen: Vectors, class_ids: Tensor) -> Tensor:
        """g^v [B, N, D] of the named classes [B, N], each of its source's view."""
        assert seen.classes is not None
        return _of_classes(seen.classes, class_ids, view_of(class_ids, seen.features))

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses (AVGN eq. 9-11): localization, tokens, and presence of what is heard and of what is seen."""
        assert batch.pictures is not None
        config = self.config
        heard, seen = self.hear(superpose(batch)), self.see(batch.pictures[:, :, 0], config.view)
        class_ids, present = batch.class_ids, batch.present
        if heard.classes is None and seen.features.shape[1] == 1:  # one sound, one picture
            class_ids, present = class_ids[:, :1], present[:, :1]
        sounds, locations = self.compared(heard, seen, class_ids)
        gates = None
        if config.negative_gate == "asked" and seen.classes is not None:
            views = view_of(class_ids, seen.features)
            locations, gates = seen.features[:, views], self._gate(seen.classes)[:, views]
        losses = {
            "localization": audio_visual_contrast(
                sounds,
                locations,
                present,
                config.temperature,
                class_ids=class_ids,
                mask_same_class=config.mask_same_class,
                gates=gates,
            )
        }
        total = config.localization_loss_weight * losses["localization"]
        scale = 1 if config.group_reduction == "mean" else self.num_classes
        if self.token_classifier is not None:
            token_logits = at_least_float32(self.token_classifier(self.class_tokens))
            token_ids = torch.arange(self.num_classes, device=token_logits.device)
            losses["token"] = F.cross_entropy(token_logits, token_ids) * scale
            total = total + config.token_loss_weight * losses["token"]
        for name, found in (("presence", heard), ("visual_presence", seen)):
            if found.presence_logits is not None:
                labels = self._labels(batch, found.presence_logits).to(found.presence_logits.dtype)
                losses[name] = F.binary_cross_entropy_with_logits(found.presence_logits, labels) * scale
                total = total + config.presence_loss_weight * losses[name]
        return {**losses, "total": total}

    def _labels(self, batch: MixtureBatch, logits: Tensor) -> Tensor:
        """y, bool, of the form of presence logits: the classes of all sources [B, C] or [B, 1, C], or the class that
        each of several views shows [B, V, C]."""
        if logits.ndim == 3 and logits.shape[1] > 1:
            own, there = batch.class_ids[..., None], batch.present[..., None]
            return classes_among(own.flatten(0, 1), there.flatten(0, 1), self.num_classes).view(logits.shape)
        return classes_among(batch.class_ids, batch.present, self.num_classes).view(logits.shape)

    @torch.no_grad()
    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] for the class constraint (e_i is i) and for presence above 0.5, heard and seen."""
        counts = {}
        if self.token_classifier is not None:
            counts["token"] = token_counts(self.token_classifier(self.class_tokens))
        if self.config.has_classes and batch is not None:
            assert batch.pictures is not None
            seen = self.see(batch.pictures[:, :, 0], self.config.view)
            for name, found in (("presence", self.hear(superpose(batch))), ("visual_presence", seen)):
                assert found.presence_logits is not None
                counts[name] = confusion_counts(found.presence_logits > 0, self._labels(batch, found.presence_logits))
        return counts

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
        views = view_names(pictures, self.config.view)
        seen = {view: self.see(pictures, view) for view in views}
        height = pictures.shape[2]
        found = {view: self._localization(heard, seen[view], class_ids, height) for view in views}
        own, alternatives = found.pop(views[0]), dict(found)
        if self.object_prior is not None and self.config.ogl_alpha is not None:
            shown = views_of(pictures, views[0])
            blended = self.object_prior.blend(own.maps, shown, own.class_ids, self.config.ogl_alpha)
            alternatives[WITH_OBJECT_PRIOR] = replace(own, maps=blended)
        if heard.presence_logits is None:
            return replace(own, alternatives=alternatives)
        presence = heard.presence_logits.sigmoid()
        if "wide" in seen:
            predicted = most_probable(presence, (class_ids >= 0).sum(dim=1), class_ids.shape[1])
            alternatives[PREDICTED_CLASSES] = self._localization(heard, seen["wide"], predicted, height)
        sights = seen[views[0]]
        assert sights.presence_logits is not None and heard.classes is not None
        intermediates = {
            "presence": presence,
            "visual_presence": sights.presence_logits.sigmoid().amax(dim=1),
            "audio_vectors": _of_classes(heard.classes, class_ids),
            "visual_vectors": self.gathered(sights, class_ids),
        }
        if sights.assignment is not None:
            intermediates["assignment"] = sights.assignment
        return replace(own, alternatives=alternatives, intermediates=intermediates)

    def _localization(self, heard: Vectors, seen: Vectors, class_ids: Tensor, height: int) -> Localization:
        sounds, locations = self.compared(heard, seen, class_ids)
        similarity = torch.einsum("bnd,bnpd->bnp", sounds, locations)
        if self.config.localization_loss == "code" and self.config.has_classes:
            similarity = similarity / self.config.temperature
        if not self.config.has_classes:
            class_ids = torch.full_like(class_ids, NO_CLASS)
            if seen.features.shape[1] == 1:  # of one view, one map serves for all that is heard
                similarity, class_ids = similarity[:, :1], class_ids[:, :1]
        maps = to_pictures(similarity, height, self.visual_encoder.resnet.stride)
        return Localization(maps=maps, class_ids=class_ids)


def _of_classes(vectors: Tensor, class_ids: Tensor, views: Tensor | None = None) -> Tensor:
    """[B, N, D] of the vectors of all classes [B, C, D], or [B, V, C, D] and the view of each source [N]."""
    rows = torch.arange(len(class_ids), device=class_ids.device)[:, None]
    chosen = class_ids.clamp(min=0)
    return vectors[rows, chosen] if views is None else vectors[rows, views, chosen]
