"""The report of a comparison: its tables and figure, and pictures and sounds of the mixtures that differ most."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from matplotlib.figure import Figure

from cocktail.drawing import save_png
from cocktail.report.markdown import INTERVAL, format_count, markdown_table
from cocktail.report.page import plain
from cocktail.studies.comparison import Comparison, Side
from cocktail.studies.scored_run import LoadTrained, ReadMixtures, ScoredRun, load_model, read_scored
from cocktail.tasks.report import Subject
from cocktail.tasks.rows import CONTROL, class_name, readings_of, systems_of
from cocktail.tasks.scores import Score, order_note
from cocktail.text.printable import in_markdown, on_one_line
from cocktail.types import UsageError

_TESTED_ON = (
    "mixing.num_sources",
    "mixing.min_sources",
    *(f"evaluation.{name}" for name in ("split", "arrangement", "num_mixtures", "pairs", "crop", "test_list", "seed")),
)
"""Settings that decide which test mixtures there are, beside those of the checkpoint."""
_COMPARED = ("A", "B", "A - B", INTERVAL, "A better in", "mixtures", "recordings")
_LONGEST_AXIS = 48
"""Letters of a system's name on a line at an axis."""
_LISTED = ("mixture", "classes", "A", "B", "A - B", "look and listen")


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
        xlabel=f"{score.label} of B: {_named(comparison.b, comparison.a)} ({score.unit})",
        ylabel=f"{score.label} of A: {_named(comparison.a, comparison.b)} ({score.unit})",
        title=f"{len(a)} mixtures; above the line A is better",
        aspect="equal",
    )
    right.hist(difference, bins=40)
    right.axvline(0, color="0.5", linewidth=1)
    right.axvline(difference.mean(), color="C1", label=f"mean {score.cell(difference.mean())} {score.unit}")
    right.set(xlabel=f"A - B of {score.label} ({score.unit})", ylabel="mixtures", title="differences")
    right.legend()
    return figure


def _named(side: Side, other: Side) -> str:
    """A side's system, with its run's name where both systems have the same."""
    name = side.system if side.system != other.system else f"{side.system} of {side.run.name}"
    return "\n".join(textwrap.wrap(on_one_line(name), _LONGEST_AXIS))


def store_comparison(
    folder: Path, comparison: Comparison, score: str | None, count: int, load: LoadTrained, read: ReadMixtures
) -> str:
    """Write compare.md, which is returned, compare.png, differences.parquet and examples of the extremes.

    The extremes are of a score, or of the headline. Raises UsageError if there is no such score.
    """
    score = comparison.score(score).name
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(comparison.mixtures, folder / "differences.parquet")
    save_png(comparison_figure(comparison, score), folder / "compare.png", 100)
    listed = [name for mixtures in comparison.extremes(score, count) for name in mixtures["mixture_id"].to_pylist()]
    if listed:
        a, b = (store_side(folder, side, listed, load, read) for side in (comparison.a, comparison.b))
        comparison = replace(comparison, a=a, b=b)
    text = to_markdown(comparison, score, count)
    (folder / "compare.md").write_text(text + "\n", "utf-8")
    return text


def store_side(output: Path, side: Side, mixture_ids: Sequence[str], load: LoadTrained, read: ReadMixtures) -> Side:
    """Store pictures and sounds of mixtures by a side's system in a folder of `output`, or say why that cannot be."""
    try:
        trained = load_model(side.run, load)
        side = replace(side, classes=trained.classes)
        if side.system in systems_of(side.run.results, CONTROL):
            raise UsageError(f"{side.system} is a control, which has none of its own")
        batch, mixing = read_scored(side.run, mixture_ids, trained.mixing, read)
    except UsageError as error:
        return replace(side, problem=str(error))
    folder = f"examples-{side.letter.lower()}"
    subject = Subject(
        name=trained.name, model=trained.model, classes=trained.classes, sample_rate_hz=mixing.sample_rate_hz
    )
    reading = readings_of(side.run.results).get(side.system)
    for example in side.run.task.examples(subject, batch, reading):
        example.store(output / folder)
    return replace(side, examples=folder)


def to_markdown(comparison: Comparison, name: str, count: int) -> str:
    """The report in Markdown: what is compared, each score's difference, up to `count` mixtures of each extreme."""
    sides, board = (comparison.a, comparison.b), comparison.board
    scored = zip(comparison.scores.values(), comparison.differences.to_pylist(), strict=True)
    rows = [
        [
            score.label,
            *(score.cell(row[mean]) for mean in ("mean_a", "mean_b")),
            score.signed(row["difference"]),
            row["why_no_interval"] or score.interval(row["low"], row["high"]),
            f"{row['share_a_better']:.0%}",
            str(row["mixtures"]),
            format_count(row["recordings"]),
        ]
        for score, row in scored
    ]
    score = comparison.score(name)
    parts = [
        f"# {in_markdown(comparison.a.system)} against {in_markdown(comparison.b.system)}",
        "\n".join(
            f"- {side.letter}: "
            + plain(on_one_line(f"`{side.system}` of {side.run.name}, stored in {side.run.stored}"))
            for side in sides
        ),
        f"{comparison.num_common} mixtures are in both, {comparison.num_only_a} only in A, {comparison.num_only_b} "
        f"only in B. Of those in both, {comparison.num_excluded} have no score, for {board.why_none}. All below is "
        f"of the other {len(comparison.mixtures)}. {board.about}",
        *filter(
            None,
            [order_note((each.letter, board.share_in_best_order(each.run.results, each.system)) for each in sides)],
        ),
        markdown_table([f"{board.unit}, higher is better", *_COMPARED], rows),
        "Intervals say how far other recordings could move A - B. Each side is one training, of one seed: whether one "
        "way of training is better than another takes several seeds of each.",
        "![A against B, and the differences](compare.png)",
        *(f"No pictures and sounds of {side.letter}: {in_markdown(side.problem)}." for side in sides if side.problem),
    ]
    listed = []
    for title, mixtures in zip(("Largest", "Smallest"), comparison.extremes(name, count), strict=True):
        if len(mixtures):
            table = markdown_table(
                _LISTED, [_cells(row, score, comparison) for row in mixtures.to_pylist()], are_markup=True
            )
            parts.append(f"## {title} A - B of {score.label}, in {score.unit}\n\n{table}")
            listed += mixtures["mixture_id"].to_pylist()
    if listed and any(side.problem for side in sides):
        known = max((side.run for side in sides), key=lambda run: len({"checkpoint", "data"} & run.tags.keys()))
        parts.append(f"To build these mixtures again:\n\n    {on_one_line(replay_command(known, listed))}")
    return "\n\n".join(parts)


def _cells(row: Mapping[str, Any], score: Score, comparison: Comparison) -> list[str]:
    return [
        in_markdown(row["mixture_id"]),
        in_markdown(" + ".join(class_name(comparison.a.classes, class_id) for class_id in row["class_ids"])),
        *(score.cell(row[f"{score.name}_{part}"]) for part in ("a", "b")),
        score.signed(row[f"{score.name}_difference"]),
        " ".join(filter(None, (side.links(row["mixture_id"]) for side in (comparison.a, comparison.b)))),
    ]


def replay_command(run: ScoredRun, mixture_ids: Sequence[str]) -> str:
    """What builds mixtures of a run's test list again; SHARDS and CHECKPOINT stand for what is not known."""
    words = ["python", "jobs/replay.py", run.tags.get("data", "SHARDS"), *mixture_ids]
    words += ["--checkpoint", run.tags.get("checkpoint", "CHECKPOINT")]
    settings = run.settings
    for path in _TESTED_ON:
        value = settings.get(path, "None")
        words += [f"--{path.replace('_', '-')}", value] if value != "None" else []
    numbers = json.loads(settings.get("evaluation.num_sources", "None").replace("None", "null"))
    words += ["--evaluation.num-sources", *map(str, numbers)] if numbers else []
    words += ["--evaluation.whole-groups"] if settings.get("evaluation.whole_groups") == "True" else []
    return shlex.join(words)
