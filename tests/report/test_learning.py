"""Curves of learning and the heat map of class pairs hold the values they are given, in their places."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cocktail.report.learning import learning_figure
from cocktail.tasks.separation import class_pairs as matrix
from cocktail.tasks.separation.class_pairs import MOST_CLASSES, frequent_classes, pair_figure, pair_matrix

PAIRS = pa.schema([("class_a", pa.string()), ("class_b", pa.string()), ("sdr", pa.float64()), ("mixtures", pa.int64())])


def pairs(*rows: tuple[str, str, float | None, int]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(PAIRS.names, row, strict=True)) for row in rows], schema=PAIRS)


def histories() -> dict[str, list[tuple[int, float]]]:
    steps = [1, 2, 4, 256, 1000]
    looks = {
        f"look/{what}_{average}_{score}": [(step, (i + 10 * j + 20 * k) / 100) for i, step in enumerate(steps)]
        for what in ("token", "presence")
        for j, average in enumerate(("micro", "macro"))
        for k, score in enumerate(("precision", "recall", "f1"))
    }
    return {
        **looks,
        "loss/total": [(100, 2.0), (1500, 1.0)],
        "loss/token": [(100, 1.0)],
        "seconds_per_step": [(1, 9.0)],
    }


def test_each_curve_is_in_its_panel():
    given = histories()
    figure = learning_figure(given, "SGN")
    axes = {axis.get_title(): axis for axis in figure.axes}
    names = {
        "class tokens (macro)": "look/token_macro_",
        "presence above 0.5 (macro)": "look/presence_macro_",
        "presence above 0.5 (micro)": "look/presence_micro_",
        "training losses": "loss/",
    }
    assert list(axes) == list(names)
    for title, prefix in names.items():
        labels = ["total", "token"] if prefix == "loss/" else ["precision", "recall", "F1"]
        assert [line.get_label() for line in axes[title].lines] == labels
        for line in axes[title].lines:
            drawn = np.asarray(line.get_xydata()).tolist()
            assert drawn == [list(point) for point in given[prefix + str(line.get_label()).lower()]]
    assert axes["class tokens (macro)"].get_ylim() == (-0.02, 1.02)
    assert axes["training losses"].get_yscale() == "log"


def test_what_is_seen_has_panels_of_its_own_in_a_second_row():
    given = histories()
    seen = {name.replace("presence", "visual_presence"): points for name, points in given.items() if "presence" in name}
    figure = learning_figure(given | seen, "AVGN")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[3:5] == ["presence in the picture (macro)", "presence in the picture (micro)"]
    tops = [axis.get_position().y1 for axis in figure.axes]
    assert tops[0] == tops[2] > tops[3] == tops[5]
    one_less = learning_figure({**given, **seen, "loss/total": [], "loss/token": []}, "AVGN")
    assert len(one_less.axes) == 5


def test_panels_share_their_steps_so_that_the_first_ones_show():
    axes = learning_figure(histories(), "SGN").axes
    assert len({axis.get_xlim() for axis in axes}) == 1
    for axis in axes:
        first, last = axis.get_xlim()
        assert first <= 1 and last >= 1500
        (left, _), (middle, _), (right, _) = axis.transData.transform([(first, 0.5), (30, 0.5), (last, 0.5)])
        assert 0.4 < (middle - left) / (right - left) < 0.6


def test_epochs_stand_above_the_steps_that_they_are():
    figure = learning_figure(histories(), "SGN", steps_per_epoch=100)
    figure.canvas.draw()
    steps, epochs = figure.axes[0], figure.axes[4]
    assert epochs.get_xlabel() == "epoch of 100 steps (log)"
    assert list(epochs.get_xticks()) == pytest.approx([0.1, 0.3, 1, 3, 10])
    for epoch in (0.01, 0.3, 1, 10):
        above, below = epochs.transData.transform((epoch, 0))[0], steps.transData.transform((100 * epoch, 0))[0]
        assert above == pytest.approx(below)


def test_panels_without_values_are_left_out_and_nothing_at_all_is_refused():
    losses = {"loss/total": [(0, 1.0), (5, -1.0)], "look/token_macro_f1": []}
    (axis,) = learning_figure(losses, "slots").axes
    assert axis.get_title() == "training losses"
    assert axis.get_yscale() == "linear"  # a loss below zero has no logarithm
    assert axis.get_xlim()[0] == 0
    with pytest.raises(ValueError, match="among \\['seconds_per_step'\\]"):
        learning_figure({"seconds_per_step": [(1, 2.0)]}, "slots")


def test_a_cell_holds_the_mean_of_its_pair_and_the_matrix_is_symmetric():
    table = pairs(("a", "b", 3.0, 1), ("b", "a", 6.0, 2), ("c", "c", -2.0, 4), ("a", "c", None, 9), ("b", "d", 1.0, 0))
    figure = pair_figure(table, "SGN")
    drawn: Any = figure.axes[0].images[0].get_array()
    nan = np.nan
    expected = np.array([[nan, 5.0, nan], [5.0, nan, nan], [nan, nan, -2.0]])  # (3 + 2 * 6) / 3
    np.testing.assert_allclose(np.ma.filled(drawn, nan), expected)
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels == ["a", "b", "c"] == [label.get_text() for label in figure.axes[0].get_yticklabels()]
    texts = {text.get_position(): text.get_text() for text in figure.axes[0].texts}
    assert texts == {(1, 0): "5.0", (0, 1): "5.0", (2, 2): "-2.0"}
    assert figure.axes[0].images[0].get_clim() == (-5, 5)  # 0 dB in the middle


def test_of_many_classes_those_in_most_mixtures_are_drawn_without_values():
    names = [f"{i:03}" for i in range(MOST_CLASSES + 5)]
    rows = [(a, b, 1.0, 1 if a < "005" else 10) for i, a in enumerate(names) for b in names[i + 1 :]]
    chosen, left_out = frequent_classes(pairs(*rows))
    assert (chosen, left_out) == (names[5:], 5)
    figure = pair_figure(pairs(*rows), "SGN")
    assert figure.axes[0].get_title() == f"SGN\nthe {MOST_CLASSES} most frequent of {MOST_CLASSES + 5} classes"
    assert not figure.axes[0].texts
    assert pair_matrix(pairs(*rows), chosen).shape == (MOST_CLASSES, MOST_CLASSES)


def test_a_class_mixed_with_itself_counts_its_mixtures_once(monkeypatch):
    monkeypatch.setattr(matrix, "MOST_CLASSES", 2)
    assert frequent_classes(pairs(("a", "a", 1.0, 3), ("b", "c", 1.0, 5))) == (["b", "c"], 1)


def test_where_no_pair_has_a_score_the_figure_says_so():
    for table in (pairs(), pairs(("a", "b", None, 3))):
        figure = pair_figure(table, "SGN")
        assert [text.get_text() for text in figure.texts] == ["SGN", "no pair of classes has a score"]
        assert not figure.axes
