"""The steps that every separation job takes: command line, data, training, scores, report."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import tyro

from cocktail.config import Experiment, flatten, identity, run_key
from cocktail.evaluate import about, load_trained
from cocktail.storage import absolute, exists, join, list_names, write_atomic
from cocktail.tracking import TrackedRun, default_tracking_uri
from cocktail.train.cluster import connect, num_nodes, one_line_errors
from cocktail.train.ray_train import fit, prepare, uses_gpus
from cocktail.types import MixtureBatch, UsageError
from jobs.scoring import Scoring, make_test_list, provenance, require_test_resources
from pipelines.batches import read_mixtures
from pipelines.clips import ClipSource
from pipelines.embedded import make_embedded_corpus
from pipelines.manifest import Manifest, open_manifest
from pipelines.mixtures import RENDER_CPUS, MixtureStream
from pipelines.plans import describe
from pipelines.shard_cache import ShardCache
from pipelines.shard_plan import SHARD_SCHEMA, ShardSettings
from pipelines.shards import shard_dataset
from pipelines.vggsound import index_vggsound

FINISHED = "finished.json"
"""Marks a run that has its scores. The same command continues an unfinished run and otherwise starts a new one."""


def main(
    experiment_type: Any,
    *,
    paper: Experiment,
    small_model: Any,
    description: str | None,
    embedded: bool = False,
) -> None:
    """Parse the command line over a preset, run the experiment, and turn a user's mistake into one line.

    `embedded` says that the embedded corpus stands in for data that is not given.
    """
    with one_line_errors():
        demo = demo_of(paper, small_model)
        experiment = parse(experiment_type, sys.argv[1:], paper=paper, demo=demo, description=description)
        if experiment.data is None and not embedded:
            raise UsageError(f"no data: give --data SHARDS ({Path(sys.argv[0]).name} --help says what makes them)")
        run(experiment)


def demo_of(paper: Experiment, small_model: Any) -> Experiment:
    """A few minutes on two cores in place of the paper's recipe: a small model, few steps, few test mixtures."""
    return dataclasses.replace(
        paper,
        name=f"{paper.name}_demo",
        model=small_model,
        mixing=dataclasses.replace(paper.mixing, passes_per_epoch=40),
        training=dataclasses.replace(
            paper.training,
            max_steps=300,
            batch_size=8,
            optimizer="adamw",
            lr_drop_epochs=(),
            checkpoint_every=100,
            log_every=20,
        ),
        evaluation=dataclasses.replace(
            paper.evaluation, num_mixtures=None if paper.evaluation.num_mixtures is None else 40
        ),
    )


def parse(experiment_type: Any, arguments: list[str], *, paper: Any, demo: Any, description: str | None) -> Any:
    """The experiment that a command line asks for: the paper's recipe if it names data, the demo's if not.

    `experiment_type` is the type of both: an Experiment, or what holds one.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=["paper", "demo"])
    chosen, rest = first.parse_known_args(arguments)
    has_data = any(argument.split("=")[0] == "--data" for argument in rest)
    preset = chosen.preset or ("paper" if has_data else "demo")
    return tyro.cli(
        experiment_type,
        args=rest,
        default={"paper": paper, "demo": demo}[preset],
        description=f"{description}\n--preset paper|demo chooses the recipe; the defaults below are those of "
        f"the {preset} preset (paper with --data, demo without).",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PartOf:
    """What a run is a part of."""

    parent: str
    """Id of the MLflow run of the whole."""
    tags: Mapping[str, str]
    """What the run is in it."""


def run(experiment: Experiment, part_of: PartOf | None = None) -> TrackedRun:
    """Train, evaluate and report; print where everything is."""
    clock = Clock()
    experiment = dataclasses.replace(experiment, output=absolute(experiment.output, "--output"))
    tracking_uri = experiment.tracking_uri or default_tracking_uri(experiment.output)
    manifest = open_data(experiment, tracking_uri)
    if experiment.evaluation.test_list is not None:
        listed = absolute(experiment.evaluation.test_list, "--evaluation.test-list")
        experiment = dataclasses.replace(
            experiment, evaluation=dataclasses.replace(experiment.evaluation, test_list=listed)
        )
    mixing, evaluation = experiment.mixing, experiment.evaluation
    test_list = make_test_list(manifest, mixing, evaluation)
    resources = experiment.resources
    cache = ShardCache(max_bytes=int(resources.cache_gb * 1e9), chosen_folder=resources.cache_folder)
    source = MixtureStream(
        folder=manifest.folder,
        mixing=mixing,
        split=experiment.training.split,
        seed=experiment.seed,
        batch_size=experiment.training.batch_size,
        executor=resources.executor,
        prefetch_batches=resources.prefetch_batches,
        cache=cache,
    )
    print(describe(source.pool), flush=True)
    num_steps = experiment.training.num_steps(source.batches_per_epoch)
    connect(tracking_uri)
    clock.lap("data")
    settings = flatten(dataclasses.asdict(experiment))
    decisive = identity(experiment, manifest.root_hash)
    folder = run_folder(experiment, manifest)
    gpus = uses_gpus(resources)
    source = dataclasses.replace(source, pin_memory=gpus)
    data_cpus = RENDER_CPUS if resources.executor == "ray" else 0.0
    prepare(experiment, identity=decisive, run_folder=folder, gpus=gpus, data_cpus=data_cpus)
    require_test_resources(resources)
    tracked = TrackedRun.open(
        tracking_uri,
        join(experiment.output, "artifacts"),
        experiment=experiment.name,
        name=folder.rsplit("/", 1)[-1],
        key=run_key(experiment, manifest.root_hash),
        params={path: value for path, value in settings.items() if not path.startswith("evaluation.")},
        parent=part_of.parent if part_of else None,
    )
    tests = {path: value for path, value in settings.items() if path.startswith("evaluation.")}
    # Tags: they may change when the job is started again.
    tracked.tag({**provenance(manifest, test_list), **tests, **(part_of.tags if part_of else {})})
    print(f"training {num_steps} steps in {folder}", flush=True)
    read = functools.partial(read_mixtures, source=ClipSource.of(manifest, cache), mixing=mixing)
    looked_at = test_list.slice(0, evaluation.num_looks)
    with tracked.closing():
        checkpoint = fit(
            experiment,
            source,
            num_classes=len(manifest.classes),
            identity=decisive,
            about=about(experiment, manifest.classes, manifest.folder),
            run_folder=folder,
            tracked=tracked,
            gpus=gpus,
            look_at=functools.partial(read_batches, looked_at, evaluation.batch_size, read),
        )
        tracked.tag({"checkpoint": checkpoint})
        clock.lap("training")
        test = Scoring(
            checkpoint=checkpoint,
            trained=load_trained(checkpoint),
            manifest=manifest,
            mixtures=test_list,
            mixing=mixing,
            evaluation=evaluation,
            resources=resources,
        )
        results = test.score()
        clock.lap("evaluation")
        table = test.report(results, tracked, num_steps, source.batches_per_epoch)
        clock.lap("report")
        rates = speeds(tracked, len(test_list) / clock.seconds["evaluation"])
        tracked.log({**{f"seconds/{name}": value for name, value in clock.seconds.items()}, **rates}, num_steps)
    write_atomic(join(folder, FINISHED), json.dumps({"mlflow_run": tracked.run_id, "checkpoint": checkpoint}).encode())
    print(
        f"\n{table}\n\n"
        f"time: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in clock.seconds.items())}\n"
        f"speed: {', '.join(f'{value:.2f} {name}' for name, value in rates.items())}\n"
        f"MLflow: {tracking_uri} (mlflow ui --backend-store-uri {tracking_uri})\n"
        f"checkpoint: {checkpoint}\n"
        f"table, figures and sounds: {tracked.artifacts}"
    )
    return tracked


def read_batches(rows: pa.Table, batch_size: int, read: Callable[[pa.Table], MixtureBatch]) -> tuple[MixtureBatch, ...]:
    """The mixtures of a plan, in batches."""
    return tuple(read(rows.slice(start, batch_size)) for start in range(0, len(rows), batch_size))


def speeds(tracked: TrackedRun, evaluation_mixtures_per_second: float) -> dict[str, float]:
    """The run's typical speeds: medians over its log lines, where it has any."""
    medians = {
        f"training_{name}": statistics.median(value for _, value in history)
        for name in ("seconds_per_step", "mixtures_per_second")
        if (history := tracked.history(name))
    }
    return {**medians, "evaluation_mixtures_per_second": evaluation_mixtures_per_second}


class Clock:
    """Wall time of the parts of a job."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap belongs to this part."""
        now = time.perf_counter()
        self.seconds[name] = now - self._last
        self._last = now


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
    shards = join(experiment.output, "embedded", f"shards-{settings.sample_rate_hz}-{SHARD_SCHEMA.rpartition('/')[2]}")
    return shard_dataset(index_vggsound(str(corpus / "vggsound.csv"), str(corpus / "videos")), settings, shards)


def run_folder(experiment: Experiment, manifest: Manifest) -> str:
    """The folder of the unfinished run of these settings, or of a new one."""
    runs = join(experiment.output, "runs")
    if experiment.run_name is not None:
        return join(runs, experiment.run_name)
    stem = f"{experiment.name}-{run_key(experiment, manifest.root_hash)}-"
    ends = [name.removeprefix(stem) for name in list_names(runs) if name.startswith(stem)]
    numbers = [int(end) for end in ends if end.isdecimal()]
    newest = max(numbers, default=0)
    if newest and not exists(join(runs, f"{stem}{newest}", FINISHED)):
        return join(runs, f"{stem}{newest}")
    return join(runs, f"{stem}{newest + 1}")
