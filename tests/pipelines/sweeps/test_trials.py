"""What a sweep shows of a trial is what the trial's run holds in MLflow."""

from __future__ import annotations

from pathlib import Path

from cocktail.config.evaluation import Evaluation
from cocktail.train.ray_tune import TrialState
from pipelines.sweeps.progress import score_table
from pipelines.sweeps.trials import recorded
from tests.made.results.tracked_runs import open_run


def test_scores_of_a_model_of_several_tasks_stand_in_the_columns_of_those_of_one(tmp_path: Path) -> None:
    one, two = open_run(tmp_path, "one"), open_run(tmp_path, "two")
    one.log({"loss/total": 0.5, "test/made/sdr": 4.0, "test/mixture/sdr": 0.0}, 20)
    two.log(
        {
            "loss/total": 0.25,
            "test/separation/made/sdr": 3.0,
            "test/separation/made_soft_masks/sdr": 9.0,
            "test/localization/made/auc": 0.5,
            "test/localization/centred_box/auc": 0.75,
        },
        40,
    )
    states = [TrialState(label=run.name, status="finished", metrics=recorded(run, "made")) for run in (one, two)]
    header, _, *rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in score_table(["one", "two"], states, [Evaluation()] * 2).splitlines()
    ]
    assert header == ["trial", "SDR", "AUC", "status"]
    assert rows == [["one", "4.00", "", "finished"], ["two", "3.00", "50.0", "finished"]]
    assert [(state.step, state.metrics["loss/total"]) for state in states] == [(20, 0.5), (40, 0.25)]
