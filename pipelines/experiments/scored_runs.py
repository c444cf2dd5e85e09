"""Scored runs out of MLflow, and the mixtures that they were scored on."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from cocktail.config.mixing import Mixing
from cocktail.storage import absolute, join
from cocktail.studies.scored_run import RESULTS_NAME, TEST_LIST_NAME, ScoredRun
from cocktail.tracking.run import TrackedRun
from cocktail.types import MixtureBatch, UsageError
from pipelines.experiments.provenance import TEST_DATA, TEST_MANIFEST_HASH
from pipelines.mixtures.batches import read_mixtures
from pipelines.shards.manifest import open_manifest
from pipelines.shards.reader import ClipSource


def scored_run(tracked: TrackedRun, data: str | None) -> ScoredRun:
    """A run's results; `data` says where its shards lie now, if not where it found them.

    Raises UsageError if it has none.
    """
    with tempfile.TemporaryDirectory() as folder:
        for artifact in {RESULTS_NAME, *tracked.stored} & {RESULTS_NAME, TEST_LIST_NAME}:
            tracked.fetch(artifact, Path(folder))
        run = ScoredRun.read(join(folder, RESULTS_NAME))
    tags = tracked.tags
    tested_on = {"data": tags.get(TEST_DATA), "manifest_hash": tags.get(TEST_MANIFEST_HASH)}
    tags |= {tag: value for tag, value in tested_on.items() if value is not None}
    tags |= {"data": absolute(data, "--data")} if data else {}
    return replace(run, name=tracked.name, stored=tracked.artifacts, tags=tags, params=tracked.params)


def read_scored_mixtures(run: ScoredRun, rows: pa.Table, mixing: Mixing) -> MixtureBatch:
    """Rows of a run's test list as mixtures. Raises UsageError if its shards are gone, or hold other data now."""
    manifest = open_manifest(run.tags["data"])
    if manifest.root_hash != run.tags.get("manifest_hash"):
        raise UsageError(f"{manifest.folder} holds other data than {run.name} was scored on")
    return read_mixtures(rows, ClipSource.of(manifest), mixing)
