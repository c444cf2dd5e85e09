"""What scoring a mixture costs on one core: by BSS Eval, and the average precision of maps.

    python tests/benchmarks/scoring.py [--audio-folder FOLDER]
    python tests/benchmarks/scoring.py --num-sources        # average precision alone

BSS Eval, without and with the search for an order:

- mir_eval: `bss_eval_sources`, one mixture a call, which is all it can do.
- ours: `bss_eval` and `bss_eval_best`, batches of several sizes.

Sources are decaying harmonic tones over a faint noise floor, or random cuts of the recordings below FOLDER; an estimate
is its source filtered, with some of the others and of noise. All takes turns, each turn of mir_eval scores another
mixture, and the median turn counts. Times are the process's own on its one thread: what an idle core would take.
The largest difference is over all scores that mir_eval gives less than 100 dB.

Average precision of eight pairs of pictures side by side, for a model with a map a source and for the controls, all
maps against all sources: all at once, as on a GPU, and map by map, as on CPUs.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "platform")]

import mir_eval.separation
import numpy as np
import soundfile
import torch
import tyro
from scipy.signal import lfilter

from cocktail.metrics import localization
from cocktail.metrics.bss_eval import bss_eval, bss_eval_best

SAMPLE_RATE_HZ = 11025


@dataclass(frozen=True, kw_only=True)
class Arguments:
    audio_folder: Path | None = None
    """Recordings to cut sources from, in folders of any depth: WAV, FLAC or MP3; their first channel is taken."""
    num_sources: tuple[int, ...] = (2, 3)
    batch_sizes: tuple[int, ...] = (1, 8, 16)
    num_samples: int = 65280
    """Samples of each signal."""
    turns: int = 7
    """Turns after the first, which does not count."""


def tones(generator: np.random.Generator, num_samples: int) -> np.ndarray:
    """A melody [T] of decaying notes with harmonics, and noise 70 dB below its peaks."""
    signal, begin = np.zeros(num_samples), 0
    while begin < num_samples:
        length = min(int(generator.uniform(0.1, 0.8) * SAMPLE_RATE_HZ), num_samples - begin)
        seconds = np.arange(length) / SAMPLE_RATE_HZ
        pitch_hz = 110 * 2 ** (generator.integers(36) / 12)
        for harmonic in range(1, int(5000 / pitch_hz) + 1):
            decay = np.exp(-seconds * generator.uniform(1, 3) * harmonic**0.5)
            phase = generator.uniform(0, 2 * np.pi)
            signal[begin : begin + length] += (
                decay / harmonic * np.sin(2 * np.pi * harmonic * pitch_hz * seconds + phase)
            )
        begin += length
    return signal / np.abs(signal).max() + 3e-4 * generator.normal(size=num_samples)


def cuts(folder: Path, generator: np.random.Generator, num_cuts: int, num_samples: int) -> np.ndarray:
    """Random cuts [num_cuts, T] of the recordings of a folder, silent ones left out."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".wav", ".flac", ".mp3"})
    paths = [path for path in paths if soundfile.info(path).frames >= num_samples]
    if not paths:
        raise ValueError(f"{folder} has no WAV, FLAC or MP3 file of at least {num_samples} samples")
    found: list[np.ndarray] = []
    while len(found) < num_cuts:
        audio = soundfile.read(paths[generator.integers(len(paths))], dtype="float64", always_2d=True)[0][:, 0]
        begin = generator.integers(len(audio) - num_samples + 1)
        cut = audio[begin : begin + num_samples]
        if np.abs(cut).max() > 1e-3:
            found.append(cut)
    return np.stack(found)


def make_mixtures(arguments: Arguments, num_mixtures: int, N: int) -> tuple[np.ndarray, np.ndarray]:
    """(references, estimates) [B, N, T]."""
    generator = np.random.default_rng(N)
    B, T = num_mixtures, arguments.num_samples
    if arguments.audio_folder:
        references = cuts(arguments.audio_folder, generator, B * N, T)
    else:
        references = np.stack([tones(generator, T) for _ in range(B * N)])
    references = references.reshape(B, N, T)
    leak = generator.uniform(0.01, 0.3, (B, N, 1)) * (references.sum(axis=1, keepdims=True) - references)
    noise = generator.uniform(1e-4, 0.03, (B, N, 1)) * references.std() * generator.normal(size=references.shape)
    return references, lfilter([1, 0.2, -0.1], [1, -0.3], references) + leak + noise


def theirs(references: np.ndarray, estimates: np.ndarray, search: bool) -> np.ndarray:
    """SDR, SIR and SAR, and the order [4, N]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.stack(mir_eval.separation.bss_eval_sources(references, estimates, compute_permutation=search))


def ours(references: torch.Tensor, estimates: torch.Tensor, search: bool) -> np.ndarray:
    """The same [4, B, N]."""
    if search:
        scores, order = bss_eval_best(references, estimates)
        return torch.stack([*scores, order]).numpy()
    scores = bss_eval(references, estimates)
    return torch.stack([*scores, torch.arange(references.shape[1]).expand_as(scores.sdr)]).numpy()


def measure(arguments: Arguments, N: int, search: bool) -> tuple[dict[int, float], float]:
    """(ms a mixture of mir_eval, under 0, and of ours by batch size, largest difference in dB)."""
    most = max(arguments.batch_sizes)
    references, estimates = make_mixtures(arguments, most, N)
    if search:
        estimates = np.roll(estimates, 1, axis=1)
    tensors = torch.from_numpy(references), torch.from_numpy(estimates)
    taken: dict[int, list[float]] = {size: [] for size in (0, *arguments.batch_sizes)}
    largest = 0.0
    for turn in range(arguments.turns + 1):
        b = turn % most
        begin = time.process_time()
        expected = theirs(references[b], estimates[b], search)
        taken[0].append(time.process_time() - begin)
        for size in arguments.batch_sizes:
            cut = slice(b // size * size, b // size * size + size)
            begin = time.process_time()
            scores = ours(tensors[0][cut], tensors[1][cut], search)[:, b % size]
            taken[size].append((time.process_time() - begin) / len(tensors[0][cut]))
            if (scores[3] != expected[3]).any():
                raise ValueError(f"mir_eval takes the order {expected[3]}, we take {scores[3]}")
            comparable = expected[:3] < 100
            largest = max(largest, np.abs(scores[:3] - expected[:3])[comparable].max())
    return {size: float(1e3 * np.median(seconds[1:])) for size, seconds in taken.items()}, largest


def maps_of_pairs(B: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Maps [B or 1, L, H, W] by system, of B pairs of pictures side by side, and truths bool [B, 2, H, W]."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(B, 2, 7, 14, generator=generator)
    truths = torch.zeros(B, 2, 224, 448, dtype=torch.bool)
    for n in range(2):
        truths[:, n, 50:150, 224 * n + 30 : 224 * n + 120] = True
    maps = {
        "model": torch.nn.functional.interpolate(coarse, size=(224, 448), mode="bilinear"),
        "constant map": localization.constant_map(224, 448)[None, None],
        "centred box": localization.centred_box(224, 448)[None, None],
        "ideal map": localization.ideal_maps(truths),
    }
    return maps, truths


def measure_ap(turns: int, B: int = 8) -> None:
    """Print the ms that AP takes a pair and system."""
    maps, truths = maps_of_pairs(B)
    ways = {"all at once": localization._ap_all_at_once, "map by map": localization._ap_map_by_map}
    print(f"AP of two sources in pictures side by side, one core, ms a pair, median of {turns} turns")
    print("".join(f"{title:>14}" for title in ("system", *ways, "alike")))
    total = dict.fromkeys(ways, 0.0)
    for system, of_system in maps.items():
        taken: dict[str, list[float]] = {way: [] for way in ways}
        scores = {}
        for _ in range(turns + 1):
            for way, average_precision in ways.items():
                begin = time.process_time()
                scores[way] = average_precision(of_system.flatten(-2)[:, :, None], truths.flatten(-2)[:, None])
                taken[way].append((time.process_time() - begin) / B)
        medians = {way: 1e3 * float(np.median(seconds[1:])) for way, seconds in taken.items()}
        total = {way: total[way] + median for way, median in medians.items()}
        alike = torch.equal(*scores.values())
        print(
            f"{system:>14}" + "".join(f"{median:14.1f}" for median in medians.values()) + f"{alike!s:>14}", flush=True
        )
    print(f"{'mean':>14}" + "".join(f"{each / len(maps):14.1f}" for each in total.values()), flush=True)


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    measure_ap(arguments.turns)
    print(f"{arguments.num_samples} samples, one core, ms a mixture, median of {arguments.turns} turns")
    print(f"{'sources':>7} {'search':>6} {'mir_eval':>8} {'batch':>5} {'ours':>6} {'ratio':>6}  largest difference")
    for N in arguments.num_sources:
        for search in (False, True):
            taken, largest = measure(arguments, N, search)
            for size in arguments.batch_sizes:
                print(
                    f"{N:7} {'yes' if search else 'no':>6} {taken[0]:8.1f} {size:5} {taken[size]:6.1f} "
                    f"{taken[0] / taken[size]:6.1f}  {largest:.1e} dB",
                    flush=True,
                )


if __name__ == "__main__":
    main()
