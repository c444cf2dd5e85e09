"""What a checkpoint says of how its model was trained: on which splits of which shards, and in what precision.

These are plain values among those that it carries for its users (`cocktail.checkpoints.store.read_about`). Checkpoints
of earlier versions have none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cocktail.checkpoints.contents import names_of, telling_of_settings, value_of
from cocktail.checkpoints.store import read_about, read_identity

TRAINED_ON, PRECISION = "trained_on", "precision"


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """A split that a model was trained on, in its own run or in an earlier one that this was started from."""

    data: str
    """Where the shards were."""
    manifest: str
    """Root hash of their manifest; empty where nobody said it."""
    split: str
    """Name of the split, or the part of one (`cocktail.config.splits`)."""


def read_trained_on(checkpoint: str) -> tuple[TrainedOn, ...] | None:
    """All that a checkpoint's model was trained on; None if the checkpoint does not say. Raises UsageError.

    One of an earlier version says what its own run was trained on, and nothing of a run that this was started from.
    """
    about = read_about(checkpoint)
    if about.get(TRAINED_ON) is not None:
        with telling_of_settings(checkpoint):
            return tuple(
                TrainedOn(**{name: value_of(checkpoint, each, name, str) for name in TrainedOn.__annotations__})
                for each in value_of(checkpoint, about, TRAINED_ON, list)
            )
    settings = value_of(checkpoint, about, "settings", dict)
    split, manifest = settings.get("training.split"), read_identity(checkpoint).get("manifest", "")
    if settings.get("start_from") is not None or not isinstance(split, str) or not isinstance(manifest, str):
        return None
    return (TrainedOn(data=value_of(checkpoint, about, "data", str), manifest=manifest, split=split),)


def with_precision(about: Mapping[str, Any], precision: str, goes_on_from: str | None) -> dict[str, Any]:
    """What a checkpoint carries, with what its model is trained in; after what it was trained in up to the checkpoint
    that training goes on from, as another node may have another GPU."""
    before = () if goes_on_from is None else read_precision(goes_on_from)
    return {**about, PRECISION: list(dict.fromkeys([*before, precision]))}


def read_precision(checkpoint: str) -> tuple[str, ...]:
    """What a checkpoint's model was trained in, one after the other; nothing if the checkpoint does not say."""
    about = read_about(checkpoint)
    return names_of(checkpoint, about, PRECISION) if PRECISION in about else ()
