"""Two systems on the same mixtures: who is better, by how much, how surely, and on which mixtures most.

Systems are compared on the mixtures that both have scores of, and on no others: A - B of each mixture, then means and
their intervals by recording (`cocktail.metrics.intervals`), of these two trainings. A mixture without a score in either
(one of its references is silent, or nobody said where a source is) is left out of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.metrics.intervals import Recordings
from cocktail.storage import is_remote
from cocktail.studies.scored_run import ScoredRun
from cocktail.tasks.rows import MODEL, systems_of
from cocktail.tasks.scores import Score, Scoreboard, has_scores
from cocktail.types import UsageError


@dataclass(frozen=True, kw_only=True)
class Side:
    """A or B: a system of a run, and what there is to look at."""

    letter: str
    run: ScoredRun
    system: str
    classes: tuple[str, ...] = ()
    """Names of the model's classes, if they are known."""
    examples: str | None = None
    """The folder, within the report's, that holds pictures and sounds of the mixtures listed."""
    problem: str = ""
    """Why there is no such folder."""

    @classmethod
    def of(cls, letter: str, run: ScoredRun, chosen: str | None) -> Side:
        """The chosen system, or the run's own: neither a control nor another reading of its model.

        Raises UsageError if there is no such system or not exactly one.
        """
        systems = systems_of(run.results)
        own = systems_of(run.results, MODEL) if chosen is None else [chosen]
        if len(own) != 1 or own[0] not in systems:
            problem = f"{len(own)} systems of its own" if chosen is None else f"no scores of {chosen!r}"
            choices = ", ".join(repr(name) for name in systems)
            raise UsageError(f"{run.name} has {problem}: name one of {choices} by --systems")
        return cls(letter=letter, run=run, system=own[0])

    def links(self, mixture_id: str) -> str:
        """Markdown links to a mixture's picture and sounds, among the examples or else in what the run stored; empty if
        they are in neither."""
        stored = f"{self.run.stored}/examples"
        is_stored = not is_remote(stored) and Path(stored, f"{mixture_id}.png").exists()
        folder = self.examples or (stored if is_stored else None)
        target = f"{quote(folder)}/{quote(mixture_id)}" if folder else ""
        return f"{self.letter}: [picture]({target}.png) [sounds]({target}/)" if folder else ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A against B."""

    a: Side
    b: Side
    board: Scoreboard
    """How both results are read."""
    mixtures: pa.Table
    """The compared mixtures by id: `mixture_id`, `class_ids` (A's), and for each of the board's scores `<score>_a`,
    `<score>_b` and `<score>_difference`, in its unit, null where the mixture has none."""
    differences: pa.Table
    """A row each of the scores that a mixture has: `score`, `mean_a`, `mean_b`, `difference`, its 95 % interval's
    `low` and `high`, by recording, in its unit, null where `why_no_interval` says so, `share_a_better`, of the
    mixtures, and the number of `mixtures` and of their `recordings`, null if it is not known."""
    num_common: int
    """Mixtures in both results."""
    num_excluded: int
    """Mixtures in both results, but without a score in A's or in B's."""
    num_only_a: int
    """Mixtures in A's results alone."""
    num_only_b: int
    """Mixtures in B's results alone."""

    @property
    def scores(self) -> dict[str, Score]:
        """Scores that there are differences of, by name."""
        known = self.differences["score"].to_pylist()
        return {score.name: score for group in self.board.groups for score in group.scores if score.name in known}

    def score(self, name: str | None) -> Score:
        """The score of a name, or the headline of the mixtures of most sources. Raises UsageError if there is none."""
        headlines = [group.headline.name for group in self.board.groups if group.headline.name in self.scores]
        name = name or next(reversed(headlines), next(reversed(self.scores)))
        if name not in self.scores:
            raise UsageError(
                f"there is no score {name} of what is compared: give --score one of {', '.join(self.scores)}"
            )
        return self.scores[name]

    def extremes(self, score: str, count: int) -> tuple[pa.Table, pa.Table]:
        """The mixtures of the largest A - B, and those of the smallest among the others, the most extreme first."""
        known = self.mixtures.filter(self.mixtures[f"{score}_difference"].is_valid())
        ordered = known.sort_by([(f"{score}_difference", "descending"), ("mixture_id", "ascending")])
        backwards = range(len(ordered) - 1, max(count, len(ordered) - count) - 1, -1)
        return ordered.slice(0, count), ordered.take(pa.array(backwards, pa.int64()))


def compare(a: Side, b: Side) -> Comparison:
    """The difference of two systems over the mixtures that both are scored on.

    Raises UsageError if there are none, with the hashes of both test lists where they are known, and for results that
    have no score in common.
    """
    board = _common_board(a, b)
    of_a, of_b = (board.mixtures(side.run.results, side.system) for side in (a, b))
    common = set(of_a["mixture_id"].to_pylist()) & set(of_b["mixture_id"].to_pylist())
    if not common:
        hashes = ", ".join(
            f"{side.run.name} has {side.run.tags.get('test_list_hash', 'an unknown one')}" for side in (a, b)
        )
        raise UsageError(
            f"no mixture is scored in both; test_list_hash: {hashes}. Score both on one list, made with "
            "jobs/freeze_test_list.py, by --evaluation.test-list"
        )
    both = [table.filter(pc.field("mixture_id").isin(sorted(common))).sort_by("mixture_id") for table in (of_a, of_b)]
    scored = pc.and_(*(has_scores(board, table) for table in both))  # pyright: ignore[reportAttributeAccessIssue]
    left, right = (table.filter(scored) for table in both)
    if not len(left):
        raise UsageError(f"none of the {len(common)} mixtures of both has a score, for {board.why_none}")
    columns = {"mixture_id": left["mixture_id"], "class_ids": left["class_ids"]}
    differences = []
    for score in (score for group in board.groups for score in group.scores):
        name = score.name
        columns |= {f"{name}_a": left[name], f"{name}_b": right[name]}
        columns[f"{name}_difference"] = difference = pc.subtract(left[name], right[name])  # pyright: ignore[reportAttributeAccessIssue]
        there = difference.is_valid()  # one source has no SIR and no CAP
        values_a, values_b = (table[name].filter(there).to_numpy() for table in (left, right))
        if not len(values_a):
            continue
        recordings = Recordings(left["recordings"].filter(there).to_pylist())
        interval = score.difference_interval(values_a - values_b, recordings)
        differences.append(
            {
                "score": name,
                "mean_a": float(values_a.mean()),
                "mean_b": float(values_b.mean()),
                "difference": float((values_a - values_b).mean()),
                "low": interval and interval.low,
                "high": interval and interval.high,
                "why_no_interval": recordings.why_none,
                "share_a_better": float((values_a > values_b).mean()),
                "mixtures": len(values_a),
                "recordings": recordings.number,
            }
        )
    return Comparison(
        a=a,
        b=b,
        board=board,
        mixtures=pa.table(columns),
        differences=pa.Table.from_pylist(differences),
        num_common=len(common),
        num_excluded=len(common) - len(left),
        num_only_a=len(of_a) - len(common),
        num_only_b=len(of_b) - len(common),
    )


def _common_board(a: Side, b: Side) -> Scoreboard:
    """How the results of both are read. Raises UsageError if one's scores are not the other's."""
    boards = [side.run.board for side in (a, b)]
    if boards[0].task != boards[1].task:
        tasks = " and ".join(f"{side.run.name} of {board.task}" for side, board in zip((a, b), boards, strict=True))
        raise UsageError(f"results of different tasks cannot be compared: they are {tasks}")
    if boards[0].rules != boards[1].rules:
        rules = " and ".join(f"{side.run.name} by {board.rules}" for side, board in zip((a, b), boards, strict=True))
        raise UsageError(
            f"scores by different rules cannot be compared: they are {rules}. Score both by the same, with "
            "jobs/evaluate.py"
        )
    return boards[0].together(boards[1])
