"""Parts of splits: what they are called, that they divide all recordings, and that none is in two."""

import numpy as np
import pytest

from cocktail.config.splits import Split
from cocktail.types import UsageError

RECORDINGS = [f"recording {number}" for number in range(4000)]


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("train", Split("train")),
        ("train[5%:]", Split("train", 0.05, 1)),
        ("train[:2.5%]", Split("train", 0, 0.025)),
        ("a-b[5%:10%]", Split("a-b", 0.05, 0.1)),
    ],
)
def test_a_part_is_called_by_the_shares_at_which_it_begins_and_ends(text, split):
    assert Split.of(text) == split


@pytest.mark.parametrize("text", ["", "train[", "train[5:]", "train[5%]", "train[9%:5%]", "train[:0%]", "train[:101%]"])
def test_what_is_no_part_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"is no split: .*'train\[5%:\]'"):
        Split.of(text)


def test_parts_that_meet_divide_the_recordings_by_their_shares():
    parts = [Split.of(text).holds(RECORDINGS) for text in ("train[:5%]", "train[5%:40%]", "train[40%:]")]
    assert np.sum(parts, axis=0).tolist() == [1] * len(RECORDINGS)
    assert [part.mean() for part in parts] == pytest.approx([0.05, 0.35, 0.6], abs=0.02)
    assert Split.of("train").holds(RECORDINGS).all()


def test_a_recording_stays_where_it_is_when_others_join():
    part = Split.of("train[:5%]")
    assert part.holds(RECORDINGS[100:]).tolist() == part.holds(RECORDINGS)[100:].tolist()


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("train", "train", True),
        ("train", "train[:5%]", True),
        ("train[5%:]", "train[:5%]", False),
        ("train[4%:]", "train[:5%]", True),
        ("train", "val", False),
    ],
)
def test_parts_overlap_if_a_recording_may_be_in_both(one, other, overlap):
    assert Split.of(one).overlaps(Split.of(other)) is overlap
    assert Split.of(other).overlaps(Split.of(one)) is overlap
