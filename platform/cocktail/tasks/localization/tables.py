"""Localization results as tables that one reads: systems by number of sources, classes, and what is heard and seen.

All are made of a table of `cocktail.tasks.localization.results.LOCALIZATION_RESULTS`. A mixture with a source that
does not count is left out, and counted by its reason; sources of one class leave it in PIAP. Scores are in [0, 1],
higher is better; tables show them in percent, as the papers do.

Shape letters: M mixtures, N sources.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from cocktail.metrics.intervals import Interval, Recordings
from cocktail.metrics.localization import AUC_FLOOR, areas, auc, ciou, success
from cocktail.report.markdown import INTERVAL, format_count, markdown_table
from cocktail.tasks.localization.mixtures import EXCLUDED, NEGATIVE, SAME_CLASS
from cocktail.tasks.localization.rules import RULES, ScoringRules, name_end
from cocktail.tasks.presence import PresenceScores, presence_in
from cocktail.tasks.rows import class_name, rows_of
from cocktail.text.printable import as_metric_name

SCORES = ("ap", "ap_best_order", "iou_peak", "iou_half", "iou_fixed")
ABOUT_AUC = (
    f"AUC is {100 * AUC_FLOOR:.1f} at least: its first threshold is 0, which a map that misses everything reaches."
)


@dataclass(frozen=True, kw_only=True)
class RuleScores:
    """IoU of a system's maps by one binary rule, or CIoU of several sources; not a number if no mixture counts."""

    success: float
    """The share of mixtures whose mean IoU over sources reaches the threshold."""
    success_by_slot: float
    """The share of sources whose own IoU does."""
    auc: float
    """Area under the share of mixtures over thresholds of their mean IoU."""


@dataclass(frozen=True, kw_only=True)
class LocalizationSummary:
    """One system's scores on mixtures of one number of sources."""

    system: str
    num_sources: int
    threshold: float
    """The least mean IoU of `success`."""
    ap: float
    """AP, or CAP of several sources; not a number where a map serves several sources, or no mixture counts."""
    ap_interval: Interval | None
    """95 % interval by recording; None without AP, or where `why_no_interval` says so."""
    piap: float
    """CAP of several sources in the order of maps that suits each mixture best."""
    by_rule: Mapping[str, RuleScores]
    """Scores by RULES."""
    success_interval: Interval | None
    """Interval of `success` by the first rule."""
    why_no_interval: str
    num_mixtures: int
    """Mixtures that count; in PIAP those with sources of one class, too."""
    num_recordings: int | None
    """Recordings that these are made of; None if that is not known."""
    excluded: Mapping[str, int]
    """Mixtures that do not, by reason."""

    @property
    def metrics(self) -> dict[str, float]:
        """The scores by name, as metrics are logged: by the first rule without its name."""
        ap, iou = ("ap", "iou") if self.num_sources == 1 else ("cap", "ciou")
        values: dict[str, float] = {ap: self.ap}
        for name, interval in ((ap, self.ap_interval), (iou, self.success_interval)):
            if interval is not None:
                values |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        for rule, scores in self.by_rule.items():
            end = name_end(rule)
            values |= {f"{iou}{end}": scores.success, f"auc{end}": scores.auc}
            if self.num_sources > 1:
                values[f"{iou}_slot{end}"] = scores.success_by_slot
        if self.num_sources > 1:
            values["piap"] = self.piap
        values |= {} if self.num_recordings is None else {"num_recordings": self.num_recordings}
        values |= {"num_mixtures": self.num_mixtures, "num_excluded": sum(self.excluded.values())}
        return {name: value for name, value in values.items() if value == value}


def without_negatives(results: pa.Table) -> pa.Table:
    """The rows of mixtures that show what sounds."""
    is_negative = pc.equal(results["excluded"], NEGATIVE).fill_null(False)  # pyright: ignore[reportAttributeAccessIssue]
    return results.filter(pc.invert(is_negative))  # pyright: ignore[reportAttributeAccessIssue]


def summarise(results: pa.Table, rules: ScoringRules) -> dict[int, list[LocalizationSummary]]:
    """A summary of each system for each number of sources, lowest AUC by the first rule first."""
    summaries = {}
    for number in sorted(results["num_sources"].unique().to_pylist()):
        of_number = results.filter(pc.equal(results["num_sources"], number))  # pyright: ignore[reportAttributeAccessIssue]
        systems = of_number["system"].unique().to_pylist()
        unsorted = [_summary(results, system, number, rules) for system in systems]
        summaries[number] = sorted(unsorted, key=lambda each: np.nan_to_num(each.by_rule[RULES[0]].auc, nan=-1))
    return summaries


@dataclass(frozen=True, kw_only=True, eq=False)
class _Mixtures:
    """A system's scores of M mixtures of N sources each."""

    mixture_ids: list[str]
    class_ids: list[list[int]]
    recordings: list[list[str | None]]
    values: Mapping[str, np.ndarray]
    """[M, N] by SCORES; not a number where there is none."""
    reasons: list[str | None]
    """Why a mixture does not count, one of EXCLUDED; None where it does."""

    @classmethod
    def of(cls, results: pa.Table, system: str, num_sources: int) -> _Mixtures:
        rows = without_negatives(rows_of(results, "system", [system]))
        rows = rows.filter(pc.equal(rows["num_sources"], num_sources))  # pyright: ignore[reportAttributeAccessIssue]
        grouped = rows.group_by("mixture_id", use_threads=False)
        lists = grouped.aggregate([(name, "list") for name in (*SCORES, "excluded", "class_id", "recording")])
        values = {
            name: np.array(lists[f"{name}_list"].to_pylist(), np.float64).reshape(-1, num_sources) for name in SCORES
        }
        excluded = lists["excluded_list"].to_pylist()
        return cls(
            mixture_ids=lists["mixture_id"].to_pylist(),
            class_ids=lists["class_id_list"].to_pylist(),
            recordings=lists["recording_list"].to_pylist(),
            values=values,
            reasons=[next((why for why in EXCLUDED if why in each), None) for each in excluded],
        )

    @property
    def counts(self) -> np.ndarray:
        """bool [M]."""
        return np.array([why is None for why in self.reasons], bool)

    @property
    def counts_in_order(self) -> np.ndarray:
        """bool [M]: whether it counts where names do not."""
        return np.array([why in (None, SAME_CLASS) for why in self.reasons], bool)


def mixture_scores(results: pa.Table, system: str, num_sources: int, rules: ScoringRules) -> pa.Table:
    """A row a mixture of so many sources of a system, in the order of the results: `mixture_id`, `num_sources`,
    `class_ids`, `recordings`, `ap`, `piap`, `success` and `auc` by the first rule, and `success_<rule>` and
    `auc_<rule>` by each other.

    In [0, 1], null where the mixture does not count. Means over mixtures are the scores of `summarise`.
    """
    mixtures = _Mixtures.of(results, system, num_sources)
    scores = {
        "ap": np.where(mixtures.counts, mixtures.values["ap"].mean(axis=1), np.nan),
        "piap": np.where(mixtures.counts_in_order, mixtures.values["ap_best_order"].mean(axis=1), np.nan),
    }
    for rule in rules.names:
        end, ious = name_end(rule), mixtures.values[f"iou_{rule}"].mean(axis=1)
        scores[f"success{end}"] = np.where(mixtures.counts, ious >= rules.threshold(num_sources), np.nan)
        scores[f"auc{end}"] = np.where(mixtures.counts, areas(torch.from_numpy(ious)).numpy(), np.nan)
    columns: dict[str, Any] = {
        "mixture_id": pa.array(mixtures.mixture_ids, pa.string()),
        "num_sources": pa.array([num_sources] * len(mixtures.mixture_ids), pa.int32()),
        "class_ids": pa.array(mixtures.class_ids, pa.list_(pa.int32())),
        "recordings": pa.array(mixtures.recordings, pa.list_(pa.string())),
    }
    return pa.table(columns | {name: pa.array(values, mask=np.isnan(values)) for name, values in scores.items()})


def _summary(results: pa.Table, system: str, num_sources: int, rules: ScoringRules) -> LocalizationSummary:
    mixtures = _Mixtures.of(results, system, num_sources)
    values, reasons = mixtures.values, mixtures.reasons
    counts, counts_in_order = mixtures.counts, mixtures.counts_in_order
    threshold = rules.threshold(num_sources)
    ap = values["ap"][counts].mean(axis=1)
    reached = values[f"iou_{RULES[0]}"][counts].mean(axis=1) >= threshold
    recordings = Recordings([mixtures.recordings[m] for m in np.flatnonzero(counts)])
    return LocalizationSummary(
        system=system,
        num_sources=num_sources,
        threshold=threshold,
        ap=_mean(ap),
        ap_interval=_interval(ap, recordings),
        piap=_mean(values["ap_best_order"][counts_in_order].mean(axis=1)),
        by_rule={rule: _by_rule(values[f"iou_{rule}"][counts], threshold) for rule in rules.names},
        success_interval=recordings.interval_of_share(reached),
        why_no_interval=recordings.why_none,
        num_mixtures=int(counts.sum()),
        num_recordings=recordings.number,
        excluded=dict(Counter(why for why in reasons if why is not None)),
    )


def _by_rule(ious: np.ndarray, threshold: float) -> RuleScores:
    """Scores of IoUs [M, N]."""
    if not len(ious):
        return RuleScores(success=np.nan, success_by_slot=np.nan, auc=np.nan)
    values = torch.from_numpy(ious)
    by_image = ciou(values, "image")
    return RuleScores(
        success=success(by_image, threshold),
        success_by_slot=success(ciou(values, "slot"), threshold),
        auc=auc(by_image),
    )


def _mean(values: np.ndarray) -> float:
    """Not a number if one is none, too: a mean over part of the mixtures would stand beside means over all."""
    return float(values.mean()) if len(values) else np.nan


def _interval(values: np.ndarray, recordings: Recordings) -> Interval | None:
    """Nothing if a value is none, as `_mean`."""
    interval = None if np.isnan(values).any() else recordings.interval(values)
    return interval and interval.within(0, 1)


def system_table(summaries: Sequence[LocalizationSummary], rules: ScoringRules) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the summaries of one number of sources, scores in percent."""
    first = summaries[0]
    one = first.num_sources == 1
    header = ["system", "AP" if one else "CAP", INTERVAL] + ([] if one else ["PIAP"])
    for rule, name in rules.names.items():
        header.append(f"{'IoU' if one else 'CIoU'}@{first.threshold:g}, {name}")
        header += [INTERVAL] if rule == RULES[0] else []
        header += [f"AUC, {name}"] if one else [f"per slot, {name}", f"AUC, {name}"]
    rows = []
    for summary in summaries:
        why = summary.why_no_interval
        row = [summary.system, percent(summary.ap), percent_interval(summary.ap_interval, why, summary.ap)]
        row += [] if one else [percent(summary.piap)]
        for rule, scores in summary.by_rule.items():
            row.append(percent(scores.success))
            if rule == RULES[0]:
                row.append(percent_interval(summary.success_interval, why, scores.success))
            row += [] if one else [percent(scores.success_by_slot)]
            row.append(percent(scores.auc))
        counts = [str(summary.num_mixtures), format_count(summary.num_recordings), str(sum(summary.excluded.values()))]
        rows.append([*row, *counts])
    return [*header, "mixtures", "recordings", "excluded"], rows


def excluded_text(summaries: Sequence[LocalizationSummary]) -> str:
    """Why mixtures are excluded, which is the same for all systems; nothing if none is."""
    excluded = summaries[0].excluded
    if not excluded:
        return ""
    counts = ", ".join(f"{excluded[why]} {why}" for why in EXCLUDED if why in excluded)
    return f"Excluded: {counts}" + ("; the last count in PIAP." if SAME_CLASS in excluded else ".")


def markdown(summaries: Mapping[int, Sequence[LocalizationSummary]], rules: ScoringRules) -> str:
    """The tables of all numbers of sources as Markdown, in percent, and what the least AUC is."""
    sections = []
    for number, of_number in summaries.items():
        if len(summaries) > 1:
            sections.append(f"Mixtures of {number} source{'s' if number > 1 else ''}:")
        sections.append(markdown_table(*system_table(of_number, rules)))
        sections += [text] if (text := excluded_text(of_number)) else []
    return "\n\n".join([*sections, ABOUT_AUC])


def metrics_of(summaries: Mapping[int, Sequence[LocalizationSummary]]) -> dict[str, float]:
    """Scores and counts, `<system>/<score>`; of several numbers, `..._<N>_sources`."""
    metrics = {}
    for number, of_number in summaries.items():
        end = f"_{number}_sources" if len(summaries) > 1 else ""
        for summary in of_number:
            prefix = as_metric_name(summary.system)
            metrics |= {f"{prefix}/{name}{end}": value for name, value in summary.metrics.items()}
    return metrics


def headline_of(summaries: Mapping[int, Sequence[LocalizationSummary]], system: str) -> dict[str, str]:
    """A system's AP or CAP, and its success, for each number of sources, by name."""
    headline = {}
    for number, of_number in summaries.items():
        end = f"_{number}_sources" if len(summaries) > 1 else ""
        for summary in of_number:
            scores = {name: summary.metrics.get(name) for name in ("ap", "iou", "cap", "ciou")}
            if summary.system == system:
                headline |= {f"{name}{end}": f"{value:.3f}" for name, value in scores.items() if value is not None}
    return headline


def by_class(results: pa.Table, system: str, classes: Sequence[str]) -> pa.Table:
    """A row a class, the highest IoU first: `class`, `sources`, their mean IoU by `peak` and by `half`, the mean AP of
    those that have one, and how many these are, `ap_sources`: of one map for several sources there is no AP.

    Over the sources of mixtures that count, whatever the number of sources.
    """
    rows = rows_of(results, "system", [system])
    bad = rows.filter(rows["excluded"].is_valid())["mixture_id"].unique().to_pylist()
    is_bad = pc.is_in(rows["mixture_id"], pa.array(bad, pa.string()))  # pyright: ignore[reportAttributeAccessIssue]
    rows = rows.filter(pc.invert(is_bad))  # pyright: ignore[reportAttributeAccessIssue]
    scores = ("iou_peak", "iou_half", "ap")
    grouped = rows.group_by("class_id", use_threads=False).aggregate(
        [("system", "count"), ("ap", "count"), *((score, "mean") for score in scores)]
    )
    names = [class_name(classes, class_id) for class_id in grouped["class_id"].to_pylist()]
    columns: dict[str, Any] = {"class": pa.array(names, pa.string()), "sources": grouped["system_count"]}
    columns |= {score: grouped[f"{score}_mean"] for score in scores}
    columns["ap_sources"] = grouped["ap_count"]
    return pa.table(columns).sort_by([("iou_peak", "descending"), ("class", "ascending")])


def class_table(by_classes: pa.Table, rules: ScoringRules) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of `by_class`, scores in percent."""
    header = ["class", "sources", f"mean IoU, {rules.names['peak']}", "mean IoU, half", "AP", "of sources"]
    rows = [
        [
            row["class"],
            str(row["sources"]),
            *(percent(row[score]) for score in ("iou_peak", "iou_half", "ap")),
            str(row["ap_sources"]),
        ]
        for row in by_classes.to_pylist()
    ]
    return header, rows


def presence_by_modality(results: pa.Table, system: str, num_classes: int) -> dict[str, PresenceScores]:
    """How well a system says which classes are heard (`audio`) and seen (`visual`), where it does.

    Against the classes of each mixture's sources, all of which are both. Mixtures without truth count: it is of places.
    """
    rows = rows_of(results, "system", [system])
    columns = {"audio": "predicted_classes", "visual": "visual_classes"}
    by_modality = {modality: presence_in(rows, column, num_classes) for modality, column in columns.items()}
    return {modality: scores for modality, scores in by_modality.items() if scores is not None}


def percent(share: float | None) -> str:
    """One decimal, as the papers print; nothing for what is not there."""
    return "" if share is None or share != share else f"{100 * share:.1f}"


def percent_interval(interval: Interval | None, why_none: str, mean: float) -> str:
    """An interval as `percent`, or why a mean that is there has none."""
    if interval is None:
        return why_none if mean == mean else ""
    return f"{percent(interval.low)} to {percent(interval.high)}"
