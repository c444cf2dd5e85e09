"""Rows of plans put to a function by Ray tasks, and what a task had in hand when it was ended.

A process that the system kills, or that Ray's memory monitor does, says nothing, and Ray Data tries its task again for
ever. So a task notes the clip that it begins in a file of its node's, which is locked as long as the process lives, and
gone when its shard is done: the next attempt there names the clip, and ends the run after some.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from cocktail.storage import telling
from cocktail.types import UsageError
from pipelines.shards.signed_json import digest

_SHOWN = 5
"""Names that a message lists."""
MAX_DEATHS = 5
"""Tasks of a run that are ended in a row with the same clip in hand, after which the run ends."""
_ASKED_SECONDS = 30.0
"""Time that nodes have to say what tasks that ended had in hand."""


def map_on_cluster(
    rows: pa.Table,
    fn: Callable[..., dict[str, Any]],
    fn_kwargs: dict[str, Any],
    num_tasks: int | None,
    advice: str = "Give --tasks, fewer than the cluster has CPUs, or nodes with more memory; what is done is kept",
    *,
    writes_to: str | None = None,
) -> Iterator[dict[str, Any]]:
    """A function over rows with a `shard`, one Ray task of one CPU each; results, which name their shard, come as
    tasks end, in any order.

    Raises UsageError, with what to do about it, if Ray, again and again, has to end a task because memory runs short.
    `writes_to` is the folder of the shards whose clips the tasks note (`note_of`), if they do.
    """
    if not len(rows):
        return
    import ray.data  # only here: planning and opening shards must not wait for Ray
    import ray.exceptions

    items = ray.data.from_arrow([rows.slice(number, 1) for number in range(len(rows))])
    items.context.enable_progress_bars = False
    items.context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    items.context.print_on_execution_start = False
    unfinished = dict.fromkeys(rows["shard"].to_pylist())
    try:
        for result in items.map(fn, fn_kwargs=fn_kwargs, num_cpus=1, concurrency=num_tasks).iter_rows():  # pyright: ignore[reportArgumentType]
            unfinished.pop(result["shard"], None)
            yield result
    except ray.exceptions.OutOfMemoryError as error:
        named = ", ".join(itertools.islice(unfinished, _SHOWN)) + (", ..." if len(unfinished) > _SHOWN else "")
        at = {} if writes_to is None else in_hand_on_cluster(writes_to, list(unfinished))
        noted = "".join(f" {shard} had {clip_id} in hand." for shard, clip_id in itertools.islice(at.items(), _SHOWN))
        raise UsageError(
            f"memory ran short on a node each time that one of {len(rows)} tasks was tried: {str(error)[:200]}. "
            f"Of {len(unfinished)} shards there is no result, the first of them {named}.{noted} {advice}"
        ) from error


class Note:
    """What a task of a run has in hand, in a file that outlives it. `note_of` makes one."""

    def __init__(self, file: IO[str] | None, run: str, died_at: str = "", deaths: int = 0) -> None:
        self._file, self._run = file, run
        self._died_at, self._deaths = died_at, deaths

    def begin(self, clip_id: str) -> None:
        """Note that a clip is begun, and with it that the one before is done. Raises UsageError if MAX_DEATHS tasks
        have been ended in a row with it in hand."""
        if clip_id == self._died_at and self._deaths >= MAX_DEATHS:
            raise UsageError(
                f"{clip_id}: the system, or Ray, ended the task that decodes it {MAX_DEATHS} times in a row, as where "
                "memory runs short. Give --tasks, fewer than the cluster has CPUs, or nodes with more memory; what is "
                "done is kept"
            )
        if self._file is not None:
            self._file.truncate(0)
            self._file.write(json.dumps([self._run, clip_id, self._died_at, self._deaths]))
            self._file.flush()


@contextmanager
def note_of(folder: str, shard: str, run: str) -> Iterator[Note]:
    """The note of the task that writes a shard to a folder; it is gone afterwards, however that ended but by a kill.

    Only deaths of one run are counted. While another process writes the same shard, nothing is noted. Raises UsageError
    if the node has no place for it.
    """
    path = _notes() / _name(folder, shard)
    with telling(str(path), "write"):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield Note(None, run)
            return
        earlier_run, clip_id, died_at, deaths = _read(file)
        note = Note(file, run)
        if clip_id and run and earlier_run == run:
            note = Note(file, run, clip_id, deaths + 1 if clip_id == died_at else 1)
            print(f"{shard} is begun again: its task was ended with {clip_id} in hand", flush=True)
        try:
            yield note
        finally:
            path.unlink(missing_ok=True)


def _read(file: IO[str]) -> tuple[str, str, str, int]:
    """A run, the clip in hand, the one at which the task before was ended, and how many in a row were; nothing of one
    that is empty, or was cut off as it was written."""
    file.seek(0)
    try:
        run, clip_id, died_at, deaths = json.loads(file.read())
    except ValueError:
        return "", "", "", 0
    return run, clip_id, died_at, deaths


def in_hand(folder: str, shards: Sequence[str]) -> dict[str, str]:
    """Clips that tasks of this node had in hand when they were ended, by the shard of a folder that each wrote."""
    clips = {}
    for shard in shards:
        try:
            with (_notes() / _name(folder, shard)).open(encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                _, clips[shard], _, _ = _read(file)
        except (FileNotFoundError, BlockingIOError):  # not of this node; or its task goes on
            continue
    return {shard: clip_id for shard, clip_id in clips.items() if clip_id}


def in_hand_on_cluster(folder: str, shards: Sequence[str]) -> dict[str, str]:
    """What `in_hand` says on all nodes that answer."""
    import ray
    import ray.exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(in_hand)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(folder, shards)
        for node in nodes
    ]
    answered, _ = ray.wait(asked, num_returns=len(asked), timeout=_ASKED_SECONDS)
    clips = {}
    for answer in answered:
        try:
            clips |= ray.get(answer)
        except ray.exceptions.RayError as error:  # a node that is as short of memory as before
            print(f"a node does not say what its tasks had in hand: {str(error)[:200]}", flush=True)
    return clips


def _notes() -> Path:
    return Path(tempfile.gettempdir()) / f"cocktail-tasks-{os.getuid()}"


def _name(folder: str, shard: str) -> str:
    return f"{digest([folder, shard])}.txt"
