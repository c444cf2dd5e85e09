"""Checkpoints: written whole or not at all, found again after any crash, refused where they do not belong.

A checkpoint is a folder `step-00000120` with `state.pt` (tensors and plain values only) and `meta.json`,
written last: without it the checkpoint does not exist. A folder of an exported model (`cocktail.checkpoints.exported`)
is opened as one, too.
"""

from __future__ import annotations

import hashlib
import io
import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from cocktail.checkpoints.contents import LARGEST_META, names_of, read_meta, require_meta, unpack_state
from cocktail.checkpoints.exported import CONFIG_NAME, EXPORT_SCHEMA, WEIGHTS_NAME, unpack_weights
from cocktail.storage import (
    delete_file,
    delete_folder,
    exists,
    join,
    list_names,
    open_reader,
    read_bytes,
    write_atomic,
)
from cocktail.types import UsageError

META_NAME, STATE_NAME = "meta.json", "state.pt"
SCHEMA = "cocktail-checkpoint/5"
_READABLE = (SCHEMA, "cocktail-checkpoint/4")
"""Schemas whose weights are read: of version 4, training cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A committed checkpoint, opened."""

    location: str
    step: int
    state: dict[str, Any]


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoints of one run, in one folder."""

    folder: str
    about: dict[str, Any] = field(default_factory=dict)
    """Plain values that each checkpoint carries for those who use it later (`cocktail.inference.trained.about`)."""

    def save(
        self, step: int, state: dict[str, Any], identity: dict[str, Any], keep: int, best: int | None = None
    ) -> str:
        """Commit a checkpoint, then delete all but the newest `keep` and that of step `best`. Returns its location.

        `state` holds tensors and plain values; `identity` is what decides the run's results
        (`cocktail.config.identity.identity`), and a checkpoint is only continued under the same.
        """
        return self._commit(step, _pack(state), identity, keep, best)

    def _commit(self, step: int, data: memoryview, identity: dict[str, Any], keep: int, best: int | None) -> str:
        location = join(self.folder, _name(step))
        meta = {
            "schema": SCHEMA,
            "step": step,
            "best_step": best,
            "sha256": hashlib.sha256(data).hexdigest(),
            "identity": identity,
            "about": self.about,
        }
        write_atomic(join(location, STATE_NAME), data)
        write_atomic(join(location, META_NAME), json.dumps(meta, indent=1).encode())
        committed = self._committed()
        kept = {*committed[-keep:], *([] if best is None else [_name(best)])}
        for name in set(committed) - kept:
            # What makes it a checkpoint goes first. What is half written stays until its step comes again: who is at it
            # may live, and would commit a checkpoint without a state.
            delete_file(join(self.folder, name, META_NAME))
            delete_folder(join(self.folder, name))
        return location

    def newest(self) -> str | None:
        """The location of the newest committed checkpoint, or None."""
        committed = self._committed()
        return join(self.folder, committed[-1]) if committed else None

    def selected(self) -> str | None:
        """The location of the checkpoint that counts: what the newest says was the best so far, or else the newest."""
        newest = self.newest()
        best = None if newest is None else _read_meta(newest).get("best_step")
        return newest if best is None else join(self.folder, _name(best))

    def _committed(self) -> list[str]:
        return [name for name in self._names() if exists(join(self.folder, name, META_NAME))]

    def _names(self) -> list[str]:
        return [name for name in list_names(self.folder) if name.startswith("step-")]


def checkpoint_store(run_folder: str) -> CheckpointStore:
    """Store of a run's checkpoints, in its folder."""
    return CheckpointStore(join(run_folder, "checkpoints"))


class CheckpointWriter:
    """Saves checkpoints while training goes on: one at a time, each whole before the next is begun.

    `with CheckpointWriter(...) as writer` ends when the last is committed. An error in writing is raised by the next
    `save`, or at the end.
    """

    def __init__(self, store: CheckpointStore, identity: dict[str, Any], keep: int) -> None:
        self._store, self._identity, self._keep = store, identity, keep
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[str] | None = None

    def save(self, step: int, state: dict[str, Any], best: int | None = None) -> None:
        """Save the state as it is now, as `CheckpointStore.save`; return when there is a copy of it."""
        self.wait()
        self._writing = self._thread.submit(self._store._commit, step, _pack(state), self._identity, self._keep, best)

    def wait(self) -> None:
        """Wait until what was saved is committed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        try:
            if raised[0] is None:
                self.wait()
        finally:
            self._thread.shutdown()


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _pack(state: dict[str, Any]) -> memoryview:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def load_checkpoint(location: str) -> Checkpoint:
    """Open a committed checkpoint on the CPU; nothing in it is executed.

    Raises UsageError if there is none, if it has another schema, if its bytes are damaged, or if it holds anything but
    a state (`cocktail.checkpoints.contents`).
    """
    meta = _read_meta(location)
    is_exported = meta["schema"] == EXPORT_SCHEMA
    name = WEIGHTS_NAME if is_exported else STATE_NAME
    advice = "get it again" if is_exported else "delete it to go on from an earlier one"
    if not exists(join(location, name)):
        raise UsageError(f"{location} is damaged (it has no {name}): {advice}")
    data = read_bytes(join(location, name))
    if hashlib.sha256(data).hexdigest() != meta["sha256"]:
        raise UsageError(f"{location} is damaged (its hash is wrong): {advice}")
    if is_exported:
        state = {"model": unpack_weights(location, data, names_of(location, meta, "weights"))}
    else:
        state = unpack_state(location, data)
    return Checkpoint(location=location, step=meta["step"], state=state)


def is_checkpoint(location: str) -> bool:
    """Whether a folder or URI holds a committed checkpoint, or an exported model."""
    return any(exists(join(location, name)) for name in (META_NAME, CONFIG_NAME))


def find_checkpoint(location: str, option: str) -> str:
    """The checkpoint at a location, or of the run whose folder it is: the one that counts.

    Raises UsageError, naming the option that the location was given by.
    """
    if is_checkpoint(location):
        return location
    selected = checkpoint_store(location).selected()
    if selected is None:
        raise UsageError(
            f"{option} {location}: there is no checkpoint. Give the folder or URI of one, named step-..., that of "
            "a run, with the folder checkpoints in it, or that of an exported model"
        )
    return selected


def require_identity(location: str, identity: dict[str, Any]) -> None:
    """Raise UsageError if training cannot go on from a checkpoint.

    It belongs to other settings or other data, all of which are named, or another version has begun it.
    """
    meta = _read_meta(location)
    if meta["schema"] != SCHEMA:
        raise UsageError(
            f"{location} was begun by an earlier version, and training cannot go on from it: choose another "
            "--run-name, or finish it with that version"
        )
    was = meta["identity"]
    now = json.loads(json.dumps(identity))
    absent = "nothing"
    differences = [
        f"{path} (was {was.get(path, absent)}, is {now.get(path, absent)})"
        for path in sorted(was.keys() | now.keys())
        if was.get(path, absent) != now.get(path, absent)
    ]
    if differences:
        raise UsageError(
            f"{location} was trained with other settings: {'; '.join(differences)}. "
            "Set them back, or choose another --run-name"
        )


def read_identity(location: str) -> dict[str, Any]:
    """Identity of a checkpoint: settings by dotted path, and the hash of its data. Raises UsageError."""
    return _read_meta(location)["identity"]


def step_of(location: str) -> int:
    """The steps that a checkpoint's training had done. Raises UsageError."""
    return _read_meta(location)["step"]


def state_hash(location: str) -> str:
    """SHA-256 of a checkpoint's state, in hexadecimal digits. Raises UsageError."""
    return _read_meta(location)["sha256"]


def read_about(location: str) -> dict[str, Any]:
    """Values that a checkpoint carries for its users: see `cocktail.inference.trained.about`. Raises UsageError."""
    return _read_meta(location)["about"]


def _read_meta(location: str) -> dict[str, Any]:
    name = next((name for name in (META_NAME, CONFIG_NAME) if exists(join(location, name))), None)
    if name is None:
        raise UsageError(f"{location} is not a checkpoint: it has no {META_NAME}. Give a folder named step-...")
    meta = read_meta(location, _read_small(join(location, name)))
    readable = _READABLE if name == META_NAME else (EXPORT_SCHEMA,)
    if meta.get("schema") not in readable:
        raise UsageError(
            f"{location} has the schema {meta.get('schema')!r}, and this version reads {' and '.join(readable)}: open "
            "it with the version that wrote it, or train anew"
        )
    require_meta(location, meta)
    return meta


def _read_small(location: str) -> bytes:
    """The bytes of a meta.json. Raises UsageError if it is too large to be one."""
    with open_reader(location) as file:
        data = file.read(LARGEST_META + 1)
    if len(data) > LARGEST_META:
        raise UsageError(f"{location} has more than {LARGEST_META >> 20} MiB: it is no checkpoint's meta.json")
    return data
