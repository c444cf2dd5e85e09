"""Numbers that papers print, as data, and which settings of ours they stand beside.

SGN: SDR, SIR and SAR in dB, of mixtures of two sources of MUSIC (Tables I, III and IV). AVGN: AP, IoU@0.5 and AUC of
solos of MUSIC, CAP, PIAP, CIoU@0.3 and AUC of its duets, in percent (Tables 1 to 4).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

DEPTH, ASSIGNMENT, VECTORS = "model.depth", "model.assignment", "model.source_vectors"
SWITCHES = frozenset({DEPTH, ASSIGNMENT, VECTORS})
"""What the papers' ablations set: a trial that changes anything else is none of a paper's."""


@dataclass(frozen=True)
class PaperRow:
    """A line of a paper's table."""

    settings: Mapping[str, Any]
    """What a trial has to be set to, by dotted path, to stand beside it."""
    scores: tuple[float, ...]
    """Those that the paper prints, in its order."""


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

SGN = Paper(
    title='Mo and Tian, "Semantic Grouping Network for Audio Source Separation"',
    of="mixtures of two sources of MUSIC",
    printed=("sdr", "sir", "sar"),
    own=SGN_TABLE_I,
    tables=(SGN_TABLE_III, SGN_TABLE_IV),
)

_AVGN_PROPOSED = (77.2, 58.1, 48.5, 50.6, 57.2, 32.5, 24.6)

AVGN_TABLES_1_2 = PaperTable(
    title="AVGN Tables 1 and 2, row AVGN", columns=(), rows=(PaperRow({DEPTH: 3, **_GROUPING}, _AVGN_PROPOSED),)
)

AVGN_TABLE_3 = PaperTable(
    title="AVGN Table 3: class tokens in the transformer (AVCT), grouping by class (AVG)",
    columns=(
        Column(
            header="AVCT",
            path=VECTORS,
            words={"pooled": "no", "tokens": "yes", "grouped_queries": "no", "grouped_tokens": "yes"},
        ),
        Column(
            header="AVG",
            path=VECTORS,
            words={"pooled": "no", "tokens": "no", "grouped_queries": "yes", "grouped_tokens": "yes"},
        ),
    ),
    rows=tuple(
        PaperRow({VECTORS: vectors, ASSIGNMENT: "soft"}, scores)
        for vectors, scores in (
            ("pooled", (71.5, 45.8, 41.2, 39.7, 43.1, 24.3, 21.3)),
            ("tokens", (75.2, 52.3, 45.1, 46.9, 51.8, 27.6, 22.5)),
            ("grouped_queries", (73.6, 48.2, 43.5, 42.8, 49.5, 25.3, 21.8)),
            ("grouped_tokens", _AVGN_PROPOSED),
        )
    ),
    held={DEPTH: 3},
)

AVGN_TABLE_4 = PaperTable(
    title="AVGN Table 4: depth of the transformers, kind of grouping",
    columns=(Column(header="depth", path=DEPTH), Column(header="grouping", path=ASSIGNMENT)),
    rows=(
        *(
            PaperRow({DEPTH: depth, **_GROUPING}, scores)
            for depth, scores in (
                (1, (75.8, 53.6, 45.7, 47.6, 53.1, 28.5, 23.2)),
                (3, _AVGN_PROPOSED),
                (6, (76.7, 57.5, 47.9, 50.1, 56.9, 32.1, 24.3)),
                (12, (76.3, 57.3, 47.6, 49.8, 56.7, 31.7, 24.1)),
            )
        ),
        PaperRow({DEPTH: 3, ASSIGNMENT: "hard", VECTORS: "grouped_tokens"}, (73.2, 47.6, 43.1, 42.5, 49.2, 24.8, 21.5)),
    ),
)

AVGN = Paper(
    title='Mo and Tian, "Audio-Visual Grouping Network for Sound Localization from Mixtures"',
    of="solos and duets of MUSIC",
    printed=(
        *("ap_1_sources", "iou_1_sources", "auc_1_sources"),
        *("cap_2_sources", "piap_2_sources", "ciou_2_sources", "auc_2_sources"),
    ),
    titles={"iou_1_sources": "IoU@0.5", "ciou_2_sources": "CIoU@0.3"},
    own=AVGN_TABLES_1_2,
    tables=(AVGN_TABLE_3, AVGN_TABLE_4),
)


def paper_with(scores: Collection[str]) -> Paper | None:
    """The paper that prints some of these scores, by name, if there is one."""
    return next((paper for paper in (SGN, AVGN) if not set(paper.printed).isdisjoint(scores)), None)
