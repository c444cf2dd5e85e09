"""Visible sources are told from invisible ones, and what a parser says of them is scored beside trivial sets."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from cocktail.metrics.intervals import Recordings
from cocktail.report.markdown import markdown_table
from cocktail.tasks.separation.parsed import AUDIBLE, parsed_metrics, parsed_sets, parsed_table
from cocktail.tasks.separation.report import Summaries, metrics_of, summary_of
from cocktail.tasks.separation.results import RESULTS, SeparatedBatch, System, score_batch
from cocktail.tasks.separation.scores import SeparationScores
from cocktail.tasks.separation.sight import INVISIBLE, VISIBLE, withholds
from cocktail.tasks.separation.task import Separating

BELL, DRUM, HARP = range(3)


def rows(mixture_id, *sources, system="model", heard=None, looked=None) -> list[dict]:
    """A mixture of sources (class, SDR, seen), whose SIR is ten above their SDR; each of a recording of its own."""
    return [
        {
            "mixture_id": mixture_id,
            "system": system,
            "kind": "model" if system == "model" else "control",
            "source": n,
            "recording": f"{mixture_id}/{n}",
            "num_sources": len(sources),
            "class_id": class_id,
            "sdr": sdr,
            "sir": None if sdr is None else sdr + 10,
            "silent_estimate": False,
            "seen": seen,
            "predicted_classes": heard,
            "visual_classes": looked,
        }
        for n, (class_id, sdr, seen) in enumerate(sources)
    ]


def table(*mixtures: list[dict]) -> pa.Table:
    return pa.Table.from_pylist([row for mixture in mixtures for row in mixture], schema=RESULTS)


MIXED = table(
    rows("a", (BELL, 6.0, True), (DRUM, 0.0, False), (HARP, 2.0, False)),
    rows("b", (BELL, 4.0, True), (DRUM, -1.0, False)),
    rows("c", (DRUM, 9.0, True), (HARP, None, False)),
    rows("a", (BELL, 0.0, True), (DRUM, 1.0, False), (HARP, 1.0, False), system="mixture"),
    rows("b", (BELL, 0.0, True), (DRUM, 3.0, False), system="mixture"),
)


def test_scores_are_means_over_the_sources_of_a_kind_then_over_mixtures():
    metrics = metrics_of(Summaries.of(MIXED))
    # Visible: 6, 4 and 9; invisible: the mean of 0 and 2, and -1.
    assert metrics["model/visible_sdr"] == pytest.approx(19 / 3) and metrics["model/visible_sir"] == pytest.approx(
        49 / 3
    )
    assert metrics["model/invisible_sdr"] == pytest.approx(0.0) and metrics["model/invisible_sir"] == pytest.approx(10)
    assert (metrics["model/visible_num_sources"], metrics["model/invisible_num_sources"]) == (3, 3)
    assert metrics["mixture/invisible_sdr"] == pytest.approx(2.0)
    text = summary_of(Summaries.of(MIXED), "model", ()).text
    header = next(line for line in text.splitlines() if "invisible SDR" in line)
    assert header.index("visible SDR") < header.index("visible SIR") < header.index("invisible SDR")
    assert any(cells[1] == "6.33" and cells[5] == "0.00" for cells in cells_of(text))


def test_intervals_are_by_the_recordings_of_all_sources_of_a_mixture():
    """Of twelve mixtures of twelve visible recordings with three invisible ones, which decide the scores."""
    random = np.random.default_rng(0)
    mixed, names, scores = [], [], []
    for n in range(12):
        score = 3.0 * (n % 3) + random.normal()
        one = rows(f"{n}", (BELL, score, True), (DRUM, -score, False))
        one[1]["recording"] = f"shared/{n % 3}"
        mixed.append(one)
        names.append([row["recording"] for row in one])
        scores.append(score)
    summaries = Summaries.of(table(*mixed)).by_sight
    for sight, sign in ((VISIBLE, 1), (INVISIBLE, -1)):
        (summary,) = summaries[sight]
        by_all, by_own = (
            each.interval(sign * np.array(scores))
            for each in (Recordings(names), Recordings([[own] for own, _ in names]))
        )
        assert by_all is not None and by_own is not None and by_all.low < by_own.low - 0.1
        assert summary.sdr_interval == pytest.approx(by_all)
        assert summary.num_recordings == 15


def cells_of(text: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "invisible" not in line
    ][-4:]


def test_nothing_is_told_apart_where_all_are_seen_or_nobody_looks():
    whole = table(rows("a", (BELL, 6.0, True), (DRUM, 0.0, True)))
    for results in (whole, whole.drop_columns(["seen", "visual_classes"]), table(rows("a", (BELL, 1.0, None)))):
        assert not withholds(results)
        assert "visible" not in summary_of(Summaries.of(results), "model", ()).text
        assert Separating().scoreboard(results) == SeparationScores()
    assert withholds(MIXED) and Separating().scoreboard(MIXED).withheld


def test_a_mixture_has_the_scores_of_its_own_visible_and_invisible_sources():
    board = Separating().scoreboard(MIXED)
    names = [score.name for group in board.groups for score in group.scores]
    assert names[-4:] == ["visible_sdr", "visible_sir", "invisible_sdr", "invisible_sir"]
    mixtures = board.mixtures(MIXED, "model")
    assert mixtures["mixture_id"].to_pylist() == ["a", "b", "c"]
    assert mixtures["visible_sdr"].to_pylist() == [6, 4, 9]
    assert mixtures["invisible_sdr"].to_pylist() == [1, -1, None]
    assert mixtures["invisible_sir"].to_pylist() == [11, 9, None]
    # Read together with results of a test that shows all.
    whole = table(rows("a", (BELL, 6.0, True), (DRUM, 0.0, True)))
    both = Separating().scoreboard(whole).together(board)
    assert both.mixtures(whole, "model")["visible_sdr"].to_pylist() == [3.0]
    assert both.mixtures(whole, "model")["invisible_sdr"].to_pylist() == [None]
    unsaid = whole.drop_columns(["seen"])
    assert both.mixtures(unsaid, "model")["visible_sdr"].to_pylist() == [None]


def test_rows_say_which_sources_pictures_showed_and_what_the_model_heard_and_saw():
    generator = np.random.default_rng(0)
    references = generator.standard_normal((2, 3, 2000)).astype(np.float32)
    references[1, 2] = 0
    batch = SeparatedBatch(
        mixture_ids=np.array(["a", "b"]),
        class_ids=np.array([[BELL, DRUM, HARP], [DRUM, BELL, -1]]),
        num_sources=np.array([3, 2]),
        mixture=references.sum(axis=1),
        references=references,
        systems=(
            System(name="model", kind="model", estimates=references),
            System(name="x", kind="control", estimates=references),
        ),
        seen=np.array([[True, False, False], [False, True, False]]),
        presence=np.array([[0.9, 0.6, 0.1], [0.2, 0.8, 0.4]]),
        visual_presence=np.array([[0.9, 0.1, 0.1], [0.6, 0.2, 0.4]]),
    )
    results = score_batch(batch, metrics="batched", by_fuss_rule=False)
    of_model = {
        name: [row for row in results.to_pylist() if row["mixture_id"] == name and row["system"] == "model"]
        for name in ("a", "b")
    }
    assert [row["seen"] for row in of_model["a"]] == [True, False, False]
    assert [row["seen"] for row in of_model["b"]] == [False, True]
    assert {tuple(row["predicted_classes"]) for row in of_model["a"]} == {(0, 1)}
    assert {tuple(row["visual_classes"]) for row in of_model["b"]} == {(0,)}
    assert {row["visual_classes"] is None for row in results.to_pylist() if row["system"] == "x"} == {True}
    assert withholds(results)
    by_its_own = score_batch(replace(batch, presence_threshold=0.3), metrics="batched", by_fuss_rule=False).to_pylist()
    of_b = [row for row in by_its_own if (row["mixture_id"], row["system"]) == ("b", "model")]
    assert {(*row["predicted_classes"], -1, *row["visual_classes"]) for row in of_b} == {(1, 2, -1, 0, 2)}


SAID = table(
    # Right in all but that the drum is said to be seen.
    rows("a", (BELL, 6.0, True), (DRUM, 0.0, False), heard=[BELL, DRUM], looked=[BELL, DRUM]),
    rows("b", (HARP, 4.0, True), (DRUM, -1.0, False), heard=[HARP, DRUM], looked=[HARP]),
    rows("c", (HARP, 4.0, False), (DRUM, -1.0, False), heard=[DRUM], looked=[]),
)


def test_sets_are_scored_against_what_is_seen_heard_and_heard_alone():
    sets = parsed_sets(SAID, 3)
    visible, audible, invisible = (sets[kind].own for kind in (VISIBLE, AUDIBLE, INVISIBLE))
    # Visible: bell and harp found, the drum is a false alarm.
    assert visible.micro.f1 == pytest.approx(2 * 2 / (3 + 2)) and visible.macro.f1 == pytest.approx(2 / 3)
    # Audible: of six sources the harp of c is missed.
    assert audible.micro.f1 == pytest.approx(10 / 11) and audible.macro.f1 == pytest.approx((1 + 2 / 3 + 1) / 3)
    # Invisible: {}, {drum} and {drum} of {drum}, {drum} and {harp, drum}.
    assert invisible.micro.f1 == pytest.approx(4 / 6) and invisible.macro.f1 == pytest.approx(0.8 / 3)


def test_controls_name_none_the_most_frequent_or_all():
    metrics = parsed_metrics(parsed_sets(SAID, 3))
    assert [metrics[f"presence/{kind}_micro_f1_none"] for kind in (VISIBLE, AUDIBLE, INVISIBLE)] == [0, 0, 0]
    # The drum is in all three mixtures, and never seen: bell and harp are once each, and the bell is first.
    assert metrics["presence/audible_macro_f1_most_frequent"] == pytest.approx(1 / 3)
    assert metrics["presence/invisible_micro_f1_most_frequent"] == pytest.approx(6 / 7)
    assert metrics["presence/visible_micro_f1_most_frequent"] == pytest.approx(2 / 5)
    # All: precision 6 of 9, recall 1.
    assert metrics["presence/audible_micro_f1_all"] == pytest.approx(12 / 15)
    text = markdown_table(*parsed_table(parsed_sets(SAID, 3)))
    assert "F1, naming the most frequent" in text and text.count("\n") == 7


def test_a_model_that_does_not_say_what_it_sees_has_no_sets():
    assert parsed_sets(table(rows("a", (BELL, 1.0, True), (DRUM, 1.0, False), heard=[BELL])), 3) == {}
    assert parsed_sets(SAID.drop_columns(["visual_classes"]), 3) == {}
