"""A run is finished once, by one process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cocktail.storage import write_atomic
from cocktail.tracking.lease import Lease
from cocktail.types import UsageError
from pipelines.experiments import run as running
from pipelines.experiments.locations import FINISHED
from tests.made.models.small_experiment import SMALL


def planned(folder: Path, run_name: str | None) -> Any:
    return SimpleNamespace(folder=str(folder), name="mine", experiment=replace(SMALL, run_name=run_name))


def finish(folder: Path) -> None:
    write_atomic(str(folder / FINISHED), b"{}")


@pytest.mark.parametrize(
    ("run_name", "before", "meanwhile", "told"),
    [
        (None, False, False, None),
        (None, False, True, "the same command starts another run"),
        (None, True, False, "the same command starts another run"),  # since its folder was chosen
        ("mine", False, True, "the same command scores it again"),
        ("mine", True, False, None),
    ],
)
def test_a_run_that_was_finished_while_this_one_waited_is_left_alone(
    tmp_path, monkeypatch, run_name, before, meanwhile, told
):
    class Waited(Lease):
        def __enter__(self) -> Lease:
            if meanwhile:
                finish(tmp_path)
            return super().__enter__()

    monkeypatch.setattr(running, "Lease", Waited)
    if before:
        finish(tmp_path)
    entered = []
    try:
        with running.alone_in(planned(tmp_path, run_name)):
            entered.append(True)
    except UsageError as error:
        assert f"run mine was finished by another process meanwhile: {told}" == str(error)
    assert entered == ([True] if told is None else [])


def test_a_run_is_marked_as_finished_once_mlflow_has_it_and_before_another_process_can_take_it(tmp_path, monkeypatch):
    order: list[tuple[str, bool]] = []
    logged: dict[str, float] = {}

    def note(what: str) -> None:
        order.append((what, (tmp_path / FINISHED).exists()))

    class Watched(Lease):
        def __exit__(self, *raised: Any) -> None:
            note("given back")
            super().__exit__(*raised)

    @contextmanager
    def closing() -> Iterator[None]:
        yield
        note("closed")

    tracked = SimpleNamespace(
        closing=closing,
        run_id="1",
        artifacts="there",
        page="http://x/1",
        tags={"starts": "2"},
        tag=lambda _: None,
        log=lambda metrics, *_, **__: logged.update(metrics),
        store_json=lambda *_: None,
    )
    told = SimpleNamespace(text="the table", headline={})
    test = SimpleNamespace(
        score=tuple,
        record=lambda *_: told,
        report=lambda *_: told,
        tags={},
        precision={},
        tested_on=None,
        scored=lambda _: None,
    )
    plan = planned(tmp_path, None)
    for name in ("identity", "training_demands", "test_demands", "num_steps", "batches_per_epoch"):
        setattr(plan, name, None)
    plan.tracking_uri, plan.test_list, plan.training_run = "sqlite:///x.db", [], lambda *_: None
    plan.class_spectra = lambda: None
    plan.initial = SimpleNamespace(description="nothing")
    monkeypatch.setattr(running, "Lease", Watched)
    monkeypatch.setattr(running.PlannedRun, "of", lambda _: plan)
    made = {
        "require_continuable": None,
        "require_place": None,
        "open_run": tracked,
        "tag_origin": None,
        "environment": {},
        "log_data": None,
        "fit": "/step-1",
    }
    for name, value in {**made, "test_of": test, "step_of": 1, "register": "model", "speeds": {}}.items():
        monkeypatch.setattr(running, name, lambda *_, value=value: value)
    assert running.run(SMALL) is tracked
    assert logged["starts"] == 2
    assert order == [("closed", False), ("given back", True)]
    assert json.loads((tmp_path / FINISHED).read_text()) == {"mlflow_run": "1", "checkpoint": "/step-1"}


class TaggedRun:
    """An MLflow run's tags."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}

    def tag(self, tags: dict[str, str]) -> None:
        self.tags |= tags

    def store_json(self, name: str, values: dict[str, Any]) -> None:
        pass


def test_a_run_keeps_commit_torch_and_machine_of_all_its_starts(tmp_path, monkeypatch):
    plan, tracked = planned(tmp_path, "mine"), TaggedRun()
    plan.manifest, plan.test_list, plan.initial = None, None, SimpleNamespace(description="random weights")
    plan.source, plan.test_manifest = SimpleNamespace(executor="inline"), SimpleNamespace(folder="/test", root_hash="2")
    none = {"driver": [], "cluster": []}
    for name in ("training_data", "log_data"):
        monkeypatch.setattr(running, name, lambda *_: None)
    for commit, cores in (("a", 2), ("b", 4), ("a", 2)):
        monkeypatch.setattr(running, "provenance", lambda *_, commit=commit: {"git_commit": commit, "torch": "2.14.1"})
        monkeypatch.setattr(running, "environment", lambda cores=cores: {"cluster": {"CPU": cores}, "gpus": none})
        running.tag_origin(plan, cast(Any, tracked), None)
    kept = {name: json.loads(tracked.tags[name]) for name in ("git_commits", "torch_versions", "machines")}
    assert kept == {"git_commits": ["a", "b"], "torch_versions": ["2.14.1"], "machines": ["2 cores", "4 cores"]}
    assert (tracked.tags["git_commit"], tracked.tags["starts"]) == ("a", "3")
