"""Scored runs out of MLflow, and the mixtures that they were scored on."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from cocktail.config.mixing import Mixing
from cocktail.storage import absolute
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
from pipelines.experiments.provenance import TEST_DATA, TEST_MANIFEST_HASH
from pipelines.mixtures.batches import read_mixtures
from pipelines.plans.foreign_rows import require_of
from pipelines.shards.manifest import open_manifest
from pipelines.shards.reader import ClipSource


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
