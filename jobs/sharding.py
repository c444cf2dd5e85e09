"""What the jobs that shard a data set share: the options that they have in common, and the run."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass

import pyarrow as pa
import tyro

from cocktail.storage import absolute
from cocktail.train.cluster import connect, one_line_errors
from pipelines.shards import ShardSettings, shard_dataset


@dataclass(frozen=True, kw_only=True)
class ShardJob(ABC):
    """A data set on a disk or in an object store that is to become shards."""

    shards: str
    """Folder or s3:// URI to write to."""
    settings: tyro.conf.OmitArgPrefixes[ShardSettings]

    @abstractmethod
    def index(self) -> pa.Table:
        """The clips of the data set, from its public layout."""

    def location(self, option: str) -> str:
        """The value of an option that names a file or folder, the same for every process."""
        return absolute(getattr(self, option), "--" + option.replace("_", "-"))

    def optional(self, option: str) -> str | None:
        """The same of an option that may be left out."""
        return None if getattr(self, option) is None else self.location(option)


def main(job_type: type[ShardJob], description: str | None) -> None:
    """Read the command line, index, shard."""
    with one_line_errors():
        job = tyro.cli(job_type, description=description, args=sys.argv[1:])
        shard_dataset(job.index(), job.settings, job.location("shards"), connect)
