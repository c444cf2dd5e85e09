"""Looks at held-out mixtures: when, by whom, and that they decide nothing."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cocktail.checkpoints.store import CheckpointStore
from cocktail.train.look import Look
from cocktail.train.loop import train
from cocktail.train.worker import Worker
from tests.made.models.small_sgn import SMALL as SGN_CONFIG
from tests.made.models.small_sgn import tones
from tests.made.models.small_training import HERE, SETTINGS, Noise, Regressor, run, weights_hash


class Guesser(Regressor):
    """Says that every mixture holds class 0, and counts how it was asked."""

    asked: list[tuple[bool, int | None]]

    def __init__(self):
        super().__init__()
        self.asked = []

    def confusion(self, batch):
        self.asked.append((self.training, None if batch is None else len(batch)))
        tokens = {"token": torch.tensor([[1, 0, 0]] * 3)}
        if batch is None:
            return tokens
        truth = nn.functional.one_hot(batch.class_ids[:, 0], 3) > 0
        said = torch.zeros_like(truth)
        said[:, 0] = True
        self.net(batch.sources.float().flatten(1) / 32768)  # would move BatchNorm's statistics in training
        return tokens | {"presence": torch.stack([said & truth, said & ~truth, ~said & truth], dim=-1).sum(dim=0)}


def batches(count: int):
    return tuple(next(iter(Noise().batches(9, number, 0, 1))) for number in range(count))


def test_looks_are_after_powers_of_two_then_epochs_and_the_last_step():
    look = Look(batches=(), on_look=lambda step, scores: None)
    assert [step for step in range(1, 1001) if look.is_due(step, 1000, 300)] == [
        1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 600, 900, 1000,
    ]  # fmt: skip


def test_scores_are_of_all_batches_and_the_weights_are_those_without_looks(tmp_path):
    seen: list[tuple[int, dict[str, float]]] = []
    model, held_out = Guesser(), batches(3)
    torch.manual_seed(7)
    model = Guesser()
    train(
        model,
        Noise(),
        SETTINGS,
        seed=3,
        worker=Worker(device=torch.device("cpu")),
        checkpoints=CheckpointStore(str(tmp_path / "looked")),
        identity={"manifest": "m"},
        on_log=lambda *record: None,
        look=Look(batches=held_out, on_look=lambda step, scores: seen.append((step, scores))),
    )
    full = [step for step, scores in seen if "look/presence_micro_f1" in scores]
    assert full == [0, 1, 2, 4, 5, 8, 10, 15]
    assert [step for step, scores in seen if "look/token_macro_f1" in scores] == list(range(16))
    assert set(model.asked) == {(False, 4), (False, None)}
    classes = torch.cat([batch.class_ids[:, 0] for batch in held_out])
    right = int((classes == 0).sum())
    scores = seen[0][1]
    assert scores["look/presence_micro_precision"] == pytest.approx(right / 12)
    assert scores["look/presence_macro_recall"] == pytest.approx(1 / 3)
    assert scores["look/presence_micro_f1"] == pytest.approx(right / 12)
    run(tmp_path / "not", model=None)
    assert weights_hash(tmp_path / "looked") == weights_hash(tmp_path / "not")


def test_a_run_that_goes_on_does_not_look_at_its_beginning_again(tmp_path):
    run(tmp_path, replace(SETTINGS, max_steps=4))
    seen: list[int] = []
    torch.manual_seed(7)
    train(
        Guesser(),
        Noise(),
        SETTINGS,
        seed=3,
        worker=Worker(device=torch.device("cpu")),
        checkpoints=CheckpointStore(str(tmp_path)),
        identity={"manifest": "m"},
        on_log=lambda *record: None,
        look=Look(batches=batches(1), on_look=lambda step, scores: seen.append(step)),
    )
    assert seen == list(range(5, 16))


class ScalarReads(TorchDispatchMode):
    """Counts the numbers that are read out of tensors, for each of which the host would wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_looks_wait_for_no_device_and_are_told_of_in_one_transfer(monkeypatch):
    model, told, transfers = SGN_CONFIG.build(3), [], []
    held_out = (tones([[0, 1], [2, 0]]), tones([[1, 2]]))
    look = Look(batches=held_out, on_look=lambda step, scores: told.append((step, scores)))
    copy = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda tensor: transfers.append(tensor.shape) or copy(tensor))
    with ScalarReads() as reads:
        for step in range(1, 6):
            look.after(step, 100, 50, model, HERE)
    assert (reads.count, transfers, told) == (0, [], [])
    look.report(HERE)
    assert [step for step, _ in told] == [1, 2, 3, 4, 5]
    assert len(transfers) == 1
    assert ["look/presence_micro_f1" in scores for _, scores in told] == [True, True, False, True, False]
    look.report(HERE)
    assert len(told) == 5, "told once"


def test_looks_are_told_of_with_log_lines(tmp_path):
    order: list[tuple[str, int]] = []
    torch.manual_seed(7)
    train(
        Guesser(),
        Noise(),
        replace(SETTINGS, max_steps=5, log_every=3, checkpoint_every=100),
        seed=3,
        worker=HERE,
        checkpoints=CheckpointStore(str(tmp_path)),
        identity={"manifest": "m"},
        on_log=lambda step, num_steps, metrics: order.append(("log", step)),
        look=Look(batches=batches(1), on_look=lambda step, scores: order.append(("look", step))),
    )
    looks = [("look", step) for step in range(6)]
    assert order == [*looks[:4], ("log", 3), *looks[4:], ("log", 5)]
