"""The pictures that a model looks at while it hears a recording.

Shape letters: B windows, C channels, N sources, S those that are looked for, P pictures of a source, H and W height
and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from cocktail.media.recording import Recording
from cocktail.recordings.asking import Asked
from cocktail.recordings.windows import WindowGrid

if TYPE_CHECKING:
    from PIL import Image


class Shown:
    """Pictures that do not change."""

    def __init__(self, pictures: np.ndarray) -> None:
        self._pictures = pictures

    def of(self, count: int, num_channels: int) -> np.ndarray:
        return np.repeat(self._pictures[None], count * num_channels, axis=0)


class Pictures:
    """Pictures uint8 [B C, S, H, W, 3] of a recording's windows in order: what is shown in their middles.

    Of several sources S each is looked for in an upright strip of its own, from the left.
    """

    def __init__(
        self, asked: Asked, recording: Recording, starts: Sequence[int], grid: WindowGrid, number: int
    ) -> None:
        """Of windows that start at places in samples at the model's rate; `number` is S."""
        self._side, self._number = asked.trained.mixing.picture_side, number
        middles = [(start + grid.length / 2) / asked.sample_rate_hz for start in starts]
        self._images = recording.pictures_at(middles)

    def of(self, count: int, num_channels: int) -> np.ndarray:
        pictures = [self._strips(next(self._images)) for _ in range(count)]
        return np.repeat(np.stack(pictures), num_channels, axis=0)

    def _strips(self, image: Image.Image) -> np.ndarray:
        width, size = image.width / self._number, (self._side, self._side)
        strips = [(n * width, 0, (n + 1) * width, image.height) for n in range(self._number)]
        from PIL import Image  # only where there are pictures

        return np.stack([np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box)) for box in strips])
