"""An experiment and its parts. Configuration is code: a job file holds one `Experiment` and says what differs.

Every field's docstring is its help on the command line; a setting is named by its dotted path there
(`--training.batch-size 40`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Generic

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.config.model import ModelT
from cocktail.config.resources import Resources
from cocktail.config.splits import Split
from cocktail.config.training import Training
from cocktail.types import require


def default_output() -> str:
    """Folder or URI of what jobs write where no other is given."""
    return os.environ.get("COCKTAIL_OUTPUT", "~/cocktail")


def given_tracking_uri() -> str | None:
    """MLflow server or database that the environment names."""
    return os.environ.get("MLFLOW_TRACKING_URI")


def require_name(setting: str, name: str) -> None:
    """Raise UsageError if a name cannot be that of a folder of its own, everywhere."""
    require(
        re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", name) is not None,
        f"{setting} may hold letters, digits, '.', '_' and '-' only, 200 of them at most, the first a letter, a digit "
        f"or '_', not {name!r}",
    )


@dataclass(frozen=True, kw_only=True)
class Experiment(Generic[ModelT]):
    """Everything that decides a run."""

    name: str
    """MLflow experiment that the run belongs to."""
    model: ModelT
    mixing: Mixing = field(default_factory=Mixing)
    training: Training = field(default_factory=Training)
    evaluation: Evaluation = field(default_factory=Evaluation)
    resources: Resources = field(default_factory=Resources)
    seed: int = 0
    """Seed of initial weights, mixtures and stochastic depth."""
    start_from: str | None = None
    """Checkpoint whose weights training starts from: its folder or URI, or that of an exported model; a run, by name,
    id or folder, whose last or best checkpoint is taken, as that run was to select; or models:/NAME/VERSION. None
    starts from random weights, or from those that the model names."""
    start_parts: tuple[str, ...] = ()
    """Parts of the model that are taken from start_from, by the names of their modules (unet, visual_encoder.resnet);
    the others start as they would without it. Empty takes the whole model."""
    data: str | None = None
    """Folder or URI of shards; None is a small corpus of sampled instruments, made on first use, where a job has it."""
    output: str = field(default_factory=default_output)
    """Folder or URI for runs, checkpoints and made data (COCKTAIL_OUTPUT sets the default)."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""
    tracking_wait_minutes: float = 10.0
    """Minutes that a job waits for MLflow where it has to, while it does not answer. Training itself never waits."""
    run_name: str | None = None
    """Name of the run's folder; None derives it from the settings. A run of the same name goes on where it stood,
    a finished one is scored again."""

    def __post_init__(self) -> None:
        workers, batch = self.resources.num_workers, self.training.batch_size
        parts = workers * self.training.accumulate
        require(
            batch >= parts,
            f"training.batch_size {batch} must be at least resources.num_workers x training.accumulate, {parts}",
        )
        at_once = batch // self.training.accumulate
        require(
            at_once >= self.model.fewest_mixtures,
            f"training.batch_size {batch} in {self.training.accumulate} parts (training.accumulate) is {at_once} "
            f"mixtures at once, but this model compares at least {self.model.fewest_mixtures} with each other",
        )
        held_out = self.training.validation_split
        require(
            held_out is None
            or self.evaluation.data is not None
            or not Split.of(held_out).overlaps(Split.of(self.evaluation.split)),
            f"training.validation_split {held_out} is what the model is tested on",
        )
        self.model.require_mixing(self.mixing)
        require(
            self.mixing.shown_sources == "all" or self.model.learns_unseen,
            f"this model learns nothing of pictures that are withheld: leave mixing.shown_sources at all, not "
            f"{self.mixing.shown_sources}, and withhold those of the test by evaluation.shown_sources",
        )
        require(
            not self.start_parts or self.start_from is not None,
            f"start_parts {', '.join(self.start_parts)} are parts of what? Give a checkpoint with start_from, too",
        )
        require(
            self.start_from is None or self.model.trains,
            "start_from gives weights to start training from, but this model is not trained: leave it out",
        )
        require(
            self.tracking_wait_minutes >= 0,
            f"tracking_wait_minutes must not be negative, not {self.tracking_wait_minutes}",
        )
        require_name("name", self.name)
        require(self.name != "mixture", "name must not be 'mixture', which is what scores call the mixture itself")
        if self.run_name is not None:
            require_name("run_name", self.run_name)
