"""Sources are chosen by name, number or presence, and keep their order."""

from __future__ import annotations

import numpy as np
import pytest

from cocktail.recordings.sources import (
    Choice,
    by_hysteresis,
    class_ids_named,
    most_present,
    nothing_heard,
    order_like,
)
from cocktail.types import UsageError


def test_a_class_counts_from_on_and_lasts_down_to_off_both_ways():
    presence = np.array([[0.1, 0.35, 0.6, 0.4, 0.2, 0.45, 0.49, 0.1, 0.31, 0.31, 0.5]]).T
    active = by_hysteresis(presence, on=0.5, off=0.3)[:, 0]
    assert active.tolist() == [False, True, True, True, False, False, False, False, True, True, True]


def test_classes_are_judged_each_by_itself():
    active = by_hysteresis(np.array([[0.9, 0.1], [0.4, 0.9], [0.1, 0.4]]), 0.5, 0.3)
    assert active.tolist() == [[True, False], [True, True], [False, True]]


def test_a_wrong_name_lists_the_known_ones():
    assert class_ids_named(["flute", "bell"], ["bell", "drum", "flute"]) == [2, 0]
    with pytest.raises(UsageError, match=r"does not know 'viola'. It knows bell, drum, flute"):
        class_ids_named(["viola", "bell"], ["bell", "drum", "flute"])
    with pytest.raises(UsageError, match="named twice"):
        class_ids_named(["bell", "bell"], ["bell"])


def test_the_most_present_are_those_of_the_highest_mean():
    presence = np.array([[0.2, 0.9, 0.4], [0.4, 0.0, 0.4]])
    assert most_present(presence, 2) == [1, 2]
    with pytest.raises(UsageError, match="4 sources are asked for, and the model knows 3"):
        most_present(presence, 4)


def test_where_nothing_is_heard_the_likeliest_class_is_named():
    error = nothing_heard(np.array([[0.2, 0.45], [0.3, 0.1]]), ["bell", "drum"], 0.5)
    assert "the likeliest is drum, at most 0.45" in str(error)


def test_choices_that_contradict_themselves_are_refused():
    with pytest.raises(UsageError, match="not both"):
        Choice(classes=("a",), num_sources=2)
    with pytest.raises(UsageError, match="off <= on"):
        Choice(on=0.3, off=0.5)


def test_order_is_found_again_whatever_level_and_sign():
    before = np.random.default_rng(0).normal(size=(3, 200))
    now = np.array([[-0.1], [3.0], [1.0]]) * before[[2, 0, 1]]
    assert order_like(before, now).tolist() == [1, 2, 0]


def test_order_stays_where_nothing_sounds():
    assert order_like(np.zeros((3, 10)), np.zeros((3, 10))).tolist() == [0, 1, 2]
