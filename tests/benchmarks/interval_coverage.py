"""How often 95 % intervals of a mean over mixtures hold the true one, where mixtures share recordings.

    python tests/benchmarks/interval_coverage.py [--samples N]

- by mixture: Student's, as if mixtures were independent.
- pigeonhole: the percentile bootstrap that draws recordings again, and weighs a mixture by the product of how often its
  own were drawn (Owen, "The pigeonhole bootstrap", 2007; for arrays, Davezies, D'Haultfoeuille and Guyonvarch, 2021).
- by recording: `cocktail.metrics.intervals`.

A cell is the share by recording, and in brackets by mixture and by the pigeonhole bootstrap, which knows no seeds.
Scores are normal, and recordings cause a share of their variance; each design is drawn anew eight times.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import tyro

from cocktail.metrics.intervals import Recordings
from tests.made.results.recorded_scores import drawn, frames, scores

NUM_DESIGNS = 8
RESAMPLES = 500
SHARES = (0.0, 0.25, 0.5, 1.0)
DRAWN = (
    *((20, 20, 1), (22, 40, 2), (22, 100, 2), (90, 100, 2), (90, 1000, 2), (1000, 1000, 2)),
    *((22, 100, 3), (90, 100, 3), (1000, 1000, 3)),
)
VIDEOS = (3, 5, 8, 12, 20)
UNDER_SEEDS = (22, 100, 2)
SEEDS = (2, 3, 5)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    samples: int = 2000
    """Sets of scores of each design and share; one in four for the bootstrap."""


@dataclass
class Held:
    """Whether intervals held 0, by the way that they were made."""

    by_recording: list[bool]
    by_mixture: list[bool]
    pigeonhole: list[bool]

    @property
    def cell(self) -> str:
        others = ", ".join(f"{np.mean(each):.0%}" for each in (self.by_mixture, self.pigeonhole) if each)
        return f"{np.mean(self.by_recording):.1%} ({others})"


def holds(recordings: Recordings, values: np.ndarray) -> bool:
    interval = recordings.interval(values)
    assert interval is not None
    return interval.low <= 0 <= interval.high


def pigeonhole_holds(generator: np.random.Generator, of_mixtures: list[list[str]], samples: np.ndarray) -> list[bool]:
    """Whether percentile intervals of samples [count, M] hold 0; all have the same resamples."""
    names = sorted({name for mixture in of_mixtures for name in mixture})
    place = {name: number for number, name in enumerate(names)}
    drawn_again = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    counts = [drawn_again[:, [place[name] for name in mixture]].prod(axis=1) for mixture in of_mixtures]
    weights = np.stack(counts, axis=1)
    weights = weights[weights.sum(axis=1) > 0]
    means = samples @ (weights / weights.sum(axis=1, keepdims=True)).T
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    return ((low <= 0) & (high >= 0)).tolist()


def measure(design: tuple[int, int, int] | int, share: float, samples: int, num_seeds: int = 1) -> Held:
    generator = np.random.default_rng(0)
    held = Held([], [], [])
    for _ in range(NUM_DESIGNS):
        of_mixtures = frames(generator, design) if isinstance(design, int) else drawn(generator, *design)
        together = Recordings(of_mixtures)
        apart = Recordings([[str(mixture)] for mixture in range(len(of_mixtures))])
        values = scores(generator, of_mixtures, share, samples // NUM_DESIGNS, num_seeds)
        means = values if num_seeds == 1 else values.mean(axis=1)
        held.by_recording += [holds(together, sample) for sample in values]
        held.by_mixture += [holds(apart, sample) for sample in means]
        if num_seeds == 1:
            held.pigeonhole += pigeonhole_holds(generator, of_mixtures, values[: len(values) // 4])
    return held


def name_of(design: tuple[int, int, int] | int) -> str:
    if isinstance(design, int):
        return f"5 to 60 frames each of {design} videos"
    clips, mixtures, sources = design
    return f"{mixtures} mixtures of {sources} of {clips} clips"


def main(arguments: Arguments) -> None:
    begin = time.process_time()
    print(f"| design; share of recordings: | {' | '.join(f'{share:g}' for share in SHARES)} |")
    print(f"|---|{'---:|' * len(SHARES)}")
    for design in (*DRAWN, *VIDEOS):
        cells = [measure(design, share, arguments.samples).cell for share in SHARES]
        print(f"| {name_of(design)} | {' | '.join(cells)} |", flush=True)
    for num_seeds in SEEDS:
        cells = [measure(UNDER_SEEDS, share, arguments.samples, num_seeds).cell for share in SHARES]
        print(f"| {name_of(UNDER_SEEDS)}, {num_seeds} seeds | {' | '.join(cells)} |", flush=True)
    print(f"\n{time.process_time() - begin:.0f} s of CPU time")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
