"""Which clips go into which shard: a pure function of the index and the settings."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Annotated, Any

import pyarrow as pa
import tyro

from cocktail.types import UsageError
from pipelines.tars import AudioFormat, canonical_json

SHARD_SCHEMA = "cocktail-shard/2"

_IDENTITY = ("clip_id", "labels", "class_ids", "split", "group", "role", "partner")
"""What names a clip whether or not its files are in order."""

# For an estimate of a shard's size before anything is decoded.
_JPEG_BYTES_PER_PIXEL = 0.3
_PICTURE_ASPECT = 4 / 3
_FLAC_RATIO = 0.6


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """What a data set's shards hold. All but `max_bad_share` and `num_tasks` decide their bytes."""

    dataset: str
    """Name that the manifest carries."""
    sample_rate_hz: int = 11025
    """Rate at which sound is stored, in Hz."""
    audio_format: AudioFormat = "wav"
    """How sound is stored: 16-bit PCM, or FLAC, which is smaller and slower to read."""
    num_frames: Annotated[int, tyro.conf.arg(name="frames")] = 1
    """Pictures a clip, at the centres of as many equal parts of it; 0 also takes clips without a video track.
    Data sets whose pictures are files of their own have their own choice."""
    picture_short_side: int = 256
    """Pictures are shrunk to this, in pixels; never enlarged."""
    shard_mb: float = 128.0
    """Size of one tar to aim at, in MB."""
    min_seconds: float = 1.0
    """Clips with less sound are set aside, in seconds."""
    max_seconds: float = 600.0
    """Clips that declare more are set aside without decoding, in seconds."""
    keep_silent: bool = False
    """Keep clips without a sound. Sources of a given mixture may have none."""
    seed: int = 0
    """Decides which clips share a shard."""
    max_bad_share: float = 0.001
    """Share of clips set aside, 0 to 1, above which the run fails at its end."""
    num_tasks: Annotated[int | None, tyro.conf.arg(name="tasks")] = None
    """Shards written at a time; None: as many as the cluster has CPUs."""

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "picture_short_side"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: expected 1 or more")
        if self.num_tasks is not None and self.num_tasks < 1:
            raise UsageError(f"num_tasks is {self.num_tasks}: expected 1 or more")
        if self.num_frames < 0:
            raise UsageError(f"num_frames is {self.num_frames}: expected 0 or more")
        if self.shard_mb <= 0:
            raise UsageError(f"shard_mb is {self.shard_mb}: expected more than 0")
        if not 0 < self.min_seconds <= self.max_seconds:
            raise UsageError(f"clips of {self.min_seconds} to {self.max_seconds} s: expected 0 < min <= max")
        if not 0 <= self.max_bad_share <= 1:
            raise UsageError(f"max_bad_share is {self.max_bad_share}: expected a share from 0 to 1")

    def deciding(self) -> dict[str, Any]:
        """The settings that decide a shard's bytes."""
        return {name: value for name, value in asdict(self).items() if name not in ("max_bad_share", "num_tasks")}


def plan_shards(index: pa.Table, settings: ShardSettings) -> pa.Table:
    """One row a shard: `shard`, `split`, `clips`, `plan_hash`, `deal_hash`.

    The clips of a split are dealt in the order of a hash of (seed, clip id), a group's together under its name, to
    shards of about equal size, the smallest number of them that keeps to `shard_mb`. Clips with a problem are
    dealt too, to be counted. `deal_hash` names the plan as a whole but for the state of the files, which may be
    mended between two runs; `plan_hash` names the row with it. Where the media lie changes neither.
    """
    units = sorted(
        ((digest([settings.seed, unit]), clips) for unit, clips in _units(index.to_pylist())), key=lambda pair: pair[0]
    )
    rows: list[dict[str, Any]] = []
    for split in sorted(set(index["split"].to_pylist())):
        shares = _deal([clips for _, clips in units if clips[0]["split"] == split], settings)
        rows += [
            {"shard": f"{split}-{number:05d}-of-{len(shares):05d}", "split": split, "clips": clips}
            for number, clips in enumerate(shares)
        ]
    common = {"schema": SHARD_SCHEMA, **settings.deciding()}
    deal = [[row["shard"], [[clip[name] for name in _IDENTITY] for clip in row["clips"]]] for row in rows]
    deal_hash = digest([common, deal])
    for row in rows:
        contents = [[*(clip[name] for name in _IDENTITY), *_state(clip)] for clip in row["clips"]]
        row |= {"plan_hash": digest([common, row["shard"], contents]), "deal_hash": deal_hash}
    columns = pa.schema(
        [
            ("shard", pa.string()),
            ("split", pa.string()),
            ("clips", pa.list_(pa.struct(list(index.schema)))),
            ("plan_hash", pa.string()),
            ("deal_hash", pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=columns.with_metadata(index.schema.metadata))


def group_clips(clips: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The clips of a shard, those of a group together, single ones alone."""
    for group, members in groupby(clips, key=lambda clip: clip["group"]):
        if group is None:
            yield from ([clip] for clip in members)
        else:
            yield list(members)


def _units(clips: list[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """What must share a shard, under the name that it is dealt by; in the order of the index."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for clip in clips:
        if clip["group"] is None:
            yield clip["clip_id"], [clip]
        else:
            groups.setdefault(clip["group"], []).append(clip)
    for group, members in groups.items():
        if len({clip["split"] for clip in members}) > 1:
            raise UsageError(f"the clips of {group} are in more than one split")
        yield group, members


def _deal(units: list[list[dict[str, Any]]], settings: ShardSettings) -> list[list[dict[str, Any]]]:
    """The clips of each shard of a split."""
    sizes = [sum(_estimated_bytes(clip, settings) for clip in unit) for unit in units]
    total = sum(sizes)
    count = math.ceil(total / (settings.shard_mb * 1e6))
    shares: dict[int, list[dict[str, Any]]] = {}
    before = 0.0
    for unit, size in zip(units, sizes, strict=True):
        shares.setdefault(int((before + size / 2) * count / total), []).extend(unit)
        before += size
    return list(shares.values())


def _estimated_bytes(clip: Mapping[str, Any], settings: ShardSettings) -> float:
    pictures = settings.num_frames if clip["pictures"] is None else len(clip["pictures"])
    pixels = settings.picture_short_side**2 * _PICTURE_ASPECT
    audio = 2 * settings.sample_rate_hz * clip["nominal_seconds"]
    ratio = _FLAC_RATIO if settings.audio_format == "flac" else 1.0
    return 4096 + ratio * audio + _JPEG_BYTES_PER_PIXEL * pixels * pictures


def _state(clip: Mapping[str, Any]) -> list[Any]:
    """What decides a clip's bytes beside its identity and the media."""
    seconds = None if clip["pictures"] is None else [picture["seconds"] for picture in clip["pictures"]]
    return [clip["audio_track"], seconds, clip["boxes"], clip["mask_path"] is not None, clip["problem"]]


def digest(value: Any) -> str:
    """sha256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
