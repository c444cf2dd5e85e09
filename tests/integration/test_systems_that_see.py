"""Co-segmentation and AVSA-Sep as whole runs on toy shards: plan, training, evaluation, tables, page, on real Ray."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from mlflow.tracking import MlflowClient

from cocktail.checkpoints.store import checkpoint_store
from cocktail.config.resources import Resources
from pipelines.experiments.run import run
from tests.made.corpora.toy_shards import make_toy_shards
from tests.made.models.small_avsa_sep import SMALL as AVSA_SEP
from tests.made.models.small_cosegmentation import SMALL as CO_SEGMENTATION
from tests.made.models.small_experiment import SMALL as EXPERIMENT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, local_ray):
    """What runs a model on toys, a few steps, and gives its artifacts' folder and its metrics."""
    shards = make_toy_shards(tmp_path_factory.mktemp("data") / "shards", with_pictures=True).folder

    def train(model, **changes):
        output = tmp_path_factory.mktemp("runs")
        mixing = replace(EXPERIMENT.mixing, pictures_per_source=1, picture_side=32, **changes.pop("mixing", {}))
        evaluation = replace(EXPERIMENT.evaluation, num_mixtures=4, num_examples=1, num_looks=0, **changes)
        experiment = replace(
            EXPERIMENT,
            name="seen",
            model=model,
            data=shards,
            output=str(output),
            tracking_uri=None,
            mixing=mixing,
            training=replace(EXPERIMENT.training, max_steps=3),
            evaluation=evaluation,
            resources=Resources(gpu="no", executor="inline"),
        )
        tracked = run(experiment)
        client = MlflowClient(f"sqlite:///{output}/mlflow.db")
        (found,) = client.search_runs([client.get_experiment_by_name("seen").experiment_id])  # pyright: ignore[reportOptionalMemberAccess]
        assert checkpoint_store(str(output / "runs" / tracked.name)).newest() is not None
        assert found.info.artifact_uri is not None
        return Path(found.info.artifact_uri), found.data.metrics

    return train


def test_one_evaluation_of_co_segmentation_gives_sounds_classes_and_maps(trained):
    artifacts, metrics = trained(CO_SEGMENTATION)
    table = (artifacts / "table.md").read_text()
    for said in ("## Separation", "## Localization", "seen, named classes", "all absent", "exact match", "centred box"):
        assert said in table, said
    assert {"test/separation/seen/sdr", "test/localization/seen/cap"} <= metrics.keys()
    page = (artifacts / "report.html").read_text()
    assert all(said in page for said in ("all absent", "centred box", "<audio", "seen, named classes"))
    assert len(pq.read_table(artifacts / "results_separation.parquet")) > 0


def test_avsa_sep_is_scored_on_what_is_seen_and_on_what_is_only_heard(trained):
    mixing = {"num_sources": 3, "min_sources": 3}
    artifacts, metrics = trained(AVSA_SEP, mixing=mixing, shown_sources="all_but_one")
    table = (artifacts / "table.md").read_text()
    for said in ("visible", "invisible", "predicted classes", "by subtraction"):
        assert said in table, said
    assert {"test/seen/visible_sdr", "test/seen/invisible_sdr"} <= metrics.keys()
    assert any("invisible" in name and "macro_f1" in name for name in metrics)
    assert "<audio" in (artifacts / "report.html").read_text()
