"""The jobs of co-segmentation: its recipe, its tests, and the sweep over what the paper leaves open."""

from __future__ import annotations

import re

import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.models.cosegmentation import SMALL_COSEGMENTATION, CoSegmentationConfig
from jobs.ablate_cosegmentation import DEMO, RECIPE
from pipelines.experiments.benchmarks import COSEGMENT
from pipelines.papers.cosegmentation import COSEGMENTATION_PAPER, READINGS, TABLE_1
from pipelines.sweeps.ablation import grids_of
from pipelines.sweeps.grids import plan_trials


@pytest.mark.parametrize("word", [benchmark.word for benchmark in COSEGMENT])
def test_the_recipe_is_the_papers_where_it_has_one(job, word):
    paper = job("cosegmentation", word, "--data", "/shards", "--evaluation.data", "/other")
    training, mixing, model = paper.training, paper.mixing, paper.model
    assert paper.name == f"cosegmentation_{word}" and model == CoSegmentationConfig()
    assert (training.optimizer, training.learning_rate, training.batch_size) == ("adam", 1e-4, 32)
    assert (training.epochs, training.lr_drop_epochs) == (100, ())
    assert (mixing.num_sources, mixing.sample_rate_hz, mixing.segment_samples) == (2, 11025, 65535)
    assert (mixing.pictures_per_source, mixing.picture_side // model.stride) == (1, 7)
    assert (model.num_bases, model.visual_width, model.unet_width, model.unet_depth) == (32, 1024, 64, 7)
    paper.model.require_mixing(mixing)
    if word != "vggsound":
        assert mixing.several_classes and mixing.mixtures_per_epoch == 1117 * 32


def test_music_and_audioset_are_tested_on_each_pair_of_classes_and_on_draws_of_those_that_are_named(job):
    music = Evaluation(pairs="classes", crop="random", num_mixtures=None)
    assert music.crops_per_pair == 10
    assert job("cosegmentation", "music", "--data", "/shards").evaluation == music
    there = ("cosegmentation", "audioset", "--data", "/shards", "--evaluation.data", "/other")
    audioset = job(*there).evaluation
    assert (audioset.pairs, audioset.crop, audioset.class_draw, audioset.data) == ("classes", "random", None, "/other")
    drawn = job(*there, "--evaluation.classes", "banjo", "cello", "--evaluation.class-draw", "11").evaluation
    assert (drawn.classes, drawn.class_draw) == (("banjo", "cello"), 11)


def test_a_test_elsewhere_has_to_be_named(job, capsys):
    with pytest.raises(SystemExit) as ended:
        job("cosegmentation", "audioset", "--data", "/shards")
    assert ended.value.code == 2 and "give --evaluation.data TEST" in capsys.readouterr().err


@pytest.mark.parametrize("word", [benchmark.word for benchmark in COSEGMENT])
def test_the_demo_is_small_and_one_picture_shows_each_source(job, word):
    demo = job("cosegmentation", word, "--data", "/shards", "--preset", "demo", "--evaluation.data", "/other")
    assert demo.model == SMALL_COSEGMENTATION and demo.model.initial_weights == "none"
    assert (demo.mixing.pictures_per_source, demo.mixing.picture_side // demo.model.stride) == (1, 8)
    assert (demo.evaluation.pairs, demo.training.max_steps) == ("drawn", 1800)
    demo.model.require_mixing(demo.mixing)
    assert job("cosegmentation", "vggsound").data is None, "the small corpus stands in for VGG-Sound"


def test_the_row_without_a_segmenter_says_what_it_does_not_read(job, capsys):
    row = job("cosegmentation", "music", "--data", "/shards", "--model.no-segmenter", "--model.masks", "ratio")
    assert (row.model.segmenter, row.model.masks) == (False, "ratio")
    with pytest.raises(SystemExit):
        job("cosegmentation", "music", "--data", "/shards", "--preset", "demo", "--model.no-segmenter")
    assert "set score_pool to mean" in re.sub(r"[│\s]+", " ", capsys.readouterr().err)
    pooled = ("--model.no-segmenter", "--model.score-pool", "mean")
    short = job("cosegmentation", "music", "--data", "/shards", "--preset", "demo", *pooled)
    assert not short.model.segmenter


@pytest.mark.parametrize("base", [RECIPE, DEMO])
def test_the_sweep_has_the_papers_rows_and_one_reading_a_trial(base):
    grids = grids_of(COSEGMENTATION_PAPER, "both", is_default=True)
    _, (rows, readings) = plan_trials(Experiment[CoSegmentationConfig], base, grids)
    assert [(trial.experiment.model.segmenter, trial.experiment.model.masks) for trial in rows] == [
        (False, "ratio"),
        (False, "binary"),
        (True, "ratio"),
        (True, "binary"),
    ]
    own, as_it_is = vars(base.model), []
    for row, trial in zip(READINGS.rows, readings, strict=True):
        ((path, value),) = row.settings.items()
        name = path.removeprefix("model.")
        assert str(getattr(trial.experiment.model, name)) == value and trial.experiment.mixing == base.mixing
        changed = {name for name, value in vars(trial.experiment.model).items() if value != own[name]}
        assert changed <= {name}
        as_it_is += [] if changed else [row.label]
    assert as_it_is == ["scores are means" if own["score_pool"] == "mean" else "scores are sums"]


def test_the_papers_numbers_stand_beside_its_own_rows_only():
    paper = {"model.segmenter": True, "model.masks": "binary", "model.score_pool": "mean"}
    place = TABLE_1.row_of({"model.masks": "ratio"}, paper)
    assert place is not None and TABLE_1.rows[place].scores == (9.14, 13.35, 14.18)
    place = TABLE_1.row_of({"model.segmenter": False, "model.masks": "binary"}, paper)
    assert place is not None and TABLE_1.rows[place].scores == (9.25, 15.98, 12.45)
    assert TABLE_1.row_of({"model.masks": "ratio", "model.coef_act": "tanh"}, paper) is None
