"""The steps that every separation job takes: command line, data, training, scores, report."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
import tyro

from cocktail.config import Evaluation, Experiment, Mixing, flatten, identity, run_key
from cocktail.evaluate import SCORING_CPUS, SEPARATING_CPUS, evaluate, load_model
from cocktail.report.examples import store_examples
from cocktail.report.tables import markdown, summarise
from cocktail.storage import absolute, exists, join, list_names, write_atomic
from cocktail.tracking import TrackedRun, default_tracking_uri
from cocktail.train.cluster import connect, num_nodes, one_line_errors, require_resources
from cocktail.train.ray_train import fit, prepare, uses_gpus
from cocktail.types import UsageError
from pipelines.batches import read_mixtures
from pipelines.clip_pool import usable_clips
from pipelines.clips import ClipSource
from pipelines.embedded import make_embedded_corpus
from pipelines.manifest import Manifest, open_manifest
from pipelines.mixtures import RENDER_CPUS, MixtureStream
from pipelines.plans import describe, plan_hash, plan_test
from pipelines.shard_cache import ShardCache
from pipelines.shard_plan import SHARD_SCHEMA, ShardSettings
from pipelines.shards import shard_dataset
from pipelines.test_lists import read_test_list, split_of
from pipelines.vggsound import index_vggsound

FINISHED = "finished.json"
"""Marks a run that has its scores. The same command continues an unfinished run and otherwise starts a new one."""


def main(experiment_type: Any, *, paper: Experiment, demo: Experiment, description: str | None) -> None:
    """Parse the command line over a preset, run the experiment, and turn a user's mistake into one line."""
    with one_line_errors():
        run(parse(experiment_type, sys.argv[1:], paper=paper, demo=demo, description=description))


def parse(
    experiment_type: Any, arguments: list[str], *, paper: Experiment, demo: Experiment, description: str | None
) -> Experiment:
    """The experiment that a command line asks for: the paper's recipe if it names data, the demo's if not."""
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


def run(experiment: Experiment) -> None:
    """Train, evaluate and report; print where everything is."""
    clock = Clock()
    experiment = dataclasses.replace(experiment, output=absolute(experiment.output, "--output"))
    tracking_uri = experiment.tracking_uri or default_tracking_uri(experiment.output)
    manifest = open_data(experiment, tracking_uri)
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
    # A frozen list is what it holds, wherever it lies.
    listed = f"sha256:{plan_hash(test_list)}" if evaluation.test_list else None
    keyed = dataclasses.replace(experiment, evaluation=dataclasses.replace(evaluation, test_list=listed))
    decisive = identity(keyed, manifest.root_hash)
    folder = run_folder(keyed, manifest)
    gpus = uses_gpus(experiment)
    source = dataclasses.replace(source, pin_memory=gpus)
    data_cpus = RENDER_CPUS if resources.executor == "ray" else 0.0
    prepare(experiment, identity=decisive, run_folder=folder, gpus=gpus, data_cpus=data_cpus)
    require_resources({"CPU": SEPARATING_CPUS + SCORING_CPUS}, "evaluation")
    tracked = TrackedRun.open(
        tracking_uri,
        join(experiment.output, "artifacts"),
        experiment=experiment.name,
        name=folder.rsplit("/", 1)[-1],
        key=run_key(keyed, manifest.root_hash),
        params=flatten(dataclasses.asdict(experiment)),
    )
    tracked.tag(provenance(manifest, test_list))
    print(f"training {num_steps} steps in {folder}", flush=True)
    try:
        checkpoint = fit(
            experiment,
            source,
            num_classes=len(manifest.classes),
            identity=decisive,
            run_folder=folder,
            tracked=tracked,
            gpus=gpus,
        )
        clock.lap("training")
        read = functools.partial(read_mixtures, source=ClipSource.of(manifest, cache), mixing=mixing)
        results = evaluate(
            experiment.name,
            experiment.model,
            len(manifest.classes),
            checkpoint,
            test_list,
            read,
            batch_size=evaluation.batch_size,
            num_gpus=experiment.resources.num_workers if gpus else 0,
        )
        clock.lap("evaluation")
        table = report(experiment, manifest, checkpoint, test_list, results, tracked, num_steps)
        clock.lap("report")
        rates = speeds(tracked, len(test_list) / clock.seconds["evaluation"])
        tracked.log({**{f"seconds/{name}": value for name, value in clock.seconds.items()}, **rates}, num_steps)
        tracked.finish("FINISHED")
    except BaseException as error:
        tracked.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    write_atomic(join(folder, FINISHED), json.dumps({"mlflow_run": tracked.run_id, "checkpoint": checkpoint}).encode())
    print(
        f"\n{table}\n\n"
        f"time: {', '.join(f'{name} {seconds:.1f} s' for name, seconds in clock.seconds.items())}\n"
        f"speed: {', '.join(f'{value:.2f} {name}' for name, value in rates.items())}\n"
        f"MLflow: {tracking_uri} (mlflow ui --backend-store-uri {tracking_uri})\n"
        f"checkpoint: {checkpoint}\n"
        f"table, figures and sounds: {tracked.artifacts}"
    )


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


def make_test_list(manifest: Manifest, mixing: Mixing, evaluation: Evaluation) -> pa.Table:
    """The frozen test mixtures: of the file that the settings name, or as they describe."""
    if evaluation.test_list is not None:
        location = absolute(evaluation.test_list, "--evaluation.test-list")
        return read_test_list(location, usable_clips(manifest, mixing, split_of(location)))
    pool = usable_clips(manifest, mixing, evaluation.split)
    print(describe(pool, evaluation), flush=True)
    return plan_test(pool, evaluation)


def git_commit() -> str:
    """The commit of the code that runs, with a mark if it was changed since; a job's shipped copy has none."""
    folder = Path(__file__).resolve().parents[1]
    if shutil.which("git") is None or not (folder / ".git").exists():
        return "unknown: the code is not a repository"
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40"]
    shown = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return shown.stdout.strip() or f"unknown: {shown.stderr.strip()}"


def provenance(manifest: Manifest, test_list: pa.Table) -> dict[str, str]:
    """What a run was made of, as tags."""
    return {
        "data": manifest.folder,
        "manifest_hash": manifest.root_hash,
        "test_list_hash": plan_hash(test_list),
        "test_mixtures": str(len(test_list)),
        "git_commit": git_commit(),
        "command": " ".join(sys.argv),
        "ray_job": os.environ.get("RAY_JOB_ID", "none"),
        "torch": torch.__version__,
    }


def report(
    experiment: Experiment,
    manifest: Manifest,
    checkpoint: str,
    test_list: pa.Table,
    results: pa.Table,
    tracked: TrackedRun,
    num_steps: int,
) -> str:
    """Store scores, test list, figures and sounds in MLflow. Returns the table as text."""
    summaries = summarise(results)
    table = markdown(summaries)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "table.md").write_text(table + "\n")
        pq.write_table(results, folder / "results.parquet")
        pq.write_table(test_list, folder / "test_list.parquet")
        examples = test_list.slice(0, experiment.evaluation.num_examples)
        if len(examples):
            model = load_model(experiment.model, len(manifest.classes), checkpoint)
            batch = read_mixtures(examples, ClipSource.of(manifest), experiment.mixing)
            store_examples(folder / "examples", model, batch, manifest.classes, experiment.mixing.sample_rate_hz)
        tracked.store(folder)
    for summary in summaries:
        system = summary.system.replace(" ", "_")
        tracked.log({f"test/{system}/{score}": value for score, value in summary.means.items()}, num_steps)
    return table
