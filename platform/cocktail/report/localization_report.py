"""The report of a scored localizer: tables and pictures."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from cocktail.report.localization_tables import ScoringRules, markdown, metrics_of, summarise
from cocktail.report.report import Report, Shown


def localization_report(results: pa.Table, shown: Shown, folder: Path, rules: ScoringRules) -> Report:
    """The report of results of LOCALIZATION_RESULTS."""
    summaries = summarise(results, rules)
    return Report(text=markdown(summaries, rules), metrics=metrics_of(summaries), headline={})
