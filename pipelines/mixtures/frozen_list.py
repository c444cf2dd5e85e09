"""Lists of test mixtures frozen to a file, so that systems are compared on the same mixtures for good.

The file holds no more than what a mixture is (clips, crops, gains, pictures) and its id; where the bytes lie is looked
up in the manifest. Ids are derived anew when a list is read, so what is read is what was frozen.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cocktail.storage import exists, read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.mixtures.draws import NOBODY, Draws
from pipelines.mixtures.pool import ClipPool, list_array
from pipelines.mixtures.rows import plan_hash, plan_rows
from pipelines.shards.signed_json import digest

SCHEMA = "cocktail-test-list/1"
_METADATA = ("hash", "content", "dataset", "split", "manifest", "mixing")
_COLUMNS = ("mixture_id", "clip_id", "start", "gain", "picture")


def write_test_list(location: str, plan: pa.Table, pool: ClipPool) -> str:
    """Freeze a test plan. Returns its hash, over the mixture ids. Raises UsageError if there is a file already."""
    if exists(location):
        raise UsageError(f"{location} is there already, and is not overwritten: choose another name, or delete it")
    kept = plan.select([name for name in _COLUMNS if name in plan.column_names])
    metadata = {
        "schema": SCHEMA,
        "hash": plan_hash(plan),
        "content": digest(kept.to_pylist()),
        "dataset": pool.manifest.dataset,
        "split": pool.split,
    }
    metadata |= {"manifest": pool.manifest.root_hash, "mixing": json.dumps(_deciding(pool), sort_keys=True)}
    sink = pa.BufferOutputStream()
    pq.write_table(kept.replace_schema_metadata({f"cocktail.{name}": value for name, value in metadata.items()}), sink)
    write_atomic(location, sink.getvalue())
    return metadata["hash"]


def read_test_list(location: str, pool: ClipPool) -> pa.Table:
    """The plan of a frozen list. Raises UsageError if it belongs to other data or other settings, or is damaged."""
    table, metadata = _open(location)
    if metadata["cocktail.manifest"] != pool.manifest.root_hash:
        raise UsageError(
            f"{location} lists mixtures of {metadata['cocktail.dataset']} with root hash "
            f"{metadata['cocktail.manifest']}, {pool.manifest.folder} is {pool.manifest.dataset} with "
            f"{pool.manifest.root_hash}"
        )
    if metadata["cocktail.split"] != pool.split:
        raise UsageError(f"{location} lists mixtures of the split {metadata['cocktail.split']}, not of {pool.split}")
    was, now = json.loads(metadata["cocktail.mixing"]), _deciding(pool)
    was.setdefault("whole_clips", False)  # lists of older versions do not say so
    differing = [f"mixing.{name} {was.get(name)} (here {now[name]})" for name in now if was.get(name) != now[name]]
    if differing:
        raise UsageError(
            f"{location} was frozen with {', '.join(differing)}. Set them so, the number of sources with "
            "--evaluation.num-sources, whole clips with --mixing.arrangement whole"
        )
    plan = _rows(table, pool, location)
    if plan["mixture_id"] != table["mixture_id"] or plan_hash(plan) != metadata["cocktail.hash"]:
        raise _damaged(location)
    return plan


def split_of(location: str) -> str:
    """The split that a frozen list's clips are of. Raises UsageError if there is no such list."""
    return _open(location)[1]["cocktail.split"]


def _open(location: str) -> tuple[pa.Table, dict[str, str]]:
    try:
        data = read_bytes(location)
    except FileNotFoundError as error:
        raise UsageError(f"no test list at {location}: make one with jobs/freeze_test_list.py") from error
    if not data.startswith(b"PAR1"):
        raise UsageError(f"{location} is not a test list")
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)
        metadata = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
        json.loads(metadata.get("cocktail.mixing", "{}"))
        content = digest(table.to_pylist())
    except (OSError, ValueError, pa.ArrowException) as error:
        raise _damaged(location) from error
    if metadata.get("cocktail.schema") != SCHEMA or not {f"cocktail.{name}" for name in _METADATA} <= metadata.keys():
        raise UsageError(f"{location} is not a test list of this version ({SCHEMA}), or damaged")
    if content != metadata["cocktail.content"]:
        raise _damaged(location)
    return table, metadata


def _damaged(location: str) -> UsageError:
    return UsageError(f"{location} is damaged: its mixtures are not those that were frozen")


def _deciding(pool: ClipPool) -> dict[str, int | bool]:
    """Settings that make the content of test mixtures."""
    names = ("num_sources", "sample_rate_hz", "segment_samples", "pictures_per_source", "picture_side")
    decided = {name: getattr(pool.mixing, name) for name in names}
    return {**decided, "whole_clips": pool.mixing.arrangement == "whole"}


def _rows(table: pa.Table, pool: ClipPool, location: str) -> pa.Table:
    number_of = {name: number for number, name in enumerate(pool.table["clip_id"].to_pylist())}
    names = list_array(table["clip_id"])
    counts = np.diff(names.offsets.to_numpy())
    absent = sorted(set(names.flatten().to_pylist()) - number_of.keys())
    if absent:
        raise UsageError(
            f"{location} names {len(absent)} clips that cannot be used here, as {absent[0]} ({pool.in_words()}): it "
            "was frozen with another --mixing.silence-dbfs, with --mixing.no-distinct-classes or "
            "--mixing.several-classes, or is damaged"
        )
    N, P = pool.mixing.clips_per_mixture, pool.mixing.pictures_per_source
    present = np.arange(N) < counts[:, None]
    chosen, starts = np.full(present.shape, NOBODY, np.int64), np.zeros(present.shape, np.int64)
    gains, pictures = np.ones(present.shape), np.zeros((*present.shape, P), np.int64)
    chosen[present] = [number_of[name] for name in names.flatten().to_pylist()]
    starts[present] = list_array(table["start"]).flatten().to_numpy()
    gains[present] = list_array(table["gain"]).flatten().to_numpy()
    if P:
        pictures[present] = np.array(list_array(table["picture"]).flatten().to_pylist()).reshape(-1, P)
    return plan_rows(pool, Draws(chosen, starts), gains, pictures, None)
