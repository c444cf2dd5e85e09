"""Scored runs out of MLflow, the mixtures that they were scored on, and what made them."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from cocktail.config.mixing import Mixing
from cocktail.storage import absolute
from cocktail.studies.origins import Origin
from cocktail.studies.scored_run import (
    RESULTS_NAME,
    TEST_LIST_NAME,
    ScoredRun,
    are_results,
    read_runs,
    report_folder,
)
from cocktail.tracking.find import find_run
from cocktail.tracking.run import TrackedRun
from cocktail.types import MixtureBatch, UsageError
from pipelines.experiments.provenance import (
    ENVIRONMENT,
    STARTS,
    TEST_DATA,
    TEST_MANIFEST_HASH,
    machine_in_words,
    values_of_starts,
)
from pipelines.mixtures.batches import read_mixtures
from pipelines.plans.foreign_rows import require_of
from pipelines.shards.manifest import open_manifest
from pipelines.shards.reader import ClipSource

_PLACES = ("--output", "--tracking-uri", "--run-name", "--resources.cache-folder")
"""Options that say only where things lie or what they are called."""
_INPUTS = {
    "--data": "SHARDS",
    "--evaluation.data": "SHARDS",
    "--evaluation.test-list": "LIST",
    "--start-from": "CHECKPOINT",
    "--model.initial-weights": "WEIGHTS",
}
"""What stands in documents for a place that an option names."""
_NO_PLACES = ("None", "auto", "none")
"""What these options may have for a value instead of a place."""
_PATH = re.compile(r"[/~]|\.\.?/|\w+://")
"""How paths and URIs begin that are known to be some by themselves."""


def scored_runs(tracked: TrackedRun, data: str | None) -> list[ScoredRun]:
    """A run's results of each of its tasks, in their order; `data` says where its shards lie now, if not where it found
    them.

    Raises UsageError if it has none.
    """
    names = [name for name in tracked.stored if are_results(name)] or [RESULTS_NAME]
    with tempfile.TemporaryDirectory() as folder:
        for artifact in (*names, *{TEST_LIST_NAME}.intersection(tracked.stored)):
            tracked.fetch(artifact, Path(folder))
        runs = read_runs(folder)
    tags = tracked.tags
    tested_on = {"data": tags.get(TEST_DATA), "manifest_hash": tags.get(TEST_MANIFEST_HASH)}
    tags |= {tag: value for tag, value in tested_on.items() if value is not None}
    tags |= {"data": absolute(data, "--data")} if data else {}
    known = {"name": tracked.name, "tags": tags, "params": tracked.params}
    stored = [report_folder(tracked.artifacts, run.name.rpartition("/")[2]) for run in runs]
    return [replace(run, stored=where, **known) for run, where in zip(runs, stored, strict=True)]


def run_of_setting(named: str, tracking_uri: str, task: str | None) -> tuple[Origin, ScoredRun]:
    """A run `SETTING=RUN`, or RUN by its model's name, with what made it, and its results of a task, or of the first.

    Raises UsageError if there is none.
    """
    setting, _, name = named.rpartition("=")
    tracked = find_run(tracking_uri, name)
    runs = [run for run in scored_runs(tracked, None) if task in (None, run.task.name)]
    if not runs:
        raise UsageError(f"run {name} has no results of {task}")
    return origin_of(tracked, setting or runs[0].own_system), runs[0]


def read_scored_mixtures(run: ScoredRun, rows: pa.Table, mixing: Mixing) -> MixtureBatch:
    """Rows of a run's test list as mixtures. Raises UsageError if its shards are gone, or hold other data now."""
    manifest = open_manifest(run.tags["data"])
    if manifest.root_hash != run.tags.get("manifest_hash"):
        raise UsageError(f"{manifest.folder} holds other data than {run.name} was scored on")
    require_of(manifest, rows, f"the test list of {run.name}")
    return read_mixtures(rows, ClipSource.of(manifest), mixing)


def origin_of(tracked: TrackedRun, setting: str) -> Origin:
    """What a finished run's results come from: its training, with the stages before it, and the evaluation if that was
    a run of its own.

    Raises UsageError for a run that has not finished, whose training MLflow does not know, or that was trained or
    scored by several commits.
    """
    if tracked.status != "FINISHED":
        raise UsageError(f"run {tracked.name} is {tracked.status}: only finished runs are recorded")
    training = _training_of(tracked)
    earlier = training.earlier_stages
    stages, steps = [*earlier, training], [_step_of(run) for run in (*earlier, tracked)]
    tags, of_stages = tracked.tags, [stage.tags for stage in stages]
    torches = [torch for of_run in (*of_stages, tags) for torch in values_of_starts(of_run, "torch")]
    machines = [machine for stage in stages for machine in _machines_of(stage)]
    runs = {run.run_id: run for run in (training, tracked)}
    return Origin(
        setting=setting,
        seed=training.params.get("seed", ""),
        run=training.name,
        commit=_commit_of(stages, tracked),
        commands=tuple(document_command(run.tags.get("command", "")) for run in runs.values()),
        torch=" and ".join(dict.fromkeys(torches)),
        date=stages[0].began.date().isoformat(),
        machine=" and ".join(dict.fromkeys(machines)),
        steps=sum(steps),
        batch_size=int(training.params.get("training.batch_size", 0)),
        seconds=sum(map(_seconds_of, stages, steps)),
        data=tags.get(TEST_MANIFEST_HASH) or tags.get("manifest_hash", ""),
        trained_on=of_stages[-1].get("manifest_hash", ""),
        initial_weights=of_stages[0].get("initial_weights", ""),
    )


def _step_of(tracked: TrackedRun) -> int:
    """The step of the checkpoint that a run was tested at. Raises UsageError if it names none."""
    step = re.search(r"step-(\d+)/?$", tracked.tags.get("checkpoint", ""))
    if step is None:
        raise UsageError(f"run {tracked.name} names no checkpoint step-...: it is no run of a model's job")
    return int(step[1])


def _commit_of(stages: Sequence[TrackedRun], tracked: TrackedRun) -> str:
    """The commit that trained all stages of a run and scored it. Raises UsageError if there are several, with each.

    An evaluation scores everything anew whenever it starts, so the commit of its last start made its results.
    """
    training = stages[-1]
    starts = [commit for stage in stages for commit in values_of_starts(stage.tags, "git_commit")]
    commits = list(map(_full_hash, starts)) or ["unknown"]
    if len(set(commits)) > 1:
        raise UsageError(
            f"run {training.name} was trained or scored by several commits, {' and '.join(dict.fromkeys(commits))}: "
            "start it anew from one, under another --run-name"
        )
    scoring = _full_hash(tracked.tags.get("git_commit", ""))
    if scoring != commits[0]:
        raise UsageError(
            f"run {training.name} was trained by commit {commits[0]}, and {tracked.name} scored it by {scoring}: score "
            "it with jobs/evaluate.py of the commit that trained it"
        )
    return scoring


def _full_hash(commit: str) -> str:
    """A commit without the tag before it by which git may describe it."""
    return re.sub(r"^\S*-g(?=[0-9a-f]{40})", "", commit)


def _machines_of(training: TrackedRun) -> list[str]:
    """The machines of all starts of a run, in words; of an earlier version's, by the environment that it kept."""
    if machines := values_of_starts(training.tags, "machine"):
        return machines
    with tempfile.TemporaryDirectory() as folder:
        return [machine_in_words(json.loads(training.fetch(ENVIRONMENT, Path(folder)).read_text(encoding="utf-8")))]


def _seconds_of(training: TrackedRun, steps: int) -> float:
    """Time of a training's parts. `seconds/training` is of the start that finished it: of a run that was started more
    than once until then, the steps count, each with the median of the seconds that one took."""
    last = {name: points[-1][1] for name, points in training.histories(("seconds/", "training_", STARTS)).items()}
    seconds = {name: value for name, value in last.items() if name.startswith("seconds/")}
    if last.get(STARTS, 1) > 1 and "training_seconds_per_step" in last:
        seconds["seconds/training"] = steps * last["training_seconds_per_step"]
    return sum(seconds.values())


def _training_of(tracked: TrackedRun) -> TrackedRun:
    """The run that trained what a run scored: itself, or another of its experiment."""
    if "seed" in tracked.params:
        return tracked
    trained = [
        run for run in tracked.neighbours("checkpoint", tracked.tags.get("checkpoint", "")) if "seed" in run.params
    ]
    if len(trained) != 1:
        raise UsageError(f"{len(trained)} runs in MLflow trained what {tracked.name} scored: one has to be known")
    return trained[0]


def document_command(command: str) -> str:
    """A run's command line as documents show it: without options of places, and with words for what a user brings."""
    words = iter(shlex.split(command))
    script = next(words, "")
    if not script:
        return ""
    return shlex.join(["python", f"jobs/{Path(script).name}", *_shown(words)])


def _shown(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        name, is_joined, value = word.partition("=")
        option = name.replace("_", "-")
        if option in _PLACES:
            if not is_joined:
                next(words, None)
        elif option in _INPUTS:
            yield from [option, _place(option, value if is_joined else next(words, ""))]
        elif is_joined and f"--{option}" in _INPUTS:  # of a grid: --over data=A,B
            yield f"{name}={','.join(_place(f'--{option}', each) for each in value.split(','))}"
        elif is_joined and name.startswith("-"):
            yield f"{name}={''.join(_shown(iter([value])))}"
        elif re.search(r"(^|/)step-\d+/?$", word):
            yield "CHECKPOINT"
        elif re.match(_PATH, word):
            yield "PATH"
        else:
            yield word


def _place(option: str, value: str) -> str:
    return value if value in _NO_PLACES else _INPUTS[option]
