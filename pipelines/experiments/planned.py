"""Plan of a run: its data, its mixtures, its folder, and what it needs of the cluster."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cocktail.audio.class_spectra import ClassSpectra
from cocktail.checkpoints.contents import require_built_without_values
from cocktail.checkpoints.initial_weights import InitialWeights
from cocktail.checkpoints.store import checkpoint_store
from cocktail.checkpoints.training_record import TrainedOn, read_trained_on
from cocktail.cluster.connection import connect, trials_a_node
from cocktail.cluster.placement import Demand
from cocktail.config.evaluation import Evaluation
from cocktail.config.experiment import Experiment
from cocktail.config.identity import identity, run_key
from cocktail.config.mixing import Mixing
from cocktail.config.settings import require_kept
from cocktail.inference.trained import about
from cocktail.storage import absolute, require_writable
from cocktail.tasks.choice import tasks_of
from cocktail.text.redaction import redacted_uri
from cocktail.tracking.database import default_tracking_uri, require_usable
from cocktail.tracking.run import TrackedRun
from cocktail.train.ray_train import ReadBatches, TrainingRun, uses_gpus
from cocktail.types import MixtureBatch
from pipelines.embedded.stand_in import open_data
from pipelines.experiments.class_spectra import training_spectra
from pipelines.experiments.locations import initial_folder, require_finished, run_folder, with_whole_paths
from pipelines.experiments.resources import (
    executor_of,
    render_cpus,
    require_room_to_render,
    shard_cache,
    test_demands,
    training_demands,
)
from pipelines.experiments.scoring import new_classes_for, require_truth
from pipelines.experiments.trained_on import Overlap, overlap_of
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.evaluation import classes_without_clips, in_classes_of, make_test_list, untaught_in_words
from pipelines.plans.negatives import without_negatives
from pipelines.plans.plan import mixtures_in_words
from pipelines.plans.pool import list_array
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.reader import ClipSource

EXECUTORS = {
    "ray": "by Ray Data, on any node (--resources.executor ray)",
    "inline": "in the training process (--resources.executor inline)",
}


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """An experiment with all that follows from it, on the cluster that is connected."""

    experiment: Experiment
    """Settings, with whole paths."""
    tracking_uri: str
    manifest: Manifest
    test_manifest: Manifest
    """Manifest of the shards that are tested on: the same, or others."""
    test_list: pa.Table
    """Test mixtures, in the class ids of the shards that are trained on, and then of the new classes."""
    new_classes: tuple[str, ...]
    """Names of classes that are tested, and that the shards that are trained on do not have."""
    validation_list: pa.Table | None
    source: MixtureStream
    folder: str
    """Folder of the unfinished run of these settings, or of a new one."""
    gpus: bool
    initial: InitialWeights
    """Weights that the model starts from."""
    untaught: tuple[str, ...]
    """Names of classes that no training clip has."""
    trained_on: tuple[TrainedOn, ...] | None
    """What the model is trained on, and was in the runs that it starts from; None if their checkpoint does not say."""
    overlap: Overlap
    """Test mixtures that hold some of it."""

    @classmethod
    def of(cls, experiment: Experiment) -> PlannedRun:
        """Open or make the data, plan, connect to the cluster; says what the data is. Raises UsageError."""
        experiment = with_whole_paths(experiment)
        tracking_uri = experiment.tracking_uri or default_tracking_uri(experiment.output)
        require_usable(tracking_uri)
        require_writable(experiment.output)
        manifest = open_data(experiment, tracking_uri)
        mixing, training, resources = experiment.mixing, experiment.training, experiment.resources
        evaluation = experiment.evaluation
        experiment.model.require_test_mixing(evaluation.test_mixing(mixing))
        test_manifest = manifest
        if evaluation.data is not None:
            test_manifest = open_manifest(absolute(evaluation.data, "--evaluation.data"))
        test_list = make_test_list(test_manifest, mixing, evaluation)
        new = new_classes_for(experiment.model, manifest.classes, test_manifest, test_list)
        test_list = in_classes_of((*manifest.classes, *new), test_manifest, test_list)
        trains, validation_list = experiment.model.trains, None
        if trains and training.validation_split is not None:
            drawn = Evaluation(split=training.validation_split, num_mixtures=training.validation_mixtures)
            validation_list = make_test_list(manifest, mixing, drawn)
        source = MixtureStream(
            folder=manifest.folder,
            mixing=mixing,
            split=training.split,
            seed=experiment.seed,
            batch_size=training.batch_size,
            prefetch_batches=resources.prefetch_batches,
            cache=shard_cache(resources),
        )
        untaught = ()
        if trains:
            print(mixtures_in_words(source.pool), flush=True)
            untaught = classes_without_clips(source.pool)
        if message := untaught_in_words((*untaught, *new), (*manifest.classes, *new), test_list):
            print(message, flush=True)
        # A model whose checkpoints could not be opened, or that such mixtures test nothing of, is refused now, and not
        # after its training.
        require_kept(experiment.model, "model.")
        model = experiment.model.build(len(manifest.classes))
        require_built_without_values(experiment.model, len(manifest.classes))
        require_truth(tasks_of(model, evaluation, evaluation.test_mixing(mixing)), test_list, test_manifest)
        initial = initial_weights(experiment, manifest.classes)
        trained_on = taught_by(experiment, manifest, initial)
        overlap = overlap_of(test_list, test_manifest, trained_on, [manifest])
        overlap.require_accepted(evaluation.allow_trained_on)
        for note in overlap.notes:
            print(note, flush=True)
        folder = run_folder(experiment, manifest, initial)
        if checkpoint_store(folder).newest() is None:  # else a checkpoint is gone on from
            print(f"starting from {initial.description}", flush=True)
        connect(tracking_uri)
        gpus = uses_gpus(resources)
        executor = executor_of(experiment, gpus)
        rendering_cpus = render_cpus(resources, gpus, executor)
        if trains:
            require_room_to_render(resources, gpus, executor, rendering_cpus)
            print(f"mixtures are rendered {EXECUTORS[executor]}", flush=True)
        return cls(
            experiment=experiment,
            tracking_uri=tracking_uri,
            manifest=manifest,
            test_manifest=test_manifest,
            test_list=test_list,
            new_classes=new,
            validation_list=validation_list,
            source=dataclasses.replace(
                source,
                executor=executor,
                pin_memory=gpus,
                render_cpus=rendering_cpus,
                trials_a_node=trials_a_node(),
            ),
            folder=folder,
            gpus=gpus,
            initial=initial,
            untaught=untaught,
            trained_on=trained_on,
            overlap=overlap,
        )

    @property
    def name(self) -> str:
        return self.folder.rsplit("/", 1)[-1]

    @property
    def batches_per_epoch(self) -> int | None:
        """Steps of an epoch; None if the model is not trained, for which there need not be anything to train on."""
        return self.source.batches_per_epoch if self.experiment.model.trains else None

    @property
    def num_steps(self) -> int:
        """Steps of the whole training."""
        return 0 if self.batches_per_epoch is None else self.experiment.training.num_steps(self.batches_per_epoch)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        return identity(self.experiment, self.manifest.root_hash, self.initial.sha256)

    @property
    def key(self) -> str:
        return run_key(self.experiment, self.manifest.root_hash, self.initial.sha256)

    def class_spectra(self) -> ClassSpectra | None:
        """Mean spectra of the classes over the training clips, for a control of the test; measured on first use."""
        return training_spectra(self.experiment, self.manifest, functools.partial(connect, self.tracking_uri))

    def training_run(self, tracked: TrackedRun, class_spectra: ClassSpectra | None = None) -> TrainingRun:
        """The training, with what it starts from where its workers find it; its checkpoints carry the spectra."""
        experiment, manifest = self.experiment, self.manifest
        return TrainingRun(
            experiment=experiment,
            source=self.source,
            num_classes=len(manifest.classes),
            identity=self.identity,
            about=about(
                experiment,
                manifest.classes,
                manifest.folder,
                self.untaught,
                class_spectra,
                trained_on=self.trained_on,
                started_from=redacted_uri(self.initial.description),
            ),
            folder=self.folder,
            tracked=tracked,
            gpus=self.gpus,
            look_at=self.reading_looks(),
            validate_on=self.reading_validation(),
            initial=self.initial.keep(initial_folder(experiment)),
        )

    @property
    def looked_at(self) -> pa.Table:
        """The test mixtures that training looks at now and then: of those that are like its own, the first."""
        shows = without_negatives(self.test_list)
        counts = np.diff(list_array(shows["class_id"]).offsets.to_numpy())
        mixing = self.experiment.mixing
        alike = (counts >= mixing.fewest_sources) & (counts <= mixing.num_sources)
        return shows.filter(pa.array(alike)).slice(0, self.experiment.evaluation.num_looks)

    def reading_looks(self) -> ReadBatches:
        """Reads the test mixtures that training looks at, as they are tested."""
        evaluation = self.experiment.evaluation
        test_mixing = evaluation.test_mixing(self.experiment.mixing)
        return self._reading(self.looked_at, self.test_manifest, test_mixing, evaluation.batch_size)

    def reading_validation(self) -> ReadBatches | None:
        """Reads the validation mixtures, if there are any, in batches as training's: a loss that compares mixtures
        depends on how many there are."""
        if self.validation_list is None:
            return None
        experiment = self.experiment
        return self._reading(self.validation_list, self.manifest, experiment.mixing, experiment.training.batch_size)

    def _reading(self, rows: pa.Table, of: Manifest, mixing: Mixing, batch_size: int) -> ReadBatches:
        read = functools.partial(read_mixtures, source=ClipSource.of(of, self.source.cache), mixing=mixing)
        return functools.partial(read_batches, rows, batch_size=batch_size, read=read)

    @property
    def training_demands(self) -> list[Demand]:
        """Demands of the training, all at once."""
        if not self.experiment.model.trains:
            return []
        source = self.source
        return training_demands(self.experiment.resources, self.gpus, source.executor, source.render_cpus)

    @property
    def test_demands(self) -> list[Demand]:
        """Demands of the evaluation after it, all at once."""
        return test_demands(self.experiment.resources, self.gpus)


def read_batches(
    rows: pa.Table, *, batch_size: int, read: Callable[[pa.Table], MixtureBatch]
) -> tuple[MixtureBatch, ...]:
    """The mixtures of a plan, in batches."""
    return tuple(read(rows.slice(start, batch_size)) for start in range(0, len(rows), batch_size))


def initial_weights(experiment: Experiment, classes: Sequence[str]) -> InitialWeights:
    """Weights that the model starts from. Raises UsageError if that is not there, or does not fit."""
    if experiment.start_from is not None:
        require_finished(experiment.start_from)
    return InitialWeights.find(experiment, classes, initial_folder(experiment))


def taught_by(experiment: Experiment, manifest: Manifest, initial: InitialWeights) -> tuple[TrainedOn, ...] | None:
    """All that a model is trained on: the split of its own run, after that of what it starts from; None if that does
    not say."""
    if not experiment.model.trains:
        return ()
    earlier = () if initial.checkpoint is None else read_trained_on(initial.checkpoint)
    if earlier is None:
        return None
    own = TrainedOn(data=manifest.folder, manifest=manifest.root_hash, split=experiment.training.split)
    return tuple(dict.fromkeys((*earlier, own)))
