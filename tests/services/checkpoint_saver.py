"""What the processes run that tests kill while they write checkpoints."""

from __future__ import annotations

import itertools

import torch

from cocktail.checkpoints.store import CheckpointStore, CheckpointWriter, load_checkpoint


def save_one_by_one(folder: str, saves: int | None) -> None:
    """Write checkpoints as fast as it goes, each a step after the newest one; without a number, for ever."""
    store = CheckpointStore(folder)
    newest = store.newest()
    first = load_checkpoint(newest).step + 1 if newest is not None else 1
    with CheckpointWriter(store, {}, keep=2) as writer:
        for step in itertools.count(first) if saves is None else range(first, first + saves):
            writer.save(step, {"model": {"w": torch.full((1 << 18,), float(step))}})
