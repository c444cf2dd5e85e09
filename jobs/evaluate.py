#!/usr/bin/env python
"""Score a trained model on test mixtures: python jobs/evaluate.py CHECKPOINT [--data SHARDS] [options]

CHECKPOINT is the folder step-... of any run of any model, a run's name or id, models:/NAME/VERSION or
models:/NAME@best, or the folder of an exported model. It is scored on the test mixtures of its own run, or on
others: of other shards, of --evaluation.test-list LIST, with --evaluation.num-sources 3. The defaults below are the
checkpoint's. Tables, figures and sounds go to MLflow, to a run of their own beside those of the experiment.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / part) for part in (".", "platform")]

import tyro

from cocktail.cluster.connection import connect, one_line_errors
from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import default_output, given_tracking_uri
from cocktail.config.mixing import Mixing
from cocktail.config.resources import Resources
from cocktail.inference.find_model import Places, find_model
from cocktail.inference.trained import load_trained
from cocktail.storage import absolute
from cocktail.tracking.database import default_tracking_uri
from cocktail.types import UsageError
from pipelines.experiments.evaluation_run import score_and_track
from pipelines.experiments.scoring import Scoring
from pipelines.shards.manifest import open_manifest


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    checkpoint: tyro.conf.Positional[str]
    """Folder or URI of a checkpoint (step-...), of a run or of an exported model; name or id of a run; or a registered
    model, models:/NAME/VERSION or models:/NAME@ALIAS."""
    data: str | None = None
    """Folder or URI of shards; None takes those that its own run was tested on."""
    mixing: Mixing = field(default_factory=Mixing)
    evaluation: Evaluation = field(default_factory=Evaluation)
    resources: Resources = field(default_factory=Resources)
    """Place of the evaluation: only num_workers and gpu, how many GPUs the model is on, and the cache are used."""
    output: str = field(default_factory=default_output)
    """Folder or URI of runs and what they store (COCKTAIL_OUTPUT sets the default)."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0].startswith("-"):
        tyro.cli(Evaluate, args=arguments, description=__doc__)  # shows the help, or what is wrong
        raise UsageError("CHECKPOINT comes first, before the options, whose defaults are the checkpoint's")
    checkpoint = find_model(arguments[0], Places.of_arguments(arguments), "CHECKPOINT").location
    trained = load_trained(checkpoint)
    defaults = Evaluate(checkpoint=checkpoint, mixing=trained.mixing, evaluation=trained.evaluation)
    job = tyro.cli(Evaluate, args=arguments, default=defaults, description=__doc__)
    given, tested = job.mixing.num_sources, job.evaluation.num_sources
    if given != trained.mixing.num_sources and tested not in (None, (given,)):
        raise UsageError(
            f"--mixing.num-sources {given} is not what is tested: give --evaluation.num-sources {given}, which the "
            f"checkpoint's settings have at {' '.join(map(str, tested))}"
        )
    output = absolute(job.output, "--output")
    tracking_uri = job.tracking_uri or default_tracking_uri(output)
    manifest = open_manifest(absolute(job.data or job.evaluation.data or trained.data, "--data"))
    connect(tracking_uri)
    test = Scoring.of(checkpoint, trained, manifest, job.mixing, job.evaluation, job.resources)
    print(score_and_track(test, tracking_uri, output))


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
