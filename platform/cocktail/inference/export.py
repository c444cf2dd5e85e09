"""Models to hand on: a folder with weights as safetensors, their config, and a card, as model hubs take them.

    cocktail export models:/sgn_vggsound_demo@best sgn-demo
    hf upload NAME/sgn-demo sgn-demo

Whoever has the folder, by `huggingface_hub.snapshot_download` or otherwise, opens it as any checkpoint: by
`load_exported`, as the MODEL of every command, or to start a training from (`--start-from`). No pickle is in it.
Places of the machine that it comes from are left out; data sets stay known by their hashes.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from cocktail.checkpoints.exported import CONFIG_NAME, write_exported
from cocktail.checkpoints.store import load_checkpoint, read_about
from cocktail.config.experiment import default_output, given_tracking_uri
from cocktail.inference.card import CARD_NAME, Card
from cocktail.inference.find_model import FoundModel, Places, find_model
from cocktail.inference.trained import Trained, load_trained
from cocktail.storage import absolute, exists, join, list_names, write_atomic
from cocktail.text.printable import in_markdown
from cocktail.tracking.find import MODELS, find_run_of, is_training
from cocktail.tracking.inputs import names_of_data
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError, require

TABLE_NAME = "table.md"
"""Artifact of a run: its scores with intervals and controls."""
_PLACE_SETTINGS = (
    "data",
    "start_from",
    "test_list",
    "negative_list",
    "initial_weights",
    "output",
    "tracking_uri",
    "cache_folder",
)
"""Last names of the settings that say where something lies."""
_STARTED_AT = re.compile(r"(?:(?<=\s)|^)(?:\w+://|~|/).*?(?=, SHA-256 |, and over them |$)", re.DOTALL)
"""The path or URI of the weights in what a training started from: names of folders may hold spaces."""


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a trained model into a folder that can be handed on."""

    model: tyro.conf.Positional[str]
    """A checkpoint, a run (its folder, name or id), models:/NAME/VERSION or models:/NAME@ALIAS."""
    folder: tyro.conf.Positional[str]
    """Folder or URI to write to: a new one, or one that holds an export already, which is replaced."""
    licence: str = "unknown"
    """Licence of the weights by its name on model hubs, such as apache-2.0 or cc-by-nc-4.0. It is written down as you
    say it: what the data that it was trained on permits, nobody checks here."""
    output: str = field(default_factory=default_output)
    """Folder or URI of runs (COCKTAIL_OUTPUT sets the default)."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""


def export(asked: Export) -> str:
    """Export a model. Returns the folder's location.

    The card holds the scores of the run that trained the model, which is looked for by its checkpoint where it is not
    named; where it is not found, or has none, the card says so. Raises UsageError for a folder that holds anything else
    than an export.
    """
    folder = absolute(asked.folder, "FOLDER")
    there = list_names(folder)
    require(
        not there or CONFIG_NAME in there,
        f"{asked.folder} holds {', '.join(there[:3])}, and no exported model: give a folder that is empty, or none yet",
    )
    places = Places.of(asked.tracking_uri, asked.output)
    found = find_model(asked.model, places)
    run = _training_of(found, places)
    trained = load_trained(found.location)
    checkpoint = load_checkpoint(found.location)
    about = _without_places(read_about(found.location))
    sha256 = write_exported(folder, checkpoint.step, checkpoint.state["model"], about)
    card = Card(
        trained=load_exported(folder),
        folder=folder.rstrip("/").rpartition("/")[2],
        step=checkpoint.step,
        sha256=sha256,
        licence=asked.licence,
        scores=_scores_of(run),
        tags={} if run is None else run.tags,
        data_names=_data_names(run, trained),
    )
    write_atomic(join(folder, CARD_NAME), card.to_markdown().encode())
    return folder


def load_exported(folder: str) -> Trained:
    """The model in an exported folder, ready to be used on the CPU. Raises UsageError for a folder that is none."""
    require(exists(join(folder, CONFIG_NAME)), f"{folder} holds no exported model: it has no {CONFIG_NAME}")
    return load_trained(folder)


def _training_of(found: FoundModel, places: Places) -> TrackedRun | None:
    """The run that trained a model, if it is known. A checkpoint can be exported where MLflow is not, which is told."""
    if found.run is not None and is_training(found.run.params):
        return found.run
    try:
        return find_run_of(places.tracking_uri, found.location)
    except UsageError as error:
        print(f"the card will hold no scores: {error}", flush=True)
        return None


def _scores_of(run: TrackedRun | None) -> str:
    """The tables of scores of the run that made a model, or why there are none."""
    if run is None:
        return "No scores are known: the run that made it was not found."
    if TABLE_NAME not in run.stored:
        return f"No scores are known: the run that made it, {in_markdown(run.name)}, has none."
    with tempfile.TemporaryDirectory() as folder:
        return run.fetch(TABLE_NAME, Path(folder)).read_text(encoding="utf-8").strip()


def _data_names(run: TrackedRun | None, trained: Trained) -> dict[str, str]:
    """Names of the data sets that a model was trained on, by the hash of each: those that its run says, or else what
    its folder was called."""
    names = {each.manifest: _last_name(each.data) for each in trained.trained_on or ()}
    for digest, name in ({} if run is None else names_of_data(run)).items():
        names |= {sha256: name for sha256 in names if sha256.startswith(digest)}
    return names


def _without_places(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint carries, with the last names of paths and URIs alone."""
    trained_on = about.get("trained_on")
    settings = about["settings"].items()
    started = about.get("started_from")
    kept = {
        "data": _last_name(about["data"]),
        "settings": {path: _without_folders(value, _is_of_place(path)) for path, value in settings},
        "trained_on": trained_on and [{**each, "data": _last_name(each["data"])} for each in trained_on],
        "started_from": started and _STARTED_AT.sub(lambda found: _last_name(found[0]), started),
    }
    return {**about, **kept}


def _is_of_place(path: str) -> bool:
    """Whether the setting of a dotted path says where something lies."""
    return path.rpartition(".")[2] in _PLACE_SETTINGS


def _without_folders(value: Any, is_place: bool) -> Any:
    """A setting's value with the last names of the paths and URIs in it: of every text in the setting of a place, in
    another of those that begin as paths and URIs do. Registered models (models:/NAME/VERSION) stay."""
    if isinstance(value, Mapping):
        return {name: _without_folders(each, is_place) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_folders(each, is_place) for each in value]
    if not isinstance(value, str) or value.startswith(MODELS):
        return value
    return _last_name(value) if is_place or re.match(r"/|~|\.\.?/|\w+://", value) else value


def _last_name(place: str) -> str:
    return place.rstrip("/").rpartition("/")[2]
