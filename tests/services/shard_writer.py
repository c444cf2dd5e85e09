"""What the processes run that tests kill while they write shards. It lies apart so that they start fast."""

from __future__ import annotations

from typing import Any

from pipelines.shards.plan import ShardSettings
from pipelines.shards.write import write_shard


def write_some(rows: list[dict[str, Any]], settings: ShardSettings, folder: str) -> None:
    """Write the shards of plan rows, one after the other."""
    for row in rows:
        write_shard(row, settings, folder)
