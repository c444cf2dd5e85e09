"""A model that does two tasks is evaluated on both at once, stored, compared, registered, and loaded by MLflow."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pyarrow as pa
import pytest
import torch

from cocktail.audio.mixing import superpose
from cocktail.checkpoints.store import CheckpointStore
from cocktail.inference import load
from cocktail.inference.registry import Scored, register
from cocktail.inference.trained import about, load_trained
from cocktail.recordings.sources import Choice
from cocktail.studies.comparison import Side, compare
from cocktail.studies.comparison_report import store_comparison
from cocktail.studies.scored_run import of_one_task
from cocktail.tracking.run import TrackedRun
from cocktail.types import Query
from pipelines.experiments import scoring
from pipelines.experiments.scored_runs import scored_runs
from pipelines.experiments.scoring import Scoring
from pipelines.experiments.trained_on import Overlap
from tests.made.corpora.toy_shards import CLASSES, make_toy_shards
from tests.made.models.both_tasks import BothConfig, read_scenes
from tests.made.models.small_avgn import MIXING
from tests.made.models.small_experiment import SMALL

PLAN = pa.table(
    {"mixture_id": ["a", "b", "c"], "class_id": [[0, 1], [2, 3], [4, 1]], "clip_id": [["x", "y"]] * 3},
    schema=pa.schema(
        [("mixture_id", pa.string()), ("class_id", pa.list_(pa.int32())), ("clip_id", pa.list_(pa.string()))]
    ),
)


@dataclass
class Evaluated:
    """A checkpoint of a model of both tasks, and the run that its scores are in."""

    checkpoint: str
    tracked: TrackedRun
    text: str


@pytest.fixture(scope="module")
def tested(tmp_path_factory, local_ray) -> Evaluated:
    folder = tmp_path_factory.mktemp("both")
    experiment = replace(SMALL, name="both", model=BothConfig(missing=96), mixing=MIXING)
    store = CheckpointStore(str(folder / "checkpoints"), about=about(experiment, CLASSES, "shards"))
    checkpoint = store.save(0, {"model": {}}, {}, keep=1)
    test = Scoring(
        checkpoint=checkpoint,
        trained=load_trained(checkpoint),
        manifest=make_toy_shards(folder / "shards", num_shards=1, clips_per_shard=1, num_test=1),
        mixtures=PLAN,
        mixing=MIXING,
        evaluation=experiment.evaluation,
        resources=experiment.resources,
        overlap=Overlap(num_mixtures=len(PLAN), num_held=0),
    )
    uri = f"sqlite:///{folder}/mlflow.db"
    tracked = TrackedRun.open(uri, f"{folder}/artifacts", experiment="both", name="run", key="k", params={})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "read_mixtures", read_scenes)
        results = test.score()
        report = test.report(results, test.record(results, tracked, 0), tracked, 0)
    tracked.tag({"checkpoint": checkpoint, "data": "shards"})
    return Evaluated(checkpoint, tracked, report.text)


def test_one_evaluation_scores_both_tasks_each_in_a_table_and_a_section(tested):
    separation, localization = scored_runs(tested.tracked, None)
    assert (separation.task.name, localization.task.name) == ("separation", "localization")
    for run in (separation, localization):
        assert run.own_system == "both"
        assert list(dict.fromkeys(run.results["mixture_id"].to_pylist())) == ["a", "b", "c"]
        assert run.task.is_scored(run.results).all()
        assert (Path(run.stored) / "by_class.parquet").exists() and (Path(run.stored) / "examples" / "a.png").exists()
    assert tested.text.startswith("## Separation\n\n| system") and "\n\n## Localization\n\n| system" in tested.text
    names = {"results_separation.parquet", "results_localization.parquet", "table.md", "report.html"}
    assert names <= set(tested.tracked.stored)
    metrics = {name: history[-1][1] for name, history in tested.tracked.histories(("test/",)).items()}
    for name in ("test/separation/both/num_mixtures", "test/localization/both/num_mixtures"):
        assert metrics[name] == 3
    # Each is the mixture at some level: what doing nothing is worth.
    assert metrics["test/separation/both/si_sdri"] == pytest.approx(0, abs=1e-3)
    assert 0 <= metrics["test/localization/both/cap"] < 1


@pytest.mark.parametrize(("task", "score"), [(None, "SDR"), ("separation", "SDR"), ("localization", "CAP")])
def test_its_runs_are_compared_by_either_task(tested, tmp_path, task, score):
    runs = scored_runs(tested.tracked, None)
    a, b = of_one_task([runs, runs], task)

    def read(run, rows, mixing):
        return read_scenes(rows, None, mixing)

    text = store_comparison(
        tmp_path, compare(Side.of("A", a, None), Side.of("B", b, None)), None, 1, load_trained, read
    )
    assert "3 mixtures are in both" in text and f"| {score}" in text and "No pictures" not in text
    assert len(list((tmp_path / "examples-a").glob("*.png"))) >= 1


def test_mlflow_loads_it_and_it_gives_the_answers_of_both_tasks(tested, monkeypatch):
    uri = register(tested.tracked, tested.checkpoint, Scored())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tested.tracked.tracking_uri)
    model = mlflow.pyfunc.load_model(uri)
    assert model.metadata.metadata is not None
    assert model.metadata.metadata["tasks"] == ["separation", "localization"]
    batch = read_scenes(PLAN, None, MIXING)
    assert batch.pictures is not None
    mixture, pictures = superpose(batch), batch.pictures[:, :, 0]
    answers = model.predict(
        {"mixture": mixture.numpy(), "pictures": pictures.numpy()}, params={"classes": ["lute", "bell"]}
    )
    query = Query.naming(torch.tensor([[CLASSES.index("lute"), CLASSES.index("bell")]] * 3), pictures[:, :, None])
    own = load_trained(tested.checkpoint).model
    assert answers.keys() == {"estimates", "maps"}
    alone = load(tested.checkpoint, device="cpu")
    stems = [
        alone.separate(each, MIXING.sample_rate_hz, Choice(classes=("lute", "bell"))).stems for each in mixture.numpy()
    ]
    np.testing.assert_allclose(answers["estimates"], np.stack(stems)[:, :, 0], atol=1e-6)
    np.testing.assert_array_equal(answers["maps"], own.localize(mixture, query).maps)
