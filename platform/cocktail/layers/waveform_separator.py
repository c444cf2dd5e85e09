"""What separators that map a mixture's waveform to waveforms have beside network and loss: what their outputs are,
which mixtures they take, and how they answer a query.

Shape letters: B batch, N sources, K outputs, C classes, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.layers.classes import of_classes
from cocktail.types import NO_CLASS, Query, Separation, require

MOST_STEMS = 32
"""Classes that each get an output of their own, at most: a waveform of each is computed, and kept, for every
mixture."""


@dataclass(frozen=True, kw_only=True)
class WaveformSeparatorConfig(ModelConfig):
    """The settings of what a network's outputs are, which the configuration of each such separator inherits."""

    sources: Literal["anonymous", "asked", "stems"] = "anonymous"
    """Sources, and who names them. Anonymous ones come in any order, and are trained and scored in the best. Of each
    that is asked for the class goes into the network. Stems have an output for each class of the data set, 32 at most
    (MUSDB18 has 4)."""
    outputs: int = 2
    """Anonymous sources that are separated, at most; with fewer, outputs left over learn to be silent, where the loss
    knows silence. Nothing else reads it."""

    def __post_init__(self) -> None:
        require(self.outputs >= 2, f"outputs must be at least 2, not {self.outputs}")

    def outputs_of(self, num_classes: int) -> int:
        """K: the outputs for a list of classes. Raises UsageError for stems of too many classes, or of one."""
        if self.sources == "anonymous":
            return self.outputs
        require(
            2 <= num_classes <= MOST_STEMS,
            f"model.sources stems has an output for each class of the data set, 2 to {MOST_STEMS}, and there are "
            f"{num_classes}: set --model.sources anonymous",
        )
        return num_classes

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: as `require_test_mixing`, or of fewer sources than
        there are outputs for anonymous ones."""
        require(
            mixing.num_sources >= 2,
            "a mixture of one source has nothing to separate: set --mixing.num-sources to 2 or more",
        )
        require(
            self.sources != "anonymous" or mixing.num_sources >= self.outputs,
            f"the mixtures have {mixing.num_sources} sources at most, model.outputs is {self.outputs}: lower it",
        )
        self.require_test_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for whole clips, for more anonymous sources than outputs, or for sources that no class names
        where the model goes by it."""
        name = type(self).__name__.removesuffix("Config")
        require(
            mixing.arrangement != "whole",
            f"whole clips are one sound, with no reference for each source, which {name} learns and is scored by: "
            "leave --mixing.arrangement at remixed or released",
        )
        if self.sources != "anonymous":
            mixing.require_one_class(f"{name} with sources {self.sources}")
            return
        require(
            mixing.num_sources <= self.outputs,
            f"the mixtures have up to {mixing.num_sources} sources, model.outputs is {self.outputs}: raise it",
        )


class WaveformSeparator(nn.Module):
    """A `cocktail.types.Separator` of anonymous sources or stems. A model adds its network as `waveforms`, and its loss
    as `forward`."""

    def __init__(self, config: WaveformSeparatorConfig, *, any_level: bool = False) -> None:
        """`any_level`: outputs have levels and signs that mean nothing, as those that learned by SI-SDR."""
        super().__init__()
        self.stems = config.sources == "stems"
        self.any_level = any_level

    def waveforms(self, mixture: Tensor) -> Tensor:
        """Outputs [B, K, T] of mixtures [B, T]."""
        raise NotImplementedError

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates of mixtures [B, T], as long as these. Raises UsageError as `answer` does."""
        return self.answer(self.waveforms(mixture), mixture, query)

    def answer(self, outputs: Tensor, mixture: Tensor, query: Query) -> Separation:
        """What outputs [B, K, T] for mixtures [B, T] say to a query: the named stems [B, N, T], or all outputs, the
        loudest first.

        Outputs of any level get the one of their part of the mixture. Raises UsageError if more sources are asked for
        than there are outputs, or none by name of stems.
        """
        outputs = outputs.float()
        if self.any_level:
            outputs = projected(mixture, outputs)
        if self.stems:
            class_ids = query.named
            estimates = of_classes(outputs, class_ids) * (class_ids >= 0)[..., None]
        else:
            require_room(query, outputs.shape[1])
            order = loudest_first(outputs)
            estimates = outputs.take_along_dim(order[..., None], dim=1)
            class_ids = torch.full_like(order, NO_CLASS)
        return Separation(estimates=estimates.clamp(-1.0, 1.0), class_ids=class_ids)


def require_room(query: Query, num_outputs: int) -> None:
    """Raise UsageError if more sources are asked for than there are outputs."""
    require(query.room <= num_outputs, f"the network separates {num_outputs} sources, and {query.room} are asked for")


def loudest_first(estimates: Tensor) -> Tensor:
    """The order, int64 [B, K], of estimates [B, K, T] by their energy; those of equal energy stay as they are."""
    return estimates.square().sum(dim=-1).argsort(dim=1, descending=True, stable=True)


def projected(mixture: Tensor, outputs: Tensor) -> Tensor:
    """Outputs [B, K, T], each at the level, and with the sign, by which it leaves the least of its mixture [B, T]; of
    sources without correlation these are their own."""
    outputs, whole = outputs.double(), mixture.double()[:, None]
    energies = outputs.square().sum(dim=-1, keepdim=True)
    gains = (outputs * whole).sum(dim=-1, keepdim=True) / energies.where(energies > 0, 1.0)
    return (gains * outputs).float()
