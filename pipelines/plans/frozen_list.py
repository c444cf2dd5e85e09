"""Lists of test mixtures frozen to a file, so that systems are compared on the same mixtures for good.

The file holds no more than what a mixture is (clips, crops, gains, pictures) and its id; where the bytes lie is looked
up in the manifest. Ids are derived anew when a list is read, so what is read is what was frozen.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cocktail.foreign.bounded import UntrustworthyError, is_text, parse_json, parse_parquet
from cocktail.storage import exists, read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.plans.draws import NOBODY, Draws
from pipelines.plans.object_boxes import with_parts_shown
from pipelines.plans.pool import ClipPool, list_array
from pipelines.plans.rows import plan_hash, plan_rows
from pipelines.plans.sight import with_shown
from pipelines.shards.signed_json import digest

SCHEMA = "cocktail-test-list/1"
_METADATA = ("hash", "content", "dataset", "split", "manifest", "mixing")
_TYPES = {
    "mixture_id": pa.string(),
    "clip_id": pa.list_(pa.string()),
    "start": pa.list_(pa.int64()),
    "gain": pa.list_(pa.float32()),
    "picture": pa.list_(pa.list_(pa.int64())),
    "seen": pa.list_(pa.bool_()),
}
_COLUMNS = tuple(_TYPES)


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
    for name in ("whole_clips", "withheld_pictures", "pictures_cut"):  # lists of older versions do not say so
        was.setdefault(name, False)
    differing = [f"mixing.{name} {was.get(name)} (here {now[name]})" for name in now if was.get(name) != now[name]]
    if differing:
        raise UsageError(
            f"{location} was frozen with {', '.join(differing)}. Set them so, the number of sources with "
            "--evaluation.num-sources, whole clips with --mixing.arrangement whole, withheld pictures with "
            "--evaluation.shown-sources, cut ones with --mixing.picture-part box"
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
        table = parse_parquet(data)
        metadata = {name.decode(): value.decode() for name, value in (table.schema.metadata or {}).items()}
    except (UntrustworthyError, UnicodeError) as error:
        raise _damaged(location) from error
    if metadata.get("cocktail.schema") != SCHEMA or not {f"cocktail.{name}" for name in _METADATA} <= metadata.keys():
        raise UsageError(f"{location} is not a test list of this version ({SCHEMA}), or damaged")
    try:
        _require_types(table.schema)  # first: others' values may have no digest
        if _content(table) != metadata["cocktail.content"]:
            raise _damaged(location)
        _require_form(table, metadata)
    except UntrustworthyError as error:
        raise UsageError(f"{location} {error}: jobs/freeze_test_list.py writes no such list") from error
    return table, metadata


def _content(table: pa.Table) -> str | None:
    """The digest of what a list holds; None if it holds text that is none."""
    try:
        return digest(table.to_pylist())
    except UnicodeError:
        return None


def _require_types(schema: pa.Schema) -> None:
    """Raise UntrustworthyError for columns, or types of columns, that `write_test_list` does not write."""
    for column in schema:
        kind = _TYPES.get(column.name)
        if kind is None or not _of_any_length(column.type).equals(kind):
            raise UntrustworthyError(f"has a column {column.name[:80]!r} of another type, or that is none")


def _require_form(table: pa.Table, metadata: dict[str, str]) -> None:
    """Raise UntrustworthyError for what is signed, and no list that `write_test_list` writes."""
    mixing = parse_json(metadata["cocktail.mixing"])
    if not isinstance(mixing, dict) or not all(isinstance(value, int) for value in mixing.values()):  # bool, too
        raise UntrustworthyError("has no settings of its mixtures")
    if not all(is_text(metadata[f"cocktail.{name}"]) for name in ("dataset", "split", "manifest", "hash")):
        raise UntrustworthyError("does not say what it is of")
    for name in table.column_names:
        values = table[name]
        while not values.null_count and pa.types.is_nested(values.type):
            values = pc.list_flatten(values)  # pyright: ignore[reportAttributeAccessIssue]
        if values.null_count:
            raise UntrustworthyError(f"has mixtures without {name}")
    if absent := [name for name in _COLUMNS[:4] if name not in table.column_names]:
        raise UntrustworthyError(f"has no column {absent[0]}")
    lengths = [_lengths(table[name]) for name in table.column_names if name != "mixture_id"]
    if any((length != lengths[0]).any() for length in lengths):
        raise UntrustworthyError("has mixtures of another number of starts, gains or pictures than of clips")


def _of_any_length(kind: pa.DataType) -> pa.DataType:
    """The type with lists of any length for those of a fixed one, which pictures are in."""
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return pa.list_(_of_any_length(kind.value_type)) if is_list else kind


def _lengths(lists: pa.ChunkedArray) -> np.ndarray:
    return pc.list_value_length(lists).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]


def _damaged(location: str) -> UsageError:
    return UsageError(f"{location} is damaged: its mixtures are not those that were frozen")


def _deciding(pool: ClipPool) -> dict[str, int | bool]:
    """Settings that make the content of test mixtures."""
    names = ("num_sources", "sample_rate_hz", "segment_samples", "pictures_per_source", "picture_side")
    decided = {name: getattr(pool.mixing, name) for name in names}
    return {
        **decided,
        "whole_clips": pool.mixing.arrangement == "whole",
        "withheld_pictures": pool.mixing.shown_sources != "all",
        "pictures_cut": pool.mixing.picture_part != "whole",
    }


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
    if len(counts) and not 1 <= counts.min() <= counts.max() <= N:
        raise UsageError(f"{location} has mixtures of {counts.min()} to {counts.max()} clips: expected 1 to {N}")
    present = np.arange(N) < counts[:, None]
    chosen, starts = np.full(present.shape, NOBODY, np.int64), np.zeros(present.shape, np.int64)
    gains, pictures = np.ones(present.shape), np.zeros((*present.shape, P), np.int64)
    chosen[present] = [number_of[name] for name in names.flatten().to_pylist()]
    starts[present] = list_array(table["start"]).flatten().to_numpy()
    gains[present] = list_array(table["gain"]).flatten().to_numpy()
    if P:
        pictures[present] = _pictures(table, P, location)
    _require_inside(pool, chosen[present], starts[present], gains[present], pictures[present], location)
    draws = Draws(chosen, starts)
    plan = with_parts_shown(plan_rows(pool, draws, gains, pictures, None), pool, draws, pictures)
    return plan if pool.mixing.shown_sources == "all" else with_shown(plan, _shown(table, present, pool, location))


def _shown(table: pa.Table, present: np.ndarray, pool: ClipPool, location: str) -> np.ndarray:
    """Which sources show their pictures, bool [R, N]. Raises UsageError unless as many do as the settings say."""
    if "seen" not in table.column_names:
        raise UsageError(f"{location} does not say which sources are shown, or is damaged")
    shown = np.zeros(present.shape, bool)
    shown[present] = list_array(table["seen"]).flatten().to_numpy(zero_copy_only=False)
    for count, number in zip(present.sum(axis=1).tolist(), shown.sum(axis=1).tolist(), strict=True):
        fewest, most = pool.mixing.num_shown(count)
        if not fewest <= number <= most:
            raise UsageError(
                f"{location} shows {number} of the {count} sources of a mixture, and not {pool.mixing.shown_sources}: "
                "set --evaluation.shown-sources as it was when the list was frozen"
            )
    return shown


def _pictures(table: pa.Table, count: int, location: str) -> np.ndarray:
    """Numbers of the pictures of each source, int64 [sources, count]."""
    lists = list_array(table["picture"]).flatten() if "picture" in table.column_names else pa.array([[]])
    lengths = pc.list_value_length(lists).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
    if not (lengths == count).all():
        raise UsageError(f"{location} has sources that do not have {count} pictures each")
    return lists.flatten().to_numpy().reshape(-1, count)


def _require_inside(
    pool: ClipPool, clips: np.ndarray, starts: np.ndarray, gains: np.ndarray, pictures: np.ndarray, location: str
) -> None:
    """Raise UsageError for crops that begin outside their clips, gains that are none, and pictures that clips lack."""
    if not ((starts >= 0) & (starts < pool.num_samples[clips])).all():
        raise UsageError(f"{location} has crops that begin outside their clips")
    if not np.isfinite(gains).all():
        raise UsageError(f"{location} has gains that are no numbers")
    if pictures.size:
        num_pictures = np.diff(pool.picture_times[0])[clips, None]
        if not ((pictures >= 0) & (pictures < num_pictures)).all():
            raise UsageError(f"{location} has pictures that its clips do not have")
