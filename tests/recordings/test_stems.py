"""Stems and residual add up to the recording: to the last bit, whatever the stems are."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from cocktail.media.bad_clips import BadClip
from cocktail.recordings.stems import Form, Level, StemsWriter, file_names, in_floats, in_int16, num_clipped
from cocktail.types import UsageError


def recording(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Samples [2, T] of 16 bits, and three stems [3, 2, T] that have nothing to do with them."""
    rng = np.random.default_rng(seed)
    samples = rng.integers(-32768, 32768, (2, 1000)) / np.float32(32768)
    return samples, rng.uniform(-1.2, 1.2, (3, 2, 1000)).astype(np.float32)


def test_the_sum_of_int16_is_exact_also_where_stems_are_louder_than_the_recording():
    samples, stems = recording()
    parts, residual = in_int16(samples, stems)
    assert parts.dtype == residual.dtype == np.int16
    total = parts.astype(np.int64).sum(axis=0) + residual
    np.testing.assert_array_equal(total, np.rint(samples * 32768))
    quiet, rest = in_int16(samples / 4, stems / 8)
    np.testing.assert_array_equal(quiet, np.rint(stems / 8 * np.float64(32768)))  # nothing was in the way
    np.testing.assert_array_equal(quiet.astype(int).sum(axis=0) + rest, np.rint(samples / 4 * np.float64(32768)))


def test_the_sum_of_floats_is_exact_for_integers_and_for_what_lossy_decoders_give():
    rng = np.random.default_rng(1)
    _, stems = recording()
    stems *= rng.uniform(1e-9, 1, stems.shape).astype(np.float32)
    for samples in (recording()[0], rng.normal(scale=0.1, size=(2, 1000)).astype(np.float32)):
        parts, residual = in_floats(samples, stems)
        assert parts.dtype == np.float32 and residual.dtype == np.float64
        total = parts.astype(np.float64).sum(axis=0) + residual
        np.testing.assert_array_equal(total, samples.astype(np.float64))
    np.testing.assert_allclose(parts, stems, atol=2e-10)


def test_samples_that_int16_has_no_room_for_are_counted(tmp_path):
    samples = np.array([[1.0, -1.0, 32767 / 32768, 1.5, -1.5, 0.0]] * 2, np.float32)
    stems = np.stack([0 * samples, 3 * samples])
    for form, of_input, of_stems in ((Form(), 6, [0, 10]), (Form(sample_format="float"), 0, [0, 0])):
        writer = StemsWriter(tmp_path, ["a", "b"], 44100, 2, form)
        for part in (slice(0, 2), slice(2, 6)):
            writer.add(samples[:, part], stems[:, :, part])
        writer.close()
        assert (writer.input_clipped, writer.clipped) == (of_input, of_stems)


def test_what_is_counted_as_clipped_is_what_rounding_clips():
    steps = np.arange(-32770, 32770, 0.25) / 32768
    whole = np.rint(steps * 32768)
    assert num_clipped(steps.astype(np.float32)) == np.count_nonzero((whole < -32768) | (whole > 32767))


@pytest.mark.parametrize("form", [Form(), Form(format="flac"), Form(sample_format="float")])
def test_files_hold_what_adds_up(tmp_path, form):
    samples, stems = recording()
    writer = StemsWriter(tmp_path, ["a/b", "A b", "residual"], 44100, 2, form, declared_seconds=None)
    for part in (slice(0, 300), slice(300, 1000)):
        writer.add(samples[:, part], stems[:, :, part])
    writer.close()
    ending = form.format
    assert writer.files == [f"stems/{name}.{ending}" for name in ("a-b", "a-b-2", "residual-2")]
    total = sum(soundfile.read(tmp_path / file)[0].T for file in (*writer.files, writer.residual_file))
    np.testing.assert_array_equal(total, samples.astype(np.float64))
    assert writer.num_samples == 1000


def test_mp3_is_written_and_what_it_cannot_hold_is_refused(tmp_path):
    samples, stems = recording()
    writer = StemsWriter(tmp_path, ["a", "b", "c"], 44100, 2, Form(format="mp3"))
    writer.add(samples, stems)
    writer.close()
    assert soundfile.info(tmp_path / "stems/a.mp3").channels == 2
    with pytest.raises(BadClip, match="mp3 holds no 2 channels at 96000 Hz: take --format wav"):
        Form(format="mp3").require_sound(96000, 2)
    with pytest.raises(UsageError, match="flac holds no floats"):
        Form(format="flac", sample_format="float")


@pytest.mark.parametrize("form", [Form(), Form(format="flac"), Form(format="mp3"), Form(sample_format="float")])
@pytest.mark.parametrize("full", ["stems/b.{}", "residual.{}"])
def test_a_full_disk_is_told_as_one(tmp_path, form, full):
    (tmp_path / "stems").mkdir()
    (tmp_path / full.format(form.format)).symlink_to("/dev/full")
    samples, stems = recording()
    writer = StemsWriter(tmp_path, ["a", "b", "c"], 44100, 2, form)
    message = r"cannot write .*: No space left on device. Make room there"
    with pytest.raises(UsageError, match=message):
        for _ in range(1000):
            writer.add(samples, stems)
    with pytest.raises(UsageError, match=message):
        writer.close()


def test_a_full_disk_is_told_of_the_shortest_file(tmp_path):
    (tmp_path / "residual.wav").symlink_to("/dev/full")
    samples, stems = recording()
    writer = StemsWriter(tmp_path, ["a", "b", "c"], 44100, 2, Form())
    with pytest.raises(UsageError, match=r"cannot write .*residual.wav: No space left"):
        try:
            writer.add(samples[:, :9], stems[:, :, :9])
        finally:
            writer.close()


def test_levels_are_in_dbfs():
    level = Level()
    level.add(np.full((2, 10), 0.5))
    level.add(np.full((2, 10), -0.5))
    assert (level.rms_dbfs, level.peak_dbfs) == (-6.0, -6.0)
    assert Level().rms_dbfs == -120.0


def test_file_names_differ():
    assert file_names(["x", "x", "é"]) == ["x", "x-2", "unnamed"]
