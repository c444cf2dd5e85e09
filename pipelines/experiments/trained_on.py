"""Which test mixtures hold recordings that a model was trained on: their scores say nothing of what is new to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.checkpoints.training_record import TrainedOn
from cocktail.config.splits import Split
from cocktail.text.redaction import redacted_uri
from cocktail.types import UsageError
from pipelines.plans.pool import list_array
from pipelines.shards.manifest import Manifest, open_manifest

ACCEPTING = "--evaluation.allow-trained-on"


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Test mixtures with a clip, or a clip of a recording, that is in what a model was trained on."""

    num_mixtures: int
    """Test mixtures in all."""
    num_held: int
    """Those that hold what was trained on."""
    example: str = ""
    """A recording of theirs, if there are any."""
    unchecked: tuple[str, ...] = ()
    """Why some of what was trained on could not be looked at."""

    def require_accepted(self, allowed: bool) -> None:
        """Raise UsageError if there are such mixtures, unless the settings allow them."""
        if self.num_held and not allowed:
            raise UsageError(
                f"{self.num_held} of the {self.num_mixtures} test mixtures hold recordings of what was trained on, as "
                f"{self.example}: test another split (--evaluation.split) or other shards (--evaluation.data), or "
                f"accept it with {ACCEPTING}, and the tables say it"
            )

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that stand beside the scores; none where there is nothing to say."""
        notes = []
        if self.num_held:
            notes.append(
                f"{self.num_held} of the {self.num_mixtures} test mixtures hold recordings of what was trained on "
                f"({ACCEPTING}), as {self.example}: these scores are not of what is new to the model."
            )
        if self.unchecked:
            notes.append(
                "Whether test mixtures hold recordings of what was trained on could not be checked: "
                f"{'; '.join(self.unchecked)}."
            )
        return tuple(notes)

    @property
    def in_words(self) -> str:
        """How many there are, as a tag."""
        return f"{self.num_held} or more, not all could be checked" if self.unchecked else f"{self.num_held}"


def overlap_of(
    test_list: pa.Table,
    test_manifest: Manifest,
    trained_on: Sequence[TrainedOn] | None,
    at_hand: Sequence[Manifest] = (),
) -> Overlap:
    """The mixtures of a test list that hold what a model was trained on, by recording or clip id.

    All clips of a split count, also those that training could not use. Of other shards than those at hand the manifest
    is opened; where it is not there any more, or is of other shards, that is said and not raised. `trained_on` is None
    where a checkpoint does not say.
    """
    clips = list_array(test_list["clip_id"])
    names = clips.flatten()
    rows = pc.index_in(names, test_manifest.table["clip_id"].combine_chunks())  # pyright: ignore[reportAttributeAccessIssue]
    recordings = test_manifest.table["recording"].combine_chunks().take(rows)
    held = np.zeros(len(names), bool)
    unchecked = [] if trained_on is not None else ["the checkpoint does not say what that was"]
    for each in trained_on or ():
        manifest, why_not = _manifest_of(each, (test_manifest, *at_hand))
        if manifest is None:
            unchecked.append(why_not)
            continue
        taught = _clips_of(manifest, each.split)
        held |= _is_in(names, taught["clip_id"]) | _is_in(recordings, taught["recording"])
    of_mixtures = np.repeat(np.arange(len(clips)), np.diff(clips.offsets.to_numpy()))
    return Overlap(
        num_mixtures=len(clips),
        num_held=len(np.unique(of_mixtures[held])),
        example=recordings[int(held.argmax())].as_py() if held.any() else "",
        unchecked=tuple(unchecked),
    )


def _manifest_of(trained_on: TrainedOn, at_hand: Sequence[Manifest]) -> tuple[Manifest | None, str]:
    """The manifest of what was trained on, or why there is none."""
    for manifest in at_hand:
        if manifest.root_hash == trained_on.manifest:
            return manifest, ""
    place = redacted_uri(trained_on.data)
    try:
        manifest = open_manifest(trained_on.data)
    except UsageError:  # its reason may hold credentials, and nothing can be done about it here
        return None, f"{place}, which it was trained on, cannot be read"
    if trained_on.manifest not in (manifest.root_hash, ""):
        return None, f"{place}, which it was trained on, holds other shards now"
    return manifest, ""


def _clips_of(manifest: Manifest, split: str) -> pa.Table:
    """Clip ids and recordings of a split, or of a part of one."""
    part = Split.of(split)
    of_split = pc.equal(manifest.table["split"], part.name)  # pyright: ignore[reportAttributeAccessIssue]
    table = manifest.table.select(["clip_id", "recording"]).filter(of_split)
    return table.filter(pa.array(part.holds(table["recording"].to_pylist())))


def _is_in(values: pa.Array, others: pa.ChunkedArray) -> np.ndarray:
    return pc.is_in(values, others.combine_chunks()).to_numpy(zero_copy_only=False)  # pyright: ignore[reportAttributeAccessIssue]
