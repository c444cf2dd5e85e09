"""Two systems on the same mixtures: who is better, by how much, how surely, and on which mixtures most.

Systems are compared on the mixtures that both have scores of, and on no others: A - B of each mixture, then means and
a bootstrap over mixtures. A mixture without a score in either (one of its references is silent, or nobody said where a
source is) is left out of both.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from torch import Tensor

from cocktail.metrics.bootstrap import paired_bootstrap
from cocktail.report.markdown import markdown_table
from cocktail.storage import is_remote
from cocktail.studies.scored_run import LoadTrained, ReadMixtures, ScoredRun, load_model, read_scored
from cocktail.tasks.choice import is_control, own_systems, together
from cocktail.tasks.localization.examples import localize_examples, store_example
from cocktail.tasks.rows import class_name
from cocktail.tasks.scores import Score, Scoreboard, has_scores
from cocktail.tasks.separation.examples import store_examples
from cocktail.types import Localizer, MixtureBatch, Query, Separation, Separator, UsageError

_TESTED_ON = (
    "mixing.num_sources",
    "mixing.min_sources",
    *(f"evaluation.{name}" for name in ("split", "arrangement", "num_mixtures", "pairs", "crop", "test_list", "seed")),
)
"""Settings that decide which test mixtures there are, beside those of the checkpoint."""
_LISTED = ("mixture", "classes", "A", "B", "A - B", "look and listen")


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
    """Why there is none."""

    @classmethod
    def of(cls, letter: str, run: ScoredRun, chosen: str | None) -> Side:
        """The chosen system, or the run's own: neither a control nor, with a comma, another reading of its model.

        Raises UsageError if there is no such system or not exactly one.
        """
        systems = run.results["system"].unique().to_pylist()
        own = own_systems(run.results) if chosen is None else [chosen]
        if len(own) != 1 or own[0] not in systems:
            found = f"{len(own)} systems of its own" if chosen is None else f"no scores of {chosen!r}"
            choices = ", ".join(repr(name) for name in systems)
            raise UsageError(f"{run.name} has {found}: give --system-{letter.lower()} one of {choices}")
        return cls(letter=letter, run=run, system=own[0])

    def links(self, mixture_id: str) -> str:
        """To a mixture's picture and sounds: among the examples, or else in what the run stored; none if neither."""
        stored = f"{self.run.stored}/examples"
        is_stored = not is_remote(stored) and Path(stored, f"{mixture_id}.png").exists()
        folder = self.examples or (stored if is_stored else None)
        target = f"{quote(folder)}/{mixture_id}" if folder else ""
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
    `low` and `high` (null for one mixture), in its unit, and `share_a_better`, of the mixtures."""
    num_common: int
    """Mixtures in both results."""
    num_excluded: int
    """Of these, the ones without a score in either."""
    num_only_a: int
    num_only_b: int

    @property
    def scores(self) -> dict[str, Score]:
        """Those that there are differences of, by name."""
        known = self.differences["score"].to_pylist()
        return {score.name: score for group in self.board.groups for score in group.scores if score.name in known}

    def score(self, name: str | None) -> Score:
        """The one of a name, or the headline of the mixtures of most sources. Raises UsageError if there is none."""
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
    for score in (score.name for group in board.groups for score in group.scores):
        columns |= {f"{score}_a": left[score], f"{score}_b": right[score]}
        columns[f"{score}_difference"] = difference = pc.subtract(left[score], right[score])  # pyright: ignore[reportAttributeAccessIssue]
        there = difference.is_valid()  # one source has no SIR and no CAP
        values_a, values_b = (table[score].filter(there).to_numpy() for table in (left, right))
        if not len(values_a):
            continue
        interval = paired_bootstrap(values_a - values_b) if len(values_a) > 1 else None
        differences.append(
            {
                "score": score,
                "mean_a": float(values_a.mean()),
                "mean_b": float(values_b.mean()),
                "difference": float((values_a - values_b).mean()),
                "low": interval and interval.low,
                "high": interval and interval.high,
                "share_a_better": float((values_a > values_b).mean()),
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
    if boards[0].kind != boards[1].kind:
        told = " and ".join(f"{side.run.name} of {board.kind}" for side, board in zip((a, b), boards, strict=True))
        raise UsageError(f"results of different kinds cannot be compared: they are {told}")
    if boards[0].rules != boards[1].rules:
        told = " and ".join(f"{side.run.name} by {board.rules}" for side, board in zip((a, b), boards, strict=True))
        raise UsageError(
            f"scores by different rules cannot be compared: they are {told}. Score both by the same, with "
            "jobs/evaluate.py"
        )
    return together(boards)


def comparison_figure(comparison: Comparison, name: str) -> Figure:
    """Each mixture's score by A against that by B, and how the differences are distributed."""
    score = comparison.score(name)
    known = comparison.mixtures.filter(comparison.mixtures[f"{name}_difference"].is_valid())
    a, b, difference = (known[f"{name}_{part}"].to_numpy() for part in ("a", "b", "difference"))
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    ends = [min(a.min(), b.min()), max(a.max(), b.max())]
    left.plot(ends, ends, color="0.5", linewidth=1)
    left.scatter(b, a, s=14, alpha=0.6, linewidths=0)
    left.set(
        xlabel=f"{score.label} of B: {comparison.b.system} ({score.unit})",
        ylabel=f"{score.label} of A: {comparison.a.system} ({score.unit})",
        title=f"{len(a)} mixtures; above the line A is better",
        aspect="equal",
    )
    right.hist(difference, bins=40)
    right.axvline(0, color="0.5", linewidth=1)
    right.axvline(difference.mean(), color="C1", label=f"mean {score.cell(difference.mean())} {score.unit}")
    right.set(xlabel=f"A - B of {score.label} ({score.unit})", ylabel="mixtures", title="differences")
    right.legend()
    return figure


@dataclass(frozen=True)
class Reading:
    """A trained separator, read as a scored system was: as it is, or by one of its alternatives."""

    separator: Separator
    system: str
    """As results name it: the model's name, and behind a comma that of the alternative."""

    def __call__(self, batch: MixtureBatch) -> dict[str, Tensor]:
        return self.separator(batch)

    def separate(self, mixture: Tensor, query: Query) -> Separation:
        separation = self.separator.separate(mixture, query)
        _, _, alternative = self.system.partition(", ")
        return separation.alternatives[alternative] if alternative else separation

    def oracle(self, mixture: Tensor, references: Tensor) -> Mapping[str, Separation]:
        return self.separator.oracle(mixture, references)


def store_comparison(
    folder: Path, comparison: Comparison, score: str | None, count: int, load: LoadTrained, read: ReadMixtures
) -> str:
    """Write compare.md, which is returned, compare.png, differences.parquet and examples of the extremes.

    The extremes are of a score, or of the headline. Raises UsageError if there is no such score.
    """
    score = comparison.score(score).name
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(comparison.mixtures, folder / "differences.parquet")
    comparison_figure(comparison, score).savefig(folder / "compare.png", dpi=100)
    shown = [name for mixtures in comparison.extremes(score, count) for name in mixtures["mixture_id"].to_pylist()]
    if shown:
        a, b = (store_side(folder, side, shown, load, read) for side in (comparison.a, comparison.b))
        comparison = replace(comparison, a=a, b=b)
    text = describe(comparison, score, count)
    (folder / "compare.md").write_text(text + "\n")
    return text


def store_side(output: Path, side: Side, mixture_ids: Sequence[str], load: LoadTrained, read: ReadMixtures) -> Side:
    """Store pictures and sounds of mixtures by a side's system in a folder of `output`, or say why that cannot be."""
    try:
        trained = load_model(side.run, load)
        side = replace(side, classes=trained.classes)
        if is_control(side.system):
            raise UsageError(f"{side.system} is a control, which has none of its own")
        batch, mixing = read_scored(side.run, mixture_ids, trained.mixing, read)
    except UsageError as error:
        return replace(side, problem=str(error))
    folder = f"examples-{side.letter.lower()}"
    rate = mixing.sample_rate_hz
    if isinstance(trained.model, Localizer):
        name, _, _ = side.system.partition(",")  # its other readings are shown beside it
        rules = side.run.board.rules
        for example in localize_examples(trained.model, batch, trained.classes, rate, rules, name):
            store_example(output / folder, example)
    else:
        store_examples(output / folder, Reading(trained.model, side.system), batch, trained.classes, rate)
    return replace(side, examples=folder)


def describe(comparison: Comparison, name: str, count: int) -> str:
    """The report in Markdown: what is compared, each score's difference, up to `count` mixtures of each extreme."""
    sides, board = (comparison.a, comparison.b), comparison.board
    found = zip(comparison.scores.values(), comparison.differences.to_pylist(), strict=True)
    rows = [
        [
            score.label,
            *(score.cell(row[mean]) for mean in ("mean_a", "mean_b")),
            score.signed(row["difference"]),
            "" if row["low"] is None else score.interval(row["low"], row["high"]),
            f"{row['share_a_better']:.0%}",
        ]
        for score, row in found
    ]
    score = comparison.score(name)
    parts = [
        f"# {comparison.a.system} against {comparison.b.system}",
        "\n".join(
            f"- {side.letter}: `{side.system}` of {side.run.name}, stored in {side.run.stored}" for side in sides
        ),
        f"{comparison.num_common} mixtures are in both, {comparison.num_only_a} only in A, {comparison.num_only_b} "
        f"only in B. Of those in both, {comparison.num_excluded} have no score, for {board.why_none}. All below is "
        f"of the other {len(comparison.mixtures)}. {board.told}",
        markdown_table([f"{board.unit}, higher is better", "A", "B", "A - B", "95 % interval", "A better in"], rows),
        "![A against B, and the differences](compare.png)",
        *(f"No pictures and sounds of {side.letter}: {side.problem}." for side in sides if side.problem),
    ]
    shown = []
    for title, mixtures in zip(("Largest", "Smallest"), comparison.extremes(name, count), strict=True):
        if len(mixtures):
            table = markdown_table(_LISTED, [_cells(row, score, comparison) for row in mixtures.to_pylist()])
            parts.append(f"## {title} A - B of {score.label}, in {score.unit}\n\n{table}")
            shown += mixtures["mixture_id"].to_pylist()
    if shown and any(side.problem for side in sides):
        known = max((side.run for side in sides), key=lambda run: len({"checkpoint", "data"} & run.tags.keys()))
        parts.append(f"To build these mixtures again:\n\n    {replay_command(known, shown)}")
    return "\n\n".join(parts)


def _cells(row: Mapping[str, Any], score: Score, comparison: Comparison) -> list[str]:
    return [
        row["mixture_id"],
        " + ".join(class_name(comparison.a.classes, class_id) for class_id in row["class_ids"]),
        *(score.cell(row[f"{score.name}_{part}"]) for part in ("a", "b")),
        score.signed(row[f"{score.name}_difference"]),
        " ".join(filter(None, (side.links(row["mixture_id"]) for side in (comparison.a, comparison.b)))),
    ]


def replay_command(run: ScoredRun, mixture_ids: Sequence[str]) -> str:
    """What builds mixtures of a run's test list again; SHARDS and CHECKPOINT stand for what is not known."""
    words = ["python", "jobs/replay.py", run.tags.get("data", "SHARDS"), *mixture_ids]
    words += ["--checkpoint", run.tags.get("checkpoint", "CHECKPOINT")]
    told = run.settings
    for path in _TESTED_ON:
        value = told.get(path, "None")
        words += [f"--{path.replace('_', '-')}", value] if value != "None" else []
    numbers = json.loads(told.get("evaluation.num_sources", "None").replace("None", "null"))
    words += ["--evaluation.num-sources", *map(str, numbers)] if numbers else []
    words += ["--evaluation.whole-groups"] if told.get("evaluation.whole_groups") == "True" else []
    return shlex.join(words)
