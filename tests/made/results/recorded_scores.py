"""Scores of mixtures that share recordings, drawn at random about a mean of 0, to count how often intervals hold it."""

from __future__ import annotations

import numpy as np


def drawn(generator: np.random.Generator, num_clips: int, num_mixtures: int, num_sources: int) -> list[list[str]]:
    """The recordings of mixtures as plans draw them: in each pass every clip leads one, its partners are any others.

    A combination occurs once.
    """
    mixtures: dict[tuple[int, ...], None] = {}
    while len(mixtures) < num_mixtures:
        for leader in generator.permutation(num_clips):
            others = generator.permutation(np.delete(np.arange(num_clips), leader))[: num_sources - 1]
            mixtures[tuple(sorted([int(leader), *others.tolist()]))] = None
    return [list(map(str, mixture)) for mixture in list(mixtures)[:num_mixtures]]


def frames(generator: np.random.Generator, num_videos: int) -> list[list[str]]:
    """The recordings of single annotated frames: 5 to 60 of each video."""
    return [[str(video)] for video in range(num_videos) for _ in range(generator.integers(5, 61))]


def scores(
    generator: np.random.Generator, recordings: list[list[str]], share: float, count: int, num_seeds: int = 1
) -> np.ndarray:
    """Scores [count, M] of variance 1, of which recordings cause a share; [count, S, M] under several seeds.

    A recording acts through its share of a mixture's sources. Half of what mixtures cause is another under each seed,
    and seeds themselves cause a variance of 0.2.
    """
    names = sorted({name for mixture in recordings for name in mixture})
    shares = np.array([[mixture.count(name) / len(mixture) for name in names] for mixture in recordings])
    by_recording = generator.standard_normal((count, len(names))) @ shares.T
    by_recording *= np.sqrt(share / np.square(shares).sum(axis=1).mean())
    by_mixture = np.sqrt(1 - share) * generator.standard_normal((count, len(recordings)))
    if num_seeds == 1:
        return by_recording + by_mixture
    anew = np.sqrt((1 - share) / 2) * generator.standard_normal((count, num_seeds, len(recordings)))
    by_seed = np.sqrt(0.2) * generator.standard_normal((count, num_seeds, 1))
    return (by_recording + by_mixture / np.sqrt(2))[:, None] + anew + by_seed
