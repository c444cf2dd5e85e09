"""Results as tables that one reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SCORES = ("sdr", "sir", "sar", "si_sdr", "si_sdri")
HEADERS = {"sdr": "SDR", "sir": "SIR", "sar": "SAR", "si_sdr": "SI-SDR", "si_sdri": "SI-SDRi"}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One system's scores: means over the sources of a mixture, then over mixtures."""

    system: str
    means: dict[str, float]
    """In dB, by the names in SCORES."""
    num_mixtures: int
    num_excluded: int
    """Mixtures with a silent reference, which have no score."""
    num_silent_estimates: int
    """Silent estimates, each scored as the mixture."""


def summarise(results: pa.Table) -> list[Summary]:
    """A Summary of each system in a table of `cocktail.evaluate.RESULTS`, lowest SDR first."""
    summaries = []
    for system in results["system"].unique().to_pylist():
        rows = results.filter(pc.field("system") == system)
        mixtures = rows.group_by("mixture_id").aggregate([(score, "mean") for score in SCORES])
        scored = mixtures.filter(mixtures["sdr_mean"].is_valid())
        summaries.append(
            Summary(
                system=system,
                means={score: float(np.mean(scored[f"{score}_mean"].to_numpy())) for score in SCORES},
                num_mixtures=len(scored),
                num_excluded=len(mixtures) - len(scored),
                num_silent_estimates=int(np.sum(rows["silent_estimate"].to_numpy())),
            )
        )
    return sorted(summaries, key=lambda summary: summary.means["sdr"])


def markdown(summaries: list[Summary]) -> str:
    """The summaries as a Markdown table with aligned columns; scores in dB."""
    header = ["system", *(HEADERS[score] for score in SCORES), "mixtures", "excluded", "silent estimates"]
    rows = [
        [
            summary.system,
            *(f"{summary.means[score]:.2f}" for score in SCORES),
            str(summary.num_mixtures),
            str(summary.num_excluded),
            str(summary.num_silent_estimates),
        ]
        for summary in summaries
    ]
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]

    def line(cells: list[str]) -> str:
        first, *numbers = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return f"| {' | '.join([first, *numbers])} |"

    rule = f"|{'-' * (widths[0] + 2)}|" + "".join(f"{'-' * (width + 1)}:|" for width in widths[1:])
    return "\n".join([line(header), rule, *(line(row) for row in rows)])
