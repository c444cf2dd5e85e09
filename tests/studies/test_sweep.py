"""What a sweep's report is made of: settings, their scores over seeds, differences, and who counts in them."""

import numpy as np
import pyarrow as pa
import pytest

from cocktail.metrics.intervals import Recordings
from cocktail.studies.sweep import Sweep, difference
from cocktail.types import UsageError
from pipelines.papers.sgn import SGN
from tests.made.results.sweep import MadeRun, made_results, made_sweep, made_trial

DEPTH, VECTORS, RATE = "model.depth", "model.source_vectors", "training.learning_rate"


def test_trials_that_differ_in_their_seed_alone_are_one_setting():
    sweep = made_sweep(
        [[DEPTH]],
        [
            made_trial("depth 1, seed 0", {DEPTH: 1, "seed": 0}, [2.0, 4.0]),
            made_trial("depth 6, seed 0", {DEPTH: 6, "seed": 0}, [1.0, 1.0]),
            made_trial("depth 1, seed 1", {DEPTH: 1, "seed": 1}, [3.0, 6.0]),
        ],
    )
    assert [(setting.label, list(setting.seeds)) for setting in sweep.settings] == [
        ("depth 1", ["0", "1"]),
        ("depth 6", ["0"]),
    ]
    sdr = sweep.settings[0].summaries["sdr"]
    assert sdr.by_seed == [3.0, 4.5]
    assert sdr.mean == 3.75
    assert sdr.spread == pytest.approx(1.5 / 2**0.5)
    assert (sdr.num_mixtures, sdr.num_recordings, sdr.interval) == (2, 4, None)
    assert sdr.why_no_interval == "too few recordings"
    assert sweep.settings[0].summaries["sir"].mean == 4.75
    assert sweep.settings[1].summaries["sdr"].spread is None


def test_only_mixtures_that_every_seed_has_a_score_of_count():
    sweep = made_sweep(
        [["seed"]],
        [made_trial("seed 0", {"seed": 0}, [2.0, None, 4.0]), made_trial("seed 1", {"seed": 1}, [4.0, 100.0, 6.0])],
    )
    (setting,) = sweep.settings
    assert setting.label == "base settings"
    assert (setting.summaries["sdr"].mean, setting.summaries["sdr"].num_mixtures) == (4.0, 2)


def test_trials_that_did_not_finish_count_in_no_score_and_say_why():
    sweep = made_sweep(
        [[DEPTH]],
        [
            made_trial("a", {DEPTH: 1, "seed": 0}, [5.0, 5.0]),
            made_trial("a", {DEPTH: 1, "seed": 1}, [90.0, 90.0], status="stopped early at step 20"),
            made_trial("b", {DEPTH: 3, "seed": 0}, None, status="failed: OutOfMemoryError: 24 GiB"),
            made_trial("c", {DEPTH: 6, "seed": 0}, None, status=None),
            made_trial("d", {DEPTH: 12, "seed": 0}, None),
        ],
    )
    assert [len(setting.summaries) for setting in sweep.settings] == [5, 0, 0, 0]
    assert sweep.settings[0].summaries["sdr"].mean == 5.0
    assert [trial.status for trial in sweep.trials] == [
        "finished",
        "stopped early at step 20",
        "failed: OutOfMemoryError: 24 GiB",
        "not ended: MLflow says FINISHED",
        "finished, but without results",
    ]


def test_of_two_finished_runs_of_one_seed_the_later_counts():
    trials = [made_trial("a", {DEPTH: 1}, [5.0, 5.0]), made_trial("a", {DEPTH: 1}, [7.0, 7.0])]
    assert made_sweep([[DEPTH]], trials).settings[0].summaries["sdr"].mean == 7.0


def test_differences_are_of_common_seeds_and_mixtures():
    sweep = made_sweep(
        [[DEPTH]],
        [
            made_trial("six", {DEPTH: 6, "seed": 0}, [1.0, 2.0, 3.0, None]),
            made_trial("six", {DEPTH: 6, "seed": 1}, [2.0, 2.0, 2.0, 2.0]),
            made_trial("one", {DEPTH: 1, "seed": 1}, [5.0, 5.0, None, 5.0]),
            made_trial("one", {DEPTH: 1, "seed": 2}, [50.0, 50.0, 50.0, 50.0]),
            made_trial("three", {DEPTH: 3, "seed": 3}, [5.0, 5.0, 5.0, 5.0]),
        ],
        SGN,
    )
    one, three, six = sweep.settings
    assert sweep.reference is six
    found = difference(one, six, sweep.groups[0])
    assert (found.seeds, found.share_better) == (["1"], 1.0)
    assert {(summary.mean, summary.num_mixtures) for summary in found.summaries.values()} == {(3.0, 3)}
    assert difference(three, six, sweep.groups[0]).problem == "no finished seed in common"


def test_seeds_that_disagree_widen_the_interval_of_a_difference():
    reference = [made_trial("r", {DEPTH: 6, "seed": seed}, [0.0] * 30) for seed in (0, 1)]
    alike = [made_trial("a", {DEPTH: 1, "seed": seed}, [1.0] * 30) for seed in (0, 1)]
    apart = [made_trial("b", {DEPTH: 3, "seed": seed}, [2.0 * seed] * 30) for seed in (0, 1)]
    sweep = made_sweep([[DEPTH]], [*reference, *alike, *apart])
    a, b, six = sweep.settings
    same, other = (difference(setting, six, sweep.groups[0]).summaries["sdr"].interval for setting in (a, b))
    assert same == (1.0, 1.0, 1.0)
    assert other == pytest.approx((1.0, 1.0 - 12.706, 1.0 + 12.706), abs=1e-3)  # Student's of 0 and 2
    # The same of each setting's own mean; one seed has nothing to disagree with.
    assert b.summaries["sdr"].interval == other
    one = made_sweep([[DEPTH]], [made_trial("c", {DEPTH: 3, "seed": 0}, [2.0] * 30)]).settings[0]
    assert one.summaries["sdr"].interval == (2.0, 2.0, 2.0)


def test_intervals_of_settings_and_differences_are_by_recording():
    values = np.random.default_rng(0).normal(size=(2, 2, 12))
    trials = [
        made_trial(f"{depth}, {seed}", {DEPTH: depth, "seed": seed}, values[place, seed].tolist())
        for place, depth in enumerate((1, 6))
        for seed in (0, 1)
    ]
    names = [[f"clip {n // 3}", f"clip {n // 3}"] for n in range(12)]
    for trial in trials:
        results = made_results("sgn", trial.scores or [])
        told = [name for mixture in names for name in mixture] * 3
        trial.results = results.set_column(results.column_names.index("recording"), "recording", pa.array(told))
        trial.scores = None
    sweep = made_sweep([[DEPTH]], trials)
    one, six = sweep.settings
    by_clip = Recordings(names)
    assert one.summaries["sdr"].interval == pytest.approx(by_clip.interval(values[0]))
    # The first that has scores is the reference.
    apart = difference(six, one, sweep.groups[0]).summaries["sdr"]
    assert apart.interval == pytest.approx(by_clip.interval(values[1] - values[0]))
    assert (apart.num_mixtures, apart.num_recordings) == (12, 4)


def test_settings_are_in_the_grids_order_numbers_by_value():
    trials = [
        made_trial("static", {VECTORS: "static_class"}, [1.0]),
        made_trial("tokens", {VECTORS: "tokens"}, [1.0]),
        *(made_trial(f"{d} {r}", {DEPTH: d, RATE: r}, [1.0]) for r in (0.1, 0.01) for d in (12, 3)),
        made_trial("base", {}, [1.0]),
    ]
    sweep = made_sweep([[DEPTH, RATE], [VECTORS]], trials)
    labels = ["base", "3 0.01", "3 0.1", "12 0.01", "12 0.1", "static", "tokens"]
    assert [setting.label for setting in sweep.settings] == labels


def test_settings_of_one_label_are_told_apart():
    sweep = made_sweep([[DEPTH]], [made_trial("same", {DEPTH: 1}, [1.0]), made_trial("same", {DEPTH: 3}, [2.0])])
    assert [setting.label for setting in sweep.settings] == ['same {"model.depth": 1}', 'same {"model.depth": 3}']


def test_the_reference_is_the_papers_setting_or_the_first_that_has_scores():
    failed = made_trial("one", {DEPTH: 1}, None, status="failed: x")
    six, three = (made_trial(str(depth), {DEPTH: depth}, [1.0, 2.0]) for depth in (6, 3))
    for trials, label in (([failed, six, three], "6"), ([failed, three], "3")):
        reference = made_sweep([[DEPTH]], trials, SGN).reference
        assert reference is not None
        assert reference.label == label
    assert made_sweep([[DEPTH]], [failed]).reference is None


def test_a_run_that_is_no_sweep_or_has_no_trials_is_refused():
    with pytest.raises(UsageError, match="run plain \\(id\\) is no sweep"):
        Sweep.of(MadeRun("id", "plain", {}), [], lambda run: None)
    with pytest.raises(UsageError, match="has no trials yet"):
        made_sweep([[DEPTH]], [])
