"""CoarsetoFine, classes and then what of a sound and a picture is each class's (Qian, Hu, Dinkel, Wu, Xu and Lin,
"Multiple Sound Sources Localization from Coarse to Fine", ECCV 2020).

It learns in two stages, each a run that starts from the one before. Coarse: which classes are heard, which are seen,
and whether a picture and a sound belong together. Fine: beside these, what a class's Grad-CAM picks out of a sound and
out of a picture has one vector, apart from those of other classes and clips.

Grad-CAM is here in closed form. A class's score is linear in the mean over P locations, s_c = <W_c, mean_p f_p>. So its
gradient at each location is W_c / P, the mean gradient is the same, and the map is relu(<W_c, f_p>) / P. It needs no
backward pass, so there are maps where there are no gradients, too. The factor 1 / P changes neither a weighted mean nor
a map's order, and is left out.

Shape letters: B batch, K pictures of a mixture, V views, N sources, C classes, T samples, P locations of a view,
Q cells of a sound, D width, A width of the vectors that are aligned; M pictures, and R sounds of all workers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cocktail.audio.mixing import superpose
from cocktail.config.mixing import Mixing
from cocktail.layers.class_maps import ClassMapLocalizer
from cocktail.layers.classes import classes_in
from cocktail.layers.encoders import unit
from cocktail.layers.stages import LearnsInStages
from cocktail.layers.two_towers import TowersConfig
from cocktail.layers.views import view_of
from cocktail.losses.class_constraint import presence_loss
from cocktail.losses.correspondence import Pairs, correspondence_loss
from cocktail.metrics.classification import confusion_counts
from cocktail.numerics.gathering import gather_rows
from cocktail.numerics.precision import at_least_float32
from cocktail.numerics.randomness import rows_are_counted
from cocktail.types import MixtureBatch, require

STAGES = ("coarse", "fine")
_EPS = 1e-6
"""Added to Grad-CAM where it weighs: a class that it finds nowhere has the mean of all places."""


@dataclass(frozen=True, kw_only=True)
class CoarseToFineConfig(TowersConfig):
    """The published network, with the true classes where it has pseudo-labels."""

    dilate: bool = True
    stage: Literal["coarse", "fine"] = "coarse"
    """Stage of training: classes and correspondence; or alignment of what is a class's, too. Answers in the first are
    Grad-CAM's alone."""
    align_width: int = 128
    """Width of the vectors that are aligned."""
    margin: float = 1.4
    """Distance of unit vectors beyond which those of other classes or clips are far enough; of two that have nothing in
    common it is 1.41."""
    alignment_weight: float = 1.0
    """Weight of the alignment, in the second stage."""
    correspondence_weight: float = 1.0
    """Weight of the loss of pictures and sounds belonging together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.margin <= 2, f"margin must be in (0, 2], as unit vectors are no further apart: {self.margin}")
        require(self.align_width >= 1, f"align_width must be at least 1, not {self.align_width}")
        for name in ("alignment_weight", "correspondence_weight"):
            require(getattr(self, name) >= 0, f"{name} must not be negative, not {getattr(self, name)}")

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures without pictures, of another rate, or of sources that no class names."""
        super().require_test_mixing(mixing)
        mixing.require_one_class("CoarsetoFine")

    def build(self, num_classes: int) -> CoarseToFine:
        """The network for a list of classes, freshly initialised from torch's random state."""
        return CoarseToFine(self, num_classes)


SMALL_COARSE_TO_FINE = CoarseToFineConfig(
    width=64, resnet_width=16, visual_stages=2, dilate=False, align_width=32, initial_weights="none"
)
"""Under a million parameters, for some minutes a stage on two cores; the encoders of SMALL_AVGN."""


class BelongTogether(nn.Module):
    """Logits [M, R] of pictures [M, D] and sounds [R, D] being of one clip: two layers on both side by side."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.of_pictures = nn.Linear(width, hidden)
        self.of_sounds = nn.Linear(width, hidden, bias=False)
        self.last = nn.Linear(hidden, 1)

    def forward(self, pictures: Tensor, sounds: Tensor) -> Tensor:
        return self.last(F.relu(self.of_pictures(pictures)[:, None] + self.of_sounds(sounds))).squeeze(-1)


class CoarseToFine(ClassMapLocalizer, LearnsInStages):
    """A `cocktail.types.Localizer` and `Classifier`."""

    def __init__(self, config: CoarseToFineConfig, num_classes: int) -> None:
        super().__init__(config, "map", unit_length=False)
        self.config = config
        self.num_classes = num_classes
        D, A = config.width, config.align_width
        # Without biases, of which Grad-CAM knows nothing.
        self.audio_head = nn.Linear(D, num_classes, bias=False)
        self.visual_head = nn.Linear(D, num_classes, bias=False)
        self.correspondence = BelongTogether(D, A)
        self.align_audio, self.align_visual = (
            nn.Sequential(nn.Linear(D, 2 * D, bias=False), nn.ReLU(), nn.Linear(2 * D, A, bias=False)) for _ in range(2)
        )
        self.complete()
        self.rest(("align_audio", "align_visual") if config.stage == "coarse" else ())

    def grad_cam(self, head: nn.Linear, features: Tensor, class_ids: Tensor) -> Tensor:
        """P times Grad-CAM [B, N, P] of the named classes [B, N] on features [B, N, P, D]. No gradient passes."""
        weights = at_least_float32(head.weight.detach())[class_ids.clamp(min=0)]
        return torch.einsum("bnd,bnpd->bnp", weights, features.detach()).relu()

    def _gathered(self, head: nn.Linear, align: nn.Module, features: Tensor, class_ids: Tensor) -> Tensor:
        """Unit vectors [B, N, A] of what Grad-CAM picks out of features [B, N, P, D]."""
        weights = self.grad_cam(head, features, class_ids) + _EPS
        picked = torch.einsum("bnp,bnpd->bnd", weights / weights.sum(dim=2, keepdim=True), features)
        return unit(align(picked))

    def of_classes_heard(self, sounds: Tensor, class_ids: Tensor) -> Tensor:
        """Unit vectors [B, N, A] of what of sounds [B, Q, D] is the named classes'."""
        cells = sounds[:, None].expand(-1, class_ids.shape[1], -1, -1)
        return self._gathered(self.audio_head, self.align_audio, cells, class_ids)

    def likelihood(self, heard: Tensor, locations: Tensor, class_ids: Tensor) -> Tensor:
        """Grad-CAM of the picture; in the second stage times the cosine of a location and what is heard of the class,
        where that is above 0.

        Differs from the published test, which takes the cosine alone: what looks like another class has no place here.
        """
        seen = self.grad_cam(self.visual_head, locations, class_ids)
        if self.config.stage == "coarse":
            return seen
        return seen * torch.einsum("bna,bnpa->bnp", heard, unit(self.align_visual(locations))).relu()

    def presence(self, sounds: Tensor) -> Tensor:
        return at_least_float32(self.audio_head(sounds.mean(dim=1))).sigmoid()

    def _logits(self, batch: MixtureBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Sounds [B, Q, D], locations [B, V, P, D], and logits of classes being heard [B, C] and seen [B, V, C]."""
        assert batch.pictures is not None
        sounds, seen = self.sounds(superpose(batch)), self.locations(batch.pictures[:, :, 0], self.view)
        logits = {
            "presence": self.audio_head(sounds.mean(dim=1)),
            "visual_presence": self.visual_head(seen.mean(dim=2)),
        }
        return sounds, seen, logits

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Losses: classes heard and seen, correspondence, and, in the second stage, alignment."""
        config = self.config
        sounds, seen, logits = self._logits(batch)
        losses = {name: presence_loss(each, classes_in(batch, each)) for name, each in logits.items()}
        total = losses["presence"] + losses["visual_presence"]
        present = batch.present[:, : seen.shape[1]]
        heard = sounds.mean(dim=1, keepdim=True).expand(-1, present.shape[1], -1)
        losses["correspondence"] = correspondence_loss(self._of_one_clip, seen.mean(dim=2), heard, present)
        total = total + config.correspondence_weight * losses["correspondence"]
        if config.stage == "fine":
            losses["alignment"] = self._alignment(sounds, seen, batch)
            total = total + config.alignment_weight * losses["alignment"]
        return {**losses, "total": total}

    def _of_one_clip(self, pairs: Pairs, pictures: Tensor, sounds: Tensor) -> Tensor:
        logits = self.correspondence(pictures, sounds)
        return (F.softplus(-pairs.of_own(logits)) + pairs.mean_over_others(F.softplus(logits))) / 2

    def _alignment(self, sounds: Tensor, seen: Tensor, batch: MixtureBatch) -> Tensor:
        """The contrast of classes' vectors by their distance d: the mean of d^2 of what is heard and seen of one class
        in one mixture, and that of max(0, margin - d)^2 of all other pairs of all workers' batches.

        Differs from the published code, which aligns the classes that both heads find likelier than 0.3: those that are
        there.
        """
        class_ids, here = batch.class_ids, gather_rows(batch.present.float() * rows_are_counted()).flatten() > 0
        locations = seen[:, view_of(class_ids, seen)]
        with torch.autocast(sounds.device.type, enabled=False):
            heard = gather_rows(self.of_classes_heard(sounds, class_ids)).flatten(0, 1)
            shown = gather_rows(self._gathered(self.visual_head, self.align_visual, locations, class_ids)).flatten(0, 1)
            # Of equal vectors the distance has no slope.
            distance = (2 - 2 * heard @ shown.T).clamp(min=_EPS)
            own = torch.eye(len(here), dtype=torch.bool, device=here.device)
            both = here[:, None] & here
            near = distance.masked_fill(~(both & own), 0).sum() / here.sum().clamp(min=1)
            short = (self.config.margin - distance.sqrt()).relu().square().masked_fill(~both | own, 0)
            return near + short.sum() / (both & ~own).sum().clamp(min=1)

    @torch.no_grad()
    def confusion(self, batch: MixtureBatch | None) -> dict[str, Tensor]:
        """Counts [C, 3] of presence above 0.5, heard and seen."""
        if batch is None:
            return {}
        _, _, logits = self._logits(batch)
        return {name: confusion_counts(each > 0, classes_in(batch, each)) for name, each in logits.items()}
