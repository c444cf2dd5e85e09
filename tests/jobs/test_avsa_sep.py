"""AVSA-Sep's jobs: the paper's recipe, its test of what is not seen, and its ablations."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from cocktail.config.experiment import Experiment
from cocktail.config.settings import flatten
from cocktail.models.avsa_sep import AVSASepConfig
from jobs import ablate_avsa_sep
from pipelines.papers.avsa_sep import AVSA_SEP
from pipelines.sweeps.ablation import grids_of
from pipelines.sweeps.grids import plan_trials


@pytest.mark.parametrize("word", ["music", "vggsound"])
def test_the_recipe_is_sound_of_pixels_on_three_sources(job, word):
    paper = job("avsa_sep", word, "--data", "/shards")
    training, mixing, model = paper.training, paper.mixing, paper.model
    assert paper.name == f"avsa_sep_{word}"
    assert (training.optimizer, training.learning_rate, training.batch_size, training.epochs) == ("sgd", 1e-3, 80, 100)
    assert (training.lr_drop_epochs, training.lr_drop_factor, training.weight_decay) == ((40, 80), 0.1, 1e-4)
    assert (mixing.num_sources, mixing.pictures_per_source, mixing.segment_samples) == (3, 3, 65535)
    assert (mixing.shown_sources, paper.evaluation.shown_sources) == ("all", "all_but_one")
    assert (model.num_maps, model.masks, model.picture_weight, model.triplet_weight) == (32, "binary", 1.5, 0.1)
    demo = job("avsa_sep", word, "--data", "/shards", "--preset", "demo")
    assert (demo.mixing.num_sources, demo.mixing.pictures_per_source, demo.model.unet_width) == (3, 1, 16)
    assert demo.evaluation.shown_sources == "all_but_one" and demo.training.max_steps == 1200


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("--mixing.num-sources 2", {"mixing.num_sources": 2, "model.branches": "both"}),
        ("--mixing.num-sources 2 --model.branches labels", {"mixing.num_sources": 2, "model.branches": "labels"}),
        (
            "--evaluation.split train --evaluation.crop random --evaluation.allow-trained-on",
            {"evaluation.split": "train", "evaluation.crop": "random", "evaluation.allow_trained_on": True},
        ),
        ("--evaluation.frames-from train", {"evaluation.frames_from": "train", "evaluation.split": "val"}),
        (
            "--evaluation.shown-sources some --mixing.shown-sources 1",
            {"evaluation.shown_sources": "some", "mixing.shown_sources": 1},
        ),
    ],
)
def test_each_row_is_an_option_or_two(job, options, settings):
    experiment = job("avsa_sep", "music", "--data", "/shards", *options.split())
    found = flatten(asdict(experiment))
    assert {path: found[path] for path in settings} == settings
    test = experiment.evaluation.test_mixing(experiment.mixing)
    experiment.model.require_test_mixing(test)
    assert test.shown_sources == found["evaluation.shown_sources"]


def test_the_ablations_are_of_two_sources_and_train_what_they_say():
    recipe = ablate_avsa_sep.RECIPE
    assert recipe.mixing.num_sources == ablate_avsa_sep.DEMO.mixing.num_sources == 2
    grids = grids_of(AVSA_SEP, "both", is_default=True)
    trials, (branches, tests, weights) = plan_trials(Experiment[AVSASepConfig], recipe, grids)
    assert [trial.experiment.model.branches for trial in branches] == ["labels", "both"]
    assert branches[1] is tests[2] is weights[2] and len(trials) == 9
    assert (tests[0].experiment.evaluation.split, tests[0].experiment.evaluation.allow_trained_on) == ("train", True)
    assert tests[1].experiment.evaluation.frames_from == "train"
    settings = [(trial.experiment.model.triplet_weight, trial.experiment.model.picture_weight) for trial in weights]
    assert settings == [(0, 1.5), (0.01, 1.5), (0.1, 1.5), (1, 1.5), (0.1, 0.5), (0.1, 1)]
