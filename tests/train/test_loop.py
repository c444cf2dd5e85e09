"""The loop resumes exactly, stops at what is no number, and follows its schedule."""

import shutil
import time
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.config.model import ParameterGroup
from cocktail.config.training import Training
from cocktail.train.batches import FirstBatches
from cocktail.train.loop import train
from cocktail.train.update import NonFiniteLossError
from cocktail.train.validation import Validation
from cocktail.types import MixtureBatch, ReadStatistics, UsageError
from tests.made.models.small_training import HERE, SETTINGS, Noise, Regressor, run, weights_hash


@pytest.mark.parametrize("stopped_at", [1, 5, 6, 14])
def test_stopped_anywhere_and_started_again_gives_the_same_weights(tmp_path, stopped_at):
    run(tmp_path / "whole")

    class StoppedError(Exception):
        pass

    class Breaking(Noise):
        def batches(self, epoch, first, rank, world_size):
            for batch in super().batches(epoch, first, rank, world_size):
                if len(self.served) > stopped_at:
                    raise StoppedError
                yield batch

    with pytest.raises(StoppedError):
        run(tmp_path / "cut", source=Breaking())
    resumed = Noise()
    torch.rand(3)  # a process that starts again has another random state
    run(tmp_path / "cut", source=resumed)
    last_saved = stopped_at // 4 * 4
    assert resumed.served == [divmod(step, 5) for step in range(last_saved, 15)]
    assert weights_hash(tmp_path / "cut") == weights_hash(tmp_path / "whole")


def test_groups_and_a_schedule_by_steps_go_on_after_a_restart_as_if_there_had_been_none(tmp_path):
    settings = replace(SETTINGS, lr_drop_epochs=(), lr_warm_up_steps=6, lr_cosine=True, sync_batch_norm=True)

    def groups(model):
        """Made of the layers that are trained: synchronised BatchNorm is another than the model was built with."""
        first, norm, _, last = model.net
        return (
            ParameterGroup(parameters=tuple(first.parameters()), rate_factor=0.1, optimizer="sgd"),
            ParameterGroup(parameters=tuple(norm.parameters()), rate_factor=0.0),
            ParameterGroup(parameters=tuple(last.parameters()), weight_decay=0.5),
        )

    torch.manual_seed(7)  # as the other runs are
    model = Regressor()
    logs = run(tmp_path / "whole", settings, model=model, parameter_groups=groups)
    rates = {step: metrics["learning_rate"] for step, _, metrics in logs}
    assert [rates[2], rates[6]] == pytest.approx([1e-3 * 2 / 6, 1e-3])  # the rate of the step that was taken last
    assert 0 < rates[15] < rates[14] < 2e-4
    norm: Any = model.net[1]
    assert torch.equal(norm.weight, torch.ones(16)) and torch.equal(norm.bias, torch.zeros(16))
    run(tmp_path / "cut", settings, parameter_groups=groups)
    for step in (15, 12, 8):
        shutil.rmtree(tmp_path / "cut" / f"step-{step:08d}")
    run(tmp_path / "cut", settings, parameter_groups=groups)
    assert weights_hash(tmp_path / "cut") == weights_hash(tmp_path / "whole")
    run(tmp_path / "alike", replace(settings, sync_batch_norm=False))
    assert weights_hash(tmp_path / "alike") != weights_hash(tmp_path / "whole")


class Followed(Regressor):
    """With a parameter that is half as far behind the first weight after each update."""

    def __init__(self):
        super().__init__()
        self.behind = nn.Parameter(torch.zeros(()), requires_grad=False)
        self.seen = [self.first.item()]

    @property
    def first(self) -> torch.Tensor:
        return self.get_parameter("net.0.weight").detach()[0, 0]

    def follow(self) -> None:
        self.seen.append(self.first.item())
        self.behind.data.lerp_(self.first, 0.5)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_what_follows_does_so_once_an_update_and_goes_on_from_a_checkpoint(tmp_path, accumulate):
    settings = replace(SETTINGS, accumulate=accumulate, sync_batch_norm=True)
    torch.manual_seed(7)
    model = Followed()
    run(tmp_path / "whole", settings, model=model)
    assert len(set(model.seen)) == len(model.seen) == 1 + 15
    behind = 0.0
    for weight in model.seen[1:]:
        behind += 0.5 * (weight - behind)
    assert model.behind.item() == pytest.approx(behind)
    torch.manual_seed(7)
    run(tmp_path / "cut", replace(settings, max_steps=8), model=Followed())
    run(tmp_path / "cut", settings, model=Followed())
    assert weights_hash(tmp_path / "cut") == weights_hash(tmp_path / "whole")


def test_a_finished_run_is_left_alone(tmp_path):
    run(tmp_path)
    again = Noise()
    assert run(tmp_path, source=again) == []
    assert again.served == []


def test_the_log_has_steps_losses_rate_and_speed(tmp_path):
    logs = run(tmp_path)
    assert [step for step, _, _ in logs] == [2, 4, 6, 8, 10, 12, 14, 15]
    assert {total for _, total, _ in logs} == {15}
    metrics = logs[0][2]
    assert {"loss/fit", "loss/total", "learning_rate", "mixtures_per_second", "data_wait_share"} <= metrics.keys()
    assert [round(entry["learning_rate"], 6) for _, _, entry in logs] == [1e-3] * 2 + [1e-4] * 6
    assert logs[-1][2]["loss/total"] < logs[0][2]["loss/total"]


def test_stopped_anywhere_and_started_again_logs_the_same_losses(tmp_path):
    settings = replace(SETTINGS, checkpoint_every=3, max_steps=8)

    def losses(logs):
        return {step: metrics["loss/total"] for step, _, metrics in logs}

    whole = losses(run(tmp_path / "whole", settings))
    assert list(whole) == [2, 3, 4, 6, 8]
    run(tmp_path / "cut", replace(settings, max_steps=5))
    newest = CheckpointStore(str(tmp_path / "cut")).newest()
    assert newest is not None
    shutil.rmtree(newest)  # as if it had been killed before its end
    assert losses(run(tmp_path / "cut", settings)) == {step: loss for step, loss in whole.items() if step > 3}


def test_logged_losses_are_means_over_the_steps_since_the_last_line(tmp_path):
    every = [entry["loss/total"] for _, _, entry in run(tmp_path / "a", Training(**{**vars(SETTINGS), "log_every": 1}))]
    second = [entry["loss/total"] for _, _, entry in run(tmp_path / "b")]
    assert second[0] == pytest.approx((every[0] + every[1]) / 2)


def test_a_loss_that_is_no_number_stops_before_the_update_and_names_the_mixtures(tmp_path):
    class Poisoned(Regressor):
        def forward(self, batch):
            losses = super().forward(batch)
            if batch.mixture_ids[0] == "1-2-0":
                return {name: loss * float("nan") for name, loss in losses.items()}
            return losses

    with pytest.raises(NonFiniteLossError, match=r"step 8: .*mixtures 1-2-0, 1-2-1, 1-2-2, 1-2-3"):
        run(tmp_path, model=Poisoned())
    newest = CheckpointStore(str(tmp_path)).newest()
    assert newest is not None
    assert load_checkpoint(newest).step == 4


def test_max_steps_ends_within_an_epoch(tmp_path):
    source = Noise()
    run(tmp_path, Training(**{**vars(SETTINGS), "max_steps": 7}), source=source)
    assert CheckpointStore(str(tmp_path)).newest() == f"{tmp_path}/step-00000007"


def test_a_checkpoint_of_other_settings_is_refused_and_kept(tmp_path):
    run(tmp_path)
    before = weights_hash(tmp_path)
    with pytest.raises(UsageError, match=r"manifest \(was m, is other\)"):
        run(tmp_path, identity={"manifest": "other"})
    assert weights_hash(tmp_path) == before


def test_a_checkpoint_of_other_data_is_refused_with_what_differs(tmp_path):
    run(tmp_path)
    before = weights_hash(tmp_path)
    other = Noise()
    other.manifest = "another"
    with pytest.raises(UsageError, match=r"cannot go on with this data: manifest \(was the same, is another\)"):
        run(tmp_path, source=other)
    assert weights_hash(tmp_path) == before


def test_an_epoch_is_planned_while_the_one_before_trains_and_begun_before_its_last_step(tmp_path):
    source, begun = Noise(), []

    class Waiting(Regressor):
        """In each step, waits until as much is served as should be."""

        def forward(self, batch):
            step = len(begun) + 1
            deadline = time.monotonic() + 20
            while (step // 5, 0) not in source.served and time.monotonic() < deadline:
                time.sleep(0.001)
            begun.append((step // 5, 0) in source.served)
            return super().forward(batch)

    run(tmp_path, replace(SETTINGS, max_steps=14), source=source, model=Waiting())
    assert begun == [True] * 14
    assert source.planned == [1, 2]
    assert source.served == [divmod(step, 5) for step in range(14)]


def test_a_checkpoint_says_where_in_the_data_it_stands(tmp_path):
    run(tmp_path, Training(**{**vars(SETTINGS), "max_steps": 7}))
    newest = CheckpointStore(str(tmp_path)).newest()
    assert newest is not None
    assert load_checkpoint(newest).state["data"] == {"epoch": 1, "batch": 2, "manifest": "the same", "dropped": 0}


class Damaged(Noise):
    """The third mixture of the second batch of each epoch is dropped."""

    def batches(self, epoch, first, rank, world_size):
        for number, batch in enumerate(super().batches(epoch, first, rank, world_size), first):
            if number == 1:
                kept = [0, 1, 3]
                yield replace(
                    batch,
                    mixture_ids=tuple(batch.mixture_ids[i] for i in kept),
                    sources=batch.sources[kept],
                    gains=batch.gains[kept],
                    class_ids=batch.class_ids[kept],
                    present=batch.present[kept],
                    dropped=(f"mixture {batch.mixture_ids[2]}: its clip is damaged",),
                    dropped_rows=(2,),
                )
            else:
                yield batch


def test_dropped_mixtures_are_named_counted_and_too_many_stop_the_run(tmp_path, capsys):
    allowed = replace(SETTINGS, max_dropped_share=0.05)  # one in 20, as it is
    logs = run(tmp_path / "allowed", allowed, source=Damaged())
    assert logs[-1][2]["dropped_mixtures"] == 3
    assert "dropped at step 2: mixture 0-1-2: its clip is damaged" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"1 of 20 mixtures were dropped by step 2 .* mixture 0-1-2: its clip is"):
        run(tmp_path / "refused", replace(SETTINGS, max_dropped_share=0.049), source=Damaged())


def test_what_was_dropped_is_remembered_over_a_restart(tmp_path):
    allowed = replace(SETTINGS, max_dropped_share=0.1)
    run(tmp_path / "cut", replace(allowed, max_steps=7), source=Damaged())
    run(tmp_path / "whole", allowed, source=Damaged())
    logs = run(tmp_path / "cut", allowed, source=Damaged())
    assert logs[-1][2]["dropped_mixtures"] == 3
    assert weights_hash(tmp_path / "cut") == weights_hash(tmp_path / "whole")


def test_a_step_without_any_mixture_changes_nothing_but_the_count(tmp_path):
    class Gone(Noise):
        def batches(self, epoch, first, rank, world_size):
            for batch in super().batches(epoch, first, rank, world_size):
                yield replace(
                    batch,
                    mixture_ids=(),
                    sources=batch.sources[:0],
                    gains=batch.gains[:0],
                    class_ids=batch.class_ids[:0],
                    present=batch.present[:0],
                    dropped=tuple(f"mixture {name}: gone" for name in batch.mixture_ids),
                    dropped_rows=(0, 1, 2, 3),
                )

    sgd = replace(SETTINGS, optimizer="sgd", weight_decay=0.0, max_steps=3, max_dropped_share=1.0)
    model = Regressor()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run(tmp_path, sgd, source=Gone(), model=model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_silence_in_place_of_a_batch_without_any_mixture_has_labels_where_batches_have(tmp_path):
    class Labelled(Noise):
        def batches(self, epoch, first, rank, world_size):
            for batch in super().batches(epoch, first, rank, world_size):
                lost = replace(batch.rows(0, 0), dropped=("gone",) * 4, dropped_rows=(0, 1, 2, 3))
                yield replace(lost, labels=torch.zeros(0, 2, 3, dtype=torch.bool))

    class Seeing(Regressor):
        def forward(self, batch):
            assert batch.labels is not None
            assert torch.equal(batch.labels, nn.functional.one_hot(batch.class_ids, 3).bool())
            return super().forward(batch)

    run(tmp_path, replace(SETTINGS, max_steps=1, max_dropped_share=1.0), source=Labelled(), model=Seeing())


def test_what_was_read_is_logged(tmp_path):
    class Read(Noise):
        def batches(self, epoch, first, rank, world_size):
            for batch in super().batches(epoch, first, rank, world_size):
                yield replace(
                    batch,
                    read_statistics=ReadStatistics(bytes_read=1000, bytes_fetched=10, cache_hits=3, cache_misses=1),
                )

    metrics = run(tmp_path, source=Read())[0][2]
    assert metrics["cache_hit_share"] == 0.75
    assert metrics["bytes_read_per_second"] == pytest.approx(100 * metrics["bytes_fetched_per_second"])
    assert metrics["bytes_read_per_second"] == pytest.approx(250 * metrics["mixtures_per_second"])


def held_out() -> tuple[MixtureBatch, ...]:
    return tuple(batch for _, batch in zip(range(2), Noise().batches(9, 0, 0, 1), strict=False))


def validated(folder, settings, every=None, model=None, **changes):
    torch.manual_seed(7)
    logs: list[tuple[int, int, dict]] = []
    train(
        model or Regressor(),
        Noise(),
        settings,
        seed=3,
        worker=HERE,
        checkpoints=CheckpointStore(str(folder)),
        identity={"manifest": "m"},
        on_log=lambda *record: logs.append(record),
        validation=Validation(batches=held_out(), every=every),
        **changes,
    )
    assert logs == [] or logs[-1][0] == logs[-1][1], "the last line does not say that it is the last"
    return [(step, metrics["validation/total"]) for step, _, metrics in logs if "validation/total" in metrics]


def test_validation_comes_after_each_epoch_or_as_often_as_asked_and_changes_nothing(tmp_path):
    run(tmp_path / "without")
    assert [step for step, _ in validated(tmp_path / "with", SETTINGS)] == [5, 10, 15]
    assert [step for step, _ in validated(tmp_path / "often", SETTINGS, every=4)] == [4, 8, 12, 15]
    assert weights_hash(tmp_path / "with") == weights_hash(tmp_path / "without")


def test_the_validation_loss_is_the_mean_over_its_mixtures_in_evaluation_mode(tmp_path):
    ((_, value),) = validated(tmp_path, replace(SETTINGS, max_steps=5))
    newest = CheckpointStore(str(tmp_path)).newest()
    assert newest is not None
    model = Regressor()
    model.load_state_dict(load_checkpoint(newest).state["model"])
    model.eval()
    assert value == pytest.approx(sum(model(batch)["total"].item() for batch in held_out()) / 2, abs=1e-6)


def test_a_loss_that_draws_is_validated_by_the_same_numbers_each_time(tmp_path):
    class Drawing(Regressor):
        def forward(self, batch):
            losses = super().forward(batch)
            return losses if self.training else {"total": torch.rand(())}

    values = [value for _, value in validated(tmp_path, SETTINGS, model=Drawing())]
    torch.manual_seed(0)
    first = torch.rand(()).item()
    torch.manual_seed(1)
    assert values == [pytest.approx((first + torch.rand(()).item()) / 2)] * 3


def test_training_stops_when_the_validation_loss_no_longer_falls_also_over_a_restart(tmp_path, capsys):
    # At this rate the loss soon rises again.
    settings = replace(SETTINGS, epochs=100, optimizer="sgd", learning_rate=0.03, validation_split="val", patience=3)
    losses = [loss for _, loss in validated(tmp_path / "whole", settings)]
    best = min(range(len(losses)), key=losses.__getitem__)
    assert len(losses) == best + 1 + 3 < 100
    assert "the validation loss has not fallen for 3 validations" in capsys.readouterr().out
    stopped_at = 5 * len(losses)
    assert CheckpointStore(str(tmp_path / "whole")).newest() == f"{tmp_path}/whole/step-{stopped_at:08d}"
    validated(tmp_path / "cut", replace(settings, max_steps=stopped_at - 5))
    assert len(validated(tmp_path / "cut", settings)) == 1
    assert weights_hash(tmp_path / "cut") == weights_hash(tmp_path / "whole")
    assert validated(tmp_path / "cut", settings) == []  # it stays stopped


def test_the_best_checkpoint_is_kept_to_the_end_also_over_a_restart(tmp_path):
    # At this rate the loss soon rises again.
    settings = replace(SETTINGS, epochs=12, optimizer="sgd", learning_rate=0.03, validation_split="val", select="best")
    losses = validated(tmp_path / "whole", settings)
    (best, lowest), last = min(losses, key=lambda told: told[1]), losses[-1][0]
    assert best < last - 5, "the last ones are kept anyway"
    store = CheckpointStore(str(tmp_path / "whole"))
    assert store.selected() == f"{store.folder}/step-{best:08d}"
    assert store.newest() == f"{store.folder}/step-{last:08d}"
    model = Regressor()
    model.load_state_dict(load_checkpoint(f"{store.folder}/step-{best:08d}").state["model"])
    model.eval()
    assert sum(model(batch)["total"].item() for batch in held_out()) / 2 == pytest.approx(lowest, abs=1e-6)

    validated(tmp_path / "cut", replace(settings, max_steps=best + 5))
    validated(tmp_path / "cut", settings)
    assert CheckpointStore(str(tmp_path / "cut")).selected() == f"{tmp_path}/cut/step-{best:08d}"


def test_a_validation_loss_that_is_no_number_is_an_error_and_not_one_that_has_not_fallen(tmp_path):
    class BlindToOthers(Regressor):
        def forward(self, batch):
            losses = super().forward(batch)
            return losses if self.training else {name: loss * float("nan") for name, loss in losses.items()}

    settings = replace(SETTINGS, validation_split="val", patience=1)
    with pytest.raises(NonFiniteLossError, match=r"the validation loss is not finite: .*nan"):
        validated(tmp_path, settings, model=BlindToOthers())
    newest = CheckpointStore(str(tmp_path)).newest()
    assert newest is not None
    assert load_checkpoint(newest).step == 4


def test_overfitting_takes_the_first_batches_over_and_over_and_goes_on_after_a_restart(tmp_path):
    seen: list[str] = []

    class Seeing(Regressor):
        def forward(self, batch):
            seen.append(batch.mixture_ids[0])
            return super().forward(batch)

    run(tmp_path / "seen", source=FirstBatches(Noise(), 2), model=Seeing())
    assert seen == [f"0-{step % 2}-0" for epoch in range(3) for step in range(5)]
    run(tmp_path / "whole", source=FirstBatches(Noise(), 2))
    run(tmp_path / "cut", replace(SETTINGS, max_steps=7), source=FirstBatches(Noise(), 2))
    run(tmp_path / "cut", source=FirstBatches(Noise(), 2))
    assert weights_hash(tmp_path / "cut") == weights_hash(tmp_path / "whole")
    with pytest.raises(UsageError, match=r"overfit_batches \(was 2, is 3\)"):
        run(tmp_path / "cut", source=FirstBatches(Noise(), 3))


def test_the_time_outside_the_steps_is_told_and_small_where_steps_are_not(tmp_path):
    class Slow(Regressor):
        def forward(self, batch):
            time.sleep(0.05)
            return super().forward(batch)

    logs = run(tmp_path, model=Slow())
    assert all(0 < entry["outside_step_share"] < 0.2 for _, _, entry in logs)
    assert all(entry["data_wait_share"] <= entry["outside_step_share"] for _, _, entry in logs)


@pytest.mark.slow
def test_a_compiled_model_learns_the_same(tmp_path):
    class Plain(Regressor):
        """torch.compile draws other random numbers."""

        def __init__(self):
            super().__init__()
            self.net[2] = nn.Identity()

    # Not AdamW, which makes whole steps of a gradient that is rounding alone, as that of a bias before BatchNorm is.
    settings = replace(SETTINGS, optimizer="sgd", learning_rate=0.01)
    states = []
    for compiled in (False, True):
        torch.manual_seed(7)
        train(
            Plain(),
            Noise(),
            settings,
            seed=3,
            worker=HERE,
            checkpoints=CheckpointStore(str(tmp_path / str(compiled))),
            identity={"manifest": "m"},
            on_log=lambda *record: None,
            compiled=compiled,
        )
        newest = CheckpointStore(str(tmp_path / str(compiled))).newest()
        assert newest is not None
        states.append(load_checkpoint(newest).state["model"])
    assert states[0].keys() == states[1].keys()  # either goes on from the other's checkpoint
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=1e-4, rtol=1e-4)
