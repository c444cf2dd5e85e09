"""Spectrograms, masks and what led to them are drawn where and as loud as they are."""

import numpy as np
import pytest

from cocktail.report.figures import (
    NUM_BARS,
    NUM_ROWS,
    masks_figure,
    panel,
    patch_grid,
    row_edges_hz,
    shorten,
    spectrogram_db,
    two_lines,
)

RATE_HZ = 11025


def tone(frequency_hz: float, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(2 * RATE_HZ) / RATE_HZ)


@pytest.mark.parametrize("frequency_hz", [60.0, 440.0, 1000.0, 5000.0])
@pytest.mark.parametrize("rate_hz", [RATE_HZ, 16000, 44100])
def test_a_tone_is_brightest_in_the_row_of_its_frequency(frequency_hz, rate_hz):
    time = np.arange(2 * rate_hz) / rate_hz
    level = spectrogram_db(np.sin(2 * np.pi * frequency_hz * time), rate_hz, 1.0)
    assert level.shape[0] == NUM_ROWS
    edges = row_edges_hz(rate_hz)
    loudest = level.mean(axis=1)
    rows = np.flatnonzero(loudest > loudest.max() - 1e-6)  # at low frequencies, several rows show one bin
    bin_hz = rate_hz / 2 ** round(np.log2(0.09 * rate_hz))
    assert edges[rows[0]] - bin_hz <= frequency_hz <= edges[rows[-1] + 1] + bin_hz


def test_no_partial_falls_between_two_rows():
    levels = [spectrogram_db(tone(f), RATE_HZ, 1.0).max() for f in np.linspace(100, 5400, 400)]
    # A Hann window's loudest bin is 1.4 dB down for a tone half-way between two bins, never more.
    assert max(levels) - min(levels) < 1.5


def test_panel_has_a_row_a_source_and_a_column_a_system_under_its_name():
    references = np.stack([tone(300), tone(1000, 0.05)])
    estimates = {"SoP": references, "SGN": references, "SGN, predicted classes": references}
    names = ["rain", "playing the electric guitar"]
    found = {"SGN, predicted classes": ["rain", "thunder"]}
    figure = panel(references.sum(axis=0), references, estimates, names, RATE_HZ, "mixture 00", found)
    *axes, colourbar = figure.axes
    assert len(axes) == 2 * 5
    titles = [axis.get_title() for axis in axes]
    assert titles[:4] == ["mixture", "truth", "SoP", "SGN"]
    assert titles[4] == "SGN, predicted classes\n“rain”"
    assert titles[5:] == ["", "", "", "", "“thunder”"]
    labels = [axis.get_ylabel() for axis in axes]
    assert [label.split("\n\n") for label in (labels[0], labels[5])] == [
        ["rain", "kHz (log)"],
        ["playing the\nelectric guitar", "kHz (log)"],
    ]
    assert {axis.get_xlabel() for axis in axes[5:]} == {"time (s)"}
    assert "dB" in colourbar.get_ylabel()
    assert figure.get_suptitle() == "mixture 00"


def test_panels_show_levels_below_the_mixtures_loudest_bin_at_their_frequency():
    references = np.stack([tone(300, 0.5), tone(1000, 0.05)])
    figure = panel(references.sum(axis=0), references, {}, ["low", "high"], RATE_HZ, "")
    (mixture, low), (_, high) = np.array(figure.axes[:4], dtype=object).reshape(2, 2)
    level = {name: axis.images[0].get_array() for name, axis in (("mixture", mixture), ("low", low), ("high", high))}
    assert level["mixture"].max() == pytest.approx(0, abs=1e-6)
    assert level["low"].max() == pytest.approx(0, abs=0.01)
    assert level["high"].max() == pytest.approx(-20, abs=1.5)  # a tenth, off its bin by at most half
    for axis, frequency_hz in ((low, 300), (high, 1000)):
        picture = axis.images[0]
        row = picture.get_array().mean(axis=1).argmax()
        left, right, bottom, top = picture.get_extent()
        assert (left, right) == (0, 2)
        drawn_kHz = 10 ** (bottom + (row + 0.5) / NUM_ROWS * (top - bottom))
        assert drawn_kHz == pytest.approx(frequency_hz / 1000, rel=0.05)
    labels = [label.get_text() for label in mixture.get_yticklabels()]
    assert labels == ["0.1", "0.3", "1", "3"]
    assert [float(label) for label in labels] == pytest.approx(list(10 ** np.array(low.get_yticks())))


def test_short_and_silent_sounds_can_be_drawn():
    figure = panel(np.zeros(100), np.zeros((1, 100)), {"model": np.zeros((1, 100))}, ["rain"], RATE_HZ, "")
    for axis in figure.axes[:3]:
        assert np.max(axis.images[0].get_array()) < -80  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_patches_lie_row_by_row_over_rows_then_frames():
    rows, frames, side = 4, 6, 2
    picture = np.arange(rows // side)[:, None] * 10 + np.arange(frames // side)
    np.testing.assert_array_equal(patch_grid(picture.reshape(-1), rows, frames), picture)
    for count in (5, 3, 100):
        with pytest.raises(ValueError, match=f"{count} square patches"):
            patch_grid(np.zeros(count), rows, frames)


def test_masks_figure_shows_each_mask_and_assignment_and_the_most_probable_classes():
    masks = {"predicted mask": np.random.default_rng(0).random((2, 8, 16)), "ideal binary mask": np.ones((2, 8, 16))}
    grids = [np.full((2, 4), 0.25), None]
    presence = {f"class {i}": 1 - i / 40 for i in range(30)}
    names = ["class 3", "class 25"]
    figure = masks_figure(masks, names, "mixture 00", grids, presence, names)
    masks_part, presence_part = figure.subfigs
    axes = np.array(masks_part.axes[:6], dtype=object).reshape(2, 3)
    assert [axis.get_title() for axis in axes[0]] == ["predicted mask", "ideal binary mask", "assignment of patches"]
    for n in range(2):
        np.testing.assert_array_equal(axes[n, 0].images[0].get_array(), masks["predicted mask"][n])
        np.testing.assert_array_equal(axes[n, 1].images[0].get_array(), masks["ideal binary mask"][n])
    np.testing.assert_array_equal(axes[0, 2].images[0].get_array(), grids[0])
    assert axes[0, 2].images[0].get_extent() == [0, 16, 0, 8]
    assert not axes[1, 2].images and axes[1, 2].texts[0].get_text() == "no class"
    (bars,) = presence_part.axes
    labels = [label.get_text() for label in bars.get_yticklabels()]
    assert labels == [*(f"class {i}" for i in range(NUM_BARS)), "class 25 (no. 26)"]
    in_mixture, others = bars.containers
    assert {round(bar.get_y() + bar.get_height() / 2): bar.get_width() for bar in in_mixture} == {
        3: presence["class 3"],
        10: presence["class 25"],
    }
    assert len(others) == NUM_BARS - 1
    assert bars.get_title() == "presence: 20 of 30 classes above 0.5"  # 1 - i / 40 > 0.5 for i < 20


def test_names_are_full_where_they_fit_and_end_in_an_ellipsis_where_not():
    assert shorten("rain", 4) == "rain"
    assert shorten("bee, wasp, etc. buzzing", 10) == "bee, wasp…"
    assert two_lines("playing electric guitar") == "playing electric\nguitar"
    assert two_lines("opening or closing car electric windows", 18) == "opening or closing\ncar electric wind…"
