"""Shards of a data set: planned, written, counted, opened.

A plan has one row a shard: its name and the clips dealt to it, a pure function of the index and the settings.
A shard is a WebDataset tar (`<key>.wav`, `<key>.<i>.jpg`, `<key>.json` a sample) and, written after it, a
sidecar `<shard>.index.json`: that file commits the shard. The manifest is made of sidecars alone and commits
the data set. Every planned clip is either in its shard or in the sidecar's `quarantined`, with a reason.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import pyarrow as pa
import tyro

from cocktail.storage import exists, join, list_names, read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.manifest import (
    MANIFEST_NAME,
    QUARANTINE_NAME,
    SIDECAR_SUFFIX,
    Manifest,
    open_manifest,
    write_manifest,
    write_quarantine,
)
from pipelines.media import BadClip, Clip, decode_clip
from pipelines.progress import ClipProgress
from pipelines.tars import SampleTar, canonical_json

SHARD_SCHEMA = "cocktail-shard/1"

_IDENTITY = ("clip_id", "label", "class_id", "split")


@dataclass(frozen=True, kw_only=True)
class ShardSettings:
    """What a data set's shards hold. All but `max_bad_share` decide their bytes."""

    dataset: str
    """Name that the manifest carries."""
    sample_rate_hz: int = 11025
    """Rate at which sound is stored, in Hz."""
    num_frames: Annotated[int, tyro.conf.arg(name="frames")] = 1
    """Pictures a clip, at the centres of as many equal parts of it; 0 also takes clips without a video track."""
    picture_short_side: int = 256
    """Pictures are shrunk to this, in pixels; never enlarged."""
    clips_per_shard: int = 512
    """Clips in one tar, at most."""
    min_seconds: float = 1.0
    """Clips with less sound are set aside, in seconds."""
    max_seconds: float = 600.0
    """Clips that declare more are set aside without decoding, in seconds."""
    seed: int = 0
    """Decides which clips share a shard."""
    max_bad_share: float = 0.001
    """Share of clips set aside, 0 to 1, above which the run fails at its end."""

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "picture_short_side", "clips_per_shard"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}: expected 1 or more")
        if self.num_frames < 0:
            raise UsageError(f"num_frames is {self.num_frames}: expected 0 or more")
        if not 0 < self.min_seconds <= self.max_seconds:
            raise UsageError(f"clips of {self.min_seconds} to {self.max_seconds} s: expected 0 < min <= max")
        if not 0 <= self.max_bad_share <= 1:
            raise UsageError(f"max_bad_share is {self.max_bad_share}: expected a share from 0 to 1")

    def deciding(self) -> dict[str, Any]:
        """The settings that decide a shard's bytes."""
        return {name: value for name, value in asdict(self).items() if name != "max_bad_share"}


def plan_shards(index: pa.Table, settings: ShardSettings) -> pa.Table:
    """One row a shard: `shard`, `split`, `clips`, `plan_hash`, `deal_hash`.

    The clips of a split are dealt in the order of a hash of (seed, clip id), to shards of even size. Clips with
    a problem are dealt too, to be counted. `deal_hash` names the plan as a whole but for the problems, which
    may be mended between two runs; `plan_hash` names the row with them. Where the media lie changes neither.
    """
    dealt = sorted(
        enumerate(index.to_pylist()), key=lambda item: (_digest([settings.seed, item[1]["clip_id"]]), item[0])
    )
    rows: list[dict[str, Any]] = []
    for split in sorted(set(index["split"].to_pylist())):
        clips = [clip for _, clip in dealt if clip["split"] == split]
        count = math.ceil(len(clips) / settings.clips_per_shard)
        for number in range(count):
            share = clips[number * len(clips) // count : (number + 1) * len(clips) // count]
            rows.append({"shard": f"{split}-{number:05d}-of-{count:05d}", "split": split, "clips": share})
    common = {"schema": SHARD_SCHEMA, **settings.deciding()}
    deal = [[row["shard"], [[clip[name] for name in _IDENTITY] for clip in row["clips"]]] for row in rows]
    deal_hash = _digest([common, deal])
    for row in rows:
        problems = [[*(clip[name] for name in _IDENTITY), clip["problem"]] for clip in row["clips"]]
        row |= {"plan_hash": _digest([common, row["shard"], problems]), "deal_hash": deal_hash}
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


def write_shard(row: Mapping[str, Any], settings: ShardSettings, folder: str) -> dict[str, Any]:
    """Write the shard of a plan row unless it is there; return its name and its counts.

    The tar comes first, the sidecar last: without its sidecar a shard does not exist and is written again.
    """
    sidecar_path = join(folder, row["shard"] + SIDECAR_SUFFIX)
    sidecar = _read_sidecar(sidecar_path) if exists(sidecar_path) else None
    if sidecar is None or sidecar["plan_hash"] != row["plan_hash"]:
        tar, quarantined = SampleTar(settings.sample_rate_hz), []
        for clip in row["clips"]:
            try:
                tar.add(clip, _decode(clip, settings))
            except BadClip as bad:
                named = {name: clip[name] for name in ("clip_id", "label", "split")}
                quarantined.append({**named, "reason": bad.reason, "detail": bad.detail})
        data = tar.close()
        sidecar = {
            "schema": SHARD_SCHEMA,
            "name": row["shard"],
            "plan_hash": row["plan_hash"],
            "deal_hash": row["deal_hash"],
            "settings": settings.deciding(),
            "tar_sha256": hashlib.sha256(data).hexdigest(),
            "tar_bytes": len(data),
            "samples": tar.samples,
            "quarantined": quarantined,
        }
        write_atomic(join(folder, row["shard"] + ".tar"), data)
        write_atomic(sidecar_path, canonical_json(sidecar))
    return {
        "shard": row["shard"],
        "good": len(sidecar["samples"]),
        "bad": len(sidecar["quarantined"]),
        "bytes": sidecar["tar_bytes"],
    }


def _decode(clip: Mapping[str, Any], settings: ShardSettings) -> Clip:
    if clip["problem"] is not None:
        raise BadClip(clip["problem"], "found when the data set was indexed")
    return decode_clip(
        clip["media_path"],
        sample_rate_hz=settings.sample_rate_hz,
        num_frames=settings.num_frames,
        picture_short_side=settings.picture_short_side,
        min_seconds=settings.min_seconds,
        max_seconds=settings.max_seconds,
    )


def find_committed(plan: pa.Table, settings: ShardSettings, folder: str) -> set[str]:
    """Names of the plan's shards that are already in a folder.

    Raises UsageError if the folder holds shards of another plan: nothing of it is overwritten.
    """
    planned = dict(zip(plan["shard"].to_pylist(), plan["plan_hash"].to_pylist(), strict=True))
    names = list_names(folder)
    committed: set[str] = set()
    for sidecar in _read_sidecars(folder, [name for name in names if name.endswith(SIDECAR_SUFFIX)]):
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
    rows = plan.select(["shard", "plan_hash", "clips"]).to_pylist()
    present = set(list_names(folder))
    names = [row["shard"] + SIDECAR_SUFFIX for row in rows]
    absent = [name for name in names if name not in present]
    if absent:
        raise UsageError(f"{folder} lacks {len(absent)} of {len(names)} shards, {absent[0]} first: run again")
    sidecars = _read_sidecars(folder, names)
    good, quarantined = [], []
    for row, sidecar in zip(rows, sidecars, strict=True):
        accounted = [item["clip_id"] for item in (*sidecar["samples"], *sidecar["quarantined"])]
        wanted = [clip["clip_id"] for clip in row["clips"]]
        if sidecar["plan_hash"] != row["plan_hash"] or sorted(accounted) != sorted(wanted):
            raise UsageError(
                f"{join(folder, row['shard'] + SIDECAR_SUFFIX)} accounts for {len(accounted)} clips, the plan "
                f"has {len(wanted)} there, or others: delete that file and run again"
            )
        shard = row["shard"] + ".tar"
        good += [_manifest_row(shard, sample, settings.sample_rate_hz) for sample in sidecar["samples"]]
        quarantined += [{**item, "shard": shard} for item in sidecar["quarantined"]]
    if MANIFEST_NAME not in present:
        write_quarantine(folder, quarantined)
    _check_bad_share(len(good) + len(quarantined), Counter(item["reason"] for item in quarantined), settings)
    root_hash = _digest(sorted([sidecar["name"], sidecar["tar_sha256"]] for sidecar in sidecars))
    if MANIFEST_NAME not in present or open_manifest(folder).root_hash != root_hash:
        metadata = {
            "dataset": settings.dataset,
            "sample_rate_hz": str(settings.sample_rate_hz),
            "classes": plan.schema.metadata[b"cocktail.classes"].decode(),
            "root_hash": root_hash,
            "planned": str(len(good) + len(quarantined)),
            "good": str(len(good)),
            "quarantined": str(len(quarantined)),
        }
        write_manifest(folder, good, metadata)
    return open_manifest(folder)


def shard_dataset(
    index: pa.Table, settings: ShardSettings, folder: str, connect: Callable[[], None] | None = None
) -> Manifest:
    """Write the shards that a folder lacks, one Ray task each, then the manifest; show progress and counts.

    `connect` is called before the first task, so that a refusal, or a run with nothing left to do, does not wait
    for Ray. Raises UsageError as `find_committed` and `finish` do.
    """
    plan = plan_shards(index, settings)
    committed = find_committed(plan, settings, folder)
    rows = [row for row in plan.to_pylist() if row["shard"] not in committed]
    print(f"{len(plan)} shards, {len(committed)} of them already in {folder}", flush=True)
    if rows and connect is not None:
        connect()
    with ClipProgress(sum(len(row["clips"]) for row in rows), "sharded") as progress:
        for result in _write_all(rows, settings, folder):
            progress.advance(result["good"], result["bad"])
    manifest = finish(plan, settings, folder)
    sidecars = _read_sidecars(folder, [name + SIDECAR_SUFFIX for name in plan["shard"].to_pylist()])
    reasons = Counter(item["reason"] for sidecar in sidecars for item in sidecar["quarantined"])
    print(
        f"planned {len(index)}, good {len(manifest.table)}, quarantined {reasons.total()}\n"
        f"{_table(reasons)}"
        f"{sum(sidecar['tar_bytes'] for sidecar in sidecars) / 1e6:.1f} MB in {folder}, {progress.num_done} clips "
        f"done now in {progress.seconds:.1f} s ({progress.clips_per_second:.1f} a second)\n"
        f"root hash {manifest.root_hash}",
        flush=True,
    )
    return manifest


def _write_all(rows: list[dict[str, Any]], settings: ShardSettings, folder: str) -> Iterable[dict[str, Any]]:
    """`write_shard` over plan rows on the cluster; results come as shards finish."""
    if not rows:
        return []
    import ray.data  # only here: planning and opening shards must not wait for Ray

    shards = ray.data.from_items(rows, override_num_blocks=len(rows))
    shards.context.enable_progress_bars = False
    shards.context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    shards.context.print_on_execution_start = False
    fn_kwargs = {"settings": settings, "folder": folder}
    return shards.map(write_shard, fn_kwargs=fn_kwargs, num_cpus=1).iter_rows()  # pyright: ignore[reportArgumentType]


def _check_bad_share(num_planned: int, reasons: Counter[str], settings: ShardSettings) -> None:
    num_bad = reasons.total()
    if num_bad > settings.max_bad_share * num_planned:
        needed = math.ceil(num_bad / num_planned * 1000) / 1000
        raise UsageError(
            f"{num_bad} of {num_planned} clips are bad, more than a share of {settings.max_bad_share:g}:\n"
            f"{_table(reasons)}"
            f"their names are in {QUARANTINE_NAME}. No manifest is written. "
            f"If so many are to be expected, run again with --max-bad-share {needed:g}: "
            "the shards are kept, it takes seconds. Files that were missing are taken up by running again; after "
            f"replacing others, delete the {SIDECAR_SUFFIX} of their shards first"
        )


def _table(reasons: Counter[str]) -> str:
    return "".join(f"{count:8d}  {reason}\n" for reason, count in reasons.most_common())


def _manifest_row(shard: str, sample: Mapping[str, Any], sample_rate_hz: int) -> dict[str, Any]:
    copied = ("clip_id", "split", "label", "class_id", "audio_offset", "num_samples", "rms")
    return {
        "shard": shard,
        **{name: sample[name] for name in copied},
        "duration": sample["num_samples"] / sample_rate_hz,
        "frame_offsets": [frame["offset"] for frame in sample["frames"]],
        "frame_sizes": [frame["size"] for frame in sample["frames"]],
    }


def _read_sidecars(folder: str, names: list[str]) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(16) as threads:  # an object store answers slowly, but many at once
        return list(threads.map(_read_sidecar, [join(folder, name) for name in names]))


def _read_sidecar(location: str) -> dict[str, Any]:
    sidecar = json.loads(read_bytes(location))
    if sidecar.get("schema") != SHARD_SCHEMA:
        raise UsageError(
            f"{location} is of another schema: {sidecar.get('schema')}, this version writes {SHARD_SCHEMA}. "
            "Give another --shards folder"
        )
    return sidecar


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()
