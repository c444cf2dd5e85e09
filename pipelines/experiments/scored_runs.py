"""Scored runs out of MLflow, the mixtures that they were scored on, and what made them."""

from __future__ import annotations

import json
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cocktail.config.mixing import Mixing
from cocktail.storage import absolute
from cocktail.studies.recorded_results import Origin
from cocktail.studies.scored_run import (
    RESULTS_NAME,
    TEST_LIST_NAME,
    ScoredRun,
    are_results,
    read_runs,
    report_folder,
)
from cocktail.tracking.run import TrackedRun
from cocktail.types import MixtureBatch, UsageError
from pipelines.experiments.provenance import ENVIRONMENT, TEST_DATA, TEST_MANIFEST_HASH
from pipelines.mixtures.batches import read_mixtures
from pipelines.plans.foreign_rows import require_of
from pipelines.shards.manifest import open_manifest
from pipelines.shards.reader import ClipSource

_PLACES = ("--output", "--tracking-uri", "--run-name", "--resources.cache-folder")
"""Options that say only where things lie or what they are called."""
_INPUTS = {"--data": "SHARDS", "--evaluation.data": "SHARDS", "--evaluation.test-list": "LIST"}
"""What stands in documents for a place that an option names."""
_PATH = re.compile(r"[/~]|\w+://")
"""How whole paths and URIs begin."""


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


def read_scored_mixtures(run: ScoredRun, rows: pa.Table, mixing: Mixing) -> MixtureBatch:
    """Rows of a run's test list as mixtures. Raises UsageError if its shards are gone, or hold other data now."""
    manifest = open_manifest(run.tags["data"])
    if manifest.root_hash != run.tags.get("manifest_hash"):
        raise UsageError(f"{manifest.folder} holds other data than {run.name} was scored on")
    require_of(manifest, rows, f"the test list of {run.name}")
    return read_mixtures(rows, ClipSource.of(manifest), mixing)


def origin_of(tracked: TrackedRun, setting: str) -> Origin:
    """What a finished run's results come from: its training, and the evaluation if that was a run of its own.

    Raises UsageError for a run that has not finished, or whose training MLflow does not know.
    """
    if tracked.status != "FINISHED":
        raise UsageError(f"run {tracked.name} is {tracked.status}: only finished runs are recorded")
    tags = tracked.tags
    training = _training_of(tracked)
    step = re.search(r"step-(\d+)/?$", tags.get("checkpoint", ""))
    if step is None:
        raise UsageError(f"run {tracked.name} names no checkpoint step-...: it is no run of a model's job")
    with tempfile.TemporaryDirectory() as folder:
        environment = json.loads(training.fetch(ENVIRONMENT, Path(folder)).read_text(encoding="utf-8"))
    commits = {re.sub(r"^.*-g(?=[0-9a-f]{40}$)", "", run.tags.get("git_commit", "")) for run in (training, tracked)}
    runs = {run.run_id: run for run in (training, tracked)}
    return Origin(
        setting=setting,
        seed=training.params.get("seed", ""),
        run=training.name,
        commit=" and ".join(sorted(commits)),
        commands=tuple(document_command(run.tags.get("command", "")) for run in runs.values()),
        torch=tags.get("torch", ""),
        date=training.began.date().isoformat(),
        machine=machine_in_words(environment),
        steps=int(step[1]),
        batch_size=int(training.params.get("training.batch_size", 0)),
        seconds=training.seconds or 0.0,
        data=tags.get(TEST_MANIFEST_HASH) or tags.get("manifest_hash", ""),
    )


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
        option, is_joined, value = word.partition("=")
        option = option.replace("_", "-")
        if option in _PLACES or option in _INPUTS:
            if not is_joined:
                next(words, None)
            yield from [option, _INPUTS[option]] if option in _INPUTS else []
        elif re.search(r"(^|/)step-\d+/?$", word):
            yield "CHECKPOINT"
        elif re.match(_PATH, value if word.startswith("-") else word):
            yield f"{option}=PATH" if is_joined else "PATH"
        else:
            yield word


def machine_in_words(environment: Mapping[str, Any]) -> str:
    """Cores and GPUs of the cluster that a run's environment.json describes, as in "2 cores"."""
    amounts, gpus = environment["cluster"], environment["gpus"]
    cores = f"{amounts.get('CPU', 0):g} cores"
    names = sorted({*gpus["driver"], *gpus["cluster"]})
    return f"{amounts['GPU']:g} GPUs ({', '.join(names)}), {cores}" if amounts.get("GPU") else cores
