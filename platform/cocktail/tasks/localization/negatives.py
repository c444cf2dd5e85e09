"""How well systems know that what sounds is not in the picture: SLAVC's scores of tests with negatives.

Items are mixtures of a single source: those that count, and the negatives of a kind, or of all. An item counts with the
recordings of both its sound and its picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.metrics.detection import detection
from cocktail.metrics.intervals import Interval, Recordings
from cocktail.report.markdown import INTERVAL, format_count, markdown_table
from cocktail.tasks.localization.rules import RULES, ScoringRules
from cocktail.tasks.localization.tables import percent, percent_interval
from cocktail.tasks.rows import rows_of
from cocktail.text.printable import as_metric_name

ALL = "all"
TITLES = {
    "off_screen": "sounds off screen",
    "silent": "silent objects",
    "listed": "listed negatives",
    ALL: "all negatives",
}
QUARTER = "half, brightest quarter"
"""The rule of SLAVC's code: what is located is so by `half`, and confidence is the mean of the brightest quarter."""
ABOUT_NEGATIVES = (
    "Pictures whose object is silent, or beside which a clip of another class sounds, or which a list says do not "
    "show what sounds, stand among those that do. A system finds an item where its confidence, the peak of its map, "
    "reaches a threshold. Found items are right if the picture shows what sounds and the IoU by the rule reaches the "
    "threshold of single sources. AP is the area below precision over recall, max-F1 the best of all thresholds, "
    "location accuracy the share of the items that show what sounds whose IoU reaches it, whatever the confidence (Mo "
    "and Morgado, 2022). The constant map and the centred box are equally sure of all: an AP near theirs says that "
    "confidence tells nothing. Of maps that are scaled in each picture by itself (a softmax over places, shares of a "
    "cluster, any map `with object prior`) the peak says little of how sure a system is. In percent."
)


@dataclass(frozen=True, kw_only=True)
class RuleDetection:
    """A system's scores by one rule for what is located and how sure it is; not a number if nothing counts."""

    ap: float
    ap_interval: Interval | None
    max_f1: float
    max_f1_interval: Interval | None
    location_accuracy: float


@dataclass(frozen=True, kw_only=True)
class NegativesSummary:
    """One system's scores on single sources and negatives."""

    system: str
    by_rule: Mapping[str, RuleDetection]
    """By RULES, and QUARTER last."""
    why_no_interval: str
    num_positives: int
    num_negatives: int
    num_recordings: int | None

    @property
    def metrics(self) -> dict[str, float]:
        """The scores by name, as metrics are logged: by the first rule without its name."""
        values: dict[str, float] = {"num_positives": self.num_positives, "num_negatives": self.num_negatives}
        for rule, scores in self.by_rule.items():
            end = "" if rule == RULES[0] else f"_{as_metric_name(rule)}"
            values |= {f"detection_ap{end}": scores.ap, f"max_f1{end}": scores.max_f1}
            values[f"location_accuracy{end}"] = scores.location_accuracy
            for name, interval in (("detection_ap", scores.ap_interval), ("max_f1", scores.max_f1_interval)):
                if interval is not None:
                    values |= {f"{name}{end}_low": interval.low, f"{name}{end}_high": interval.high}
        return {name: value for name, value in values.items() if value == value}


def summarise_negatives(results: pa.Table, rules: ScoringRules) -> dict[str, list[NegativesSummary]]:
    """A summary of each system by kind of negatives, of several also of ALL, lowest AP by the first rule first; nothing
    of results without negatives."""
    if "negative" not in results.column_names:  # of an earlier version
        return {}
    singles = results.filter(pc.equal(results["num_sources"], 1))  # pyright: ignore[reportAttributeAccessIssue]
    kinds = singles["negative"].drop_null().unique().to_pylist()
    chosen = {kind: [kind] for kind in kinds} | ({ALL: kinds} if len(kinds) > 1 else {})
    systems = singles["system"].unique().to_pylist()
    summaries = {}
    for kind, of in chosen.items():
        unsorted = [_summary(rows_of(singles, "system", [system]), system, of, rules) for system in systems]
        summaries[kind] = sorted(unsorted, key=lambda each: np.nan_to_num(each.by_rule[RULES[0]].ap, nan=-1))
    return summaries


def _summary(rows: pa.Table, system: str, kinds: Sequence[str], rules: ScoringRules) -> NegativesSummary:
    is_negative = pc.is_in(rows["negative"], pa.array(kinds, pa.string()))  # pyright: ignore[reportAttributeAccessIssue]
    rows = rows.filter(pc.or_(rows["excluded"].is_null(), is_negative))  # pyright: ignore[reportAttributeAccessIssue]
    shows = rows["excluded"].is_null().to_numpy()
    pairs = zip(rows["recording"].to_pylist(), rows["picture_recording"].to_pylist(), strict=True)
    recordings = Recordings([(own,) if of_picture is None else (own, of_picture) for own, of_picture in pairs])
    located = {rule: shows & (rows[f"iou_{rule}"].to_numpy() >= rules.single_threshold) for rule in rules.names}
    sure, as_code_is = (rows[name].to_numpy() for name in ("confidence", "confidence_quarter"))
    by_rule = {rule: _by_rule(sure, located[rule], shows, recordings if rule == RULES[0] else None) for rule in located}
    by_rule[QUARTER] = _by_rule(as_code_is, located["half"], shows, None)
    return NegativesSummary(
        system=system,
        by_rule=by_rule,
        why_no_interval=recordings.why_none,
        num_positives=int(shows.sum()),
        num_negatives=int((~shows).sum()),
        num_recordings=recordings.number,
    )


def _by_rule(
    confidence: np.ndarray, located: np.ndarray, shows: np.ndarray, recordings: Recordings | None
) -> RuleDetection:
    """Scores, with intervals where the recordings of the items are given."""
    if not shows.any():
        return RuleDetection(ap=np.nan, ap_interval=None, max_f1=np.nan, max_f1_interval=None, location_accuracy=np.nan)
    scores = detection(confidence, located, shows)
    return RuleDetection(
        ap=scores.ap,
        ap_interval=recordings and recordings.interval_of_share(scores.ap_values),
        max_f1=scores.max_f1,
        max_f1_interval=recordings and recordings.interval_of_share(scores.f1_values),
        location_accuracy=float(located[shows].mean()),
    )


def negatives_table(summaries: Sequence[NegativesSummary], rules: ScoringRules) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the summaries of one kind of negatives, scores in percent."""
    header = ["system"]
    for rule, name in {**rules.names, QUARTER: QUARTER}.items():
        with_interval = [INTERVAL] if rule == RULES[0] else []
        header += [f"AP, {name}", *with_interval, f"max-F1, {name}", *with_interval]
        header += [] if rule == QUARTER else [f"location accuracy, {name}"]
    rows = []
    for summary in summaries:
        row = [summary.system]
        for rule, scores in summary.by_rule.items():
            for score, interval in ((scores.ap, scores.ap_interval), (scores.max_f1, scores.max_f1_interval)):
                row.append(percent(score))
                if rule == RULES[0]:
                    row.append(percent_interval(interval, summary.why_no_interval, score))
            row += [] if rule == QUARTER else [percent(scores.location_accuracy)]
        counts = (str(summary.num_positives), str(summary.num_negatives), format_count(summary.num_recordings))
        rows.append([*row, *counts])
    return [*header, "with source", "negatives", "recordings"], rows


def negatives_texts(summaries: Mapping[str, Sequence[NegativesSummary]], rules: ScoringRules) -> list[str]:
    """The tables of all kinds as Markdown, and what they are; nothing of a test without negatives."""
    if not summaries:
        return []
    tables = [
        f"Single sources and {TITLES[kind]}:\n\n{markdown_table(*negatives_table(of_kind, rules))}"
        for kind, of_kind in summaries.items()
    ]
    return [*tables, ABOUT_NEGATIVES]


def negatives_metrics(summaries: Mapping[str, Sequence[NegativesSummary]]) -> dict[str, float]:
    """Scores and counts, `<system>/<score>_<kind>`."""
    return {
        f"{as_metric_name(summary.system)}/{name}_{kind}": value
        for kind, of_kind in summaries.items()
        for summary in of_kind
        for name, value in summary.metrics.items()
    }
