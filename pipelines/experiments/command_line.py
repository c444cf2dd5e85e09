"""The command line of a job that trains."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import Experiment
from cocktail.config.model import ModelConfig
from cocktail.config.training import Training
from cocktail.types import UsageError
from pipelines.experiments.benchmarks import Benchmark
from pipelines.experiments.dry_run import tell
from pipelines.experiments.planned import PlannedRun
from pipelines.experiments.run import run
from pipelines.experiments.stages import next_stage, run_stages

DRY_RUN = "--dry-run"


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A model's job: its recipe and its demo on the benchmarks that it can be trained on."""

    name: str
    """The model's, which experiments on a benchmark begin with."""
    model: ModelConfig
    """The paper's network."""
    small: ModelConfig
    """The demo's network."""
    training: Training
    """The paper's training."""
    benchmarks: Sequence[Benchmark]
    """With several, the command line's first word names one."""
    stages: Sequence[str] = ()
    """Values of the configuration's `stage`, of a model that learns in stages: each is a run."""

    def paper(self, benchmark: Benchmark) -> Experiment:
        """The paper's experiment on a benchmark."""
        return benchmark.paper(f"{self.name}_{benchmark.word}", self.model, self.training)

    def demo(self, benchmark: Benchmark) -> Experiment:
        """Some minutes on two cores in its place."""
        return benchmark.demo(self.paper(benchmark), self.small)

    def main(self, description: str | None) -> None:
        """Train the model and score it as the command line asks, and turn a user's mistake into one line.

        A model that learns in stages has a run for each, in order, from its configuration's `stage` on.
        """
        with one_line_errors():
            benchmark, arguments = choose(self.benchmarks, sys.argv[1:], sys.argv[0], description)
            program, about = sys.argv[0], f"{description}"
            dry_run = f"{DRY_RUN} takes a few steps, says what the run would do, need and take, and ends."
            if len(self.benchmarks) > 1:
                program, about = f"{program} {benchmark.word}", f"{about}\n{benchmark.describe()}\n"
            experiment = parse(
                Experiment[type(self.model)],
                [argument for argument in arguments if argument != DRY_RUN],
                paper=self.paper(benchmark),
                demo=self.demo(benchmark),
                description=f"{about}\n{dry_run}",
                program=program,
                runs_without_data=benchmark.embedded,
            )
            if experiment.data is None and not benchmark.embedded:
                raise UsageError(f"no data: give --data SHARDS, which are made by {benchmark.shards}")
            if benchmark.tests_elsewhere and experiment.evaluation.data is None:
                raise UsageError(f"{benchmark.word} is tested on {benchmark.tests_on}: give --evaluation.data TEST")
            if DRY_RUN in arguments:
                first = next_stage(experiment, self.stages)[0] if self.stages else experiment
                print(tell(PlannedRun.of(first)))
            elif self.stages:
                run_stages(experiment, self.stages)
            else:
                run(experiment)


def choose(
    benchmarks: Sequence[Benchmark], arguments: Sequence[str], job: str, description: str | None
) -> tuple[Benchmark, list[str]]:
    """The benchmark that the first of a job's arguments names, and the other arguments; of one benchmark, that, and all
    of them.

    Ends with a list of the benchmarks when the first asks for help. Raises UsageError if it names none.
    """
    if len(benchmarks) == 1:
        return benchmarks[0], list(arguments)
    first = arguments[0] if arguments else ""
    if first in ("-h", "--help"):
        listed = "\n\n".join(benchmark.describe() for benchmark in benchmarks)
        print(
            f"usage: {job} BENCHMARK [OPTIONS]\n\n{description}\nBENCHMARK is one of these:\n\n{listed}\n\n"
            f"{job} BENCHMARK --help lists the settings of its experiment."
        )
        sys.exit(0)
    for benchmark in benchmarks:
        if benchmark.word == first:
            return benchmark, list(arguments[1:])
    words = ", ".join(benchmark.word for benchmark in benchmarks)
    given = f"not {first}" if first else "and there is none"
    raise UsageError(f"the first word names the benchmark, one of {words}, {given} ({job} --help says what each is)")


def parse(
    experiment_type: Any,
    arguments: list[str],
    *,
    paper: Any,
    demo: Any,
    description: str | None,
    program: str | None = None,
    runs_without_data: bool = True,
) -> Any:
    """The experiment that a command line asks for: the paper's recipe if it names data or cannot run without, else the
    demo's.

    `experiment_type` is the type of both: an Experiment, or what holds one.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", choices=["paper", "demo"])
    chosen, rest = first.parse_known_args(arguments)
    has_data = any(argument.split("=")[0] == "--data" for argument in rest)
    preset = chosen.preset or ("paper" if has_data or not runs_without_data else "demo")
    without_data = " (paper with --data, demo without)" if runs_without_data else ""
    return tyro.cli(
        experiment_type,
        prog=program,
        args=rest,
        default={"paper": paper, "demo": demo}[preset],
        description=f"{description}\n--preset paper|demo chooses the recipe; the defaults below are those of "
        f"the {preset} preset{without_data}.",
    )
