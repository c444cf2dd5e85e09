"""Odd sounds come out right or are set aside with a reason of their own; nothing is clipped or lost without a word."""

import struct
import wave

import numpy as np
import pytest

from cocktail.media import sounds
from cocktail.media.bad_clips import BadClip
from cocktail.media.clips import decode_clip
from tests.made.corpora.miniature_clips import RATE, tone


def write_wav(path, samples, rate=RATE):
    """[T] or [T, C], int16 or float32."""
    samples = samples.reshape(len(samples), -1)
    if samples.dtype == np.int16:
        with wave.open(str(path), "wb") as file:
            file.setparams((samples.shape[1], 2, rate, 0, "NONE", ""))
            file.writeframes(samples.tobytes())
        return
    num_channels, data = samples.shape[1], samples.astype("<f4").tobytes()
    form = struct.pack("<HHIIHH", 3, num_channels, rate, 4 * num_channels * rate, 4 * num_channels, 32)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)


def decode(path, **changes):
    return decode_clip(path, sample_rate_hz=RATE, num_frames=0, **changes)


def refusal(path, **changes):
    with pytest.raises(BadClip) as caught:
        decode(path, **changes)
    return caught.value


def steps(seconds, level=0.3):
    return np.rint(tone(seconds, level=level) * 32767).astype(np.int16)


def test_float_samples_on_the_scale_of_integers_are_not_clipped_but_told(tmp_path):
    write_wav(tmp_path / "a.wav", tone(2.0) * 32768)
    found = refusal(tmp_path / "a.wav")
    assert (found.reason, found.detail) == ("off scale", "the loudest sample is 9830 times full scale")
    write_wav(tmp_path / "a.wav", tone(2.0))
    assert np.abs(decode(tmp_path / "a.wav").audio / 32768 - tone(2.0)).max() < 1e-4


def test_a_little_beyond_full_scale_is_cut_off_and_more_is_told(tmp_path):
    write_wav(tmp_path / "a.wav", tone(2.0, level=1.1))
    audio = decode(tmp_path / "a.wav").audio
    assert np.abs(audio / 32768 - np.clip(tone(2.0, level=1.1), -1, 1)).max() < 1e-4
    write_wav(tmp_path / "a.wav", tone(2.0, level=1.5))
    found = refusal(tmp_path / "a.wav", keep_silent=True)
    assert found.reason == "clipped"
    samples = 1.5 * np.sin(np.linspace(0, 2 * np.pi, 100_000))
    share = (np.maximum(np.abs(samples) - 1, 0) ** 2).sum() / (samples**2).sum()
    assert f"by up to 1.5 times, has {10 * np.log10(share):.0f} dB of its energy" in found.detail


@pytest.mark.parametrize("keep_silent", [False, True])
def test_channels_that_cancel_each_other_are_no_silence(tmp_path, keep_silent):
    left = steps(2.0)
    write_wav(tmp_path / "a.wav", np.stack([left, -left + np.int16(3)], axis=1))
    found = refusal(tmp_path / "a.wav", keep_silent=keep_silent)
    assert found.reason == "channels cancel"
    assert "less energy than they have" in found.detail


def test_channels_of_which_one_is_silent_or_unlike_the_other_do_not_cancel(tmp_path):
    left, right = steps(2.0), np.rint(tone(2.0, 700.0) * 32767).astype(np.int16)
    for other in (np.zeros_like(left), right, left):
        write_wav(tmp_path / "a.wav", np.stack([left, other], axis=1))
        assert np.abs(decode(tmp_path / "a.wav").audio).max() > 4000


def test_a_constant_offset_alone_is_silence_and_beside_a_sound_is_kept(tmp_path):
    write_wav(tmp_path / "a.wav", np.full(2 * RATE, 8000, np.int16))
    found = refusal(tmp_path / "a.wav")
    assert found.reason == "silent"
    assert "around a constant offset of 0.244" in found.detail
    write_wav(tmp_path / "a.wav", steps(2.0) + np.int16(8000))
    assert np.array_equal(decode(tmp_path / "a.wav").audio, steps(2.0) + np.int16(8000))


def test_a_constant_offset_alone_is_silence_at_whatever_rate_it_is_stored(tmp_path):
    write_wav(tmp_path / "a.wav", np.full(2 * 44100, 8000, np.int16), 44100)
    with pytest.raises(BadClip, match=r"silent: .* around a constant offset of 0.244") as caught:
        decode_clip(tmp_path / "a.wav", sample_rate_hz=11025, num_frames=0)
    assert caught.value.detail.startswith("the loudest sample is 0.000000 of full scale")
    whistle = tone(2.0, 15_000.0, rate=44100) * np.hanning(2 * 44100).astype(np.float32)
    write_wav(tmp_path / "a.wav", whistle, 44100)
    with pytest.raises(BadClip, match="silent"):  # above half the stored rate nothing is left
        decode_clip(tmp_path / "a.wav", sample_rate_hz=11025, num_frames=0)


def test_a_single_click_is_as_loud_as_it_is_away_from_the_mean(tmp_path):
    samples = np.zeros(2 * RATE, np.int16)
    samples[RATE] = 49  # 0.0015 of full scale: half of the way from lowest to highest is below the limit, it is not
    write_wav(tmp_path / "a.wav", samples)
    assert np.array_equal(decode(tmp_path / "a.wav").audio, samples)
    samples[RATE] = 30
    write_wav(tmp_path / "a.wav", samples)
    assert refusal(tmp_path / "a.wav").reason == "silent"


@pytest.mark.parametrize("rate", [1, 999, 768_001])
def test_a_rate_that_no_recorder_has_is_refused(tmp_path, rate):
    write_wav(tmp_path / "a.wav", steps(2.0), rate)
    assert refusal(tmp_path / "a.wav", min_seconds=0.01).reason == "sample rate out of range"


def test_the_number_of_values_is_bounded_before_and_while_decoding(tmp_path, monkeypatch):
    write_wav(tmp_path / "a.wav", np.stack([steps(2.0)] * 4, axis=1))
    assert decode(tmp_path / "a.wav").duration_seconds == 2.0
    monkeypatch.setattr(sounds, "MAX_VALUES", 7 * RATE)
    assert refusal(tmp_path / "a.wav").reason == "too costly"
    monkeypatch.setattr("cocktail.media.clips._declared_seconds", lambda *_: None)
    assert refusal(tmp_path / "a.wav").reason == "too costly"


def test_a_sound_that_is_resampled_piece_by_piece_is_the_same(tmp_path, monkeypatch):
    left = (np.random.default_rng(0).uniform(-0.5, 0.5, 3 * 44100) * 32767).astype(np.int16)
    write_wav(tmp_path / "a.wav", left, 44100)
    at_once = decode(tmp_path / "a.wav").audio
    monkeypatch.setattr(sounds, "_VALUES_TO_FOLD", 5000)
    assert np.array_equal(decode(tmp_path / "a.wav").audio, at_once)
    assert len(at_once) == 3 * RATE


def test_samples_that_are_not_finite_are_counted_from_the_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr(sounds, "_VALUES_TO_FOLD", 5000)
    samples = tone(2.0)
    samples[RATE:] = np.nan
    write_wav(tmp_path / "a.wav", samples)
    found = refusal(tmp_path / "a.wav")
    assert found.reason == "not finite"
    assert "the first at 1.000 s" in found.detail
