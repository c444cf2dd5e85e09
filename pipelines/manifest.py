"""The manifest of a finished data set: one Parquet file that says what lies where in its shards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cocktail.storage import join, list_names, open_reader, write_atomic
from cocktail.types import UsageError

MANIFEST_SCHEMA = "cocktail-manifest/1"
MANIFEST_NAME = "manifest.parquet"
QUARANTINE_NAME = "quarantine.parquet"
SIDECAR_SUFFIX = ".index.json"

MANIFEST_COLUMNS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("shard", pa.string()),  # file name of the tar
        ("split", pa.string()),
        ("label", pa.string()),
        ("class_id", pa.int32()),
        ("audio_offset", pa.int64()),  # of the first PCM byte in the tar
        ("num_samples", pa.int32()),
        ("rms", pa.list_(pa.float32())),  # of each second, full scale 1
        ("duration", pa.float64()),  # seconds
        ("frame_offsets", pa.list_(pa.int64())),
        ("frame_sizes", pa.list_(pa.int32())),
    ]
)
QUARANTINE_COLUMNS = pa.schema(
    [(name, pa.string()) for name in ("clip_id", "label", "split", "shard", "reason", "detail")]
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A finished data set."""

    folder: str
    table: pa.Table
    """One row a clip, in the order of (shard, audio_offset), with MANIFEST_COLUMNS."""
    classes: tuple[str, ...]
    sample_rate_hz: int
    root_hash: str
    """sha256 over the shards' names and hashes: data sets with the same one hold the same bytes."""
    dataset: str


def open_manifest(folder: str) -> Manifest:
    """A finished data set. Raises UsageError if there is none, or one that this version cannot read."""
    command = f"python jobs/shard_vggsound.py --csv ... --videos ... --shards {folder}"
    try:
        with open_reader(join(folder, MANIFEST_NAME)) as file:
            table = pq.read_table(file)
    except FileNotFoundError as error:
        if any(name.endswith(SIDECAR_SUFFIX) for name in list_names(folder)):
            raise UsageError(
                f"{folder} holds shards but no {MANIFEST_NAME}: sharding did not finish, or too many clips were "
                f"bad. Run the same command again: {command}"
            ) from error
        raise UsageError(f"no shards at {folder}. Make them with: {command}") from error
    except pa.ArrowInvalid as error:
        raise UsageError(f"{join(folder, MANIFEST_NAME)} is no Parquet file: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read shards at {folder}: {error}. Make them with: {command}") from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    found = metadata.get("cocktail.schema", "none")
    if found != MANIFEST_SCHEMA:
        raise UsageError(
            f"{folder} holds shards of another schema: {found}, this version reads {MANIFEST_SCHEMA}. "
            f"Make them again in another folder: {command}"
        )
    return Manifest(
        folder=folder,
        table=table,
        classes=tuple(json.loads(metadata["classes"])),
        sample_rate_hz=int(metadata["sample_rate_hz"]),
        root_hash=metadata["root_hash"],
        dataset=metadata["dataset"],
    )


def write_quarantine(folder: str, quarantined: Iterable[Mapping[str, Any]]) -> None:
    """Write quarantine.parquet: the clips that are in no shard, with reasons."""
    _write_table(join(folder, QUARANTINE_NAME), pa.Table.from_pylist(list(quarantined), QUARANTINE_COLUMNS))


def write_manifest(folder: str, clips: Iterable[Mapping[str, Any]], metadata: Mapping[str, str]) -> None:
    """Write manifest.parquet, which commits the data set."""
    ordered = sorted(clips, key=lambda clip: (clip["shard"], clip["audio_offset"]))
    columns = MANIFEST_COLUMNS.with_metadata({"cocktail.schema": MANIFEST_SCHEMA, **metadata})
    _write_table(join(folder, MANIFEST_NAME), pa.Table.from_pylist(ordered, columns))


def _write_table(location: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    write_atomic(location, sink.getvalue())
