"""What a paper's tables are: rows of settings and of printed scores, and which rows stand beside settings of ours.

The numbers are in `pipelines/papers`, a file a paper. A sweep records its paper as JSON, which its report reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cocktail.studies.trial import SYSTEM

PAPER_NAME = "paper.json"
"""Artifact of a sweep's run that holds the paper."""


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A line of a paper's table."""

    label: str
    model: str
    """Name of the model, as its job has it."""
    settings: Mapping[str, str]
    """What the line sets, by dotted path, as on a command line."""
    scores: tuple[float | None, ...] = ()
    """Scores that the paper prints, in its order, None for those that this line lacks; none for a line of ours that it
    does not have."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the paper's layout that says which setting a line is of."""

    header: str
    path: str
    words: Mapping[str, str] = field(default_factory=dict)
    """What the paper writes for a value, where that is not the value."""

    def cell(self, value: Any) -> str:
        return self.words.get(str(value), str(value))


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of settings and scores."""

    name: str
    """Name in the paper, as Table 3."""
    word: str
    """Name on a command line."""
    title: str
    columns: tuple[Column, ...] = ()
    rows: tuple[PaperRow, ...]
    common: Mapping[str, str] = field(default_factory=dict)
    """Settings of all lines beside their own: a trial of other ones stands beside none."""
    held: Mapping[str, str] = field(default_factory=dict)
    """Settings that a trial may leave alone, but not change to another value."""

    @property
    def paths(self) -> set[str]:
        """Dotted paths that the table speaks of: a trial that changes anything else is none of its."""
        return {path for row in self.rows for path in row.settings} | self.common.keys() | self.held.keys()

    @property
    def varied(self) -> set[str]:
        """Dotted paths that its lines differ in: those of its columns, and, in a table of systems, which one it is."""
        systems = {SYSTEM for row in self.rows if SYSTEM in row.settings}
        return systems | {column.path for column in self.columns}

    def row_of(self, changes: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
        """The place of the printed line that a trial stands beside, by what it changes and all of its settings, if
        there is one."""
        others = any(str(changes.get(path, value)) != value for path, value in self.held.items())
        if others or not changes.keys() <= self.paths:
            return None
        now = {**settings, **changes}
        for place, row in enumerate(self.rows):
            wanted = {**self.common, **row.settings}
            if row.scores and all(str(now.get(path)) == value for path, value in wanted.items()):
                return place
        return None

    @classmethod
    def of_record(cls, recorded: Mapping[str, Any]) -> PaperTable:
        """The table that a paper's record holds."""
        columns = tuple(Column(**column) for column in recorded["columns"])
        rows = tuple(PaperRow(**{**row, "scores": tuple(row["scores"])}) for row in recorded["rows"])
        return cls(**{**recorded, "columns": columns, "rows": rows})


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper's tables of one kind of scores."""

    title: str
    of: str
    """The mixtures that they are of."""
    printed: tuple[str, ...]
    """Names of the scores of a line."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """What the paper prints, by name, where ours may be of another threshold."""
    own: PaperTable
    """A line: the paper's own setting."""
    tables: tuple[PaperTable, ...]
    """Its ablations."""

    def to_record(self) -> dict[str, Any]:
        """The paper as values that JSON has."""
        return asdict(self)

    @classmethod
    def of_record(cls, recorded: Mapping[str, Any]) -> Paper:
        """The paper that `to_record` made values of."""
        tables = tuple(PaperTable.of_record(table) for table in recorded["tables"])
        own = PaperTable.of_record(recorded["own"])
        return cls(**{**recorded, "printed": tuple(recorded["printed"]), "own": own, "tables": tables})
