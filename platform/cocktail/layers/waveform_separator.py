"""What separators that map a mixture's waveform to waveforms have in common: outputs that are sources of no name or
classes, the loss in the best order or by class, and the answer to a query.

Shape letters: B batch, N sources, K outputs, C classes, T samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from cocktail.audio.mixing import mix
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.losses.permutation import permutation_invariant_loss
from cocktail.losses.waveform import PAIRWISE, WaveformLoss
from cocktail.types import NO_CLASS, MixtureBatch, Query, Separation, require

MOST_CLASSES = 32
"""Classes that each get an output of their own, at most: each is a waveform to compute and to keep for every
mixture."""


@dataclass(frozen=True, kw_only=True)
class WaveformSeparatorConfig(ModelConfig):
    """The settings of what a network's outputs are, which the configuration of each such separator inherits."""

    outputs: Literal["anonymous", "classes"] = "anonymous"
    """What outputs are: sources without a name, learned and scored in the best order; or the classes of the data set,
    32 at most, one output each (the stems of MUSDB18), learned and scored by class."""
    num_outputs: int = 2
    """Outputs without a name: the sources of a mixture, or the most of them. If outputs are classes nothing reads
    it."""

    def __post_init__(self) -> None:
        require(self.num_outputs >= 2, f"num_outputs must be at least 2, not {self.num_outputs}")

    @property
    def names_classes(self) -> bool:
        """True where each estimate is of a class."""
        return self.outputs == "classes"

    def outputs_of(self, num_classes: int) -> int:
        """K: the outputs of a network for a list of classes. Raises UsageError if it would be too many, or only one."""
        if self.outputs == "anonymous":
            return self.num_outputs
        require(
            2 <= num_classes <= MOST_CLASSES,
            f"model.outputs classes has an output for each class of the data set, 2 to {MOST_CLASSES}, and there are "
            f"{num_classes}: set --model.outputs anonymous",
        )
        return num_classes

    def require_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for mixtures that cannot be learned from: as `require_test_mixing`, of one source, or of
        fewer than there are outputs without a name."""
        require(
            mixing.num_sources >= 2,
            "a mixture of one source has nothing to separate: set --mixing.num-sources to 2 or more",
        )
        require(
            self.names_classes or mixing.num_sources >= self.num_outputs,
            f"model.num_outputs {self.num_outputs} are more than the {mixing.num_sources} sources of any mixture: set "
            "one to fit the other",
        )
        self.require_test_mixing(mixing)

    def require_test_mixing(self, mixing: Mixing) -> None:
        """Raise UsageError for whole clips, for more sources than outputs without a name, and, if outputs are classes,
        for sources that no class names."""
        name = type(self).__name__.removesuffix("Config")
        require(
            mixing.arrangement != "whole",
            f"whole clips are one sound, with no reference for each source, which {name} learns and is scored by: "
            "leave --mixing.arrangement at remixed or released",
        )
        require(
            self.names_classes or mixing.num_sources <= self.num_outputs,
            f"model.num_outputs {self.num_outputs} are too few for mixtures of {mixing.num_sources} sources: set one "
            "to fit the other",
        )
        if self.names_classes:
            mixing.require_one_class(name)


class WaveformSeparator(nn.Module):
    """A `cocktail.types.Separator`. A model adds its network as `waveforms`."""

    def __init__(self, config: WaveformSeparatorConfig, loss: WaveformLoss) -> None:
        super().__init__()
        self.names_classes = config.names_classes
        self.loss: WaveformLoss = loss

    def waveforms(self, mixture: Tensor) -> Tensor:
        """Outputs [B, K, T] of mixtures [B, T]."""
        raise NotImplementedError

    def forward(self, batch: MixtureBatch) -> dict[str, Tensor]:
        """Loss: `separation_loss` of the outputs."""
        mixture, references = mix(batch)
        loss = self.separation_loss(self.waveforms(mixture), references, batch)
        return {"separation": loss, "total": loss}

    def separation_loss(self, outputs: Tensor, references: Tensor, batch: MixtureBatch) -> Tensor:
        """The mean over sources, then over mixtures, of the loss of outputs [B, K, T] and references [B, N, T].

        Outputs without a name count in the order of the least loss; only sources that are present do, and outputs left
        over cost nothing. Outputs that are classes all count, and of a class that is not there silence is asked for;
        but for SI-SDR, which silence has none of.
        """
        pairwise = PAIRWISE[self.loss]
        num_sources = batch.present.sum(dim=1)
        if self.names_classes:
            targets = by_class(references, batch.class_ids, outputs.shape[1])
            each = pairwise(outputs.flatten(0, 1)[:, None], targets.flatten(0, 1)[:, None]).view(outputs.shape[:2])
            return (each.sum(dim=1) / (num_sources if self.loss == "si_sdr" else outputs.shape[1])).mean()
        spare = outputs.shape[1] - references.shape[1]
        pairs = nn.functional.pad(pairwise(outputs, references), (0, spare))
        present = nn.functional.pad(batch.present, (0, spare))
        return (permutation_invariant_loss(pairs, present) / num_sources).mean()

    @torch.no_grad()
    def separate(self, mixture: Tensor, query: Query) -> Separation:
        """Estimates of the sources of mixtures [B, T], as long as these.

        Raises UsageError for a question that names no classes if outputs are classes, and for more sources than there
        are outputs without a name.
        """
        return self.answer(self.waveforms(mixture), mixture, query)

    def answer(self, outputs: Tensor, mixture: Tensor, query: Query) -> Separation:
        """What outputs [B, K, T] for mixtures [B, T] say to a query.

        Outputs that learned by SI-SDR come at any level, and are first brought to that of their part of the mixture.
        Of more outputs without a name than a mixture's sources the loudest answer.
        """
        outputs = outputs.float()
        if self.loss == "si_sdr":
            outputs = projected(mixture, outputs)
        if self.names_classes:
            class_ids = query.named
            rows = torch.arange(len(outputs), device=outputs.device)[:, None]
            estimates = outputs[rows, class_ids.clamp(min=0)] * (class_ids >= 0)[..., None]
        else:
            require(
                query.room <= outputs.shape[1],
                f"this model separates up to {outputs.shape[1]} sources, not {query.room}: test it on such mixtures",
            )
            estimates = loudest(outputs, query.num_sources, query.room)
            class_ids = torch.full(estimates.shape[:2], NO_CLASS, device=outputs.device)
        return Separation(estimates=estimates.clamp(-1.0, 1.0), class_ids=class_ids)


def by_class(references: Tensor, class_ids: Tensor, num_classes: int) -> Tensor:
    """References [B, C, T] of all classes, of those [B, N, T] of classes [B, N]; silence of a class that is not there.

    Sources of NO_CLASS have to be silent.
    """
    targets = references.new_zeros(len(references), num_classes, references.shape[-1])
    return targets.scatter_add_(1, class_ids.clamp(min=0)[..., None].expand_as(references), references)


def projected(mixture: Tensor, outputs: Tensor) -> Tensor:
    """Outputs [B, K, T], each at the level, and with the sign, by which it leaves the least of its mixture [B, T]; of
    sources without correlation these are their own."""
    outputs, whole = outputs.double(), mixture.double()[:, None]
    energies = outputs.square().sum(dim=-1, keepdim=True)
    gains = (outputs * whole).sum(dim=-1, keepdim=True) / energies.where(energies > 0, 1.0)
    return (gains * outputs).float()


def loudest(outputs: Tensor, num_sources: Tensor, room: int) -> Tensor:
    """As many of the outputs [B, K, T] as there are sources [B], the loudest in their order, then zeros: [B, room,
    T]."""
    levels = outputs.double().square().sum(dim=-1)
    ranks = levels.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    kept = ranks < num_sources[:, None]
    order = (~kept).to(torch.int64).argsort(dim=1, stable=True)[:, :room, None]
    return outputs.take_along_dim(order, dim=1) * kept[..., None].take_along_dim(order, dim=1)
