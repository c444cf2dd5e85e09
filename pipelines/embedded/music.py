"""Sounds of the embedded corpus: seeded random melodies, played by sampled instruments, set in a synthetic room.

All classes play in one register, through a body and a band that are drawn for each clip, so that fixed equalisers, one
a class, hardly part them: what tells them apart is how their notes begin, ring, decay and waver, and which partials
they have.

Shape letters: T samples.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLIP_SECONDS = 10
SAMPLE_RATE_HZ = 44100
REGISTER = (55, 79)
"""Lowest and highest MIDI pitch of every class: two octaves from G3 on."""
_LEAD_IN_SECONDS = 0.5
"""Played before a clip begins, so that it starts amid music, as a cut from a longer video does."""
_LEVEL_DBFS = (-23.0, -17.0)
_NOISE_DBFS = (-60.0, -45.0)
_PEAK = 0.8
"""Peak of the samples that go to the encoder. Noise and AAC add to it; decoded peaks stay under 0.95."""
_INTERPOLATION = 4
"""Value of symusic's `quality`; from 5 on it plays some instruments as silence."""
_DETUNE_CENTS = 40.0
_VIBRATO_CENTS = 35.0
_VIBRATO_HZ = (4.5, 6.5)
_TILT_DB_PER_OCTAVE = 2.0
_NUM_RESONANCES = 3
_RESONANCE_DB = 4.0
_RESONANCE_HZ = (200.0, 4500.0)
_RESONANCE_OCTAVES = (0.3, 1.0)
_BAND_HZ = ((40.0, 140.0), (4000.0, 16000.0))
"""Ranges of the lower and the upper end of a clip's band, where it is 3 dB down; 12 dB an octave beyond."""


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """Manner in which a class plays."""

    train: tuple[int, ...]
    """General MIDI programs, counted from 0, of training clips, which take them in turn."""
    test: tuple[int, ...]
    """Programs of test clips: other recorded instruments than those of training."""
    ring: float
    """Length of a note as a multiple of its step: over 1 it sounds into the next."""
    sustained: bool
    """Bowed or blown: its notes last, and may have vibrato."""
    chords: float = 0.0
    """Share of onsets that are chords of two."""

    def programs(self, split: str) -> tuple[int, ...]:
        return self.train if split == "train" else self.test


INSTRUMENTS = {
    "playing acoustic guitar": Instrument(train=(25, 26, 27), test=(24,), ring=2.0, sustained=False, chords=0.25),
    "playing flute": Instrument(train=(73, 74, 75, 77, 79), test=(72,), ring=1.05, sustained=True),
    "playing marimba, xylophone": Instrument(train=(11, 12, 108), test=(13,), ring=1.5, sustained=False),
    "playing saxophone": Instrument(train=(64, 67), test=(66,), ring=1.05, sustained=True),
    "playing trumpet": Instrument(train=(56, 57, 59), test=(61,), ring=1.05, sustained=True),
    "playing violin, fiddle": Instrument(train=(40, 44, 50), test=(49,), ring=1.1, sustained=True),
}
"""The classes, by VGG-Sound's label: those that the SoundFont has several of. No recorded sample is played in two of
them, nor in both splits of one.

Most of a class is kin: electric guitars without distortion for an acoustic one; recorder, pan flute, shakuhachi,
ocarina and piccolo for the flute; vibraphone and kalimba for the marimba; trombone and a brass section for
the trumpet; string sections, one of them synthesized, for the violin; the saxophones are of three sizes."""


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
_BEATS = (0.5, 1, 1, 2)
"""Steps from one onset to the next, drawn with equal chance, the same for all classes: rhythm tells nothing."""

POOLS = {
    "train": Pool(
        scales=(_MAJOR, _HARMONIC_MINOR, _MAJOR_PENTATONIC),
        tonics=(0, 2, 4, 5, 7, 9, 11),
        tempi_bpm=((66, 86), (100, 120)),
        reverb_seconds=((0.2, 0.4), (0.65, 0.9)),
    ),
    "test": Pool(
        # Neither is a mode of a training scale: no choice of tonic makes them the same notes.
        scales=(_MELODIC_MINOR, _BLUES),
        tonics=(1, 3, 6, 8, 10),
        tempi_bpm=((88, 98),),
        reverb_seconds=((0.45, 0.6),),
    ),
}
"""Pools by split, which share nothing."""


@dataclass(frozen=True, kw_only=True)
class Music:
    """Music of one clip, and its room; the notes and the rest follow from it and a random generator."""

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
    pool, programs = POOLS[split], INSTRUMENTS[label].programs(split)
    return Music(
        program=programs[index % len(programs)],
        scale=pool.scales[rng.integers(len(pool.scales))],
        tonic=pool.tonics[rng.integers(len(pool.tonics))],
        tempo_bpm=rng.uniform(*pool.tempi_bpm[rng.integers(len(pool.tempi_bpm))]),
        reverb_seconds=rng.uniform(*pool.reverb_seconds[rng.integers(len(pool.reverb_seconds))]),
    )


def compose(label: str, music: Music, rng: np.random.Generator) -> list[PlayedNote]:
    """A melody: a random walk over the scale within the register, never the same pitch twice running.

    It lasts a clip and its lead-in, without rests.
    """
    instrument = INSTRUMENTS[label]
    lowest, highest = REGISTER
    ladder = [pitch for pitch in range(lowest, highest + 1) if (pitch - music.tonic) % 12 in music.scale]
    rung = int(rng.integers(len(ladder)))
    velocity = rng.uniform(70, 110)
    notes: list[PlayedNote] = []
    onset = 0.0
    while onset < _LEAD_IN_SECONDS + CLIP_SECONDS:
        step_seconds = float(rng.choice(_BEATS)) * 60 / music.tempo_bpm
        chord = (0, 2) if rng.random() < instrument.chords else (0,)
        loudness = int(np.clip(velocity + rng.normal(0, 8), 50, 120))
        for interval in chord:
            if rung + interval < len(ladder):
                pitch = ladder[rung + interval]
                notes.append(PlayedNote(onset, instrument.ring * step_seconds, pitch, loudness))
        onset += step_seconds
        stride = int(rng.choice([-5, -3, -2, -1, 1, 2, 3, 5]))
        rung += stride if 0 <= rung + stride < len(ladder) else -stride
    return notes


def play_notes(notes: list[PlayedNote], program: int, soundfont: Path) -> NDArray[np.float32]:
    """Notes played dry on one preset: [2, T], as long as the notes ring, at least a clip and its lead-in."""
    # Not imported above: making the corpus alone needs it. Any, for its stubs leave out half of its attributes.
    symusic: Any = importlib.import_module("symusic")
    score, part = symusic.Score(ttype="second"), symusic.Track(program=program, ttype="second")
    for note in notes:
        part.notes.append(symusic.Note(note.onset, note.duration, note.pitch, note.velocity, ttype="second"))
    score.tracks.append(part)
    sound = symusic.Synthesizer(str(soundfont), SAMPLE_RATE_HZ, _INTERPOLATION).render(score, True)
    shortest = round((2 * _LEAD_IN_SECONDS + CLIP_SECONDS) * SAMPLE_RATE_HZ)
    return np.pad(sound, [(0, 0), (0, max(0, shortest - sound.shape[1]))])


def perform(label: str, music: Music, soundfont: Path, rng: np.random.Generator) -> NDArray[np.float32]:
    """The sound of one clip: [1 or 2, T] at SAMPLE_RATE_HZ in [-1, 1], CLIP_SECONDS long.

    The level of the channels' mean is -23 to -17 dBFS rms, less where peaks leave no room for it; noise lies
    at -60 to -45 dBFS.
    """
    first = round(_LEAD_IN_SECONDS * SAMPLE_RATE_HZ)
    num_samples = CLIP_SECONDS * SAMPLE_RATE_HZ
    dry = play_notes(compose(label, music, rng), music.program, soundfont)
    tuned = _detuned(dry, INSTRUMENTS[label].sustained, rng)
    sound = _set_in_room(tuned, music.reverb_seconds, rng)[:, first : first + num_samples]
    if rng.random() < 0.5:
        sound = sound.mean(axis=0, keepdims=True)
    level = 10 ** (rng.uniform(*_LEVEL_DBFS) / 20)
    sound = sound * min(level / np.sqrt(np.mean(sound.mean(axis=0) ** 2)), _PEAK / np.abs(sound).max())
    noise = rng.normal(0, 10 ** (rng.uniform(*_NOISE_DBFS) / 20), sound.shape)
    return (sound + noise).astype(np.float32)


def _detuned(dry: NDArray[np.float32], sustained: bool, rng: np.random.Generator) -> NDArray[np.float64]:
    """A sound [2, T] a little off pitch, with vibrato if it is sustained: read at a speed that wavers, [2, about T]."""
    speed = 2 ** (rng.uniform(-_DETUNE_CENTS, _DETUNE_CENTS) / 1200)
    depth = rng.uniform(0, _VIBRATO_CENTS) if sustained else 0.0
    turns_a_second, phase = rng.uniform(*_VIBRATO_HZ), rng.uniform(0, 2 * np.pi)
    seconds = np.arange(int((dry.shape[1] - 2) / speed)) / SAMPLE_RATE_HZ
    # The integral of a speed that swings by `depth` cents about its mean.
    swing = (2 ** (depth / 1200) - 1) / (2 * np.pi * turns_a_second)
    places = speed * (seconds + swing * np.sin(2 * np.pi * turns_a_second * seconds + phase)) * SAMPLE_RATE_HZ
    places = places.clip(0, dry.shape[1] - 1)
    return np.stack([np.interp(places, np.arange(dry.shape[1]), channel) for channel in dry])


def _set_in_room(dry: NDArray[np.float64], reverb_seconds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A sound [2, T] through a body and a band of its own, in a room: [2, at least T].

    The room's response is the direct sound and an exponentially decaying noise, another on each side.
    """
    seconds = np.arange(round(reverb_seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = rng.normal(size=(2, len(seconds))) * 10 ** (-3 * seconds / reverb_seconds)
    response = rng.uniform(0.15, 0.45) * tail / np.sqrt(np.sum(tail**2, axis=1, keepdims=True))
    response[:, 0] += 1
    n_fft = 2 ** int(np.ceil(np.log2(dry.shape[1] + len(seconds))))
    body = _draw_body(np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE_HZ), rng)
    return np.fft.irfft(np.fft.rfft(dry, n_fft) * np.fft.rfft(response, n_fft) * body, n_fft)


def _draw_body(frequencies_hz: NDArray[np.floating[Any]], rng: np.random.Generator) -> NDArray[np.floating[Any]]:
    """Gains of an instrument's body and of what recorded it, linear, at some frequencies.

    A tilt around 800 Hz, three resonances or hollows in the register of the partials, and a band. Below 30 Hz nothing
    passes: some samples hold a constant.
    """
    octaves = np.log2(frequencies_hz.clip(20) / 800)
    decibels = rng.uniform(-1, 1) * _TILT_DB_PER_OCTAVE * octaves.clip(-3.3, 3.3)
    for _ in range(_NUM_RESONANCES):
        centre = np.log2(np.exp(rng.uniform(*np.log(_RESONANCE_HZ))) / 800)
        width = rng.uniform(*_RESONANCE_OCTAVES)
        decibels += rng.uniform(-1, 1) * _RESONANCE_DB * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    low, high = (np.exp(rng.uniform(*np.log(ends))) for ends in _BAND_HZ)
    band = 1 / np.sqrt((1 + (low / frequencies_hz.clip(1e-3)) ** 4) * (1 + (frequencies_hz / high) ** 4))
    return 10 ** (decibels / 20) * band * (frequencies_hz >= 30)
