"""Decisions about the classes of each source, by hand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score, hamming_loss

from cocktail.tasks.class_accuracy import ALL_ABSENT, class_accuracy
from cocktail.tasks.rows import label_column, label_sets
from cocktail.types import NO_CLASS


def rows(*items: tuple[list[float] | None, list[int] | None, str | None], class_ids: list[int] | None = None):
    """Items of presence, classes and recording."""
    presence, labels, recordings = zip(*items, strict=True)
    ids = class_ids or [NO_CLASS if not each or len(each) != 1 else each[0] for each in labels]
    return pa.table(
        {
            "source_presence": pa.array(presence, pa.list_(pa.float32())),
            "label_ids": pa.array(labels, pa.list_(pa.int32())),
            "class_id": pa.array(ids, pa.int32()),
            "recording": pa.array(recordings, pa.string()),
        }
    )


HAND = rows(
    ([0.9, 0.15, 0.35], [0], "a"),  # right above 0.35 only
    ([0.6, 0.7, 0.0], [0, 1], "b"),  # right at every threshold below 0.6
    ([0.05, 0.0, 0.25], [2], "c"),  # found below 0.25
    (None, [1], "d"),  # of another system
)


def test_shares_and_f1_are_those_of_the_decisions():
    found = class_accuracy(HAND, (0.1, 0.3, 0.5))
    assert found is not None
    by_rule = {each.rule: each for each in found.decisions}
    # 9 decisions: above 0.1 two too many of a, above 0.3 one too many of a and one missing of c, above 0.5 c's.
    assert [by_rule[f"tau_{tau}"].accuracy for tau in (0.1, 0.3, 0.5)] == pytest.approx([7 / 9, 7 / 9, 8 / 9])
    assert [by_rule[f"tau_{tau}"].exact_match for tau in (0.1, 0.3, 0.5)] == pytest.approx([2 / 3, 1 / 3, 2 / 3])
    assert by_rule["tau_0.5"].macro_f1 == pytest.approx((1 + 1 + 0) / 3)
    assert by_rule[ALL_ABSENT].accuracy == pytest.approx(5 / 9)
    assert (by_rule[ALL_ABSENT].exact_match, by_rule[ALL_ABSENT].macro_f1) == (0, 0)
    assert (found.num_items, found.num_left_out, found.num_recordings) == (3, 0, 3)


def test_it_agrees_with_scikit_learn():
    generator = np.random.default_rng(0)
    presence, truth = generator.random((40, 6)), generator.random((40, 6)) < 0.3
    truth[~truth.any(axis=1), 0] = True
    items = zip(presence.tolist(), truth, strict=True)
    found = class_accuracy(
        rows(*((said, np.flatnonzero(there).tolist(), f"r{n % 8}") for n, (said, there) in enumerate(items)))
    )
    assert found is not None
    for each, tau in zip(found.decisions, (0.1, 0.2, 0.3, 0.4, 0.5), strict=False):  # then the control
        said = presence > tau
        assert each.accuracy == pytest.approx(1 - hamming_loss(truth, said))
        assert each.macro_f1 == pytest.approx(f1_score(truth, said, average="macro"))
        assert each.accuracy_interval is not None and each.exact_interval is not None
        assert each.accuracy_interval.low < each.accuracy < each.accuracy_interval.high
        assert each.exact_interval.low <= each.exact_match <= each.exact_interval.high
    assert found.num_recordings == 8 and not found.why_none


def test_the_all_absent_control_scores_ten_in_eleven_where_each_item_has_one_of_eleven_classes():
    items = [([0.0] * 11, [n % 11], f"r{n}") for n in range(36)]
    found = class_accuracy(rows(*items))
    assert found is not None
    header, lines = found.table
    assert header[0] == "presence" and lines[-1][:2] == ["all absent", "90.91"] and lines[-1][3] == "0.00"
    assert "`" not in found.to_markdown() and "| tau 0.1 " in found.to_markdown()
    assert found.values["all_absent_accuracy"] == pytest.approx(10 / 11)


def test_sources_of_unknown_classes_are_left_out_and_counted():
    items = (([0.9, 0.1], [0], "a"), ([0.9, 0.1], None, "b"), ([0.9, 0.1], [2], "c"), ([0.9, 0.1], [0, 2], "d"))
    found = class_accuracy(rows(*items))
    assert found is not None and (found.num_items, found.num_left_out) == (1, 3)
    assert "Left out: 3 sources" in found.note and found.why_none
    assert class_accuracy(rows((None, [0], "a"))) is None
    assert class_accuracy(rows(([0.9, 0.1], None, "b"))) is None


def test_results_of_before_have_one_class_a_source_or_none():
    assert label_sets(rows((None, [0, 2], "a"), (None, [1], "b"), (None, None, "c"))) == [{0, 2}, {1}, None]
    old = rows((None, [1], "b"), (None, None, "c")).drop_columns("label_ids")
    assert label_sets(old) == [{1}, None]


def test_classes_of_sources_are_those_of_labels_or_their_only_one():
    ids = np.array([[3, NO_CLASS], [NO_CLASS, 1]])
    assert label_column(ids, None) == [[3], None, None, [1]]
    labels = np.zeros((2, 3, 5), bool)
    labels[0, 0, 3] = labels[0, 1, 0] = labels[0, 1, 4] = labels[1, 1, 1] = True
    assert label_column(ids, labels) == [[3], [0, 4], None, [1]]
