"""How often 95 % intervals of a mean over mixtures hold the true one, where mixtures share recordings.

    python tests/benchmarks/interval_coverage.py [--samples N]

- by mixture: Student's, as if mixtures were independent.
- pigeonhole: the percentile bootstrap that draws recordings again, and weighs a mixture by the product of how often its
  own were drawn (Owen, "The pigeonhole bootstrap", 2007; for arrays, Davezies, D'Haultfoeuille and Guyonvarch, 2021).
- by recording: `cocktail.metrics.intervals`.

A cell is the share by recording, and in brackets by mixture and by the pigeonhole bootstrap, which knows no seeds.
Scores are normal, and recordings cause a share of their variance; each design is drawn anew eight times, among those
that have an interval.

In the second table a mixture succeeds where its score is below a quantile, and recordings cause half of the variance of
the scores: a cell is how often the interval of a share holds the true one and, in brackets, that of a mean.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

for library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{library}_NUM_THREADS"] = "1"
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / part) for part in (".", "platform")]

import numpy as np
import tyro
from scipy.stats import norm

from cocktail.metrics.intervals import Interval, Recordings
from tests.made.results.recorded_scores import drawn, frames, scores


@dataclass(frozen=True)
class Design:
    """Mixtures that share recordings."""

    name: str
    draw: Callable[[np.random.Generator], list[list[str]]]
    """The recordings of each mixture."""

    @classmethod
    def of_clips(cls, clips: int, mixtures: int, sources: int) -> Design:
        draw = partial(drawn, num_clips=clips, num_mixtures=mixtures, num_sources=sources)
        return cls(f"{mixtures} mixtures of {sources} of {clips} clips", draw)

    @classmethod
    def of_videos(cls, videos: int) -> Design:
        return cls(f"5 to 60 frames each of {videos} videos", partial(frames, num_videos=videos))

    @classmethod
    def unequal(cls, *counts: tuple[int, int]) -> Design:
        """So many videos of so many frames each."""
        of_videos = [number for videos, number in counts for _ in range(videos)]
        named = ", ".join(f"{number} each of {videos}" for videos, number in counts)
        mixtures = [[str(video)] for video, number in enumerate(of_videos) for _ in range(number)]
        return cls(f"frames of videos: {named}", lambda _: mixtures)


NUM_DESIGNS = 8
RESAMPLES = 500
SHARES = (0.0, 0.25, 0.5, 1.0)
CLIPS = (
    *((20, 20, 1), (22, 40, 2), (22, 100, 2), (90, 100, 2), (90, 1000, 2), (1000, 1000, 2)),
    *((22, 100, 3), (90, 100, 3), (1000, 1000, 3)),
)
UNEQUAL = (
    Design.unequal((1, 100), (9, 1)),
    Design.unequal((2, 50), (8, 1)),
    Design.unequal((3, 40), (9, 1)),
    Design.unequal((1, 60), (8, 10)),
    Design.unequal((5, 30), (9, 1)),
)
DESIGNS = (*(Design.of_clips(*each) for each in CLIPS), *(Design.of_videos(each) for each in (3, 5, 8, 12, 20)))
UNDER_SEEDS = Design.of_clips(22, 100, 2)
SEEDS = (2, 3, 5)
PROBABILITIES = (0.02, 0.05, 0.1, 0.3)
OF_SUCCESS = (
    *(Design.of_clips(*each) for each in ((20, 20, 1), (36, 40, 2), (22, 100, 2), (90, 100, 2))),
    *(Design.of_videos(each) for each in (8, 20)),
)


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


def holds(interval: Interval | None, truth: float = 0) -> bool:
    assert interval is not None
    return interval.low <= truth <= interval.high


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


def draw(generator: np.random.Generator, design: Design) -> Recordings:
    """Drawn again where there is no interval; the same mixtures again and again would never have one."""
    for _ in range(100):
        recordings = Recordings(design.draw(generator))
        if not recordings.why_none:
            break
    return recordings


def cell(design: Design, share: float, samples: int, num_seeds: int = 1) -> str:
    """How often intervals hold the true mean, or why there is none."""
    generator = np.random.default_rng(0)
    held = Held([], [], [])
    for _ in range(NUM_DESIGNS):
        together = draw(generator, design)
        if together.why_none:
            return f"none: {together.why_none}"
        of_mixtures = [list(map(str, mixture)) for mixture in together.of_mixtures]
        apart = Recordings([[str(mixture)] for mixture in range(len(of_mixtures))])
        values = scores(generator, of_mixtures, share, samples // NUM_DESIGNS, num_seeds)
        means = values if num_seeds == 1 else values.mean(axis=1)
        held.by_recording += [holds(together.interval(sample)) for sample in values]
        held.by_mixture += [holds(apart.interval(sample)) for sample in means]
        if num_seeds == 1:
            held.pigeonhole += pigeonhole_holds(generator, of_mixtures, values[: len(values) // 4])
    return held.cell


def cell_of_success(design: Design, probability: float, samples: int) -> str:
    """How often intervals of a share, and those of a mean, hold the true share of mixtures that succeed."""
    generator = np.random.default_rng(0)
    of_share, of_mean = [], []
    for _ in range(NUM_DESIGNS):
        recordings = draw(generator, design)
        of_mixtures = [list(map(str, mixture)) for mixture in recordings.of_mixtures]
        reached = scores(generator, of_mixtures, 0.5, samples // NUM_DESIGNS) < norm.ppf(probability)
        of_share += [holds(recordings.interval_of_share(sample), probability) for sample in reached]
        of_mean += [holds(recordings.interval(sample), probability) for sample in reached]
    return f"{np.mean(of_share):.1%} ({np.mean(of_mean):.0%})"


def main(arguments: Arguments) -> None:
    begin = time.process_time()
    print(f"| design; share of recordings: | {' | '.join(f'{share:g}' for share in SHARES)} |")
    print(f"|---|{'---:|' * len(SHARES)}")
    for design in (*DESIGNS, *UNEQUAL):
        cells = [cell(design, share, arguments.samples) for share in SHARES]
        print(f"| {design.name} | {' | '.join(cells)} |", flush=True)
    for num_seeds in SEEDS:
        cells = [cell(UNDER_SEEDS, share, arguments.samples, num_seeds) for share in SHARES]
        print(f"| {UNDER_SEEDS.name}, {num_seeds} seeds | {' | '.join(cells)} |", flush=True)
    print(f"\n| design; mixtures that succeed: | {' | '.join(f'{each:.0%}' for each in PROBABILITIES)} |")
    print(f"|---|{'---:|' * len(PROBABILITIES)}")
    for design in OF_SUCCESS:
        cells = [cell_of_success(design, probability, arguments.samples) for probability in PROBABILITIES]
        print(f"| {design.name} | {' | '.join(cells)} |", flush=True)
    print(f"\n{time.process_time() - begin:.0f} s of CPU time")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
