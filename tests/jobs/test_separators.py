"""The jobs of the separators that SGN is compared with run on every data set, with their papers' recipes."""

from __future__ import annotations

import pytest

from cocktail.config.mixing import Mixing
from cocktail.models.hdemucs import HDemucsConfig
from pipelines.experiments.benchmarks import SEPARATION

# Optimizer, first learning rate, mixtures a step, and what else of the schedule the paper says.
RECIPES = {
    "nmf_sup": ("adam", 1e-3, 32, {"lr_cosine": True}),
    "wave_unet": ("adam", 1e-4, 16, {}),
    "conv_tasnet": ("adam", 1e-3, 8, {"clip_gradient_norm": 5.0}),
    "hdemucs": ("adam", 3e-4, 64, {"epochs": 360}),
    "resunet": ("adam", 1e-3, 16, {"lr_warm_up_steps": 1000, "lr_decay_every": 15000, "lr_decay_factor": 0.9}),
    "tdcn": ("adam", 1e-4, 3, {}),
}
WORDS = [benchmark.word for benchmark in SEPARATION]


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipe_is_the_papers(job, name):
    optimizer, rate, batch_size, rest = RECIPES[name]
    training = job(name, "music", "--data", "/shards").training
    assert (training.optimizer, training.learning_rate, training.batch_size) == (optimizer, rate, batch_size)
    assert {setting: getattr(training, setting) for setting in rest} == rest
    assert training.lr_drop_epochs == ()


def test_the_rate_of_tdcn_is_halved_evenly_in_two_million_steps(job):
    training = job("tdcn", "fuss", "--data", "/shards").training
    rates = [training.learning_rate_at(step, 1) for step in (0, 500_000, 1_000_000, 2_000_000)]
    assert rates == pytest.approx([1e-4, 1e-4 * 0.5**0.25, 1e-4 * 0.5**0.5, 5e-5])


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("name", ["nmf", "rpca", *RECIPES])
def test_both_presets_fit_every_data_set(job, name, word):
    for preset, end in (("paper", ""), ("demo", "_demo")):
        experiment = job(name, word, "--data", "/shards", "--preset", preset)
        assert experiment.name == f"{name}_{word}{end}"
        assert experiment.model.trains == (name not in ("nmf", "rpca"))
        experiment.model.require_test_mixing(experiment.evaluation.test_mixing(experiment.mixing))


@pytest.mark.parametrize("preset", ["paper", "demo"])
def test_fuss_as_it_was_released_is_ten_seconds_of_up_to_four_sources(job, preset):
    experiment = job("tdcn", "fuss_released", "--data", "/shards", "--preset", preset)
    mixing = experiment.mixing
    assert (mixing.num_sources, mixing.min_sources, mixing.sample_rate_hz) == (4, 1, 16000)
    assert mixing.segment_samples / mixing.sample_rate_hz == 10
    assert (experiment.model.n_fft, experiment.model.hop_length) == (512, 128)


@pytest.mark.parametrize("preset", ["paper", "demo"])
def test_windows_are_as_long_as_their_papers_have_them_at_the_rate_of_the_data_set(job, preset):
    models = {name: job(name, "musdb18", "--data", "/shards", "--preset", preset).model for name in ("tdcn", "hdemucs")}
    assert (models["tdcn"].n_fft, models["tdcn"].hop_length) == (352, 88)  # 32 and 8 ms at 11,025 Hz
    assert models["hdemucs"].n_fft == 1024  # 93 ms
    own = job("hdemucs", "musdb18", "--data", "/shards", "--preset", preset, "--model.n-fft", "4096")
    assert own.model.n_fft == 4096
    assert HDemucsConfig().fitted_to(Mixing(sample_rate_hz=44100, segment_samples=262144)).n_fft == 4096
    assert HDemucsConfig().fitted_to(Mixing(sample_rate_hz=22050, segment_samples=131072)).n_fft == 2048


def test_fuss_as_it_was_released_has_four_outputs_and_others_two(job, capsys):
    outputs = [
        job("tdcn", word, "--data", "/shards", "--preset", preset).model.outputs
        for word in ("fuss_released", "fuss")
        for preset in ("paper", "demo")
    ]
    assert outputs == [4, 4, 2, 2]
    with pytest.raises(SystemExit) as ended:
        job("tdcn", "fuss_released", "--model.outputs", "2", "--data", "/shards")
    assert ended.value.code == 2
    assert "model.outputs is 2: raise it" in " ".join(capsys.readouterr().err.split())
