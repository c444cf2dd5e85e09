"""What training, and what scoring, sets of its device."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cocktail.checkpoints.store import CheckpointStore
from cocktail.config.training import Training
from cocktail.evaluate import SCORED_IN, _Apply
from cocktail.inference.trained import about
from cocktail.numerics.compiling import compile_network
from cocktail.numerics.precision import autocast_dtype
from cocktail.train import measure
from cocktail.train.loop import Steps
from cocktail.train.worker import Worker, set_up_device
from cocktail.types import UsageError
from tests.made.models.small_experiment import SMALL
from tests.made.models.small_training import Noise

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def as_it_was():
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
    torch.backends.cudnn.benchmark = benchmark


def tf32() -> tuple[bool, bool]:
    """Of products and of convolutions."""
    return torch.backends.cuda.matmul.allow_tf32 is True, torch.backends.cudnn.allow_tf32 is True


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "float16", "tf32"])
def test_float32_is_float32_unless_tf32_is_asked_for_by_name(precision):
    set_up_device(precision, CPU)
    assert tf32() == ((True, True) if precision == "tf32" else (False, False))
    assert torch.backends.cudnn.benchmark
    assert autocast_dtype("tf32", CPU) is None


@pytest.mark.parametrize(
    ("precision", "card", "told"),
    [
        ("auto", "H200", "bfloat16, without TF32"),
        ("auto", "T4", "float32, without TF32"),
        ("auto", None, "float32, without TF32"),
        ("float32", "H200", "float32, without TF32"),
        ("tf32", "H200", "float32, with TF32"),
        ("tf32", "T4", "float32, without TF32"),
        ("tf32", None, "float32, without TF32"),
        ("float16", "T4", "float16, without TF32"),
    ],
)
def test_a_training_says_what_auto_became_and_whether_tf32_was_used(monkeypatch, precision, card, told):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: card == "H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: {"H200": (9, 0), "T4": (7, 5)}[str(card)])
    assert set_up_device(precision, CPU if card is None else torch.device("cuda")) == told


def test_scores_are_computed_in_float32(tmp_path):
    set_up_device("tf32", CPU)
    store = CheckpointStore(str(tmp_path), about=about(SMALL, ("bell", "drum"), "shards"))
    checkpoint = store.save(1, {"model": SMALL.model.build(2).state_dict()}, {}, keep=1)
    _Apply(checkpoint, lambda rows: pytest.fail("nothing is read yet"), (), gpu=False)
    assert tf32() == (False, False)
    assert SCORED_IN == "float32, without TF32"


def test_no_step_sends_buffers_around(monkeypatch):
    asked = {}
    monkeypatch.setattr(nn.parallel, "DistributedDataParallel", lambda model, **options: asked.update(options) or model)
    Steps(nn.Linear(1, 1), Training(), Worker(device=CPU, rank=1, world_size=2), None, 0)
    assert asked["broadcast_buffers"] is False


def test_a_compiled_network_draws_the_random_numbers_of_one_that_is_not(monkeypatch):
    asked = {}
    monkeypatch.setattr(nn.Module, "compile", lambda model, **options: asked.update(options))
    compile_network(nn.Dropout())
    assert asked == {"options": {"fallback_random": True}}


@pytest.mark.slow
def test_a_compiled_dropout_gives_the_same_bits():
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 64), nn.Dropout(0.2))
    inputs = torch.randn(16, 64)
    torch.manual_seed(5)
    eager = model(inputs)
    compile_network(model)
    torch.manual_seed(5)
    torch.testing.assert_close(model(inputs), eager)


def test_the_precision_is_among_the_settings_that_a_run_records():
    assert json.loads(json.dumps(about(SMALL, (), "")))["settings"]["training.precision"] == "auto"


def test_a_share_that_does_not_fit_a_card_is_refused_with_what_to_do(monkeypatch):
    def overflow(*_: object) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(measure, "_seconds_of_step", overflow)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(total_memory=10e9))
    with pytest.raises(UsageError, match=r"with 8 mixtures, needs more memory than a card has \(10\.0 GB\)\. Raise --"):
        measure._measure(SMALL, Noise(), 5)
    # The fewest workers that an elastic run goes on with have the largest shares.
    elastic = replace(SMALL, resources=replace(SMALL.resources, num_workers=4, min_workers=2))
    with pytest.raises(UsageError, match="with 4 mixtures, needs more memory"):
        measure._measure(elastic, Noise(), 5)
