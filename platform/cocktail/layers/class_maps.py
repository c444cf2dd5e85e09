"""What localizers with a map a class share beside their losses: how they are asked, and how else they are read.

Shape letters: B batch, K pictures of a mixture, V views, N sources, C classes, T samples, P locations of a view,
Q vectors of a sound, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor

from cocktail.layers.classes import PREDICTED_CLASSES, most_probable
from cocktail.layers.two_towers import TwoTowers
from cocktail.layers.views import view_names, view_of
from cocktail.types import NO_CLASS, Localization, Query


class ClassMapLocalizer(TwoTowers, ABC):
    """A `cocktail.types.Localizer` with a map for each class that it is asked for.

    A model adds its loss as `forward`, says what of a sound is a class's by `of_classes_heard`, how likely locations
    are to be its by `likelihood`, and which classes it hears by `presence`, if it does.
    """

    @abstractmethod
    def of_classes_heard(self, sounds: Tensor, class_ids: Tensor) -> Tensor:
        """Vectors [B, N, D] of the named classes [B, N] in sounds [B, Q, D]. Of NO_CLASS they may mean nothing."""

    @abstractmethod
    def likelihood(self, heard: Tensor, locations: Tensor, class_ids: Tensor) -> Tensor:
        """Likelihood [B, N, P] of locations [B, N, P, D] to show the named classes [B, N], heard [B, N, D]."""

    def presence(self, sounds: Tensor) -> Tensor | None:
        """Probability [B, C] of each class being heard in sounds [B, Q, D]; None of a model that does not say."""
        return None

    def asked_classes(self, query: Query) -> Tensor:
        """The classes [B, N] that maps are of. Raises UsageError if none are named."""
        return query.named

    def other_readings(self, sounds: Tensor, locations: Tensor, pictures: Tensor) -> dict[str, Localization]:
        """Further readings, by name, of sounds [B, Q, D] and of the model's own view, locations [B, V, P, D]."""
        return {}

    @torch.no_grad()
    def localize(self, mixture: Tensor, query: Query) -> Localization:
        """Maps of the named classes by the model's own view; by the other, of the classes that it hears itself, in the
        wide picture, and blended with the object prior, as alternatives."""
        pictures, class_ids = query.shown[:, :, 0], self.asked_classes(query)
        view, *others = views = view_names(pictures, self.view)
        sounds = self.sounds(mixture)
        seen = {name: self.locations(pictures, name) for name in views}
        own = self._reading(sounds, seen[view], class_ids, pictures)
        alternatives = {name: self._reading(sounds, seen[name], class_ids, pictures) for name in others}
        alternatives |= self.with_object_prior(own, pictures, view)
        alternatives |= self.other_readings(sounds, seen[view], pictures)
        intermediates = dict(own.intermediates)
        if (presence := self.presence(sounds)) is not None:
            intermediates["presence"] = presence
            predicted = most_probable(presence, query.num_sources, query.room)
            alternatives[PREDICTED_CLASSES] = self._reading(sounds, seen["wide"], predicted, pictures)
        plain = {name: replace(other, intermediates={}) for name, other in alternatives.items()}
        return replace(own, intermediates=intermediates, alternatives=plain)

    def _reading(self, sounds: Tensor, seen: Tensor, class_ids: Tensor, pictures: Tensor) -> Localization:
        """Maps in the views [B, V, P, D], with what stands for each source: what is heard of it, and the location that
        is likeliest."""
        locations, heard = seen[:, view_of(class_ids, seen)], self.of_classes_heard(sounds, class_ids)
        likelihood = self.likelihood(heard, locations, class_ids)
        best = likelihood.argmax(dim=2)[..., None, None]
        looked_at = {
            "audio_vectors": heard,
            "visual_vectors": torch.take_along_dim(locations, best, dim=2).squeeze(2),
        }
        return Localization(maps=self.maps(likelihood, pictures), class_ids=class_ids, intermediates=looked_at)


def unnamed(query: Query) -> Tensor:
    """NO_CLASS [B, N] for all sources of a query."""
    return torch.full((len(query.num_sources), query.room), NO_CLASS, device=query.num_sources.device)
