"""Two processes train as one."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.audio.stft import FrontEndConfig
from cocktail.checkpoints.store import CheckpointStore, load_checkpoint
from cocktail.config.training import Training
from cocktail.metrics.classification import confusion_counts
from cocktail.models.avgn import AVGNConfig
from cocktail.models.coarse_to_fine import CoarseToFineConfig
from cocktail.models.dsol import DSOLConfig
from cocktail.models.lvs import LVSConfig
from cocktail.models.sgn import SGNConfig
from cocktail.models.slavc import SLAVCConfig
from cocktail.numerics.randomness import draw_rows
from cocktail.train.look import Look
from cocktail.train.loop import train
from cocktail.train.update import NonFiniteLossError
from cocktail.train.validation import Validation
from cocktail.train.worker import Worker
from cocktail.types import MixtureBatch, share_of

SETTINGS = Training(
    epochs=2,
    batch_size=8,
    optimizer="sgd",
    learning_rate=0.05,
    lr_drop_epochs=(),
    log_every=1,
    checkpoint_every=1,
    max_dropped_share=1.0,
)


class Linear(nn.Module):
    """Without BatchNorm and dropout, the mean gradient of two halves is that of the whole."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(8, 1)

    def forward(self, batch: MixtureBatch):
        predicted = self.net(batch.sources[..., :4].float().flatten(1) / 32768).squeeze(1)
        loss = (predicted - batch.class_ids[:, 0]).square().mean()
        return {"total": self.poisoned(loss) if "poison" in batch.mixture_ids else loss}

    def poisoned(self, loss: torch.Tensor) -> torch.Tensor:
        return loss * float("nan")

    def confusion(self, batch: MixtureBatch | None):
        if batch is None:
            return {}
        said = self.net(batch.sources[..., :4].float().flatten(1) / 32768) > torch.tensor([-0.1, 0.0, 0.1])
        truth = nn.functional.one_hot(batch.class_ids[:, 0], 3) > 0
        return {"presence": confusion_counts(said, truth)}


class Infinite(Linear):
    """A loss that is infinite on one worker alone, and a gradient that is a number on both."""

    def poisoned(self, loss: torch.Tensor) -> torch.Tensor:
        return loss + float("inf")


class Normed(nn.Module):
    """BatchNorm with a bias that matters, and dropout: what differs by how a batch is divided."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Linear(6, 1)

    def forward(self, batch: MixtureBatch):
        x = self.norm(self.first(batch.sources[..., :4].float().flatten(1) / 32768 + 3))
        if self.training:
            x = x * draw_rows(lambda rows: torch.rand(rows, 6), len(x))
        return {"total": (self.last(x.tanh()).squeeze(1) - batch.class_ids[:, 0]).square().mean()}


class Noted(Normed):
    """Notes the sums of what it predicts for held-out mixtures, and their number."""

    def __init__(self):
        super().__init__()
        self.register_buffer("notes", torch.zeros(2))

    def notes_of(self, batch: MixtureBatch) -> torch.Tensor:
        return torch.stack([self(batch)["total"] * len(batch), torch.tensor(float(len(batch)))])

    def keep_notes(self, notes: torch.Tensor) -> None:
        assert notes[1] == 3 * SETTINGS.batch_size
        self.get_buffer("notes").copy_(notes)


def sgn() -> nn.Module:
    """With stochastic depth, Gumbel noise and BatchNorm at every level."""
    front_end = FrontEndConfig(n_fft=254, hop_length=64, num_rows=64)
    config = SGNConfig(
        width=8, depth=2, num_heads=2, unet_width=2, unet_depth=5, num_frames=64, front_end=front_end, assignment="hard"
    )
    return config.build(3)


def sgn_in_float64() -> nn.Module:
    """Where rounding is too small to grow into anything: what differs then is a mistake."""
    model: Any = sgn()
    targets = model._targets
    model._targets = lambda batch: tuple(value.double() for value in targets(batch))
    return model.double()


TOWERS: dict[str, Any] = {
    "width": 8,
    "resnet_width": 2,
    "visual_stages": 2,
    "dilate": False,
    "initial_weights": "none",
    "spectrum": PowerSpectrumConfig(sample_rate_hz=4000),
}


def avgn_in_float64(**settings: Any) -> nn.Module:
    """Each sound is compared with the pictures of all workers, and each picture with their sounds."""
    return AVGNConfig(depth=1, num_heads=2, **TOWERS, **settings).build(3).double()


def avgn_gated_by_who_is_seen() -> nn.Module:
    """Pictures do not meet the classes of the other workers' sounds."""
    return avgn_in_float64(negative_gate="own")


def dsol_in_float64() -> nn.Module:
    """The dictionary is of the objects of all workers' batches."""
    return DSOLConfig(**TOWERS, dictionary_memory=0.9).build(3).double()


def coarse_to_fine_in_float64() -> nn.Module:
    """Each class's vector is compared with those of all workers' sources."""
    return CoarseToFineConfig(**TOWERS, align_width=4, stage="fine").build(3).double()


def slavc_in_float64() -> nn.Module:
    """With dropout, and encoders that follow at a pace that shows."""
    return SLAVCConfig(**TOWERS, momentum=0.5).build(3).double()


def lvs_in_float64() -> nn.Module:
    """Pictures of one worker are compared with the sounds of all."""
    return LVSConfig(**TOWERS).build(3).double()


class Batches:
    """Three batches an epoch; of some mixtures the clips are damaged, and one may be poison."""

    batches_per_epoch = 3

    def __init__(
        self, batch_size: int, num_samples: int, dropped: frozenset[int], poison: int | None, picture_side: int = 0
    ):
        self.batch_size, self.num_samples, self.dropped, self.poison = batch_size, num_samples, dropped, poison
        self.picture_side = picture_side

    def state(self, step):
        return {"batch": step % 3}

    def plan_ahead(self, epoch):
        pass

    def batches(self, epoch, first, rank, world_size):
        start, share = share_of(self.batch_size, rank, world_size)
        for number in range(first, 3):
            generator = torch.Generator().manual_seed(100 * epoch + number)
            size = (self.batch_size, 2, self.num_samples)
            sources = torch.randint(-32768, 32767, size, generator=generator, dtype=torch.int16)
            class_ids = torch.stack([torch.randperm(3, generator=generator)[:2] for _ in range(self.batch_size)])
            side = self.picture_side
            shape = (self.batch_size, 2, 1, side, side, 3)
            pictures = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8) if side else None
            planned = range(start, start + share)
            mine = [i for i in planned if i not in self.dropped]
            poisoned = self.poison if (epoch, number) == (1, 0) else None
            yield MixtureBatch(
                mixture_ids=tuple("poison" if i == poisoned else str(i) for i in mine),
                sources=sources[mine],
                gains=torch.ones(len(mine), 2),
                class_ids=class_ids[mine],
                pictures=None if pictures is None else pictures[mine],
                present=torch.ones(len(mine), 2, dtype=torch.bool),
                dropped=tuple(f"mixture {i}: damaged" for i in planned if i in self.dropped),
                dropped_rows=tuple(i - start for i in planned if i in self.dropped),
            )


@dataclass(frozen=True)
class Case:
    """A training that one process and two do, and that both can go on with of the other."""

    build: Callable[[], nn.Module] = Linear
    settings: Training = SETTINGS
    num_samples: int = 4
    picture_side: int = 0
    dropped: frozenset[int] = frozenset()
    poison: int | None = None
    num_looks: int = 0
    num_validated: int = 0

    def held_out(self, count: int) -> tuple[MixtureBatch, ...]:
        source = Batches(self.settings.batch_size, self.num_samples, frozenset(), None)
        return tuple(next(iter(source.batches(9, number, 0, 1))) for number in range(count))


SYNCED = replace(SETTINGS, sync_batch_norm=True)
CASES = {
    "whole": Case(),
    "second worker's share is damaged": Case(dropped=frozenset({4, 5, 6, 7})),
    "something of each is damaged": Case(dropped=frozenset({0, 5, 6})),
    "uneven shares": Case(settings=replace(SETTINGS, batch_size=7)),
    "in parts": Case(settings=replace(SETTINGS, accumulate=3), dropped=frozenset({2, 3, 7})),
    "clipped": Case(settings=replace(SETTINGS, clip_gradient_norm=0.1)),
    "not synced": Case(build=Normed),
    "synced": Case(build=Normed, settings=SYNCED),
    "synced, second worker's share is damaged": Case(build=Normed, settings=SYNCED, dropped=frozenset({4, 5, 6, 7})),
    "synced, first worker's share is damaged": Case(build=Normed, settings=SYNCED, dropped=frozenset({0, 1, 2, 3})),
    "synced, something of the first is damaged": Case(build=Normed, settings=SYNCED, dropped=frozenset({1})),
    "synced, a part of each is gone": Case(
        build=Normed, settings=replace(SYNCED, accumulate=4), dropped=frozenset({3, 7})
    ),
    "synced, uneven shares": Case(build=Normed, settings=replace(SYNCED, batch_size=7)),
    "sgn": Case(build=sgn, settings=replace(SYNCED, learning_rate=0.5), num_samples=64 * 64 - 1),
    "sgn in float64": Case(
        build=sgn_in_float64, settings=replace(SYNCED, learning_rate=0.1, epochs=8), num_samples=64 * 64 - 1
    ),
    **{
        f"{model} in float64, {told}": Case(
            build=build,
            settings=replace(SYNCED, learning_rate=0.01, batch_size=size),
            num_samples=4096,
            picture_side=32,
            dropped=dropped,
        )
        for model, told, build, size, dropped in (
            ("avgn", "whole", avgn_gated_by_who_is_seen, 8, frozenset()),
            ("avgn", "uneven shares", avgn_in_float64, 7, frozenset()),
            ("avgn", "something of each is damaged", avgn_in_float64, 8, frozenset({0, 5, 6})),
            ("avgn", "second worker's share is damaged", avgn_gated_by_who_is_seen, 8, frozenset({4, 5, 6, 7})),
            ("dsol", "first worker's share is damaged", dsol_in_float64, 8, frozenset({0, 1, 2, 3})),
            ("coarse to fine", "uneven shares", coarse_to_fine_in_float64, 7, frozenset({2})),
            ("slavc", "second worker's share is damaged", slavc_in_float64, 8, frozenset({4, 5, 6, 7})),
            ("lvs", "uneven shares", lvs_in_float64, 7, frozenset({1})),
        )
    },
    "one look": Case(num_looks=1),
    "three looks": Case(num_looks=3),
    "validated": Case(build=Noted, num_validated=3, settings=replace(SYNCED, validation_split="val", validate_every=2)),
    "poisoned": Case(poison=6),
    "infinite": Case(build=Infinite, poison=6),
}


class Unseen(CheckpointStore):
    """As one worker may find a shared folder in which another sees a checkpoint."""

    def newest(self) -> str | None:
        return None


def run(
    case: Case,
    folder: Path,
    rank: int,
    world_size: int,
    max_steps: int | None = None,
    store: type[CheckpointStore] = CheckpointStore,
    compiled: bool = False,
) -> None:
    """Train, go on if something is there; store logs, looks, and what was raised, by rank."""
    torch.manual_seed(11)
    logs: list[dict[str, float]] = []
    looks: list[dict[str, float]] = []
    raised = ""
    validation = Validation(batches=case.held_out(case.num_validated), every=case.settings.validate_every)
    try:
        train(
            case.build(),
            Batches(case.settings.batch_size, case.num_samples, case.dropped, case.poison, case.picture_side),
            replace(case.settings, max_steps=max_steps),
            seed=0,
            worker=Worker(device=torch.device("cpu"), rank=rank, world_size=world_size),
            checkpoints=store(str(folder / "checkpoints")),
            identity={},
            on_log=lambda step, num_steps, metrics: logs.append({"step": step, **metrics}),
            look=Look(batches=case.held_out(case.num_looks), on_look=lambda step, scores: looks.append(scores)),
            validation=validation if case.num_validated else None,
            compiled=compiled,
        )
    except NonFiniteLossError as error:
        raised = str(error)
    kept = [{name: value for name, value in entry.items() if name.split("/")[0] in KEPT} for entry in logs]
    folder.mkdir(exist_ok=True)
    (folder / f"{rank}.json").write_text(json.dumps({"logs": kept, "looks": looks, "raised": raised}))


KEPT = ("step", "loss", "validation", "gradient_norm", "dropped_mixtures")


@contextmanager
def joined(rank: int, world_size: int, port: int, seconds: int = 60) -> Iterator[None]:
    """One of the processes that speak to each other. Where one waits for the other in vain, it is to fail."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size, timeout=timedelta(seconds=seconds))
    yield
    dist.barrier()  # rank 0 holds the store that the others still speak to
    dist.destroy_process_group()


def run_all(rank: int, world_size: int, folder: str, port: int) -> None:
    """Every case, by two processes."""
    with joined(rank, world_size, port):
        run_cases(rank, world_size, folder)


def run_cases(rank: int, world_size: int, folder: str) -> None:
    for name, case in CASES.items():
        run(case, Path(folder, name), rank, world_size)
        run(case, Path(folder, f"{name}, first half"), rank, world_size, max_steps=3)
    run(Case(), Path(folder, "unseen"), rank, world_size, max_steps=3)
    run(Case(), Path(folder, "unseen"), rank, world_size, store=CheckpointStore if rank == 0 else Unseen)


COMPILED = ("synced", "synced, uneven shares")
"""Cases with BatchNorm over both processes, and random numbers."""


def run_compiled(rank: int, world_size: int, folder: str, port: int) -> None:
    """Cases compiled and not, by two processes, of which one may compile for minutes longer than the other."""
    with joined(rank, world_size, port, seconds=600):
        for name in COMPILED:
            for compiled in (False, True):
                run(CASES[name], Path(folder, f"{name}, {compiled}"), rank, world_size, compiled=compiled)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory) -> Path:
    """What two processes made of each case, a folder each."""
    folder = tmp_path_factory.mktemp("two")
    spawn(run_all, args=(2, str(folder), free_port()), nprocs=2)
    return folder


def read(folder: Path, rank: int = 0) -> dict:
    return json.loads((folder / f"{rank}.json").read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    newest = CheckpointStore(str(folder / "checkpoints")).newest()
    assert newest is not None
    return load_checkpoint(newest).state["model"]


def assert_same_curve(ours: list[dict[str, float]], theirs: list[dict[str, float]], tolerance: float) -> None:
    assert [entry["step"] for entry in ours] == [entry["step"] for entry in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=tolerance, abs=tolerance)


BY_SHARES = ("not synced", "synced, a part of each is gone")
"""What depends on how a batch is divided."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("poisoned", "infinite", *BY_SHARES)])
def test_two_ranks_compute_what_one_does_on_the_whole_batch(by_two, tmp_path, name):
    run(CASES[name], tmp_path, 0, 1)
    two = read(by_two / name)
    assert two["logs"] == read(by_two / name, rank=1)["logs"]
    assert_same_curve(two["logs"], read(tmp_path)["logs"], 1e-5)
    steps = 3 * CASES[name].settings.epochs
    dropped = len(CASES[name].dropped)
    assert [entry["dropped_mixtures"] for entry in two["logs"]] == [float(dropped * (n + 1)) for n in range(steps)]
    one = weights(tmp_path)
    tolerance = 1e-9 if "in float64" in name else 1e-5
    for parameter, value in weights(by_two / name).items():
        torch.testing.assert_close(one[parameter], value, atol=tolerance, rtol=tolerance)


CONTINUED = (
    "whole",
    "synced",
    "sgn",
    "sgn in float64",
    "slavc in float64, second worker's share is damaged",
    "validated",
)


@pytest.mark.parametrize("name", CONTINUED)
def test_one_worker_goes_on_where_two_stopped(by_two, tmp_path, name):
    half = by_two / f"{name}, first half"
    before = read(half)["logs"]
    assert [entry["step"] for entry in before] == [1, 2, 3]
    run(CASES[name], half, 0, 1)
    run(CASES[name], tmp_path, 0, 1)
    if name == "validated":  # the end of a shorter training is validated, too
        before[-1] = {key: value for key, value in before[-1].items() if not key.startswith("validation")}
    assert_same_curve([*before, *read(half)["logs"]], read(tmp_path)["logs"], 1e-5)


def test_all_workers_go_on_from_the_checkpoint_that_the_first_one_sees(by_two):
    assert [entry["step"] for entry in read(by_two / "unseen", rank=1)["logs"]] == [4, 5, 6]
    assert read(by_two / "unseen")["logs"] == read(by_two / "whole")["logs"][3:]


def test_without_synchronisation_the_curve_depends_on_the_number_of_workers(by_two, tmp_path):
    run(CASES["not synced"], tmp_path, 0, 1)
    one, two = ([entry["loss/total"] for entry in read(folder)["logs"]] for folder in (tmp_path, by_two / "not synced"))
    assert one != pytest.approx(two, abs=1e-3)


def test_a_part_of_which_no_worker_has_anything_has_no_part_in_what_is_learned(by_two):
    gone = by_two / "synced, a part of each is gone"
    assert read(gone)["raised"] == ""
    assert len(read(gone)["logs"]) == 6
    state = weights(gone)
    assert all(value.isfinite().all() for value in state.values())
    assert state["norm.num_batches_tracked"] == 6 * 3


@pytest.mark.parametrize("num_looks", ["one look", "three looks"])
def test_two_ranks_see_what_one_sees_when_they_look(by_two, tmp_path, num_looks):
    run(CASES[num_looks], tmp_path, 0, 1)
    one, two, other = read(tmp_path)["looks"], read(by_two / num_looks)["looks"], read(by_two / num_looks, 1)["looks"]
    assert two == other
    assert one == two
    assert len(one) == 6  # before the first step, and after 1, 2, 3, 4 and 6
    assert one[0]["look/presence_micro_f1"] > 0


@pytest.mark.parametrize("name", ["poisoned", "infinite"])
def test_the_worker_with_the_loss_that_is_no_number_is_named_on_all(by_two, name):
    messages = [read(by_two / name, rank)["raised"] for rank in (0, 1)]
    assert messages[0] == messages[1]
    assert messages[0].startswith("the loss is not finite at step 4: ")
    assert messages[0].endswith("mixtures 4, 5, poison, 7")
    assert [entry["step"] for entry in read(by_two / name)["logs"]] == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_and_synced_two_ranks_learn_what_they_do_uncompiled(tmp_path):
    """Losses, norms of gradients, and weights: a gradient that is lost on the way would move none."""
    spawn(run_compiled, args=(2, str(tmp_path), free_port()), nprocs=2)
    for name in COMPILED:
        eager, compiled = tmp_path / f"{name}, False", tmp_path / f"{name}, True"
        assert_same_curve(read(compiled)["logs"], read(eager)["logs"], 1e-5)
        learned = weights(eager)
        for parameter, value in weights(compiled).items():
            torch.testing.assert_close(value, learned[parameter], atol=1e-5, rtol=1e-5)
        torch.manual_seed(11)
        for parameter, start in CASES[name].build().named_parameters():
            moved = parameter == "first.bias" or not torch.equal(learned[parameter], start)
            assert moved, "what stands before BatchNorm alone has no gradient"
