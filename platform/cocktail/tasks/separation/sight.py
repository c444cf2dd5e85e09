"""Scores of sources that are visible and of those that are not, where a test withholds pictures of some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from cocktail.report.markdown import INTERVAL, format_cell, format_interval
from cocktail.tasks.separation.tables import HEADERS, SystemSummary, mixture_scores, summarise
from cocktail.text.printable import as_metric_name

VISIBLE, INVISIBLE = "visible", "invisible"
SIGHT_SCORES = ("sdr", "sir")
"""The scores that are told apart, as AVSA-Sep's tables do."""


def withholds(results: pa.Table) -> bool:
    """Whether some source of the results was not seen, of mixtures that have pictures."""
    return "seen" in results.column_names and pc.any(pc.invert(results["seen"])).as_py() is True  # pyright: ignore[reportAttributeAccessIssue]


def rows_by_sight(results: pa.Table) -> dict[str, pa.Table]:
    """Rows of VISIBLE and of INVISIBLE sources."""
    hidden = pc.invert(results["seen"])  # pyright: ignore[reportAttributeAccessIssue]
    return {VISIBLE: results.filter(results["seen"]), INVISIBLE: results.filter(hidden)}


def summaries_by_sight(results: pa.Table) -> dict[str, list[SystemSummary]]:
    """Summaries of all systems over VISIBLE and over INVISIBLE sources, with intervals by the recordings of all sources
    of their mixtures; nothing unless some are not seen."""
    if not withholds(results):
        return {}
    return {sight: summarise(rows, results) for sight, rows in rows_by_sight(results).items() if len(rows)}


def sight_table(by_sight: Mapping[str, Sequence[SystemSummary]]) -> tuple[list[str], list[list[str]]]:
    """Header and a row a system: its scores, in dB, over visible and over invisible sources, each the mean of a
    mixture's such sources, then of mixtures."""
    systems = {summary.system: None for summaries in by_sight.values() for summary in summaries}
    of = {(sight, summary.system): summary for sight, summaries in by_sight.items() for summary in summaries}
    first, *others = SIGHT_SCORES
    header = ["system"]
    for sight in (VISIBLE, INVISIBLE):
        header += [f"{sight} {HEADERS[first]}", INTERVAL, *(f"{sight} {HEADERS[score]}" for score in others), "sources"]
    rows = []
    for system in systems:
        row = [system]
        for sight in (VISIBLE, INVISIBLE):
            summary = of.get((sight, system))
            if summary is None:
                row += [""] * (2 + len(SIGHT_SCORES))
                continue
            interval = format_interval(summary.sdr_interval, summary.why_no_interval)
            row += [format_cell(summary.means[first]), interval]
            row += [*(format_cell(summary.means[score]) for score in others), str(summary.num_sources)]
        rows.append(row)
    return header, rows


def sight_metrics(by_sight: Mapping[str, Sequence[SystemSummary]]) -> dict[str, float]:
    """The same as metrics, `<system>/visible_sdr` and so on, with the intervals' ends."""
    metrics: dict[str, float] = {}
    for sight, summaries in by_sight.items():
        for summary in summaries:
            prefix = f"{as_metric_name(summary.system)}/{sight}"
            known = {score: summary.means[score] for score in SIGHT_SCORES}
            metrics |= {f"{prefix}_{score}": value for score, value in known.items() if value == value}
            metrics[f"{prefix}_num_sources"] = summary.num_sources
            if summary.sdr_interval is not None:
                _, low, high = summary.sdr_interval
                metrics |= {f"{prefix}_sdr_low": low, f"{prefix}_sdr_high": high}
    return metrics


def with_sight_scores(mixtures: pa.Table, results: pa.Table, system: str) -> pa.Table:
    """`mixture_scores` of a system with a column for each score of its visible and of its invisible sources, null where
    a mixture has none of these, or where nobody said which were seen."""
    parts = rows_by_sight(results) if "seen" in results.column_names else {}
    for sight in (VISIBLE, INVISIBLE):
        own = mixture_scores(parts[sight], system) if sight in parts else None
        for score in SIGHT_SCORES:
            values = pa.nulls(len(mixtures), pa.float64())
            if own is not None:
                place = pc.index_in(mixtures["mixture_id"], own["mixture_id"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
                values = own[score].combine_chunks().take(place)
            mixtures = mixtures.append_column(f"{sight}_{score}", values)
    return mixtures
