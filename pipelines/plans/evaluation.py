"""Test mixtures: which there are, in whose classes, and which of them no training clip has taught."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.storage import absolute
from cocktail.types import NO_CLASS, UsageError, require
from pipelines.plans.frozen_list import read_test_list, split_of
from pipelines.plans.negatives import with_negatives
from pipelines.plans.plan import mixtures_in_words, plan_test
from pipelines.plans.pool import ClipPool, list_array, of_classes, usable_clips
from pipelines.plans.rows import with_class_ids
from pipelines.plans.sight import with_lent_pictures
from pipelines.shards.manifest import Manifest


def make_test_list(manifest: Manifest, mixing: Mixing, evaluation: Evaluation) -> pa.Table:
    """The frozen test mixtures: of the file that the settings name, or as they describe, `with_recordings`.

    To be read with `evaluation.test_mixing(mixing)`. Raises UsageError if there are none.
    """
    mixing = evaluation.test_mixing(mixing)
    if evaluation.test_list is None:
        print(mixtures_in_words(usable_clips(manifest, mixing, evaluation.split), evaluation), flush=True)
    test_list = planned_test(manifest, mixing, evaluation)
    require(
        len(test_list) > 0,
        f"the split {evaluation.split} of {manifest.folder} gives no mixture to test: set --evaluation.split, or test "
        "other shards (--evaluation.data)",
    )
    if evaluation.negatives:
        counts = test_list["negative"].drop_null().value_counts().to_pylist()
        print("negatives: " + ", ".join(f"{count['counts']} {count['values']}" for count in counts), flush=True)
    return with_recordings(test_list, manifest)


def planned_test(manifest: Manifest, mixing: Mixing, evaluation: Evaluation) -> pa.Table:
    """The plan of the test mixtures of settings, of which `mixing` is `evaluation.test_mixing`; with pictures of other
    clips where these are to lend theirs, and with negatives behind, where these are asked for. Raises UsageError if
    there are none."""
    if evaluation.test_list is None:
        pool = usable_clips(manifest, mixing, evaluation.split)
        plan, pool = plan_test(pool, evaluation), of_classes(pool, evaluation.classes)
    else:
        location = absolute(evaluation.test_list, "--evaluation.test-list")
        pool = usable_clips(manifest, mixing, split_of(location))
        plan = read_test_list(location, pool)
        require(len(plan) > 0, f"{location} lists no mixture: give another --evaluation.test-list")
    if evaluation.negatives:
        return with_negatives(plan, pool, manifest, evaluation)
    if evaluation.frames_from is None:
        return plan
    require(
        mixing.pictures_per_source >= 1
        and mixing.picture_part == "whole"
        and mixing.arrangement == "remixed"
        and not mixing.several_classes,
        "--evaluation.frames-from lends whole pictures to sources that have some, and one class each: set "
        "--mixing.pictures-per-source, and leave mixtures remixed, of one class a source, and pictures whole",
    )
    return with_lent_pictures(plan, usable_clips(manifest, mixing, evaluation.frames_from), evaluation.seed)


def with_recordings(plan: pa.Table, manifest: Manifest) -> pa.Table:
    """A plan with what each clip was cut out of: mixtures that share a recording tell less of others than two would.
    Where some are negatives, also with what each picture was."""
    wanted = {"recording": "clip_id"} | ({"picture_recording": "lender"} if "negative" in plan.column_names else {})
    for name, of in wanted.items():
        clips = list_array(plan[of])
        places = pc.index_in(clips.flatten(), manifest.table["clip_id"])  # pyright: ignore[reportAttributeAccessIssue]
        recordings = manifest.table["recording"].take(places).combine_chunks()
        plan = plan.append_column(name, pa.ListArray.from_arrays(clips.offsets, recordings))
    return plan


def has_truth(test_list: pa.Table) -> bool:
    """Whether anybody said of any source where it is in its picture, be it by a box or a mask."""
    said = [
        list_array(test_list[name]).flatten() for name in ("boxes", "mask_offset") if name in test_list.column_names
    ]
    return any(places.null_count < len(places) for places in said)


def in_classes_of(classes: tuple[str, ...], manifest: Manifest, test_list: pa.Table) -> pa.Table:
    """The test mixtures with the class ids of a model that knows `classes` in place of the data set's, by name.

    Raises UsageError if there are classes in them that the model does not know.
    """
    places = {name: number for number, name in enumerate(classes)}
    own = np.array([places.get(name, NO_CLASS) for name in manifest.classes], np.int32)
    ids = set[int]().union(*_classes(test_list))
    unknown = sorted(manifest.classes[class_id] for class_id in ids if own[class_id] == NO_CLASS)
    if unknown:
        raise UsageError(
            f"the model does not know {len(unknown)} classes of {manifest.folder}, among them {', '.join(unknown[:5])}:"
            " test it on mixtures of the classes that it was trained on"
        )
    return with_class_ids(test_list, own, len(classes))


def new_classes(classes: tuple[str, ...], manifest: Manifest, test_list: pa.Table) -> tuple[str, ...]:
    """Names of the classes in test mixtures that a model of `classes` does not know, in the data set's order."""
    ids = set[int]().union(*_classes(test_list))
    return tuple(name for number, name in enumerate(manifest.classes) if number in ids and name not in classes)


def _classes(mixtures: pa.Table) -> Iterator[set[int]]:
    """The classes of each mixture's sources."""
    if "label_ids" in mixtures.column_names:
        for sources in mixtures["label_ids"].to_pylist():
            yield {class_id for class_ids in sources for class_id in class_ids}
    else:
        for class_ids in mixtures["class_id"].to_pylist():
            yield set(class_ids) - {NO_CLASS}


def untaught_in_words(untaught: tuple[str, ...], classes: tuple[str, ...], mixtures: pa.Table) -> str | None:
    """A line on the tested classes that no training clip has, and in how many mixtures: no model can know them."""
    sought = {classes.index(name): 0 for name in untaught}
    for class_ids in _classes(mixtures):
        for class_id in sought.keys() & class_ids:
            sought[class_id] += 1
    tested = {classes[class_id]: count for class_id, count in sought.items() if count}
    if not tested:
        return None
    counts = ", ".join(f"{name} ({count})" for name, count in tested.items())
    return f"{len(tested)} classes are tested that no training clip has (test mixtures): {counts}"


def classes_without_clips(pool: ClipPool) -> tuple[str, ...]:
    """Names of the data set's classes that no clip has."""
    taught = set(list_array(pool.table["class_ids"]).flatten().to_pylist())
    return tuple(name for class_id, name in enumerate(pool.manifest.classes) if class_id not in taught)
