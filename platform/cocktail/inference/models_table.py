"""What trained models a tracking server has: a line a version, with where it comes from and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.tracking import MlflowClient

from cocktail.config.experiment import default_output, given_tracking_uri
from cocktail.inference.find_model import Places
from cocktail.inference.registry import RUN_TAG, SCORE_NAME_TAG, SCORE_TAG
from cocktail.report.markdown import markdown_table
from cocktail.text.redaction import redacted_uri
from cocktail.tracking.find import require_there
from cocktail.tracking.inputs import names_of_data
from cocktail.tracking.outages import RefusedError, patiently
from cocktail.tracking.run import TrackedRun

_HEADER = ("model", "version", "aliases", "trained on", "score", "made", "run")
_UNITS = {"sdr": "SDR {} dB"}
"""How a headline score is shown, by its name; others as they are."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the registered models of a tracking server or database."""

    name: str | None = None
    """Part of the names of models to list; None lists all."""
    output: str = field(default_factory=default_output)
    """Folder or URI of runs (COCKTAIL_OUTPUT sets the default)."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""


def models(asked: Models) -> str:
    """A table of the models that there are, the newest version of each first; or a line that there are none.

    Raises UsageError where MLflow cannot be asked.
    """
    uri = Places.of(asked.tracking_uri, asked.output).tracking_uri
    require_there(uri)
    rows = patiently(uri, 0.0, lambda: list(_rows(uri, asked.name or "")))
    if not rows:
        called = f" with {asked.name!r} in its name" if asked.name else ""
        return f"there is no registered model{called} in {redacted_uri(uri)}"
    return markdown_table(_HEADER, rows)


def _rows(tracking_uri: str, part: str) -> Iterator[list[str]]:
    client = MlflowClient(tracking_uri)
    for model in _pages(client.search_registered_models):
        if part not in model.name:
            continue
        quote = '"' if "'" in model.name else "'"
        versions = _pages(client.search_model_versions, filter_string=f"name = {quote}{model.name}{quote}")
        for version in sorted(versions, key=lambda each: -int(each.version)):
            yield _row(tracking_uri, model, version)


def _row(tracking_uri: str, model: RegisteredModel, version: ModelVersion) -> list[str]:
    tags = version.tags
    aliases = sorted(alias for alias, of in model.aliases.items() if str(of) == str(version.version))
    score = _UNITS.get(tags.get(SCORE_NAME_TAG, ""), f"{tags.get(SCORE_NAME_TAG, '')} {{}}").format(tags.get(SCORE_TAG))
    made = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return [
        model.name,
        str(version.version),
        ", ".join(aliases),
        _trained_on(tracking_uri, str(version.run_id)),
        score if SCORE_TAG in tags else "",
        made.strftime("%Y-%m-%d %H:%M"),
        tags.get(RUN_TAG, str(version.run_id)),
    ]


def _trained_on(tracking_uri: str, run_id: str) -> str:
    """Names and beginnings of hashes of the data sets that a run was trained on."""
    try:
        names = names_of_data(TrackedRun(tracking_uri, run_id))
    except RefusedError:
        return "run deleted"
    return ", ".join(f"{name} ({digest[:8]})" for digest, name in names.items())


def _pages(search: Callable[..., Any], **arguments: Any) -> Iterator[Any]:
    """All that a search of MLflow's finds, a page after the other."""
    token = None
    while True:
        page = search(**arguments, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
