"""The manifest of a finished data set: what lies where in its shards.

manifest.json commits the data set: it describes it as a whole and holds the hashes of manifest.parquet, one row a
clip, and quarantine.parquet, one row a clip that was set aside. Nothing is parsed whose hash does not hold.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cocktail.foreign.bounded import UntrustworthyError, is_sha256, parse_parquet, read_bounded
from cocktail.storage import join, list_names, read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.datasets.index import BOX
from pipelines.shards.contents import check_clips, check_metadata, distrust
from pipelines.shards.signed_json import claims, parse_signed, schema_of, sign

MANIFEST_SCHEMA = "cocktail-manifest/3"
_WITHOUT_RECORDINGS = "cocktail-manifest/2"
"""Schema of shards as this version's, but without the column `recording`: the sharding job writes the manifest anew."""
MANIFEST_NAME = "manifest.json"
CLIPS_NAME = "manifest.parquet"
QUARANTINE_NAME = "quarantine.parquet"
SIDECAR_SUFFIX = ".index.json"
MAX_MANIFEST_BYTES = 1 << 28
"""Size of the largest manifest.json: of a million shards."""
MAX_TABLE_BYTES = 1 << 33
"""Size of the largest table of clips: of tens of millions."""

MANIFEST_COLUMNS = pa.schema(
    [
        ("clip_id", pa.string()),
        ("recording", pa.string()),  # what it was cut out of
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
        ("checks", pa.list_(pa.uint64())),  # of each second begun: pipelines.shards.tars.checksum of its samples
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
    """Entries of manifest.json on the data set as a whole."""
    quarantine_sha256: str

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(json.loads(self.metadata["classes"]))

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes of the index, a line each."""
        return tuple(json.loads(self.metadata["notes"]))

    @property
    def sample_rate_hz(self) -> int:
        return int(self.metadata["sample_rate_hz"])

    @property
    def audio_format(self) -> str:
        """Format of the stored sound: wav or flac."""
        return self.metadata["audio_format"]

    @property
    def root_hash(self) -> str:
        """SHA-256 over the shards' names and hashes: data sets with the same one hold the same bytes."""
        return self.metadata["root_hash"]

    @functools.cached_property
    def shards(self) -> dict[str, tuple[str, int]]:
        """SHA-256 and size in bytes of each tar, by its name."""
        return {name: (sha256, size) for name, (sha256, size) in json.loads(self.metadata["shards"]).items()}

    @property
    def dataset(self) -> str:
        return self.metadata["dataset"]


def has_own_manifest(folder: str) -> bool:
    """Whether a folder's manifest.json is of shards of this version, be it damaged; others use that name, too."""
    if MANIFEST_NAME not in list_names(folder):
        return False
    data = read_bounded(join(folder, MANIFEST_NAME), MAX_MANIFEST_BYTES)
    return claims(data, MANIFEST_SCHEMA) or claims(data, _WITHOUT_RECORDINGS)


def committed_tars(folder: str) -> set[str]:
    """Names of the tars that a folder's manifest.json commits; none if there is none that can be believed."""
    if not has_own_manifest(folder):
        return set()
    document = parse_signed(read_bounded(join(folder, MANIFEST_NAME), MAX_MANIFEST_BYTES))
    try:
        return set(_believed(document)) if document else set()
    except UntrustworthyError:
        return set()


def open_manifest(folder: str) -> Manifest:
    """A finished data set. Raises UsageError if there is none, or one that this version cannot read."""
    advice = "the job of its data set"
    location = join(folder, MANIFEST_NAME)
    try:
        data = read_bounded(location, MAX_MANIFEST_BYTES)
    except FileNotFoundError as error:
        if any(name.endswith(SIDECAR_SUFFIX) for name in list_names(folder)):
            raise UsageError(
                f"{folder} holds shards but no {MANIFEST_NAME}: sharding did not finish, or too many clips were "
                "bad. Run the same command again"
            ) from error
        raise UsageError(f"no shards at {folder}. Make them with {advice}, as python jobs/shard_vggsound.py") from error
    schema = schema_of(data)
    if schema == _WITHOUT_RECORDINGS:
        raise UsageError(
            f"{location} does not say which recordings the clips were cut out of ({schema}, this version reads "
            f"{MANIFEST_SCHEMA}): run the command that made these shards again, which keeps them and writes the "
            "manifest anew"
        )
    if schema is not None and schema != MANIFEST_SCHEMA:
        raise UsageError(
            f"{folder} holds shards of another schema: {schema}, this version reads {MANIFEST_SCHEMA}. "
            f"Make them again, in another folder, with {advice}"
        )
    document = parse_signed(data)
    if document is None:
        raise _damaged(location)
    try:
        _believed(document)
    except UntrustworthyError as error:
        raise distrust(location, str(error)) from error
    manifest = Manifest(
        folder=folder,
        table=_read_table(folder, CLIPS_NAME, document["clips_sha256"], MANIFEST_COLUMNS),
        metadata=document["metadata"],
        quarantine_sha256=document["quarantine_sha256"],
    )
    sizes = {name: size for name, (_, size) in manifest.shards.items()}
    try:
        check_clips(
            manifest.table, sizes, manifest.sample_rate_hz, manifest.audio_format, num_classes=len(manifest.classes)
        )
    except UntrustworthyError as error:
        raise distrust(join(folder, CLIPS_NAME), str(error)) from error
    return manifest


def _believed(document: Mapping[str, Any]) -> dict[str, Any]:
    """The shards that manifest.json lists, once all of it can be as it says. Raises UntrustworthyError."""
    if not all(is_sha256(document.get(name)) for name in ("clips_sha256", "quarantine_sha256")):
        raise UntrustworthyError("has no SHA-256 of its tables")
    check_metadata(document.get("metadata"))
    return json.loads(document["metadata"]["shards"])


def read_quarantine(manifest: Manifest) -> pa.Table:
    """The clips that are in no shard, with QUARANTINE_COLUMNS. Raises UsageError if the file is damaged."""
    return _read_table(manifest.folder, QUARANTINE_NAME, manifest.quarantine_sha256, QUARANTINE_COLUMNS)


def _read_table(folder: str, name: str, sha256: str, columns: pa.Schema) -> pa.Table:
    location = join(folder, name)
    try:
        data = read_bounded(location, MAX_TABLE_BYTES)
    except FileNotFoundError as error:
        raise _damaged(location) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _damaged(location)
    try:
        return parse_parquet(data, columns)
    except UntrustworthyError as error:
        raise distrust(location, str(error)) from error


def _damaged(location: str) -> UsageError:
    return UsageError(f"{location} is damaged or gone: delete {MANIFEST_NAME} and run the sharding job again")


def write_quarantine(folder: str, quarantined: Iterable[pa.Table]) -> None:
    """Write quarantine.parquet alone, for a data set that cannot be committed."""
    write_atomic(join(folder, QUARANTINE_NAME), _to_parquet(quarantined, QUARANTINE_COLUMNS))


def commit_manifest(
    folder: str, clips: Iterable[pa.Table], quarantined: Iterable[pa.Table], metadata: Mapping[str, str]
) -> Manifest:
    """Write the manifest of a data set whose shards are complete, unless the same is there; manifest.json last.

    A table a shard, with MANIFEST_COLUMNS in the order of the tar, and with QUARANTINE_COLUMNS.
    """
    by_name = sorted((table for table in clips if len(table)), key=lambda table: table["shard"][0].as_py())
    table = _to_parquet(by_name, MANIFEST_COLUMNS)
    quarantine = _to_parquet(quarantined, QUARANTINE_COLUMNS)
    document = sign(
        {
            "schema": MANIFEST_SCHEMA,
            "clips_sha256": hashlib.sha256(table).hexdigest(),
            "quarantine_sha256": hashlib.sha256(quarantine).hexdigest(),
            "metadata": dict(metadata),
        }
    )
    if MANIFEST_NAME not in list_names(folder) or read_bytes(join(folder, MANIFEST_NAME)) != document:
        write_atomic(join(folder, QUARANTINE_NAME), quarantine)
        write_atomic(join(folder, CLIPS_NAME), table)
        write_atomic(join(folder, MANIFEST_NAME), document)
    return open_manifest(folder)


def _to_parquet(tables: Iterable[pa.Table], columns: pa.Schema) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.concat_tables([columns.empty_table(), *tables]), sink)
    return sink.getvalue()
