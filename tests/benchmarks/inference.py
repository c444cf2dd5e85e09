"""What separating a recording costs on one core: cocktail's way with a model, beside other separators on the same file.

    python tests/benchmarks/inference.py MODEL [--seconds 180] [--file FILE]

- cocktail: `load(MODEL).separate_file(...)`: decoding, windows, masks at the file's rate, stems, levels, page, all; and
  `separate` alone, without files.
- Hybrid Demucs: demucs' own `apply_model` on an untrained HDemucs of its published size, if the package demucs is
  there. What weights say does not change what they cost.
- Conv-TasNet: asteroid's `separate` with an untrained network of its defaults, if asteroid is there.

Without `--file` the recording is stereo noise and tones at 44.1 kHz. The real-time factor is the length of the
recording over the time that is taken: 20 is twenty times faster than it plays. All take turns; the median turn counts.
Times are of one thread: by the clock, and of the processor, which says more where other things run, too.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "platform")]

import numpy as np
import soundfile
import torch
import tyro

from cocktail.inference import load
from cocktail.machine import peak_bytes
from cocktail.media.recordings import decode_whole

RATE = 44100
MOST_VALUES = 60_000_000


@dataclass(frozen=True, kw_only=True)
class Arguments:
    model: tyro.conf.Positional[str]
    """Model as `cocktail separate --model` takes it."""
    file: Path | None = None
    """Recording of at most ten minutes; None makes one."""
    seconds: float = 180.0
    """Length of the made one."""
    num_sources: int = 2
    """Sources to separate it into."""
    turns: int = 3
    """Turns after the first, which does not count."""


def made(seconds: float) -> np.ndarray:
    """Tones that come and go, over noise, float32 [2, T]."""
    generator = np.random.default_rng(0)
    time_seconds = np.arange(int(seconds * RATE)) / RATE
    sound = 0.02 * generator.normal(size=(2, len(time_seconds)))
    for hz in (220, 554, 1319, 3136):
        sound += 0.1 * np.sin(2 * np.pi * hz * time_seconds) * (np.sin(2 * np.pi * time_seconds / 7 + hz) > 0)
    return sound.astype(np.float32)


def cocktail_ways(arguments: Arguments, path: Path) -> dict[str, Callable[[], Any]]:
    from cocktail.recordings.sources import Choice

    model = load(arguments.model, device="cpu")
    choice = Choice(num_sources=arguments.num_sources)

    def to_files() -> None:
        with tempfile.TemporaryDirectory() as folder:
            model.separate_file(path, folder, choice)

    return {
        f"cocktail, {model.trained.name}, with files and page": to_files,
        f"cocktail, {model.trained.name}": lambda: model.separate(path, choice=choice),
    }


def demucs_way(sound: np.ndarray) -> Callable[[], Any] | None:
    if importlib.util.find_spec("demucs") is None:
        print("demucs is not installed, and left out: pip install demucs")
        return None
    from demucs.apply import apply_model  # pyright: ignore[reportMissingImports]
    from demucs.hdemucs import HDemucs  # pyright: ignore[reportMissingImports]

    model = HDemucs(sources=["drums", "bass", "other", "vocals"], samplerate=RATE).eval()
    return lambda: apply_model(model, torch.from_numpy(sound)[None], shifts=0, split=True, overlap=0.25)


def asteroid_way(sound: np.ndarray, num_sources: int) -> Callable[[], Any] | None:
    if importlib.util.find_spec("asteroid") is None:
        print("asteroid is not installed, and left out: pip install asteroid")
        return None
    from asteroid.models import ConvTasNet  # pyright: ignore[reportMissingImports]

    model = ConvTasNet(n_src=num_sources, sample_rate=RATE).eval()
    mono = torch.from_numpy(sound.mean(axis=0, keepdims=True))

    def separate() -> None:
        with torch.no_grad():
            model(mono)

    return separate


def main() -> None:
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.file
        if path is None:
            path = Path(folder) / "made.wav"
            soundfile.write(path, made(arguments.seconds).T, RATE, subtype="PCM_16")
        found = decode_whole(path, MOST_VALUES)
        if found is None:
            raise SystemExit(f"{path} is too long to be held in memory: take one of ten minutes")
        sound, rate_hz = found
        seconds = sound.shape[1] / rate_hz
        ways = cocktail_ways(arguments, path)
        others = {
            "demucs' HDemucs, untrained, 4 stems": demucs_way(sound),
            "asteroid's ConvTasNet, untrained, one channel": asteroid_way(sound, arguments.num_sources),
        }
        ways |= {name: way for name, way in others.items() if way is not None}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for turn in range(1 + arguments.turns):
            for name, way in ways.items():
                began = time.perf_counter(), time.process_time()
                way()
                if turn:
                    taken[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    print(f"{seconds:.1f} s, {len(sound)} channels at {rate_hz} Hz; torch {torch.__version__}, one thread")
    for name, times in taken.items():
        clock, processor = (statistics.median(each) for each in zip(*times, strict=True))
        print(
            f"{name}: {processor:.2f} s of the processor, {seconds / processor:.1f} times real time "
            f"({clock:.2f} s by the clock, {seconds / clock:.1f} times)"
        )
    import resource

    print(f"most memory in use: {peak_bytes(resource.getrusage(resource.RUSAGE_SELF)) / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
