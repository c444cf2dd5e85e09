"""A checkpoint tells what it is a model of; what it says is data, not code."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from cocktail.checkpoints.store import CheckpointStore
from cocktail.config.evaluation import Evaluation
from cocktail.evaluate import scoring_pipeline
from cocktail.inference.trained import about, load_trained
from cocktail.tasks.separation.task import Separating, separate_batch
from cocktail.types import MixtureBatch, UsageError
from tests.made.models.small_experiment import SMALL
from tests.made.models.small_sgn import SMALL as SMALL_MODEL
from tests.made.models.small_sgn import tones

EXPERIMENT = replace(
    SMALL,
    model=replace(SMALL.model, source_vectors="tokens", group_reduction="sum"),
    evaluation=Evaluation(num_mixtures=None, split="val"),
)
CLASSES = ("bell", "drum", "harp")


@pytest.fixture
def checkpoint(tmp_path) -> str:
    torch.manual_seed(0)
    model = EXPERIMENT.model.build(len(CLASSES))
    store = CheckpointStore(str(tmp_path), about=about(EXPERIMENT, CLASSES, "/data/shards"))
    return store.save(3, {"model": model.state_dict()}, {}, keep=1)


def test_a_checkpoint_comes_back_as_the_model_that_it_is_of(checkpoint):
    trained = load_trained(checkpoint)
    assert trained.model.config == EXPERIMENT.model
    assert (trained.mixing, trained.evaluation) == (EXPERIMENT.mixing, EXPERIMENT.evaluation)
    assert (trained.name, trained.classes, trained.data) == ("small", CLASSES, "/data/shards")
    torch.manual_seed(0)
    built = EXPERIMENT.model.build(len(CLASSES)).state_dict()
    assert all(value.equal(built[name]) for name, value in trained.model.state_dict().items())
    assert not trained.model.training


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("os:system", r"models lie in cocktail\.models"),
        ("cocktail.models_of_others:Config", r"models lie in cocktail\.models"),
        ("cocktail.models.sgn:Absent", "does not have"),
        ("cocktail.models.absent:SGNConfig", "does not have"),
    ],
)
def test_other_kinds_of_models_are_refused_and_not_imported(checkpoint, model, message):
    path = Path(checkpoint) / "meta.json"
    meta = json.loads(path.read_text())
    meta["about"]["model"] = model
    path.write_text(json.dumps(meta))
    with pytest.raises(UsageError, match=message):
        load_trained(checkpoint)


def test_a_batch_is_separated_by_every_reading_and_control():
    torch.manual_seed(0)
    model = SMALL_MODEL.build(5).eval()
    batch = tones([[0, 3], [2, -1]])
    separated = separate_batch("net", model, batch)
    systems = [system.name for system in separated.systems]
    assert systems == [
        "net",
        "net, soft masks",
        "net, predicted classes",
        "net, predicted classes and number",
        "ideal binary mask",
        "ideal ratio mask",
        "ideal Wiener mask",
        "ideal phase-sensitive mask",
        "mixture",
    ]
    assert separated.num_sources.tolist() == [2, 1]
    assert separated.presence is not None and separated.presence.shape == (2, 5)
    assert separated.vectors is not None and separated.vectors.shape == (2, 2, 32)
    assert {system.estimates.shape[-1] for system in separated.systems} == {63 * 64}
    assert separated.references.shape == (2, 2, 63 * 64)
    np.testing.assert_allclose(separated.references.sum(axis=1), separated.mixture, atol=1e-6)
    assert [system.name for system in separated.systems if system.class_ids is not None] == systems[:4]
    kinds = [(system.kind, system.reading) for system in separated.systems]
    assert kinds == [("model", None), *(("reading", name[5:]) for name in systems[1:4]), *[("control", None)] * 5]


def test_gpus_can_be_asked_for(local_ray):
    """Ray checks what is asked for when the pipeline is made; nothing runs, so none is needed."""
    plan = pa.table({"mixture_id": ["a", "b", "c"], "clip_id": [["x"], ["y"], ["z"]]})

    def read(rows: pa.Table) -> MixtureBatch:
        raise AssertionError

    pipeline = scoring_pipeline("nowhere", plan, read, (Separating(),), batch_size=2, num_gpus=(1, 1))
    assert "MapBatches" in repr(pipeline)
