"""Views of the pictures of a mixture: side by side as one wide picture, or each by itself.

Shape letters: B batch, K pictures of a mixture, V views of it, N sources, P locations of a view, H and W height and
width of a picture.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cocktail.audio.power_spectrum import PowerSpectrumConfig
from cocktail.config.mixing import Mixing
from cocktail.numerics.precision import at_least_float32
from cocktail.types import UsageError

View = Literal["wide", "split"]


def views_of(pictures: Tensor, view: View) -> Tensor:
    """The views [B, V, H, width, 3] of pictures [B, K, H, W, 3]: one, K W wide, or the K pictures."""
    return pictures.transpose(1, 2).flatten(2, 3)[:, None] if view == "wide" else pictures


def view_of(class_ids: Tensor, views: Tensor) -> Tensor:
    """Index, int64 [N], of the view among [B, V, ...] in which each of the sources [B, N] is looked for."""
    return torch.arange(class_ids.shape[1], device=class_ids.device).clamp(max=views.shape[1] - 1)


def view_names(pictures: Tensor, first: View) -> list[View]:
    """The ways to look at pictures [B, K, H, W, 3], one of them first; a single picture can only be looked at whole."""
    if pictures.shape[1] == 1:
        return ["wide"]
    return ["wide", "split"] if first == "wide" else ["split", "wide"]


def to_pictures(similarity: Tensor, height: int, stride: int) -> Tensor:
    """Maps [B, N, H, width] of similarities [B, N, P] at locations `stride` pixels apart, in pictures of height H.

    Bilinear, with corners not aligned.
    """
    cells = at_least_float32(similarity).unflatten(-1, (height // stride, -1))
    size = (height, cells.shape[-1] * stride)
    return F.interpolate(cells, size=size, mode="bilinear", align_corners=False)


def require_pictures(mixing: Mixing, spectrum: PowerSpectrumConfig, stride: int) -> None:
    """Raise UsageError for mixtures that show nothing, whose sound has another rate, or whose pictures do not divide
    into locations `stride` pixels apart."""
    if mixing.pictures_per_source != 1:
        raise UsageError(
            f"localization needs one picture a source: set --mixing.pictures-per-source 1, not "
            f"{mixing.pictures_per_source}"
        )
    if mixing.picture_side % stride:
        raise UsageError(f"--mixing.picture-side {mixing.picture_side} must be a multiple of {stride} pixels")
    if mixing.sample_rate_hz != spectrum.sample_rate_hz:
        raise UsageError(
            f"--mixing.sample-rate-hz is {mixing.sample_rate_hz}, but --model.spectrum.sample-rate-hz "
            f"{spectrum.sample_rate_hz}: set one to fit the other"
        )
