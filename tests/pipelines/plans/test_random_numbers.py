"""Random numbers by counter are SplitMix64's, even, and the same wherever they are drawn."""

import numpy as np

from pipelines.plans.random_numbers import draw, fold


def test_random_numbers_are_splitmix64():
    # SplitMix64 seeded with 0 gives these, by its published reference code.
    key = 0x1  # any key
    first, again = draw(np.arange(5), key), draw(np.arange(3, 5), key)
    np.testing.assert_array_equal(first[3:], again)
    mask = (1 << 64) - 1

    def finalise(z: int) -> int:
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
        return z ^ (z >> 31)

    assert finalise(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    golden = 0x9E3779B97F4A7C15
    state = finalise(0 ^ (key + golden) & mask)
    expected = [(finalise((state + (k + 1) * golden) & mask) >> 11) * 2.0**-53 for k in range(5)]
    assert first.tolist() == expected
    assert int(fold(0, key)) == state
    assert fold(0, np.array([key, 5], np.uint64)).tolist() == [state, int(fold(0, 5))]


def test_draws_are_even_and_streams_differ():
    values = draw(np.arange(20_000), 1, 2, 3)
    assert abs(values.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(values, draw(np.arange(20_000), 1, 2, 4))[0, 1]) < 0.03
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.03
