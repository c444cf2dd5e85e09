"""Which classes there are: in the sources of mixtures, and in what a model finds probable."""

from __future__ import annotations

import torch
from torch import Tensor

from cocktail.types import NO_CLASS


def classes_among(class_ids: Tensor, present: Tensor, num_classes: int) -> Tensor:
    """y, bool [B, C]: which classes the sources [B, N] of mixtures have, of those that are present and of a class."""
    counts = torch.zeros(len(class_ids), num_classes, device=class_ids.device)
    named = present & (class_ids >= 0)
    return counts.scatter_add_(1, class_ids.clamp(min=0), named.float()) > 0


def most_probable(presence: Tensor, counts: Tensor | None, room: int) -> Tensor:
    """The most probable classes [B, min(room, C)] of presence [B, C], the best first, then NO_CLASS.

    As many as `counts` [B], or those above 0.5, and one at least (SGN section III-C names neither rule).
    """
    values, found = presence.topk(min(room, presence.shape[1]), dim=1)
    places = torch.arange(found.shape[1], device=found.device)
    if counts is not None:
        return found.where(places < counts[:, None], NO_CLASS)
    return found.where((values > 0.5) | (places == 0), NO_CLASS)
