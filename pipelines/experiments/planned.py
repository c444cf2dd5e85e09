"""What a run will be: its data, its mixtures, its folder, and what it needs of the cluster."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from cocktail.cluster.connection import connect, num_nodes
from cocktail.cluster.placement import Demand
from cocktail.config.experiment import Evaluation, Experiment, Mixing, Resources, identity, run_key
from cocktail.storage import absolute, exists, join, list_names
from cocktail.tracking.run import default_tracking_uri
from cocktail.train.initial_weights import InitialWeights, load_initial
from cocktail.train.ray_train import ReadBatches, uses_gpus
from cocktail.types import MixtureBatch, UsageError
from pipelines.datasets.vggsound import index_vggsound
from pipelines.datasets.vggss import with_boxes
from pipelines.embedded.corpus import make_embedded_corpus
from pipelines.experiments.scoring import in_classes_of, make_test_list, test_demands, told_untaught
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.plan import describe
from pipelines.mixtures.pool import ClipPool, list_array
from pipelines.mixtures.stream import RENDER_CPUS, MixtureStream
from pipelines.shards.cache import ShardCache
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.plan import SHARD_SCHEMA, ShardSettings
from pipelines.shards.reader import ClipSource
from pipelines.shards.write import shard_dataset

FINISHED = "finished.json"
"""Marks a run that has its scores. The same command continues an unfinished run and otherwise starts a new one."""


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """An experiment with all that follows from it, on the cluster that is connected."""

    experiment: Experiment
    """With whole paths."""
    tracking_uri: str
    manifest: Manifest
    test_manifest: Manifest
    """Of the shards that are tested on: the same, or others."""
    test_list: pa.Table
    """In the class ids of the shards that are trained on."""
    validation_list: pa.Table | None
    source: MixtureStream
    folder: str
    """Of the unfinished run of these settings, or of a new one."""
    gpus: bool
    initial: InitialWeights
    """What the model starts from."""
    untaught: tuple[str, ...]
    """Names of classes that no training clip has."""

    @classmethod
    def of(cls, experiment: Experiment) -> PlannedRun:
        """Open or make the data, plan, connect to the cluster; says what the data is. Raises UsageError."""
        experiment = with_whole_paths(experiment)
        tracking_uri = experiment.tracking_uri or default_tracking_uri(experiment.output)
        manifest = open_data(experiment, tracking_uri)
        mixing, training, resources = experiment.mixing, experiment.training, experiment.resources
        evaluation = experiment.evaluation
        experiment.model.require_test_mixing(evaluation.test_mixing(mixing))
        test_manifest = manifest
        if evaluation.data is not None:
            test_manifest = open_manifest(absolute(evaluation.data, "--evaluation.data"))
        test_list = make_test_list(test_manifest, mixing, evaluation)
        test_list = in_classes_of(manifest.classes, test_manifest, test_list)
        validation_list = None
        if training.validation_split is not None:
            drawn = Evaluation(split=training.validation_split, num_mixtures=training.validation_mixtures)
            validation_list = make_test_list(manifest, mixing, drawn)
        source = MixtureStream(
            folder=manifest.folder,
            mixing=mixing,
            split=training.split,
            seed=experiment.seed,
            batch_size=training.batch_size,
            executor=resources.executor,
            prefetch_batches=resources.prefetch_batches,
            cache=ShardCache(max_bytes=int(resources.cache_gb * 1e9), chosen_folder=resources.cache_folder),
        )
        print(describe(source.pool), flush=True)
        untaught = classes_without_clips(source.pool)
        if told := told_untaught(untaught, manifest.classes, test_list):
            print(told, flush=True)
        initial = initial_weights(experiment)
        print(f"starting from {initial.told}", flush=True)
        require_fit(experiment, initial, len(manifest.classes))
        connect(tracking_uri)
        gpus = uses_gpus(resources)
        return cls(
            experiment=experiment,
            tracking_uri=tracking_uri,
            manifest=manifest,
            test_manifest=test_manifest,
            test_list=test_list,
            validation_list=validation_list,
            source=dataclasses.replace(source, pin_memory=gpus),
            folder=run_folder(experiment, manifest, initial),
            gpus=gpus,
            initial=initial,
            untaught=untaught,
        )

    @property
    def name(self) -> str:
        return self.folder.rsplit("/", 1)[-1]

    @property
    def num_steps(self) -> int:
        return self.experiment.training.num_steps(self.source.batches_per_epoch)

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        return identity(self.experiment, self.manifest.root_hash, self.initial.sha256)

    @property
    def key(self) -> str:
        return run_key(self.experiment, self.manifest.root_hash, self.initial.sha256)

    @property
    def looked_at(self) -> pa.Table:
        """The test mixtures that training looks at now and then: of those that are like its own, the first."""
        counts = np.diff(list_array(self.test_list["class_id"]).offsets.to_numpy())
        mixing = self.experiment.mixing
        alike = (counts >= mixing.fewest_sources) & (counts <= mixing.num_sources)
        return self.test_list.filter(pa.array(alike)).slice(0, self.experiment.evaluation.num_looks)

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
        """What training needs at once."""
        return training_demands(self.experiment.resources, self.gpus)

    @property
    def test_demands(self) -> list[Demand]:
        """What the evaluation after it needs at once."""
        return test_demands(self.experiment.resources.num_workers if self.gpus else 0)


def read_batches(
    rows: pa.Table, *, batch_size: int, read: Callable[[pa.Table], MixtureBatch]
) -> tuple[MixtureBatch, ...]:
    """The mixtures of a plan, in batches."""
    return tuple(read(rows.slice(start, batch_size)) for start in range(0, len(rows), batch_size))


def initial_weights(experiment: Experiment) -> InitialWeights:
    """What the model starts from: a setting of models that can start from something learned elsewhere."""
    setting = getattr(experiment.model, "initial_weights", None)
    if setting is None:
        return InitialWeights.random()
    return InitialWeights.find(setting, initial_folder(experiment))


def initial_folder(experiment: Experiment) -> str:
    """Where runs keep the weights that they start from."""
    return join(experiment.output, "initial")


def require_fit(experiment: Experiment, initial: InitialWeights, num_classes: int) -> None:
    """Raise UsageError if a model cannot start from these weights, or needs some and there are none."""
    if initial.data is not None:
        load_initial(experiment.model.build(num_classes), initial.data, initial.told)
    elif getattr(experiment.model, "ogl_alpha", None) is not None:
        raise UsageError(
            f"--model.ogl-alpha needs what ImageNet teaches, but the weights are {initial.told}: give torchvision's "
            "file of ResNet-18 with --model.initial-weights"
        )


def training_demands(resources: Resources, gpus: bool) -> list[Demand]:
    """What a training needs at once."""
    workers = resources.min_workers or resources.num_workers
    each = {"CPU": resources.cpus_per_worker, "GPU": 1.0 if gpus else 0.0}
    rendering = [Demand("rendering task", workers, {"CPU": RENDER_CPUS})] if resources.executor == "ray" else []
    return [Demand("training process", workers, each), *rendering]


def with_whole_paths(experiment: Experiment) -> Experiment:
    """An experiment that means the same in every process: jobs run in a copy of the user's folder, trials in folders of
    their own, parts of both on other nodes, and a checkpoint is scored from anywhere.

    Raises UsageError, naming the option, for a relative path in a submitted job.
    """

    def whole(location: str | None, option: str) -> str | None:
        return None if location is None else absolute(location, option)

    evaluation, model = experiment.evaluation, experiment.model
    weights = getattr(model, "initial_weights", "none")
    if weights not in ("auto", "none"):
        model = dataclasses.replace(model, initial_weights=absolute(weights, "--model.initial-weights"))
    return dataclasses.replace(
        experiment,
        model=model,
        evaluation=dataclasses.replace(
            evaluation,
            test_list=whole(evaluation.test_list, "--evaluation.test-list"),
            data=whole(evaluation.data, "--evaluation.data"),
        ),
        data=whole(experiment.data, "--data"),
        output=absolute(experiment.output, "--output"),
    )


def open_data(experiment: Experiment, tracking_uri: str) -> Manifest:
    """The shards that the experiment names, or those of the embedded corpus, made on first use."""
    if experiment.data is not None:
        return open_manifest(absolute(experiment.data, "--data"))
    if "://" in experiment.output:
        raise UsageError(
            f"the embedded corpus is made on one machine, not in {experiment.output}: give --data, or a local --output"
        )
    connect(tracking_uri)
    if num_nodes() > 1:
        raise UsageError(
            f"the embedded corpus is made on one machine's disk, and this cluster has {num_nodes()} nodes: give --data"
        )
    corpus = make_embedded_corpus(join(experiment.output, "embedded", "corpus"))
    settings = ShardSettings(dataset="embedded", sample_rate_hz=experiment.mixing.sample_rate_hz, shard_mb=2.76)
    version = SHARD_SCHEMA.rpartition("/")[2]
    shards = join(experiment.output, "embedded", f"shards-with-boxes-{settings.sample_rate_hz}-{version}")
    index = index_vggsound(str(corpus / "vggsound.csv"), str(corpus / "videos"))
    return shard_dataset(with_boxes(index, str(corpus / "vggss.json")), settings, shards)


def classes_without_clips(pool: ClipPool) -> tuple[str, ...]:
    """Names of the data set's classes that no clip has."""
    taught = set(list_array(pool.table["class_ids"]).flatten().to_pylist())
    return tuple(name for class_id, name in enumerate(pool.manifest.classes) if class_id not in taught)


def run_folder(experiment: Experiment, manifest: Manifest, initial: InitialWeights) -> str:
    """The folder of the unfinished run of these settings, or of a new one."""
    runs = join(experiment.output, "runs")
    if experiment.run_name is not None:
        return join(runs, experiment.run_name)
    stem = f"{experiment.name}-{run_key(experiment, manifest.root_hash, initial.sha256)}-"
    ends = [name.removeprefix(stem) for name in list_names(runs) if name.startswith(stem)]
    numbers = [int(end) for end in ends if end.isdecimal()]
    newest = max(numbers, default=0)
    if newest and not exists(join(runs, f"{stem}{newest}", FINISHED)):
        return join(runs, f"{stem}{newest}")
    return join(runs, f"{stem}{newest + 1}")
