"""What a run was trained and tested on, where MLflow's users look for it: among the run's inputs, with hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlflow.entities import Dataset, DatasetInput, InputTag

from cocktail.storage import is_remote
from cocktail.text.redaction import redacted_uri
from cocktail.tracking.run import TrackedRun

_CONTEXT_TAG = "mlflow.data.context"
_LONGEST_DIGEST = 36
"""Letters that MLflow keeps of a data set's digest."""


@dataclass(frozen=True, kw_only=True)
class UsedData:
    """A data set that a run used."""

    name: str
    where: str
    """Folder or URI."""
    sha256: str
    """Hash of all of it."""
    used_for: Literal["training", "testing"]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else there is to say: split, numbers of clips or mixtures, hash of a test list."""


def digest_of(sha256: str) -> str:
    """As much of a hash as MLflow names a data set by."""
    return sha256[:_LONGEST_DIGEST]


def names_of_data(tracked: TrackedRun) -> dict[str, str]:
    """Names of the data sets that a run was trained on, by their digests."""
    inputs = tracked.ask(lambda client: client.get_run(tracked.run_id)).inputs
    used = [] if inputs is None else inputs.dataset_inputs
    return {
        each.dataset.digest: each.dataset.name
        for each in used
        if any((tag.key, tag.value) == (_CONTEXT_TAG, "training") for tag in each.tags)
    }


def log_data(tracked: TrackedRun, used: Sequence[UsedData]) -> None:
    """Record data sets as a run's inputs; those that it has stay as they are. The whole hash is in the profile."""
    inputs = [
        DatasetInput(
            Dataset(
                name=each.name,
                digest=digest_of(each.sha256),
                source_type=each.where.partition("://")[0] if is_remote(each.where) else "local",
                source=json.dumps({"uri": redacted_uri(each.where)}),
                profile=json.dumps({"sha256": each.sha256, **each.facts}),
            ),
            [InputTag(_CONTEXT_TAG, each.used_for)],
        )
        for each in used
    ]
    tracked.ask(lambda client: client.log_inputs(tracked.run_id, inputs))
