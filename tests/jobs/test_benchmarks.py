"""Each model's job takes the benchmark for its first word, and builds the experiment that it always was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re

import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.identity import identity
from cocktail.config.resources import Resources
from pipelines.experiments.benchmarks import (
    COSEGMENT,
    LOCALIZATION,
    LOCALIZATION_OF_ONE,
    SEPARATION,
    SEPARATION_BY_SIGHT,
)
from tests.services.checkout import PROJECT
from tests.services.jobs import start_job

OFFICIAL = Evaluation(num_sources=(1, 2), num_mixtures=None, pairs="official")
DRAWN = Evaluation(num_sources=(1, 2), num_mixtures=40)
MASKS = {"single_threshold": 0.3, "multi_threshold": 0.1}
MUSIC = {"arrangement": "whole", "crop": "annotated"}
EXPERIMENTS = {
    "sgn vggsound": ("916282e2", Evaluation(num_mixtures=1000), "860e83e2", Evaluation(num_mixtures=100)),
    "sgn music": (
        *("1697b9da", Evaluation(split="val", num_mixtures=1000)),
        *("08fdf333", Evaluation(split="val", num_mixtures=100)),
    ),
    "sgn fuss": (
        *("bcf79032", Evaluation(split="eval", whole_groups=True, num_mixtures=None)),
        *("bbd12d9e", Evaluation(split="eval", whole_groups=True, num_mixtures=None)),
    ),
    "sgn musdb18": (
        *("5e980ecd", Evaluation(split="test", num_mixtures=1000, crop="random")),
        *("64d770aa", Evaluation(split="test", num_mixtures=100, crop="random")),
    ),
    "avgn vggsound": ("06723228", OFFICIAL, "bda83b3a", DRAWN),
    "avgn instruments": (
        *("910805c8", dataclasses.replace(OFFICIAL, **MASKS)),
        *("348c40cd", dataclasses.replace(DRAWN, **MASKS)),
    ),
    "avgn music": (
        *("8957ec62", dataclasses.replace(OFFICIAL, pairs="drawn", **MUSIC)),
        *("bab2f122", dataclasses.replace(DRAWN, **MUSIC)),
    ),
    "ez_vsl vggsound": ("a924876a", OFFICIAL, "22d41a59", DRAWN),
    "ez_vsl instruments": (
        *("5f512b00", dataclasses.replace(OFFICIAL, **MASKS)),
        *("263e0a6c", dataclasses.replace(DRAWN, **MASKS)),
    ),
    "ez_vsl music": (
        *("c7248566", dataclasses.replace(OFFICIAL, pairs="drawn", **MUSIC)),
        *("8b92575f", dataclasses.replace(DRAWN, **MUSIC)),
    ),
}
"""By job and benchmark, of the paper's recipe and of the demo: a hash of all settings that decide the weights and were
there when it was written down, and the test."""
ADDED = {
    "mixing.several_classes": False,
    "mixing.shown_sources": "all",
    "model.input_norm": "none",
    "model.patch_embedding": "linear",
    "model.dilate": False,
    "mixing.equalizer_db": 0.0,
    "mixing.picture_part": "whole",
    "training.lr_warm_up_steps": 0,
    "training.lr_drop_steps": [],
    "training.lr_decay_every": None,
    "training.lr_decay_factor": 0.9,
    "training.lr_cosine": False,
}
"""Settings that came after, at the values by which nothing changes, of models that have them."""
CHANGED = {
    ("sgn", "demo"): {
        "mixing.segment_samples": (65535, 32767),
        "model.num_frames": (256, 128),
        "model.input_norm": ("none", "mixture"),
        "model.patch_embedding": ("linear", "convolutions"),
        "training.max_steps": (300, 1800),
        "training.lr_cosine": (False, True),
    },
    ("avgn", "paper"): {"model.negative_gate": ("own", "asked"), "model.token_init_std": (0.0, 1.0)},
    ("avgn", "demo"): {"model.negative_gate": ("own", "asked")},
    ("ez_vsl", "paper"): {"mixing.num_sources": (2, 1)},
    ("ez_vsl", "demo"): {"mixing.num_sources": (2, 1)},
}
"""Settings whose values are others than when it was written down: what they were, and what they are."""


def test_each_benchmark_of_each_model_is_here():
    words = [(model, benchmark.word) for model in ("avgn", "ez_vsl") for benchmark in LOCALIZATION]
    words += [("sgn", benchmark.word) for benchmark in SEPARATION]
    assert {" ".join(pair) for pair in words} == set(EXPERIMENTS)


@pytest.mark.parametrize("command", EXPERIMENTS)
def test_a_job_and_a_word_are_the_experiment_of_before(job, command):
    model, word = command.split()
    paper_key, paper_test, demo_key, demo_test = EXPERIMENTS[command]
    for preset, end, key, test in (("paper", "", paper_key, paper_test), ("demo", "_demo", demo_key, demo_test)):
        experiment = job(model, word, "--data", "/shards", "--preset", preset)
        assert experiment.name == f"{model}_{word}{end}"
        settings = identity(experiment, "0" * 64)
        for path, (was, now) in CHANGED.get((model, preset), {}).items():
            assert settings[path] == now
            settings[path] = was
        added = {path: value for path, value in ADDED.items() if path in settings}
        assert {path: settings.pop(path) for path in added} == added
        assert hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8] == key
        assert experiment.evaluation == test
        assert experiment.resources == Resources()


def test_the_main_job_has_one_benchmark_and_no_first_word(job):
    assert job("sgn_vggsound") == job("sgn", "vggsound")
    assert job("sgn_vggsound", "--data", "/shards") == job("sgn", "vggsound", "--data", "/shards")


def test_settings_stand_behind_the_word(job):
    experiment = job("avgn", "music", "--data", "/shards", "--model.depth", "1", "--training.batch-size=4")
    assert (experiment.model.depth, experiment.training.batch_size, experiment.data) == (1, 4, "/shards")


@pytest.mark.parametrize("model", ["sgn", "avgn", "ez_vsl"])
def test_only_vggsound_has_the_small_corpus_in_its_place(job, capsys, model):
    assert job(model, "vggsound").data is None
    for benchmark in SEPARATION if model == "sgn" else LOCALIZATION:
        if benchmark.word == "vggsound":
            continue
        with pytest.raises(SystemExit) as ended:
            job(model, benchmark.word)
        assert ended.value.code == 2
        message = f"error: no data: give --data SHARDS, which are made by {benchmark.shards}\n"
        assert capsys.readouterr().err == message


@pytest.mark.parametrize(
    ("arguments", "given"),
    [((), "and there is none"), (("musci", "--data", "/d"), "not musci"), (("--data", "/d"), "not --data")],
)
def test_a_first_word_that_is_none_is_told_which_there_are(job, capsys, arguments, given):
    with pytest.raises(SystemExit) as ended:
        job("ez_vsl", *arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: the first word names the benchmark, one of vggsound, instruments, music, {given} "
        f"({PROJECT / 'jobs' / 'ez_vsl.py'} --help says what each is)\n"
    )


def test_help_lists_the_benchmarks_and_behind_a_word_the_settings(job, capsys):
    with pytest.raises(SystemExit) as ended:
        job("ez_vsl", "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for benchmark in LOCALIZATION_OF_ONE:
        assert benchmark.describe() in shown
    assert "--training.batch-size" not in shown
    with pytest.raises(SystemExit) as ended:
        job("ez_vsl", "music", "--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert "ez_vsl.py music" in shown.splitlines()[0]
    assert "--training.batch-size" in shown
    assert "ez_vsl_music" in shown and "demo without" not in shown  # which does not run


@pytest.mark.parametrize("benchmark", [*SEPARATION, *SEPARATION_BY_SIGHT, *LOCALIZATION, *COSEGMENT])
def test_jobs_that_make_shards_exist_and_take_the_options_that_are_named(benchmark, capsys):
    for command in benchmark.shards.split("; "):
        (name,) = re.findall(r"jobs/(\w+)\.py", command)
        with pytest.raises(SystemExit):
            start_job(name, "--help")
        shown = capsys.readouterr().out
        for option in re.findall(r"--[\w-]+", command):
            assert f"{option} " in shown, (command, option)
