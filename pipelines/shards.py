"""Shards of a data set: written, counted, committed.

A shard is a WebDataset tar (`<key>.wav`, `<key>.<i>.jpg`, `<key>.json` a sample) and, written after it, a
sidecar `<shard>.index.json`: that file commits the shard. The manifest is made of sidecars alone and commits
the data set. Every planned clip is either in its shard or in the sidecar's `quarantined`, with a reason.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pyarrow as pa

from cocktail.storage import (
    delete_temporary,
    exists,
    join,
    list_names,
    local_copy,
    open_atomic,
    read_bytes,
    write_atomic,
)
from cocktail.types import UsageError
from pipelines.bad_clips import BadClip
from pipelines.manifest import (
    MANIFEST_COLUMNS,
    MANIFEST_NAME,
    QUARANTINE_NAME,
    SIDECAR_SUFFIX,
    Manifest,
    commit_manifest,
    write_quarantine,
)
from pipelines.masks import read_mask
from pipelines.media import Clip, decode_clip
from pipelines.pictures import encode_mask, read_picture
from pipelines.progress import ClipProgress
from pipelines.shard_plan import SHARD_SCHEMA, ShardSettings, group_clips, plan_shards, planned_clip_ids
from pipelines.signing import canonical_json, digest, parse_signed, schema_of, sign
from pipelines.tars import SampleTar

CLASSES_SHOWN = 10
"""Classes named in the table of bad clips, those with the most first."""


def write_shard(row: Mapping[str, Any], settings: ShardSettings, folder: str) -> dict[str, Any]:
    """Write the shard of a plan row unless it is there; return its name and its counts.

    The tar comes first, the sidecar last: without its sidecar a shard does not exist and is written again.
    """
    sidecar_path = join(folder, row["shard"] + SIDECAR_SUFFIX)
    sidecar = read_sidecar(sidecar_path) if exists(sidecar_path) else None
    if sidecar is None or sidecar["plan_hash"] != row["plan_hash"]:
        quarantined: list[dict[str, Any]] = []
        with open_atomic(join(folder, row["shard"] + ".tar")) as file:
            tar = SampleTar(file, settings.sample_rate_hz, settings.audio_format)
            for group in group_clips(row["clips"]):
                _add_group(tar, group, settings, quarantined)
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


def _add_group(
    tar: SampleTar, group: list[dict[str, Any]], settings: ShardSettings, quarantined: list[dict[str, Any]]
) -> None:
    """Add the clips of a group, or set all of them aside: a mixture without one of its sources is another one."""
    decoded: list[Clip] = []
    bad_clips: dict[str, BadClip] = {}
    for clip in group:
        try:
            decoded.append(_decode(clip, settings))
        except BadClip as bad:
            bad_clips[clip["clip_id"]] = bad
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


def _decode(row: Mapping[str, Any], settings: ShardSettings) -> Clip:
    """The media of an index row. Raises BadClip."""
    if row["problem"] is not None:
        raise BadClip(row["problem"], "found when the data set was indexed")
    try:
        with local_copy(row["media_path"]) as path:
            clip = decode_clip(
                path,
                sample_rate_hz=settings.sample_rate_hz,
                audio_track=row["audio_track"],
                num_frames=settings.num_frames if row["pictures"] is None else 0,
                picture_short_side=settings.picture_short_side,
                min_seconds=settings.min_seconds,
                max_seconds=settings.max_seconds,
                keep_silent=settings.keep_silent,
            )
    except FileNotFoundError as error:
        raise BadClip("missing file", f"no file {row['media_path'].rsplit('/', 1)[-1]}") from error
    if row["pictures"] is not None:
        pictures = tuple(read_picture(picture["path"], settings.picture_short_side) for picture in row["pictures"])
        seconds = tuple(picture["seconds"] for picture in row["pictures"])
        clip = replace(clip, pictures=pictures, picture_seconds=seconds)
    if row["mask_path"] is not None:
        mask = read_mask(row["mask_path"])
        if not mask.any():
            raise BadClip("empty truth", "no pixel of its mask is set")
        clip = replace(clip, mask=encode_mask(mask))
    return clip


def find_committed(plan: pa.Table, settings: ShardSettings, folder: str) -> set[str]:
    """Names of the plan's shards that are already in a folder.

    Raises UsageError if the folder holds shards of another plan: nothing of it is overwritten.
    """
    planned = dict(zip(plan["shard"].to_pylist(), plan["plan_hash"].to_pylist(), strict=True))
    names = list_names(folder)
    committed: set[str] = set()
    for sidecar in read_sidecars(folder, [name for name in names if name.endswith(SIDECAR_SUFFIX)]):
        shard = sidecar["name"]
        if sidecar["plan_hash"] == planned.get(shard):
            committed.add(shard)
        elif MANIFEST_NAME in names or sidecar["deal_hash"] != plan["deal_hash"][0].as_py():
            here = settings.deciding()
            there = {name: value for name, value in sidecar["settings"].items() if value != here.get(name)}
            differing = ", ".join(f"{name} is {value}, not {here.get(name)}" for name, value in there.items())
            raise _other_plan(folder, f"in {shard}, {differing or 'the clips or their files differ'}")
    for name in names:
        if name.endswith(".tar") and name.removesuffix(".tar") not in planned:
            raise _other_plan(folder, f"{name} is not part of this one")
    return committed


def _other_plan(folder: str, found: str) -> UsageError:
    return UsageError(f"{folder} holds shards of another plan: {found}. Give another --shards folder or delete it")


def finish(plan: pa.Table, settings: ShardSettings, folder: str) -> Manifest:
    """Commit a data set whose shards are written: quarantine.parquet, then manifest.parquet, from sidecars.

    Raises UsageError if a shard is not there, does not account for all of its clips, or if more than
    `max_bad_share` of all clips are quarantined.
    """
    present = set(list_names(folder))
    names = [shard + SIDECAR_SUFFIX for shard in plan["shard"].to_pylist()]
    absent = [name for name in names if name not in present]
    if absent:
        raise UsageError(f"{folder} lacks {len(absent)} of {len(names)} shards, {absent[0]} first: run again")
    sidecars = read_sidecars(folder, names)
    wanted_ids = planned_clip_ids(plan)
    for sidecar, plan_hash, wanted in zip(sidecars, plan["plan_hash"].to_pylist(), wanted_ids, strict=True):
        accounted = [item["clip_id"] for item in (*sidecar["samples"], *sidecar["quarantined"])]
        if sidecar["plan_hash"] != plan_hash or sorted(accounted) != sorted(wanted):
            raise UsageError(
                f"{join(folder, sidecar['name'] + SIDECAR_SUFFIX)} accounts for {len(accounted)} clips, the plan "
                f"has {len(wanted)} there, or others: delete that file and run again"
            )
    quarantined = quarantine_rows(sidecars)
    if MANIFEST_NAME not in present:
        write_quarantine(folder, quarantined)
    _check_bad_share(sum(len(wanted) for wanted in wanted_ids), quarantined, settings)
    index_says = {name: plan.schema.metadata[f"cocktail.{name}".encode()].decode() for name in ("classes", "notes")}
    manifest = commit_manifest(
        folder, manifest_rows(sidecars), quarantined, {**describe_shards(sidecars), **index_says}
    )
    delete_temporary(folder)
    return manifest


def describe_shards(sidecars: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What a manifest says of a data set as a whole and its shards know; the index adds `classes` and `notes`."""
    settings = sidecars[0]["settings"]
    num_good = sum(len(sidecar["samples"]) for sidecar in sidecars)
    num_bad = sum(len(sidecar["quarantined"]) for sidecar in sidecars)
    counts = {"planned": num_good + num_bad, "good": num_good, "quarantined": num_bad}
    return {
        "dataset": settings["dataset"],
        "sample_rate_hz": str(settings["sample_rate_hz"]),
        "audio_format": settings["audio_format"],
        "settings": canonical_json(settings).decode(),
        "root_hash": digest(sorted([sidecar["name"], sidecar["tar_sha256"]] for sidecar in sidecars)),
        "bytes": str(sum(sidecar["tar_bytes"] for sidecar in sidecars)),
        **{name: str(count) for name, count in counts.items()},
    }


def manifest_rows(sidecars: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The clips of shards, as the manifest holds them."""
    for sidecar in sidecars:
        for sample in sidecar["samples"]:
            duration = sample["num_samples"] / sidecar["settings"]["sample_rate_hz"]
            derived = {"shard": sidecar["name"] + ".tar", "duration": duration}
            yield {name: derived[name] if name in derived else sample[name] for name in MANIFEST_COLUMNS.names}


def quarantine_rows(sidecars: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What quarantine.parquet holds, from sidecars."""
    return [{**item, "shard": sidecar["name"] + ".tar"} for sidecar in sidecars for item in sidecar["quarantined"]]


def shard_dataset(
    index: pa.Table, settings: ShardSettings, folder: str, connect: Callable[[], None] | None = None
) -> Manifest:
    """Write the shards that a folder lacks, one Ray task each, then the manifest; show progress and counts.

    `connect` is called before the first task, so that a refusal, or a run with nothing left to do, does not wait
    for Ray. Raises UsageError as `find_committed` and `finish` do.
    """
    for note in json.loads(index.schema.metadata[b"cocktail.notes"]):
        print(f"note: {note}", flush=True)
    plan = plan_shards(index, settings)
    committed = find_committed(plan, settings, folder)
    missing = plan.filter(pa.array([shard not in committed for shard in plan["shard"].to_pylist()]))
    print(f"{len(plan)} shards, {len(committed)} of them already in {folder}", flush=True)
    if len(missing) and connect is not None:
        connect()
    with ClipProgress(sum(map(len, planned_clip_ids(missing))), "sharded") as progress:
        fn_kwargs = {"settings": settings, "folder": folder}
        for result in map_on_cluster(missing, write_shard, fn_kwargs, settings.num_tasks):
            progress.advance(result["good"], result["bad"])
    manifest = finish(plan, settings, folder)
    quarantined = quarantine_rows(
        read_sidecars(folder, [f"{name}{SIDECAR_SUFFIX}" for name in plan["shard"].to_pylist()])
    )
    print(
        f"planned {len(index)}, good {len(manifest.table)}, quarantined {len(quarantined)}\n"
        f"{_tables(quarantined)}"
        f"{int(manifest.metadata['bytes']) / 1e6:.1f} MB in {folder}, {progress.num_done} clips "
        f"done now in {progress.seconds:.1f} s ({progress.clips_per_second:.1f} a second)\n"
        f"root hash {manifest.root_hash}",
        flush=True,
    )
    return manifest


def map_on_cluster(
    rows: pa.Table, fn: Callable[..., dict[str, Any]], fn_kwargs: dict[str, Any], num_tasks: int | None
) -> Iterable[dict[str, Any]]:
    """A function over plan rows, one Ray task of one CPU each; results come as tasks end, in any order."""
    if not len(rows):
        return []
    import ray.data  # only here: planning and opening shards must not wait for Ray

    items = ray.data.from_arrow([rows.slice(number, 1) for number in range(len(rows))])
    items.context.enable_progress_bars = False
    items.context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    items.context.print_on_execution_start = False
    return items.map(fn, fn_kwargs=fn_kwargs, num_cpus=1, concurrency=num_tasks).iter_rows()  # pyright: ignore[reportArgumentType]


def _check_bad_share(num_planned: int, quarantined: list[dict[str, Any]], settings: ShardSettings) -> None:
    num_bad = len(quarantined)
    if num_bad > settings.max_bad_share * num_planned:
        needed = math.ceil(num_bad / num_planned * 1000) / 1000
        raise UsageError(
            f"{num_bad} of {num_planned} clips are bad, more than a share of {settings.max_bad_share:g}:\n"
            f"{_tables(quarantined)}"
            f"their names are in {QUARANTINE_NAME}. No manifest is written. "
            f"If so many are to be expected, run again with --max-bad-share {needed:g}: "
            "the shards are kept, it takes seconds. Files that were missing are taken up by running again; after "
            f"replacing others, delete the {SIDECAR_SUFFIX} of their shards first"
        )


def _tables(quarantined: list[dict[str, Any]]) -> str:
    """Bad clips counted by cause, then by class."""
    causes = Counter(item["reason"] for item in quarantined)
    classes = Counter(" + ".join(item["labels"]) or "(no label)" for item in quarantined)
    by_cause = "".join(f"{count:8d}  {cause}\n" for cause, count in causes.most_common())
    shown = classes.most_common(CLASSES_SHOWN)
    by_class = "".join(f"{count:8d}  {label}\n" for label, count in shown)
    more = len(classes) - len(shown)
    if not quarantined:
        return ""
    return f"{by_cause}of these classes{f' and {more} more' if more > 0 else ''}:\n{by_class}"


def read_sidecars(folder: str, names: list[str]) -> list[dict[str, Any]]:
    """Sidecars by file name, many at once: an object store answers slowly."""
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(read_sidecar, [join(folder, name) for name in names]))


def read_sidecar(location: str) -> dict[str, Any]:
    """A sidecar whose own hash holds. Raises UsageError for one that is damaged or of another schema."""
    data = read_bytes(location)
    schema = schema_of(data)
    if schema is not None and schema != SHARD_SCHEMA:
        raise UsageError(
            f"{location} is of another schema: {schema}, this version writes {SHARD_SCHEMA}. "
            "Give another --shards folder"
        )
    sidecar = parse_signed(data)
    if sidecar is None:
        raise UsageError(
            f"{location} is damaged: delete it and run the sharding job again, which writes its shard anew"
        )
    return sidecar
