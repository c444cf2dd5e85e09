"""Aggregation of results by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cocktail.metrics.intervals import Recordings
from cocktail.report.markdown import INTERVAL, markdown_table, to_markdown
from cocktail.tasks.presence import f1_values
from cocktail.tasks.scores import order_note
from cocktail.tasks.separation.results import RESULTS
from cocktail.tasks.separation.tables import (
    HEADERS,
    PAIR_SCORES,
    SCORES,
    by_class,
    by_class_pair,
    class_table,
    markdown,
    presence_scores,
    scored_rows,
    share_in_best_order,
    summarise,
)
from cocktail.types import NO_CLASS
from tests.made.results.systems import columns_of, without_names

CLASSES = ("bell", "drum", "harp")
BELL, DRUM, HARP = range(3)


def rows(
    mixture_id: str,
    *sources: tuple[int, float | None],
    system: str = "model",
    silent_estimates: int = 0,
    predicted: list[int] | None = None,
    recordings: Sequence[str | None] | None = None,
) -> list[dict]:
    """A mixture of (class, score in dB) sources; None: its reference is silent, and no source has a score.

    Each source is of a recording of its own, unless `recordings` says otherwise.
    """
    is_scored = all(score is not None for _, score in sources)
    return [
        {
            "mixture_id": mixture_id,
            **columns_of(system),
            "source": n,
            "recording": f"{mixture_id}/{n}" if recordings is None else recordings[n],
            "num_sources": len(sources),
            "class_id": class_id,
            **dict.fromkeys(SCORES, score if is_scored else None),
            "silent_reference": score is None,
            "silent_estimate": n < silent_estimates if is_scored else None,
            "predicted_classes": predicted,
        }
        for n, (class_id, score) in enumerate(sources)
    ]


def table(*mixtures: list[dict]) -> pa.Table:
    return pa.Table.from_pylist([row for mixture in mixtures for row in mixture], schema=RESULTS)


def test_mixtures_weigh_equally_however_many_sources_or_batches_they_come_in():
    # Means of sources are 1 and 4: 2.5. The mean of all four sources would be 1.75.
    results = table(rows("a", (BELL, 1.0), (DRUM, 1.0), (HARP, 1.0)), rows("b", (BELL, 4.0)))
    (whole,) = summarise(results)
    assert whole.means["sdr"] == pytest.approx(2.5)
    assert (whole.num_mixtures, whole.num_sources) == (2, 4)
    # Two mixtures of 0 in one batch and one of 3 in another: 1, not the mean 1.5 of the batches' means.
    batches = [table(rows("a", (BELL, 0.0)), rows("b", (BELL, 0.0))), table(rows("c", (BELL, 3.0)))]
    (whole,) = summarise(pa.concat_tables(batches))
    assert whole.means["sdr"] == pytest.approx(1.0)


def test_a_mixture_with_a_silent_reference_is_counted_and_in_no_mean():
    results = table(
        rows("a", (BELL, 1.0), (DRUM, 3.0)),
        rows("b", (BELL, 6.0), (DRUM, 6.0), (HARP, 6.0), silent_estimates=2),
        rows("c", (BELL, None), (DRUM, 50.0)),
        rows("a", (BELL, 0.0), (DRUM, 0.5), system="mixture"),
        rows("c", (BELL, None), (DRUM, None), system="mixture"),
    )
    mixture, model = summarise(results)
    assert (mixture.system, model.system) == ("mixture", "model")
    assert model.means == pytest.approx(dict.fromkeys(SCORES, 4.0))
    assert mixture.means["si_sdri"] == pytest.approx(0.25)
    assert (model.num_mixtures, model.num_sources, model.num_excluded, model.num_silent_estimates) == (2, 5, 1, 2)
    assert (mixture.num_mixtures, mixture.num_sources, mixture.num_excluded) == (1, 2, 1)


def test_a_mixture_with_one_source_without_a_score_has_none():
    results = table(rows("a", (BELL, 1.0), (DRUM, 3.0)), rows("b", (BELL, 7.0), (DRUM, 9.0)))
    results = results.set_column(RESULTS.names.index("sdr"), "sdr", pa.array([1.0, 3.0, 7.0, None]))
    (model,) = summarise(results)
    assert (model.means["sdr"], model.num_excluded) == (2.0, 1)


def test_one_source_counts_in_the_scores_that_it_has():
    alone = rows("b", (HARP, 9.0))
    alone[0] |= {"sir": None, "si_sdri": None}
    (model,) = summarise(table(rows("a", (BELL, 1.0), (DRUM, 3.0)), alone))
    assert (model.means["sdr"], model.means["sir"], model.means["si_sdri"]) == (5.5, 2.0, 2.0)
    assert (model.num_mixtures, model.num_excluded) == (2, 0)


def test_the_interval_is_by_recording():
    sources = [((BELL, n - 1.0), (DRUM, n + 1.0)) for n in range(20)]
    (apart,) = summarise(table(*(rows(f"{n:02}", *each) for n, each in enumerate(sources))))
    # The mean of 0 to 19 is 9.5, and its standard error 5.92 / sqrt(20) = 1.32; Student's quantile is 2.09.
    assert apart.sdr_interval == pytest.approx((9.5, 9.5 - 2.093 * 1.323, 9.5 + 2.093 * 1.323), abs=0.01)
    assert (apart.num_mixtures, apart.num_recordings) == (20, 40)
    names = [(f"bell {n // 5}", f"drum {n // 5}") for n in range(20)]
    (shared,) = summarise(table(*(rows(f"{n:02}", *each, recordings=names[n]) for n, each in enumerate(sources))))
    assert (shared.num_mixtures, shared.num_recordings) == (20, 8)
    assert shared.sdr_interval == Recordings(names).interval(np.arange(20.0))
    # Four songs of 2, 7, 12 and 17 on average: 6.45 / sqrt(4) = 3.23, and nearly Student's 3.18 for it.
    assert shared.sdr_interval == pytest.approx((9.5, 9.5 - 3.0 * 3.23, 9.5 + 3.0 * 3.23), abs=0.5)


def test_a_table_says_why_there_is_no_interval():
    of_two = table(*(rows(f"{n}", (BELL, 1.0 * n), recordings=[f"song {n % 2}"]) for n in range(9)))
    of_unknown = table(*(rows(f"{n}", (BELL, 1.0 * n), recordings=[None]) for n in range(9)))
    for results, why, number in (
        (of_two, "too few recordings", "2"),
        (of_unknown, "recordings not known", "not known"),
    ):
        (summary,) = summarise(results)
        assert summary.sdr_interval is None
        line = markdown([summary]).splitlines()[-1]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert (cells[2], cells[7], cells[8]) == (why, "9", number)


def test_a_system_without_any_score_is_listed_first_and_empty():
    results = table(rows("a", (BELL, -9.0)), rows("b", (BELL, None), system="none"))
    none, model = summarise(results)
    assert (none.system, none.num_mixtures, none.num_sources, none.num_excluded) == ("none", 0, 0, 1)
    _, _, line, _ = markdown([none, model]).splitlines()
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["none", "", "no mixtures", *[""] * 4, *"00010"]


def test_the_table_names_systems_scores_and_counts():
    results = table(
        *(rows(name, (BELL, -1.234)) for name in "abc"),
        rows("d", (BELL, -1.234), silent_estimates=1),
        rows("e", (BELL, None)),
    )
    header, rule, line = markdown(summarise(results)).splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "system", "SDR", "95 % interval, by recording", "SIR", "SAR", "SI-SDR", "SI-SDRi", "mixtures", "recordings",
        "sources", "excluded", "silent estimates",
    ]  # fmt: skip
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "model", "-1.23", "-1.23 to -1.23", *["-1.23"] * 4, "4", "4", "4", "1", "1",
    ]  # fmt: skip
    assert len(header) == len(rule) == len(line)


def test_numbers_are_aligned_to_the_right_and_no_cell_can_end_a_column():
    text = markdown_table(["name", "n", "of"], [["a|b", "1", "x"], ["7", "-100", ""], ["c", "", "yz"]])
    assert text.splitlines() == [
        r"| name |    n | of |",
        r"|------|-----:|----|",
        r"| a\|b |    1 | x  |",
        r"| 7    | -100 |    |",
        r"| c    |      | yz |",
    ]


def given(mixture: list[dict], *estimated: int | None) -> list[dict]:
    """A mixture's rows with the classes that the system gives its estimates."""
    return [{**row, "estimate_class_id": own} for row, own in zip(mixture, estimated, strict=True)]


@pytest.mark.parametrize(
    ("classes", "estimated", "in_best_order"),
    [
        ((BELL, DRUM), (BELL, DRUM), False),
        ((BELL, DRUM), (NO_CLASS, NO_CLASS), True),
        ((BELL, DRUM), (BELL, HARP), False),  # one is left on either side, and nothing to choose
        ((BELL, DRUM, HARP), (BELL, NO_CLASS, NO_CLASS), True),
        ((BELL, BELL), (BELL, BELL), True),
        ((NO_CLASS, NO_CLASS), (NO_CLASS, NO_CLASS), True),
        ((NO_CLASS, NO_CLASS), (None, None), False),  # known to be in order
        ((BELL,), (NO_CLASS,), False),
    ],
)
def test_estimates_are_in_the_best_order_where_two_or_more_are_not_told_apart_by_class(
    classes, estimated, in_best_order
):
    rest = given(rows("m2", (BELL, 1.0), (DRUM, 1.0)), BELL, DRUM)
    silent = given(rows("m3", (BELL, None), (DRUM, 1.0)), None, None)
    of_system = given(rows("m1", *((class_id, 1.0) for class_id in classes)), *estimated)
    assert share_in_best_order(table(of_system, rest, silent), "model") == (0.5 if in_best_order else 0.0)


def test_a_control_is_in_no_order_of_its_own():
    results = without_names(table(rows("m1", (BELL, 1.0), (DRUM, 1.0), system="mixture")), "mixture")
    assert share_in_best_order(results, "mixture") == 0


def test_who_is_helped_by_the_best_order_is_said_with_the_share_of_mixtures():
    note = order_note([("a", 1.0), ("b", 0.25), ("c", 0.0), ("b", 0.0), ("d", 0.001), ("e, soft masks", 1.0)])
    assert note.endswith(
        "In all mixtures this helps a; e, soft masks. In 12% of the mixtures this helps b. "
        "In 1% of the mixtures this helps d."
    )
    assert order_note([("a", 0.0)]) == order_note([]) == ""


def test_classes_have_the_means_over_their_own_sources_the_best_first():
    results = table(
        rows("a", (BELL, 1.0), (DRUM, 5.0)),
        rows("b", (BELL, 3.0), (-1, 7.0)),
        rows("c", (BELL, None), (HARP, 99.0)),
        rows("a", (BELL, 100.0), (DRUM, 100.0), system="ideal binary mask"),
    )
    classes = by_class(scored_rows(results, "model"), CLASSES)
    assert classes.column_names == ["class", "sources", "recordings", *SCORES, "sdr_low", "sdr_high", "why_no_interval"]
    assert classes["class"].to_pylist() == ["unlabelled", "drum", "bell"]
    assert classes["sources"].to_pylist() == classes["recordings"].to_pylist() == [1, 1, 2]
    assert classes["sdr_low"].to_pylist() == [None] * 3
    assert classes["sdr"].to_pylist() == classes["si_sdri"].to_pylist() == [7.0, 5.0, 2.0]
    header, (first, *_) = class_table(classes)
    assert header == ["class", "sources", "recordings", "SDR", INTERVAL, "SIR", "SAR", "SI-SDR", "SI-SDRi"]
    assert first == ["unlabelled", "1", "1", "7.00", "too few recordings", *["7.00"] * 4]


def test_the_interval_of_a_class_is_by_its_own_recordings():
    bells = [f"bell {n // 4}" for n in range(12)]
    results = table(
        *(rows(f"{n}", (BELL, 1.0 * n), (DRUM, 0.0), recordings=[bells[n], f"drum {n}"]) for n in range(12))
    )
    bell, drum = by_class(scored_rows(results, "model"), CLASSES).to_pylist()
    expected = Recordings([[name] for name in bells]).interval(np.arange(12.0))
    assert expected is not None
    assert (bell["recordings"], bell["sdr"], bell["sdr_low"], bell["sdr_high"]) == (3, *expected)
    assert (drum["recordings"], drum["sdr_low"], drum["sdr_high"]) == (12, 0, 0)
    _, (line, _) = class_table(by_class(scored_rows(results, "model"), CLASSES))
    assert line[3:5] == ["5.50", f"{expected.low:.2f} to {expected.high:.2f}"]
    bells = [f"bell {max(n - 8, 0)}" for n in range(12)]
    results = table(*(rows(f"{n}", (BELL, 1.0 * n), recordings=[bells[n]]) for n in range(12)))
    _, (line,) = class_table(by_class(scored_rows(results, "model"), CLASSES))
    assert line[3:5] == ["5.50", "few recordings dominate"]


def spread(mean: float, deviation: float | None = None) -> dict[str, Any]:
    """A pair's columns of scores that are alike."""
    of_each = {score: (mean, deviation) for score in PAIR_SCORES}
    return {
        name: pytest.approx(value) if value is not None else None
        for score, both in of_each.items()
        for name, value in zip((score, f"{score}_std"), both, strict=True)
    }


def test_pairs_of_classes_have_the_means_over_the_two_in_all_mixtures_that_hold_both():
    results = table(
        rows("a", (BELL, 1.0), (DRUM, 5.0)),
        rows("b", (DRUM, 2.0), (BELL, 4.0), (HARP, 12.0)),
        rows("c", (BELL, 90.0), (-1, 90.0)),
        rows("d", (BELL, None), (DRUM, None)),
    )
    pairs = by_class_pair(scored_rows(results, "model"), CLASSES).to_pylist()
    assert pairs == [
        {"class_a": "bell", "class_b": "harp", "mixtures": 1, **spread(8.0)},  # (4 + 12) / 2
        {"class_a": "drum", "class_b": "harp", "mixtures": 1, **spread(7.0)},  # (2 + 12) / 2
        {"class_a": "bell", "class_b": "drum", "mixtures": 2, **spread(3.0, 0.0)},  # of (1 + 5) / 2 and (2 + 4) / 2
    ]


def test_a_class_that_is_mixed_with_itself_is_a_pair_and_each_mixture_counts_once():
    results = table(rows("a", (BELL, 1.0), (BELL, 2.0), (BELL, 6.0)), rows("b", (BELL, 0.0), (BELL, 1.0), (DRUM, 8.0)))
    pairs = by_class_pair(scored_rows(results, "model"), CLASSES).to_pylist()
    assert pairs == [
        {"class_a": "bell", "class_b": "drum", "mixtures": 1, **spread(3.0)},  # (0 + 1 + 8) / 3
        {"class_a": "bell", "class_b": "bell", "mixtures": 2, **spread(2.0, 2.5 / 2**0.5)},  # of 3 and 0.5
    ]


def test_tables_of_nothing_are_empty():
    results = table(rows("a", (BELL, None)))
    assert (
        len(by_class(scored_rows(results, "model"), CLASSES))
        == len(by_class_pair(scored_rows(results, "model"), CLASSES))
        == 0
    )
    assert class_table(by_class(scored_rows(results, "model"), CLASSES))[1] == []
    assert len(to_markdown(by_class_pair(scored_rows(results, "model"), CLASSES), HEADERS).splitlines()) == 2


def test_presence_is_scored_once_a_mixture():
    results = table(
        rows("a", (BELL, 1.0), (DRUM, 1.0), predicted=[BELL]),  # one hit, one miss
        rows("b", (BELL, 1.0), (HARP, 1.0), predicted=[BELL, DRUM, HARP, 3]),  # two hits, two false alarms
        rows("c", (BELL, 1.0), (-1, 1.0), predicted=[DRUM]),  # nobody knows what the other source is
        rows("a", (BELL, 1.0), (DRUM, 1.0), system="mixture"),
    )
    found = presence_scores(scored_rows(results, "model"), 4)
    assert found is not None
    assert found.num_mixtures == 2
    assert found.micro == pytest.approx((3 / 5, 3 / 4, 6 / 9))
    # bell 1, 1; drum 0, 0; harp 1, 1; the fourth class never occurs.
    assert found.macro == pytest.approx((2 / 4, 2 / 4, 2 / 4))
    assert found.values["micro_f1"] == pytest.approx(6 / 9)
    assert next(iter(found.values)) == "micro_precision"
    assert (found.num_recordings, found.micro_f1, found.why_no_interval) == (4, None, "too few recordings")
    line = found.to_markdown().splitlines()[2]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == ["micro", "0.600", "0.750", "0.667", "too few recordings", "2", "4"]


def test_f1_has_the_interval_of_a_share_which_is_wider_where_recordings_are_shared():
    guesses = [[BELL], [BELL, DRUM], [DRUM]] * 4
    apart = [rows(f"{n}", (BELL, 1.0), predicted=guess) for n, guess in enumerate(guesses)]
    shared = [rows(f"{n}", (BELL, 1.0), predicted=guesses[n], recordings=[f"bell {n % 3}"]) for n in range(12)]
    of_apart, of_shared = (presence_scores(scored_rows(table(*each), "model"), 2) for each in (apart, shared))
    assert of_apart is not None and of_shared is not None
    # Of each three 2, 2 and 0 hits of 2, 3 and 2 decisions: F1 is 4 / 7 for both.
    hits, decisions = np.tile([2, 2, 0], 4), np.tile([2, 3, 2], 4)
    values = 4 / 7 + (hits - 4 / 7 * decisions) / (7 / 3)
    assert of_apart.micro_f1 == pytest.approx(Recordings([[f"{n}"] for n in range(12)]).interval_of_share(values))
    assert of_apart.micro_f1 is not None and of_shared.micro_f1 is not None
    assert of_apart.values["micro_f1_low"] == of_apart.micro_f1.low
    assert 0 <= of_shared.micro_f1.low < of_apart.micro_f1.low < of_apart.micro_f1.high < of_shared.micro_f1.high <= 1
    assert (of_apart.num_recordings, of_shared.num_recordings) == (12, 3)


def test_presence_without_an_error_may_err_elsewhere_and_macro_f1_says_that_all_are_alike():
    mixtures = [rows(f"{name} {n}", (name, 1.0), predicted=[name]) for name in (BELL, DRUM) for n in range(6)]
    found = presence_scores(scored_rows(table(*mixtures), "model"), 2)
    assert found is not None and found.micro_f1 is not None
    assert found.micro_f1.low < 0.9 and found.micro_f1.high == 1
    assert (found.macro_f1, found.why_no_macro_interval) == (None, "all alike")


def test_macro_f1_has_no_interval_where_a_class_is_of_too_few_recordings_and_says_so():
    bells = [rows(f"bell {n}", (BELL, 1.0), predicted=[BELL] if n else [DRUM]) for n in range(3)]
    drums = [rows(f"drum {n}", (DRUM, 1.0), predicted=[DRUM]) for n in range(3)]
    of_three, of_two = (presence_scores(scored_rows(table(*bells, *each), "model"), 2) for each in (drums, drums[:2]))
    assert of_three is not None and of_two is not None
    assert of_three.macro_f1 is not None and of_three.micro_f1 is not None and of_two.micro_f1 is not None
    assert of_two.macro_f1 is None
    assert "macro_f1_low" not in of_two.values
    assert [cells[-1] for cells in of_two.cells][1] == "too few recordings of a class"


def test_macro_f1_has_the_interval_of_the_mean_over_classes():
    predicted, truth = (np.random.default_rng(seed).random((400, 3)) < 0.5 for seed in (0, 1))
    predicted[:, 2] = truth[:, 2] = False  # never occurs: 0
    micro, macro = f1_values(predicted, truth)
    scores = [2 * (predicted & truth)[:, c].sum() / (predicted[:, c].sum() + truth[:, c].sum()) for c in (0, 1)]
    assert macro.mean() == pytest.approx(sum(scores) / 3)
    assert micro.mean() == pytest.approx(2 * (predicted & truth).sum() / (predicted.sum() + truth.sum()))
    # Each value is the ratio's own derivative: what leaving a mixture out does.
    kept = np.arange(400) != 7
    assert macro.mean() - f1_values(predicted[kept], truth[kept])[1].mean() == pytest.approx(
        (macro[7] - macro.mean()) / 400, rel=0.05
    )


def test_a_system_that_predicts_no_classes_has_no_presence_scores_and_one_that_predicts_none_has():
    without = table(rows("a", (BELL, 1.0)))
    nothing = table(rows("a", (BELL, 1.0), predicted=[]))
    assert presence_scores(scored_rows(without, "model"), 3) is None
    found = presence_scores(scored_rows(nothing, "model"), 3)
    assert found is not None
    assert found.micro.recall == 0
