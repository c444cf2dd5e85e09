"""Rows of plans put to a function by Ray tasks, and what a task had in hand when it was ended.

A process that the system kills, or that Ray's memory monitor does, says nothing, and Ray Data tries its task again for
ever. So a task notes the clip that it begins in a file of its node's, which is locked as long as the process lives, and
gone when its shard is done: the next attempt there names the clip, and ends the run after some. On a node that has no
place for such files of this user's alone, which is then said, nothing is noted.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from cocktail.cluster.ray_data import settle
from cocktail.foreign.own_files import open_private, require_own
from cocktail.types import UsageError
from pipelines.shards.signed_json import digest

_SHOWN = 5
"""Names that a message lists."""
MAX_DEATHS = 5
"""Tasks of a run that are ended in a row with the same clip in hand, after which the run ends."""
LESS_AT_ONCE = "Give --tasks, fewer than the cluster has CPUs, or nodes with more memory"
"""What to do where memory runs short, by the options of most jobs."""
_ASKED_SECONDS = 30.0
"""Time that nodes have to say what tasks that ended had in hand."""
_said: set[str] = set()
"""Places of which this process has said that nothing can be noted there."""


def map_on_cluster(
    rows: pa.Table,
    fn: Callable[..., dict[str, Any]],
    fn_kwargs: dict[str, Any],
    num_tasks: int | None,
    advice: str = LESS_AT_ONCE,
    *,
    folder: str | None = None,
) -> Iterator[dict[str, Any]]:
    """A function over rows with a `shard`, one Ray task of one CPU each; results, which name their shard, come as
    tasks end, in any order.

    Raises UsageError, with what to do about it, if Ray, again and again, has to end a task because memory runs short.
    With the `folder` of the shards, the function is also given `run`, a name of these tasks, and `advice`, to note its
    clips with (`note_of`).
    """
    if not len(rows):
        return
    import ray.data  # only here: planning and opening shards must not wait for Ray
    import ray.exceptions

    items = ray.data.from_arrow([rows.slice(number, 1) for number in range(len(rows))])
    settle(items.context)
    tasks = ray.data.TaskPoolStrategy(size=num_tasks)
    unfinished = dict.fromkeys(rows["shard"].to_pylist())
    run = uuid.uuid4().hex
    if folder is not None:
        fn_kwargs = {**fn_kwargs, "run": run, "advice": advice}
    try:
        for result in items.map(fn, fn_kwargs=fn_kwargs, num_cpus=1, compute=tasks).iter_rows():  # pyright: ignore[reportArgumentType]
            unfinished.pop(result["shard"], None)
            yield result
    except ray.exceptions.OutOfMemoryError as error:
        named = ", ".join(itertools.islice(unfinished, _SHOWN)) + (", ..." if len(unfinished) > _SHOWN else "")
        at = {} if folder is None else in_hand_on_cluster(folder, list(unfinished), run)
        noted = "".join(f" {shard} had {clip_id} in hand." for shard, clip_id in itertools.islice(at.items(), _SHOWN))
        raise UsageError(
            f"memory ran short on a node each time that one of {len(rows)} tasks was tried: {str(error)[:200]}. "
            f"Of {len(unfinished)} shards there is no result, the first of them {named}.{noted} {advice}"
        ) from error


class Note:
    """What a task of a run has in hand, in a file that outlives it. `note_of` makes one."""

    def __init__(
        self, file: IO[str] | None, run: str, died_at: str = "", deaths: int = 0, advice: str = LESS_AT_ONCE
    ) -> None:
        self._file, self._run, self._advice = file, run, advice
        self._died_at, self._deaths = died_at, deaths

    def begin(self, clip_id: str) -> None:
        """Note that a clip is begun, and with it that the one before is done. Raises UsageError if MAX_DEATHS tasks
        have been ended in a row with it in hand."""
        if clip_id == self._died_at and self._deaths >= MAX_DEATHS:
            raise UsageError(
                f"{clip_id}: the system, or Ray, ended the task that reads it {MAX_DEATHS} times in a row, as where "
                f"memory runs short. {self._advice}"
            )
        if self._file is None:
            return
        data = json.dumps([self._run, clip_id, self._died_at, self._deaths]).encode()
        try:
            os.ftruncate(self._file.fileno(), 0)
            os.write(self._file.fileno(), data)  # unbuffered, or what found no room would fail again when it is closed
        except OSError as error:
            _say_that_nothing_is_noted(error)
            self._file = None


@contextmanager
def note_of(folder: str, shard: str, run: str, advice: str = LESS_AT_ONCE) -> Iterator[Note]:
    """The note of the task that writes or reads a shard of a folder; it is gone afterwards, however that ended but by
    a kill. `advice` says what to do where memory runs short.

    Only deaths of one run are counted. While another process has the same shard, nothing is noted, nor, as is said
    once, where there is no place for it that only this user can write to, or files cannot be locked.
    """
    path = _notes() / _name(folder, shard)
    file = _locked(path)
    if file is None:
        yield Note(None, run)
        return
    with file:
        earlier_run, clip_id, died_at, deaths = _read(file)
        note = Note(file, run, advice=advice)
        if clip_id and run and earlier_run == run:
            note = Note(file, run, clip_id, deaths + 1 if clip_id == died_at else 1, advice)
            print(f"{shard} is begun again: its task was ended with {clip_id} in hand", flush=True)
        try:
            yield note
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str] | None:
    """The file of a note, locked; None if another process has it, or, which is said once, nothing can be noted."""
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        require_own(path.parent)
        descriptor = open_private(str(path), os.O_RDWR | os.O_CREAT | os.O_APPEND)
    except OSError as error:
        _say_that_nothing_is_noted(error)
        return None
    file = os.fdopen(descriptor, encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return file
    except BlockingIOError:
        pass
    except OSError as error:  # of file systems without locks
        _say_that_nothing_is_noted(error)
        path.unlink(missing_ok=True)
    file.close()
    return None


def _say_that_nothing_is_noted(error: OSError) -> None:
    place = str(_notes())
    if place not in _said:
        _said.add(place)
        print(
            f"what tasks of this node have in hand is not noted, as {place} cannot be used: {error.strerror}. A clip "
            "at which tasks are ended again and again is then not named, and does not end the run",
            flush=True,
        )


def _read(file: IO[str]) -> tuple[str, str, str, int]:
    """A run, the clip in hand, the one at which the task before was ended, and how many in a row were; nothing of one
    that is empty, or was cut off as it was written."""
    file.seek(0)
    try:
        run, clip_id, died_at, deaths = json.loads(file.read())
    except ValueError:
        return "", "", "", 0
    return run, clip_id, died_at, deaths


def in_hand(folder: str, shards: Sequence[str], run: str) -> dict[str, str]:
    """Clips that tasks of a run on this node had in hand when they were ended, by the shard of a folder of each."""
    clips = {}
    for shard in shards:
        try:
            require_own(_notes())
            with open(_notes() / _name(folder, shard), encoding="utf-8", opener=open_private) as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                noted_run, clip_id, _, _ = _read(file)
        except (FileNotFoundError, BlockingIOError):  # not of this node; or its task goes on
            continue
        except OSError as error:
            _say_that_nothing_is_noted(error)
            break
        if clip_id and noted_run == run:
            clips[shard] = clip_id
    return clips


def in_hand_on_cluster(folder: str, shards: Sequence[str], run: str) -> dict[str, str]:
    """What `in_hand` says on all nodes that answer."""
    import ray
    import ray.exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ask = ray.remote(num_cpus=0, max_retries=0)(in_hand)
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    asked = [
        ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(folder, shards, run)
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
