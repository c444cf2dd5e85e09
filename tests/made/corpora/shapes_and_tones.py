"""Mixtures to see and to hear: class c is a tone of its own and a square of its own colour."""

from __future__ import annotations

import math

import torch

from cocktail.types import MixtureBatch

SIDE = 64
SAMPLES = 4096
RATE = 4000
COLOURS = torch.tensor([[230, 40, 40], [40, 230, 40], [40, 40, 230], [230, 230, 40], [40, 230, 230]])


def scenes(
    class_ids: list[list[int]], seed: int = 0, together: bool = False, one_background: bool = False
) -> MixtureBatch:
    """Mixtures of tones, class c at 200 (c + 1) Hz, and pictures [B, N, 1, 64, 64, 3] of a square on noise.

    The truth is the square's pixels. With `together` one picture shows the squares of all sources: the first on the
    left, the second on the right. With `one_background` all pictures have the same bright noise, and nothing but where
    their squares are, and of what colour, tells them apart.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.tensor(class_ids)
    B, N = ids.shape
    phase = torch.rand(B, N, 1, generator=generator) * 2 * math.pi
    wave = torch.sin(2 * math.pi * 200 * (ids[..., None] + 1) * torch.arange(SAMPLES) / RATE + phase)
    K = 1 if together else N
    pictures = torch.randint(90, 160, (B, K, 1, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    if one_background:
        pictures[:] = pictures[:1, :1] + 80
    truth = torch.zeros(B, N, SIDE, SIDE, dtype=torch.bool)
    for b in range(B):
        for n in range(N):
            left = int(torch.randint(0, 8, (), generator=generator)) + (n * SIDE // 2 if together else 0)
            top = int(torch.randint(0, SIDE - 24, (), generator=generator))
            truth[b, n, top : top + 24, left : left + 24] = True
            pictures[b, 0 if together else n, 0][truth[b, n]] = COLOURS[ids[b, n]].to(torch.uint8)
    return MixtureBatch(
        mixture_ids=tuple(str(n) for n in range(B)),
        sources=(wave * 8000).to(torch.int16),
        gains=torch.ones(B, N),
        class_ids=ids,
        present=ids >= 0,
        pictures=pictures,
        truth=truth,
        has_truth=torch.ones(B, N, dtype=torch.bool),
    )
