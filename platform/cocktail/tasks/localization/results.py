"""The table of localization results: which map is taken for which source, its scores, a row a source.

Beside the systems stand controls, which hear and see nothing: a constant map, a centred box, and the truth itself. By
a fixed threshold, whatever it is, they take all of the picture, the box, and the truth.

Shape letters: B mixtures, N sources, L maps of a system, K pictures of a mixture, H and W height and width of one, D
width of vectors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from cocktail.metrics.localization import (
    average_precision,
    centred_box,
    constant_map,
    fixed,
    half,
    ideal_maps,
    iou,
    pairwise_average_precision,
    peak,
    piap,
)
from cocktail.tasks.localization.mixtures import LocalizedMixtures
from cocktail.tasks.rows import COMMON_COLUMNS, CONTROL, MODEL, READING, TASK_KEY, Kind, label_column, recording_column
from cocktail.types import NO_CLASS, Localization

LOCALIZATION_RESULTS = pa.schema(
    [
        *COMMON_COLUMNS,
        ("map", pa.int32()),
        ("map_class_id", pa.int32()),
        ("ap", pa.float64()),
        ("ap_best_order", pa.float64()),
        ("iou_peak", pa.float64()),
        ("iou_half", pa.float64()),
        ("iou_fixed", pa.float64()),
        ("truth_share", pa.float64()),
        ("confidence", pa.float64()),
        ("confidence_quarter", pa.float64()),
        ("negative", pa.string()),
        ("picture_recording", pa.string()),
        ("excluded", pa.string()),
        ("predicted_classes", pa.list_(pa.int32())),
        ("visual_classes", pa.list_(pa.int32())),
        ("audio_vector", pa.list_(pa.float32())),
        ("visual_vector", pa.list_(pa.float32())),
    ],
    metadata={TASK_KEY: b"localization"},
)
"""A row a mixture, system and source. `map` is the place of the source's map among the system's and `map_class_id` the
class that it is of, null for controls. `ap` is the AP of that map, `ap_best_order` that of the map which the source has
in the order of PIAP; both are null where one map serves several sources. IoUs are by the rules of
`cocktail.metrics.localization`, `iou_fixed` null without a threshold. `truth_share` is the object's share of the
picture that the map is of, the AP of chance. In tests with negatives `confidence` is the peak of the source's map and
`confidence_quarter` the mean of its brightest quarter, `negative` the kind of a negative, and `picture_recording` what
its picture was cut out of; null otherwise. `excluded` says why a source does not count: one of
`cocktail.tasks.localization.mixtures.EXCLUDED`. The last four are null but for models that have them, in the rows of
the model itself."""

CONSTANT_MAP, CENTRED_BOX, IDEAL_MAP = "constant map", "centred box", "ideal map"
"""Names of the controls."""
SPLIT = "split"
"""What a control's name ends with where it is on each source's own picture, not on all side by side."""


@dataclass(frozen=True, kw_only=True)
class _Maps:
    """Maps of a system, and which one is whose."""

    system: str
    kind: Kind
    maps: Tensor
    """[B or 1, L, H, W'], W' being that of the wide picture or, of maps that are `split`, of a source's own."""
    chosen: Tensor
    """int64 [B, N], in 0 .. L - 1."""
    split: bool
    is_own: Tensor
    """bool [B]: whether maps are told apart, by class, picture or order, so that several sources have each its own."""
    reading: str | None = None
    """The name of a reading among those of its model."""
    class_ids: Tensor | None = None
    """int64 [B, L]; None for controls."""
    area: Tensor | None = None
    """bool [B or 1, L, H, W']: of controls, what they take by a fixed threshold, whatever it is: one on the scale of a
    model's maps says nothing about theirs."""
    pairs: Tensor | None = None
    """AP [B, L, N] of each map as that of each source, where the order was chosen by it."""


def score_maps(
    mixtures: LocalizedMixtures,
    name: str,
    model: Localization,
    *,
    peak_share: float = 0.5,
    fixed_threshold: float | None = None,
) -> pa.Table:
    """Rows of LOCALIZATION_RESULTS of mixtures of one number of sources, for a model, its readings and the controls.

    Presence and vectors stand in the rows of the model itself. Maps [B, L, H, K W] are of the pictures side by side,
    and errors on another source's picture count; maps [B, N, H, W] of K > 1 pictures are split: map n is of source n's
    own picture, and there is no other order. Controls are on the wide picture, and on each source's own, too, if a
    system is.

    A source's map is the one of its class, if there is one (of several of one class, and for sources of one class, in
    order). Sources whose class no map is of, as a system that predicts classes may miss them, get what maps are left in
    their order: such a map is scored for a source that the system did not name. If all maps of a mixture are of
    NO_CLASS and not split, they are taken in the order of the best mean AP; one alone serves all sources, and APs are
    null for several of them.

    Raises ValueError for maps of another size than the pictures, or fewer maps than sources.
    """
    systems = [_maps_of(name, MODEL, None, model, mixtures)]
    for reading, other in model.alternatives.items():
        systems.append(_maps_of(f"{name}, {reading}", READING, reading, other, mixtures))
    for split in sorted({maps.split for maps in systems} | {False}):
        systems += _controls(mixtures.truths_of(split), split)
    excluded = mixtures.excluded
    tables = []
    for maps in systems:
        scores = _scores(maps, mixtures.truths_of(maps.split), peak_share, fixed_threshold)
        scores |= {} if mixtures.negatives is None else _confidences(maps)
        beside = _beside_maps(model, maps.chosen) if maps.kind == MODEL else {}
        tables.append(_rows(mixtures, maps, excluded, {**scores, **beside}))
    return pa.concat_tables(tables)


def _maps_of(
    system: str, kind: Kind, reading: str | None, localization: Localization, mixtures: LocalizedMixtures
) -> _Maps:
    maps, class_ids = localization.maps, localization.class_ids
    (B, N, H, W), K = mixtures.truths.shape, mixtures.num_pictures
    split = K > 1 and maps.shape[-1] == W
    width = W if split else K * W
    if maps.shape[0] != B or maps.shape[-2:] != (H, width) or class_ids.shape != maps.shape[:2]:
        raise ValueError(
            f"{system} has maps {list(maps.shape)} of classes {list(class_ids.shape)} for {B} mixtures of {K} pictures "
            f"of {H}x{W}"
        )
    maps, class_ids = maps.float(), class_ids.to(maps.device)
    L = maps.shape[1]
    is_unnamed = (class_ids == NO_CLASS).all(dim=1)
    if split:
        if L != N:
            raise ValueError(f"{system} has {L} maps of {N} pictures: give one of each")
        chosen = torch.arange(N).expand(B, N)
    else:
        pairs = zip(mixtures.class_ids.tolist(), class_ids.tolist(), strict=True)
        chosen = torch.tensor([_chosen(system, *each) for each in pairs])
    chosen, pairs = chosen.to(maps.device), None
    if localization.in_order and not split:
        if L != N:
            raise ValueError(f"{system} has {L} maps in the order of {N} sources: give each a map")
        chosen = torch.arange(N, device=maps.device).expand(B, N)
    elif not split and N > 1 and L > 1 and is_unnamed.any():
        pairs = pairwise_average_precision(maps, mixtures.wide_truths.to(maps.device))
        chosen = torch.where(is_unnamed[:, None], piap(pairs).order, chosen)
    return _Maps(
        system=system,
        kind=kind,
        reading=reading,
        maps=maps,
        chosen=chosen,
        split=split,
        is_own=~is_unnamed | (split or L > 1 or N == 1 or localization.in_order),
        class_ids=class_ids,
        pairs=pairs,
    )


def _chosen(name: str, classes: Sequence[int], map_classes: Sequence[int]) -> list[int]:
    """Which map each source of a mixture has, by name."""
    if list(map_classes) == [NO_CLASS]:
        return [0] * len(classes)
    if len(map_classes) < len(classes):
        raise ValueError(f"{name} has {len(map_classes)} maps for {len(classes)} sources: give each a map")
    free = list(range(len(map_classes)))
    chosen: dict[int, int] = {}
    for n, class_id in enumerate(classes):
        named = [k for k in free if map_classes[k] == class_id != NO_CLASS]
        if named:
            chosen[n] = named[0]
            free.remove(named[0])
    return [chosen[n] if n in chosen else free.pop(0) for n in range(len(classes))]


def _controls(truths: Tensor, split: bool) -> list[_Maps]:
    """The controls on the pictures of truths [B, N, H, W']; the first two are the same for all sources."""
    B, N, H, W = truths.shape
    places = torch.arange(N, device=truths.device).expand(B, N)
    flat, box = (each.to(truths.device)[None, None] for each in (constant_map(H, W), centred_box(H, W)))
    maps = {
        CONSTANT_MAP: (flat, torch.zeros_like(places), torch.ones_like(flat, dtype=torch.bool)),
        CENTRED_BOX: (box, torch.zeros_like(places), box > 0),
        IDEAL_MAP: (ideal_maps(truths), places, truths),
    }
    own = torch.ones(B, dtype=torch.bool, device=truths.device)
    end = f", {SPLIT}" if split else ""
    return [
        _Maps(system=name + end, kind=CONTROL, maps=values, chosen=chosen, split=split, is_own=own, area=area)
        for name, (values, chosen, area) in maps.items()
    ]


def _scores(maps: _Maps, truths: Tensor, peak_share: float, fixed_threshold: float | None) -> dict[str, Any]:
    """Scores [B, N] by column, NaN where there are none, of maps against truths [B, N, H, W']."""
    truths = truths.to(maps.maps.device)
    B, N = truths.shape[:2]
    L = maps.maps.shape[1]
    if maps.split or N == 1:
        chosen = _take(maps.maps, maps.chosen)
        ap = ap_best_order = average_precision(chosen, truths)
    else:
        pairs = pairwise_average_precision(maps.maps, truths) if maps.pairs is None else maps.pairs
        ap = ap_best_order = pairs.gather(1, maps.chosen[:, None])[:, 0]
        if L >= N:
            ap_best_order = pairs.gather(1, piap(pairs).order[:, None])[:, 0]
    shared = ~maps.is_own[:, None]
    nowhere = ap.isnan().any(dim=1, keepdim=True)  # no order suits best where a source is nowhere
    binary = {"iou_peak": peak(maps.maps, peak_share), "iou_half": half(maps.maps)}
    if fixed_threshold is not None:
        binary["iou_fixed"] = fixed(maps.maps, fixed_threshold) if maps.area is None else maps.area
    scores = {
        "ap": ap.masked_fill(shared, torch.nan),
        "ap_best_order": ap_best_order.masked_fill(shared | nowhere, torch.nan),
        **{rule: iou(_take(pixels, maps.chosen), truths) for rule, pixels in binary.items()},
        "truth_share": truths.double().mean(dim=(-2, -1)).where(~ap.isnan(), torch.nan),
    }
    return {column: values.cpu().numpy().reshape(B * N) for column, values in scores.items()}


def _confidences(maps: _Maps) -> dict[str, Any]:
    """How sure a system is [B N] that what sounds is in the picture, by its maps as they are: by the peak, as SLAVC's
    paper says, and by the mean of the brightest quarter of the pixels, as its code does."""
    pixels = _take(maps.maps, maps.chosen).flatten(-2)
    brightest = pixels.topk(-(-pixels.shape[-1] // 4), dim=-1).values
    confidences = {"confidence": brightest[..., 0], "confidence_quarter": brightest.mean(dim=-1)}
    return {column: values.double().flatten().cpu().numpy() for column, values in confidences.items()}


def _take(maps: Tensor, chosen: Tensor) -> Tensor:
    """[B, N, H, W]: of maps [B or 1, L, H, W] those that are chosen [B, N]."""
    B = len(chosen)
    return maps.expand(B, -1, -1, -1)[torch.arange(B, device=maps.device)[:, None], chosen]


def _beside_maps(model: Localization, chosen: Tensor) -> dict[str, Any]:
    """What a model says beside its maps: classes heard and seen, and what stands for each source."""
    looked_at, N = model.intermediates, chosen.shape[1]
    columns: dict[str, Any] = {}
    for column, name in (("predicted_classes", "presence"), ("visual_classes", "visual_presence")):
        if name in looked_at:
            presence = looked_at[name].float().cpu().numpy()
            present = [np.flatnonzero(values > model.presence_threshold) for values in presence]
            columns[column] = [classes for classes in present for _ in range(N)]
    for column, name in (("audio_vector", "audio_vectors"), ("visual_vector", "visual_vectors")):
        if name in looked_at:
            vectors = looked_at[name].float()
            columns[column] = list(torch.take_along_dim(vectors, chosen[..., None], dim=1).flatten(0, 1).cpu().numpy())
    return columns


def _rows(
    mixtures: LocalizedMixtures,
    maps: _Maps,
    excluded: list[list[str | None]],
    columns: Mapping[str, Any],
) -> pa.Table:
    """A system's rows of LOCALIZATION_RESULTS; what is NaN becomes null."""
    B, N = mixtures.class_ids.shape
    columns = {
        "mixture_id": [name for name in mixtures.mixture_ids for _ in range(N)],
        "system": [maps.system] * (B * N),
        "kind": [maps.kind] * (B * N),
        "reading": [maps.reading] * (B * N),
        "source": np.tile(np.arange(N), B),
        "recording": recording_column(mixtures.recordings, B, N),
        "num_sources": np.full(B * N, N),
        "class_id": mixtures.class_ids.flatten().cpu().numpy(),
        "label_ids": label_column(
            mixtures.class_ids.cpu().numpy(), None if mixtures.labels is None else mixtures.labels.cpu().numpy()
        ),
        "excluded": [reason for reasons in excluded for reason in reasons],
        "negative": [each and each.kind for each in mixtures.negatives or [None] * B for _ in range(N)],
        "picture_recording": [each and each.recording for each in mixtures.negatives or [None] * B for _ in range(N)],
        **columns,
    }
    if maps.class_ids is not None:
        columns["map"] = maps.chosen.flatten().cpu().numpy()
        columns["map_class_id"] = maps.class_ids.gather(1, maps.chosen).flatten().cpu().numpy()
    return pa.table(
        {
            f.name: _column(columns[f.name], f.type) if f.name in columns else pa.nulls(B * N, f.type)
            for f in LOCALIZATION_RESULTS
        },
        schema=LOCALIZATION_RESULTS,
    )


def _column(values: Any, type_: pa.DataType) -> pa.Array:
    is_score = isinstance(values, np.ndarray) and values.dtype.kind == "f"
    return pa.array(values, type_, mask=np.isnan(values) if is_score else None)
