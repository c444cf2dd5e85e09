"""Systems side by side: a sweep whose trials are of different models, on the same mixtures, at the same price.

A price is a number of training steps, or the CPU time (on GPUs the time) of a number of steps of one of the systems.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Annotated, Any, Literal

import tyro

from cocktail.cluster.connection import connect, one_line_errors
from cocktail.config.experiment import Experiment, default_output, given_tracking_uri
from cocktail.config.identity import run_key
from cocktail.config.resources import Resources
from cocktail.storage import exists, join, read_bytes, require_writable, write_atomic
from cocktail.studies.paper import Paper
from cocktail.studies.trial import SEED, SYSTEM
from cocktail.tasks.separation.sight import INVISIBLE, VISIBLE
from cocktail.tracking.database import default_tracking_uri, require_usable
from cocktail.train.measure import measure_steps
from cocktail.train.ray_train import uses_gpus
from cocktail.types import UsageError
from pipelines.embedded.stand_in import open_data
from pipelines.experiments.benchmarks import Benchmark
from pipelines.experiments.command_line import TrainingJob, choose, parse
from pipelines.experiments.locations import with_whole_paths
from pipelines.experiments.planned import PlannedRun
from pipelines.sweeps.grids import Grid, PlannedTrial, Row, apply
from pipelines.sweeps.options import SweepOptions
from pipelines.sweeps.sweep import run_planned


@dataclass(frozen=True, kw_only=True)
class System:
    """A model of the comparison."""

    title: str
    """Name in tables."""
    job: TrainingJob
    settings: Mapping[str, str] = field(default_factory=dict)
    """What it sets besides, by dotted path, as on a command line."""
    benchmarks: Sequence[Benchmark] = ()
    """Benchmarks that it is compared on, where its job's are of a test of its own; none is those of its job."""

    def benchmark(self, word: str) -> Benchmark | None:
        """The benchmark that a word names, if it has it."""
        return next((each for each in self.benchmarks or self.job.benchmarks if each.word == word), None)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the command line of a comparison asks for."""

    recipe: tyro.conf.Suppress[Literal["paper", "demo"]]

    systems: tuple[str, ...] = ()
    """Systems to compare, by their words above; none given is all that the benchmark has. The first is what others are
    compared with."""
    steps: int | None = None
    """Training steps of each system, shared among its stages; None is what each experiment has."""
    equal: Literal["steps", "time"] = "steps"
    """What trainings have alike: the steps above, or, in place of them, the CPU time (on GPUs the time) that the first
    system's steps take. A step of each system is measured once, and what came out is kept."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """PATH=VALUE, such as training.max-steps=600: sets it in the experiments of all systems; may be given again."""
    initial_weights: str | None = None
    """File of weights from which those start that see (`--model.initial-weights` of their own jobs); None is what each
    recipe has: ImageNet's in the papers', random ones in the small networks."""
    seeds: tuple[int, ...] = (0,)
    """Seeds: each system has a trial with each of them."""
    max_concurrent: int | None = None
    """Trials at a time; None is as many as the cluster holds. Give it on a cluster that grows."""
    sweep_name: str | None = None
    """Name of the sweep; None derives it from the experiments."""
    again: bool = False
    """Run a finished sweep once more, beside its first run."""
    data: str | None = None
    """Folder or URI of shards; None is the embedded corpus, where the benchmark has it."""
    output: str = field(default_factory=default_output)
    """Folder or URI for runs, checkpoints and made data (COCKTAIL_OUTPUT sets the default)."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database (MLFLOW_TRACKING_URI sets the default); None is mlflow.db in the output folder."""
    resources: Resources = field(default_factory=Resources)

    @property
    def options(self) -> SweepOptions:
        """What it is as a sweep."""
        return SweepOptions(max_concurrent=self.max_concurrent, sweep_name=self.sweep_name, again=self.again)


Papers = Mapping[str, Mapping[str, Paper]]
"""Papers' tables of systems, by the word of the system that they propose and by that of a benchmark."""


def compare(
    name: str, systems: Mapping[str, System], benchmarks: Sequence[Benchmark], papers: Papers, description: str | None
) -> None:
    """Train and test systems as the command line asks, as one sweep, on the benchmark that its first word names, beside
    the paper that proposes the first of them; turn a user's mistake into one line. Ends as `run_planned` does."""
    with one_line_errors():
        benchmark, arguments = choose(benchmarks, sys.argv[1:], sys.argv[0], description)
        words = [word for word, system in systems.items() if system.benchmark(benchmark.word) is not None]
        listed = "\n".join(f"    {word:24}{systems[word].title}" for word in words)
        asked = parse(
            Comparison,
            arguments,
            paper=Comparison(recipe="paper"),
            demo=Comparison(recipe="demo"),
            description=f"{description}\n{benchmark.describe()}\n\nSYSTEMS:\n{listed}\n",
            program=f"{sys.argv[0]} {benchmark.word}",
            runs_without_data=benchmark.embedded,
        )
        if asked.data is None and not benchmark.embedded:
            raise UsageError(f"no data: give --data SHARDS, which are made by {benchmark.shards}")
        chosen = list(dict.fromkeys(asked.systems)) or words
        if unknown := [word for word in chosen if word not in words]:
            raise UsageError(f"--systems {' '.join(unknown)}: not on {benchmark.word}; choose of {', '.join(words)}")
        paper = papers.get(chosen[0], {}).get(benchmark.word)
        run_comparison(asked, name, {word: systems[word] for word in chosen}, benchmark.word, paper)


def run_comparison(
    asked: Comparison, name: str, systems: Mapping[str, System], benchmark: str, paper: Paper | None = None
) -> None:
    """Run what is left of a comparison of these systems, beside a paper's. Ends as `run_planned` does."""
    own = {word: _experiment(asked, name, system, benchmark) for word, system in systems.items()}
    if asked.initial_weights is not None and not any(map(_sees, own.values())):
        raise UsageError("--initial-weights: none of these systems sees; leave it out, or name one that does")
    experiments = on_the_same_mixtures(own)
    base = with_whole_paths(next(iter(experiments.values())))
    steps = {} if asked.steps is None else dict.fromkeys(systems, asked.steps)
    if asked.equal == "time":
        steps = _equal_in_time(asked.steps or base.training.max_steps, own, systems)
    trials = plan_systems(systems, experiments, steps, tuple(dict.fromkeys(asked.seeds)))
    if apart := [systems[word].title for word in systems if is_apart(experiments[word], base)]:
        print(
            f"note: by their recipes {', '.join(apart)} have other pictures a source than the first system: their "
            "mixtures have other names, and are compared with none of its",
            flush=True,
        )
    rows = tuple(Row(label=trial.label, settings=dict.fromkeys(trial.overrides, trial.label)) for trial in trials)
    paper = paper if paper is not None and is_of_test(paper, base) else None
    run_planned(base, trials, [(Grid(title="systems", rows=rows), trials)], asked.options, paper)


def is_of_test(paper: Paper, experiment: Experiment) -> bool:
    """Whether a paper's scores are of tests like an experiment's: of visible and invisible sources where, and only
    where, it withholds pictures."""
    withheld = experiment.evaluation.test_mixing(experiment.mixing).shown_sources != "all"
    return withheld == any(name.startswith((VISIBLE, INVISIBLE)) for name in paper.printed)


def on_the_same_mixtures(experiments: Mapping[str, Experiment]) -> dict[str, Experiment]:
    """The experiments, those without pictures with the pictures of the first that has some: the pictures of a mixture
    are part of its id, by which results are paired."""
    seeing = next((each.mixing for each in experiments.values() if each.mixing.pictures_per_source), None)
    if seeing is None:
        return dict(experiments)
    pictures = {path: getattr(seeing, path) for path in ("pictures_per_source", "picture_side", "picture_margin")}
    return {
        word: each if each.mixing.pictures_per_source else replace(each, mixing=replace(each.mixing, **pictures))
        for word, each in experiments.items()
    }


def is_apart(experiment: Experiment, base: Experiment) -> bool:
    """Whether the mixtures of two experiments have different pictures, and so different names."""
    return experiment.mixing.pictures_per_source != base.mixing.pictures_per_source


def plan_systems(
    systems: Mapping[str, System],
    experiments: Mapping[str, Experiment],
    steps: Mapping[str, int],
    seeds: Sequence[int],
) -> list[PlannedTrial]:
    """A trial for each system and seed. A system that learns in stages shares the steps that it is given among them.

    A system that is not trained has a trial with each seed, too: it is then compared under the seeds of the others.
    """
    trials = []
    for word, system in systems.items():
        experiment, stages = experiments[word], tuple(system.job.stages)
        training = experiment.training
        if word in steps:
            share = max(steps[word] // max(len(stages), 1), 1)
            # An epoch has a step at least: no recipe's number of epochs ends it sooner.
            training = replace(training, max_steps=share, epochs=max(training.epochs, share))
        for seed in seeds:
            trials.append(
                PlannedTrial(
                    label=f"{system.title}, seed {seed}",
                    overrides={SYSTEM: system.title, SEED: seed},
                    experiment=replace(experiment, training=training, seed=seed),
                    stages=stages,
                )
            )
    return trials


def _experiment(asked: Comparison, name: str, system: System, word: str) -> Experiment:
    benchmark = system.benchmark(word)
    assert benchmark is not None
    own = system.job.paper(benchmark) if asked.recipe == "paper" else system.job.demo(benchmark)
    of_all: dict[str, Any] = {
        "name": f"{name}_{word}{'_demo' if asked.recipe == 'demo' else ''}",
        "data": asked.data,
        "output": asked.output,
        "tracking_uri": asked.tracking_uri,
        "resources": asked.resources,
    }
    weights = asked.initial_weights
    start = {"model.initial_weights": weights} if weights is not None and _sees(own) else {}
    settings = {**system.settings, **start, **dict(map(_setting, asked.set))}
    return apply(Experiment[type(own.model)], replace(own, **of_all), settings, f"--set, of {system.title}")


def _sees(experiment: Experiment) -> bool:
    """Whether a system's pictures go through a network that may start from weights."""
    return hasattr(experiment.model, "initial_weights")


def _setting(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not equals or not path.strip():
        raise UsageError(f"--set {text}: expected PATH=VALUE, such as --set training.max-steps=600")
    return path.strip().removeprefix("--").replace("-", "_"), value.strip()


def _equal_in_time(
    steps: int | None, experiments: Mapping[str, Experiment], systems: Mapping[str, System]
) -> dict[str, int]:
    """Steps of each system that take as long as so many of the first one's. What a step takes is measured once for
    these experiments and kept in the output folder, so that the same command goes on with the same steps."""
    first, *_ = experiments.values()
    if steps is None or not first.model.trains:
        raise UsageError("--equal time takes the time of the first system's steps: name one that trains, and --steps")
    tracking_uri = first.tracking_uri or default_tracking_uri(first.output)
    require_usable(tracking_uri)
    require_writable(first.output)
    connect(tracking_uri, show_workers=False)
    whole = [with_whole_paths(experiment) for experiment in experiments.values()]
    keys = [run_key(experiment, open_data(experiment, tracking_uri).root_hash) for experiment in whole]
    gpus = uses_gpus(first.resources)
    canonical = json.dumps([keys, asdict(first.resources), gpus])
    digest = hashlib.sha256(canonical.encode()).hexdigest()[:8]
    path = join(with_whole_paths(first).output, "sweeps", f"seconds-per-step-{digest}.json")
    seconds: dict[str, float] = json.loads(read_bytes(path)) if exists(path) else {}
    for word, experiment in experiments.items():
        if experiment.model.trains and word not in seconds:
            seconds[word] = seconds_of_step(experiment, systems[word].job.stages)
            print(f"a step of {word} takes {seconds[word]:.3f} s{'' if gpus else ' of CPU time'}", flush=True)
            write_atomic(path, json.dumps(seconds, indent=1).encode())
    return steps_in_time(steps, seconds)


def steps_in_time(steps: int, seconds: Mapping[str, float]) -> dict[str, int]:
    """Steps of each system that take as long as so many of the first, from the seconds of a step of each; at least
    one."""
    budget = steps * next(iter(seconds.values()))
    return {word: max(round(budget / of_step), 1) for word, of_step in seconds.items()}


def seconds_of_step(experiment: Experiment, stages: Sequence[str] = ()) -> float:
    """CPU seconds of a training step, with rendering; on GPUs, seconds. Of a model that learns in stages, the mean."""
    if stages:
        model: Any = experiment.model
        return fmean(seconds_of_step(replace(experiment, model=replace(model, stage=stage))) for stage in stages)
    planned = PlannedRun.of(experiment)
    source = replace(planned.source, executor="inline")
    measured = measure_steps(planned.experiment, source, len(planned.manifest.classes), planned.gpus)
    return measured.seconds_per_step if planned.gpus else measured.cpu_seconds_per_step
