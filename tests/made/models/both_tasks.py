"""A model that separates and localizes, in a few lines, without anything to learn.

Checkpoints name it as one of `cocktail.models`, where it is to be found in any process that has imported this file.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelConfig
from cocktail.types import Localization, MixtureBatch, Separation
from tests.made.corpora.shapes_and_tones import scenes

MODULE = "cocktail.models.both_tasks"
sys.modules[MODULE] = sys.modules[__name__]


class Both(nn.Module):
    """Gives each class its share of the mixture, and points at the left half. It has no parameters and no masks.

    Estimates lack so many samples of the mixture.
    """

    def __init__(self, missing: int = 0) -> None:
        super().__init__()
        self.missing = missing

    def forward(self, batch):
        raise AssertionError("it learns nothing")

    def separate(self, mixture, query):
        class_ids = query.named
        shares = 1 / (1 + torch.arange(class_ids.shape[1], device=mixture.device))[None, :, None]
        heard = mixture[:, None, : mixture.shape[-1] - self.missing]
        return Separation(estimates=shares * heard, class_ids=class_ids)

    def localize(self, mixture, query):
        class_ids = query.named
        (B, K), (H, W) = query.shown.shape[:2], query.shown.shape[3:5]
        half = (torch.arange(K * W, device=mixture.device) < K * W / 2).float()
        return Localization(maps=half.expand(B, class_ids.shape[1], H, -1), class_ids=class_ids)


def read_scenes(rows: pa.Table, source: Any, mixing: Mixing) -> MixtureBatch:
    """Scenes of the classes that rows of a plan name, whatever the shards."""
    batch = scenes(rows["class_id"].to_pylist())
    return replace(batch, mixture_ids=tuple(rows["mixture_id"].to_pylist()))


@dataclass(frozen=True, kw_only=True)
class BothConfig(ModelConfig):
    """Its settings."""

    missing: int = 0
    """Samples of the mixture that estimates lack."""

    def build(self, num_classes: int) -> Both:
        """The model, whatever the classes."""
        return Both(self.missing)


BothConfig.__module__ = MODULE
