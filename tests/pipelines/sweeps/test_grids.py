"""Grids over settings, and the trials that they come to."""

from dataclasses import asdict, replace

import pytest

from cocktail.config.experiment import Experiment
from cocktail.config.settings import flatten
from cocktail.models.avgn import AVGNConfig
from cocktail.models.sgn import SGNConfig
from cocktail.types import UsageError
from jobs import ablate_avgn
from jobs.ablate_sgn import DEMO, RECIPE
from pipelines.papers.avgn import AVGN
from pipelines.papers.sgn import SGN
from pipelines.sweeps.ablation import grids_of
from pipelines.sweeps.grids import Grid, PlannedTrial, axis, combine, named, parse_axis, plan_trials, slugs


def grids(word: str) -> list[Grid]:
    return grids_of(SGN, word, is_default=True)


def planned(base: Experiment, *grids) -> list[PlannedTrial]:
    return plan_trials(Experiment[SGNConfig], base, grids)[0]


def changed(base: Experiment, trial: PlannedTrial) -> dict:
    was, now = (flatten(asdict(experiment)) for experiment in (base, trial.experiment))
    return {path: value for path, value in now.items() if was[path] != value}


def test_table_iv_varies_depth_and_assignment_only():
    trials = planned(RECIPE, *grids("depth"))
    assert [(trial.label, changed(RECIPE, trial)) for trial in trials] == [
        ("depth 1", {"model.depth": 1}),
        ("depth 3", {"model.depth": 3}),
        ("depth 6", {}),
        ("depth 12", {"model.depth": 12}),
        ("depth 6, hard", {"model.assignment": "hard"}),
    ]
    assert trials[-1].overrides == {"model.depth": 6, "model.assignment": "hard"}


def test_table_iii_varies_the_source_vectors_only():
    trials = planned(RECIPE, *grids("switches"))
    assert [changed(RECIPE, trial).get("model.source_vectors", "grouped_tokens") for trial in trials] == [
        "pooled_slots",
        "tokens",
        "grouped_queries",
        "grouped_tokens",
        "static_class",
    ]
    assert all(changed(RECIPE, trial).keys() <= {"model.source_vectors"} for trial in trials)


def test_what_is_in_both_tables_runs_once_and_is_in_both():
    trials, (depth, switches) = plan_trials(Experiment[SGNConfig], RECIPE, grids("both"))
    assert len(trials) == 9
    (shared,) = [trial for trial in depth if trial in switches]
    assert shared.label == "depth 6 = SCT and CAG"
    assert shared.overrides == {
        "model.depth": 6,
        "model.assignment": "soft",
        "model.source_vectors": "grouped_tokens",
    }
    assert (depth.index(shared), switches.index(shared)) == (2, 3)
    # The demo's depth is another: nothing is shared.
    assert len(planned(DEMO, *grids("both"))) == 10


def test_avgns_tables_vary_their_settings_only_and_share_the_papers_own():
    trials, (depth, switches) = plan_trials(
        Experiment[AVGNConfig], ablate_avgn.RECIPE, grids_of(AVGN, "both", is_default=True)
    )
    assert [(trial.label, changed(ablate_avgn.RECIPE, trial)) for trial in trials] == [
        ("depth 1", {"model.depth": 1}),
        ("depth 3 = AVCT and AVG", {}),
        ("depth 6", {"model.depth": 6}),
        ("depth 12", {"model.depth": 12}),
        ("depth 3, hard", {"model.assignment": "hard"}),
        ("no AVCT, no AVG", {"model.source_vectors": "pooled", "mixing.num_sources": 1}),
        ("AVCT only", {"model.source_vectors": "tokens"}),
        ("AVG only", {"model.source_vectors": "grouped_queries"}),
    ]
    assert depth[1] is switches[3]
    assert ablate_avgn.DEMO.evaluation.num_sources == (1, 2)


def test_without_a_word_the_first_table_is_swept_unless_there_is_a_grid_of_ones_own():
    assert grids_of(SGN, None, is_default=True) == grids("depth")
    assert grids_of(SGN, None, is_default=False) == []
    with pytest.raises(UsageError, match=r"^--grid tables: there is no such table; choose depth, switches, both$"):
        grids("tables")


def test_own_grids_are_multiplied_in_order():
    own = combine([], [parse_axis("training.learning-rate=1e-3,1e-4"), axis("seed", ["0", "1"])])
    trials = planned(DEMO, *own)
    assert [trial.label for trial in trials] == [
        "learning_rate 1e-3, seed 0",
        "learning_rate 1e-3, seed 1",
        "learning_rate 1e-4, seed 0",
        "learning_rate 1e-4, seed 1",
    ]
    assert trials[2].overrides == {"training.learning_rate": 1e-4, "seed": 0}
    assert trials[3].experiment.training.learning_rate == 1e-4
    assert own[0].paths == ["training.learning_rate", "seed"]
    assert len(planned(DEMO, *combine(grids("depth"), [axis("seed", ["0", "1", "2"])]))) == 15


def test_two_ways_to_write_a_value_are_one_trial():
    assert [trial.label for trial in planned(DEMO, parse_axis("training.learning-rate=1e-3,0.001,0.01"))] == [
        "learning_rate 1e-3 = learning_rate 0.001",
        "learning_rate 0.01",
    ]


def test_lists_switches_and_none_are_values():
    steady = replace(DEMO, training=replace(DEMO.training, lr_cosine=False))
    drops = planned(steady, parse_axis("training.lr-drop-epochs=5 9,7,"))
    assert [trial.experiment.training.lr_drop_epochs for trial in drops] == [(5, 9), (7,), ()]
    weighted = planned(DEMO, parse_axis("model.weighted_loss=true,no"))
    assert [trial.overrides for trial in weighted] == [{"model.weighted_loss": True}, {"model.weighted_loss": False}]
    steps = planned(DEMO, parse_axis("training.max-steps=None,7"))
    assert [trial.experiment.training.max_steps for trial in steps] == [None, 7]


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ("model.dpeth=1,2", r"^there is no setting model\.dpeth: is model\.depth meant\?$"),
        ("depth=1,2", r"^there is no setting depth: is model\.depth meant\?$"),
        ("qqqqqqqq=1", r"^there is no setting qqqqqqqq$"),
        ("model.depth=1,deep", r"^trial depth deep: --model\.depth: invalid literal .* 'deep'$"),
        ("model.assignment=soft,harder", r"^trial assignment harder: invalid choice 'harder' .*\('soft', 'hard'\)\.$"),
        ("model.patch-size=24", r"^trial patch_size 24: model: patch_size 24 must divide .* frames$"),
        ("training.batch-size=0", r"^trial batch_size 0: training: batch_size must be at least 1, not 0$"),
        ("model.weighted-loss=maybe", r"^model\.weighted_loss is true or false, not maybe$"),
        ("output=/a,/b", r"^output is the whole sweep's: give --output once, not in --over$"),
        ("model.depth", r"^--over model\.depth: expected PATH=V1,V2"),
    ],
)
def test_a_wrong_path_or_value_is_one_line_that_says_what_was_meant(over, told):
    with pytest.raises(UsageError, match=told) as raised:
        planned(DEMO, parse_axis(over))
    assert "\n" not in str(raised.value)


def test_settings_that_do_not_go_together_name_their_trial():
    axes = [parse_axis("model.source-vectors=grouped_tokens,tokens"), parse_axis("model.assignment=hard")]
    with pytest.raises(UsageError, match=r"^trial source_vectors tokens, assignment hard: .* does no grouping"):
        planned(DEMO, *combine([], axes))


def test_a_setting_is_varied_once():
    with pytest.raises(UsageError, match=r"^model\.depth is varied twice, by Table IV and by model\.depth"):
        combine(grids("depth"), [parse_axis("model.depth=1,2")])


def test_run_names_follow_from_the_sweep_and_the_label_alone():
    trials = planned(RECIPE, *grids("both"))
    names = [trial.experiment.run_name for trial in named(trials, "ours-1")]
    assert names[:3] == ["ours-1-depth-1", "ours-1-depth-3", "ours-1-depth-6-sct-and-cag"]
    assert len(set(names)) == 9


def test_labels_that_look_alike_in_a_name_are_told_apart():
    close = ["rate 1", "rate -1", "x" * 200, "x" * 201, "rate 2"]
    made = slugs(close)
    assert len(set(made)) == len(close)
    assert made[-1] == "rate-2"
    assert all(len(slug) < 100 for slug in made)
    assert slugs(close) == made
