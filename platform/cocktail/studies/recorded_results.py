"""Results that a table of a document is made of, kept in the repository: scores a mixture, and what made them.

NAME.parquet holds the scores of each system by run and mixture, NAME.json the rest: which run had which setting and
seed, at which commit, by which command, where, when and for how long. `cocktail.studies.results_tables` makes tables of
them.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cocktail.foreign.bounded import UntrustworthyError, parse_parquet
from cocktail.studies.origins import Origin, require_comparable, settings_hash, settings_of, system_label
from cocktail.studies.scored_run import ScoredRun
from cocktail.tasks.rows import CONTROL, MODEL, READING, readings_of, rows_of, systems_of
from cocktail.tasks.scores import Score, Scoreboard, ScoreGroup
from cocktail.types import UsageError

MAX_BYTES = 400_000
"""Largest file of scores: what is kept in a repository is kept for good."""
_VERSION = 1
_SCORES_OF = pa.schema(
    [
        ("run", pa.int32()),
        ("system", pa.string()),
        ("kind", pa.string()),
        ("mixture_id", pa.string()),
        ("num_sources", pa.int32()),
        ("recordings", pa.list_(pa.string())),
    ]
)
"""What stands before the scores in a row of NAME.parquet. `run` counts the origins; `recordings` are those of the
mixture's sources, null where nobody said."""


@dataclass(frozen=True, kw_only=True)
class RecordedResults:
    """Runs of one or more settings and seeds, scored on the same mixtures."""

    origins: tuple[Origin, ...]
    reference: str
    """The setting that others are compared with."""
    unit: str
    """The unit of all scores."""
    about: str = ""
    """What a mixture's scores are, and what doing nothing is worth, in a sentence or two; empty in results of earlier
    versions, which do not say."""
    groups: tuple[ScoreGroup, ...]
    scores: pa.Table
    """`run`, `system`, `kind`, `mixture_id`, `num_sources`, `recordings`, and a float32 column for each score, null
    where a mixture has none. Models and their readings are named by their setting; controls are of one run alone."""

    @classmethod
    def of(
        cls,
        runs: Sequence[tuple[Origin, ScoredRun]],
        reference: str | None = None,
        *,
        scores: Sequence[str] = (),
        headlines: Sequence[str] = (),
        systems: Sequence[str] = (),
        elsewhere: Collection[str] = (),
    ) -> RecordedResults:
        """Results of runs; the first one's setting is the reference, if none is named: a setting, or a control.

        `scores` and `systems` say which to keep besides each group's headline and the models themselves: systems by a
        reading's name among those of its model or a control's; empty is all. A score among `headlines` is that of its
        group. Controls are those of the first run of the reference, or of all. Raises UsageError for runs that are not
        to be compared, or scores or systems that they lack; not for systems `elsewhere`, which runs have that these are
        to join.
        """
        board = require_comparable(runs)
        origins = tuple(
            replace(
                origin,
                settings_hash=settings_hash(run),
                in_best_order=_in_best_order(origin, run, board),
            )
            for origin, run in runs
        )
        reference = origins[0].setting if reference is None else reference
        settings, controls = settings_of(origins), systems_of(runs[0][1].results, CONTROL)
        if reference not in (*settings, *controls):
            raise UsageError(
                f"no run is of the reference {reference}: settings are {', '.join(settings)}; controls are "
                f"{', '.join(controls)}"
            )
        groups = _chosen_groups(board, scores, headlines)
        of_controls = [origin.setting for origin in origins].index(reference) if reference in settings else 0
        systems = (*systems, reference) if systems and reference not in settings else systems
        chosen = [
            _scores_of(number, origin, run, board, [*([CONTROL] if number == of_controls else []), MODEL, READING])
            for number, (origin, run) in enumerate(runs)
        ]
        table = pa.concat_tables(table for tables in chosen for table in tables)
        columns = [*_SCORES_OF.names, *(score.name for group in groups for score in group.scores)]
        return cls(
            origins=origins,
            reference=reference,
            unit=board.unit,
            about=board.about,
            groups=groups,
            scores=_chosen_systems(table, systems, elsewhere).select(list(dict.fromkeys(columns))),
        )

    @property
    def settings(self) -> list[str]:
        """The settings, in the order of their runs."""
        return settings_of(self.origins)

    @property
    def kept(self) -> set[str]:
        """Names of the readings and controls among the systems."""
        rows = zip(*(self.scores[name].to_pylist() for name in ("run", "system", "kind")), strict=True)
        return {label.removeprefix(f"{self.origins[run].setting}, ") for run, label, kind in rows if kind != MODEL}

    def write(self, folder: Path, name: str) -> None:
        """Write NAME.json and NAME.parquet into a folder. Raises UsageError for scores that take too much room."""
        sink = pa.BufferOutputStream()
        pq.write_table(self.scores, sink, compression="snappy")
        data = sink.getvalue()
        if data.size > MAX_BYTES:
            raise UsageError(
                f"the scores of {name} take {data.size} bytes, and {MAX_BYTES} is the most: keep fewer, by --scores or "
                "--systems"
            )
        about = {
            "version": _VERSION,
            "reference": self.reference,
            "unit": self.unit,
            "about": self.about,
            "groups": [_group_to_json(group) for group in self.groups],
            "runs": [asdict(origin) for origin in self.origins],
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.parquet").write_bytes(data.to_pybytes())
        (folder / f"{name}.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, name: str) -> RecordedResults:
        """What `write` wrote. Raises UsageError if it is not there, damaged, or lacks what made the results."""
        path = folder / f"{name}.json"
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            scores = parse_parquet((folder / f"{name}.parquet").read_bytes())
            if about["version"] != _VERSION:
                raise UsageError(f"{path} is of version {about['version']}, and {_VERSION} is read: record it again")
            groups = tuple(map(_group_from_json, about["groups"]))
            _require_columns(scores, groups)
            return cls(
                origins=tuple(Origin(**{**run, "commands": tuple(run["commands"])}) for run in about["runs"]),
                reference=about["reference"],
                unit=about["unit"],
                about=about.get("about", ""),
                groups=groups,
                scores=scores,
            )
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error
        except FileNotFoundError as error:
            raise UsageError(f"there is no {error.filename}: make it with jobs/record_results.py") from error
        except (ValueError, TypeError, KeyError, AttributeError, UntrustworthyError) as error:
            raise UsageError(f"{path} and its scores cannot be read: {error!r}; record them again") from error


def _require_columns(scores: pa.Table, groups: Sequence[ScoreGroup]) -> None:
    wanted = {field.name: field.type for field in _SCORES_OF}
    wanted |= {score.name: pa.float32() for group in groups for score in group.scores}
    if lacking := [name for name, type_ in wanted.items() if scores.schema.field(name).type != type_]:
        raise UsageError(f"columns of its scores are of other types: {', '.join(lacking)}; record them again")


def _chosen_groups(board: Scoreboard, scores: Sequence[str], headlines: Sequence[str]) -> tuple[ScoreGroup, ...]:
    known = [score.name for group in board.groups for score in group.scores]
    if unknown := [name for name in (*scores, *headlines) if name not in known]:
        raise UsageError(f"there is no score {', '.join(unknown)}: scores are {', '.join(known)}")
    groups = []
    for group in board.groups:
        headline = next((score for score in group.scores if score.name in headlines), group.headline)
        kept = [score for score in group.scores if not scores or score.name in scores or score == headline]
        ordered = sorted(kept, key=lambda score: score != headline)
        groups.append(ScoreGroup(scores=tuple(ordered), headline=headline, num_sources=group.num_sources))
    return tuple(groups)


def _chosen_systems(scores: pa.Table, systems: Sequence[str], elsewhere: Collection[str]) -> pa.Table:
    if not systems:
        return scores.drop_columns(["reading"])
    short = pc.coalesce(scores["reading"], scores["system"])  # pyright: ignore[reportAttributeAccessIssue]
    if unknown := set(systems) - set(short.to_pylist()) - set(elsewhere):
        known = ", ".join(repr(name) for name in dict.fromkeys(short.to_pylist()))
        raise UsageError(f"there is no system {', '.join(sorted(unknown))}: systems are {known}")
    is_model = pc.equal(scores["kind"], MODEL)  # pyright: ignore[reportAttributeAccessIssue]
    is_chosen = pc.is_in(short, pa.array(list(systems), pa.string()))  # pyright: ignore[reportAttributeAccessIssue]
    return scores.filter(pc.or_(is_model, is_chosen)).drop_columns(["reading"])  # pyright: ignore[reportAttributeAccessIssue]


def _scores_of(number: int, origin: Origin, run: ScoredRun, board: Scoreboard, kinds: Sequence[str]) -> list[pa.Table]:
    """A table a system of some kinds, with the name of its reading beside it, if it is one."""
    tables = []
    names = list(dict.fromkeys(score.name for group in board.groups for score in group.scores))
    for system in [system for kind in kinds for system in systems_of(run.results, kind)]:  # pyright: ignore[reportArgumentType]
        rows = rows_of(run.results, "system", [system])
        kind, reading = rows["kind"][0].as_py(), rows["reading"][0].as_py()
        mixtures = board.mixtures(run.results, system)
        label = system_label(origin, system, kind, reading)
        columns = {
            "run": pa.array([number] * len(mixtures), pa.int32()),
            "system": pa.array([label] * len(mixtures), pa.string()),
            "kind": pa.array([kind] * len(mixtures), pa.string()),
            "mixture_id": mixtures["mixture_id"],
            "num_sources": mixtures["num_sources"].cast(pa.int32()),
            "recordings": mixtures["recordings"].cast(pa.list_(pa.string())),
            "reading": pa.array([reading] * len(mixtures), pa.string()),
            **{name: mixtures[name].cast(pa.float32()) for name in names},
        }
        tables.append(pa.table(columns))
    return tables


def _in_best_order(origin: Origin, run: ScoredRun, board: Scoreboard) -> dict[str, float]:
    """Share of the mixtures that are taken in the best order, by label, of the model and its readings."""
    readings = readings_of(run.results)
    labels = {system: system_label(origin, system, MODEL, None) for system in systems_of(run.results, MODEL)}
    labels |= {system: system_label(origin, system, READING, reading) for system, reading in readings.items()}
    return {label: board.share_in_best_order(run.results, system) for system, label in labels.items()}


def _group_to_json(group: ScoreGroup) -> dict[str, Any]:
    scores = [
        {each.name: getattr(score, each.name) for each in fields(score) if _is_told(score, each.name, each.default)}
        for score in group.scores
    ]
    return {"scores": scores, "headline": group.headline.name, "num_sources": group.num_sources}


def _is_told(score: Score, name: str, default: Any) -> bool:
    return default is MISSING or getattr(score, name) != default


def _group_from_json(told: Mapping[str, Any]) -> ScoreGroup:
    scores = tuple(Score(**{name: _from_json(value) for name, value in score.items()}) for score in told["scores"])
    (headline,) = (score for score in scores if score.name == told["headline"])
    return ScoreGroup(scores=scores, headline=headline, num_sources=told["num_sources"])


def _from_json(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
