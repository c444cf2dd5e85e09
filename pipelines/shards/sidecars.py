"""Sidecars: what lies in a shard, clip by clip, in `<shard>.index.json`; and what a manifest makes of many of them.

Parsed, a sidecar takes several times its size in memory. So one after the other is taken apart, into tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cocktail.foreign.bounded import UntrustworthyError, read_bounded
from cocktail.media.members import media_exists
from cocktail.storage import join
from cocktail.types import UsageError
from pipelines.shards.contents import check_sidecar, distrust
from pipelines.shards.manifest import MANIFEST_COLUMNS, QUARANTINE_COLUMNS, SIDECAR_SUFFIX
from pipelines.shards.plan import SHARD_SCHEMA
from pipelines.shards.signed_json import canonical_json, digest, parse_signed, schema_of

_AT_ONCE = 16
"""Requests under way: an object store answers slowly."""
MAX_SIDECAR_BYTES = 1 << 29
"""Size of the largest sidecar: of a shard of a hundred thousand clips."""


def read_sidecar(location: str) -> dict[str, Any]:
    """A sidecar whose own hash holds.

    Raises UsageError for one that is damaged, of another schema, or that says what cannot be.
    """
    return _parse(location, _read(location))


def _read(location: str) -> bytes:
    return read_bounded(location, MAX_SIDECAR_BYTES)


def iterate_sidecars(folder: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Sidecars by file name, in that order: a few are read at once, and one is parsed at a time."""
    locations = [join(folder, name) for name in names]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        for begin in range(0, len(locations), _AT_ONCE):
            some = locations[begin : begin + _AT_ONCE]
            for location, data in zip(some, threads.map(_read, some), strict=True):
                yield _parse(location, data)


def _parse(location: str, data: bytes) -> dict[str, Any]:
    schema = schema_of(data)
    if schema is not None and schema != SHARD_SCHEMA:
        raise UsageError(
            f"{location} is of another schema: {schema}, this version writes {SHARD_SCHEMA}. "
            "Give another --shards folder"
        )
    sidecar = parse_signed(data)
    if sidecar is None:
        raise UsageError(
            f"{location} is damaged: delete it and run the sharding job again, which writes its shard anew. "
            "If no sharding job wrote it, give another --shards folder"
        )
    try:
        name = location.rsplit("/", 1)[-1].removesuffix(SIDECAR_SUFFIX)
        check_sidecar(sidecar, name, MANIFEST_COLUMNS, QUARANTINE_COLUMNS)
    except UntrustworthyError as error:
        raise distrust(location, str(error)) from error
    return sidecar


def manifest_rows(sidecar: Mapping[str, Any], recordings: Mapping[str, str]) -> pa.Table:
    """The clips of a shard, as the manifest holds them. Their recordings, by clip id, are known to the index alone."""
    rate = sidecar["settings"]["sample_rate_hz"]
    derived = [
        {
            "recording": recordings[sample["clip_id"]],
            "shard": sidecar["name"] + ".tar",
            "duration": sample["num_samples"] / rate,
        }
        for sample in sidecar["samples"]
    ]
    rows = [{**sample, **more} for sample, more in zip(sidecar["samples"], derived, strict=True)]
    return pa.Table.from_pylist(rows, MANIFEST_COLUMNS)


def quarantine_rows(sidecars: Iterable[Mapping[str, Any]]) -> Iterator[pa.Table]:
    """Rows of quarantine.parquet: the clips of each shard that were set aside."""
    for sidecar in sidecars:
        rows = [{**item, "shard": sidecar["name"] + ".tar"} for item in sidecar["quarantined"]]
        yield pa.Table.from_pylist(rows, QUARANTINE_COLUMNS)


@dataclass
class ShardTotals:
    """Entries of a manifest on a data set as a whole that its shards know; the index adds `classes` and `notes`."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    shards: dict[str, tuple[str, int]] = field(default_factory=dict)
    """SHA-256 and size in bytes of each, by its name."""
    num_good: int = 0
    num_bad: int = 0

    def add(self, sidecar: Mapping[str, Any]) -> None:
        """Count a shard. All of a data set have the same settings."""
        self.settings = sidecar["settings"]
        self.shards[sidecar["name"]] = (sidecar["tar_sha256"], sidecar["tar_bytes"])
        self.num_good += len(sidecar["samples"])
        self.num_bad += len(sidecar["quarantined"])

    def metadata(self) -> dict[str, str]:
        """The manifest's metadata."""
        return {
            "dataset": self.settings["dataset"],
            "sample_rate_hz": str(self.settings["sample_rate_hz"]),
            "audio_format": self.settings["audio_format"],
            "settings": canonical_json(self.settings).decode(),
            "root_hash": digest(sorted([name, sha256] for name, (sha256, _) in self.shards.items())),
            "shards": canonical_json({f"{name}.tar": shard for name, shard in self.shards.items()}).decode(),
            "bytes": str(sum(num_bytes for _, num_bytes in self.shards.values())),
            "planned": str(self.num_good + self.num_bad),
            "good": str(self.num_good),
            "quarantined": str(self.num_bad),
        }


def files_have_come(sidecar: Mapping[str, Any], clips: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a clip of a shard, one of its plan's clips, was set aside for a missing file that is there now.

    What was missing when the data set was indexed is not looked for: the index decides that, and the plan's hash.
    """
    missing = {item["clip_id"] for item in sidecar["quarantined"] if item["reason"] == "missing file"}
    if not missing:
        return False
    wanted = [clip for clip in clips if clip["clip_id"] in missing and clip["problem"] is None]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return any(threads.map(_has_all_files, wanted))


def _has_all_files(clip: Mapping[str, Any]) -> bool:
    pictures = [picture["path"] for picture in clip["pictures"] or ()]
    masks = [] if clip["mask_path"] is None else [clip["mask_path"]]
    return all(media_exists(location) for location in (clip["media_path"], *pictures, *masks))
