"""A shard of a data set: decoded, written, committed.

A shard is a WebDataset tar (`<key>.wav`, `<key>.<i>.jpg`, `<key>.json` a sample) and, written after it, a
sidecar `<shard>.index.json`: that file commits the shard. Every planned clip is either in its shard or in the
sidecar's `quarantined`, with a reason.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import Clip, decode_clip
from cocktail.media.decoding_process import DecoderStoppedError, DecodingProcess
from cocktail.media.members import media_copy, read_media
from cocktail.media.object_masks import decode_mask
from cocktail.media.pictures import decode_picture, encode_mask
from cocktail.storage import delete_file, exists, join, open_atomic, write_atomic
from cocktail.types import UsageError
from pipelines.shards.manifest import SIDECAR_SUFFIX
from pipelines.shards.on_cluster import LESS_AT_ONCE, Note, note_of
from pipelines.shards.plan import SHARD_SCHEMA, ShardSettings, frames_of, group_clips
from pipelines.shards.sidecars import files_have_come, read_sidecar
from pipelines.shards.signed_json import sign
from pipelines.shards.tars import SampleTar

MAX_FILE_BYTES = 1 << 30
"""Most bytes of a picture or mask: those that may be, take less."""


def write_shard(
    row: Mapping[str, Any], settings: ShardSettings, folder: str, run: str = "", advice: str = LESS_AT_ONCE
) -> dict[str, Any]:
    """Write the shard of a plan row unless it is there; return its name and its counts. `run` names the run whose task
    this is, and that ends, with advice, if its tasks are killed again and again while they decode one clip.

    The tar comes first, the sidecar last: without its sidecar a shard does not exist and is written again. The
    sidecar of a shard that is not to stay goes before its tar, which it would else vouch for if this were killed.
    """
    sidecar_path = join(folder, row["shard"] + SIDECAR_SUFFIX)
    sidecar = read_sidecar(sidecar_path) if exists(sidecar_path) else None
    if sidecar is not None and not _is_up_to_date(sidecar, row):
        delete_file(sidecar_path)
        sidecar = None
    if sidecar is None:
        quarantined: list[dict[str, Any]] = []
        tar_path = join(folder, row["shard"] + ".tar")
        with note_of(folder, row["shard"], run, advice) as note, open_atomic(tar_path) as file:
            tar = SampleTar(file, settings.sample_rate_hz, settings.audio_format)
            for group in group_clips(row["clips"]):
                _add_group(tar, group, settings, quarantined, note)
            tar_sha256 = tar.close()
        sidecar = {
            "schema": SHARD_SCHEMA,
            "name": row["shard"],
            "plan_hash": row["plan_hash"],
            "deal_hash": row["deal_hash"],
            "settings": settings.deciding(),
            "tar_sha256": tar_sha256,
            "tar_bytes": tar.num_bytes,
            "samples": tar.samples,
            "quarantined": quarantined,
        }
        write_atomic(sidecar_path, sign(sidecar))
    return {
        "shard": row["shard"],
        "good": len(sidecar["samples"]),
        "bad": len(sidecar["quarantined"]),
        "bytes": sidecar["tar_bytes"],
    }


def _is_up_to_date(sidecar: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return sidecar["plan_hash"] == row["plan_hash"] and not files_have_come(sidecar, row["clips"])


def _add_group(
    tar: SampleTar,
    group: list[dict[str, Any]],
    settings: ShardSettings,
    quarantined: list[dict[str, Any]],
    note: Note,
) -> None:
    """Add the clips of a group, or set all of them aside: a mixture without one of its sources is another one."""
    decoded: list[Clip] = []
    bad_clips: dict[str, BadClip] = {}
    for clip in group:
        try:
            note.begin(clip["clip_id"])
            decoded.append(_decode(clip, settings))
        except BadClip as bad:
            bad_clips[clip["clip_id"]] = bad
        except DecoderStoppedError as error:
            raise UsageError(f"{clip['clip_id']}: {error}") from error
    if not bad_clips:
        for clip, media in zip(group, decoded, strict=True):
            tar.add(clip, media)
        return
    first_id, first = next(iter(bad_clips.items()))
    incomplete = BadClip("incomplete mixture", f"{first_id} is bad: {first.reason}")
    for clip in group:
        bad = bad_clips.get(clip["clip_id"], incomplete)
        named = {name: clip[name] for name in ("clip_id", "labels", "split")}
        quarantined.append({**named, "reason": bad.reason, "detail": bad.detail})


@functools.cache
def decoding_process() -> DecodingProcess:
    """The process that decodes for this one: it outlives a shard, as starting it takes as long as a few clips."""
    process = DecodingProcess()
    atexit.register(process.close)
    return process


def _decode(row: Mapping[str, Any], settings: ShardSettings) -> Clip:
    """The media of an index row. Raises BadClip."""
    if row["problem"] is not None:
        raise BadClip(row["problem"], "found when the data set was indexed")
    try:
        with media_copy(row["media_path"]) as path:
            clip = decoding_process().call(
                decode_clip,
                path,
                sample_rate_hz=settings.sample_rate_hz,
                audio_track=row["audio_track"],
                num_frames=frames_of(row, settings),
                picture_short_side=settings.picture_short_side,
                min_seconds=settings.min_seconds,
                max_seconds=settings.max_seconds,
                keep_silent=settings.keep_silent,
            )
    except FileNotFoundError as error:
        raise BadClip("missing file", f"no file {row['media_path'].rsplit('/', 1)[-1]}") from error
    if row["pictures"] is not None:
        pictures = tuple(
            decoding_process().call(decode_picture, *_fetch(picture["path"], "picture"), settings.picture_short_side)
            for picture in row["pictures"]
        )
        seconds = tuple(picture["seconds"] for picture in row["pictures"])
        clip = replace(clip, pictures=pictures, picture_seconds=seconds)
    if row["mask_path"] is not None:
        mask = decoding_process().call(decode_mask, *_fetch(row["mask_path"], "mask"))
        if not mask.any():
            raise BadClip("empty truth", "no pixel of its mask is set")
        clip = replace(clip, mask=encode_mask(mask))
    return clip


def _fetch(location: str, what: str) -> tuple[bytes, str]:
    """A file that belongs to a clip, and its name. Raises BadClip for one that is not there, or beyond all bounds."""
    name = location.rsplit("/", 1)[-1]
    try:
        data = read_media(location, MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise BadClip("missing file", f"no {what} {name}") from error
    if isinstance(data, int):
        raise BadClip("too costly", f"{what} {name} has {data} bytes, at most {MAX_FILE_BYTES} are taken")
    return data, name
