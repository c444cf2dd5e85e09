"""The jobs of separators that see, and of Sound of Pixels without pictures, are the papers' recipes."""

from __future__ import annotations

import pytest

from cocktail.models.mp_net import STAGES
from pipelines.experiments.benchmarks import SEPARATION, SEPARATION_BY_A_GLANCE, SEPARATION_BY_SIGHT

JOBS = {
    "sound_of_pixels": SEPARATION_BY_SIGHT,
    "sound_of_pixels_audio": SEPARATION,
    "mp_net": SEPARATION_BY_SIGHT,
}
COMMANDS = [(name, benchmark.word) for name, benchmarks in JOBS.items() for benchmark in benchmarks]

GLANCES = [(name, each.word) for name in ("co_separation", "av_mix_separate") for each in SEPARATION_BY_A_GLANCE]


@pytest.mark.parametrize(("name", "word"), COMMANDS)
def test_the_recipe_is_sound_of_pixels(staged_job, name, word):
    paper, stages = staged_job(name, word, "--data", "/shards")
    assert paper.name == f"{name}_{word}" and stages == (STAGES if name == "mp_net" else ())
    training, mixing = paper.training, paper.mixing
    assert (training.optimizer, training.learning_rate, training.momentum) == ("sgd", 1e-3, 0.9)
    assert (training.weight_decay, training.batch_size, training.epochs) == (1e-4, 80, 100)
    assert (training.lr_drop_epochs, training.lr_drop_factor) == ((40, 80), 0.1)
    assert (mixing.num_sources, mixing.sample_rate_hz, mixing.segment_samples) == (2, 11025, 65535)
    assert mixing.pictures_per_source == (0 if name == "sound_of_pixels_audio" else 3)
    model = paper.model
    assert (model.unet_width, model.unet_depth, model.masks, model.weighted_loss) == (64, 7, "binary", True)
    if name != "sound_of_pixels_audio":
        assert (model.num_maps, model.initial_weights, mixing.picture_side // model.stride) == (32, "auto", 14)


@pytest.mark.parametrize(("name", "word"), COMMANDS)
def test_the_demo_has_one_picture_a_source_of_which_its_place_is_known(staged_job, name, word):
    demo, _ = staged_job(name, word, "--data", "/shards", "--preset", "demo")
    assert demo.mixing.pictures_per_source == (0 if name == "sound_of_pixels_audio" else 1)
    assert demo.model.unet_width == 16 and getattr(demo.model, "initial_weights", "none") == "none"
    assert demo.training.max_steps == (600 if name == "mp_net" else 1800)


@pytest.mark.parametrize(("name", "word"), GLANCES)
def test_the_recipe_is_co_separation(staged_job, name, word):
    paper, _ = staged_job(name, word, "--data", "/shards")
    assert paper.name == f"{name}_{word}"
    training, mixing, model = paper.training, paper.mixing, paper.model
    assert (training.optimizer, training.learning_rate, training.weight_decay) == ("adam", 1e-4, 1e-4)
    assert (training.batch_size, training.max_steps, training.lr_drop_epochs) == (80, 35000, ())
    assert (training.lr_drop_steps, training.lr_drop_factor) == ((15000, 30000), 0.1)
    assert (mixing.num_sources, mixing.sample_rate_hz, mixing.segment_samples) == (2, 11025, 65535)
    assert (mixing.pictures_per_source, mixing.picture_side, model.picture_side) == (1, 224, 224)
    assert (model.unet_width, model.unet_depth, model.masks, model.weighted_loss) == (64, 7, "ratio", True)
    assert (model.scene, model.class_weight) == ((True, 0.05) if name == "co_separation" else (False, 0.0))
    assert (model.objects, model.initial_weights, model.input_norm) == ("frame", "auto", "none")


@pytest.mark.parametrize(("name", "word"), GLANCES)
def test_the_demo_of_co_separation_reads_the_pictures_that_demos_have(staged_job, name, word):
    demo, _ = staged_job(name, word, "--data", "/shards", "--preset", "demo")
    assert (demo.mixing.pictures_per_source, demo.mixing.picture_side, demo.model.picture_side) == (1, 128, 128)
    demo.model.require_mixing(demo.mixing)
    assert (demo.training.max_steps, demo.training.lr_drop_steps) == (1800, ())
    assert (demo.model.scene, demo.model.class_weight > 0) == ((name == "co_separation",) * 2)


def test_only_a_corpus_with_pictures_trains_what_sees(staged_job, capsys):
    with pytest.raises(SystemExit) as ended:
        staged_job("sound_of_pixels", "fuss", "--data", "/shards")
    assert ended.value.code == 2
    assert "one of vggsound, music, not fuss" in capsys.readouterr().err
