"""Models that learn in stages, of which some parts rest in some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from torch import nn


class LearnsInStages(nn.Module):
    """The base of models of which parts do not learn in a stage."""

    resting: tuple[str, ...] = ()
    """Names of the modules that do not learn in this stage."""

    def rest(self, parts: Iterable[str]) -> None:
        """Have the named modules learn nothing. Models call it at the end of their constructor."""
        self.resting = tuple(parts)
        for part in self.resting:
            self.get_submodule(part).requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Training mode, in which what does not learn in this stage stays as it is, BatchNorm's averages included."""
        super().train(mode)
        for part in self.resting:
            self.get_submodule(part).eval()
        return self
