"""Classes that there are: in the sources of mixtures, and in what a model finds probable.

Shape letters: B batch, V views, N sources, C classes, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from cocktail.types import NO_CLASS, MixtureBatch

PREDICTED_CLASSES = "predicted classes"
"""The name of a model's alternative for the classes that it predicts itself, of as many sources as there are."""
PREDICTED_NUMBER = "predicted classes and number"
"""The name of the alternative for all the classes that it finds probable, however many."""
ROOM_FOR_SOURCES = 4
"""Sources that a model may find in a mixture by itself, at least."""


def classes_among(class_ids: Tensor, present: Tensor, num_classes: int, labels: Tensor | None = None) -> Tensor:
    """Truth y, bool [..., C]: which classes sources have, of those that are present.

    A source [..., N] has the class of its id, or none; given `labels` bool [..., N, C], those of its labels.
    """
    if labels is None:
        labels = class_ids[..., None] == torch.arange(num_classes, device=class_ids.device)
    return (labels & present[..., None]).any(dim=-2)


def classes_in(batch: MixtureBatch, logits: Tensor) -> Tensor:
    """Truth y, bool, of the form of presence logits: the classes of all sources of a mixture [B, C] or [B, 1, C], or
    the class that each of several views shows [B, V, C]."""
    if logits.ndim == 3 and logits.shape[1] > 1:
        return classes_among(batch.class_ids[..., None], batch.present[..., None], logits.shape[-1])
    return classes_among(batch.class_ids, batch.present, logits.shape[-1]).view(logits.shape)


def most_probable(presence: Tensor, counts: Tensor | None, room: int, threshold: float = 0.5) -> Tensor:
    """The most probable classes [B, min(room, C)] of presence [B, C], the best first, then NO_CLASS.

    As many as `counts` [B], or those above a threshold, and one at least (SGN section III-C names neither rule).
    """
    values, class_ids = presence.topk(min(room, presence.shape[1]), dim=1)
    places = torch.arange(class_ids.shape[1], device=class_ids.device)
    if counts is not None:
        return class_ids.where(places < counts[:, None], NO_CLASS)
    return class_ids.where((values > threshold) | (places == 0), NO_CLASS)


def of_classes(vectors: Tensor, class_ids: Tensor, views: Tensor | None = None) -> Tensor:
    """Vectors [B, N, D] of the named classes [B, N], out of those of all classes [B, C, D], or [B, V, C, D] and the
    view of each source [N]. Those of NO_CLASS mean nothing."""
    rows = torch.arange(len(class_ids), device=class_ids.device)[:, None]
    chosen = class_ids.clamp(min=0)
    return vectors[rows, chosen] if views is None else vectors[rows, views, chosen]
