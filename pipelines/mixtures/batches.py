"""Rendered columns as the batch that models take."""

from __future__ import annotations

import warnings
from typing import Any

import pyarrow as pa
import torch

from cocktail.config.mixing import Mixing
from cocktail.types import MixtureBatch, Negative, ReadStatistics, UsageError
from pipelines.mixtures.render import COUNTERS, Columns, render
from pipelines.shards.reader import ClipSource


def to_batch(columns: Columns) -> MixtureBatch:
    """The rendered columns as the batch that models take, without the mixtures that are damaged.

    Nothing is copied if all are whole, so a batch may be a view of memory that must not be written to.
    """
    whole = columns["problem"] == ""
    dropped = tuple(
        f"mixture {mixture_id}: {problem}"
        for mixture_id, problem in zip(columns["mixture_id"][~whole], columns["problem"][~whole], strict=True)
    )

    def tensor(name: str) -> torch.Tensor:
        values = columns[name]
        if not whole.all():
            values = values[whole]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable")
            return torch.from_numpy(values)

    optional: dict[str, Any] = {
        name: tensor(name) for name in ("labels", "pictures", "seen", "truth", "has_truth") if name in columns
    }
    if "recordings" in columns:
        optional["recordings"] = tuple(map(tuple, columns["recordings"][whole].tolist()))
    if "negative" in columns:
        said = (columns[name][whole].tolist() for name in ("negative", "picture_recordings"))
        optional["negatives"] = tuple(Negative(*each) if each[0] else None for each in zip(*said, strict=True))
    return MixtureBatch(
        mixture_ids=tuple(str(name) for name in columns["mixture_id"][whole]),
        sources=tensor("sources"),
        gains=tensor("gains"),
        class_ids=tensor("class_ids"),
        present=tensor("present"),
        dropped=dropped,
        dropped_rows=tuple((~whole).nonzero()[0].tolist()),
        read_statistics=ReadStatistics(**{name: int(columns[name].sum()) for name in COUNTERS}),
        **optional,
    )


def read_mixtures(rows: pa.Table, source: ClipSource, mixing: Mixing) -> MixtureBatch:
    """The mixtures that rows of a plan name, all of them. Raises UsageError, naming the mixture, if one is damaged."""
    batch = to_batch(render(rows, source, mixing))
    if batch.dropped:
        raise UsageError(batch.dropped[0])
    return batch
