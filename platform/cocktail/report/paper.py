"""Numbers that papers print, as data, and which settings of ours they stand beside.

Scores are in dB: SDR, SIR and SAR of mixtures of two sources of MUSIC (Mo and Tian, "Semantic Grouping Network for
Audio Source Separation", Tables I, III and IV).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SGN_PAPER = 'Mo and Tian, "Semantic Grouping Network for Audio Source Separation"'
PRINTED = ("sdr", "sir", "sar")
DEPTH, ASSIGNMENT, VECTORS = "model.depth", "model.assignment", "model.source_vectors"
SWITCHES = frozenset({DEPTH, ASSIGNMENT, VECTORS})
"""What the paper's ablations set: a trial that changes anything else is none of the paper's."""


@dataclass(frozen=True)
class PaperRow:
    """A line of a paper's table."""

    settings: Mapping[str, Any]
    """What a trial has to be set to, by dotted path, to stand beside it."""
    scores: tuple[float, float, float]
    """PRINTED, in dB."""


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

    title: str
    columns: tuple[Column, ...]
    rows: tuple[PaperRow, ...]
    held: Mapping[str, Any] = field(default_factory=dict)
    """Settings that a trial may leave alone, but not change to another value."""

    def row_of(self, changes: Mapping[str, Any], settings: Mapping[str, Any]) -> int | None:
        """The place of the line that a trial stands beside, by what it changes and all of its settings, if any."""
        others = any(str(changes.get(path, value)) != str(value) for path, value in self.held.items())
        if others or not changes.keys() <= SWITCHES:
            return None
        now = {**settings, **changes}
        for place, row in enumerate(self.rows):
            if all(str(now.get(path)) == str(value) for path, value in row.settings.items()):
                return place
        return None


_PROPOSED = (5.20, 10.81, 10.67)
_NEITHER = {"pooled_slots": "no", "static_class": "control"}
_GROUPING = {ASSIGNMENT: "soft", VECTORS: "grouped_tokens"}

SGN_TABLE_I = PaperTable(title="SGN Table I, row SGN", columns=(), rows=(PaperRow({DEPTH: 6, **_GROUPING}, _PROPOSED),))

SGN_TABLE_III = PaperTable(
    title="SGN Table III: class tokens in the transformer (SCT), grouping by class (CAG)",
    columns=(
        Column(
            header="SCT",
            path=VECTORS,
            words=_NEITHER | {"tokens": "yes", "grouped_queries": "no", "grouped_tokens": "yes"},
        ),
        Column(
            header="CAG",
            path=VECTORS,
            words=_NEITHER | {"tokens": "no", "grouped_queries": "yes", "grouped_tokens": "yes"},
        ),
    ),
    rows=tuple(
        PaperRow({VECTORS: vectors, ASSIGNMENT: "soft"}, scores)
        for vectors, scores in (
            ("pooled_slots", (1.51, 5.92, 6.21)),
            ("tokens", (4.57, 8.36, 9.55)),
            ("grouped_queries", (3.32, 7.73, 8.56)),
            ("grouped_tokens", _PROPOSED),
        )
    ),
    held={DEPTH: 6},
)

SGN_TABLE_IV = PaperTable(
    title="SGN Table IV: depth of the transformer, kind of grouping",
    columns=(Column(header="depth", path=DEPTH), Column(header="grouping", path=ASSIGNMENT)),
    rows=(
        *(
            PaperRow({DEPTH: depth, **_GROUPING}, scores)
            for depth, scores in (
                (1, (4.32, 8.18, 8.07)),
                (3, (5.14, 10.80, 10.51)),
                (6, _PROPOSED),
                (12, (5.18, 10.65, 10.59)),
            )
        ),
        PaperRow({DEPTH: 6, ASSIGNMENT: "hard", VECTORS: "grouped_tokens"}, (3.25, 6.53, 6.36)),
    ),
)

SGN_TABLES = (SGN_TABLE_III, SGN_TABLE_IV)
