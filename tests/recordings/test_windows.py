"""Windows cover a sound of any length that comes in any pieces, and their answers make it whole again."""

from __future__ import annotations

import numpy as np
import pytest

from cocktail.recordings.windows import OverlapAdd, WindowCutter, WindowGrid

GRID = WindowGrid(length=100, answered=90, step=40, multiple=10)


def cut(sound: np.ndarray, grid: WindowGrid, piece: int) -> list[tuple[int, np.ndarray]]:
    cutter = WindowCutter(grid, len(sound))
    windows = []
    for start in range(0, sound.shape[1], piece):
        windows += cutter.add(sound[:, start : start + piece])
    return [*windows, *cutter.finish()]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", [1, 7, 89, 90, 91, 99, 100, 101, 130, 139, 140, 141, 190, 1000, 1013])
def test_answers_to_windows_put_together_are_the_sound(size, overlap):
    sound = np.random.default_rng(size).normal(size=(2, size)).astype(np.float32)
    grid = WindowGrid.of(100, 90, overlap, multiple=10)
    for piece in (1 if size < 200 else 33, 57, 2000):
        together = OverlapAdd()
        parts = []
        for start, window in cut(sound, grid, piece):
            assert window.shape == (2, 100)
            if (given := together.take(start)) is not None:
                parts.append(given)
            together.add(start, window[:, :90])
        parts.append(together.take())
        whole = np.concatenate(parts, axis=1)
        np.testing.assert_allclose(whole[:, :size], sound, atol=1e-5)
        assert whole.shape[1] < size + 90


def test_starts_are_multiples_and_only_the_last_window_is_moved():
    starts = [start for start, _ in cut(np.zeros((1, 317), np.float32), GRID, 50)]
    assert starts == [0, 40, 80, 120, 160, 200, 230]  # 230 + 90 covers 317; 240 would hear less


def test_pieces_do_not_matter():
    sound = np.random.default_rng(0).normal(size=(1, 517)).astype(np.float32)
    one, other = cut(sound, GRID, 517), cut(sound, GRID, 3)
    assert [start for start, _ in one] == [start for start, _ in other]
    for (_, a), (_, b) in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_short_sound_is_mirrored_until_it_fills_a_window():
    ((start, window),) = cut(np.array([[1, 2, 3]], np.float32), GRID, 3)
    assert start == 0
    assert window[0, :9].tolist() == [1, 2, 3, 3, 2, 1, 1, 2, 3]
    assert np.abs(np.diff(window[0])).max() <= 1


def test_no_sound_has_no_windows():
    assert cut(np.zeros((1, 0), np.float32), GRID, 5) == []


def test_where_answers_differ_the_one_nearer_to_its_middle_weighs_more():
    together = OverlapAdd()
    together.add(0, np.zeros((1, 90), np.float32))
    together.add(40, np.ones((1, 90), np.float32))
    mean = together.take()
    assert mean is not None
    assert (np.diff(mean[0, 40:90]) > 0).all()  # from the first to the second
    assert mean[0, :40].max() == 0 and mean[0, 90:].min() == 1
    assert mean[0, 64] == pytest.approx(0.5, abs=0.02)  # half way between their middles, 44.5 and 84.5
