"""The shards that stand in for data are those of the corpus that is there now."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.datasets.index import Box
from pipelines.embedded import stand_in
from pipelines.shards.plan import ShardSettings, plan_shards
from tests.made.corpora.miniature_shards import synthetic_index
from tests.made.models.small_experiment import SMALL


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A corpus of no clips, in place of the one that is made."""
    folder = tmp_path / "embedded" / "corpus"
    (folder / "videos").mkdir(parents=True)
    monkeypatch.setattr(stand_in, "connect", lambda _: None)
    monkeypatch.setattr(stand_in, "num_nodes", lambda: 1)
    monkeypatch.setattr(stand_in, "make_embedded_corpus", lambda _: folder)
    monkeypatch.setattr(stand_in, "index_with_boxes", lambda *_, **__: pa.table({}))
    return folder


def test_a_corpus_of_another_recipe_has_shards_of_its_own(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(stand_in, "shard_dataset", lambda index, settings, shards: (made.append(shards), shards)[1])

    def shards(marker: str) -> Any:
        (corpus / "corpus.json").write_text(marker)
        return stand_in.open_data(replace(SMALL, output=str(tmp_path)), "sqlite://")

    first = shards('{"recipe_version": 1}')
    assert str(first).startswith(str(tmp_path / "embedded"))
    assert shards('{"recipe_version": 2}') != first
    assert shards('{"recipe_version": 1}') == first
    assert len(made) == 2, "a comparison opens the corpus for each of its systems, and says so once"


def test_mixtures_to_train_on_are_those_of_seventeen_shards(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt: list[ShardSettings] = []
    monkeypatch.setattr(stand_in, "shard_dataset", lambda index, settings, shards: dealt.append(settings))
    (corpus / "corpus.json").write_text("{}")
    stand_in.open_data(replace(SMALL, output=str(tmp_path)), "sqlite://")
    box = Box(picture=0, label=None, x0=0.0, y0=0.0, x1=0.5, y1=0.5)
    index = synthetic_index(
        216, split=["train"] * 180 + ["test"] * 36, boxes=[None] * 180 + [(box,)] * 36, recording=["video"] * 216
    )
    shards = plan_shards(index, replace(dealt[0], sample_rate_hz=11025))["shard"].to_pylist()
    assert sum(shard.startswith("train-") for shard in shards) == 17
