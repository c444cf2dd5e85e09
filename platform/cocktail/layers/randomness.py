"""Random numbers that do not depend on how many processes a batch is divided among.

Each process seeds torch's generator alike, draws the numbers of the whole batch, and takes its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor


class _Place:
    """Where this process's rows lie in the whole batch; by itself, a process has all of it."""

    first_row = 0
    num_rows: int | None = None


@contextmanager
def rows_of_batch(first_row: int, num_rows: int) -> Iterator[None]:
    """While it is open, this process's batches are the rows from `first_row` on of batches of `num_rows`."""
    before = _Place.first_row, _Place.num_rows
    _Place.first_row, _Place.num_rows = first_row, num_rows
    try:
        yield
    finally:
        _Place.first_row, _Place.num_rows = before


def rows_in_step() -> int | None:
    """Rows of the whole batch while `rows_of_batch` is open; None otherwise."""
    return _Place.num_rows


def draw_rows(draw: Callable[[int], Tensor], num_rows: int) -> Tensor:
    """This process's rows [num_rows, ...] of what `draw(rows)` makes of torch's random numbers for a whole batch."""
    whole = max(_Place.num_rows or num_rows, num_rows)
    first = min(_Place.first_row, whole - num_rows)
    return draw(whole)[first : first + num_rows]
