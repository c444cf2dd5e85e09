"""The whole job of a model that localizes, on toy shards: real Ray, real MLflow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from mlflow.tracking import MlflowClient

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.mixing import Mixing
from cocktail.config.resources import Resources
from cocktail.config.training import Training
from cocktail.layers.resnet import ResNet18
from cocktail.models.avgn import AVGNConfig
from cocktail.types import UsageError
from jobs.evaluate import main as evaluate_job
from pipelines.experiments.planned import PlannedRun
from pipelines.experiments.run import run
from tests.made.corpora.toy_shards import RATE, make_toy_shards

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Experiment[AVGNConfig]:
    """Of small pictures and sounds, trained for six steps from weights in a file."""
    folder = tmp_path_factory.mktemp("data")
    make_toy_shards(folder / "shards", with_pictures=True)
    torch.manual_seed(1)
    torch.save(ResNet18(width=4, stages=2).state_dict(), folder / "weights.pth")
    return Experiment[AVGNConfig](
        name="small_avgn",
        model=AVGNConfig(
            width=16,
            resnet_width=4,
            visual_stages=2,
            depth=1,
            num_heads=2,
            initial_weights=str(folder / "weights.pth"),
            spectrum=PowerSpectrumConfig(sample_rate_hz=RATE),
        ),
        mixing=Mixing(
            sample_rate_hz=RATE,
            segment_samples=3000,
            window_shards=2,
            min_gain=1.0,
            max_gain=1.0,
            pictures_per_source=1,
            picture_side=32,
        ),
        training=Training(
            split="train[20%:]",
            max_steps=6,
            batch_size=8,
            optimizer="adamw",
            learning_rate=3e-3,
            lr_drop_epochs=(),
            checkpoint_every=3,
            log_every=2,
            validation_split="train[:20%]",
            validation_mixtures=16,
            validate_every=1,
            select="best",
        ),
        evaluation=Evaluation(num_sources=(1, 2), num_mixtures=4, batch_size=3, num_examples=1),
        resources=Resources(gpu="no"),
        data=str(folder / "shards"),
        output=str(folder / "output"),
        tracking_uri=None,
    )


@pytest.fixture(scope="module")
def artifacts(experiment, local_ray) -> Path:
    """What a run leaves."""
    return Path(run(experiment).artifacts)


def test_a_run_leaves_tables_of_both_numbers_maps_and_a_page(experiment, artifacts):
    results = pq.read_table(artifacts / "results.parquet").to_pylist()
    own = [row for row in results if row["system"] == "small_avgn"]
    assert sorted({row["num_sources"] for row in own}) == [1, 2]
    assert len({row["mixture_id"] for row in own}) == 8
    assert all(row["recording"] for row in results)
    systems = {row["system"] for row in results}
    assert {"small_avgn, predicted classes", "small_avgn, split", "constant map", "centred box", "ideal map"} <= systems
    table = (artifacts / "table.md").read_text()
    assert "Mixtures of 1 source:" in table and "Mixtures of 2 sources:" in table
    assert (artifacts / "report.html").stat().st_size > 10_000
    assert {path.name for path in artifacts.glob("*.png")} == {"learning.png", "vectors.png"}
    pictures = sorted((artifacts / "examples").glob("*.png"))
    assert len(pictures) == 2  # one of each number of sources
    client = MlflowClient(f"sqlite:///{experiment.output}/mlflow.db")
    found = client.get_experiment_by_name("small_avgn")
    assert found is not None
    (tracked,) = client.search_runs([found.experiment_id])
    metrics = tracked.data.metrics
    names = ("ap_1_sources", "iou_1_sources", "cap_2_sources", "piap_2_sources", "ciou_2_sources", "auc_2_sources")
    assert {f"test/small_avgn/{name}" for name in names} <= metrics.keys()
    assert {"loss/localization", "loss/visual_presence", "look/visual_presence_micro_f1"} <= metrics.keys()
    started_from = tracked.data.tags["initial_weights"]
    assert started_from.startswith("weights.pth, SHA-256 ")
    said = f"Trained on mixtures of 2 sources of the split train[20%:], from {started_from}."
    assert said in table and said in (artifacts / "report.html").read_text()
    full = "float32, without TF32"
    assert json.loads((artifacts / "environment.json").read_text())["precision"] == {"training": full, "scoring": full}
    assert (tracked.data.tags["precision.training"], tracked.data.tags["precision.scoring"]) == (full, full)
    assert tracked.data.tags["test_mixtures_trained_on"] == "0"
    losses = {point.step: point.value for point in client.get_metric_history(tracked.info.run_id, "validation/total")}
    assert sorted(losses) == [1, 2, 3, 4, 5, 6]
    assert tracked.data.tags["checkpoint"].endswith(f"step-{min(losses, key=losses.__getitem__):08d}")
    (version,) = client.search_model_versions("name = 'small_avgn'")
    assert {"ap_1_sources", "ciou_2_sources"} <= version.tags.keys()


def test_training_began_from_the_weights_of_the_file(experiment, artifacts):
    """Another file is another run, random weights a third; after so few small steps the weights are still near."""
    planned = PlannedRun.of(experiment)
    random = PlannedRun.of(replace(experiment, model=replace(experiment.model, initial_weights="none")))
    assert planned.key != random.key
    newest = CheckpointStore(f"{experiment.output}/runs/{planned.name[:-1]}1/checkpoints").newest()
    assert newest is not None
    learned = load_checkpoint(newest).state["model"]["visual_encoder.resnet.conv1.weight"]
    given = torch.load(experiment.model.initial_weights, weights_only=True)["conv1.weight"]
    assert 0 < (learned - given).abs().max() < 0.1 * given.abs().max()
    assert [path.suffix for path in Path(experiment.output, "initial").iterdir()] == [".pth"]


def test_it_is_scored_on_three_sources_and_negatives_without_training(experiment, artifacts, capsys):
    (checkpoint,) = Path(experiment.output).glob("runs/*-1/checkpoints/step-00000006")
    options = ["--evaluation.num-sources", "3", "--evaluation.num-mixtures", "2", "--evaluation.num-examples", "0"]
    negatives = ["--evaluation.num-sources", "1", "3", "--evaluation.negatives", "off_screen", "silent"]
    evaluate_job([str(checkpoint), *options, *negatives, "--output", experiment.output, "--resources.gpu", "no"])
    shown = capsys.readouterr().out
    assert "negatives: 2 off_screen, 2 silent" in shown and "Single sources and silent objects:" in shown
    assert "of 3 sources: test" in shown and "of 2 sources: test" not in shown
    assert "PIAP" in shown and "small_avgn, split" in shown
    with pytest.raises(UsageError, match=r"give --evaluation\.num-sources 3, which .* at 1 2"):
        evaluate_job([str(checkpoint), "--mixing.num-sources", "3", "--output", experiment.output])
    with pytest.raises(UsageError, match=r"--mixing\.picture-side 30 must be a multiple of 8"):
        evaluate_job([str(checkpoint), *options, "--mixing.picture-side", "30", "--output", experiment.output])
