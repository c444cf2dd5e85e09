#!/usr/bin/env python
"""Build mixtures again from their ids: python jobs/replay.py SHARDS ID ... [--checkpoint CHECKPOINT] [--into FOLDER]

Writes mixture.wav, a wav a source, their pictures and row.json (clips, crops, gains) for each id that a log, a table
or an error message showed; or for EPOCH:ROW, a row of an epoch, both from 0. The settings that the ids were made with
are the ones given here, and else those of --checkpoint.
"""

import dataclasses
import functools
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.checkpoints.contents import value_of
from cocktail.cluster.connection import one_line_errors
from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import default_output, given_tracking_uri
from cocktail.config.mixing import Mixing
from cocktail.inference.find_model import Places, located
from cocktail.inference.trained import read_settings
from cocktail.storage import absolute
from pipelines.mixtures.replay import find_mixtures, write_mixture
from pipelines.shards.manifest import open_manifest


@dataclass(frozen=True, kw_only=True)
class Replay:
    shards: tyro.conf.Positional[str]
    """Folder or URI of the shards."""
    names: tyro.conf.Positional[tuple[str, ...]]
    """Mixture ids, or EPOCH:ROW."""
    checkpoint: str | None = None
    """Checkpoint of the run that showed the ids, or the run's name or id, or models:/NAME/VERSION, whose settings are
    taken; None takes those given here."""
    into: str = "replayed"
    """Folder to write to, one folder a mixture in it."""
    seed: int = 0
    """Seed of the training run."""
    epochs: int = 100
    """Epochs to look through, from the first on."""
    split: str = "train"
    """Split that was trained on."""
    mixing: Mixing = field(default_factory=Mixing)
    evaluation: Evaluation = field(default_factory=Evaluation)
    output: str = field(default_factory=default_output)
    """Folder or URI of runs (COCKTAIL_OUTPUT sets the default)."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""


def main() -> None:
    job = tyro.cli(Replay, description=__doc__)
    if job.checkpoint is not None:
        places = functools.partial(Places.of, job.tracking_uri, job.output)
        location = located(job.checkpoint, places, "--checkpoint")
        settings, mixing, evaluation = read_settings(location)
        seed, split = value_of(location, settings, "seed", int), value_of(location, settings, "training.split", str)
        defaults = dataclasses.replace(job, seed=seed, split=split, mixing=mixing, evaluation=evaluation)
        job = tyro.cli(Replay, default=defaults, description=__doc__)  # what is given here wins
    if job.evaluation.test_list is not None:
        listed = absolute(job.evaluation.test_list, "--evaluation.test-list")
        job = dataclasses.replace(job, evaluation=dataclasses.replace(job.evaluation, test_list=listed))
    manifest = open_manifest(absolute(job.shards, "SHARDS"))
    rows = find_mixtures(
        job.names,
        manifest,
        job.mixing,
        job.evaluation,
        split=job.split,
        seed=job.seed,
        epochs=job.epochs,
    )
    for row in rows.values():
        print(write_mixture(Path(job.into), row, manifest, job.mixing))


if __name__ == "__main__":
    with one_line_errors():
        main()
