"""The jobs of localizers with a map a class beside AVGN: the recipe of its tables, in stages where their papers have
them."""

from __future__ import annotations

import pytest

from cocktail.models import coarse_to_fine, dsol
from pipelines.experiments.benchmarks import LOCALIZATION
from pipelines.experiments.stages import stages_from

STAGES = {"coarse_to_fine": coarse_to_fine.STAGES, "dsol": dsol.STAGES, "mix_and_localize": ()}
COMMANDS = [(name, benchmark.word) for name in STAGES for benchmark in LOCALIZATION]


@pytest.mark.parametrize(("name", "word"), COMMANDS)
def test_all_stages_take_the_mixtures_of_avgns_tables_and_are_tested_as_it_is(job, name, word):
    (benchmark,) = (each for each in LOCALIZATION if each.word == word)
    for preset, end in (("paper", ""), ("demo", "_demo")):
        experiment, stages = job(name, word, "--data", "/shards", "--preset", preset), job.stages
        assert experiment.name == f"{name}_{word}{end}" and stages == STAGES[name]
        assert experiment.mixing.num_sources == 2 and experiment.evaluation.num_sources == (1, 2)
        assert preset == "demo" or (experiment.mixing, experiment.evaluation) == (
            benchmark.mixing,
            benchmark.evaluation,
        )
        for of_stage in stages_from(experiment, stages) if stages else [experiment]:
            of_stage.model.require_mixing(of_stage.mixing)
            of_stage.model.require_test_mixing(of_stage.evaluation.test_mixing(of_stage.mixing))


@pytest.mark.parametrize("name", STAGES)
def test_the_recipe_is_that_of_avgns_tables_or_the_papers_own(job, name):
    training = job(name, "vggsound", "--data", "/shards").training
    own = ("adam", 5e-4, 30, 64) if name == "mix_and_localize" else ("adamw", 0.0, 100, 128)
    assert (training.optimizer, training.weight_decay, training.epochs, training.batch_size) == own
    lower = 0.95 if name == "mix_and_localize" else 1.0
    rates = [training.learning_rate_at(10 * epoch, 10) for epoch in range(30)]
    assert rates == pytest.approx([1e-4 * lower ** (epoch // 3) for epoch in range(30)])


def test_a_mixture_has_as_many_heads_as_sources(job):
    three = job("mix_and_localize", "vggsound", "--mixing.num-sources", "3", "--model.num-heads", "3")
    three.model.require_mixing(three.mixing)
    assert job("mix_and_localize", "vggsound").model.num_heads == 2
