"""The clips of a pool in memory that the processes of a node share: each maps files that the first of them writes.

A file is named by the SHA-256 of its bytes, which each process makes of its own table before it maps the file: so what
is mapped is what was computed, of whatever version, settings and data, and only memory is saved.
"""

from __future__ import annotations

import errno
import hashlib
import io
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from cocktail.foreign.own_files import is_own, open_private, require_own
from cocktail.machine import give_back_memory
from pipelines.plans.pool import ClipPool, one_array
from pipelines.shards.cache import locked
from pipelines.shards.manifest import Manifest

LEAST_SHARED_BYTES = 8 << 20
"""Tables that take less stay in each process's own memory."""
UNUSED_SECONDS = 7 * 24 * 3600.0
"""Time after which a file that no process has mapped since is deleted, when another one is written."""

_ARRAYS = ("shard", "class_id", "num_samples", "loudest")
_NEXT_LOUD = "pool.next_loud"


def share_manifest(manifest: Manifest, folder: str) -> Manifest:
    """The same manifest, with its clips as `share_table` gives them."""
    return replace(manifest, table=share_table(manifest.table, folder))


def share_pool(pool: ClipPool, folder: str) -> ClipPool:
    """The same clips, with what is derived from them, as `share_table` gives them."""
    own = pool.table.column_names
    arrays = {name: pa.array(getattr(pool, name)) for name in _ARRAYS}
    columns = {**{name: pool.table[name] for name in own}, _NEXT_LOUD: pool.next_loud}
    columns |= {f"pool.{name}": array for name, array in arrays.items()}
    shared = share_table(pa.table(columns), folder)
    _give_back_memory()
    return replace(
        pool,
        table=shared.select(own),
        next_loud=one_array(shared[_NEXT_LOUD]),
        **{name: one_array(shared[f"pool.{name}"]).to_numpy() for name in arrays},
    )


def share_table(table: pa.Table, folder: str) -> pa.Table:
    """The same table, mapped from a file `tables-<user id>/<SHA-256>.arrow` of a folder, which is written if need be.

    The file is taken only if it belongs to this user, no other one can write it, and its bytes are those of the table.
    A table that is small, or for which there is no place to write, which is then said, comes back as it is.
    """
    if table.nbytes < LEAST_SHARED_BYTES:
        return table
    place = Path(folder) / f"tables-{os.getuid()}"
    digest = hashlib.sha256()
    with pa.PythonFile(_Hashing(digest), mode="w") as sink:
        _write(table, sink)
    path = place / f"{digest.hexdigest()}.arrow"
    try:
        Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        require_own(place)
        with locked(place / "tables.lock"):
            mapped = _map(path)
            if mapped is None:
                _delete_unused(place)
                with _replacing(path) as part, open(part, "xb", opener=open_private) as file:
                    _write(table, pa.PythonFile(file, mode="w"))
                mapped = _map(path)
    except OSError as error:
        print(
            f"{table.nbytes / 1e6:.0f} MB of the manifest are in each process's own memory, as {place} cannot be "
            f"written: {error.strerror}. Choose another --resources.cache-folder to share them",
            flush=True,
        )
        return table
    assert mapped is not None, f"{path} must hold what was just written"
    return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapped))).read_all()


def _give_back_memory() -> None:
    """Let go of memory that is free, as what was derived before it was shared is: allocators keep most of it."""
    pa.default_memory_pool().release_unused()
    give_back_memory()


def _write(table: pa.Table, sink: pa.NativeFile) -> None:
    whole = table.replace_schema_metadata(None).combine_chunks()
    with pa.ipc.new_file(sink, whole.schema) as file:
        file.write_table(whole)


class _Hashing(io.RawIOBase):
    """A file that keeps nothing but the hash of what is written to it."""

    def __init__(self, digest: hashlib._Hash) -> None:
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return len(data)


def _map(path: Path) -> mmap.mmap | None:
    """A file's memory, if it can be trusted to hold, and to go on holding, what its name says; or else None."""
    try:
        descriptor = open_private(str(path), os.O_RDONLY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # ELOOP: a link, to wherever
            return None
        raise
    try:
        state = os.fstat(descriptor)
        if not is_own(state) or not state.st_size:
            return None
        mapped = mmap.mmap(descriptor, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        if hashlib.sha256(mapped).hexdigest() != path.stem:
            return None
        os.utime(descriptor)
        return mapped
    finally:
        os.close(descriptor)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name to write to, whose file takes a path's place once it is whole."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _delete_unused(place: Path) -> None:
    """Delete what nobody has mapped for long, or has not written to its end; who still has it mapped keeps it."""
    for path in (*place.glob("*.arrow"), *place.glob("*.part")):
        if path.suffix == ".part" or time.time() - path.stat().st_mtime > UNUSED_SECONDS:
            path.unlink()
