"""Random numbers that do not depend on how many processes a batch is divided among.

Each process seeds torch's generator alike, draws the numbers of the whole batch, and takes its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor


class _Share:
    """Rows of the whole batch that this process has; by itself, a process has all of it."""

    rows: Tensor | None = None
    num_rows: int | None = None
    counted = True


@contextmanager
def rows_of_batch(rows: Tensor, num_rows: int, counted: bool = True) -> Iterator[None]:
    """While it is open, this process's batches are the rows int64 [R], on its device, of batches of `num_rows`.

    Rows that are not counted stand in where a process has none: nothing may be learned from them.
    """
    before = _Share.rows, _Share.num_rows, _Share.counted
    _Share.rows, _Share.num_rows, _Share.counted = rows, num_rows, counted
    try:
        yield
    finally:
        _Share.rows, _Share.num_rows, _Share.counted = before


def rows_in_step() -> int | None:
    """Rows of the whole batch while `rows_of_batch` is open; None otherwise."""
    return _Share.num_rows


def rows_are_counted() -> bool:
    """Whether this process's rows are of the batch at all, or only stand in."""
    return _Share.counted


def draw_rows(draw: Callable[[int], Tensor], num_rows: int) -> Tensor:
    """Rows [num_rows, ...] of this process, of what `draw(rows)` makes of torch's random numbers for a whole batch.

    A row of the batch may be several here, one after the other (its pictures).
    """
    if _Share.rows is None or _Share.num_rows is None:
        return draw(num_rows)
    each = num_rows // len(_Share.rows)
    assert each * len(_Share.rows) == num_rows
    return draw(_Share.num_rows * each).unflatten(0, (_Share.num_rows, each))[_Share.rows].flatten(0, 1)
