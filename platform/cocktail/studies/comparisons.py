"""Several systems on the mixtures that all of them were scored on: each against the first, and all in one table."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc

from cocktail.report.markdown import INTERVAL, format_count, markdown_table
from cocktail.report.page import plain
from cocktail.studies.comparison import Comparison, Side, compare
from cocktail.studies.comparison_report import store_comparison
from cocktail.studies.scored_run import LoadTrained, ReadMixtures, ScoredRun
from cocktail.tasks.scores import Score
from cocktail.text.printable import in_markdown, on_one_line
from cocktail.types import require

OWN = "own"
"""What stands for a run's own system among those that are chosen."""
_COLUMNS = ("", "system", "less A", INTERVAL, "better than A in", "mixtures", "recordings", "all of it")


def sides_of(runs: Sequence[ScoredRun], systems: Sequence[str] = ()) -> list[Side]:
    """A, B, C and so on: each run's own system, or the one that is chosen of it.

    Raises UsageError for fewer than two runs, and for as many systems as there are not runs.
    """
    require(2 <= len(runs) <= len(string.ascii_uppercase), f"give two runs or more, 26 at most, not {len(runs)}")
    require(
        len(systems) in (0, len(runs)),
        f"--systems names {len(systems)} systems of {len(runs)} runs: name one a run, {OWN!r} for a run's own",
    )
    chosen = [None if system == OWN else system for system in systems] or [None] * len(runs)
    return [Side.of(string.ascii_uppercase[n], *each) for n, each in enumerate(zip(runs, chosen, strict=True))]


def store_comparisons(
    folder: Path, sides: Sequence[Side], score: str | None, count: int, load: LoadTrained, read: ReadMixtures
) -> str:
    """Write what compares the first system with each other one; of more than two, into a folder for each, on the
    mixtures that all were scored on, with a table of all of them in compare.md. Returns the text of compare.md."""
    first, *others = sides
    if len(others) == 1:
        return store_comparison(folder, compare(first, others[0]), score, count, load, read)
    first, *others = _on_common_mixtures(sides)
    comparisons = [compare(first, other) for other in others]
    shown = comparisons[0].score(score)
    folder.mkdir(parents=True, exist_ok=True)
    for comparison in comparisons:
        store_comparison(folder / _folder_of(comparison), comparison, shown.name, count, load, read)
    text = _overview(first, comparisons, shown)
    (folder / "compare.md").write_text(text + "\n", "utf-8")
    return text


def _on_common_mixtures(sides: Sequence[Side]) -> list[Side]:
    """The same sides with results of the mixtures alone that all have; all of them where there are none in common, of
    which a comparison then says what it is."""
    known = [set(side.run.results["mixture_id"].to_pylist()) for side in sides]
    common = sorted(set.intersection(*known))
    if not common:
        return list(sides)
    kept = pc.field("mixture_id").isin(common)
    return [replace(side, run=replace(side.run, results=side.run.results.filter(kept))) for side in sides]


def _folder_of(comparison: Comparison) -> str:
    return f"{comparison.a.letter}-{comparison.b.letter}".lower()


def _overview(first: Side, comparisons: Sequence[Comparison], score: Score) -> str:
    """A line a system: its mean, and how it differs from the first."""
    header = [*_COLUMNS[:2], score.label, *_COLUMNS[2:]]
    rows = [_row_of_first(first, comparisons[0], score)]
    for comparison in comparisons:
        by_name = {row["score"]: row for row in comparison.differences.to_pylist()}
        row = by_name[score.name]
        # Of the other less the first: what the comparison says, turned round.
        interval = row["why_no_interval"] or score.interval(-row["high"], -row["low"])
        rows.append(
            [
                comparison.b.letter,
                in_markdown(comparison.b.system),
                score.cell(row["mean_b"]),
                score.signed(-row["difference"]),
                interval,
                f"{_share_better(comparison, score):.0%}",
                str(row["mixtures"]),
                format_count(row["recordings"]),
                f"[compare.md]({_folder_of(comparison)}/compare.md)",
            ]
        )
    runs = "\n".join(
        f"- {side.letter}: " + plain(on_one_line(f"`{side.system}` of {side.run.name}, stored in {side.run.stored}"))
        for side in (first, *(comparison.b for comparison in comparisons))
    )
    about = (
        f"{comparisons[0].num_common} mixtures are in all of them, and all below is of these alone. {score.label} is "
        f"in {score.unit}. Differences are paired; intervals are of one comparison each, not corrected for their "
        "number, and of these trainings: what other seeds would give they do not say."
    )
    return "\n\n".join([f"# {len(rows)} systems", runs, about, markdown_table(header, rows, are_markup=True)])


def _row_of_first(first: Side, comparison: Comparison, score: Score) -> list[str]:
    row = next(row for row in comparison.differences.to_pylist() if row["score"] == score.name)
    return [
        first.letter,
        in_markdown(first.system),
        score.cell(row["mean_a"]),
        *[""] * 3,
        str(row["mixtures"]),
        format_count(row["recordings"]),
        "",
    ]


def _share_better(comparison: Comparison, score: Score) -> float:
    """Share of the mixtures on which the other is better than the first; as good counts for neither."""
    difference = comparison.mixtures[f"{score.name}_difference"].drop_null().to_numpy()
    return float((difference < 0).mean())
