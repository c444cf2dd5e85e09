"""Plan of which clips go into which shard: a pure function of the index and the settings."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tyro

from cocktail.types import UsageError
from pipelines.shards.signed_json import digest
from pipelines.shards.tars import AudioFormat

SHARD_SCHEMA = "cocktail-shard/2"

_IDENTITY = ("clip_id", "labels", "class_ids", "split", "group", "role", "partner")
"""Columns that name a clip whether or not its files are in order."""

# For an estimate of a shard's size before anything is decoded.
_HEADERS_BYTES = 4096
_JPEG_BYTES_PER_PIXEL = 0.3
_PICTURE_ASPECT = 4 / 3
_FLAC_RATIO = 0.6


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """Settings of what a data set's shards hold. All but `max_bad_share` and `num_tasks` decide their bytes."""

    dataset: str
    """Name that the manifest carries."""
    sample_rate_hz: int = 11025
    """Rate at which sound is stored, in Hz."""
    audio_format: AudioFormat = "wav"
    """Format of stored sound: 16-bit PCM, or FLAC, which is smaller and slower to read."""
    num_frames: Annotated[int, tyro.conf.arg(name="frames")] = 1
    """Pictures a clip, at the centres of as many equal parts of it; 0 also takes clips without a video track. Clips
    with boxes or masks keep the one these are of, their middle frame. Data sets whose pictures are files of their own
    have their own choice."""
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
    mended between two runs; `plan_hash` names the row with it. Where the media lie, and what they were cut out of,
    changes neither.
    """
    _require_marked_frames(index, settings)
    table, names, sizes = _dealt_order(index, settings)
    splits = table["split"].to_pylist()
    rows: list[tuple[str, int]] = []  # a shard and where in the order it ends
    for split in sorted(set(splits)):
        first, after = splits.index(split), len(splits) - splits[::-1].index(split)
        ends = [first + end for end in _ends(names[first:after], sizes[first:after], settings.shard_mb * 1e6)]
        rows += [(f"{split}-{number:05d}-of-{len(ends):05d}", end) for number, end in enumerate(ends)]
    offsets = [0, *(end for _, end in rows)]
    shards = [shard for shard, _ in rows]
    common = {"schema": SHARD_SCHEMA, **settings.deciding()}
    identities = list(zip(*(table[name].to_pylist() for name in _IDENTITY), strict=True))
    states = _states(table)
    spans = [slice(begin, end) for begin, end in itertools.pairwise(offsets)]
    deal_hash = digest([common, [[shard, identities[span]] for shard, span in zip(shards, spans, strict=True)]])
    plan_hashes = [
        digest([common, shard, identities[span], states[span]]) for shard, span in zip(shards, spans, strict=True)
    ]
    clips = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), table.to_struct_array().combine_chunks())
    columns = {
        "shard": shards,
        "split": [splits[begin] for begin in offsets[:-1]],
        "clips": clips,
        "plan_hash": plan_hashes,
        "deal_hash": [deal_hash] * len(shards),
    }
    return pa.table(columns).replace_schema_metadata(index.schema.metadata)


def shard_family(shard: str) -> tuple[str, int] | None:
    """The split of a shard's name and how many shards it has; None for a name that `plan_shards` does not give."""
    match = re.fullmatch(r"(.+)-\d{5,}-of-(\d{5,})", shard)
    return match and (match[1], int(match[2]))


def frames_of(clip: Mapping[str, Any], settings: ShardSettings) -> int:
    """Number of pictures that are taken of a clip's media file: of one with boxes or masks, its middle frame."""
    if clip["pictures"] is not None:
        return 0
    return settings.num_frames if clip["boxes"] is None and clip["mask_path"] is None else 1


def _require_marked_frames(index: pa.Table, settings: ShardSettings) -> None:
    """Boxes and masks of a clip whose pictures come from its media file are those of its middle frame."""
    filmed = index.filter(pc.field("pictures").is_null())
    marked = filmed.filter(pc.field("boxes").is_valid() | pc.field("mask_path").is_valid())
    if len(marked) and (settings.num_frames == 0 or (settings.num_frames > 1 and len(marked) == len(filmed))):
        raise UsageError(
            f"--frames is {settings.num_frames}: {len(marked)} clips have boxes or masks, of their middle frame: give 1"
        )


def planned_clip_ids(plan: pa.Table) -> list[list[str]]:
    """The ids of the clips of each shard."""
    return _by_shard(plan, "clip_id")


def planned_recordings(plan: pa.Table) -> list[list[str]]:
    """Recordings that the clips of each shard were cut out of, in the order of `planned_clip_ids`."""
    return _by_shard(plan, "recording")


def _by_shard(plan: pa.Table, name: str) -> list[list[str]]:
    clips = plan["clips"].combine_chunks()
    values = clips.flatten().field(name).to_pylist()
    offsets = (clips.offsets.to_numpy() - clips.offsets[0].as_py()).tolist()
    return [values[begin:end] for begin, end in itertools.pairwise(offsets)]


def _dealt_order(index: pa.Table, settings: ShardSettings) -> tuple[pa.Table, list[str], np.ndarray]:
    """The index split by split, each in the order in which it is dealt; each clip's unit, and its size in bytes.

    A unit is what must share a shard: a group, or a clip alone.
    """
    splits = index["split"].to_pylist()
    clip_ids, groups = index["clip_id"].to_pylist(), index["group"].to_pylist()
    names = [clip_id if group is None else group for clip_id, group in zip(clip_ids, groups, strict=True)]
    split_of: dict[str, str] = {}
    for group, split in zip(groups, splits, strict=True):
        if group is not None and split_of.setdefault(group, split) != split:
            raise UsageError(f"the clips of {group} are in more than one split: {split_of[group]} and {split}")
    keys = [(split, digest([settings.seed, name])) for split, name in zip(splits, names, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    table = index.take(pa.array(order)).combine_chunks()
    return table, [names[number] for number in order], _estimated_bytes(table, settings)


def _ends(names: list[str], sizes: np.ndarray, target_bytes: float) -> list[int]:
    """Ends of the shards of a split: shards of about equal size, units whole."""
    starts = np.array([number for number, name in enumerate(names) if number == 0 or name != names[number - 1]])
    unit_sizes = np.add.reduceat(sizes, starts)
    total = float(sizes.sum())
    count = math.ceil(total / target_bytes)
    middles = np.cumsum(unit_sizes) - unit_sizes / 2
    shard_of_unit = np.minimum(middles * count / total, count - 1).astype(np.int64)
    last_units = np.flatnonzero(np.diff(shard_of_unit, append=count))
    return [*starts[last_units[:-1] + 1].tolist(), len(names)]


def _estimated_bytes(table: pa.Table, settings: ShardSettings) -> np.ndarray:
    marked = table["boxes"].is_valid().to_numpy() | table["mask_path"].is_valid().to_numpy()
    taken = np.where(marked, 1, settings.num_frames).tolist()
    num_pictures = np.array(
        [
            nominal if nominal is not None else of_media if pictures is None else len(pictures)
            for nominal, pictures, of_media in zip(
                table["nominal_pictures"].to_pylist(), table["pictures"].to_pylist(), taken, strict=True
            )
        ]
    )
    pixels = settings.picture_short_side**2 * _PICTURE_ASPECT
    audio = 2 * settings.sample_rate_hz * table["nominal_seconds"].to_numpy()
    ratio = _FLAC_RATIO if settings.audio_format == "flac" else 1.0
    return _HEADERS_BYTES + ratio * audio + _JPEG_BYTES_PER_PIXEL * pixels * num_pictures


def _states(table: pa.Table) -> list[tuple[Any, ...]]:
    """Data that decide each clip's bytes beside its identity and the media."""
    seconds = [pictures and [picture["seconds"] for picture in pictures] for pictures in table["pictures"].to_pylist()]
    has_mask = [path is not None for path in table["mask_path"].to_pylist()]
    others = (table[name].to_pylist() for name in ("audio_track", "boxes", "problem"))
    return list(zip(seconds, has_mask, *others, strict=True))


def group_clips(clips: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The clips of a shard, those of a group together, single ones alone."""
    for group, members in itertools.groupby(clips, key=lambda clip: clip["group"]):
        if group is None:
            yield from ([clip] for clip in members)
        else:
            yield list(members)
