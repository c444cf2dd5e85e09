"""Mixtures built again from their names: the ids that logs and tables show, or rows of an epoch."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
from PIL import Image

from cocktail.audio.mixing import mix, superpose
from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.config.splits import Split
from cocktail.text.printable import as_file_name
from cocktail.types import NO_CLASS, MixtureBatch, UsageError
from pipelines.mixtures.batches import read_mixtures
from pipelines.plans.evaluation import planned_test
from pipelines.plans.plan import EpochPlan
from pipelines.plans.pool import usable_clips
from pipelines.shards.manifest import Manifest
from pipelines.shards.reader import ClipSource

_ROW = re.compile(r"(\d+):(\d+)")
_ID = re.compile(r"[0-9a-f]{16}")


def find_mixtures(
    names: Sequence[str],
    manifest: Manifest,
    mixing: Mixing,
    evaluation: Evaluation,
    *,
    split: str,
    seed: int,
    epochs: int,
) -> dict[str, pa.Table]:
    """The plan rows of mixtures by name, one row a table, in the order of the names.

    A name is a mixture id, looked for in the test mixtures and then in the epochs from 0 on, as many as `epochs`, of
    the split that was trained on; or EPOCH:ROW, a row of an epoch's plan, both counted from 0. A split that the data
    set lacks is not looked through for ids. Raises UsageError for names that are neither, or that are not found.
    """
    for name in names:
        if not _ROW.fullmatch(name) and not _ID.fullmatch(name):
            raise UsageError(f"{name} is neither a mixture id, 16 hexadecimal digits, nor EPOCH:ROW")
    train = functools.cache(lambda: usable_clips(manifest, mixing, split))
    rows: dict[str, pa.Table] = {}
    missing = {name for name in names if _ID.fullmatch(name)}
    splits = set(manifest.table["split"].unique().to_pylist())
    sought = []
    if missing and (evaluation.test_list is not None or Split.of(evaluation.split).name in splits):
        _take(planned_test(manifest, evaluation.test_mixing(mixing), evaluation), missing, rows)
        sought.append(evaluation.test_list or f"the test mixtures of split {evaluation.split}")
    if missing and Split.of(split).name in splits:
        for epoch in range(epochs):
            for plan in EpochPlan(pool=train(), seed=seed, epoch=epoch).all_rows() if missing else ():
                _take(plan, missing, rows)
        sought.append(f"epochs 0 to {epochs - 1} of split {split} with seed {seed}")
    if missing:
        raise UsageError(
            f"{', '.join(sorted(missing))}: not in {', nor in '.join(sought) or 'any split'}. Ids depend on the "
            "settings: give --checkpoint of the run, or --mixing..., --split, --seed and --epochs"
        )
    for name in names:
        if row := _ROW.fullmatch(name):
            epoch, number = int(row[1]), int(row[2])
            plan = EpochPlan(pool=train(), seed=seed, epoch=epoch)
            if number >= len(plan):
                raise UsageError(f"{name}: an epoch has {len(plan)} rows, from 0 on")
            rows[name] = plan.rows(np.array([number]))
    return {name: rows[name] for name in names}


def _take(plan: pa.Table, missing: set[str], rows: dict[str, pa.Table]) -> None:
    """Move the mixtures that a plan holds from `missing` to `rows`."""
    place = {mixture_id: number for number, mixture_id in enumerate(plan["mixture_id"].to_pylist())}
    for name in missing & place.keys():
        rows[name] = plan.slice(place[name], 1)
    missing.difference_update(place)


def write_mixture(folder: Path, row: pa.Table, manifest: Manifest, mixing: Mixing) -> Path:
    """Write a mixture's sounds, the very samples that a network gets, its pictures and its plan row. Their folder.

    A whole clip is one sound, the mixture, and its pictures are all sources'.
    """
    # As wide as its own sources: a test may have mixtures of more than training has.
    num_sources = len(row["class_id"][0])
    mixing = replace(mixing, num_sources=num_sources, min_sources=None, shown_sources="all")
    if len(row["clip_id"][0]) < num_sources:  # tests may be arranged otherwise than training
        mixing = mixing.arranged("whole")
    batch = read_mixtures(row, ClipSource.of(manifest), mixing)
    target = folder / batch.mixture_ids[0]
    target.mkdir(parents=True, exist_ok=True)
    if mixing.arrangement == "whole":
        sounds, stems = {"mixture": superpose(batch)[0]}, ["mixture"]
    else:
        mixture, references = mix(batch)
        stems = [f"source-{n}-{_plain(class_ids, manifest)}" for n, class_ids in enumerate(_classes(batch))]
        sounds = {"mixture": mixture[0], **dict(zip(stems, references[0], strict=True))}
    shown = [True] * len(stems) if batch.seen is None else batch.seen[0].tolist()
    for stem, pictures, is_shown in zip(
        stems, batch.pictures[0] if batch.pictures is not None else (), shown, strict=False
    ):
        for p, picture in enumerate(pictures if is_shown else ()):
            Image.fromarray(picture.numpy()).save(target / f"{stem}-{p}.png")
    for name, sound in sounds.items():
        soundfile.write(target / f"{name}.wav", sound.numpy(), mixing.sample_rate_hz, subtype="FLOAT")
    told = {**row.to_pylist()[0], "class_names": _class_names(batch, manifest)}
    (target / "row.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return target


def _classes(batch: MixtureBatch) -> list[list[int]]:
    """The classes of each source of a batch's only mixture."""
    if batch.labels is not None:
        return [labels.nonzero()[:, 0].tolist() for labels in batch.labels[0]]
    return [[class_id] * (class_id != NO_CLASS) for class_id in batch.class_ids[0].tolist()]


def _class_names(batch: MixtureBatch, manifest: Manifest) -> list[str]:
    """The classes of each source in words, in the order of the row's class ids; empty where nobody said what it is."""
    return [" + ".join(manifest.classes[class_id] for class_id in class_ids) for class_ids in _classes(batch)]


def _plain(class_ids: list[int], manifest: Manifest) -> str:
    """Classes as file names take them."""
    label = " ".join(manifest.classes[class_id] for class_id in class_ids) or "unlabelled"
    return as_file_name(label)
