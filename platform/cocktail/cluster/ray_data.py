"""What every Ray Data pipeline of ours has set, so that it is quiet, keeps a user's mistake recognisable, and waits."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from cocktail.cluster.connection import quiet_ray

TURN_SECONDS = 0.01
"""Pause of a pipeline's scheduling thread after each turn."""
_warning = threading.Lock()
_has_warned = False


class Pause:
    """An execution callback of Ray Data by which its scheduling thread pauses after each turn.

    Where all that is rendered waits to be taken, that thread has nothing to wait for itself, and turns without end: in
    a training process it then holds Python's lock most of the time, and a backward pass, which asks for the lock at
    each operator, takes several times as long.
    """

    def before_execution_starts(self, executor: Any) -> None: ...

    def on_execution_step(self, executor: Any) -> None:
        time.sleep(TURN_SECONDS)

    def after_execution_succeeds(self, executor: Any) -> None: ...

    def after_execution_fails(self, executor: Any, error: Exception) -> None: ...


def settle(context: Any) -> None:
    """Set what all pipelines have alike in a `ray.data.DataContext`: a data set's, or this process's."""
    quiet_ray()  # once more: to import ray.data, which may have come after the cluster, sets its log to what it was
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    if Pause not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, Pause]


def actor_pool(fewest: int, most: int) -> Any:
    """So many actors for `map_batches`, of which Ray prints no line that looks like an error."""
    import ray.data

    _warn_nobody_of_restarts()
    return ray.data.ActorPoolStrategy(min_size=fewest, max_size=most)


class _KilledAtOnce:
    def __init__(self, argument: object) -> None: ...


def _warn_nobody_of_restarts() -> None:
    """Have Ray say, while nobody listens, what it says once a process at the level of an error: that an actor which may
    be started again has an argument in the object store. Each of Ray Data's has one, and its data set holds it for as
    long as it runs, so that they do start again."""
    import ray

    global _has_warned
    with _warning:
        if _has_warned:
            return
        argument = ray.put(None)
        actor: Any = ray.remote(num_cpus=0, max_restarts=1)(_KilledAtOnce)
        sys.stderr.flush()
        heard, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 2)
            handle = actor.remote(argument)
        finally:
            os.dup2(heard, 2)
            os.close(heard)
            os.close(nowhere)
        ray.kill(handle)
        _has_warned = True
