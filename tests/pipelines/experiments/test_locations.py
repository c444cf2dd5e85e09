"""What a run is told holds in every process, whatever folder that works in."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from cocktail.checkpoints.initial_weights import InitialWeights
from cocktail.checkpoints.store import checkpoint_store
from cocktail.config.experiment import Experiment
from cocktail.models.ez_vsl import EZVSLConfig
from cocktail.tracking.run import PLACE
from cocktail.types import UsageError
from pipelines.experiments.benchmarks import ADAM, LOCALIZE_VGGSOUND
from pipelines.experiments.locations import FINISHED, place_of, with_whole_paths
from pipelines.experiments.planned import initial_weights
from pipelines.sweeps import sweep as sweeping
from pipelines.sweeps.grids import PlannedTrial
from pipelines.sweeps.options import SweepOptions

PAPER = LOCALIZE_VGGSOUND.paper("ez_vsl_vggsound", EZVSLConfig(), ADAM)


def experiment(
    weights: str = "auto",
    *,
    test_list: str | None = None,
    test_data: str | None = None,
    start_from: str | None = None,
    data: str | None = None,
    output: str = "/output",
) -> Experiment[EZVSLConfig]:
    return replace(
        PAPER,
        model=replace(PAPER.model, initial_weights=weights),
        evaluation=replace(PAPER.evaluation, test_list=test_list, data=test_data),
        start_from=start_from,
        data=data,
        output=output,
    )


def paths_of(given: Experiment[EZVSLConfig]) -> tuple[str | None, ...]:
    evaluation = given.evaluation
    weights = (given.model.initial_weights, given.start_from)
    return (evaluation.test_list, evaluation.data, *weights, given.data, given.output)


RELATIVE = experiment(
    "w.pth", test_list="l.parquet", test_data="tests", start_from="runs/a", data="shards", output="out"
)
NAMES = ("l.parquet", "tests", "w.pth", "runs/a", "shards", "out")


def test_relative_paths_become_whole_and_all_else_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = with_whole_paths(RELATIVE)
    assert paths_of(whole) == tuple(str(tmp_path / name) for name in NAMES)
    assert with_whole_paths(whole) == whole
    for weights in ("auto", "none", "s3://bucket/w.pth"):
        given = experiment(weights, test_data="s3://bucket/tests")
        assert with_whole_paths(given) == given


@pytest.mark.parametrize(
    ("given", "option"),
    [
        (experiment("w.pth"), "--model.initial-weights w.pth"),
        (experiment(test_data="tests"), "--evaluation.data tests"),
        (experiment(start_from="runs/a"), "--start-from runs/a"),
        (experiment(test_list="l.parquet"), "--evaluation.test-list l.parquet"),
    ],
)
def test_a_submitted_job_refuses_each_relative_path_by_its_option(tmp_path, monkeypatch, given, option):
    folder = tmp_path / "working_dir_files"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match=f"{option} is relative"):
        with_whole_paths(given)


def test_trials_of_a_sweep_have_whole_paths_also_those_that_its_grid_names(tmp_path, monkeypatch):
    """Tune gives each trial a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    manifest = SimpleNamespace(folder="/shards", root_hash="hash", classes=())
    monkeypatch.setattr(sweeping, "open_data", lambda *_: manifest)
    monkeypatch.setattr(sweeping, "initial_weights", lambda *_: InitialWeights(description="a file"))
    monkeypatch.setattr(sweeping.TrackedRun, "open", lambda *_, **__: SimpleNamespace(closing=nullcontext, run_id="1"))
    base = replace(RELATIVE, output=str(tmp_path))
    trials = [PlannedTrial(label="one", overrides={"model.initial_weights": "w.pth"}, experiment=base)]
    with sweeping._Sweep.opened(base, trials, SweepOptions(), "sqlite:///x") as whole:
        found = whole.planned["one"].experiment
    whole = [str(tmp_path / name) for name in ("l.parquet", "tests", "w.pth", "runs/a")]
    assert paths_of(found) == (*whole, "/shards", str(tmp_path))


def test_a_run_starts_from_a_finished_one_or_from_a_checkpoint(tmp_path):
    """The checkpoint is of no model, so whoever looks into it is refused for that."""
    run = tmp_path / "run"
    store = replace(checkpoint_store(str(run)), about={"classes": ["flute"]})
    checkpoint = store.save(4, {"model": {}}, {}, keep=1)
    looked_into = r"the whole model of .*step-00000004 does not fit"
    with pytest.raises(UsageError, match=looked_into):
        initial_weights(experiment("none", start_from=checkpoint), ["flute"])
    with pytest.raises(UsageError, match=r"--start-from .*/run: the run is not finished\. Wait .*: .*step-00000004$"):
        initial_weights(experiment("none", start_from=str(run)), ["flute"])
    (run / FINISHED).write_text("{}")
    with pytest.raises(UsageError, match=looked_into):
        initial_weights(experiment("none", start_from=str(run)), ["flute"])


def test_a_folder_keeps_its_name_and_no_other_has_it(tmp_path):
    names = [place_of(str(tmp_path / run)) for run in ("a", "b", "a")]
    assert names[0] == names[2] != names[1]


@pytest.mark.parametrize("left", ["", '{"na', "[]"])
def test_a_name_that_cannot_be_read_is_replaced_and_kept(tmp_path, capsys, left):
    """As after a crash of the host, or by a full disk."""
    (tmp_path / PLACE).write_text(left)
    name = place_of(str(tmp_path))
    assert "are named anew" in capsys.readouterr().out
    assert place_of(str(tmp_path)) == name != ""
