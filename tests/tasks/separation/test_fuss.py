"""The report of the FUSS rule, by hand."""

import numpy as np
import pyarrow as pa
import pytest

from cocktail.metrics.intervals import Recordings
from cocktail.tasks.separation.fuss import FussReport, fuss_report
from cocktail.tasks.separation.results import RESULTS


def mixture(name: str, references: int, estimates: int, *sources: tuple[float, float, bool]) -> list[dict]:
    """A mixture's rows: (SI-SDR, SI-SDRi, active pair) of each source."""
    return [
        {
            "mixture_id": name,
            "system": "model",
            "recording": f"{name}/{n}",
            "num_sources": len(sources),
            "fuss_si_sdr": si_sdr,
            "fuss_si_sdri": si_sdri,
            "fuss_active_pair": pair,
            "fuss_active_references": references,
            "fuss_active_estimates": estimates,
        }
        for n, (si_sdr, si_sdri, pair) in enumerate(sources)
    ]


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=RESULTS)


def report_of(rows: list[dict]) -> FussReport:
    """The model's, beside a system that is not to be counted."""
    report = fuss_report(
        table([*rows, *({**row, "system": "mixture", "fuss_si_sdri": -50.0} for row in rows)]), "model"
    )
    assert report is not None
    return report


ROWS = [
    *mixture("a", 1, 1, (30.0, 1.0, True)),
    *mixture("b", 1, 2, (36.0, 1.0, True)),
    *mixture("c", 2, 1, (5.0, 10.0, True), (-80.0, -70.0, False)),
    *mixture("d", 2, 2, (5.0, 6.0, True), (5.0, 8.0, True)),
    *mixture("e", 3, 3, (0.0, 1.0, True), (0.0, 2.0, True), (0.0, 3.0, True)),
]


def test_means_are_over_active_pairs_and_shares_over_mixtures():
    report = report_of(ROWS)
    one, two, three, four, pooled, whole = report.groups
    assert (one.sources, one.score, one.mean_db, one.num_pairs, one.num_mixtures) == ("1", "SI-SDR", 33, 2, 2)
    assert (one.fewer, one.equal, one.more) == (0, 0.5, 0.5)
    assert (two.score, two.mean_db, two.num_pairs, two.num_references, two.num_mixtures) == ("SI-SDRi", 8, 3, 4, 2)
    assert (two.fewer, two.equal, two.more) == (0.5, 0.5, 0)
    assert (three.mean_db, three.num_pairs) == (2, 3)
    assert (four.mean_db, four.num_mixtures, four.equal) == (None, 0, None)
    # Sources count once: the mean of 10, 6, 8, 1, 2, 3, neither of groups nor of mixtures.
    assert (pooled.sources, pooled.mean_db, pooled.num_pairs) == ("2-4", 5, 6)
    assert pooled.fewer == pytest.approx(1 / 3)
    assert (whole.sources, whole.mean_db, whole.num_mixtures) == ("all", None, 5)
    assert (whole.fewer, whole.equal, whole.more) == (0.2, pytest.approx(0.6), 0.2)


def test_groups_go_by_active_references_not_by_sources():
    rows = mixture("a", 1, 1, (12.0, 3.0, True), (-80.0, 0.0, False))
    one, two, *_ = report_of(rows).groups
    assert (one.mean_db, one.num_mixtures, two.num_mixtures) == (12, 1, 0)


def test_more_than_four_sources_have_their_own_row_and_none_at_all_are_counted():
    rows = [
        *mixture("a", 5, 4, *[(0.0, 7.0, True)] * 5),
        *mixture("b", 0, 0, (-80.0, 0.0, False)),
    ]
    report = report_of(rows)
    assert [group.sources for group in report.groups] == ["1", "2", "3", "4", "5", "2-4", "all"]
    assert report.groups[4].mean_db == 7
    assert (report.groups[5].mean_db, report.groups[5].num_mixtures) == (None, 0)
    assert (report.groups[6].num_mixtures, report.groups[6].fewer) == (1, 1)
    assert report.num_without_reference == 1


def test_the_table_has_a_line_a_group():
    header, _, one, two, _, four, _, whole = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in report_of(ROWS).markdown().splitlines()
    )
    assert header == [
        *("sources", "score", "dB", "95 % interval, by recording", "pairs", "references", "mixtures", "recordings"),
        *("fewer", "equal", "more"),
    ]
    few = "too few recordings"
    assert one == ["1", "SI-SDR", "33.00", few, "2", "2", "2", "2", "0.0%", "50.0%", "50.0%"]
    assert two == ["2", "SI-SDRi", "8.00", few, "3", "4", "2", "4", "50.0%", "50.0%", "0.0%"]
    assert four == ["4", "SI-SDRi", "", "", "0", "0", "0", "0", "", "", ""]
    assert whole == ["all", "", "", "", "8", "9", "5", "9", "20.0%", "60.0%", "20.0%"]


def test_the_interval_of_a_mean_over_pairs_is_by_recording():
    # Of 2 to 4 sources, c, d, e and f have 1, 2, 3 and 1 active pairs, of 10, 14, 6 and 16 dB together.
    rows = [*ROWS, *mixture("f", 2, 2, (5.0, 16.0, True), (-80.0, -9.0, False))]
    pooled = report_of(rows).groups[4]
    sums, pairs = np.array([10, 14, 6, 16.0]), np.array([1, 2, 3, 1])
    ratio = 46 / 7
    apart = Recordings([[name] for name in "cdef"])
    assert pooled.mean_db == pytest.approx(ratio)
    assert pooled.interval == pytest.approx(apart.interval(ratio + (sums - ratio * pairs) / 1.75))
    alike = [{**row, "recording": "the only one"} for row in rows]
    assert report_of(alike).groups[4].interval is None


def test_a_system_without_such_scores_has_no_report():
    unscored = [{**row, **{name: None for name in row if name.startswith("fuss")}} for row in ROWS]
    assert fuss_report(table(unscored), "model") is None
    assert fuss_report(table(ROWS), "another") is None


def test_a_mixture_that_is_there_twice_is_refused():
    with pytest.raises(ValueError, match="mixture a has 1 sources, but 2 rows of model"):
        fuss_report(table([*ROWS, *ROWS]), "model")


def test_rows_of_which_some_have_no_scores_are_refused():
    with pytest.raises(ValueError, match="1 of 10 rows of model have no fuss_active_pair"):
        fuss_report(table([*ROWS, {**ROWS[0], "fuss_active_pair": None}]), "model")
