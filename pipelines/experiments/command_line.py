"""The command line of a job that trains."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import tyro

from cocktail.cluster.connection import one_line_errors
from cocktail.config.experiment import Experiment
from cocktail.types import UsageError
from pipelines.experiments.dry_run import tell
from pipelines.experiments.planned import PlannedRun
from pipelines.experiments.run import run

DRY_RUN = "--dry-run"


def main(
    experiment_type: Any,
    *,
    paper: Experiment,
    demo: Experiment,
    description: str | None,
    embedded: bool = False,
) -> None:
    """Parse the command line over a preset, run the experiment, and turn a user's mistake into one line.

    `embedded` says that the embedded corpus stands in for data that is not given.
    """
    with one_line_errors():
        arguments = [argument for argument in sys.argv[1:] if argument != DRY_RUN]
        experiment = parse(experiment_type, arguments, paper=paper, demo=demo, description=description)
        if experiment.data is None and not embedded:
            raise UsageError(f"no data: give --data SHARDS ({Path(sys.argv[0]).name} --help says what makes them)")
        if len(arguments) < len(sys.argv[1:]):
            print(tell(PlannedRun.of(experiment)))
        else:
            run(experiment)


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
        f"the {preset} preset (paper with --data, demo without).\n{DRY_RUN} takes a few steps, says what the run would "
        "do, need and take, and ends.",
    )
