"""SGN, the semantic grouping network for audio-only separation (Mo and Tian, "Semantic Grouping Network for
Audio Source Separation").

A spectrogram's patches and one learnable token a class pass a transformer; each class token gathers the
patches that belong to it (`cocktail.layers.grouping`); the vectors of the classes in the mixture pick
their masks out of a U-Net's feature maps.

Shape letters: B batch, N sources, C classes, T samples, F linear bins, R log-frequency rows, M frames,
P patches, D width (also the number of feature maps).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from cocktail.audio.mixing import mix
from cocktail.audio.stft import FrontEnd, FrontEndConfig
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.layers.class_transformer import ClassTransformer, ClassTransformerConfig, class_grouping
from cocktail.layers.classes import (
    PREDICTED_CLASSES,
    PREDICTED_NUMBER,
    ROOM_FOR_SOURCES,
    classes_among,
    most_probable,
    of_classes,
)
from cocktail.layers.mask_head import MaskHead
from cocktail.layers.masking import SOFT_MASKS
from cocktail.layers.patches import PatchEmbeddingName, patch_embedding
from cocktail.layers.spectrogram import InputNorm, log_spectrogram
from cocktail.layers.transformer import initialize
from cocktail.layers.unet import UNet
from cocktail.losses.class_constraint import Reduction, presence_loss, token_loss
from cocktail.losses.mask_loss import MaskKind, ideal_masks, loudness_weights, mask_loss, pairwise_mask_loss
from cocktail.losses.permutation import permutation_invariant_loss
from cocktail.metrics.classification import confusion_counts, token_counts
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require


@dataclass(frozen=True, kw_only=True)
class SGNConfig(ClassTransformerConfig, ModelConfig):
    """The paper's network; where the paper is silent, Sound of Pixels' recipe, on which its numbers rest."""

    width: int = 256
    """Width of patches, class tokens and source vectors, and the number of U-Net feature maps."""
    depth: int = 6
    """Transformer layers (Table IV)."""
    patch_size: int = 16
    """Side of a square patch, in rows and frames."""
    patch_embedding: PatchEmbeddingName = "linear"
    """How a patch becomes a token: by one linear map, as in the paper, or by convolutions that halve the spectrogram
    down to the patches. These say sooner what is heard, wherever in a patch it lies."""
    pos_embed: Literal["learned", "none"] = "learned"
    """A learned table for the patches, zero at the start; the paper names none, but a patch must know its frequency."""
    source_vectors: Literal["grouped_tokens", "tokens", "grouped_queries", "pooled_slots", "static_class"] = (
        "grouped_tokens"
    )
    """Vectors that pick the sources' masks. Rows of Table III: grouped_tokens is both, tokens only SCT (class tokens
    that went through the transformer), grouped_queries only CAG (free queries a class that did not), pooled_slots
    neither (one linear map of the mean patch a source, no classes). static_class is a control: a constant a class."""
    num_slots: int = 2
    """Sources that pooled_slots separates; nothing else reads it."""
    softmax_axis: Literal["classes", "patches"] = "classes"
    """Axis that eq. 5 normalises over; it does not say. Only over classes does eq. 6's denominator differ from 1."""
    grouping_eps: float | None = None
    """Constant added to the sum of an assignment's column in eq. 6. None is 1e-6, or 1 if hard: a class without patches
    would otherwise get gradients of 1/eps."""
    unet_width: int = 64
    """Channels of the U-Net's first level; the deepest has eight times as many."""
    unet_depth: int = 7
    """Halvings in the U-Net."""
    conv_init_std: float = 0.001
    """Standard deviation of the U-Net's convolution weights at the start; AdamW learns faster from 0.02."""
    num_frames: int = 256
    """Frames in time that the position table covers: 1 + segment samples // hop length."""
    input_norm: InputNorm = "none"
    """How the network reads the log spectrogram: as it is, or less its mean and over its deviation, by mixture. The
    paper is silent; as it is, all values lie far below zero, and patches enter the transformer as nearly one vector."""
    masks: MaskKind = "binary"
    """Targets, and how masks are used: cut at 0.5 or as they are. Binary models are scored with soft masks, too."""
    weighted_loss: bool = True
    """Weigh the mask loss of a bin by the loudness of the mixture there, clamp(ln(1 + |W_mix|), 1e-3, 10)."""
    group_reduction: Reduction = "mean"
    """Mean or sum over the classes in eq. 7, which prints a sum; with hundreds it would drown the reconstruction."""
    token_loss_weight: float = 1.0
    """Weight of the class constraint on the tokens."""
    presence_loss_weight: float = 1.0
    """Weight of the presence loss."""
    front_end: FrontEndConfig = field(default_factory=FrontEndConfig)

    def __post_init__(self) -> None:
        rows, frames, side = self.front_end.num_rows, self.num_frames, self.patch_size
        patches = rows % side == frames % side == 0
        halves = self.unet_depth < 32 and rows % 2**self.unet_depth == frames % 2**self.unet_depth == 0
        require(patches, f"patch_size {side} must divide the {rows} rows and the {frames} frames")
        convolved = self.patch_embedding == "linear" or side.bit_count() == 1
        require(convolved, f"patch_embedding convolutions halve: patch_size {side} is no power of two")
        require(halves, f"unet_depth {self.unet_depth} halves {rows} rows and {frames} frames unevenly")
        by_class = self.assignment == "soft" or self.softmax_axis == "classes"
        require(by_class, "a hard assignment gives each patch to a class: set softmax_axis classes")
        grouping = (self.grouping, self.assignment, self.softmax_axis, self.grouping_eps)
        require(
            self.groups or grouping == ("paper", "soft", "classes", None),
            f"source_vectors {self.source_vectors} does no grouping: leave grouping, assignment, softmax_axis and "
            "grouping_eps as they are",
        )
        if self.source_vectors != "static_class":
            self.require_transformer()

    @property
    def groups(self) -> bool:
        """True where patches are gathered by category-aware grouping."""
        return self.source_vectors in ("grouped_tokens", "grouped_queries")

    @property
    def eps(self) -> float:
        """grouping_eps, or what it stands for."""
        if self.grouping_eps is not None:
            return self.grouping_eps
        return 1.0 if self.assignment == "hard" else 1e-6

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: as `require_test_mixing`, or of one source."""
        require(
            mixing.fewest_sources >= 2,
            "a mixture of one source has nothing to separate: SGN takes --mixing.min-sources 2 or more",
        )
        self.require_test_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures of another number of frames, of sources that no class names, or of whole clips.

        The number of sources must be that of the slots if there are no classes to choose by.
        """
        slots = self.source_vectors == "pooled_slots"
        require(
            not slots or mixing.fewest_sources == mixing.num_sources == self.num_slots,
            f"pooled_slots separates model.num_slots {self.num_slots} sources, the mixtures have "
            f"{mixing.fewest_sources} to {mixing.num_sources}: set one to fit the other",
        )
        require(
            mixing.arrangement != "whole",
            "whole clips are one sound, with no reference for each source, which SGN learns and is scored by: leave "
            "--mixing.arrangement at remixed or released",
        )
        if not slots:
            mixing.require_one_class("SGN")
        frames = 1 + mixing.segment_samples // self.front_end.hop_length
        require(
            frames == self.num_frames,
            f"mixing.segment_samples {mixing.segment_samples} gives {frames} frames, but model.num_frames is "
            f"{self.num_frames}: set one to fit the other",
        )

    def build(self, num_classes: int) -> SGN:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return SGN(self, num_classes)


SMALL_SGN = SGNConfig(
    width=64,
    depth=2,
    unet_width=16,
    conv_init_std=0.02,
    num_frames=128,
    input_norm="mixture",
    patch_embedding="convolutions",
)
"""Two million parameters, for a few minutes on two cores."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Outcome of a pass through the network, before any mask is chosen; named, to be looked at."""

    features: Tensor
    """Feature maps of the U-Net, [B, channels, R / 2, M / 2]."""
    vectors: Tensor
    """Vectors g [B, C, D], one a class, or one a slot."""
    presence_logits: Tensor | None
    """Logits [B, C] of each class being in the mixture."""
    tokens: Tensor | None
    """Class tokens behind the transformer [B, C, D], before the grouping."""
    assignment: Tensor | None
    """Division [B, P, C] of each patch among the classes."""


class SourceVectors(nn.Module):
    """The network's token branch: vectors g of all classes (or slots) from a log spectrogram [B, 1, R, M]."""

    def __init__(self, config: SGNConfig, num_classes: int) -> None:
        super().__init__()
        self.kind = config.source_vectors
        D = config.width
        num_patches = (config.front_end.num_rows // config.patch_size) * (config.num_frames // config.patch_size)
        if self.kind != "static_class":
            self.patch_embedding = patch_embedding(config.patch_embedding, D, config.patch_size)
            self.position = nn.Parameter(torch.zeros(num_patches, D)) if config.pos_embed == "learned" else None
            self.layers = ClassTransformer(config)
        if self.kind == "pooled_slots":
            self.slots = nn.Linear(D, config.num_slots * D).apply(initialize)
        else:
            self.class_tokens = nn.Parameter(nn.init.trunc_normal_(torch.empty(num_classes, D), std=0.02))
        groups = config.groups
        self.grouping = class_grouping(config, num_classes, config.eps, config.softmax_axis) if groups else None

    def forward(self, spectrogram: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Vectors, tokens behind the transformer, and assignment, the latter two where there are any."""
        if self.kind == "static_class":
            return self.class_tokens.expand(len(spectrogram), -1, -1), None, None
        x = self.patch_embedding(spectrogram).flatten(2).transpose(1, 2)
        if self.position is not None:
            x = x + self.position
        if self.kind == "pooled_slots":
            return self.slots(self.layers(x).mean(dim=1)).unflatten(1, (-1, x.shape[-1])), None, None
        tokens = self.class_tokens.expand(len(x), -1, -1)
        if self.kind in ("grouped_tokens", "tokens"):
            x, tokens = self.layers.with_tokens(x, tokens)
        else:
            x = self.layers(x)
        if self.grouping is None:
            return tokens, tokens, None
        vectors, assignment = self.grouping(x, tokens)
        return vectors, tokens, assignment


class SGN(nn.Module):
    """A `cocktail.types.Separator`, and a `Classifier` and `Listener` unless its sources have no classes."""

    def __init__(self, config: SGNConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        D, kind = config.width, config.source_vectors
        self.front_end = FrontEnd(config.front_end)
        self.branch = SourceVectors(config, num_classes)
        # The class constraint is one of class tokens, presence is heard: queries have no constraint, constants no ears.
        self.token_classifier = self.presence_head = None
        if kind in ("grouped_tokens", "tokens"):
            self.token_classifier = nn.Linear(D, num_classes).apply(initialize)
        if kind in ("grouped_tokens", "tokens", "grouped_queries"):
            self.presence_head = nn.Linear(D, 1).apply(initialize)
        self.unet = UNet(config.unet_width, config.unet_depth, config.conv_init_std)
        self.mask_head = MaskHead(self.unet.out_channels, D, config.conv_init_std)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def predict(self, magnitude: Tensor) -> Prediction:
        """Pass log-frequency magnitudes [B, 1, R, M] of mixtures through the network."""
        spectrogram = log_spectrogram(magnitude, self.config.input_norm)
        vectors, tokens, assignment = self.branch(spectrogram)
        return Prediction(
            features=self.unet(spectrogram.contiguous(memory_format=torch.channels_last)),
            vectors=vectors,
            presence_logits=None if self.presence_head is None else self.presence_head(vectors).squeeze(-1),
            tokens=tokens,
            assignment=assignment,
        )

    def mask_logits(self, prediction: Prediction, class_ids: Tensor) -> Tensor:
        """Mask logits [B, N, R, M] of the named classes [B, N]; of NO_CLASS, some that mean nothing."""
        return at_least_float32(self.mask_head(prediction.features, self.select(prediction, class_ids)))

    def select(self, prediction: Prediction, class_ids: Tensor) -> Tensor:
        """Vectors g [B, N, D] of the named classes, or of the slots one after the other."""
        if self.config.source_vectors == "pooled_slots":
            return prediction.vectors
        return of_classes(prediction.vectors, class_ids)

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses (SGN eq. 7-9): reconstruction (mean over bins, sum over sources), tokens and presence.

        Mixtures may have different numbers of sources. Slots take sources in the order of the least loss.
        """
        config = self.config
        magnitude, targets = self._targets(batch)
        weights = loudness_weights(magnitude) if config.weighted_loss else None
        prediction = self.predict(magnitude)
        logits = self.mask_logits(prediction, batch.class_ids)
        if config.source_vectors == "pooled_slots":
            reconstruction = permutation_invariant_loss(pairwise_mask_loss(logits, targets, weights))
        else:
            reconstruction = (mask_loss(logits, targets, weights) * batch.present).sum(dim=1)
        losses = {"reconstruction": reconstruction.mean()}
        total = losses["reconstruction"]
        if self.token_classifier is not None:
            losses["token"] = token_loss(self.token_classifier(self.branch.class_tokens), config.group_reduction)
            total = total + config.token_loss_weight * losses["token"]
        if prediction.presence_logits is not None:
            heard = self._heard(batch)
            losses["presence"] = presence_loss(prediction.presence_logits, heard, config.group_reduction)
            total = total + config.presence_loss_weight * losses["presence"]
        return {**losses, "total": total}

    @torch.no_grad()
    def _targets(self, batch: MixtureBatch) -> tuple[Tensor, Tensor]:
        """The mixtures' log-frequency magnitudes [B, 1, R, M] and the masks to learn [B, N, R, M]."""
        mixture, references = mix(batch)
        magnitudes = self.front_end.stft(torch.cat([mixture[:, None], references], dim=1)).abs()
        magnitudes = self.front_end.warp(magnitudes)
        return magnitudes[:, :1], ideal_masks(magnitudes[:, 1:], magnitudes[:, :1], self.config.masks)

    def _heard(self, batch: MixtureBatch) -> Tensor:
        """Truth y, bool [B, C]: which classes are in the mixtures."""
        return classes_among(batch.class_ids, batch.present, self.num_classes)

    @torch.no_grad()
    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] for the class constraint (e_i is i, which no mixture enters) and for presence above 0.5."""
        counts = {}
        if self.token_classifier is not None:
            counts["token"] = token_counts(self.token_classifier(self.branch.class_tokens))
        if batch is not None and (presence := self.presence(mix(batch)[0])) is not None:
            counts["presence"] = confusion_counts(presence > 0.5, self._heard(batch))
        return counts

    @torch.no_grad()
    def presence(self, mixture: Tensor) -> Tensor | None:
        """Probability [B, C] of each class in mixtures [B, T], without any masks; None without a presence head."""
        if self.presence_head is None:
            return None
        magnitude = self.front_end.warp(self.front_end.stft(mixture).abs())[:, None]
        vectors, _, _ = self.branch(log_spectrogram(magnitude, self.config.input_norm))
        return self.presence_head(vectors).squeeze(-1).float().sigmoid()

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates by masks of the named classes [B, N], or of slots, with the mixture's phase; predicted ones as
        alternatives.

        Raises UsageError if no classes are named where they have to be, or if slots are to separate another number of
        sources than theirs.
        """
        if self.config.source_vectors == "pooled_slots":
            N = self.config.num_slots
            require(
                query.room == N and bool((query.num_sources == N).all()),
                f"pooled_slots separates {N} sources, no other number: test it on such mixtures",
            )
            class_ids = torch.full((len(mixture), N), NO_CLASS, device=mixture.device)
        else:
            class_ids = query.named
        transform = self.front_end.stft(mixture)
        prediction = self.predict(self.front_end.warp(transform.abs())[:, None])
        own = self._reading(transform, prediction, class_ids)
        alternatives = {}
        if query.alternatives and self.config.masks == "binary" and own.masks is not None:
            alternatives[SOFT_MASKS] = replace(own, estimates=self.front_end.apply_soft_mask(transform, own.masks))
        intermediates = {"vectors": prediction.vectors, "source_vectors": self.select(prediction, class_ids)}
        for name in ("tokens", "assignment"):
            if (value := getattr(prediction, name)) is not None:
                intermediates[name] = value
        if prediction.presence_logits is not None:
            presence = intermediates["presence"] = prediction.presence_logits.float().sigmoid()
        if query.alternatives and prediction.presence_logits is not None:
            presence = intermediates["presence"]
            as_many = most_probable(presence, (class_ids >= 0).sum(dim=1), class_ids.shape[1])
            any_number = most_probable(presence, None, max(class_ids.shape[1], ROOM_FOR_SOURCES))
            for name, predicted in ((PREDICTED_CLASSES, as_many), (PREDICTED_NUMBER, any_number)):
                alternatives[name] = self._reading(transform, prediction, predicted)
        return replace(own, intermediates=intermediates, alternatives=alternatives)

    def _reading(self, transform: Tensor, prediction: Prediction, class_ids: Tensor) -> Separation:
        """The separation into classes [B, N]; masks are zeros for NO_CLASS, where classes choose."""
        masks = self.mask_logits(prediction, class_ids).sigmoid()
        if self.config.source_vectors != "pooled_slots":
            masks = masks * (class_ids >= 0)[..., None, None]
        binary = self.config.masks == "binary"
        apply = self.front_end.apply_binary_mask if binary else self.front_end.apply_soft_mask
        return Separation(estimates=apply(transform, masks), masks=masks, class_ids=class_ids)
