"""Two-minute medleys of four instruments that enter and leave, separated as `cocktail separate` does.

    python tests/benchmarks/medley.py SHARDS MODEL [MODEL ...] [--medleys 3]

SHARDS are shards of single-class clips of ten seconds, such as the corpus that is made, `embedded/*` in the output
folder of `python jobs/sgn_vggsound.py`; the medleys are made of test clips, one to three at a time, each clip once.
Prints for each model, with the four classes given and with those that it hears itself, SDR and SI-SDR of the stems over
ten seconds each in which two or three play, and micro F1 of who plays, second by second, with 95 % intervals over
recordings; beside these controls: the mixture, the fixed equaliser of each of the four classes, and to say that all
classes play all the time. A stem that is silent where its instrument plays is scored as the mixture. Then, for the
first medley, who was said to play.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import soundfile
import torch
import tyro
from torch import Tensor

from cocktail.audio.class_spectra import CLASS_MEAN_BINARY, ClassSpectra, power_shares
from cocktail.inference import load
from cocktail.inference.loaded import LoadedModel, Separated
from cocktail.metrics.bss_eval import bss_eval
from cocktail.metrics.intervals import Interval, Recordings
from cocktail.metrics.separation import replace_silent, si_sdr
from cocktail.recordings.sources import Choice, NothingHeardError, by_hysteresis
from cocktail.tasks.presence import f1_values
from pipelines.shards.manifest import Manifest, open_manifest
from pipelines.shards.reader import read_audio

SLOT_SECONDS, NUM_INSTRUMENTS = 10, 4
PLAYING = (1, 2, 3, 2, 2, 1, 2, 3, 2, 2, 2, 2)
"""How many play in each slot: each of the four in six."""
FADE_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class Arguments:
    shards: Annotated[str, tyro.conf.Positional]
    """Folder of shards, or its URI."""
    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Models as `cocktail separate --model` takes them."""
    wavs: Path | None = None
    """Folder to write the medleys to, as medley-0.wav and so on, to listen to or to separate."""
    medleys: int = 3
    """Medleys of two minutes."""
    seed: int = 0
    """Draws instruments and clips."""
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Medley:
    sources: np.ndarray
    """float32 [C, T], silent where a class does not play."""
    sample_rate_hz: int
    clips: tuple[dict[int, str], ...]
    """Of each slot, who plays, and the recording that is heard."""

    @property
    def mixture(self) -> np.ndarray:
        return self.sources.sum(axis=0)

    @property
    def classes(self) -> list[int]:
        return sorted({class_id for slot in self.clips for class_id in slot})

    def slot(self, signals: np.ndarray, number: int) -> Tensor:
        length = SLOT_SECONDS * self.sample_rate_hz
        return torch.from_numpy(signals[..., number * length : (number + 1) * length])

    @property
    def plays(self) -> np.ndarray:
        """Who plays in each second, bool [seconds, C]."""
        by_slot = [[class_id in slot for class_id in range(len(self.sources))] for slot in self.clips]
        return np.repeat(np.array(by_slot), SLOT_SECONDS, axis=0)


def clips_of(manifest: Manifest, split: str) -> Iterator[tuple[int, str, np.ndarray]]:
    """Class, recording, and sound in [-1, 1] of each clip of a split."""
    for row in manifest.table.to_pylist():
        if row["split"] == split:
            (class_id,) = row["class_ids"]
            yield class_id, row["recording"], read_audio(manifest, row).astype(np.float32) / 32768


def made(manifest: Manifest, *, seed: int, number: int) -> Medley:
    rate, generator = manifest.sample_rate_hz, np.random.default_rng((seed, number))
    length = SLOT_SECONDS * rate
    of_class: dict[int, list[tuple[str, np.ndarray]]] = {}
    for class_id, recording, sound in clips_of(manifest, "test"):
        of_class.setdefault(class_id, []).append((recording, sound))
    instruments = generator.choice(sorted(of_class), NUM_INSTRUMENTS, replace=False)
    waiting = {}
    for class_id in instruments:
        own = of_class[int(class_id)]
        waiting[int(class_id)] = [own[i] for i in generator.permutation(len(own))[: sum(PLAYING) // NUM_INSTRUMENTS]]
    ramp = np.minimum(np.arange(1, length + 1) / (FADE_SECONDS * rate), 1)
    envelope = (ramp * ramp[::-1]).astype(np.float32)
    sources = np.zeros((len(manifest.classes), len(PLAYING) * length), np.float32)
    clips = []
    for slot, playing in enumerate(PLAYING):
        # Those with the most left first, so that all have played their clips in the end.
        ranks = generator.random(NUM_INSTRUMENTS)
        order = sorted(range(NUM_INSTRUMENTS), key=lambda i: (-len(waiting[int(instruments[i])]), ranks[i]))
        heard = {}
        for i in order[:playing]:
            class_id = int(instruments[i])
            heard[class_id], sound = waiting[class_id].pop()
            sources[class_id, slot * length : (slot + 1) * length] = envelope * sound[:length]
        clips.append(heard)
    assert not any(waiting.values())
    return Medley(sources=sources / len(instruments), sample_rate_hz=rate, clips=tuple(clips))


def separated(model: LoadedModel, medley: Medley, choice: Choice) -> Separated | None:
    """None where nothing is heard."""
    try:
        return model.separate(medley.mixture, medley.sample_rate_hz, choice)
    except NothingHeardError:
        return None


def stems_of(found: Separated | None, medley: Medley, names: Sequence[str]) -> np.ndarray:
    """float32 [C, T], silent of classes without a stem."""
    stems = np.zeros_like(medley.sources)
    for name, stem in () if found is None else zip(found.names, found.stems, strict=True):
        stems[names.index(name)] = stem[0]
    return stems


def said_of(found: Separated | None, medley: Medley, choice: Choice) -> np.ndarray:
    """Who is said to play in each second, bool [seconds, C], by the window whose middle is nearest."""
    plays = medley.plays
    if found is None:
        return np.zeros_like(plays)
    assert found.presence is not None
    starts = np.array(found.starts_seconds)
    window = starts[1] - starts[0]  # twice its hop is how long it is
    nearest = np.abs((starts + window)[None] - (np.arange(len(plays)) + 0.5)[:, None]).argmin(axis=1)
    return by_hysteresis(found.presence, *choice.thresholds(0.5))[nearest]


@dataclass
class Scores:
    """Of slots in which two or three play: the means over their stems, with the recordings that are heard."""

    sdr: list[float]
    si_sdr: list[float]

    def add(self, medleys: Sequence[Medley], stems: Sequence[np.ndarray]) -> Scores:
        for medley, own in zip(medleys, stems, strict=True):
            for number, slot in enumerate(medley.clips):
                if len(slot) < 2:
                    continue
                references = medley.slot(medley.sources, number)[sorted(slot)]
                mixture = medley.slot(medley.mixture, number)
                estimates, _ = replace_silent(medley.slot(own, number)[sorted(slot)][None], mixture[None])
                self.sdr.append(bss_eval(references[None], estimates).sdr.mean().item())
                self.si_sdr.append(si_sdr(references, estimates[0]).mean().item())
        return self


def cell(interval: Interval | None) -> str:
    assert interval is not None
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def timeline(names: Sequence[str], medley: Medley, said: np.ndarray) -> Iterator[str]:
    """A line a class, a sign for two seconds."""
    signs = np.array([[".", "+"], ["-", "#"]])
    for class_id, name in enumerate(names):
        line = signs[medley.plays[::2, class_id].astype(int), said[::2, class_id].astype(int)]
        if (line != ".").any():
            yield f"    {name:28s} {''.join(line)}"


def main(arguments: Arguments) -> None:
    torch.set_num_threads(arguments.threads)
    manifest = open_manifest(arguments.shards)
    names = list(manifest.classes)
    medleys = [made(manifest, seed=arguments.seed, number=number) for number in range(arguments.medleys)]
    for number, medley in enumerate(medleys if arguments.wavs else ()):
        assert arguments.wavs is not None
        arguments.wavs.mkdir(parents=True, exist_ok=True)
        path = arguments.wavs / f"medley-{number}.wav"
        soundfile.write(path, medley.mixture, medley.sample_rate_hz, subtype="PCM_16")
    of_slots = Recordings([list(slot.values()) for medley in medleys for slot in medley.clips if len(slot) > 1])
    of_seconds = Recordings(
        [list(slot.values()) for medley in medleys for slot in medley.clips for _ in range(SLOT_SECONDS)]
    )
    plays = np.concatenate([medley.plays for medley in medleys])

    def row(name: str, stems: Sequence[np.ndarray] | None, said: np.ndarray | None) -> str:
        scores = None if stems is None else Scores([], []).add(medleys, stems)
        cells = [
            *(cell(of_slots.interval(np.array(each))) for each in ((scores.sdr, scores.si_sdr) if scores else ())),
            *([] if scores else ["", ""]),
            "" if said is None else cell(of_seconds.interval_of_share(f1_values(said, plays)[0])),
        ]
        return f"| {name} | {' | '.join(cells)} |"

    print(f"{len(medleys)} medleys, seed {arguments.seed}, torch {torch.__version__}")
    print("| | SDR | SI-SDR | micro F1 of who plays |")
    print("|---|---:|---:|---:|")
    print(row("mixture", [np.tile(each.mixture, (len(names), 1)) for each in medleys], None))
    print(row(CLASS_MEAN_BINARY, [equalised(manifest, each) for each in medleys], None))
    print(row("all classes, all the time", None, np.ones_like(plays)), flush=True)
    first = []
    for name in arguments.models:
        model, by_ear = load(name, device="cpu"), Choice(on=0.5, off=0.3)
        given = [
            separated(model, each, Choice(classes=tuple(names[class_id] for class_id in each.classes)))
            for each in medleys
        ]
        heard = [separated(model, each, by_ear) for each in medleys]
        title = Path(name).name
        print(
            row(f"{title}, classes given", [stems_of(*each, names) for each in zip(given, medleys, strict=True)], None)
        )
        said = [said_of(*each, by_ear) for each in zip(heard, medleys, strict=True)]
        stems = [stems_of(*each, names) for each in zip(heard, medleys, strict=True)]
        print(row(f"{title}, by ear", stems, np.concatenate(said)), flush=True)
        first.append((title, said[0]))
    print(
        "\nThe first medley, two seconds a sign: # plays and is said to, - plays and is not, + is said to and does not"
    )
    for title, said in first:
        print(f"\n    {title}")
        print("\n".join(timeline(names, medleys[0], said)))


def equalised(manifest: Manifest, medley: Medley) -> np.ndarray:
    """The medley through the fixed equalisers of its classes, float32 [C, T]."""
    rate = manifest.sample_rate_hz
    shares: dict[int, list[np.ndarray]] = {class_id: [] for class_id in range(len(manifest.classes))}
    for class_id, _, sound in clips_of(manifest, "train"):
        shares[class_id].append(power_shares(sound, rate))
    spectra = ClassSpectra(
        sample_rate_hz=rate,
        power=np.stack([np.mean(own, axis=0) for own in shares.values()]).astype(np.float32),
        num_clips=np.array([len(own) for own in shares.values()]),
    )
    stems = np.zeros_like(medley.sources)
    class_ids = torch.tensor([medley.classes])
    everyone = torch.ones_like(class_ids, dtype=torch.bool)
    estimates = spectra.separate(torch.from_numpy(medley.mixture)[None], class_ids, everyone)
    stems[medley.classes] = estimates[CLASS_MEAN_BINARY][0].numpy()
    return stems


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
