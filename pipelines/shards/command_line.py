"""Command line of the jobs that shard a data set: the options that they have in common, and the run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import tyro

from cocktail.cluster.connection import connect, one_line_errors
from cocktail.storage import absolute
from pipelines.shards.dataset import shard_dataset
from pipelines.shards.plan import ShardSettings


@dataclass(frozen=True, kw_only=True)
class ShardJob:
    """A data set on a disk or in an object store that is to become shards."""

    shards: str
    """Folder or s3:// URI to write to."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings]

    def sources(self) -> dict[str, Any]:
        """The other options, which say where the data set is; those that name files as whole paths or URIs."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _located(name, value) for name, value in values.items() if name not in ("shards", "settings")}


def _located(name: str, value: Any) -> Any:
    return absolute(value, "--" + name.replace("_", "-")) if isinstance(value, str) else value


def main(job_type: type[ShardJob], index: Callable[..., pa.Table], description: str | None) -> None:
    """Read the command line, make the index of the options' names and values, shard."""
    with one_line_errors():
        job = tyro.cli(job_type, description=description, args=sys.argv[1:])
        shard_dataset(index(**job.sources()), job.settings, absolute(job.shards, "--shards"), connect)
