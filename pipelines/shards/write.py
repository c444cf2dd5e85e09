"""Shards of a data set: written, counted, committed.

A shard is a WebDataset tar (`<key>.wav`, `<key>.<i>.jpg`, `<key>.json` a sample) and, written after it, a
sidecar `<shard>.index.json`: that file commits the shard. The manifest is made of sidecars, and of what only the
index knows, and commits the data set. Every planned clip is either in its shard or in the sidecar's `quarantined`,
with a reason.
"""

from __future__ import annotations

import atexit
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import Clip, decode_clip
from cocktail.media.decoding_process import DecodingProcess
from cocktail.media.object_masks import decode_mask
from cocktail.media.pictures import decode_picture, encode_mask
from cocktail.storage import (
    delete_file,
    delete_temporary,
    exists,
    join,
    list_names,
    local_copy,
    open_atomic,
    open_reader,
    telling,
    write_atomic,
)
from cocktail.text.printable import on_one_line
from cocktail.types import UsageError
from pipelines.progress import ClipProgress
from pipelines.shards.manifest import (
    MANIFEST_NAME,
    QUARANTINE_NAME,
    SIDECAR_SUFFIX,
    Manifest,
    commit_manifest,
    has_own_manifest,
    read_quarantine,
    write_quarantine,
)
from pipelines.shards.plan import (
    SHARD_SCHEMA,
    ShardSettings,
    group_clips,
    plan_shards,
    planned_clip_ids,
    planned_recordings,
)
from pipelines.shards.sidecars import (
    ShardTotals,
    files_have_come,
    iterate_sidecars,
    manifest_rows,
    quarantine_rows,
    read_sidecar,
)
from pipelines.shards.signed_json import sign
from pipelines.shards.tars import SampleTar

MAX_FILE_BYTES = 1 << 30
"""Most bytes of a picture or mask: those that may be, take less."""
CLASSES_SHOWN = 10
"""Classes named in the table of bad clips, those with the most first."""


def write_shard(row: Mapping[str, Any], settings: ShardSettings, folder: str) -> dict[str, Any]:
    """Write the shard of a plan row unless it is there; return its name and its counts.

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


def _is_up_to_date(sidecar: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return sidecar["plan_hash"] == row["plan_hash"] and not files_have_come(sidecar, row["clips"])


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
        with local_copy(row["media_path"]) as path:
            clip = decoding_process().call(
                decode_clip,
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
        with telling(location, "read"), open_reader(location) as file:
            if file.size() > MAX_FILE_BYTES:
                raise BadClip(
                    "too costly", f"{what} {name} has {file.size()} bytes, at most {MAX_FILE_BYTES} are taken"
                )
            return file.readall(), name
    except FileNotFoundError as error:
        raise BadClip("missing file", f"no {what} {name}") from error


def find_committed(plan: pa.Table, settings: ShardSettings, folder: str) -> set[str]:
    """Names of the plan's shards that are already in a folder and need not be written again.

    Raises UsageError if the folder holds shards of another plan, or another's manifest.json: nothing of it is
    overwritten.
    """
    row_numbers = {shard: number for number, shard in enumerate(plan["shard"].to_pylist())}
    plan_hashes = plan["plan_hash"].to_pylist()
    names = list_names(folder)
    is_finished = MANIFEST_NAME in names
    if is_finished and not has_own_manifest(folder):
        raise UsageError(
            f"{join(folder, MANIFEST_NAME)} is not of shards that this version writes, or damaged beyond recognition. "
            "Give another --shards folder, or delete it"
        )
    committed: set[str] = set()
    for sidecar in iterate_sidecars(folder, [name for name in names if name.endswith(SIDECAR_SUFFIX)]):
        shard = sidecar["name"]
        number = row_numbers.get(shard)
        if number is not None and sidecar["plan_hash"] == plan_hashes[number]:
            clips = (clip.as_py() for clip in plan["clips"][number].values)
            if is_finished or not files_have_come(sidecar, clips):  # what is finished stays as it is
                committed.add(shard)
        elif is_finished or sidecar["deal_hash"] != plan["deal_hash"][0].as_py():
            here = settings.deciding()
            there = {name: value for name, value in sidecar["settings"].items() if value != here.get(name)}
            differing = ", ".join(f"{name} is {value}, not {here.get(name)}" for name, value in there.items())
            raise _other_plan(folder, f"in {shard}, {differing or 'the clips or their files differ'}")
    for name in names:
        if name.endswith(".tar") and name.removesuffix(".tar") not in row_numbers:
            raise _other_plan(folder, f"{name} is not part of this one")
    return committed


def _other_plan(folder: str, difference: str) -> UsageError:
    return UsageError(f"{folder} holds shards of another plan: {difference}. Give another --shards folder or delete it")


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
    totals = ShardTotals()
    clips: list[pa.Table] = []
    quarantined: list[pa.Table] = []
    wanted_ids = planned_clip_ids(plan)
    planned = zip(plan["plan_hash"].to_pylist(), wanted_ids, planned_recordings(plan), strict=True)
    for sidecar, (plan_hash, wanted, recordings) in zip(iterate_sidecars(folder, names), planned, strict=True):
        _require_accounted(sidecar, plan_hash, wanted, folder)
        totals.add(sidecar)
        clips.append(manifest_rows(sidecar, dict(zip(wanted, recordings, strict=True))))
        quarantined += quarantine_rows([sidecar])
    if MANIFEST_NAME not in present:
        write_quarantine(folder, quarantined)
    _check_bad_share(sum(map(len, wanted_ids)), pa.concat_tables(quarantined), settings, MANIFEST_NAME in present)
    index_says = {name: plan.schema.metadata[f"cocktail.{name}".encode()].decode() for name in ("classes", "notes")}
    manifest = commit_manifest(folder, clips, quarantined, {**totals.metadata(), **index_says})
    delete_temporary(folder)
    return manifest


def _require_accounted(sidecar: Mapping[str, Any], plan_hash: str, wanted: list[str], folder: str) -> None:
    accounted = [item["clip_id"] for item in (*sidecar["samples"], *sidecar["quarantined"])]
    if sidecar["plan_hash"] != plan_hash or sorted(accounted) != sorted(wanted):
        raise UsageError(
            f"{join(folder, sidecar['name'] + SIDECAR_SUFFIX)} accounts for {len(accounted)} clips, the plan "
            f"has {len(wanted)} there, or others: delete that file and run again"
        )


def shards_metadata(sidecars: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Entries of the manifest of a data set of these shards; the index adds `classes` and `notes`."""
    totals = ShardTotals()
    for sidecar in sidecars:
        totals.add(sidecar)
    return totals.metadata()


def shard_dataset(
    index: pa.Table, settings: ShardSettings, folder: str, connect: Callable[[], None] | None = None
) -> Manifest:
    """Write the shards that a folder lacks, one Ray task each, then the manifest; show progress and counts.

    `connect` is called before the first task, so that a refusal, or a run with nothing left to do, does not wait
    for Ray. Raises UsageError as `find_committed` and `finish` do.
    """
    for note in json.loads(index.schema.metadata[b"cocktail.notes"]):
        print(f"note: {on_one_line(note)}", flush=True)
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
    quarantined = read_quarantine(manifest)
    for note in notes_on_lengths(manifest.table):
        print(f"note: {on_one_line(note)}", flush=True)
    print(
        f"planned {len(index)}, good {len(manifest.table)}, quarantined {len(quarantined)}\n"
        f"{_tables(quarantined)}"
        f"{int(manifest.metadata['bytes']) / 1e6:.1f} MB in {folder}, {progress.num_done} clips "
        f"done now in {progress.seconds:.1f} s ({progress.clips_per_second:.1f} a second)\n"
        f"root hash {manifest.root_hash}",
        flush=True,
    )
    return manifest


def notes_on_lengths(clips: pa.Table) -> Iterator[str]:
    """Groups of clips of unequal length, of rows of a manifest: mixtures of them end where the shortest does."""
    grouped = clips.filter(pc.field("group").is_valid()).group_by("group", use_threads=False)
    lengths = grouped.aggregate([("num_samples", "min"), ("num_samples", "max")])
    unequal = lengths.filter(pc.field("num_samples_min") < pc.field("num_samples_max"))
    if len(unequal):
        first = unequal["group"][0].as_py()
        shortest, longest = (unequal[f"num_samples_{end}"][0].as_py() for end in ("min", "max"))
        yield (
            f"{len(unequal)} of {len(lengths)} groups have clips of unequal length, as {first!r}, {shortest} to "
            f"{longest} samples: mixtures are cut from where all of a group sound"
        )


def map_on_cluster(
    rows: pa.Table, fn: Callable[..., dict[str, Any]], fn_kwargs: dict[str, Any], num_tasks: int | None
) -> Iterator[dict[str, Any]]:
    """A function over plan rows, one Ray task of one CPU each; results come as tasks end, in any order.

    Raises UsageError if Ray, again and again, has to end a task because memory runs short.
    """
    if not len(rows):
        return
    import ray.data  # only here: planning and opening shards must not wait for Ray
    import ray.exceptions

    items = ray.data.from_arrow([rows.slice(number, 1) for number in range(len(rows))])
    items.context.enable_progress_bars = False
    items.context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    items.context.print_on_execution_start = False
    try:
        yield from items.map(fn, fn_kwargs=fn_kwargs, num_cpus=1, concurrency=num_tasks).iter_rows()  # pyright: ignore[reportArgumentType]
    except ray.exceptions.OutOfMemoryError as error:
        raise UsageError(
            f"memory ran short on a node each time that one of {len(rows)} tasks was tried: {str(error)[:200]}. "
            "Give --tasks, fewer than the cluster has CPUs, or nodes with more memory; what is done is kept"
        ) from error


def _check_bad_share(num_planned: int, quarantined: pa.Table, settings: ShardSettings, is_finished: bool) -> None:
    """Raise UsageError if more are set aside than accepted, with what there is now and how to go on."""
    num_bad = len(quarantined)
    if num_bad / num_planned <= settings.max_bad_share:
        return
    needed = -(-num_bad * 1000 // num_planned) / 1000
    if is_finished:
        state = f"The {MANIFEST_NAME} that is there, of a run that accepted as many, stays as it is"
        taken_up = f"deleting {MANIFEST_NAME} and running again"
    else:
        state = f"No {MANIFEST_NAME} is written"
        taken_up = "running again"
    raise UsageError(
        f"{num_bad} of {num_planned} clips are bad, more than a share of {settings.max_bad_share:g}:\n"
        f"{_tables(quarantined)}"
        f"their names are in {QUARANTINE_NAME}. {state}. "
        f"If so many are to be expected, run again with --max-bad-share {needed:g}: "
        f"the shards are kept, it takes seconds. Files that were missing are taken up by {taken_up}; after replacing "
        f"others, delete the {SIDECAR_SUFFIX} of their shards first"
    )


def _tables(quarantined: pa.Table) -> str:
    """Bad clips counted by cause, then by class."""
    if not len(quarantined):
        return ""
    causes = Counter(quarantined["reason"].to_pylist())
    classes = Counter(" + ".join(labels) or "(no label)" for labels in quarantined["labels"].to_pylist())
    by_cause = "".join(f"{count:8d}  {on_one_line(cause)}\n" for cause, count in causes.most_common())
    most = classes.most_common(CLASSES_SHOWN)
    by_class = "".join(f"{count:8d}  {on_one_line(label, 200)}\n" for label, count in most)
    more = len(classes) - len(most)
    return f"{by_cause}of these classes{f' and {more} more' if more > 0 else ''}:\n{by_class}"
