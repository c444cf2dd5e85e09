"""A data set sharded: what is there is found, what is missing written, and all of it committed by a manifest.

The manifest is made of sidecars, and of what only the index knows. Every planned clip is either in its shard or in the
sidecar's `quarantined`, with a reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.storage import (
    delete_temporary,
    join,
    list_names,
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
from pipelines.shards.on_cluster import LESS_AT_ONCE, map_on_cluster
from pipelines.shards.plan import (
    ShardSettings,
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
)
from pipelines.shards.write import write_shard

CLASSES_SHOWN = 10
"""Classes named in the table of bad clips, those with the most first."""


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
        fn_kwargs, advice = {"settings": settings, "folder": folder}, f"{LESS_AT_ONCE}; what is done is kept"
        for result in map_on_cluster(missing, write_shard, fn_kwargs, settings.num_tasks, advice, folder=folder):
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
