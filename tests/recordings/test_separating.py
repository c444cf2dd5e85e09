"""A recording of any length, rate and channels is separated as its windows are, and keeps its samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from cocktail.inference.loaded import LoadedModel
from cocktail.media.recording import ArrayRecording
from cocktail.recordings.asking import Asked
from cocktail.recordings.planning import plan_of, window_grid
from cocktail.recordings.separating import separate
from cocktail.recordings.sources import Choice, NothingHeardError
from cocktail.types import UsageError
from tests.made.models.band_splitters import CLASSES, RATE, MaskingBands, UnorderedBands, trained, two_tones

BOTH = Choice(classes=CLASSES)


def model(module=None, **options) -> LoadedModel:
    return LoadedModel(trained(module or MaskingBands()), device="cpu", **options)


def snr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(reference - estimate).sum()))


def test_what_a_model_can_do_is_found_by_asking_it():
    able = Asked(trained(MaskingBands()), "cpu").separating
    assert (able.by_class, able.tells_presence, able.masks, able.answered) == (True, True, "soft", 127 * 128)
    able = Asked(trained(UnorderedBands()), "cpu").separating
    assert (able.by_class, able.tells_presence, able.masks) == (False, False, None)


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100, 48000])
@pytest.mark.parametrize("seconds", [0.1, 1.9, 2.2, 7.3])
def test_masks_part_two_tones_at_any_rate_and_length_in_each_channel(rate_hz, seconds):
    tones = two_tones(seconds, rate_hz, (0, 99), (0, 99))
    stereo = np.stack([tones.sum(axis=0), 0.5 * tones[0] + tones[1]])
    found = model().separate(stereo, rate_hz, BOTH)
    assert found.stems.shape == (2, *stereo.shape)
    np.testing.assert_array_equal(found.samples, stereo)
    inside = slice(None) if seconds < 1 else slice(rate_hz // 8, -rate_hz // 8)
    least = 12 if seconds < 1 else 25
    assert snr_db(tones[0, inside], found.stems[0, 0, inside]) > least
    assert snr_db(0.5 * tones[0, inside], found.stems[0, 1, inside]) > least - 6
    assert snr_db(tones[1, inside], found.stems[1, 1, inside]) > least
    np.testing.assert_allclose(found.residual, 0, atol=2e-3)


def test_what_a_window_holds_is_separated_as_the_model_itself_does():
    module = MaskingBands()
    sound = two_tones(127 * 128 / RATE, RATE, (0, 9), (0.5, 1.5)).sum(axis=0)
    found = model(module).separate(sound, RATE, BOTH)
    asked = Asked(trained(module), "cpu")
    padded = np.pad(sound, (0, asked.length - len(sound)), mode="symmetric")[None]
    expected = asked.separate(padded, [0, 1]).estimates[0].numpy()
    np.testing.assert_allclose(found.stems[:, 0, :-600], expected[:, : len(sound) - 600], atol=1e-5)


class CutBands(MaskingBands):
    """The same masks, of a tenth more and less than a half, cut."""

    def separate(self, mixture, query):
        found = super().separate(mixture, query)
        assert found.masks is not None
        masks = 0.4 + 0.2 * found.masks
        transform = self.front_end.stft(mixture)
        return replace(found, masks=masks, estimates=self.front_end.apply_binary_mask(transform, masks))


def test_masks_that_a_model_cuts_are_laid_on_uncut_where_that_is_asked():
    tones = two_tones(4, RATE, (0, 9), (0, 9))
    cut, soft = (model(CutBands()).separate(tones.sum(axis=0), RATE, BOTH, soft_masks=soft) for soft in (False, True))
    inside = slice(RATE // 8, -RATE // 8)
    assert snr_db(tones[0, inside], cut.stems[0, 0, inside]) > 25
    shares = 0.6 * tones[0] + 0.4 * tones[1]
    np.testing.assert_allclose(soft.stems[0, 0, inside], shares[inside], atol=5e-3)


def test_batches_do_not_matter_and_are_as_large_as_they_may_be():
    sound = two_tones(20, RATE, (0, 99), (3, 15)).sum(axis=0)
    module = MaskingBands()
    eight = model(module, batch_size=8).separate(sound, RATE, BOTH)
    assert set(module.asked) == {1, 8, len(eight.starts_seconds) % 8}
    one = model(batch_size=1).separate(sound, RATE, BOTH)
    np.testing.assert_allclose(one.stems, eight.stems, atol=1e-6)


def test_presence_decides_what_is_separated_and_when():
    tones = two_tones(24, RATE, (0, 99), (8, 16))
    found = model().separate(tones.sum(axis=0), RATE)
    assert found.names == CLASSES
    high = found.stems[1, 0]
    assert snr_db(tones[1, 10 * RATE : 14 * RATE], high[10 * RATE : 14 * RATE]) > 25
    assert np.abs(high[: 5 * RATE]).max() == 0 and np.abs(high[19 * RATE :]).max() == 0
    assert found.presence is not None and found.presence.shape == (len(found.starts_seconds), 2)
    only_low = model().separate(tones[0], RATE)
    assert only_low.names == CLASSES[:1]


@pytest.mark.parametrize("module", [MaskingBands, UnorderedBands])
@pytest.mark.parametrize(("num_samples", "rate_hz"), [(0, 8000), (0, 44100), (1, 44100)])
def test_a_recording_without_a_window_is_told_to_be_too_short(module, num_samples, rate_hz):
    for choice in (Choice(), BOTH) if module is MaskingBands else (Choice(),):
        with pytest.raises(UsageError, match=f"too short: {num_samples} samples at {rate_hz} Hz"):
            model(module()).separate(np.zeros((2, num_samples), np.float32), rate_hz, choice)


class Failing(nn.Module):
    """Answers as another module does, but for windows that hold a sample of 0.9: with no number in one thing."""

    def __init__(self, module: nn.Module, what: str) -> None:
        super().__init__()
        self._module: Any = module
        self._what = what
        if hasattr(module, "front_end"):
            self.front_end = module.front_end

    def forward(self, batch):
        raise NotImplementedError

    def separate(self, mixture, query):
        answer = self._module.separate(mixture, query)
        values = answer.intermediates["presence"] if self._what == "presence" else getattr(answer, self._what)
        values[(mixture > 0.8).any(dim=1)] = float("nan") if self._what == "presence" else float("inf")
        return answer


@pytest.mark.parametrize(
    ("module", "what"),
    [(MaskingBands, "presence"), (MaskingBands, "masks"), (UnorderedBands, "estimates")],
)
@pytest.mark.parametrize("named", [True, False])
def test_what_a_model_says_that_is_no_number_is_refused_with_its_window(module, what, named):
    sound = two_tones(12, RATE, (0, 99), (0, 99)).sum(axis=0)
    sound[6 * RATE : 6 * RATE + 9] = 0.9
    choice = BOTH if named and module is MaskingBands else Choice()
    with pytest.raises(UsageError, match=r"not finite: bands answers the window from 4\.\d\d s to 6\.\d\d s"):
        model(Failing(module(), what)).separate(sound, RATE, choice)


def test_one_sample_at_the_models_rate_is_a_recording():
    assert model().separate(np.full((2, 1), 0.5, np.float32), RATE, BOTH).stems.shape == (2, 2, 1)


def test_a_number_of_sources_takes_the_most_present_classes():
    tones = two_tones(12, RATE, (0, 99), (3, 4))
    assert model().separate(tones.sum(axis=0), RATE, Choice(num_sources=1)).names == CLASSES[:1]


def test_silence_is_told_with_the_likeliest_class():
    with pytest.raises(NothingHeardError, match=r"none of the model's 2 classes is heard"):
        model().separate(np.zeros(RATE, np.float32), RATE)


def test_sources_without_classes_keep_their_order_in_all_channels():
    tones = two_tones(30, 16000, (0, 99), (0, 99))
    stereo = np.stack([tones.sum(axis=0), tones[0] + 2 * tones[1]])
    found = model(UnorderedBands()).separate(stereo, 16000)
    assert found.names == ("source 1", "source 2")
    inside = slice(16000, -16000)
    low, high = sorted(range(2), key=lambda n: np.abs(np.diff(found.stems[n, 0])).sum())
    for channel, weight in ((0, 1), (1, 2)):
        assert snr_db(tones[0, inside], found.stems[low, channel, inside]) > 25
        assert snr_db(weight * tones[1, inside], found.stems[high, channel, inside]) > 25
    np.testing.assert_allclose(found.residual[:, inside], 0, atol=5e-3)


def test_a_model_without_classes_is_asked_for_the_number_that_is_wanted_and_may_give_another():
    module = UnorderedBands()
    found = model(module).separate(np.ones(3 * RATE, np.float32), RATE, Choice(num_sources=3))
    assert module.numbers[-1] == 3 and len(found.names) == 2


def test_a_model_without_classes_refuses_names_and_one_with_classes_lists_them():
    with pytest.raises(UsageError, match="ask for a number of sources, --num-sources"):
        model(UnorderedBands()).separate(np.zeros(RATE, np.float32), RATE, BOTH)
    with pytest.raises(UsageError, match=r"does not know 'middle'. It knows low, or so, high"):
        model().separate(np.zeros(RATE, np.float32), RATE, Choice(classes=("middle",)))


def test_pieces_are_as_long_together_as_the_recording_and_short_each():
    asked = Asked(trained(MaskingBands()), "cpu")
    recording = ArrayRecording(two_tones(200, 16000, (0, 999), (0, 999)), 16000)
    grid = window_grid(asked)
    plan = plan_of(asked, recording, BOTH, grid)
    sizes = [piece.samples.shape[1] for piece in separate(asked, recording, plan, grid)]
    assert sum(sizes) == 200 * 16000
    assert max(sizes) < 25 * 16000  # a few windows, however long the recording


def test_what_was_beyond_full_scale_is_told_with_the_stems(tmp_path: Path):
    tones = 6 * two_tones(4, RATE, (0, 99), (9, 9)).sum(axis=0)
    told = model().separate_file(ArrayRecording(tones, RATE), tmp_path, BOTH)
    beyond = int((np.abs(tones) > 1).sum())
    assert told["input"]["num_clipped"] == beyond > 1000
    assert told["stems"][0]["num_clipped"] == pytest.approx(beyond, rel=0.1) and told["stems"][1]["num_clipped"] == 0
    assert f"clipped by 16 bits, were {beyond} samples of the input" in (tmp_path / "report.html").read_text()


def test_a_file_becomes_a_folder_that_says_what_is_in_it(tmp_path: Path):
    tones = two_tones(12, 16000, (0, 99), (4, 8))
    recording = ArrayRecording(tones.sum(axis=0), 16000, "two <tones>")
    told = model().separate_file(recording, tmp_path)
    assert [stem["name"] for stem in told["stems"]] == list(CLASSES)
    windows = told["windows"]
    active = np.array(windows["active"]["high"], bool)
    middles = np.array(windows["starts_seconds"]) + windows["seconds"] / 2
    assert active[(middles > 4.2) & (middles < 7.8)].all() and not active[(middles < 2.5) | (middles > 9.5)].any()
    assert [part["num_clipped"] for part in (told["input"], *told["stems"])] == [0, 0, 0]
    levels = told["levels"]
    assert len(levels["stems_dbfs"]) == 2 and len(levels["input_dbfs"]) == len(levels["residual_dbfs"])
    assert levels["stems_dbfs"][1][0] == -120.0
    page = (tmp_path / "report.html").read_text()
    assert "two &lt;tones&gt;, separated" in page and page.count("<audio ") == 4 and page.count("<img ") == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.html",
        "residual.wav",
        "separation.json",
        "stems",
    ]
