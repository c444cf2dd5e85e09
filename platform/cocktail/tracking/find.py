"""Runs in MLflow, found by name or id."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from cocktail.storage import exists, join, read_bytes
from cocktail.text.redaction import redacted_uri
from cocktail.tracking.database import database_of
from cocktail.tracking.outages import ERRORS, reason
from cocktail.tracking.run import PLACE, PLACE_TAG, TrackedRun
from cocktail.types import UsageError

_MAX_SHOWN = 5
"""Runs that a message lists."""
_MAX_EXPERIMENTS = 10_000
"""Experiments that are searched."""
_MAX_MODELS = 1000
"""Registered models, and versions of one, that are searched."""
MODELS = "models:/"
"""How MLflow's names of registered models begin."""


def find_run(tracking_uri: str, name_or_id: str) -> TrackedRun:
    """The run of that id, the only one of that name in all experiments, or the one that made a registered model
    (models:/NAME/VERSION, models:/NAME@ALIAS).

    Raises UsageError, with the runs that there are, if there is none or more than one, and if MLflow cannot be asked.
    """
    if name_or_id.startswith(MODELS):
        return TrackedRun(tracking_uri, str(find_version(tracking_uri, name_or_id).run_id))
    require_there(tracking_uri)
    shown = redacted_uri(tracking_uri)
    quote = '"' if "'" in name_or_id else "'"
    try:
        client = MlflowClient(tracking_uri)
        experiments = {
            experiment.experiment_id: experiment.name
            for experiment in client.search_experiments(max_results=_MAX_EXPERIMENTS)
        }
        matches = [
            run
            for attribute in ("run_id", "run_name")
            for run in client.search_runs([*experiments], f"attributes.{attribute} = {quote}{name_or_id}{quote}")
        ]
        own = [experiment_id for experiment_id, name in experiments.items() if name == name_or_id]
        newest = [] if matches else client.search_runs(own or [*experiments], max_results=_MAX_SHOWN)
    except ERRORS as error:
        raise UsageError(f"cannot look for run {name_or_id} in {shown}: {reason(error)}") from error
    if len(matches) == 1:
        return TrackedRun(tracking_uri, matches[0].info.run_id)
    runs = "; ".join(_in_words(run, experiments) for run in (matches or newest)[:_MAX_SHOWN])
    if matches:
        raise UsageError(f"{len(matches)} runs are called {name_or_id}: give an id. They are {runs}")
    where = f"the experiment {name_or_id}" if own else shown
    there_is = f"The newest in {where}: {runs}" if newest else f"There are no runs in {where}"
    raise UsageError(f"no run has the name or id {name_or_id}. {there_is}")


def find_run_of(tracking_uri: str, checkpoint: str) -> TrackedRun | None:
    """The run that trained the checkpoint at a location, if there is one such: it names it there, or has a checkpoint
    of that step and the folder that it lies in, wherever that is by now.

    Raises UsageError if MLflow cannot be asked.
    """
    require_there(tracking_uri)
    checkpoint = checkpoint.rstrip("/")
    folder, _, step = checkpoint.rpartition("/")
    place = _place_in(folder.rpartition("/")[0])
    wanted = {"checkpoint": redacted_uri(checkpoint), **({} if place is None else {PLACE_TAG: place})}
    try:
        client = MlflowClient(tracking_uri)
        within = [each.experiment_id for each in client.search_experiments(max_results=_MAX_EXPERIMENTS)]
        for tag, value in wanted.items():
            quote = '"' if "'" in value else "'"
            runs = client.search_runs(within, f"tags.`{tag}` = {quote}{value}{quote}")
            trained = [
                run
                for run in runs
                if is_training(run.data.params) and run.data.tags.get("checkpoint", "").rpartition("/")[2] == step
            ]
            if len(trained) == 1:
                return TrackedRun(tracking_uri, trained[0].info.run_id)
    except ERRORS as error:
        shown = redacted_uri(tracking_uri)
        raise UsageError(
            f"cannot look for the run of {redacted_uri(checkpoint)} in {shown}: {reason(error)}"
        ) from error
    return None


def is_training(params: Mapping[str, str]) -> bool:
    """Whether a run's params are of a training: evaluations name a checkpoint, too, and have no seed of their own."""
    return "seed" in params


def _place_in(folder: str) -> str | None:
    """The name that a run's folder has for MLflow, if it has any that can be read."""
    location = join(folder, PLACE)
    try:
        return str(json.loads(read_bytes(location))["name"]) if folder and exists(location) else None
    except (ValueError, KeyError, TypeError):
        return None


def find_version(tracking_uri: str, uri: str) -> ModelVersion:
    """The version of a registered model that models:/NAME/VERSION, /NAME/latest or /NAME@ALIAS names.

    Raises UsageError, with the models or versions that there are, if there is no such one, and if MLflow cannot be
    asked.
    """
    require_there(tracking_uri)
    name, at, alias = uri.removeprefix(MODELS).partition("@")
    name, _, number = (name, "", "") if at else name.partition("/")
    if not name or not (alias or number):
        raise UsageError(
            f"{uri} names no version: expected models:/NAME/VERSION, models:/NAME/latest or models:/NAME@ALIAS"
        )
    client, quote = MlflowClient(tracking_uri), '"' if "'" in name else "'"
    try:
        known = {model.name: model for model in client.search_registered_models(max_results=_MAX_MODELS)}
        versions = client.search_model_versions(f"name = {quote}{name}{quote}", max_results=_MAX_MODELS)
    except ERRORS as error:
        raise UsageError(f"cannot look for {uri} in {redacted_uri(tracking_uri)}: {reason(error)}") from error
    if name not in known:
        there = ", ".join(known) or "none"
        raise UsageError(f"no registered model is called {name} in {redacted_uri(tracking_uri)}: there is {there}")
    numbers = sorted(int(version.version) for version in versions)
    aliases = known[name].aliases
    wanted = aliases.get(alias) if alias else numbers[-1] if number == "latest" and numbers else number
    for version in versions:
        if str(version.version) == str(wanted):
            return version
    what = f"alias {alias}" if alias else f"version {number}"
    raise UsageError(
        f"{name} has no {what}: its versions are {', '.join(map(str, numbers))}, its aliases "
        f"{', '.join(f'{each} (version {of})' for each, of in aliases.items()) or 'none'}"
    )


def require_there(tracking_uri: str) -> None:
    """Raise UsageError if a database is not there: it is not made for a question."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    database = database_of(tracking_uri)
    if database is not None and not database.exists():
        raise UsageError(f"there is no MLflow database {database}: set MLFLOW_TRACKING_URI, or give --tracking-uri")


def _in_words(run: Run, experiments: Mapping[str, str]) -> str:
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    return f"{run.info.run_name} ({run.info.run_id}, of {experiments[run.info.experiment_id]}, {started} UTC)"
