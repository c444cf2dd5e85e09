"""Two systems on the same mixtures: who is better, by how much, how surely, and on which mixtures most.

Systems are compared on the mixtures that both have scores of, and on no others: A - B of each mixture, then means and
a bootstrap over mixtures. A mixture without a score in either (one of its references is silent) is left out of both.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.figure import Figure
from torch import Tensor

from cocktail.config import Mixing
from cocktail.metrics.bootstrap import paired_bootstrap
from cocktail.report.examples import store_examples
from cocktail.report.tables import (
    HEADERS,
    SCORES,
    class_name,
    format_cell,
    format_interval,
    has_scores,
    markdown_table,
    mixture_scores,
)
from cocktail.storage import is_remote, read_bytes
from cocktail.types import MixtureBatch, Separation, Separator, UsageError

RESULTS_NAME, TEST_LIST_NAME = "results.parquet", "test_list.parquet"
LENGTHS = ("sample_rate_hz", "segment_samples")
"""Settings of `Mixing` that decide how much sound a row of a test list stands for."""
_TESTED_ON = (
    "mixing.num_sources",
    "mixing.min_sources",
    *(f"evaluation.{name}" for name in ("split", "num_mixtures", "pairs", "crop", "test_list", "seed")),
)
"""Settings that decide which test mixtures there are, beside those of the checkpoint."""
_LISTED = ("mixture", "classes", "A", "B", "A - B", "look and listen")
_NEEDED = ("mixture_id", "system", "class_id", *SCORES, "silent_estimate")


def is_control(system: str) -> bool:
    """Whether a system is no model's: the mixture, or ideal masks."""
    return system == "mixture" or system.startswith("ideal ")


def own_systems(results: pa.Table) -> list[str]:
    """The models in a table of results: neither controls nor, with a comma, other readings of a model."""
    return [name for name in results["system"].unique().to_pylist() if not is_control(name) and "," not in name]


@dataclass(frozen=True, kw_only=True)
class ScoredRun:
    """Results, and what is known of the run that they are of."""

    results: pa.Table
    """With the columns of `cocktail.metrics.results.RESULTS`."""
    name: str
    stored: str
    """Where they lie with what else was stored: a folder or URI."""
    test_list: pa.Table | None = None
    """Rows of the plan of the test mixtures."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What is known of `checkpoint` (of the weights scored), `data` (where the shards lie), and `test_list_hash`."""
    params: Mapping[str, str] = field(default_factory=dict)
    """What is known of the settings, by dotted path, as text."""

    @classmethod
    def read(cls, location: str) -> ScoredRun:
        """That of a file of results, or of a folder's, with the test list beside it. Raises UsageError for others."""
        location = location if location.endswith(".parquet") else f"{location}/{RESULTS_NAME}"
        folder = location.rpartition("/")[0]
        try:
            results = _read_parquet(location)
        except FileNotFoundError as error:
            raise UsageError(f"there is no {location}: give an MLflow run, or a file of results") from error
        if missing := [name for name in _NEEDED if name not in results.column_names]:
            raise UsageError(f"{location} holds no results: it has no columns {', '.join(missing)}")
        try:
            test_list = _read_parquet(f"{folder}/{TEST_LIST_NAME}")
        except FileNotFoundError:
            test_list = None
        return cls(results=results, name=location, stored=folder, test_list=test_list)


def _read_parquet(location: str) -> pa.Table:
    try:
        return pq.ParquetFile(pa.BufferReader(read_bytes(location))).read(use_threads=False)
    except pa.ArrowInvalid as error:
        raise UsageError(f"{location} is no Parquet file: {error}") from error


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
    mixtures: pa.Table
    """The compared mixtures by id: `mixture_id`, `class_ids` (A's), and for each of SCORES `<score>_a`,
    `<score>_b` and `<score>_difference`, in dB."""
    differences: pa.Table
    """A row each of SCORES: `score`, `mean_a`, `mean_b`, `difference`, its 95 % interval's `low` and `high` (null for
    one mixture), in dB, and `share_a_better`, of the mixtures."""
    num_common: int
    """Mixtures in both results."""
    num_excluded: int
    """Of these, the ones without a score in either."""
    num_only_a: int
    num_only_b: int

    def extremes(self, score: str, count: int) -> tuple[pa.Table, pa.Table]:
        """The mixtures of the largest A - B, and those of the smallest among the others, the most extreme first."""
        ordered = self.mixtures.sort_by([(f"{score}_difference", "descending"), ("mixture_id", "ascending")])
        backwards = range(len(ordered) - 1, max(count, len(ordered) - count) - 1, -1)
        return ordered.slice(0, count), ordered.take(pa.array(backwards, pa.int64()))


def compare(a: Side, b: Side) -> Comparison:
    """The difference of two systems over the mixtures that both are scored on.

    Raises UsageError if there are none, with the hashes of both test lists where they are known.
    """
    of_a, of_b = (mixture_scores(side.run.results, side.system) for side in (a, b))
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
    scored = pc.and_(*(has_scores(table) for table in both))  # pyright: ignore[reportAttributeAccessIssue]
    left, right = (table.filter(scored) for table in both)
    if not len(left):
        raise UsageError(f"none of the {len(common)} mixtures of both has a score: each has a silent reference")
    columns = {"mixture_id": left["mixture_id"], "class_ids": left["class_ids"]}
    differences = []
    for score in SCORES:
        columns |= {f"{score}_a": left[score], f"{score}_b": right[score]}
        columns[f"{score}_difference"] = difference = pc.subtract(left[score], right[score])  # pyright: ignore[reportAttributeAccessIssue]
        there = difference.is_valid()  # one source has no SIR and no SI-SDRi
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
        mixtures=pa.table(columns),
        differences=pa.Table.from_pylist(differences),
        num_common=len(common),
        num_excluded=len(common) - len(left),
        num_only_a=len(of_a) - len(common),
        num_only_b=len(of_b) - len(common),
    )


def comparison_figure(comparison: Comparison, score: str) -> Figure:
    """Each mixture's score by A against that by B, and how the differences are distributed."""
    column = comparison.mixtures.column
    a, b, difference = (column(f"{score}_{part}").to_numpy() for part in ("a", "b", "difference"))
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    ends = [min(a.min(), b.min()), max(a.max(), b.max())]
    left.plot(ends, ends, color="0.5", linewidth=1)
    left.scatter(b, a, s=14, alpha=0.6, linewidths=0)
    left.set(
        xlabel=f"{HEADERS[score]} of B: {comparison.b.system} (dB)",
        ylabel=f"{HEADERS[score]} of A: {comparison.a.system} (dB)",
        title=f"{len(a)} mixtures; above the line A is better",
        aspect="equal",
    )
    right.hist(difference, bins=40)
    right.axvline(0, color="0.5", linewidth=1)
    right.axvline(difference.mean(), color="C1", label=f"mean {difference.mean():.2f} dB")
    right.set(xlabel=f"A - B of {HEADERS[score]} (dB)", ylabel="mixtures", title="differences")
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

    def separate(self, mixture: Tensor, class_ids: Tensor) -> Separation:
        separation = self.separator.separate(mixture, class_ids)
        _, _, alternative = self.system.partition(", ")
        return separation.alternatives[alternative] if alternative else separation

    def oracle(self, mixture: Tensor, references: Tensor) -> Mapping[str, Separation]:
        return self.separator.oracle(mixture, references)


LoadTrained = Callable[[str], Any]
"""From the location of a checkpoint to a `cocktail.evaluate.Trained`."""
ReadMixtures = Callable[[ScoredRun, pa.Table, Mixing], MixtureBatch]
"""From rows of a run's test list to the mixtures, out of its shards."""


def store_comparison(
    folder: Path, comparison: Comparison, score: str, count: int, load: LoadTrained, read: ReadMixtures
) -> str:
    """Write compare.md, which is returned, compare.png, differences.parquet and examples of the extremes."""
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
    separator = Reading(trained.model, side.system)
    store_examples(output / folder, separator, batch, trained.classes, mixing.sample_rate_hz)
    return replace(side, examples=folder)


def load_model(run: ScoredRun, load: LoadTrained) -> Any:
    """The trained model that was scored. Raises UsageError if it, or what it takes to use it, is not there."""
    if missing := {"checkpoint", "data"} - run.tags.keys():
        raise UsageError(f"where its {' and '.join(sorted(missing))} lie is not known of {run.name}")
    if run.test_list is None:
        raise UsageError(f"{run.name} has no {TEST_LIST_NAME}")
    return load(run.tags["checkpoint"])


def read_scored(
    run: ScoredRun, mixture_ids: Sequence[str], mixing: Mixing, read: ReadMixtures
) -> tuple[MixtureBatch, Mixing]:
    """Mixtures that a run was scored on, in its test list's order, and how they are mixed where training did so.

    Raises UsageError if the run's test list is of others, or if the mixtures cannot be read.
    """
    assert run.test_list is not None
    rows = run.test_list.filter(pc.field("mixture_id").isin(list(mixture_ids)))
    if len(rows) != len(mixture_ids):
        raise UsageError(f"the {TEST_LIST_NAME} of {run.name} lists other mixtures than it has scores of")
    most = max(len(clips) for clips in rows["clip_id"].to_pylist())
    scored = {name: int(run.params[f"mixing.{name}"]) for name in LENGTHS if f"mixing.{name}" in run.params}
    mixing = replace(mixing, num_sources=most, min_sources=1, **scored)
    return read(run, rows, mixing), mixing


def describe(comparison: Comparison, score: str, count: int) -> str:
    """The report in Markdown: what is compared, each score's difference, up to `count` mixtures of each extreme."""
    sides = (comparison.a, comparison.b)
    rows = [
        [
            HEADERS[found["score"]],
            *(format_cell(found[name]) for name in ("mean_a", "mean_b")),
            f"{found['difference']:+.2f}",
            format_interval(None if found["low"] is None else (found["low"], found["high"])),
            f"{found['share_a_better']:.0%}",
        ]
        for found in comparison.differences.to_pylist()
    ]
    parts = [
        f"# {comparison.a.system} against {comparison.b.system}",
        "\n".join(
            f"- {side.letter}: `{side.system}` of {side.run.name}, stored in {side.run.stored}" for side in sides
        ),
        f"{comparison.num_common} mixtures are in both, {comparison.num_only_a} only in A, {comparison.num_only_b} "
        f"only in B. Of those in both, {comparison.num_excluded} have no score, for a silent reference. All below is "
        f"of the other {len(comparison.mixtures)}: means over a mixture's sources, then over mixtures.",
        markdown_table(["dB, higher is better", "A", "B", "A - B", "95 % interval", "A better in"], rows),
        "![A against B, and the differences](compare.png)",
        *(f"No pictures and sounds of {side.letter}: {side.problem}." for side in sides if side.problem),
    ]
    shown = []
    for title, mixtures in zip(("Largest", "Smallest"), comparison.extremes(score, count), strict=True):
        if len(mixtures):
            table = markdown_table(_LISTED, [_cells(row, score, comparison) for row in mixtures.to_pylist()])
            parts.append(f"## {title} A - B of {HEADERS[score]}, in dB\n\n{table}")
            shown += mixtures["mixture_id"].to_pylist()
    if shown and any(side.problem for side in sides):
        known = max((side.run for side in sides), key=lambda run: len({"checkpoint", "data"} & run.tags.keys()))
        parts.append(f"To build these mixtures again:\n\n    {replay_command(known, shown)}")
    return "\n\n".join(parts)


def _cells(row: Mapping[str, Any], score: str, comparison: Comparison) -> list[str]:
    return [
        row["mixture_id"],
        " + ".join(class_name(comparison.a.classes, class_id) for class_id in row["class_ids"]),
        *(f"{row[f'{score}_{part}']:.2f}" for part in ("a", "b")),
        f"{row[f'{score}_difference']:+.2f}",
        " ".join(filter(None, (side.links(row["mixture_id"]) for side in (comparison.a, comparison.b)))),
    ]


def replay_command(run: ScoredRun, mixture_ids: Sequence[str]) -> str:
    """What builds mixtures of a run's test list again; SHARDS and CHECKPOINT stand for what is not known."""
    words = ["python", "jobs/replay.py", run.tags.get("data", "SHARDS"), *mixture_ids]
    words += ["--checkpoint", run.tags.get("checkpoint", "CHECKPOINT")]
    told = {**run.tags, **run.params}
    for path in _TESTED_ON:
        value = told.get(path, "None")
        words += [f"--{path.replace('_', '-')}", value] if value != "None" else []
    words += ["--evaluation.whole-groups"] if told.get("evaluation.whole_groups") == "True" else []
    return shlex.join(words)
