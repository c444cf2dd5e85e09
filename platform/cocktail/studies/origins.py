"""What made the results of runs, and whether runs may stand side by side as settings and seeds of one table."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cocktail.config.identity import decides_weights
from cocktail.studies.scored_run import LENGTHS, ScoredRun
from cocktail.tasks.rows import CONTROL, MODEL, READING, readings_of, rows_of, systems_of
from cocktail.tasks.scores import Scoreboard
from cocktail.types import UsageError

_COMMIT = re.compile(r"[0-9a-f]{40}")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_PARTS = ("model.", "mixing.", "training.")
"""Parts of an experiment that runs of one setting have in common, but for what decides nothing that is learned."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run's results come from. Raises UsageError where it lacks what it takes to make them again."""

    setting: str
    """Name of what is compared: runs of one setting differ in nothing but their seed."""
    seed: str
    run: str
    """The run's name in MLflow."""
    commit: str
    """40 hexadecimal digits: the one that trained and scored."""
    commands: tuple[str, ...]
    """Command of the training, then of the evaluation if that was one of its own."""
    torch: str
    """Version."""
    date: str
    """Day on which the run, or the first of its stages, began, as in 2026-01-31."""
    machine: str
    """Where it ran, in words."""
    steps: int
    """Training steps until the weights that were tested; of a system that learns in stages, of all of them, as time."""
    batch_size: int
    """Mixtures a step."""
    seconds: float
    """Time of the run's own parts, from reading the data to the report, without pauses between starts."""
    data: str
    """Hash of the data that it was tested on."""
    trained_on: str = ""
    """Hash of the data that it was trained on; empty in results of earlier versions, which do not say."""
    initial_weights: str = ""
    """What training, or its first stage, started from, in words, with the hash of each file; empty in results of
    earlier versions."""
    settings_hash: str = ""
    """Hash of the settings that decide what is learned and how it is scored, but for the seed; empty in results of
    earlier versions."""
    in_best_order: Mapping[str, float] = field(default_factory=dict)
    """Share of the mixtures in which estimates are taken in the best order, by label, of the model and its readings;
    empty in results of earlier versions."""

    def __post_init__(self) -> None:
        words = {name: getattr(self, name) for name in ("setting", "seed", "run", "torch", "machine", "data")}
        lacking = [name for name, value in words.items() if not isinstance(value, str) or not value.strip()]
        lacking += [] if re.fullmatch(_COMMIT, str(self.commit)) else ["commit"]
        lacking += [] if re.fullmatch(_DATE, str(self.date)) else ["date"]
        lacking += [] if self.commands and all(map(str.strip, self.commands)) else ["command"]
        lacking += [] if self.seconds > 0 else ["wall time"]
        if lacking:
            raise UsageError(
                f"the results of run {self.run!r} cannot be kept, for nobody could make them again: not known, or not "
                f"as committed, is its {', '.join(lacking)} (commit: {self.commit!r})"
            )

    @property
    def commands_of_any_seed(self) -> tuple[str, ...]:
        """The commands with SEED in place of the seed, SEEDS in place of those of a sweep, and without its name."""
        seed = re.compile(rf"(--seed[ =]){re.escape(self.seed)}(?=\s|$)")
        seeds = re.compile(r"--seeds(?:[ =]\d+)+(?=\s|$)")
        name = re.compile(r" --sweep-name[ =]\S+")
        return tuple(
            name.sub("", seeds.sub("--seeds SEEDS", seed.sub(r"\1SEED", command))) for command in self.commands
        )


def settings_of(origins: Sequence[Origin]) -> list[str]:
    """The settings, in the order of their runs."""
    return list(dict.fromkeys(origin.setting for origin in origins))


def system_label(origin: Origin, system: str, kind: str, reading: str | None) -> str:
    """What a run's system is called beside those of other runs: models and their readings by the setting."""
    return {MODEL: origin.setting, READING: f"{origin.setting}, {reading}", CONTROL: system}[kind]


def require_comparable(runs: Sequence[tuple[Origin, ScoredRun]]) -> Scoreboard:
    """How all runs are read.

    Raises UsageError if they are of other mixtures, rules or tasks, if a setting's runs do not differ in their seed
    alone, or if two systems would have one name.
    """
    if not runs:
        raise UsageError("there are no runs: give one or more")
    board = runs[0][1].board
    first = _mixture_ids(runs[0][1])
    of_setting: dict[str, tuple[Origin, ScoredRun]] = {}
    seeds: set[tuple[str, str]] = set()
    for origin, run in runs:
        other = run.board
        if (other.task, other.rules) != (board.task, board.rules):
            raise UsageError(f"{run.name} and {runs[0][1].name} are scored by different rules, or on different tasks")
        if _mixture_ids(run) != first or origin.data != runs[0][0].data:
            raise UsageError(
                f"{run.name} and {runs[0][1].name} are scored on different mixtures: score both on one list, by "
                "--evaluation.test-list"
            )
        if (origin.setting, origin.seed) in seeds:
            raise UsageError(f"two runs of {origin.setting} have the seed {origin.seed}: give one of them")
        seeds.add((origin.setting, origin.seed))
        _require_one_setting(of_setting.setdefault(origin.setting, (origin, run)), (origin, run))
        board = board.together(other)
    _require_distinct_names(runs)
    return board


def _mixture_ids(run: ScoredRun) -> list[str]:
    return sorted(rows_of(run.results, "system", [run.own_system])["mixture_id"].unique().to_pylist())


def _require_one_setting(one: tuple[Origin, ScoredRun], other: tuple[Origin, ScoredRun]) -> None:
    """Raise UsageError if two runs differ in more than their seed, with the names of what they differ in."""
    known, of_other = _made_of(*one), _made_of(*other)
    differing = [name for name in dict.fromkeys([*known, *of_other]) if known.get(name) != of_other.get(name)]
    if differing:
        raise UsageError(
            f"{one[0].run} and {other[0].run}, runs of {one[0].setting}, differ in {', '.join(differing)}: runs of one "
            "setting differ in their seed alone; give others a setting of their own, as in SETTING=RUN"
        )


def _made_of(origin: Origin, run: ScoredRun) -> dict[str, str]:
    """What runs of one setting have in common, by its name."""
    made_by = {"commit": origin.commit, "torch": origin.torch}
    made_of = {"training data": origin.trained_on, "initial weights": origin.initial_weights}
    return {**_settings(run), **made_of, **made_by}


def _settings(run: ScoredRun) -> dict[str, str]:
    """The settings that decide what is learned, but for the seed, and how long what is tested is.

    Those of a training stand under their own paths, and under `trained.` where the run is an evaluation: its own
    `mixing.` is that of the test, of which the lengths are compared.
    """
    trained = {path.removeprefix("trained."): text for path, text in run.params.items() if path.startswith("trained.")}
    settings = trained or run.params
    decisive = {path: settings[path] for path in sorted(settings) if path.startswith(_PARTS) and decides_weights(path)}
    lengths = {f"{name} of the test": run.params.get(f"mixing.{name}", "") for name in LENGTHS}
    return {**decisive, **lengths, "start_parts": settings.get("start_parts", "[]")}


def settings_hash(run: ScoredRun) -> str:
    """Sixteen hexadecimal digits of the settings of a run, and of the rules that it is scored by."""
    told = {**_settings(run), "rules": repr(run.board.rules)}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _require_distinct_names(runs: Sequence[tuple[Origin, ScoredRun]]) -> None:
    """Raise UsageError if a name would stand for two systems: a model or reading of a setting, or a control."""
    labels: list[tuple[str, str, str]] = []
    for origin, run in runs:
        readings = readings_of(run.results)
        for kind in (MODEL, READING, CONTROL):
            systems = systems_of(run.results, kind)
            labels += [(system_label(origin, name, kind, readings.get(name)), kind, origin.setting) for name in systems]
    require_one_owner(labels)


def require_one_owner(labels: Iterable[tuple[str, str, str]]) -> None:
    """Raise UsageError if a label, given with its kind and setting, is that of two systems. Controls are of all
    settings alike."""
    owners: dict[str, str] = {}
    for label, kind, setting in labels:
        owner = "a control" if kind == CONTROL else f"a {kind} of the setting {setting!r}"
        if owners.setdefault(label, owner) != owner:
            raise UsageError(
                f"{label!r} would be the name of two systems, {owners[label]} and {owner}: give the setting another "
                "name, as in SETTING=RUN"
            )
