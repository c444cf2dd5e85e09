"""Lists of test mixtures frozen to a file, so that systems are compared on the same mixtures for good.

The file holds no more than what a mixture is (clips, crops, gains, pictures) and its id; where the bytes lie is looked
up in the manifest. Ids are derived anew when a list is read, so what is read is what was frozen.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cocktail.storage import read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.clip_pool import ClipPool, list_array
from pipelines.plans import plan_hash, rows_of
from pipelines.sources import NOBODY, Draws

SCHEMA = "cocktail-test-list/1"
_COLUMNS = ("mixture_id", "clip_id", "start", "gain", "picture")


def write_test_list(location: str, plan: pa.Table, pool: ClipPool) -> str:
    """Freeze a test plan. Returns its hash, over the mixture ids."""
    metadata = {"schema": SCHEMA, "hash": plan_hash(plan), "dataset": pool.manifest.dataset, "split": pool.split}
    metadata |= {"manifest": pool.manifest.root_hash, "mixing": json.dumps(_deciding(pool), sort_keys=True)}
    kept = plan.select([name for name in _COLUMNS if name in plan.column_names])
    sink = pa.BufferOutputStream()
    pq.write_table(kept.replace_schema_metadata({f"cocktail.{name}": value for name, value in metadata.items()}), sink)
    write_atomic(location, sink.getvalue())
    return metadata["hash"]


def read_test_list(location: str, pool: ClipPool) -> pa.Table:
    """The plan of a frozen list. Raises UsageError if it belongs to other data or other settings, or is damaged."""
    try:
        table = pq.ParquetFile(pa.BufferReader(read_bytes(location))).read(use_threads=False)
    except FileNotFoundError as error:
        raise UsageError(f"no test list at {location}: make one with jobs/freeze_test_list.py") from error
    except pa.ArrowInvalid as error:
        raise UsageError(f"{location} is not a test list: {error}") from error
    told = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    if told.get("cocktail.schema") != SCHEMA:
        raise UsageError(f"{location} is not a test list of this version ({SCHEMA})")
    if told["cocktail.manifest"] != pool.manifest.root_hash:
        raise UsageError(
            f"{location} lists mixtures of {told['cocktail.dataset']} with root hash {told['cocktail.manifest']}, "
            f"{pool.manifest.folder} is {pool.manifest.dataset} with {pool.manifest.root_hash}"
        )
    was, now = json.loads(told["cocktail.mixing"]), _deciding(pool)
    differing = [f"mixing.{name} {was[name]} (here {now[name]})" for name in now if was[name] != now[name]]
    if differing:
        raise UsageError(f"{location} was frozen with {', '.join(differing)}")
    plan = _rows(table, pool, location)
    if plan["mixture_id"] != table["mixture_id"] or plan_hash(plan) != told["cocktail.hash"]:
        raise UsageError(f"{location} is damaged: its mixtures are not those that were frozen")
    return plan


def _deciding(pool: ClipPool) -> dict[str, int]:
    """What settings make the content of test mixtures."""
    names = ("num_sources", "sample_rate_hz", "segment_samples", "pictures_per_source", "picture_side")
    return {name: getattr(pool.mixing, name) for name in names}


def _rows(table: pa.Table, pool: ClipPool, location: str) -> pa.Table:
    number_of = {name: number for number, name in enumerate(pool.table["clip_id"].to_pylist())}
    names = list_array(table["clip_id"])
    counts = np.diff(names.offsets.to_numpy())
    absent = sorted(set(names.flatten().to_pylist()) - number_of.keys())
    if absent:
        raise UsageError(f"{location} names {len(absent)} clips that the {pool.split} split lacks, as {absent[0]}")
    N, P = pool.mixing.num_sources, pool.mixing.pictures_per_source
    present = np.arange(N) < counts[:, None]
    chosen, starts = np.full(present.shape, NOBODY, np.int64), np.zeros(present.shape, np.int64)
    gains, pictures = np.ones(present.shape), np.zeros((*present.shape, P), np.int64)
    chosen[present] = [number_of[name] for name in names.flatten().to_pylist()]
    starts[present] = list_array(table["start"]).flatten().to_numpy()
    gains[present] = list_array(table["gain"]).flatten().to_numpy()
    if P:
        pictures[present] = np.array(list_array(table["picture"]).flatten().to_pylist()).reshape(-1, P)
    return rows_of(pool, Draws(chosen, starts), gains, pictures, None)
