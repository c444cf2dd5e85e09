"""Stages run in order, each from the one before, and a command that was killed goes on where it stood."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cocktail.checkpoints.store import checkpoint_store, load_checkpoint
from cocktail.config.experiment import Experiment
from cocktail.config.identity import identity
from cocktail.models.mp_net import STAGES, MPNetConfig
from cocktail.types import UsageError
from pipelines.experiments import stages
from pipelines.experiments.locations import FINISHED, run_folder
from pipelines.experiments.planned import initial_weights
from pipelines.experiments.run import PartOf
from pipelines.experiments.stages import next_stage, run_stages, stages_from
from pipelines.shards.manifest import open_manifest
from tests.made.corpora.toy_shards import make_toy_shards
from tests.made.models.small_stages import SMALL


class KilledError(Exception):
    pass


class Runs:
    """Stands in for the runs themselves: a run leaves a checkpoint of weights a step further, and the mark that it is
    finished, unless it is killed before."""

    def __init__(self) -> None:
        self.started: list[tuple[str, str, str | None]] = []
        self.kill_at: str | None = None
        self.parts: list[PartOf | None] = []

    def __call__(self, experiment: Experiment[MPNetConfig], part_of: PartOf | None = None) -> SimpleNamespace:
        assert experiment.data is not None
        self.parts.append(part_of)
        manifest = open_manifest(experiment.data)
        initial = initial_weights(experiment, manifest.classes)
        folder = run_folder(experiment, manifest, initial)
        stage = experiment.model.stage
        self.started.append((stage, Path(folder).name, experiment.start_from))
        weights = experiment.model.build(len(manifest.classes)).state_dict()
        if experiment.start_from is not None:
            selected = checkpoint_store(experiment.start_from).selected()
            assert selected is not None
            weights = load_checkpoint(selected).state["model"]
        learned = {name: value + 1 for name, value in weights.items()}
        store = replace(checkpoint_store(folder), about={"classes": list(manifest.classes)})
        store.save(2, {"model": learned}, identity(experiment, manifest.root_hash, initial.sha256), keep=1)
        if self.kill_at == stage:
            raise KilledError
        (Path(folder) / FINISHED).write_text(json.dumps({"mlflow_run": f"id of {stage}"}))
        return SimpleNamespace(name=Path(folder).name)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return make_toy_shards(
        tmp_path_factory.mktemp("toys"), num_shards=1, clips_per_shard=2, num_test=2, with_pictures=True
    ).folder


@pytest.fixture
def experiment(shards, tmp_path) -> Experiment[MPNetConfig]:
    torch.manual_seed(0)
    return replace(SMALL, data=shards, output=str(tmp_path), tracking_uri="sqlite:///unused")


@pytest.fixture
def runs(monkeypatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr(stages, "run", runs)
    return runs


def test_stages_run_in_order_each_from_the_one_before(experiment, runs, tmp_path):
    last = run_stages(experiment, STAGES)
    assert [stage for stage, _, _ in runs.started] == list(STAGES)
    folders = [str(tmp_path / "runs" / name) for _, name, _ in runs.started]
    assert len(set(folders)) == 3 and last.name == runs.started[-1][1]
    assert [start for _, _, start in runs.started] == [None, *folders[:2]]


def test_a_killed_command_goes_on_with_the_stage_that_was_not_finished(experiment, runs, capsys):
    runs.kill_at = "plus"
    with pytest.raises(KilledError):
        run_stages(experiment, STAGES)
    killed, runs.started, runs.kill_at = runs.started, [], None
    run_stages(experiment, STAGES)
    assert [stage for stage, _, _ in killed] == ["minus", "plus"]
    assert runs.started[0] == killed[1] and [stage for stage, _, _ in runs.started] == ["plus", "joint"]
    assert "stage minus is finished: " in capsys.readouterr().out


def test_when_all_are_finished_the_last_is_run_anew_as_any_finished_run_is(experiment, runs):
    run_stages(experiment, STAGES)
    first, runs.started = runs.started, []
    run_stages(experiment, STAGES)
    ((stage, name, start),) = runs.started
    assert (stage, start) == ("joint", first[2][2])
    assert name == first[2][1].removesuffix("-1") + "-2"


def test_other_settings_have_stages_of_their_own(experiment, runs):
    run_stages(experiment, STAGES)
    first, runs.started = runs.started, []
    run_stages(replace(experiment, seed=1), STAGES)
    assert [stage for stage, _, _ in runs.started] == list(STAGES)
    assert not {name for _, name, _ in first} & {name for _, name, _ in runs.started}


def test_a_named_run_names_its_stages_and_refuses_other_settings_under_the_name(experiment, runs):
    named = replace(experiment, run_name="mine")
    runs.kill_at = "joint"
    with pytest.raises(KilledError):
        run_stages(named, STAGES)
    assert [name for _, name, _ in runs.started] == ["mine-minus", "mine-plus", "mine"]
    with pytest.raises(UsageError, match=r"seed \(was 0, is 1\)"):
        run_stages(replace(named, seed=1), STAGES)


def test_each_stage_is_a_part_of_the_whole_and_names_those_before_it(experiment, runs):
    def parts(parent: str | None, **tags: str) -> list[PartOf]:
        before = ([], ["id of minus"], ["id of minus", "id of plus"])
        return [PartOf(parent=parent, tags={**tags, "stages.before": json.dumps(ids)}) for ids in before]

    run_stages(experiment, STAGES, PartOf(parent="sweep", tags={"trial.label": "all"}))
    assert runs.parts == parts("sweep", **{"trial.label": "all"})
    run_stages(experiment, STAGES)  # the first two are finished
    assert runs.parts[3:] == parts(None)[2:]


def test_a_later_stage_may_begin_from_any_run_and_the_first_takes_the_parts_that_are_named(experiment, runs):
    run_stages(experiment, STAGES)
    folder, runs.started = runs.started[1][2], []
    later = replace(experiment, model=replace(experiment.model, stage="plus"), start_from=folder)
    assert [other.model.stage for other in stages_from(later, STAGES)] == ["plus", "joint"]
    stage, behind = next_stage(later, STAGES)  # both are finished, so it is the last again
    assert (stage.model.stage, behind) == ("joint", [])
    first = replace(experiment, start_from=folder, start_parts=("unet",), seed=3)
    of_stages = stages_from(first, STAGES)
    assert [(other.start_from, other.start_parts) for other in of_stages] == [
        (folder, ("unet",)),
        (None, ()),
        (None, ()),
    ]
    run_stages(first, STAGES)
    assert next(start for _, _, start in runs.started) == folder


def test_a_stage_that_is_none_of_them_is_refused(experiment):
    with pytest.raises(UsageError, match=r"--model\.stage minus is none of plus, joint"):
        stages_from(experiment, STAGES[1:])
    later = replace(experiment, model=replace(experiment.model, stage=STAGES[1]))
    with pytest.raises(UsageError, match="goes on from the one before: give its run or checkpoint by --start-from"):
        stages_from(later, STAGES)
