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
from cocktail.tracking.inputs import names_of_data
from cocktail.types import require

TABLE_NAME = "table.md"
"""Artifact of a run: its scores with intervals and controls."""
_PLACE = re.compile(r"(?:\w+://|~|/)\S*/(?=[^\s/])")
"""What stands before the last name of a path or URI."""


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

    The card holds the scores of the run that made the model, where that is known. Raises UsageError for a folder that
    holds anything else than an export.
    """
    folder = absolute(asked.folder, "FOLDER")
    there = list_names(folder)
    require(
        not there or CONFIG_NAME in there,
        f"{asked.folder} holds {', '.join(there[:3])}, and no exported model: give a folder that is empty, or none yet",
    )
    found = find_model(asked.model, Places.of(asked.tracking_uri, asked.output))
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
        scores=_scores_of(found),
        tags={} if found.run is None else found.run.tags,
        data_names=_data_names(found, trained),
    )
    write_atomic(join(folder, CARD_NAME), card.to_markdown().encode())
    return folder


def load_exported(folder: str) -> Trained:
    """The model in an exported folder, ready to be used on the CPU. Raises UsageError for a folder that is none."""
    require(exists(join(folder, CONFIG_NAME)), f"{folder} holds no exported model: it has no {CONFIG_NAME}")
    return load_trained(folder)


def _scores_of(found: FoundModel) -> str | None:
    """The tables of scores of the run that made a model, if there are any."""
    if found.run is None or TABLE_NAME not in found.run.stored:
        return None
    with tempfile.TemporaryDirectory() as folder:
        return found.run.fetch(TABLE_NAME, Path(folder)).read_text(encoding="utf-8").strip()


def _data_names(found: FoundModel, trained: Trained) -> dict[str, str]:
    """Names of the data sets that a model was trained on, by the hash of each: those that its run says, or else what
    its folder was called."""
    names = {each.manifest: _name_of_place(each.data) for each in trained.trained_on or ()}
    for digest, name in ({} if found.run is None else names_of_data(found.run)).items():
        names |= {sha256: name for sha256 in names if sha256.startswith(digest)}
    return names


def _without_places(about: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint carries, with the last names of paths and URIs alone."""
    trained_on = about.get("trained_on")
    kept = {
        "data": _name_of_place(about["data"]),
        "settings": {path: _name_of_place(value) for path, value in about["settings"].items()},
        "trained_on": trained_on and [{**each, "data": _name_of_place(each["data"])} for each in trained_on],
        "started_from": about.get("started_from") and _PLACE.sub("", about["started_from"]),
    }
    return {**about, **kept}


def _name_of_place(value: Any) -> Any:
    """The last name of a path or URI; any other value as it is."""
    is_place = isinstance(value, str) and re.match(r"/|~|\w+://", value)
    return value.rstrip("/").rpartition("/")[2] if is_place else value
