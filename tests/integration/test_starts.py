"""Jobs that start from another run's weights, that train parts of a model in their own ways, and that train nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from torch import Tensor, nn

from cocktail.checkpoints.store import checkpoint_store, load_checkpoint
from cocktail.config.experiment import Experiment
from cocktail.config.model import ParameterGroup
from cocktail.config.resources import Resources
from cocktail.config.training import Training
from cocktail.models.sgn import SGNConfig
from pipelines.experiments.dry_run import tell
from pipelines.experiments.planned import PlannedRun
from pipelines.experiments.run import run
from tests.made.corpora.toy_shards import make_toy_shards
from tests.made.models.small_experiment import SMALL
from tests.services.noted_training import train_noting


@dataclass(frozen=True, kw_only=True)
class StillUNet(SGNConfig):
    """SGN whose U-Net is in a group that does not move."""

    def parameter_groups(self, model: nn.Module) -> Sequence[ParameterGroup]:
        still = [(name.startswith("unet."), parameter) for name, parameter in model.named_parameters()]
        return (
            ParameterGroup(parameters=tuple(p for is_still, p in still if is_still), rate_factor=0.0),
            ParameterGroup(parameters=tuple(p for is_still, p in still if not is_still)),
        )


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment[SGNConfig]:
    folder = tmp_path_factory.mktemp("data")
    make_toy_shards(folder / "shards")
    return replace(
        SMALL,
        data=str(folder / "shards"),
        output=str(folder / "out"),
        tracking_uri=None,
        training=replace(SMALL.training, max_steps=3),
        evaluation=replace(SMALL.evaluation, num_mixtures=2, num_examples=1, num_looks=0),
        resources=Resources(gpu="no", executor="inline"),
    )


def weights(location: Path | str) -> dict[str, Tensor]:
    newest = checkpoint_store(str(location)).newest()
    assert newest is not None
    return load_checkpoint(newest).state["model"]


def tracked_run(experiment: Experiment, name: str) -> Run:
    client = MlflowClient(f"sqlite:///{experiment.output}/mlflow.db")
    recorded = client.get_experiment_by_name(experiment.name)
    assert recorded is not None
    (only,) = [run for run in client.search_runs([recorded.experiment_id]) if run.info.run_name == name]
    return only


@pytest.mark.slow
def test_a_run_starts_from_parts_of_another_and_says_so_everywhere(experiment, local_ray, capfd):
    run(replace(experiment, run_name="first"))
    first = f"{experiment.output}/runs/first"
    second = replace(
        experiment,
        run_name="second",
        start_from=first,
        start_parts=("unet",),
        training=replace(experiment.training, max_steps=1, learning_rate=1e-9),
    )
    started_from = f"random weights, and over them unet of {first}/checkpoints/step-00000003, SHA-256 "
    assert f"start     {started_from}" in tell(PlannedRun.of(second))
    capfd.readouterr()
    run(second)
    said = capfd.readouterr().out
    assert f"starting from {started_from}" in said and f"started from: {started_from}" in said
    recorded = tracked_run(experiment, "second").data
    assert recorded.tags["initial_weights"].startswith(started_from)
    assert (recorded.params["start_from"], recorded.params["start_parts"]) == (first, "['unet']")

    torch.manual_seed(experiment.seed)
    random = experiment.model.build(5).state_dict()
    learned, theirs = weights(f"{experiment.output}/runs/second"), weights(first)
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    moved = False
    for name, value in learned.items():
        if not name.endswith(buffers):
            expected = theirs[name] if name.startswith("unet.") else random[name]
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-7)
            moved |= name.startswith("unet.") and not torch.allclose(value, random[name], atol=1e-4)
    assert moved, "the first run has learned nothing that the second could have taken"
    # The same command goes on with what is kept, and what it started from is a part of what it is.
    assert PlannedRun.of(second).key != PlannedRun.of(replace(second, start_from=None, start_parts=())).key


@pytest.mark.slow
def test_the_groups_of_a_model_reach_the_processes_that_train_it(experiment, local_ray, tmp_path):
    model = StillUNet(**{name: getattr(SMALL.model, name) for name in vars(SMALL.model)})
    torch.manual_seed(experiment.seed)
    random = dict(model.build(5).named_parameters())
    train_noting(replace(experiment, model=model), tmp_path)
    learned = weights(tmp_path)
    learning = {name: value for name, value in random.items() if value.requires_grad}
    assert {name for name, value in learning.items() if torch.equal(learned[name], value)} == {
        name for name in learning if name.startswith("unet.")
    }


@pytest.mark.slow
def test_a_model_that_is_not_trained_is_scored_and_registered_as_any_other(
    experiment, local_ray, monkeypatch, tmp_path, capfd
):
    monkeypatch.setattr(SGNConfig, "trains", False)
    # Settings of the training change nothing, and there need not be anything to train on.
    training = Training(split="absent", validation_split="absent too", batch_size=8)
    untrained = replace(experiment, training=training, output=str(tmp_path), run_name="untrained")
    planned = PlannedRun.of(untrained)
    text = tell(planned)
    assert "training  none, this model is not trained: the evaluation alone" in text
    assert "1 x testing process" in text and "training process" not in text
    capfd.readouterr()
    run(untrained)
    assert "started from: nothing: this model is not trained" in capfd.readouterr().out

    folder = tmp_path / "runs" / "untrained"
    checkpoint = str(folder / "checkpoints" / "step-00000000")
    assert json.loads((folder / "finished.json").read_text())["checkpoint"] == checkpoint
    assert not (folder / "ray").exists()
    torch.manual_seed(experiment.seed)
    for name, value in untrained.model.build(5).state_dict().items():
        torch.testing.assert_close(weights(folder)[name], value, rtol=0, atol=0)
    recorded = tracked_run(untrained, "untrained")
    assert recorded.info.status == "FINISHED"
    assert recorded.data.tags["checkpoint"] == checkpoint
    assert "test/small/sdr" in recorded.data.metrics and "loss/total" not in recorded.data.metrics
    results = pq.read_table(f"{recorded.info.artifact_uri}/results.parquet")
    assert len(set(results["mixture_id"].to_pylist())) == 2
    (version,) = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_model_versions("name = 'small'")
    assert version.run_id == recorded.info.run_id
    # Started again, it is tested again.
    run(untrained)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-00000000"]
