"""Results as tables that one reads: systems, classes, pairs of classes, and what a model says is in a mixture.

All are made of a table of `cocktail.tasks.separation.results`. A mixture without a score for each of its sources (one
of its references is silent) is left out of all of them, and counted.

Shape letters: C classes.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.metrics.intervals import Interval, Recordings
from cocktail.report.markdown import INTERVAL, format_cell, format_count, format_interval, markdown_table
from cocktail.tasks.presence import PresenceScores, presence_in
from cocktail.tasks.rows import CONTROL, class_name, rows_of
from cocktail.types import NO_CLASS

SCORES = ("sdr", "sir", "sar", "si_sdr", "si_sdri")
PAIR_SCORES = ("sdr", "sir", "sar")
HEADERS = {"sdr": "SDR", "sir": "SIR", "sar": "SAR", "si_sdr": "SI-SDR", "si_sdri": "SI-SDRi"}


@dataclass(frozen=True, kw_only=True)
class SystemSummary:
    """One system's scores: means over the sources of a mixture, then over mixtures."""

    system: str
    means: dict[str, float]
    """Mean scores in dB by the names in SCORES, not a number if no mixture has a score; higher is better."""
    sdr_interval: Interval | None
    """95 % interval of the mean SDR, in dB, by recording; None where `why_no_interval` says so."""
    why_no_interval: str
    num_mixtures: int
    """Mixtures in the means."""
    num_recordings: int | None
    """Recordings that these are made of; None if that is not known."""
    num_sources: int
    """Sources of those mixtures."""
    num_excluded: int
    """Mixtures with a silent reference, which have no score."""
    num_silent_estimates: int
    """Sources among those whose estimate is silent, each scored as the mixture."""


def mixture_scores(results: pa.Table, system: str) -> pa.Table:
    """A row a mixture of a system, in the order of the results: `mixture_id`, SCORES, `num_sources`, `class_ids`,
    `recordings` of the sources, and `num_silent_estimates`.

    Scores, in dB, are means over all of the mixture's sources, and null if a source has none: those with a silent
    reference, and SIR and SI-SDRi of one source.
    """
    rows = rows_of(results, "system", [system])
    strict = pc.ScalarAggregateOptions(skip_nulls=False)
    grouped = rows.group_by("mixture_id", use_threads=False).aggregate(
        [
            *((score, "mean", strict) for score in SCORES),
            ("system", "count"),
            ("class_id", "list"),
            ("recording", "list"),
            ("silent_estimate", "sum"),
        ]
    )
    return pa.table(
        {
            "mixture_id": grouped["mixture_id"],
            **{score: grouped[f"{score}_mean"] for score in SCORES},
            "num_sources": grouped["system_count"],
            "class_ids": grouped["class_id_list"],
            "recordings": grouped["recording_list"],
            "num_silent_estimates": grouped["silent_estimate_sum"],
        }
    )


def scored_mixtures(mixtures: pa.Table) -> pa.Table:
    """The rows of `mixture_scores` that have scores; SIR and SI-SDRi are of mixtures of several sources only."""
    return mixtures.filter(mixtures["sdr"].is_valid())


def summarise(results: pa.Table, whole: pa.Table | None = None) -> list[SystemSummary]:
    """A SystemSummary of each system, lowest SDR first.

    Of some of the mixtures' sources, `whole` holds the results of all: by the recordings of all their sources mixtures
    depend on each other, also by those whose scores are not asked for.
    """
    summaries = []
    for system in results["system"].unique().to_pylist():
        mixtures = mixture_scores(results, system)
        scored = scored_mixtures(mixtures)
        known = scored
        if whole is not None:
            of_all = mixture_scores(whole, system)
            known = of_all.take(pc.index_in(scored["mixture_id"], of_all["mixture_id"].combine_chunks()))  # pyright: ignore[reportAttributeAccessIssue]
        recordings = Recordings(known["recordings"].to_pylist())
        summaries.append(
            SystemSummary(
                system=system,
                means={score: _mean(scored[score]) for score in SCORES},
                sdr_interval=recordings.interval(scored["sdr"].to_numpy()),
                why_no_interval=recordings.why_none,
                num_mixtures=len(scored),
                num_recordings=recordings.number,
                num_sources=_total(scored["num_sources"]),
                num_excluded=len(mixtures) - len(scored),
                num_silent_estimates=_total(scored["num_silent_estimates"]),
            )
        )
    return sorted(summaries, key=lambda summary: np.nan_to_num(summary.means["sdr"], nan=-np.inf))


def _mean(values: pa.ChunkedArray) -> float:
    mean = pc.mean(values).as_py()  # pyright: ignore[reportAttributeAccessIssue]
    return np.nan if mean is None else mean


def _total(counts: pa.ChunkedArray) -> int:
    return int(pc.sum(counts, min_count=0).as_py())  # pyright: ignore[reportAttributeAccessIssue]


def share_in_best_order(results: pa.Table, system: str) -> float:
    """Share of a system's scored mixtures in which classes leave open whose two or more of its estimates are, so that
    these are taken in the best order."""
    rows = rows_of(results, "system", [system])
    rows = rows.filter(rows["sdr"].is_valid())
    mixtures, classes = (rows[name].to_pylist() for name in ("mixture_id", "class_id"))
    alike = Counter(zip(mixtures, classes, strict=True))
    kinds, estimated = rows["kind"].to_pylist(), rows["estimate_class_id"].to_pylist()
    undecided: Counter[str] = Counter()
    for mixture_id, class_id, own, kind in zip(mixtures, classes, estimated, kinds, strict=True):
        named = own == class_id != NO_CLASS and alike[mixture_id, class_id] == 1
        undecided[mixture_id] += not (named or own is None or kind == CONTROL)
    return sum(number > 1 for number in undecided.values()) / max(len(undecided), 1)


def markdown(summaries: Sequence[SystemSummary]) -> str:
    """The summaries as a Markdown table with aligned columns; scores in dB."""
    return markdown_table(*system_table(summaries))


def system_table(summaries: Sequence[SystemSummary]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the summaries, scores in dB."""
    first, *others = (HEADERS[score] for score in SCORES)
    counts = ("mixtures", "recordings", "sources", "excluded", "silent estimates")
    rows = []
    for summary in summaries:
        sdr, *means = (format_cell(summary.means[score]) for score in SCORES)
        interval = format_interval(summary.sdr_interval, summary.why_no_interval)
        of_what = [str(summary.num_mixtures), format_count(summary.num_recordings)]
        numbers = (summary.num_sources, summary.num_excluded, summary.num_silent_estimates)
        rows.append([summary.system, sdr, interval, *means, *of_what, *map(str, numbers)])
    return ["system", first, INTERVAL, *others, *counts], rows


def by_class(rows: pa.Table, classes: Sequence[str]) -> pa.Table:
    """A row a class of `scored_rows`, the highest SDR first: `class`, `sources`, the `recordings` that these are cut
    out of, means of SCORES over its sources, and `sdr_low` and `sdr_high`, the 95 % interval of its mean SDR.

    The interval is by the class's own recordings: what they are mixed with counts as chance. It is null where
    `why_no_interval` says so; `recordings` is null where they are not known. A source that several seeds have scored
    counts once in it, with its mean. Sources without a class have a row of their own.
    """
    sources = rows.group_by(["class_id", "mixture_id", "source"], use_threads=False)
    once = sources.aggregate([("sdr", "mean"), ("recording", "first")]).group_by("class_id", use_threads=False)
    lists = once.aggregate([("sdr_mean", "list"), ("recording_first", "list")]).to_pylist()
    of_classes = rows.group_by("class_id", use_threads=False)
    rows = of_classes.aggregate([("system", "count"), *((score, "mean") for score in SCORES)])
    names = [class_name(classes, class_id) for class_id in rows["class_id"].to_pylist()]
    of_class = {each["class_id"]: each for each in lists}
    ordered = [of_class[class_id] for class_id in rows["class_id"].to_pylist()]
    recordings = [Recordings([[name] for name in each["recording_first_list"]]) for each in ordered]
    intervals = [
        known.interval(np.array(each["sdr_mean_list"])) for known, each in zip(recordings, ordered, strict=True)
    ]
    table = pa.table(
        {
            "class": pa.array(names, pa.string()),
            "sources": rows["system_count"],
            "recordings": pa.array([known.number for known in recordings], pa.int64()),
            **{score: rows[f"{score}_mean"] for score in SCORES},
            "sdr_low": pa.array([interval and interval.low for interval in intervals], pa.float64()),
            "sdr_high": pa.array([interval and interval.high for interval in intervals], pa.float64()),
            "why_no_interval": pa.array([known.why_none for known in recordings], pa.string()),
        }
    )
    return table.sort_by([("sdr", "descending"), ("class", "ascending")])


def class_table(by_classes: pa.Table) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of `by_class`, scores in dB."""
    first, *others = SCORES
    rows = []
    for row in by_classes.to_pylist():
        interval = None if row["sdr_low"] is None else Interval(row[first], row["sdr_low"], row["sdr_high"])
        why = row["why_no_interval"]
        counts = [str(row["sources"]), format_count(row["recordings"])]
        scores = [format_cell(row[first]), format_interval(interval, why), *(format_cell(row[each]) for each in others)]
        rows.append([row["class"], *counts, *scores])
    titles = [HEADERS[first], INTERVAL, *(HEADERS[each] for each in others)]
    return ["class", "sources", "recordings", *titles], rows


def by_class_pair(rows: pa.Table, classes: Sequence[str]) -> pa.Table:
    """A row an unordered pair of mixed classes in `scored_rows`, the highest SDR first: `class_a`, `class_b`,
    `mixtures`, and of PAIR_SCORES the mean, `sdr`, and the standard deviation over mixtures, `sdr_std`, null of one.

    Means are over the sources of these two classes in the mixtures that hold both, whatever else is in them. A class
    makes a pair with itself if two of its sources are mixed; a source without a class makes none.
    """
    mixtures: dict[str, list[tuple[int, tuple[float, ...]]]] = defaultdict(list)
    columns = rows.select(["mixture_id", "class_id", *PAIR_SCORES]).to_pydict()
    for mixture_id, class_id, *scores in zip(*columns.values(), strict=True):
        mixtures[mixture_id].append((class_id, tuple(scores)))
    of_pairs: dict[tuple[int, int], list[np.ndarray]] = defaultdict(list)  # [sources, scores], a mixture each
    for sources in mixtures.values():
        labelled = sorted(class_id for class_id, _ in sources if class_id != NO_CLASS)
        for pair in set(itertools.combinations(labelled, 2)):
            of_pairs[pair].append(np.array([scores for class_id, scores in sources if class_id in pair], np.float64))
    means = [np.concatenate(of_pair).mean(axis=0) for of_pair in of_pairs.values()]
    apart = [
        np.std([each.mean(axis=0) for each in of_pair], axis=0, ddof=1) if len(of_pair) > 1 else None
        for of_pair in of_pairs.values()
    ]
    spread = {}
    for n, score in enumerate(PAIR_SCORES):
        spread[score] = pa.array([mean[n] for mean in means], pa.float64())
        spread[f"{score}_std"] = pa.array([None if each is None else each[n] for each in apart], pa.float64())
    table = pa.table(
        {
            "class_a": pa.array([class_name(classes, first) for first, _ in of_pairs], pa.string()),
            "class_b": pa.array([class_name(classes, second) for _, second in of_pairs], pa.string()),
            "mixtures": pa.array([len(of_pair) for of_pair in of_pairs.values()], pa.int64()),
            **spread,
        }
    )
    return table.sort_by([("sdr", "descending"), ("class_a", "ascending"), ("class_b", "ascending")])


def scored_rows(results: pa.Table, system: str) -> pa.Table:
    """A system's rows of the mixtures that have scores."""
    scored = scored_mixtures(mixture_scores(results, system))["mixture_id"].to_pylist()
    return rows_of(rows_of(results, "system", [system]), "mixture_id", scored)


def presence_scores(rows: pa.Table, num_classes: int) -> PresenceScores | None:
    """The `predicted_classes` of `scored_rows` against the classes of each mixture's sources.

    Mixtures with a source without a class are left out: nobody knows what is in them. None if none is left, as for a
    system that predicts no classes.
    """
    return presence_in(rows, "predicted_classes", num_classes)
