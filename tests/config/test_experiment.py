"""What names a run, and what is refused."""

import json
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from cocktail.audio.stft import FrontEndConfig
from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.identity import identity, run_key
from cocktail.config.mixing import Mixing
from cocktail.config.resources import Resources
from cocktail.config.settings import flatten, part_of, require_kept
from cocktail.config.training import Training
from cocktail.models.sgn import SGNConfig
from cocktail.types import UsageError

NO_FOLDERS = (".", "..", "...", ".hidden", "-x", "a/b", "../a", "a\0b", "a\n", "", "a" * 201)
"""Names that no folder of one's own can have, or that mean something else to a shell."""
EXPERIMENT = Experiment(name="x", model=SGNConfig(depth=2))


def test_where_it_runs_does_not_change_a_runs_name():
    elsewhere = replace(EXPERIMENT, resources=Resources(num_workers=4), output="/other", data="s3://bucket/shards")
    assert run_key(elsewhere, "m") == run_key(EXPERIMENT, "m")


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"model": SGNConfig(depth=3)},
        {"training": Training(learning_rate=0.01)},
        {"mixing": Mixing(num_sources=3)},
    ],
)
def test_what_decides_results_changes_a_runs_name(change):
    assert run_key(replace(EXPERIMENT, **change), "m") != run_key(EXPERIMENT, "m")


def test_what_decides_only_how_often_something_is_written_does_not_change_a_runs_name():
    training = Training(log_every=3, checkpoint_every=7, keep_checkpoints=1)
    changed = replace(EXPERIMENT, training=training, evaluation=Evaluation(batch_size=1, num_examples=9))
    assert run_key(changed, "m") == run_key(EXPERIMENT, "m")


def test_what_it_is_tested_on_decides_nothing_of_a_run():
    other = replace(EXPERIMENT, evaluation=Evaluation(num_mixtures=7, test_list="/lists/pairs.parquet"))
    assert identity(other, "m") == identity(EXPERIMENT, "m")
    assert run_key(other, "m") == run_key(EXPERIMENT, "m")


def test_settings_come_back_from_their_paths_whole():
    model = SGNConfig(depth=2, front_end=FrontEndConfig(hop_length=128), num_frames=512, source_vectors="tokens")
    training = Training(lr_drop_epochs=(3, 4))
    settings = json.loads(json.dumps(flatten(asdict(replace(EXPERIMENT, model=model, training=training)))))
    assert part_of(SGNConfig, settings, "model.") == model
    assert part_of(Training, settings, "training.") == training
    assert part_of(Mixing, settings, "mixing.") == EXPERIMENT.mixing


@dataclass(frozen=True, kw_only=True)
class Strange:
    """A lab's own settings, of every type that a checkpoint can keep."""

    pair: tuple[str, int] = ("a", 1)
    pairs: tuple[tuple[int, int], ...] = ((1, 2), (3, 4))
    numbers: list[int] = field(default_factory=lambda: [1, 2])
    rows: list[list[float]] = field(default_factory=lambda: [[0.5, 1], [2.0]])
    weights: dict[str, int] = field(default_factory=lambda: {"a": 1})
    nested: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=lambda: {"a": {"b": (1, 2)}})
    anything: Any = ((1, "b"), None)
    maybe: tuple[int, int] | Literal["none"] | None = (1, 2)


def test_settings_of_a_labs_own_types_come_back_from_json():
    for part in (
        Strange(),
        Strange(pairs=(), numbers=[], maybe=None, anything="c"),
        Strange(maybe="none", weights={"b": 2}),
    ):
        require_kept(part, "model.")
        assert part_of(Strange, json.loads(json.dumps(flatten(asdict(part), "model."))), "model.") == part


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pair", ["a", "b"]),
        ("pair", ["a", 1, 2]),
        ("pairs", [[1, 2], [3]]),
        ("pairs", [1, 2]),
        ("numbers", [1, "2"]),
        ("numbers", [True]),
        ("maybe", [1]),
        ("weights.b", "c"),
        ("nested.a.b", ["c"]),
    ],
)
def test_settings_of_other_types_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=rf"the setting model\.{name.partition('.')[0]} cannot be"):
        part_of(Strange, {f"model.{name}": value}, "model.")


@pytest.mark.parametrize(
    ("kind", "value", "why"),
    [
        (Path, Path("/a"), "not JSON serializable"),
        (dict[int, str], {1: "a"}, r"the setting model\.own cannot be"),
        (tuple[int, int], (1, 2, 3), r"the setting model\.own cannot be \[1, 2, 3\]"),
        (dict[str, int], {}, "own.a would not come back"),
    ],
)
def test_a_configuration_that_a_checkpoint_cannot_keep_is_refused_by_name(kind, value, why):
    default = field(default_factory=lambda: {"a": 1}) if kind == dict[str, int] else field()
    made = make_dataclass("Own", [("own", kind, default)])
    with pytest.raises(UsageError, match=rf"cannot keep .*:Own \(docs/extending\.md .*{why}"):
        require_kept(made(own=value), "model.")


def test_settings_that_a_part_does_not_have_are_refused_by_name():
    settings = flatten(asdict(EXPERIMENT))
    for unknown in ("model.dept", "model.front_end", "model.front_end.hop", "model.front_ends.hop_length"):
        message = rf"has no settings {unknown}: another has made the checkpoint"
        with pytest.raises(UsageError, match=message):
            part_of(SGNConfig, {**settings, unknown: 1}, "model.")
    with pytest.raises(UsageError, match=r"has no settings mixing\.a, mixing\.b:"):
        part_of(Mixing, {**settings, "mixing.b": 1, "mixing.a": 1, "mixings": 1}, "mixing.")


def test_other_data_changes_a_runs_name():
    assert run_key(EXPERIMENT, "m") != run_key(EXPERIMENT, "n")


def test_an_identity_is_dotted_paths():
    settings = identity(EXPERIMENT, "m")
    assert settings["model.depth"] == 2
    assert settings["model.front_end.hop_length"] == 256
    assert settings["training.lr_drop_epochs"] == [40, 80]
    assert settings["manifest"] == "m"
    assert not any(path.startswith("resources") for path in settings)


def test_steps_follow_the_epochs_up_to_a_limit():
    training = Training(epochs=3)
    assert training.num_steps(10) == 30
    assert replace(training, max_steps=12).num_steps(10) == 12


def test_where_a_run_starts_from_is_told_by_the_hash_of_what_it_takes():
    elsewhere = replace(EXPERIMENT, start_from="/runs/a", start_parts=("unet",))
    assert run_key(elsewhere, "m", "hash") == run_key(EXPERIMENT, "m", "hash")
    assert len({run_key(elsewhere, "m", weights) for weights in (None, "hash", "other")}) == 3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Mixing(num_sources=0), "num_sources must be at least 1"),
        (lambda: Mixing(min_gain=2.0), "min_gain"),
        (lambda: Mixing(segment_samples=100), "two seconds"),
        (lambda: replace(EXPERIMENT, mixing=Mixing(segment_samples=32767)), "gives 128 frames"),
        (lambda: Training(batch_size=0), "batch_size"),
        (lambda: Training(select="best"), "select best need validation_split"),
        (lambda: Training(validation_split="train[:5%]"), r"trained on: .*--training\.split 'train\[5%:\]'"),
        (
            lambda: replace(EXPERIMENT, training=Training(validation_split="test[:5%]")),
            r"test\[:5%\] is what the model is tested on",
        ),
        (lambda: Resources(num_workers=0), "num_workers"),
        (lambda: replace(EXPERIMENT, run_name="my run"), "run_name"),
        *((lambda name=name: replace(EXPERIMENT, run_name=name), "run_name may hold") for name in NO_FOLDERS),
        *((lambda name=name: replace(EXPERIMENT, name=name), "name may hold") for name in NO_FOLDERS),
        (lambda: replace(EXPERIMENT, name="e_(x)"), r"name may hold letters"),
        (lambda: replace(EXPERIMENT, name="mixture"), r"not be 'mixture'"),
        (lambda: replace(EXPERIMENT, resources=Resources(num_workers=81)), "at least resources.num_workers x"),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(build, message):
    with pytest.raises(UsageError, match=message):
        build()
