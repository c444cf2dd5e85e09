"""A model that could not be opened after its training is refused before it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cocktail.config.model import ModelConfig
from cocktail.types import UsageError
from pipelines.experiments import planned
from pipelines.experiments.planned import PlannedRun
from tests.made.corpora.toy_shards import RATE, make_toy_shards
from tests.made.models.small_experiment import SMALL


@dataclass(frozen=True, kw_only=True)
class Asks(ModelConfig):
    """Builds a model whose size is the value of a tensor."""

    def build(self, num_classes: int) -> nn.Module:
        return nn.Linear(int(torch.tensor(3.0).item()), num_classes)


@dataclass(frozen=True, kw_only=True)
class Unkept(ModelConfig):
    """Has a setting that is no JSON."""

    where: Path = Path("/a")

    def build(self, num_classes: int) -> nn.Module:
        return nn.Linear(1, num_classes)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Asks(), r":Asks does not build on torch's meta device, .*\(docs/extending\.md\)"),
        (Unkept(), r"^a checkpoint cannot keep .*:Unkept \(docs/extending\.md .*not JSON serializable"),
    ],
)
def test_a_model_that_could_not_be_opened_is_refused_in_one_line(tmp_path, monkeypatch, model, why):
    def connect(*_: Any) -> None:
        raise AssertionError("it was not refused")

    monkeypatch.setattr(planned, "connect", connect)
    data = make_toy_shards(tmp_path / "toy").folder
    mixing = replace(SMALL.mixing, sample_rate_hz=RATE, segment_samples=2000, window_shards=2)
    evaluation = replace(SMALL.evaluation, num_mixtures=2)
    experiment = replace(SMALL, model=model, data=data, mixing=mixing, evaluation=evaluation, output=str(tmp_path))
    with pytest.raises(UsageError, match=why) as refused:
        PlannedRun.of(experiment)
    assert "\n" not in str(refused.value)
