"""Co-Separation, separation by objects in the pictures of the sources (Gao and Grauman, "Co-Separating Sounds of Visual
Objects", ICCV 2019), and AV-Mix-and-Separate, the same network without what makes it co-separate.

A U-Net hears a mixture, and meets in its narrowest maps what is seen of an object; what comes out is the object's
mask. The masks of all objects of a video, and of a scene that is added to them, have to add up to the video's share of
the mixture, and a classifier has to hear in each separated sound what its object is.

Differs from the paper: there is no detector. The whole picture of a source, or a box of its class that the shards have,
stands for its video's only object, and the source's class for the detected one. The paper's scene is a picture of an
unrelated place, drawn at random for each video, whose class is one more; such pictures say nothing but that they are
scenes, so a vector that is learned stands for all of them, and a mixture's videos have one scene mask.

Shape letters: B batch, N sources, O objects (and scenes) of a mixture, P pictures of a source, L pictures or sounds, C
classes, T samples, F linear bins, R log-frequency rows, M frames, V length of a vector, S height and width of a
picture, H and W height and width of a map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.stft import FrontEnd
from cocktail.config.mixing import Mixing
from cocktail.config.model import ParameterGroup, Start
from cocktail.layers.encoders import ImageNetScale
from cocktail.layers.masking import MaskingConfig, magnitudes_of, separation_by_masks
from cocktail.layers.pixel_vectors import require_shown, sources_shown
from cocktail.layers.resnet import ResNet18, stride_of
from cocktail.layers.spectrogram import log_spectrogram
from cocktail.losses.mask_loss import loudness_weights, mean_over_sources
from cocktail.numerics.precision import at_least_float32
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require

MOST = 5.0
"""Limit of the ratio masks to learn: where phases cancel, a source is louder than the mixture."""


@dataclass(frozen=True, kw_only=True)
class CoSeparationConfig(MaskingConfig):
    """The paper's network and losses, with a source's picture, or a box in it, for the detected object: there is no
    detector.

    A source of several pictures has the mean of their masks, as the authors' code has the mean of estimates in testing.
    """

    sees: ClassVar[bool] = True
    needs_known_classes: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ("torchvision",)

    conv_init_std: float = 0.02
    """Standard deviation of the weights of convolutions and linear layers at the start, but for the ResNet-18s'."""
    masks: Literal["ratio"] = "ratio"
    """Targets, and how masks are used: as they are, taught by the absolute difference; the paper has no others."""
    objects: Literal["frame", "box"] = "frame"
    """What stands for the objects that the paper's detector finds in a video, one of the source's class: the whole
    picture; or the largest box of that class in the shards, with --mixing.picture-part box. It is a setting so that
    every run says so."""
    scene: bool = True
    """Add a scene to each mixture, for what is heard and not seen, whose class is one more than there are. A learned
    vector stands for what would be seen of it. Answers leave it out."""
    class_weight: float = 0.05
    """Weight of the loss of the classes that a classifier hears in separated sounds; 0 leaves the classifier out."""
    target_scale: float = 1.0
    """Factor of the ratio masks to learn, before they are cut at 5. 2 is the authors' code, which halves a mixture of
    two and not its parts: where a source is alone, its object and the scene then both let everything through."""
    vector_width: int = 512
    """Length of the vector of an object, which the U-Net meets in each place of its narrowest map."""
    cell_width: int = 128
    """Channels of each place of a picture, all of which make its vector."""
    picture_side: int = 224
    """Height and width of a picture, in pixels: a layer of its own size reads all places. It has to be that of the
    mixtures, --mixing.picture-side."""
    resnet_width: int = 64
    """Channels of the first stage of the ResNet-18s that see and that classify; torchvision's weights have 64."""
    resnet_stages: Literal[2, 3, 4] = 4
    """Stages of the ResNet-18s: of four a place is 32 pixels wide, and a picture of 224 pixels has 7 x 7."""
    initial_weights: str = "auto"
    """Weights that the ResNet-18s start from, that of the classifier but for its first convolution: file or URI of
    torchvision's; `auto` takes ImageNet's where torchvision, or an earlier run of the same output, keeps them, and
    fails where neither does; `none` are random ones. What sees learns at a tenth of the rate of all else, 1e-5 and
    1e-4; from random weights at the whole of it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rows = self.front_end.num_rows
        require(
            rows >= 2 ** (self.unet_depth + 1),
            f"unet_depth {self.unet_depth} leaves one of {rows} rows, and BatchNorm needs more than one place",
        )
        require(
            self.picture_side % self.stride == 0,
            f"picture_side {self.picture_side} must be a multiple of {self.stride} pixels",
        )
        require(self.class_weight >= 0, f"class_weight must not be negative, not {self.class_weight}")
        require(self.target_scale > 0, f"target_scale must be positive, not {self.target_scale}")

    @property
    def stride(self) -> int:
        """Pixels from a place to the next."""
        return stride_of(self.resnet_stages)

    def build(self, num_classes: int) -> CoSeparation:
        """The network, freshly initialised from torch's random state; its classifier knows the classes."""
        return CoSeparation(self, num_classes)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, of another size, or of sources that no class tells apart."""
        super().require_test_mixing(mixing)
        require_shown(mixing, self.stride)
        require(
            mixing.picture_side == self.picture_side,
            f"this model reads pictures of {self.picture_side} pixels, and those of the mixtures have "
            f"{mixing.picture_side}: let --mixing.picture-side and model.picture_side be the same",
        )
        part = {"frame": "whole", "box": "box"}[self.objects]
        require(
            mixing.picture_part == part,
            f"model.objects {self.objects} goes with --mixing.picture-part {part}, not with {mixing.picture_part}",
        )

    def start(self) -> Start:
        """ImageNet's weights, of all ResNet-18s that there are."""
        modules = ("visual_encoder.resnet", *(("classifier.resnet",) if self.class_weight else ()))
        return Start(setting="initial_weights", chosen=self.initial_weights, modules=modules)

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        """What sees, which may learn more slowly, and all else."""
        visual = tuple(model.get_submodule("visual_encoder").parameters())
        known = {id(parameter) for parameter in visual}
        others = tuple(parameter for parameter in model.parameters() if id(parameter) not in known)
        seeing = ParameterGroup(parameters=visual, rate_factor=self.start().rate_factor)
        return seeing, ParameterGroup(parameters=others)


AV_MIX_SEPARATE = CoSeparationConfig(scene=False, class_weight=0.0)
"""AV-Mix-and-Separate: the network learns the mask of each whole picture's sound, and nothing else."""

SMALL_CO_SEPARATION = CoSeparationConfig(
    unet_width=16,
    input_norm="mixture",
    vector_width=128,
    cell_width=32,
    picture_side=128,
    resnet_width=16,
    resnet_stages=3,
    initial_weights="none",
)
"""Three and a half million parameters, for some minutes on two cores."""
SMALL_AV_MIX_SEPARATE = replace(SMALL_CO_SEPARATION, scene=False, class_weight=0.0)


class CoSeparation(nn.Module):
    """A `cocktail.types.Separator`."""

    def __init__(self, config: CoSeparationConfig, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.front_end = FrontEnd(config.front_end)
        self.visual_encoder = ObjectEncoder(config)
        self.unet = ObjectUNet(config.unet_width, config.unet_depth, config.vector_width, config.conv_init_std)
        # As long as what the encoder's last layer gives at the start.
        self.scene = nn.Parameter(torch.randn(config.vector_width)) if config.scene else None
        self.classifier = SoundClassifier(config, num_classes + 1) if config.class_weight else None
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def masks(self, magnitude: Tensor, vectors: Tensor) -> Tensor:
        """Masks [B, O, R, M] of objects with the vectors [B, O, V] in log-frequency magnitudes [B, 1, R, M]."""
        spectrogram = log_spectrogram(magnitude, self.config.input_norm)
        logits = self.unet(spectrogram.contiguous(memory_format=torch.channels_last), vectors)
        return at_least_float32(logits).sigmoid()

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss of the sums of masks, the mean over bins, then over sources; that of the classes; and both, weighed."""
        assert batch.pictures is not None
        config, N, P = self.config, batch.present.shape[1], batch.pictures.shape[2]
        magnitude, sources = magnitudes_of(self.front_end, batch)
        targets = (config.target_scale * sources / magnitude.clamp(min=1e-10)).clamp(0.0, MOST)
        vectors = self.visual_encoder.of_sources(batch.pictures, batch.present).flatten(1, 2)
        if self.scene is not None:
            vectors = torch.cat([vectors, self.scene.to(vectors.dtype).expand(len(vectors), 1, -1)], dim=1)
        masks = self.masks(magnitude, vectors)
        of_sources, scenes = masks[:, : N * P].unflatten(1, (N, P)).mean(dim=2), masks[:, N * P :]
        bins = (of_sources + scenes.sum(dim=1, keepdim=True) - targets).abs()
        weighed = loudness_weights(magnitude) * bins if config.weighted_loss else bins
        reconstruction = mean_over_sources(weighed.mean(dim=(2, 3)), batch.present)
        if self.classifier is None:
            return {"reconstruction": reconstruction, "total": reconstruction}
        heard = self.class_losses(magnitude * torch.cat([of_sources, scenes], dim=1), batch.class_ids)
        # A video has an object and, where there are any, a scene.
        of_videos = torch.cat([heard[:, :N, None], heard[:, None, N:].expand(-1, N, -1)], dim=2).mean(dim=2)
        classification = mean_over_sources(of_videos, batch.present)
        total = reconstruction + config.class_weight * classification
        return {"reconstruction": reconstruction, "classification": classification, "total": total}

    def class_losses(self, separated: Tensor, class_ids: Tensor) -> Tensor:
        """Cross-entropies [B, O] of what the classifier hears in separated magnitudes [B, O, R, M], first those of
        sources of the classes [B, N], then scenes; 0 for NO_CLASS."""
        assert self.classifier is not None
        spectrograms = log_spectrogram(separated.flatten(0, 1)[:, None], self.config.input_norm)
        scenes = separated.shape[1] - class_ids.shape[1]
        labels = F.pad(class_ids, (0, scenes), value=self.num_classes)
        logits = at_least_float32(self.classifier(spectrograms.contiguous(memory_format=torch.channels_last)))
        losses = F.cross_entropy(logits, labels.flatten(), ignore_index=NO_CLASS, reduction="none")
        return losses.view_as(labels)

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates in the order of the sources' pictures, with the mixture's phase; masks are zeros where there is no
        source.

        Raises UsageError if there are not pictures of each source by itself.
        """
        pictures, seen, class_ids = sources_shown(query)
        transform = self.front_end.stft(mixture)
        vectors = self.visual_encoder.of_sources(pictures, seen)
        masks = self.masks(self.front_end.warp(transform.abs())[:, None], vectors.flatten(1, 2))
        masks = masks.unflatten(1, vectors.shape[1:3]).mean(dim=2) * seen[..., None, None]
        looked_at = {"source_vectors": vectors.mean(dim=2)}
        return separation_by_masks(
            self.config, self.front_end, transform, masks, class_ids, looked_at, seen, query.unseen
        )


class ObjectEncoder(nn.Module):
    """Vectors [L, V] of pictures uint8 [L, S, S, 3]: a ResNet-18, its channels made fewer place by place, and a layer
    that reads all places. Where something is matters to it."""

    def __init__(self, config: CoSeparationConfig) -> None:
        super().__init__()
        self.scale = ImageNetScale()
        self.resnet = ResNet18(width=config.resnet_width, stages=config.resnet_stages)
        cells = (config.picture_side // config.stride) ** 2
        self.project = nn.Sequential(
            nn.Conv2d(self.resnet.out_channels, config.cell_width, kernel_size=1),
            nn.BatchNorm2d(config.cell_width),
            nn.ReLU(),
        )
        self.linear = nn.Linear(config.cell_width * cells, config.vector_width)
        for module in (self.project, self.linear):
            initialize(module, config.conv_init_std)

    def forward(self, pictures: Tensor) -> Tensor:
        cells = self.project(self.resnet(self.scale(pictures, self.linear.weight.dtype)))
        return self.linear(cells.flatten(1))

    def of_sources(self, pictures: Tensor, present: Tensor) -> Tensor:
        """Vectors [B, N, P, V] of pictures uint8 [B, N, P, S, S, 3] of sources. Those of sources that are not `present`
        are the first's: black pictures would count in BatchNorm's statistics."""
        seen = torch.where(present[:, :, None, None, None, None], pictures, pictures[:, :1])
        return self(seen.flatten(0, 2)).unflatten(0, pictures.shape[:3])


class ObjectUNet(nn.Module):
    """`depth` halvings and doublings: logits [B, O, H, W] of the masks of objects with vectors [B, O, V] in
    spectrograms [B, 1, H, W], H and W multiples of 2^depth.

    Down: convolution 4x4 stride 2, BatchNorm, LeakyReLU 0.2. Up: transposed convolution 4x4 stride 2, BatchNorm, ReLU;
    the last is a convolution alone. Each reads what comes from below, vectors in each place at first, beside what its
    level has on the way down.

    What is heard is the same for all objects of a mixture, and convolutions add up what they read: each mixture goes
    down once, and its part of each convolution on the way up is made once.
    """

    def __init__(self, width: int, depth: int, vector_width: int, init_std: float) -> None:
        super().__init__()
        widths = [width * min(2**level, 8) for level in range(depth)]
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 4, stride=2, padding=1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2))
            for before, after in pairwise([1, *widths])
        )
        below, after = [vector_width, *widths[-2::-1]], [*widths[-2::-1], 1]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(from_below + beside, out, 4, stride=2, padding=1)
            for from_below, beside, out in zip(below, reversed(widths), after, strict=True)
        )
        self.norms = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(out), nn.ReLU()) for out in after[:-1])
        initialize(self, init_std)

    def forward(self, spectrogram: Tensor, vectors: Tensor) -> Tensor:
        x, levels = spectrogram, []
        for block in self.down:
            x = block(x)
            levels.append(x)
        x = vectors.flatten(0, 1)[..., None, None].expand(-1, -1, *x.shape[2:])
        for convolution, norm, beside in zip(self.up, [*self.norms, nn.Identity()], reversed(levels), strict=True):
            assert isinstance(convolution, nn.ConvTranspose2d)
            D = x.shape[1]
            of_objects = F.conv_transpose2d(x, convolution.weight[:D], stride=2, padding=1)
            of_mixtures = F.conv_transpose2d(beside, convolution.weight[D:], convolution.bias, stride=2, padding=1)
            x = norm((of_objects.unflatten(0, vectors.shape[:2]) + of_mixtures[:, None]).flatten(0, 1))
        return x[:, 0].unflatten(0, vectors.shape[:2])


class SoundClassifier(nn.Module):
    """Logits [L, classes] of separated log spectrograms [L, 1, R, M]: a ResNet-18 and the greatest of all places."""

    def __init__(self, config: CoSeparationConfig, num_classes: int) -> None:
        super().__init__()
        self.resnet = SpectrogramResNet18(in_channels=1, width=config.resnet_width, stages=config.resnet_stages)
        self.linear = nn.Linear(self.resnet.out_channels, num_classes)
        initialize(self.linear, config.conv_init_std)

    def forward(self, spectrograms: Tensor) -> Tensor:
        return self.linear(self.resnet(spectrograms.to(self.linear.weight.dtype)).amax(dim=(2, 3)))


class SpectrogramResNet18(ResNet18):
    """One that may start from torchvision's weights of pictures, but for its first convolution."""

    def load_torchvision(self, state: Mapping[str, Tensor]) -> None:
        super().load_torchvision({**state, "conv1.weight": self.conv1.weight.detach()})


def initialize(network: nn.Module, std: float) -> None:
    """The weights at the start, as in the authors' code: N(0, std), BatchNorm's N(1, 0.02); biases are torch's."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            nn.init.normal_(module.weight, 0.0, std)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)
