"""Sounds of the embedded corpus: seeded random melodies, played by a SoundFont, set in a synthetic room.

Shape letters: T samples.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocktail.types import UsageError

CLIP_SECONDS = 10
SAMPLE_RATE_HZ = 44100
_LEAD_IN_SECONDS = 0.5
"""Played before a clip begins, so that it starts amid music, as a cut from a longer video does."""
_LEVEL_DBFS = (-23.0, -17.0)
_NOISE_DBFS = (-60.0, -50.0)
_PEAK = 0.8
"""Peak of the samples that go to the encoder. Noise and AAC add to it; decoded peaks stay under 0.95."""
_INTERPOLATION = 4
"""Value of symusic's `quality`; from 5 on it plays some instruments as silence."""

# Records of a SoundFont's instruments: where a zone's generators begin, generators, sample headers.
_BAG = np.dtype([("generator", "<u2"), ("modulator", "<u2")])
_GENERATOR = np.dtype([("kind", "<u2"), ("amount", "<u2")])
_HEADER = np.dtype([("name_and_offsets", "V40"), ("root_key", "u1"), ("tuning_and_kind", "V5")])
_SAMPLE, _ROOT_KEY = 53, 58


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """Manner in which a class plays."""

    programs: tuple[int, ...]
    """General MIDI programs, counted from 0; the clips of a class take them in turn."""
    pitches: tuple[int, int]
    """Lowest and highest MIDI pitch."""
    beats: tuple[float, ...]
    """Steps from one onset to the next, drawn with equal chance."""
    ring: float
    """Length of a note as a multiple of its step: under 1 detached, over 1 left to ring."""
    chords: float = 0.0
    """Share of onsets that are chords of three."""


INSTRUMENTS = {
    "playing accordion": Instrument(programs=(21,), pitches=(60, 77), beats=(0.5, 1, 1, 2), ring=0.95, chords=0.5),
    "playing acoustic guitar": Instrument(programs=(24, 25), pitches=(40, 57), beats=(0.5, 1), ring=1.9, chords=0.4),
    "playing banjo": Instrument(programs=(105,), pitches=(57, 74), beats=(0.25, 0.25, 0.5), ring=1.5),
    "playing cello": Instrument(programs=(42,), pitches=(36, 52), beats=(1, 1, 1.5, 2), ring=0.98),
    "playing clarinet": Instrument(programs=(71,), pitches=(52, 68), beats=(0.5, 1, 1), ring=0.95),
    "playing flute": Instrument(programs=(73,), pitches=(79, 96), beats=(0.25, 0.5, 1), ring=0.9),
    "playing harp": Instrument(programs=(46,), pitches=(52, 88), beats=(0.25, 0.5), ring=3.0, chords=0.25),
    "playing marimba, xylophone": Instrument(programs=(12, 13), pitches=(72, 96), beats=(0.25, 0.5), ring=1.0),
    # Not 65, the alto: the SoundFont has nothing at its pitch 64.
    "playing saxophone": Instrument(programs=(64, 66), pitches=(46, 63), beats=(0.5, 0.5, 1.5), ring=0.9),
    "playing trumpet": Instrument(programs=(56,), pitches=(64, 81), beats=(0.5, 0.5, 1), ring=0.75),
    "playing violin, fiddle": Instrument(programs=(40,), pitches=(74, 95), beats=(0.5, 1, 2), ring=0.97),
}
"""The classes, by VGG-Sound's label. Each keeps to a register of its own, about an octave and a half: a network that is
trained for minutes must be able to tell them apart."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Choices that the music of one split is drawn from."""

    scales: tuple[tuple[int, ...], ...]
    """Semitones over the tonic."""
    tonics: tuple[int, ...]
    """Pitch classes, 0 is C."""
    tempi_bpm: tuple[tuple[float, float], ...]
    """Ranges of beats a minute."""
    reverb_seconds: tuple[tuple[float, float], ...]
    """Ranges of the time in which a room's sound decays by 60 dB."""


_MAJOR, _HARMONIC_MINOR, _MAJOR_PENTATONIC = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11), (0, 2, 4, 7, 9)
_MELODIC_MINOR, _BLUES = (0, 2, 3, 5, 7, 9, 11), (0, 3, 5, 6, 7, 10)

POOLS = {
    "train": Pool(
        scales=(_MAJOR, _HARMONIC_MINOR, _MAJOR_PENTATONIC),
        tonics=(0, 2, 4, 5, 7, 9, 11),
        tempi_bpm=((66, 86), (108, 132)),
        reverb_seconds=((0.2, 0.4), (0.65, 0.9)),
    ),
    "test": Pool(
        # Neither is a mode of a training scale: no choice of tonic makes them the same notes.
        scales=(_MELODIC_MINOR, _BLUES),
        tonics=(1, 3, 6, 8, 10),
        tempi_bpm=((90, 104),),
        reverb_seconds=((0.45, 0.6),),
    ),
}
"""Pools by split, which share nothing."""


@dataclass(frozen=True, kw_only=True)
class Music:
    """Music of one clip, and its room; the notes follow from it and a random generator."""

    program: int
    scale: tuple[int, ...]
    tonic: int
    tempo_bpm: float
    reverb_seconds: float


@dataclass(frozen=True)
class PlayedNote:
    """One note: times in seconds, pitch and velocity as in MIDI."""

    onset: float
    duration: float
    pitch: int
    velocity: int


def draw_music(label: str, split: str, index: int, rng: np.random.Generator) -> Music:
    """Music of clip number `index` of a class and split, from the split's pool."""
    pool, programs = POOLS[split], INSTRUMENTS[label].programs
    return Music(
        program=programs[index % len(programs)],
        scale=pool.scales[rng.integers(len(pool.scales))],
        tonic=pool.tonics[rng.integers(len(pool.tonics))],
        tempo_bpm=rng.uniform(*pool.tempi_bpm[rng.integers(len(pool.tempi_bpm))]),
        reverb_seconds=rng.uniform(*pool.reverb_seconds[rng.integers(len(pool.reverb_seconds))]),
    )


def compose(label: str, music: Music, rng: np.random.Generator) -> list[PlayedNote]:
    """A melody: a random walk over the scale within the instrument's register, never the same pitch twice running.

    It lasts a clip and its lead-in, without rests.
    """
    instrument = INSTRUMENTS[label]
    lowest, highest = instrument.pitches
    ladder = [pitch for pitch in range(lowest, highest + 1) if (pitch - music.tonic) % 12 in music.scale]
    rung = int(rng.integers(len(ladder)))
    velocity = rng.uniform(75, 105)
    notes: list[PlayedNote] = []
    onset = 0.0
    while onset < _LEAD_IN_SECONDS + CLIP_SECONDS:
        step_seconds = float(rng.choice(instrument.beats)) * 60 / music.tempo_bpm
        chord = (0, 2, 4) if rng.random() < instrument.chords else (0,)
        loudness = int(np.clip(velocity + rng.normal(0, 8), 50, 120))
        for interval in chord:
            if rung + interval < len(ladder):
                pitch = ladder[rung + interval]
                notes.append(PlayedNote(onset, instrument.ring * step_seconds, pitch, loudness))
        onset += step_seconds
        stride = int(rng.choice([-4, -2, -1, -1, 1, 1, 2, 4]))
        rung += stride if 0 <= rung + stride < len(ladder) else -stride
    return notes


def prepare_soundfont(folder: Path) -> Path:
    """Write the SoundFont of the pretty_midi wheel into a folder, retuned for symusic; returns the file.

    Raises UsageError if pretty_midi or symusic is not installed.
    """
    mend = "to make a corpus on a machine with no data: pip install 'cocktail[demo]'"
    for name in ("pretty_midi", "symusic"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"the package {name} is missing; {mend}")
    # Found, not imported: the wheel is wanted for the file it carries.
    package = importlib.util.find_spec("pretty_midi")
    assert package is not None
    assert package.origin is not None
    carried = Path(package.origin).with_name("TimGM6mb.sf2")
    if not carried.is_file():
        raise UsageError(f"{carried} is missing, though pretty_midi is installed; {mend}")
    prepared = folder / carried.name
    prepared.write_bytes(move_root_keys(carried.read_bytes()))
    return prepared


def move_root_keys(soundfont: bytes) -> bytes:
    """A SoundFont in which samples' own headers hold the root keys that instruments gave them.

    A zone of an instrument may override the root key of its sample, the pitch it was recorded at (SoundFont
    2.04, overridingRootKey). symusic's synthesizer looks in the sample's header only and plays such zones up to
    four octaves off (probably its issue 55). So each zone that overrides gets its own copy of the header.
    """
    *_, (list_at, list_stop) = _chunks(soundfont, 12, len(soundfont))
    spans = {soundfont[at - 8 : at - 4]: (at, stop) for at, stop in _chunks(soundfont, list_at + 4, list_stop)}
    bags, generators, headers = (
        np.frombuffer(soundfont[slice(*spans[name])], record).copy()
        for name, record in ((b"ibag", _BAG), (b"igen", _GENERATOR), (b"shdr", _HEADER))
    )
    # The last header marks the end of the list.
    copies, end = [headers[:-1]], headers[-1:]
    for start, stop in itertools.pairwise(bags["generator"].tolist()):
        row_of = {kind: start + row for row, kind in enumerate(generators["kind"][start:stop].tolist())}
        if _ROOT_KEY in row_of and _SAMPLE in row_of:
            sample = generators["amount"][row_of[_SAMPLE]]
            copy = headers[sample : sample + 1].copy()
            copy["root_key"] = generators["amount"][row_of[_ROOT_KEY]]
            generators["amount"][row_of[_SAMPLE]] = len(headers) - 1 + len(copies) - 1
            copies.append(copy)
    patched = bytearray(soundfont)
    patched[slice(*spans[b"igen"])] = generators.tobytes()
    patched[slice(*spans[b"shdr"])] = np.concatenate([*copies, end]).tobytes()
    growth = len(patched) - len(soundfont)
    for size_at in (4, list_at - 4, spans[b"shdr"][0] - 4):
        size = int.from_bytes(patched[size_at : size_at + 4], "little") + growth
        patched[size_at : size_at + 4] = size.to_bytes(4, "little")
    return bytes(patched)


def _chunks(riff: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Beginning and end of the contents of each chunk between two offsets of a RIFF file."""
    while start < stop:
        size = int.from_bytes(riff[start + 4 : start + 8], "little")
        yield start + 8, start + 8 + size
        start += 8 + size + size % 2


def play_notes(notes: list[PlayedNote], program: int, soundfont: Path) -> NDArray[np.float32]:
    """Notes played dry on one instrument: [2, T], as long as the notes ring, at least a clip and its lead-in."""
    # Not imported above: making the corpus alone needs it. Any, for its stubs leave out half of its attributes.
    symusic: Any = importlib.import_module("symusic")
    score, part = symusic.Score(ttype="second"), symusic.Track(program=program, ttype="second")
    for note in notes:
        part.notes.append(symusic.Note(note.onset, note.duration, note.pitch, note.velocity, ttype="second"))
    score.tracks.append(part)
    sound = symusic.Synthesizer(str(soundfont), SAMPLE_RATE_HZ, _INTERPOLATION).render(score, True)
    shortest = round((_LEAD_IN_SECONDS + CLIP_SECONDS) * SAMPLE_RATE_HZ)
    return np.pad(sound, [(0, 0), (0, max(0, shortest - sound.shape[1]))])


def perform(label: str, music: Music, soundfont: Path, rng: np.random.Generator) -> NDArray[np.float32]:
    """The sound of one clip: [1 or 2, T] at SAMPLE_RATE_HZ in [-1, 1], CLIP_SECONDS long.

    The level of the channels' mean is -23 to -17 dBFS rms, less where peaks leave no room for it; noise lies
    at -60 to -50 dBFS.
    """
    first = round(_LEAD_IN_SECONDS * SAMPLE_RATE_HZ)
    num_samples = CLIP_SECONDS * SAMPLE_RATE_HZ
    dry = play_notes(compose(label, music, rng), music.program, soundfont)
    sound = _set_in_room(dry, music.reverb_seconds, rng)[:, first : first + num_samples]
    if rng.random() < 0.5:
        sound = sound.mean(axis=0, keepdims=True)
    level = 10 ** (rng.uniform(*_LEVEL_DBFS) / 20)
    sound = sound * min(level / np.sqrt(np.mean(sound.mean(axis=0) ** 2)), _PEAK / np.abs(sound).max())
    noise = rng.normal(0, 10 ** (rng.uniform(*_NOISE_DBFS) / 20), sound.shape)
    return (sound + noise).astype(np.float32)


def _set_in_room(dry: NDArray[np.float32], reverb_seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A sound [2, T] with reverberation and a spectral tilt: [2, at least T].

    The room's response is the direct sound and an exponentially decaying noise, another on each side. The
    tilt is within 1 dB an octave around 1 kHz. Below 30 Hz nothing passes: some samples hold a constant.
    """
    seconds = np.arange(round(reverb_seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.normal(size=(2, len(seconds))) * 10 ** (-3 * seconds / reverb_seconds)
    response = rng.uniform(0.15, 0.45) * tail / np.sqrt(np.sum(tail**2, axis=1, keepdims=True))
    response[:, 0] += 1
    n_fft = 2 ** int(np.ceil(np.log2(dry.shape[1] + len(seconds))))
    frequencies_hz = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE_HZ)
    tilt = 10 ** (rng.uniform(-1, 1) * np.log2(frequencies_hz.clip(50, 16000) / 1000) / 20)
    tilt[frequencies_hz < 30] = 0
    return np.fft.irfft(np.fft.rfft(dry, n_fft) * np.fft.rfft(response, n_fft) * tilt, n_fft)
