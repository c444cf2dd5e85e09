from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cocktail.studies import recorded_results
from cocktail.studies.joined_results import joined
from cocktail.studies.origins import settings_hash
from cocktail.studies.recorded_results import RecordedResults
from cocktail.studies.results_tables import results_table
from cocktail.studies.scored_run import ScoredRun
from cocktail.tasks.localization.rules import ScoringRules
from cocktail.types import UsageError
from tests.made.results import localized_results as localized
from tests.made.results.recorded import made_origin, made_recorded, made_run


def test_what_is_written_is_read(tmp_path: Path) -> None:
    made = made_recorded()
    made.write(tmp_path / "results", "table")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["table.json", "table.parquet"]
    read = RecordedResults.read(tmp_path / "results", "table")
    assert (read.origins, read.reference, read.unit, read.about, read.groups) == (
        made.origins, made.reference, made.unit, made.about, made.groups,
    )  # fmt: skip
    assert read.scores.equals(made.scores)


def test_scores_are_a_mixtures_of_each_system_and_controls_are_of_the_references_first_run_alone() -> None:
    rows = made_recorded().scores.select(["run", "system", "kind", "mixture_id", "sdr"]).to_pylist()
    found = {(row["run"], row["system"], row["kind"]): [] for row in rows}
    for row in rows:
        found[row["run"], row["system"], row["kind"]].append(row["sdr"])
    assert found == {
        (0, "mixture", "control"): [0, 0, 0],
        (0, "sgn", "model"): [4, 5, 6],
        (0, "sgn, soft masks", "reading"): [6, 7, 8],
        (1, "sgn", "model"): [6, 7, 8],
        (1, "sgn, soft masks", "reading"): [8, 9, 10],
        (2, "static", "model"): [1, 2, 3],
    }
    names = made_recorded().scores.slice(0, 2)["recordings"].to_pylist()
    assert names == [[f"{n:016x}/0", f"{n:016x}/1"] for n in range(2)]
    assert 2 in {row["run"] for row in made_recorded("static").scores.to_pylist() if row["kind"] == "control"}


def test_a_control_may_be_the_reference_and_another_score_the_headline() -> None:
    runs = [
        (made_origin(seed=seed), made_run({"sgn": [5.0, 7.0 + shift], "mixture": [1.0, 2.0]}))
        for seed, shift in (("0", 0), ("1", 2))
    ]
    kept = RecordedResults.of(
        runs, "mixture", scores=["sdr"], headlines=["sir"], systems=["soft masks"], elsewhere=["soft masks"]
    )
    assert kept.reference == "mixture" and [score.name for score in kept.groups[0].scores] == ["sir", "sdr"]
    assert kept.groups[0].headline.name == "sir" and "mixture" in kept.scores["system"].to_pylist()
    with pytest.raises(UsageError, match="no score loudness"):
        RecordedResults.of(runs, headlines=["loudness"])
    table = results_table(RecordedResults.of(runs, "mixture"))
    line = next(line for line in table.splitlines() if line.startswith("| sgn "))
    assert "less mixture" in table and "+5.00" in line  # the mean of 4 and 5, and of 4 and 7
    assert "Seeds 0, 1." in table


def test_chosen_scores_and_systems_are_kept_with_the_headline_and_the_models() -> None:
    runs = [(made_origin(), made_run({"sgn": [1.0], "sgn, soft masks": [2.0], "mixture": [0.0]}))]
    kept = RecordedResults.of(runs, scores=["si_sdri"], systems=["mixture"])
    assert [score.name for score in kept.groups[0].scores] == ["sdr", "si_sdri"]
    assert kept.scores["system"].unique().to_pylist() == ["mixture", "sgn"]
    assert "sir" not in kept.scores.column_names
    with pytest.raises(UsageError, match="no score loudness: scores are sdr, sir"):
        RecordedResults.of(runs, scores=["loudness"])
    with pytest.raises(UsageError, match="no system oracle: systems are 'mixture', "):
        RecordedResults.of(runs, systems=["oracle"])


def _more(
    setting: str = "sgn",
    seed: str = "2",
    scores: Sequence[float] = (7, 8, 9),
    params: Mapping[str, str] | None = None,
    **changed: object,
) -> RecordedResults:
    """Results of one further run on the three mixtures of `made_recorded`."""
    systems = {setting: scores, f"{setting}, soft masks": [9, 10, 11], "mixture": [5, 5, 5]}
    return RecordedResults.of([(made_origin(setting, seed, **changed), made_run(systems, params=params))])


def _of_before(results: RecordedResults) -> RecordedResults:
    """Results of an earlier version, which did not keep which settings they are of."""
    return replace(results, origins=tuple(replace(origin, settings_hash="") for origin in results.origins))


def test_further_seeds_and_settings_join_what_is_there_and_controls_stay() -> None:
    both = joined(
        joined(made_recorded(), _more()), _more("deep", "0", commands=("python jobs/sgn.py --model.depth 6",))
    )
    assert [(origin.setting, origin.seed) for origin in both.origins] == [
        ("sgn", "0"), ("sgn", "1"), ("static", "0"), ("sgn", "2"), ("deep", "0"),
    ]  # fmt: skip
    rows = both.scores.to_pylist()
    assert [row["sdr"] for row in rows if row["system"] == "sgn" and row["run"] == 3] == [7, 8, 9]
    assert [row["sdr"] for row in rows if row["system"] == "deep, soft masks" and row["run"] == 4] == [9, 10, 11]
    assert [row["sdr"] for row in rows if row["kind"] == "control"] == [0, 0, 0]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": "1"}, "seed 1 of sgn is there already: leave out sgn-1"),
        ({"commit": "f" * 40}, "sgn-2 differs from the runs of sgn that are there in commit"),
        ({"steps": 301, "initial_weights": "others"}, "in steps, initial_weights: "),
        ({"params": {"model.depth": "6"}}, "in settings: "),
        ({"data": "beef"}, "what is there is scored on other mixtures"),
        ({"scores": [1, 2]}, "what is there is scored on other mixtures"),
    ],
)
def test_what_is_no_other_seed_on_the_same_mixtures_does_not_join(changed: dict, named: str) -> None:
    with pytest.raises(UsageError, match=named):
        joined(made_recorded(), _more(**changed))


def _swept(grid: str) -> tuple[str, ...]:
    return (f"python jobs/ablate_sgn.py --over model.depth={grid} --steps 9",)


def test_seeds_of_a_later_sweep_join_those_of_an_earlier_version_by_their_commands() -> None:
    recorded = _of_before(_more("shallow", "0", commands=_swept("1 --seeds 0 1")))
    later = _more("shallow", "13", commands=_swept("1,2 --seeds 2 13 --sweep-name later"))
    assert [origin.seed for origin in joined(recorded, later).origins] == ["0", "13"]
    assert recorded.origins[0].commands_of_any_seed == _swept("1 --seeds SEEDS")
    assert later.origins[0].commands_of_any_seed == _swept("1,2 --seeds SEEDS")
    for others in (_swept("2 --seeds 13"), _swept("1 --seeds 13 --batch 4"), ("python jobs/sgn.py --seed 13",)):
        with pytest.raises(UsageError, match="that are there in commands: "):
            joined(recorded, _more("shallow", "13", commands=others))


def test_where_settings_are_known_they_decide_and_not_the_command() -> None:
    shallow = {"model.depth": "1", "seed": "0", "output": "/here"}
    first = _more("shallow", "0", params=shallow)
    same = {**shallow, "seed": "3", "output": "/there"}
    assert len(joined(first, _more("shallow", "3", params=same, commands=_swept("1,2 --seeds 3"))).origins) == 2
    for changed in ({"model.depth": "2"}, {"mixing.segment_samples": "9"}, {"trained.model.depth": "2"}):
        with pytest.raises(UsageError, match="that are there in settings: "):
            joined(first, _more("shallow", "3", params={**same, **changed}))


def test_a_setting_with_the_name_of_a_reading_that_is_there_does_not_join() -> None:
    named = [(made_origin("sgn, soft masks", "0"), made_run({"deep": [7, 8, 9], "mixture": [5, 5, 5]}))]
    with pytest.raises(UsageError, match=r"would be the name of two systems, a reading of .* and a model of"):
        joined(made_recorded(), RecordedResults.of(named))


def test_runs_that_lack_a_reading_of_what_they_join_can_be_asked_for_the_same_ones() -> None:
    before = made_recorded()
    assert before.kept == {"mixture", "soft masks"}
    runs = [(made_origin("deep"), made_run({"deep": [1.0, 2, 3], "mixture": [0.0, 0, 0]}))]
    with pytest.raises(UsageError, match="there is no system soft masks"):
        RecordedResults.of(runs, systems=["mixture", "soft masks"])
    more = RecordedResults.of(runs, systems=["mixture", "soft masks"], elsewhere=before.kept)
    assert "deep" in joined(before, more).scores["system"].unique().to_pylist()


def test_results_with_other_scores_or_readings_do_not_join() -> None:
    runs = [(made_origin(seed="2"), made_run({"sgn": [1.0, 2, 3], "mixture": [0.0, 0, 0]}))]
    with pytest.raises(UsageError, match="what is there keeps other scores"):
        joined(made_recorded(), RecordedResults.of(runs, scores=["sir"]))
    without_masks = [(made_origin(seed="2"), made_run({"sgn": [1.0, 2, 3], "mixture": [0.0, 0, 0]}))]
    with pytest.raises(UsageError, match="of sgn sgn, soft masks is kept on one side alone: give the same --systems"):
        joined(made_recorded(), RecordedResults.of(without_masks))


@pytest.mark.parametrize(
    ("lacking", "named"),
    [
        ({"commit": ""}, "commit"),
        ({"commit": "0123456789" * 4 + ", changed by 00"}, "commit"),
        ({"commit": "unknown: shipped without its repository"}, "commit"),
        ({"commands": ()}, "command"),
        ({"commands": (" ",)}, "command"),
        ({"seed": ""}, "seed"),
        ({"date": "yesterday"}, "date"),
        ({"machine": ""}, "machine"),
        ({"seconds": 0.0}, "wall time"),
    ],
)
def test_results_that_nobody_could_make_again_are_refused(lacking: dict, named: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"is its {named} "):
        made_origin(**lacking)
    made_recorded().write(tmp_path, "table")
    about = json.loads((tmp_path / "table.json").read_text())
    about["runs"][1] |= lacking
    (tmp_path / "table.json").write_text(json.dumps(about))
    with pytest.raises(UsageError, match=f"table.json: .* is its {named} "):
        RecordedResults.read(tmp_path, "table")


def test_runs_that_are_not_to_be_compared_are_refused() -> None:
    one = (made_origin(seed="0"), made_run({"sgn": [1.0, 2.0]}, params={"model.depth": "2", "seed": "0"}))
    others = {
        "on different mixtures": (made_origin(seed="1"), made_run({"sgn": [1.0, 2.0]}, first=1)),
        "scored on different mixtures": (made_origin(seed="1", data="beef"), made_run({"sgn": [1.0, 2.0]})),
        "two runs of sgn have the seed 0": one,
        "differ in model.depth": (made_origin(seed="1"), made_run({"sgn": [1.0, 2.0]}, params={"model.depth": "3"})),
    }
    for message, other in others.items():
        with pytest.raises(UsageError, match=message):
            RecordedResults.of([one, other])
    deeper = (made_origin("deeper", seed="0"), made_run({"sgn": [1.0, 2.0]}, params={"model.depth": "3"}))
    assert RecordedResults.of([one, deeper]).settings == ["sgn", "deeper"]
    with pytest.raises(UsageError, match="no run is of the reference wider: settings are sgn, deeper; controls are"):
        RecordedResults.of([one, deeper], "wider")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"commit": "b" * 40}, "commit"),
        ({"torch": "2.13.0"}, "torch"),
        ({"trained_on": "beef"}, "training data"),
        ({"initial_weights": "whole of /x/step-00000001, SHA-256 00"}, "initial weights"),
    ],
)
def test_seeds_of_other_code_data_or_start_are_no_seeds_of_one_setting(changed: dict, named: str) -> None:
    one, other = (made_origin(seed="0"), made_run({"sgn": [1.0]})), made_run({"sgn": [7.0]})
    with pytest.raises(UsageError, match=f"sgn-0 and sgn-1, runs of sgn, differ in {named}: "):
        RecordedResults.of([one, (made_origin(seed="1", **changed), other)])
    assert len(RecordedResults.of([one, (made_origin(seed="1"), other)]).origins) == 2


def test_a_training_and_an_evaluation_of_one_setting_stand_together() -> None:
    lengths = {"mixing.sample_rate_hz": "11025", "mixing.segment_samples": "100"}
    trained = {"model.depth": "2", "mixing.num_sources": "2", "start_parts": "[]", "training.log_every": "1", **lengths}
    of_test = {**lengths, "mixing.num_sources": "3"}

    def evaluation(**changed: str) -> dict[str, str]:
        return {**{f"trained.{path}": value for path, value in {**trained, **changed}.items()}, **of_test}

    def together(params: dict[str, str]) -> RecordedResults:
        one = (made_origin(seed="0"), made_run({"sgn": [1.0]}, params=trained))
        return RecordedResults.of([one, (made_origin(seed="1"), made_run({"sgn": [2.0]}, params=params))])

    assert together(evaluation()).settings == ["sgn"]
    assert together(evaluation(**{"training.log_every": "5"})).settings == ["sgn"]
    for params, named in (
        (evaluation(**{"model.depth": "3"}), "model.depth"),
        (evaluation(start_parts="['unet']"), "start_parts"),
        ({**evaluation(), "mixing.segment_samples": "50"}, "segment_samples of the test"),
    ):
        with pytest.raises(UsageError, match=f"differ in {named}: "):
            together(params)


@pytest.mark.parametrize(("settings", "label"), [(["mixture"], "mixture"), (["a", "a, soft masks"], "a, soft masks")])
def test_two_systems_of_one_name_are_refused(settings: list[str], label: str) -> None:
    systems = {"sgn": [1.0], "sgn, soft masks": [2.0], "mixture": [0.0]}
    runs = [(made_origin(setting), made_run(systems)) for setting in settings]
    with pytest.raises(UsageError, match=f"'{label}' would be the name of two systems, .* as in SETTING=RUN"):
        RecordedResults.of(runs)


def test_too_many_scores_are_refused_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded_results, "MAX_BYTES", 1000)
    with pytest.raises(UsageError, match="1000 is the most: keep fewer"):
        made_recorded().write(tmp_path / "results", "table")
    assert not (tmp_path / "results").exists()


def test_a_thousand_mixtures_of_ten_systems_have_room(tmp_path: Path) -> None:
    systems = {f"sgn, reading {n}": [n + place * 0.7391 % 1 for place in range(1000)] for n in range(8)}
    made = made_run({"sgn": [place * 0.4142 % 7 for place in range(1000)], **systems, "mixture": [0.0] * 1000})
    RecordedResults.of([(made_origin(), made)]).write(tmp_path, "table")
    assert (tmp_path / "table.parquet").stat().st_size < 300_000


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no .*table\.json: make it with jobs/record_results\.py"):
        RecordedResults.read(tmp_path, "table")
    made_recorded().write(tmp_path, "table")
    scores = pq.read_table(tmp_path / "table.parquet")
    for damaged in (scores.drop_columns(["sdr"]), scores.set_column(0, "run", scores["system"])):
        pq.write_table(damaged, tmp_path / "table.parquet")
        with pytest.raises(UsageError, match=r"table\.json.*record them again"):
            RecordedResults.read(tmp_path, "table")
    (tmp_path / "table.json").write_text("{")
    with pytest.raises(UsageError, match=r"table\.json and its scores cannot be read"):
        RecordedResults.read(tmp_path, "table")


def test_maps_that_are_scored_by_other_rules_are_of_other_settings() -> None:
    scored = localized.table(localized.mixture("a", localized.source(0.5, iou=0.4)))
    others = localized.by_rules(scored, ScoringRules(peak_share=0.25))
    one, other = (ScoredRun(results=each, name="made", stored="nowhere") for each in (scored, others))
    assert settings_hash(one) == settings_hash(replace(one, name="again"))
    assert settings_hash(one) != settings_hash(other)
