"""What is seen and what is only heard: the classes of a mixture's sources by its sound and by pictures of some of them
(AVSA-Sep, Su et al., section 3.2).

Shape letters: B batch, N sources, P pictures of a source, C classes, D width, R log-frequency rows, M frames, H and W
height and width of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cocktail.layers.class_conditioning import ClassHead
from cocktail.layers.classes import classes_among, most_probable
from cocktail.layers.encoders import ImageNetScale, VGGish
from cocktail.layers.resnet import ResNet18
from cocktail.metrics.classification import confusion_counts
from cocktail.numerics.precision import at_least_float32
from cocktail.numerics.randomness import draw_rows
from cocktail.types import NO_CLASS, MixtureBatch


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What a parser finds in mixtures."""

    visible: Tensor
    """Logits [B, C] of each class being heard and seen."""
    audible: Tensor
    """Logits [B, C] of each class being heard."""

    def invisible(self, threshold: float) -> Tensor:
        """bool [B, C]: the classes that are heard and not seen, those above a probability in one and not the other."""
        return (self.audible.sigmoid() > threshold) & ~(self.visible.sigmoid() > threshold)

    def name_unseen(self, unseen: Tensor, class_ids: Tensor, threshold: float) -> Tensor:
        """class_ids [B, N] with those of sources that are `unseen`, bool [B, N], in place of what they are: the most
        probable classes that are heard, none of them seen, as many as there are such sources. NO_CLASS if there are
        too few."""
        score = self.audible.sigmoid().masked_fill(self.visible.sigmoid() > threshold, -1.0)
        ranked = most_probable(score, unseen.sum(dim=1), unseen.shape[1])
        ranked = ranked.where(score.gather(1, ranked.clamp(min=0)) >= 0, NO_CLASS)
        place = unseen.cumsum(dim=1) - 1
        named = ranked.gather(1, place.clamp(0, ranked.shape[1] - 1)).where(place < ranked.shape[1], NO_CLASS)
        return torch.where(unseen, named, class_ids)

    def invisible_ids(self, threshold: float, room: int) -> Tensor:
        """Classes [B, min(room, C)] that are heard and not seen, the most probable first, then NO_CLASS."""
        found = self.invisible(threshold)
        score = self.audible.sigmoid().masked_fill(~found, -1.0)
        return most_probable(score, found.sum(dim=1), room)


class SceneParser(nn.Module):
    """Two heads: visible, of a sound and pictures by two encoders whose vectors are added; audible, of the sound alone
    by an encoder of its own."""

    def __init__(self, num_classes: int, resnet_width: int = 64, stages: int = 4) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.scale = ImageNetScale()
        self.resnet = ResNet18(width=resnet_width, stages=stages, dilated=True)
        D = self.resnet.out_channels
        self.visible_audio = VGGish(width=D // 8)
        self.audible_audio = VGGish(width=D // 8)
        self.visible_head = ClassHead(D, num_classes)
        self.audible_head = ClassHead(D, num_classes)

    def forward(self, spectrogram: Tensor, pictures: Tensor | None, shown: Tensor) -> Scene:
        """The scene of log spectrograms [B, 1, R, M] and pictures uint8 [B, N, P, H, W, 3] of the sources that are
        `shown`, bool [B, N]; the others' mean nothing."""
        fused = at_least_float32(self.visible_audio(spectrogram))
        if pictures is not None:
            fused = fused + self._look(pictures, shown)
        return Scene(visible=at_least_float32(self.visible_head(fused[..., None])), audible=self.audible(spectrogram))

    def audible(self, spectrogram: Tensor) -> Tensor:
        """Logits [B, C] of each class being heard in log spectrograms [B, 1, R, M]."""
        heard = at_least_float32(self.audible_audio(spectrogram))
        return at_least_float32(self.audible_head(heard[..., None]))

    def _look(self, pictures: Tensor, shown: Tensor) -> Tensor:
        """The mean [B, D] over the places of all pictures of shown sources; 0 where none is shown."""
        B, N, P = pictures.shape[:3]
        images = self.scale(pictures.flatten(0, 2), self.resnet.conv1.weight.dtype)
        each = at_least_float32(self.resnet(images).mean(dim=(2, 3))).unflatten(0, (B, N, P)).mean(dim=2)
        return (each * shown[..., None]).sum(dim=1) / shown.sum(dim=1, keepdim=True).clamp(min=1)

    def confusion(self, spectrogram: Tensor, batch: MixtureBatch, threshold: float) -> dict[str, Tensor]:
        """Counts [C, 3] by what is said of a test batch: of classes that are heard, seen, and heard but not seen."""
        shown = torch.zeros_like(batch.present) if batch.shown is None else batch.shown
        scene = self(spectrogram, batch.pictures, shown)
        hidden = self.classes_of(batch, batch.present & ~shown)
        return {
            "presence": confusion_counts(scene.audible.sigmoid() > threshold, self.classes_of(batch, batch.present)),
            "visual_presence": confusion_counts(scene.visible.sigmoid() > threshold, self.classes_of(batch, shown)),
            "invisible": confusion_counts(scene.invisible(threshold), hidden),
        }

    def classes_of(self, batch: MixtureBatch, sources: Tensor) -> Tensor:
        """bool [B, C]: the classes of some sources, bool [B, N]."""
        return classes_among(batch.class_ids, sources, self.num_classes)


def stand_in_pictures(batch: MixtureBatch) -> Tensor | None:
    """A batch's pictures, with those of a source that is seen for black ones, which would count in BatchNorm's
    statistics: one of the same mixture, or else of the first that shows any."""
    if batch.pictures is None or batch.shown is None:
        return batch.pictures
    first, shows = batch.shown.int().argmax(dim=1), batch.shown.any(dim=1)
    rows = torch.arange(len(first), device=first.device).where(shows, shows.int().argmax())
    stand_in = batch.pictures[rows, first[rows]][:, None]
    return torch.where(batch.shown[:, :, None, None, None, None], batch.pictures, stand_in)


def drawn_among(shown: Tensor) -> Tensor:
    """Some of the sources bool [B, N], their number drawn evenly from none to all of each row's: "mix and predict"."""
    N = shown.shape[1]
    numbers = draw_rows(lambda rows: torch.rand(rows, N + 1, device=shown.device), len(shown))
    rank = numbers[:, :N].masked_fill(~shown, 2.0).argsort(dim=1).argsort(dim=1)
    count = (numbers[:, N] * (shown.sum(dim=1) + 1)).floor()
    return shown & (rank < count[:, None])
