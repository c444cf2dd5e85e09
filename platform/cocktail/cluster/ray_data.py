"""What every Ray Data pipeline of ours has set, so that it is quiet, keeps a user's mistake recognisable, and waits."""

from __future__ import annotations

import time
from typing import Any

TURN_SECONDS = 0.01
"""Pause of a pipeline's scheduling thread after each turn."""


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
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # so that a user's mistake stays recognisable
    if Pause not in context.custom_execution_callback_classes:
        context.custom_execution_callback_classes = [*context.custom_execution_callback_classes, Pause]
