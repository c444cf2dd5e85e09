"""Aggregation of results by hand."""

import pyarrow as pa
import pytest

from cocktail.evaluate import RESULTS
from cocktail.report.tables import markdown, summarise


def row(mixture_id: str, system: str, source: int, sdr: float | None, silent_estimate: bool = False) -> dict:
    scores = dict.fromkeys(("sdr", "sir", "sar", "si_sdr", "si_sdri"), sdr)
    return {
        "mixture_id": mixture_id,
        "system": system,
        "source": source,
        "class_id": source,
        **scores,
        "silent_reference": sdr is None,
        "silent_estimate": silent_estimate,
    }


def test_means_are_over_sources_then_mixtures_and_what_has_no_score_is_counted():
    results = pa.Table.from_pylist(
        [
            # Two sources: mean 2; three sources: mean 6; one silent reference: no score.
            row("a", "model", 0, 1.0),
            row("a", "model", 1, 3.0),
            row("b", "model", 0, 6.0, silent_estimate=True),
            row("b", "model", 1, 6.0),
            row("b", "model", 2, 6.0),
            row("c", "model", 0, None),
            row("c", "model", 1, None),
            row("a", "mixture", 0, 0.0),
            row("a", "mixture", 1, 0.5),
        ],
        schema=RESULTS,
    )
    mixture, model = summarise(results)
    assert (mixture.system, model.system) == ("mixture", "model")
    assert model.means["sdr"] == pytest.approx(4.0)
    assert (model.num_mixtures, model.num_excluded, model.num_silent_estimates) == (2, 1, 1)
    assert mixture.means["si_sdri"] == pytest.approx(0.25)


def test_the_table_names_systems_scores_and_counts():
    results = pa.Table.from_pylist([row("a", "model", 0, -1.234)], schema=RESULTS)
    header, rule, line = markdown(summarise(results)).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "system", "SDR", "SIR", "SAR", "SI-SDR", "SI-SDRi", "mixtures", "excluded", "silent estimates",
    ]  # fmt: skip
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["model", *["-1.23"] * 5, "1", "0", "0"]
    assert len(header) == len(rule) == len(line)
