"""A trained model as a recording asks it: what it can do, found out by asking it once, and its answers to windows.

Shape letters: B windows, N sources, C classes, L samples of a window, A what is answered, F bins, M frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from cocktail.audio.stft import ShortTimeTransform
from cocktail.inference.trained import Trained
from cocktail.media.bad_clips import BadClip
from cocktail.types import NO_CLASS, Listener, Localizer, Query, Separation, Separator, UsageError, require

_SAME = 1e-4
"""Difference between waveforms below which they are the same, of full scale."""
_TRIED_LEVEL = 0.1
PRESENCE, VISUAL_PRESENCE = "presence", "visual_presence"
"""Names in a model's answer of the probability of each class being heard, and being seen."""

Masks = Literal["cut", "soft"]


@dataclass(frozen=True, kw_only=True)
class Separating:
    """How a model separates."""

    by_class: bool
    """Whether it answers for the classes that are named."""
    tells_presence: bool
    """Whether it says which classes there are."""
    presence_threshold: float
    """Probability above which it takes a class to be there."""
    masks: Masks | None
    """How its masks make its estimates, out of the mixture's own transform; None where they alone do not."""
    answered: int
    """Samples of a window that are answered."""


class Asked:
    """A trained model on its device."""

    def __init__(self, trained: Trained, device: str) -> None:
        self.trained, self.device = trained, device
        self.model: Any = trained.model.to(device)
        self.sample_rate_hz = trained.mixing.sample_rate_hz
        self.length = trained.mixing.segment_samples
        self.classes = trained.classes
        self.num_sources = trained.mixing.num_sources
        self.sees = isinstance(self.model, Separator) and trained.config.looks
        self.names_unseen = self.sees and trained.config.learns_unseen
        """Whether it separates what it sees by pictures, and what it does not by its class."""
        self.needs_sight = self.sees and not self.names_unseen
        """Whether each source that it separates has to be shown."""

    @property
    def separates(self) -> bool:
        return isinstance(self.model, Separator)

    @property
    def localizes(self) -> bool:
        return isinstance(self.model, Localizer)

    @property
    def grid(self) -> ShortTimeTransform | None:
        """The model's own transform, if it has one."""
        own = getattr(self.model, "front_end", None)
        return own if isinstance(own, ShortTimeTransform) else None

    @cached_property
    def separating(self) -> Separating:
        """What one answer, to a window of noise, says of the model. Raises UsageError of one that does not separate."""
        if not self.separates:
            raise UsageError(f"{self.trained.name} does not separate: use `cocktail localize`")
        mixture = _TRIED_LEVEL * torch.randn(1, self.length, generator=torch.Generator().manual_seed(0))
        found = self.separate(mixture.numpy(), list(range(min(self.num_sources, len(self.classes)))) or None)
        masks = self._masks_of(mixture, found)
        answered = found.estimates.shape[-1]
        if masks is not None and self.grid is not None and found.masks is not None:
            answered = min((found.masks.shape[-1] - 1) * self.grid.hop_length, self.length)
        return Separating(
            by_class=bool((found.class_ids != NO_CLASS).any()) and not (self.needs_sight and self._separates_unnamed),
            tells_presence=PRESENCE in found.intermediates,
            presence_threshold=found.presence_threshold,
            masks=masks,
            answered=answered,
        )

    @property
    def _separates_unnamed(self) -> bool:
        """Whether pictures are enough for it. One that has to be told classes, too, says so, as `Query.named` does."""
        try:
            self.separate(np.zeros((1, self.length), np.float32), None, self.num_sources)
        except UsageError:
            return False
        return True

    @cached_property
    def names_in_one_picture(self) -> bool:
        """Whether one that finds sources by pictures separates named classes, too, out of one picture that shows them
        all. One that needs a picture of each source says so."""
        if not self.needs_sight or self.separating.by_class or len(self.classes) < 2:
            return False
        side = self.trained.mixing.picture_side
        picture = np.zeros((1, 1, side, side, 3), np.uint8)
        try:
            self.separate(np.zeros((1, self.length), np.float32), [0, 1], pictures=picture)
        except UsageError:
            return False
        return True

    def _masks_of(self, mixture: Tensor, found: Separation) -> Masks | None:
        """How masks make the estimates, tried out."""
        grid = self.grid
        if grid is None or found.masks is None:
            return None
        with torch.no_grad():
            transform = grid.stft(mixture.to(self.device))
            tried: dict[Masks, Any] = {"soft": grid.apply_soft_mask, "cut": grid.apply_binary_mask}
            for name, apply in tried.items():
                made = apply(transform, found.masks)
                same = made.shape == found.estimates.shape
                if same and float((made - found.estimates).abs().max()) < _SAME:
                    return name
        return None

    def separate(
        self,
        windows: np.ndarray,
        class_ids: list[int] | list[list[int]] | None,
        num_sources: int | None = None,
        pictures: np.ndarray | None = None,
    ) -> Separation:
        """The answer to windows float32 [B, L]: for named classes, the same for all or of each window its own, or for
        so many sources.

        A model that looks takes pictures uint8 [B, N, H, W, 3], one of each source, or [B, N, P, H, W, 3].
        """
        mixture = torch.from_numpy(np.ascontiguousarray(windows)).to(self.device)
        query = self._query(len(mixture), class_ids, num_sources, pictures)
        with torch.no_grad():
            return self.model.separate(mixture, query)

    def separate_scene(self, windows: np.ndarray, class_ids: list[list[int]], pictures: np.ndarray) -> Separation:
        """The answer to windows float32 [B, L] for the sources of pictures uint8 [B, S, H, W, 3] or [B, S, P, H, W, 3],
        which come first in each row of class ids [B, N], as NO_CLASS or named, and for classes that none shows."""
        B, S = pictures.shape[:2]
        ids = torch.tensor(class_ids, device=self.device)
        places = torch.arange(ids.shape[1], device=self.device)
        seen = (places < S).expand(B, -1)
        shown = torch.zeros((B, ids.shape[1], *pictures.shape[2:]), dtype=torch.uint8)
        shown[:, :S] = torch.from_numpy(pictures)
        query = Query(
            class_ids=ids,
            num_sources=(seen | (ids >= 0)).sum(dim=1),
            pictures=(shown[:, :, None] if shown.ndim == 5 else shown).to(self.device),
            seen=seen,
            alternatives=False,
        )
        with torch.no_grad():
            return self.model.separate(torch.from_numpy(np.ascontiguousarray(windows)).to(self.device), query)

    def scene(self, windows: np.ndarray, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities [B, C] of each class being heard in windows float32 [B, L], and being seen, too, in pictures
        uint8 [B, S, H, W, 3] of them."""
        found = self.separate_scene(windows, [[NO_CLASS] * pictures.shape[1]] * len(windows), pictures)
        return tuple(to_numpy(found.intermediates[name]) for name in (PRESENCE, VISUAL_PRESENCE))  # pyright: ignore[reportReturnType]

    def presence(self, windows: np.ndarray) -> np.ndarray:
        """Probability [B, C] of each class in windows float32 [B, L].

        Raises UsageError of a model that does not say.
        """
        if isinstance(self.model, Listener):
            with torch.no_grad():
                heard = self.model.presence(torch.from_numpy(np.ascontiguousarray(windows)).to(self.device))
            if heard is not None:
                return to_numpy(heard)
        if self.separates:
            found = self.separate(windows, [0])
        else:
            side = self.trained.mixing.picture_side
            found = self.localize(windows, [0], np.zeros((len(windows), side, side, 3), np.uint8))
        require(PRESENCE in found.intermediates, f"{self.trained.name} does not say which classes it hears")
        return to_numpy(found.intermediates[PRESENCE])

    def visual_presence(self, windows: np.ndarray, pictures: np.ndarray) -> np.ndarray:
        """Probability [B, C] of each class being seen in pictures uint8 [B, H, W, 3] with windows float32 [B, L]."""
        return to_numpy(self.localize(windows, [0], pictures).intermediates[VISUAL_PRESENCE])

    def localize(self, windows: np.ndarray, class_ids: list[int] | None, pictures: np.ndarray) -> Any:
        """The `Localization` of windows float32 [B, L] that were seen with pictures uint8 [B, H, W, 3], one each: of
        named classes, or of whatever is heard."""
        mixture = torch.from_numpy(np.ascontiguousarray(windows)).to(self.device)
        query = self._query(len(mixture), class_ids, 1, pictures[:, None])
        with torch.no_grad():
            return self.model.localize(mixture, query)

    def _query(
        self,
        number: int,
        class_ids: list[int] | list[list[int]] | None,
        num_sources: int | None,
        pictures: np.ndarray | None,
    ) -> Query:
        shown = None
        if pictures is None and (self.needs_sight or (self.sees and class_ids is None)):  # tried out without any
            side, count = self.trained.mixing.picture_side, num_sources or len(class_ids or [0])
            pictures = np.zeros((number, count, side, side, 3), np.uint8)
        if pictures is not None:
            shown = torch.from_numpy(pictures).to(self.device)
            shown = shown[:, :, None] if shown.ndim == 5 else shown
        if class_ids is not None:
            rows = class_ids if class_ids and isinstance(class_ids[0], list) else [class_ids] * number
            query = Query.naming(torch.tensor(rows, device=self.device), shown)
        else:
            query = Query.blind(torch.full((number,), num_sources or self.num_sources, device=self.device), shown)
        return replace(query, alternatives=False)


def require_finite_answer(asked: Asked, start: int, *values: np.ndarray) -> None:
    """Raise BadClip where what a model says of the window that begins at a sample, at its rate, holds no numbers."""
    if not all(np.isfinite(each).all() for each in values):
        first, last = start / asked.sample_rate_hz, (start + asked.length) / asked.sample_rate_hz
        raise BadClip(
            "not finite", f"{asked.trained.name} answers the window from {first:.2f} s to {last:.2f} s with NaN or inf"
        )


def to_numpy(tensor: Tensor) -> np.ndarray:
    """Values float32 on the CPU."""
    return tensor.detach().float().cpu().numpy()
