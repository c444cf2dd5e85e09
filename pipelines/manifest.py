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
from pipelines.index import BOX

MANIFEST_SCHEMA = "cocktail-manifest/2"
MANIFEST_NAME = "manifest.parquet"
QUARANTINE_NAME = "quarantine.parquet"
SIDECAR_SUFFIX = ".index.json"

MANIFEST_COLUMNS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("key", pa.string()),  # of its members in the tar: <key>.wav ...
        ("shard", pa.string()),  # file name of the tar
        ("split", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("class_ids", pa.list_(pa.int32())),  # of those labels that are classes
        ("group", pa.string()),  # what sounds together as released
        ("role", pa.string()),
        ("partner", pa.string()),  # clip id, from an official test list
        ("audio_offset", pa.int64()),  # in the tar: of the first PCM byte, or of the FLAC file
        ("audio_bytes", pa.int64()),  # from there on
        ("num_samples", pa.int32()),
        ("rms", pa.list_(pa.float32())),  # of each second begun, full scale 1
        ("checks", pa.list_(pa.uint64())),  # of each second begun: pipelines.tars.checksum of its samples
        ("duration", pa.float64()),  # seconds
        ("frame_offsets", pa.list_(pa.int64())),
        ("frame_sizes", pa.list_(pa.int32())),
        ("frame_checks", pa.list_(pa.uint64())),
        ("frame_seconds", pa.list_(pa.float64())),  # from the first sample of the sound
        ("boxes", pa.list_(BOX)),  # null: nobody said where the object is
        ("mask_offset", pa.int64()),  # of a PNG of frame 0: 255 where the object is
        ("mask_bytes", pa.int32()),
        ("mask_check", pa.uint64()),
    ]
)
QUARANTINE_COLUMNS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
        ("shard", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A finished data set."""

    folder: str
    table: pa.Table
    """One row a clip, in the order of (shard, audio_offset), with MANIFEST_COLUMNS."""
    metadata: Mapping[str, str]
    """All that the file says of the data set as a whole."""

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(json.loads(self.metadata["classes"]))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the index had to tell, a line each."""
        return tuple(json.loads(self.metadata["notes"]))

    @property
    def sample_rate_hz(self) -> int:
        return int(self.metadata["sample_rate_hz"])

    @property
    def audio_format(self) -> str:
        """wav or flac."""
        return self.metadata["audio_format"]

    @property
    def root_hash(self) -> str:
        """sha256 over the shards' names and hashes: data sets with the same one hold the same bytes."""
        return self.metadata["root_hash"]

    @property
    def dataset(self) -> str:
        return self.metadata["dataset"]


def open_manifest(folder: str) -> Manifest:
    """A finished data set. Raises UsageError if there is none, or one that this version cannot read."""
    advice = "the shard_*.py job of its data set"
    try:
        with open_reader(join(folder, MANIFEST_NAME)) as file:
            table = pq.read_table(file, page_checksum_verification=True)
    except FileNotFoundError as error:
        if any(name.endswith(SIDECAR_SUFFIX) for name in list_names(folder)):
            raise UsageError(
                f"{folder} holds shards but no {MANIFEST_NAME}: sharding did not finish, or too many clips were "
                "bad. Run the same command again"
            ) from error
        raise UsageError(f"no shards at {folder}. Make them with {advice}, as jobs/shard_vggsound.py") from error
    except pa.ArrowInvalid as error:
        raise UsageError(f"{join(folder, MANIFEST_NAME)} is no Parquet file: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {join(folder, MANIFEST_NAME)}: {error}") from error
    metadata = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    found = metadata.get("cocktail.schema", "none")
    if found != MANIFEST_SCHEMA:
        raise UsageError(
            f"{folder} holds shards of another schema: {found}, this version reads {MANIFEST_SCHEMA}. "
            f"Make them again, in another folder, with {advice}"
        )
    return Manifest(folder=folder, table=table, metadata=metadata)


def write_quarantine(folder: str, quarantined: Iterable[Mapping[str, Any]]) -> None:
    """Write quarantine.parquet: the clips that are in no shard, with reasons."""
    _write_table(join(folder, QUARANTINE_NAME), pa.Table.from_pylist(list(quarantined), QUARANTINE_COLUMNS))


def read_quarantine(folder: str) -> pa.Table:
    """The clips that are in no shard, with QUARANTINE_COLUMNS."""
    with open_reader(join(folder, QUARANTINE_NAME)) as file:
        return pq.read_table(file, page_checksum_verification=True)


def manifest_table(clips: Iterable[Mapping[str, Any]], metadata: Mapping[str, str]) -> pa.Table:
    """The manifest as a table, clips in the order of (shard, audio_offset)."""
    ordered = sorted(clips, key=lambda clip: (clip["shard"], clip["audio_offset"]))
    columns = MANIFEST_COLUMNS.with_metadata({"cocktail.schema": MANIFEST_SCHEMA, **metadata})
    return pa.Table.from_pylist(ordered, columns)


def same_table(one: pa.Table, other: pa.Table) -> bool:
    """Whether two manifests say the same, of the clips and of the data set."""
    return one.equals(other) and one.schema.metadata == other.schema.metadata


def write_manifest(folder: str, table: pa.Table) -> None:
    """Write manifest.parquet, which commits the data set."""
    _write_table(join(folder, MANIFEST_NAME), table)


def _write_table(location: str, table: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, write_page_checksum=True)
    write_atomic(location, sink.getvalue())
