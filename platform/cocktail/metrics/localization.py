"""Scores of maps that say where a sound comes from: AP, IoU by three binary rules, success, AUC, CAP, PIAP and CIoU.

A map has a real value for each pixel, higher is likelier; the truth is where the object is. AP needs the map's order of
pixels only; IoU needs a binary map, and which rule made it decides more than the map does: name the rule wherever an
IoU stands. CAP and PIAP are those of Mix-and-Localize (Hu et al., 2022), CIoU is DSOL's (Hu et al., 2020).

All scores are in [0, 1], higher is better, float64, and on the device of the maps. Where a source has no object pixel
they are NaN: leave such sources out, and count them.

Shape letters: M mixtures, N sources, K maps, H and W height and width.
"""

from __future__ import annotations

import itertools
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

CiouRule = Literal["image", "slot"]
"""Item that is counted: an image, by the mean of its sources' IoUs (DSOL), or each source by itself (AVGN's code)."""
NUM_STEPS = 20
"""Steps of the thresholds from 0 to 1 that AUC takes."""
AUC_FLOOR = 0.5 / NUM_STEPS
"""AUC of IoUs that are all 0: they reach the first threshold, which is 0, and no other."""


def average_precision(maps: Tensor, truths: Tensor) -> Tensor:
    """AP [...] of maps [..., H, W] against bool truths [..., H, W]; their leading axes are broadcast.

    The sum over distinct values, high to low, of (R_n - R_{n-1}) P_n, R and P being recall and precision of the pixels
    down to that value: pixels of one value form one step, so that a constant map has the object's share. As
    scikit-learn's `average_precision_score`. A map is sorted once, however many truths it is compared with. Raises
    ValueError if the truth is not bool, or a map not finite.
    """
    _check(maps, truths)
    on_cpu = maps.device.type == "cpu" and maps.dtype == torch.float32
    return (_ap_map_by_map if on_cpu else _ap_all_at_once)(maps.flatten(-2), truths.flatten(-2))


def _ap_all_at_once(maps: Tensor, truths: Tensor) -> Tensor:
    """AP [...] of maps [..., P] of P pixels against truths [..., P], in as few operations as a GPU likes."""
    shape = np.broadcast_shapes(maps.shape[:-1], truths.shape[:-1])
    values, order = maps.sort(dim=-1, descending=True, stable=True)
    places = torch.arange(values.shape[-1], device=maps.device)
    hits = truths.expand(*shape, -1).gather(-1, order.expand(*shape, -1))
    # Each pixel has the precision at the last pixel of its value.
    is_last = torch.ones_like(values, dtype=torch.bool)
    is_last[..., :-1] = values[..., :-1] != values[..., 1:]
    last = places.where(is_last, len(places)).flip(-1).cummin(dim=-1).values.flip(-1)
    hits_so_far = hits.cumsum(dim=-1).gather(-1, last.expand(*shape, -1))
    return _row_sums(hits * (hits_so_far / (last + 1.0).double())) / hits.sum(dim=-1)


def _ap_map_by_map(maps: Tensor, truths: Tensor) -> Tensor:
    """The same, bit for bit, of float32 maps on a CPU: a map and what is made of it stay in its cache, and only an
    object's pixels are counted."""
    shape = np.broadcast_shapes(maps.shape[:-1], truths.shape[:-1])
    rows, objects = (pixels.reshape(-1, pixels.shape[-1]).numpy() for pixels in (maps, truths))
    objects = [np.flatnonzero(pixels) for pixels in objects]
    which_map, which_truth = (
        np.broadcast_to(np.arange(each.shape[:-1].numel()).reshape(each.shape[:-1]), shape).ravel()
        for each in (maps, truths)
    )
    scores = np.empty(len(which_map))
    rank, precisions = np.empty(maps.shape[-1], np.int32), np.zeros(maps.shape[-1])
    for number, row in enumerate(rows):
        order, values = _brightest_first(row)
        rank[order] = np.arange(len(order), dtype=np.int32)
        is_last = _ends_a_run(values)
        for place in np.flatnonzero(which_map == number):
            hits = np.sort(rank[objects[which_truth[place]]])
            last = _last_of_runs(is_last, hits)
            # Object pixels down to that value, of which some are equal.
            found = _last_of_runs(_ends_a_run(last), np.arange(len(last))) + 1
            # Summed with what is 0, as it is all at once: so both round alike.
            precisions[hits] = found / (last + 1.0)
            scores[place] = _row_sums(torch.from_numpy(precisions)) / len(hits) if len(hits) else np.nan
            precisions[hits] = 0
    return torch.from_numpy(scores).reshape(shape)


def _row_sums(values: Tensor) -> Tensor:
    """Sums [...] of rows [..., P]. Of one row alone torch sums a part on each thread, and rounds by their number; so it
    is summed as two."""
    is_alone = values.numel() == values.shape[-1]
    return values.expand(2, *values.shape).sum(dim=-1)[0] if is_alone else values.sum(dim=-1)


def _brightest_first(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The order of pixels float32 [P], the brightest first and equal ones by place, and keys in that order that are
    equal where values are.

    Sorted as whole numbers of a value and its place, which NumPy does in a fifth of the time of an `argsort`.
    """
    bits = (row + np.float32(0)).view(np.int32)  # -0 is 0
    keys = ~np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    packed = np.sort((keys.astype(np.int64) << 32) | np.arange(len(row)))
    return packed & 0xFFFFFFFF, packed >> 32


def _ends_a_run(values: np.ndarray) -> np.ndarray:
    """Whether each of some values, among which equal ones stand together, is the last of its like."""
    return np.append(values[1:] != values[:-1], np.ones(min(len(values), 1), bool))


def _last_of_runs(is_last: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Where the runs end that some places are in. Most values of a map are alone, so few are looked for."""
    last = places.copy()
    within = np.flatnonzero(~is_last[places])
    if len(within):
        ends = np.flatnonzero(is_last)
        last[within] = ends[np.searchsorted(ends, places[within])]
    return last


def pairwise_average_precision(maps: Tensor, truths: Tensor) -> Tensor:
    """AP [..., K, N] of each map [..., K, H, W] taken as that of each source, whose truths are bool [..., N, H, W]."""
    return average_precision(maps[..., :, None, :, :], truths[..., None, :, :, :])


def half(maps: Tensor) -> Tensor:
    """The brighter half of the pixels, bool [..., H, W]: all that reach the value at rank HW / 2 (LVS, EZ-VSL, AVGN).

    At least half is chosen, more where pixels are equal. As the area is given, an object of less than a quarter of the
    picture cannot reach an IoU of 0.5.
    """
    pixels = maps.flatten(-2)
    return maps >= pixels.kthvalue(pixels.shape[-1] // 2 + 1, dim=-1).values[..., None, None]


def peak(maps: Tensor, share: float = 0.5) -> Tensor:
    """The pixels above a share of the map's peak, bool [..., H, W], once its values are scaled to [0, 1] (DSOL).

    A constant map chooses everything. Raises ValueError for a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of the peak is {share}: give one in [0, 1), such as 0.5")
    lowest, highest = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - lowest > share * (highest - lowest)) | (lowest == highest)


def fixed(maps: Tensor, threshold: float) -> Tensor:
    """The pixels that reach one threshold for all maps, bool [..., H, W]."""
    return maps >= threshold


def iou(binary: Tensor, truths: Tensor) -> Tensor:
    """Intersection over union [...] of bool maps [..., H, W] and truths [..., H, W], broadcast.

    Raises ValueError if either is not bool.
    """
    _require_bool(binary, "a binary map")
    _require_bool(truths, "the truth")
    intersection, union = ((binary & truths).sum(dim=(-2, -1)), (binary | truths).sum(dim=(-2, -1)))
    return (intersection.double() / union).where(truths.any(dim=-1).any(dim=-1), torch.nan)


def success(ious: Tensor, threshold: float) -> float:
    """The share of IoUs [M] that reach a threshold: >=, where AVGN's code counts what is above it.

    Raises ValueError if there is none, or one is NaN.
    """
    return float(_known(ious).ge(threshold).double().mean())


def auc(ious: Tensor) -> float:
    """The area below `success` of IoUs [M] over the thresholds 0, 1/20, ..., 1, by trapezoids.

    Thresholds are i / 20, as 0.05 i is not what it says for all i: 0.05 * 6 is above 0.3. Raises as `success` does.
    """
    return float(areas(_known(ious)).mean())


def areas(ious: Tensor) -> Tensor:
    """Contribution of each IoU [M] to `auc`, float64 [M]: `auc` is the mean of them."""
    thresholds = torch.arange(NUM_STEPS + 1, dtype=torch.float64, device=ious.device) / NUM_STEPS
    return torch.trapezoid((ious[:, None] >= thresholds.to(ious.dtype)).double(), dx=1 / NUM_STEPS)


def cap(pairs: Tensor) -> Tensor:
    """CAP [...]: the mean AP of sources whose maps are named, of the pairs' AP [..., N, N]: map n is source n's."""
    return pairs.diagonal(dim1=-2, dim2=-1).mean(dim=-1)


class BestOrder(NamedTuple):
    """Maps in the order that suits the sources best."""

    piap: Tensor
    """PIAP [...]."""
    order: Tensor
    """Order of the maps, int64 [..., N]: entry n is the map of source n."""


def piap(pairs: Tensor) -> BestOrder:
    """PIAP: the mean AP of sources in the best of all orders of the maps, of the pairs' AP [..., K, N], K >= N.

    For maps that have no names. Never below `cap`. Of equal orders the first in lexicographic order wins.
    """
    K, N = pairs.shape[-2:]
    orders = torch.tensor(list(itertools.permutations(range(K), N)), device=pairs.device)
    means = pairs[..., orders, torch.arange(N, device=pairs.device)].mean(dim=-1)
    best = means.argmax(dim=-1)
    return BestOrder(means.gather(-1, best[..., None])[..., 0], orders[best])


def ciou(ious: Tensor, rule: CiouRule = "image") -> Tensor:
    """The values of which CIoU@t is the `success` at t, and of which AUC is taken, of IoUs [M, N] of N named sources.

    By image, [M]: the mean over its sources. By slot, [M N]: each source's own, so that what is missed in an image
    takes nothing from what is found. The two are different numbers.
    """
    return ious.mean(dim=-1) if rule == "image" else ious.flatten()


def constant_map(height: int, width: int) -> Tensor:
    """A map float32 [H, W] of zeros: its AP is the object's share, and `peak` and `half` take all of it."""
    return torch.zeros(height, width)


def centred_box(height: int, width: int) -> Tensor:
    """A map float32 [H, W]: one in a box of the picture's proportions around its middle, of half its area, zero around
    it.

    Sides are rounded up: of less than half, `half` would take everything.
    """
    box_height, box_width = (-int(-side // 2**0.5) for side in (height, width))
    top, left = (height - box_height) // 2, (width - box_width) // 2
    map_ = torch.zeros(height, width)
    map_[top : top + box_height, left : left + box_width] = 1
    return map_


def ideal_maps(truths: Tensor) -> Tensor:
    """Maps float32 [..., H, W] that rank all pixels of the truth above all others, the ceiling of `peak` and `half`.

    Within the object, and outside, pixels are ranked by place: equal ones, `half` would take all. Where all is object
    the map is constant.
    """
    H, W = truths.shape[-2:]
    ranks = torch.arange(H * W, dtype=torch.float32, device=truths.device).reshape(H, W) / (4 * H * W)
    return torch.where(truths.flatten(-2).all(dim=-1)[..., None, None], 1.0, ranks + 0.75 * truths)


def _check(maps: Tensor, truths: Tensor) -> None:
    _require_bool(truths, "the truth")
    if maps.shape[-2:] != truths.shape[-2:]:
        raise ValueError(f"maps are {list(maps.shape[-2:])} pixels, but the truth is {list(truths.shape[-2:])}")
    if not torch.isfinite(torch.stack(torch.aminmax(maps))).all():
        raise ValueError("a map holds values that are not finite")


def _require_bool(pixels: Tensor, what: str) -> None:
    if pixels.dtype != torch.bool:
        raise ValueError(f"{what} is {pixels.dtype}: give bool")


def _known(ious: Tensor) -> Tensor:
    if ious.numel() == 0 or ious.isnan().any():
        raise ValueError(f"{int(ious.isnan().sum())} of {ious.numel()} IoUs are NaN: leave out what has no object")
    return ious
