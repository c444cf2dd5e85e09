"""The main job's command line."""

import dataclasses

import pytest

from cocktail.config.experiment import Experiment
from cocktail.config.settings import flatten
from cocktail.models.sgn import SMALL_SGN, SGNConfig
from pipelines.experiments.benchmarks import SEPARATE_VGGSOUND, SGD
from pipelines.experiments.command_line import parse
from tests.made.corpora.toy_shards import make_toy_shards
from tests.services.jobs import run_job

PAPER = SEPARATE_VGGSOUND.paper("sgn_vggsound", SGNConfig(), SGD)
DEMO = SEPARATE_VGGSOUND.demo(PAPER, SMALL_SGN)


def parsed(*arguments: str) -> Experiment:
    return parse(Experiment[SGNConfig], list(arguments), paper=PAPER, demo=DEMO, description="")


def test_data_chooses_the_papers_recipe_and_its_absence_the_demo():
    assert parsed().model == DEMO.model
    for form in (("--data", "/shards"), ("--data=/shards",)):
        assert parsed(*form).training == PAPER.training
        assert parsed(*form).data == "/shards"
    assert parsed("--preset", "demo", "--data", "/shards").model == DEMO.model
    assert parsed("--preset=paper").model == PAPER.model


def test_the_papers_recipe_is_the_papers():
    assert (PAPER.model.width, PAPER.model.depth, PAPER.model.unet_width) == (256, 6, 64)
    recipe = PAPER.training
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum) == ("sgd", 1e-3, 0.9)
    assert (recipe.batch_size, recipe.epochs, recipe.max_steps) == (80, 100, None)
    assert (PAPER.mixing.num_sources, PAPER.mixing.sample_rate_hz, PAPER.mixing.segment_samples) == (2, 11025, 65535)


def test_any_setting_is_overridden_by_its_path():
    experiment = parsed("--model.depth", "3", "--evaluation.num-sources", "2", "3", "--resources.executor", "inline")
    assert experiment.model.depth == 3
    assert experiment.evaluation.num_sources == (2, 3)
    assert experiment.resources.executor == "inline"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("--model.dpeth", "3"), "--model.depth"),
        (("--model.patch-size", "24"), "patch_size 24"),
        (("--resources.executor", "elsewhere"), "inline"),
        (("--mixing.segment-samples", "65535"), "256 frames"),
    ],
)
def test_a_wrong_setting_says_what_was_meant(arguments, shown, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed(*arguments)
    assert ended.value.code == 2
    assert shown in capsys.readouterr().err


def test_help_names_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit) as ended:
        parsed("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    settings = flatten(dataclasses.asdict(DEMO))
    absent = [path for path in settings if f"--{path.replace('_', '-')}" not in shown]
    assert absent == []
    assert shown.count("(default:") == len(settings)


def test_absent_data_is_one_line_that_names_the_command(tmp_path):
    ended = run_job("sgn_vggsound", "--data", str(tmp_path / "none"), "--output", str(tmp_path / "out"), cwd=tmp_path)
    assert ended.returncode == 2
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith(f"error: no shards at {tmp_path}/none")
    assert "python jobs/shard_vggsound.py" in line
    assert not list(tmp_path.glob("out/runs"))


def test_shards_without_usable_test_clips_are_one_line(tmp_path):
    make_toy_shards(tmp_path / "shards", num_test=0)
    ended = run_job(
        "sgn_vggsound",
        "--data",
        str(tmp_path / "shards"),
        "--mixing.sample-rate-hz",
        "1000",
        "--output",
        str(tmp_path),
        cwd=tmp_path,
    )
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "has no split test, but train (" in ended.stderr
