"""Results that were recorded one after the other, by other machines or on other days, in one table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.studies.origins import Origin, require_one_owner
from cocktail.studies.recorded_results import RecordedResults
from cocktail.tasks.rows import CONTROL, MODEL
from cocktail.types import UsageError

_OF_A_RUN = {"seed", "run", "date", "machine", "seconds", "in_best_order"}
"""What runs of one setting need not have in common."""
_GRID = re.compile(r"(--over[ =][^\s=]+)=(\S+)")
"""What a sweep goes over, of which each of its trials has one value."""


def joined(kept: RecordedResults, more: RecordedResults) -> RecordedResults:
    """Results with those of further runs: other seeds of their settings, or other settings. Controls are as they were.

    Raises UsageError unless both are scored alike on the same mixtures, with the same scores and readings kept, and
    runs of one setting differ in their seed alone, as far as what is recorded tells: commit, torch, settings, steps,
    data and initial weights. Of results of earlier versions it is the commands that tell the settings; two sweeps'
    are alike if what they go over has a value in common, and which of its trials a run is they do not tell.
    """
    if (kept.groups, kept.unit, kept.scores.schema) != (more.groups, more.unit, more.scores.schema):
        raise UsageError("what is there keeps other scores: give the same --scores, or record all runs anew")
    if _mixtures(kept) != _mixtures(more) or kept.origins[0].data != more.origins[0].data:
        raise UsageError("what is there is scored on other mixtures: score all runs on one list")
    _require_seeds(kept.origins, more.origins)
    require_one_owner(sorted(_labels(kept)) + sorted(_labels(more)))
    for setting in set(kept.settings) & set(more.settings):
        if (there := _systems(kept, setting)) != (new := _systems(more, setting)):
            raise UsageError(
                f"of {setting} {', '.join(sorted(there ^ new))} is kept on one side alone: give the same --systems, or "
                "record all runs anew"
            )
    first = len(kept.origins)
    added = more.scores.filter(pc.not_equal(more.scores["kind"], CONTROL))  # pyright: ignore[reportAttributeAccessIssue]
    run = pc.add(added["run"], pa.scalar(first, pa.int32()))  # pyright: ignore[reportAttributeAccessIssue]
    added = added.set_column(added.column_names.index("run"), "run", run)
    return replace(
        kept, origins=(*kept.origins, *more.origins), scores=pa.concat_tables([kept.scores, added]).combine_chunks()
    )


def _mixtures(results: RecordedResults) -> set[str]:
    models = results.scores.filter(pc.equal(results.scores["kind"], MODEL))  # pyright: ignore[reportAttributeAccessIssue]
    return set(models["mixture_id"].to_pylist())


def _systems(results: RecordedResults, setting: str) -> set[str]:
    """The model of a setting and its readings that are kept."""
    of_setting = [number for number, origin in enumerate(results.origins) if origin.setting == setting]
    rows = results.scores.filter(pc.is_in(results.scores["run"], pa.array(of_setting, pa.int32())))  # pyright: ignore[reportAttributeAccessIssue]
    return set(rows.filter(pc.not_equal(rows["kind"], CONTROL))["system"].to_pylist())  # pyright: ignore[reportAttributeAccessIssue]


def _require_seeds(known: Sequence[Origin], added: Sequence[Origin]) -> None:
    """Raise UsageError for a run that is there already, or that is no other seed of the setting that it names."""
    seeds = {(origin.setting, origin.seed) for origin in known}
    for origin in added:
        if (origin.setting, origin.seed) in seeds:
            raise UsageError(f"seed {origin.seed} of {origin.setting} is there already: leave out {origin.run}")
        there = (each for each in known if each.setting == origin.setting)
        if differing := dict.fromkeys(name for each in there for name in _differing(each, origin)):
            raise UsageError(
                f"{origin.run} differs from the runs of {origin.setting} that are there in {', '.join(differing)}: "
                "runs of one setting differ in their seed alone; give it a setting of its own, as in SETTING=RUN"
            )


def _labels(results: RecordedResults) -> set[tuple[str, str, str]]:
    """What systems are called, with their kinds and settings."""
    columns = (results.scores[name].to_pylist() for name in ("system", "kind", "run"))
    return {(label, kind, results.origins[number].setting) for label, kind, number in zip(*columns, strict=True)}


def _differing(one: Origin, other: Origin) -> Iterator[str]:
    """What two runs differ in of what those of one setting have in common."""
    if one.settings_hash and other.settings_hash:
        yield from ["settings"] if one.settings_hash != other.settings_hash else []
    elif not _are_alike(one.commands_of_any_seed, other.commands_of_any_seed):
        yield "commands"
    of_other = asdict(other)
    for name, value in asdict(one).items():
        if name not in _OF_A_RUN | {"commands", "settings_hash"} and value != of_other[name]:
            yield name


def _are_alike(commands: Sequence[str], others: Sequence[str]) -> bool:
    """Whether commands differ at most in what their sweeps go over besides values that they have in common."""
    if [_GRID.sub(r"\1", command) for command in commands] != [_GRID.sub(r"\1", other) for other in others]:
        return False
    grids, of_others = (
        [set(values.split(",")) for command in each for _, values in _GRID.findall(command)]
        for each in (commands, others)
    )
    return all(one & other for one, other in zip(grids, of_others, strict=True))
