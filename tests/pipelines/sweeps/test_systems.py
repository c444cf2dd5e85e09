"""Systems side by side: which trials there are, on which mixtures, for how many steps."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from cocktail.checkpoints.contents import outline
from cocktail.config.experiment import Experiment
from cocktail.studies.paper import Paper
from cocktail.studies.trial import SEED, SYSTEM
from jobs import compare_localizers, compare_separators
from jobs.compare_separators import SYSTEMS
from pipelines.experiments.benchmarks import LOCALIZATION, SEPARATE_VGGSOUND, SEPARATION
from pipelines.papers.compared import OF_LOCALIZERS, OF_SEPARATORS
from pipelines.sweeps import systems
from pipelines.sweeps.grids import Grid, PlannedTrial
from pipelines.sweeps.systems import compare, on_the_same_mixtures, plan_systems, steps_in_time
from tests.made.corpora.toy_shards import make_toy_shards

PAPERS = {compare_separators: OF_SEPARATORS, compare_localizers: OF_LOCALIZERS}


def demo(word: str) -> Experiment:
    benchmark = SYSTEMS[word].benchmark("vggsound")
    assert benchmark is not None
    return SYSTEMS[word].job.demo(benchmark)


@pytest.fixture
def started(monkeypatch):
    """Starts a job, that of separators if no other; returns the trials and the grid that it would run. `papers` are
    those beside what was started."""
    asked: list = []
    monkeypatch.setattr(systems, "run_planned", lambda *given: asked.append(given))

    def start(
        *arguments: str, name: str = "separators", job: Any = compare_separators, benchmarks: Any = SEPARATION
    ) -> tuple[list[PlannedTrial], Grid]:
        monkeypatch.setattr(sys, "argv", [f"jobs/compare_{name}.py", *arguments])
        compare(name, job.SYSTEMS, benchmarks, PAPERS[job], job.__doc__)
        _, trials, ((grid, of_grid),), _, paper = asked.pop()
        assert of_grid == trials
        papers.append(paper)
        return trials, grid

    papers: list[Paper | None] = []
    start.papers = papers
    return start


def test_steps_in_time_are_those_that_the_first_systems_time_pays_for():
    assert steps_in_time(100, {"a": 0.2, "b": 0.1, "c": 0.3, "d": 1e3}) == {"a": 100, "b": 200, "c": 67, "d": 1}


def test_each_system_has_a_trial_with_each_seed_and_stages_share_its_steps():
    words = ("sgn", "mp_net", "nmf")
    chosen = {word: SYSTEMS[word] for word in words}
    experiments = {word: demo(word) for word in words}
    trials = plan_systems(chosen, experiments, {"sgn": 600, "mp_net": 600}, (0, 4))
    assert [trial.label for trial in trials] == [
        f"{title}, seed {seed}" for title in ("SGN", "MP-Net", "NMF-MFCC") for seed in (0, 4)
    ]
    assert trials[1].overrides == {SYSTEM: "SGN", SEED: 4}
    steps = [trial.experiment.training.max_steps for trial in trials[::2]]
    assert steps == [600, 200, experiments["nmf"].training.max_steps]
    assert [trial.stages for trial in trials[::2]] == [(), ("minus", "plus", "joint"), ()]
    assert [trial.experiment.seed for trial in trials] == [0, 4] * 3
    budgets = [(trial.experiment.training.epochs, trial.experiment.training.max_steps) for trial in trials[:4]]
    assert all(steps is not None and epochs >= steps for epochs, steps in budgets)
    given = replace(trials[1].experiment, seed=0, training=experiments["sgn"].training)
    assert given == experiments["sgn"]


def test_a_system_that_sees_gives_the_others_its_pictures_so_that_all_have_the_same_mixtures():
    own = {word: demo(word) for word in ("sgn", "sound_of_pixels", "hdemucs")}
    same = on_the_same_mixtures(own)
    assert own["sgn"].mixing.pictures_per_source == 0
    assert {each.mixing for each in same.values()} == {own["sound_of_pixels"].mixing}
    assert same["sgn"].model == own["sgn"].model
    deaf = {word: own[word] for word in ("sgn", "hdemucs")}
    assert on_the_same_mixtures(deaf) == deaf


def test_the_job_compares_all_that_a_data_set_has(started):
    trials, grid = started("vggsound", "--seeds", "0", "1")
    assert len(trials) == 2 * len(SYSTEMS) and grid.paths == [SYSTEM, SEED]
    assert {trial.experiment.name for trial in trials} == {"separators_vggsound_demo"}
    assert {trial.experiment.mixing for trial in trials} == {trials[0].experiment.mixing}
    heard, _ = started("fuss", "--data", "/shards", "--preset", "demo")
    assert {trial.overrides[SYSTEM] for trial in heard} == {
        system.title for system in SYSTEMS.values() if system.benchmark("fuss") is not None
    }
    assert not any(trial.experiment.mixing.pictures_per_source for trial in heard)
    paper, _ = started("music", "--data", "/shards", "--systems", "conv_tasnet")
    assert paper[0].experiment.training.batch_size == 8 and paper[0].experiment.name == "separators_music"


@pytest.mark.parametrize("preset", ["paper", "demo"])
@pytest.mark.parametrize(("word", "num_classes"), [("vggsound", 310), ("music", 11), ("fuss", 357), ("musdb18", 4)])
def test_each_system_can_be_built_for_the_classes_of_each_data_set(started, word, num_classes, preset):
    trials, _ = started(word, "--data", "/shards", "--preset", preset)
    for trial in trials:
        model, mixing = trial.experiment.model, trial.experiment.mixing
        outline(lambda model=model: model.build(num_classes))
        if model.trains:
            model.require_mixing(mixing)
        model.require_test_mixing(trial.experiment.evaluation.test_mixing(mixing))


@pytest.mark.parametrize(("word", "num_classes"), [("vggsound", 221), ("instruments", 37), ("music", 11)])
def test_each_localizer_can_be_built_in_each_stage_for_the_classes_of_each_data_set(started, word, num_classes):
    trials, _ = started(
        *(word, "--data", "/shards", "--set", "evaluation.data=/other"),
        name="localizers",
        job=compare_localizers,
        benchmarks=LOCALIZATION,
    )
    assert len(trials) == len(compare_localizers.SYSTEMS)
    for trial in trials:
        model, mixing = trial.experiment.model, trial.experiment.mixing
        for stage in trial.stages or [None]:
            of_stage = model if stage is None else replace(model, stage=stage)
            outline(lambda of_stage=of_stage: of_stage.build(num_classes))
            of_stage.require_mixing(mixing)
            of_stage.require_test_mixing(trial.experiment.evaluation.test_mixing(mixing))


def test_table_2_of_avsa_sep_is_one_sweep(started):
    trials, _ = started(
        *("music", "--data", "/shards", "--systems", "avsa_sep", "sound_of_pixels", "mp_net"),
        *("--set", "mixing.num-sources=3", "--set", "evaluation.shown-sources=all_but_one"),
    )
    assert [trial.overrides[SYSTEM] for trial in trials] == ["AVSA-Sep", "Sound of Pixels", "MP-Net"]
    assert {trial.experiment.evaluation.shown_sources for trial in trials} == {"all_but_one"}
    assert {(trial.experiment.mixing.num_sources, trial.experiment.mixing.pictures_per_source) for trial in trials} == {
        (3, 3)
    }


def test_table_1_of_co_segmentation_is_one_sweep_trained_alike(started):
    trials, _ = started(
        *("music", "--data", "/shards", "--seeds", "0", "1"),
        *("--systems", "cosegmentation", "sound_of_pixels", "nmf", "av_mix_separate", "co_separation"),
        *("--set", "mixing.pictures-per-source=1", "--set", "evaluation.split=test"),
        *("--set", "evaluation.pairs=classes", "--set", "evaluation.crop=random"),
    )
    assert len(trials) == 10 and len({trial.experiment.mixing for trial in trials}) == 1
    assert {trial.experiment.evaluation.pairs for trial in trials} == {"classes"}
    assert not trials[0].experiment.mixing.several_classes


ALL_BUT_ONE = ("--set", "evaluation.shown-sources=all_but_one")


@pytest.mark.parametrize(
    ("arguments", "table"),
    [
        (("music", "--data", "/shards"), "SGN Table I: systems on MUSIC"),
        (("fuss", "--data", "/shards"), "SGN Table II: systems on FUSS"),
        (("vggsound",), "SGN section IV: systems on VGG-Sound"),
        (("music", "--data", "/shards", "--systems", "sgn", "sound_of_pixels", *ALL_BUT_ONE), None),
        (
            ("music", "--data", "/shards", "--systems", "avsa_sep", "sg_sep", *ALL_BUT_ONE),
            "AVSA-Sep Table 3: systems on MUSIC",
        ),
        (("music", "--data", "/shards", "--systems", "avsa_sep", "sg_sep"), None),
        (
            ("music", "--data", "/shards", "--systems", "cosegmentation", "nmf"),
            "Co-segmentation Table 1: systems on MUSIC",
        ),
        (("music", "--data", "/shards", "--systems", "rpca", "sgn"), None),
    ],
)
def test_beside_a_sweep_stands_the_paper_that_proposes_its_first_system_if_its_tests_are_alike(
    started, arguments, table
):
    started(*arguments)
    (paper,) = started.papers
    assert (paper and paper.tables[0].title) == table


@pytest.mark.parametrize("job", PAPERS, ids=lambda job: job.__name__)
def test_papers_print_scores_of_systems_that_there_are_and_the_proposed_one_comes_last(job):
    titles = {system.title for system in job.SYSTEMS.values()}
    for proposed, papers in PAPERS[job].items():
        for paper in papers.values():
            for table in paper.tables:
                assert {row.label for row in table.rows} <= titles
                assert table.rows[-1].label == job.SYSTEMS[proposed].title
                assert {len(row.scores) for row in table.rows} == {len(paper.printed)}
            assert Paper.of_record(json.loads(json.dumps(paper.to_record()))) == paper


@pytest.mark.parametrize("benchmark", LOCALIZATION, ids=lambda benchmark: benchmark.word)
def test_localizers_are_tested_on_the_same_mixtures_whatever_they_train_on(started, benchmark):
    of_localizers: dict[str, Any] = {"name": "localizers", "job": compare_localizers, "benchmarks": LOCALIZATION}
    arguments = (benchmark.word, "--data", "/shards", "--preset", "demo", "--steps", "60")
    trials, _ = started(*arguments, "--set", "evaluation.negatives=off_screen silent", **of_localizers)
    assert [trial.overrides[SYSTEM] for trial in trials] == [
        system.title for system in compare_localizers.SYSTEMS.values()
    ]
    assert {trial.experiment.name for trial in trials} == {f"localizers_{benchmark.word}_demo"}
    tests = {trial.experiment.evaluation for trial in trials}
    assert tests == {replace(trials[0].experiment.evaluation, num_sources=(1, 2), negatives=("off_screen", "silent"))}
    mixings = [trial.experiment.evaluation.test_mixing(trial.experiment.mixing) for trial in trials]
    assert len({replace(mixing, passes_per_epoch=1, num_sources=2, min_sources=1) for mixing in mixings}) == 1
    assert all(trial.experiment.training.max_steps == 60 // max(len(trial.stages), 1) for trial in trials)


def test_variants_of_a_system_differ_in_what_they_are_called_after(started):
    words = ("wave_unet", "wave_unet_class", "wave_unet_asked")
    plain, head, asked = [trial.experiment.model for trial in started("vggsound", "--systems", *words)[0]]
    assert head == replace(plain, class_head=True) and asked == replace(plain, sources="asked")


def test_settings_of_all_reach_each_experiment_and_mistakes_are_one_line(started, capsys):
    arguments = ("vggsound", "--systems", "sgn", "nmf", "--set", "evaluation.num-mixtures=7", "--steps", "9")
    trials, _ = started(*arguments)
    assert [trial.experiment.evaluation.num_mixtures for trial in trials] == [7, 7]
    assert [trial.experiment.training.max_steps for trial in trials] == [9, 9]
    once, _ = started("vggsound", "--systems", "sgn", "--seeds", "3", "3")
    assert [trial.label for trial in once] == ["SGN, seed 3"]
    for given, said in (
        (("--systems", "sgn", "nfm"), "--systems nfm: not on vggsound; choose of sgn, static_class"),
        (("--set", "model.depht=3", "--systems", "sgn"), "there is no setting model.depht: is model.depth meant?"),
        (("--set", "seed"), "--set seed: expected PATH=VALUE"),
        (("--initial-weights", "w.pth", "--systems", "nmf", "sgn"), "--initial-weights: none of these systems sees"),
        (("--equal", "time", "--systems", "nmf", "sgn"), "name one that trains, and --steps"),
    ):
        with pytest.raises(SystemExit) as ended:
            started("vggsound", *given)
        assert ended.value.code == 2 and said in capsys.readouterr().err


def test_what_sees_starts_from_the_weights_that_are_given(started):
    arguments = ("--systems", "sgn", "sound_of_pixels", "cosegmentation", "--initial-weights", "/weights.pth")
    trials, _ = started("vggsound", *arguments)
    assert [getattr(trial.experiment.model, "initial_weights", None) for trial in trials] == [
        None,
        "/weights.pth",
        "/weights.pth",
    ]


def test_times_are_measured_once_and_kept(started, tmp_path, monkeypatch, capsys):
    shards = make_toy_shards(tmp_path / "shards", num_shards=1, clips_per_shard=2, num_test=2).folder
    costs, measured = iter([0.2, 0.1]), []
    monkeypatch.setattr(systems, "connect", lambda *_, **__: None)
    monkeypatch.setattr(systems, "uses_gpus", lambda _: False)

    def seconds_of_step(experiment, stages):
        measured.append(experiment.model)
        return next(costs)

    monkeypatch.setattr(systems, "seconds_of_step", seconds_of_step)
    arguments = ("vggsound", "--preset", "demo", "--data", shards, "--output", str(tmp_path))
    arguments += ("--systems", "sgn", "wave_unet", "rpca", "--steps", "30", "--equal", "time")
    first, _ = started(*arguments)
    again, _ = started(*arguments)
    assert [trial.experiment for trial in first] == [trial.experiment for trial in again]
    assert [trial.experiment.training.max_steps for trial in first[:2]] == [30, 60] and len(measured) == 2
    assert "a step of wave_unet takes 0.100 s of CPU time" in capsys.readouterr().out
    (kept,) = (tmp_path / "sweeps").glob("seconds-per-step-*.json")
    assert json.loads(kept.read_text()) == {"sgn": 0.2, "wave_unet": 0.1}


def test_recipes_with_other_pictures_are_named_as_they_are_not_paired(started, capsys):
    arguments = ("music", "--data", "/shards", "--systems", "sgn", "sound_of_pixels", "co_separation")
    trials, _ = started(*arguments)
    assert [trial.experiment.mixing.pictures_per_source for trial in trials] == [3, 3, 1]
    assert "note: by their recipes Co-Separation have other pictures a source than the first" in capsys.readouterr().out


def test_what_a_benchmark_lacks_is_no_benchmark_of_a_system():
    assert SYSTEMS["sound_of_pixels"].benchmark("fuss") is None
    assert SYSTEMS["sgn"].benchmark("vggsound") == SEPARATE_VGGSOUND
