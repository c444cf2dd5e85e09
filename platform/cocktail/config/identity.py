"""Identity of a run: what decides its weights, and the name that it gets from that."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from cocktail.config.experiment import Experiment
from cocktail.config.settings import flatten

PLACES = ("output", "tracking_uri", "resources.cache_folder")
"""Dotted paths of the settings that say only where things are: no part of what is trained."""

_DOES_NOT_DECIDE_WEIGHTS = (
    "resources.",
    "evaluation.",
    "data",
    "output",
    "tracking_uri",
    "tracking_wait_minutes",
    "run_name",
    "start_from",  # the hash of what is taken does
    "start_parts",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
    "training.max_dropped_share",
)
"""Dotted paths, and parts of the experiment with a dot behind them."""


def decides_weights(path: str) -> bool:
    """Whether the setting of a dotted path decides what is learned."""
    return path not in _DOES_NOT_DECIDE_WEIGHTS and f"{path.split('.')[0]}." not in _DOES_NOT_DECIDE_WEIGHTS


def identity(experiment: Experiment, manifest_hash: str, initial_weights: str | None = None) -> dict[str, Any]:
    """The settings that decide what is learned, by dotted path, with the hashes of the data and of the weights that
    training starts from, if they are not random.

    Two runs with the same identity have the same weights; a checkpoint is only continued under its own. What it is
    tested on is no part of it: any test can be made of the checkpoint later.
    """
    settings = flatten(dataclasses.asdict(experiment))
    decisive = {path: value for path, value in settings.items() if decides_weights(path)}
    started = {} if initial_weights is None else {"initial_weights": initial_weights}
    return {**decisive, "manifest": manifest_hash, **started}


def run_key(experiment: Experiment, manifest_hash: str, initial_weights: str | None = None) -> str:
    """Eight hexadecimal digits that name a run's identity."""
    canonical = json.dumps(identity(experiment, manifest_hash, initial_weights), sort_keys=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:8]
