"""What a manifest or a sidecar may say: its hash vouches for its bytes, not for whoever wrote them.

Everything that becomes a path, a size, an offset, a place in a list or a number that is computed with is looked at
when it is opened, column by column: a manifest of millions of clips is no slower to open for it.

Shape letters: R clips, V values of all clips' lists, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cocktail.foreign.bounded import (
    MAX_TEXT_LETTERS,
    UntrustworthyError,
    is_count,
    is_plain_name,
    is_sha256,
    is_text,
    parse_json,
)
from cocktail.types import UsageError
from pipelines.shards.signed_json import digest
from pipelines.shards.tars import AudioFormat

MAX_SHARD_BYTES = 1 << 42
MAX_RATE_HZ = 1 << 20
MAX_CLASSES = 1 << 20
MAX_NOTE_LETTERS = 100_000
MAX_PICTURE_BYTES = 1 << 28
FARTHEST = 1e6
"""Times in seconds, and corners in shares of a picture, are not further from 0."""

_NEEDED = (
    "dataset", "sample_rate_hz", "audio_format", "shards", "root_hash", "bytes", "planned", "good", "quarantined",
    "classes", "notes",
)  # fmt: skip
_TEXTS = ("clip_id", "recording", "key", "shard", "split", "group", "role", "partner")
_NEVER_NULL = (
    "clip_id", "recording", "key", "shard", "split", "labels", "class_ids", "audio_offset", "audio_bytes",
    "num_samples", "rms", "checks", "duration", "frame_offsets", "frame_sizes", "frame_checks", "frame_seconds",
)  # fmt: skip
_FRAMES = ("frame_offsets", "frame_sizes", "frame_checks", "frame_seconds")
_MASK = ("mask_offset", "mask_bytes", "mask_check")
_CORNERS = ("x0", "y0", "x1", "y1")

_Wrong = Iterator[tuple[str, np.ndarray]]
"""What is wrong, and the numbers of the clips of which it is."""


def distrust(location: str, what: str) -> UsageError:
    """The error to raise for a document that is whole and says what cannot be."""
    return UsageError(
        f"{location} {what}: no sharding job of this version writes that. Make the shards again, or get them again "
        "from whoever made them"
    )


def check_metadata(metadata: object) -> None:
    """Raise UntrustworthyError for entries of manifest.json that could not have been written by a sharding job."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise UntrustworthyError("has no metadata of texts")
    if absent := set(_NEEDED) - metadata.keys():
        raise UntrustworthyError(f"does not say its {sorted(absent)[0]}")
    if not is_text(metadata["dataset"]):
        raise UntrustworthyError("has no name of a data set")
    _require_rate(_number(metadata, "sample_rate_hz", MAX_RATE_HZ))
    if metadata["audio_format"] not in get_args(AudioFormat):
        raise UntrustworthyError(f"has sound of the format {metadata['audio_format'][:80]!r}")
    for name in ("bytes", "planned", "good", "quarantined"):
        _number(metadata, name, 1 << 62)
    for name, longest in (("classes", MAX_TEXT_LETTERS), ("notes", MAX_NOTE_LETTERS)):
        texts = parse_json(metadata[name])
        if not isinstance(texts, list) or not all(is_text(text, longest) for text in texts):
            raise UntrustworthyError(f"has {name} that are no list of texts of up to {longest} letters")
    classes = parse_json(metadata["classes"])
    if len(set(classes)) < len(classes) or len(classes) > MAX_CLASSES:
        raise UntrustworthyError("has a class twice, or too many")
    _check_shards(parse_json(metadata["shards"]), metadata["root_hash"])


def _number(metadata: Mapping[str, str], name: str, most: int) -> int:
    text = metadata[name]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise UntrustworthyError(f"says {name} {text[:80]!r}: not a whole number up to {most}")
    return int(text)


def _require_rate(rate: object) -> None:
    if not is_count(rate, MAX_RATE_HZ) or not rate:
        raise UntrustworthyError(f"has sound at {str(rate)[:80]} Hz")


def _check_shards(shards: object, root_hash: str) -> None:
    if not isinstance(shards, dict):
        raise UntrustworthyError("lists no shards")
    for name, values in shards.items():
        if not is_plain_name(name) or not name.endswith(".tar"):
            raise UntrustworthyError(f"has a shard {name[:80]!r}, which is no plain name of a tar")
        if not isinstance(values, list) or len(values) != 2:
            raise UntrustworthyError(f"does not say the SHA-256 and the size of {name}")
        if not is_sha256(values[0]):
            raise UntrustworthyError(f"has a SHA-256 of {name} that is not 64 hexadecimal digits")
        if not is_count(values[1], MAX_SHARD_BYTES):
            raise UntrustworthyError(f"has a size of {name} that is not between 0 and {MAX_SHARD_BYTES} bytes")
    if root_hash != digest(sorted([name.removesuffix(".tar"), sha256] for name, (sha256, _) in shards.items())):
        raise UntrustworthyError("has a root hash that is not that of its shards")


def check_clips(
    table: pa.Table, shard_bytes: Mapping[str, int], sample_rate_hz: int, audio_format: str, num_classes: int
) -> None:
    """Raise UntrustworthyError for the first clip of a table of MANIFEST_COLUMNS that cannot be as it says.

    `shard_bytes` are the sizes of the tars by name.
    """
    for name in _NEVER_NULL:
        if table[name].null_count:
            raise UntrustworthyError(f"has clips without {name}")
    for what, clips in _wrong(table, shard_bytes, sample_rate_hz, audio_format, num_classes):
        if len(clips):
            clip = table["clip_id"][int(clips[0])].as_py()
            raise UntrustworthyError(f"has a clip {clip[:80]!r} {what}")


def _wrong(
    table: pa.Table, shard_bytes: Mapping[str, int], sample_rate_hz: int, audio_format: str, num_classes: int
) -> _Wrong:
    yield from _wrong_texts(table)
    size, is_in_order = _sizes(table, shard_bytes)
    yield "in a shard that is not listed", np.flatnonzero(size < 0)
    yield from _wrong_sounds(table, size, sample_rate_hz, audio_format)
    yield "out of the order of its shard", np.flatnonzero(~is_in_order)
    yield from _wrong_pictures(table, size)
    of_clips = _Lists.of(table, "class_ids")
    yield "of a class that is none", of_clips.clips((of_clips.values < 0) | (of_clips.values >= num_classes))
    yield from _wrong_boxes(table, num_classes)


def _wrong_texts(table: pa.Table) -> _Wrong:
    for name in _TEXTS:
        if name in table.column_names:
            lengths = pc.utf8_length(table[name]).fill_null(0).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
            yield f"whose {name} is longer than {MAX_TEXT_LETTERS} letters", np.flatnonzero(lengths > MAX_TEXT_LETTERS)
    labels = _Lists.of(table, "labels", as_text=True)
    yield f"with a label of more than {MAX_TEXT_LETTERS} letters", labels.clips(labels.values > MAX_TEXT_LETTERS)


def _sizes(table: pa.Table, shard_bytes: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Size of each clip's tar int64 [R], -1 for one that is not known; and whether shard and offset do not go back."""
    shards = table["shard"].combine_chunks().dictionary_encode()
    if isinstance(shards, pa.ChunkedArray):
        shards = shards.unify_dictionaries().combine_chunks()
    names, number = shards.dictionary.to_pylist(), shards.indices.to_numpy().astype(np.int64)
    sizes = np.array([shard_bytes.get(name, -1) for name in names], np.int64)
    places = np.argsort(np.argsort(np.array(names, object))) if names else np.empty(0, np.int64)
    place, offset = places[number], table["audio_offset"].to_numpy()
    later = np.diff(place, prepend=0)
    return sizes[number], (later > 0) | ((later == 0) & (np.diff(offset, prepend=0) >= 0))


def _wrong_sounds(table: pa.Table, size: np.ndarray, sample_rate_hz: int, audio_format: str) -> _Wrong:
    num_samples = table["num_samples"].to_numpy().astype(np.int64)
    offset, num_bytes = table["audio_offset"].to_numpy(), table["audio_bytes"].to_numpy()
    yield "without a sample", np.flatnonzero(num_samples < 1)
    outside = (offset < 0) | (num_bytes < 1) | (num_bytes > size) | (offset > size - num_bytes)
    yield "whose sound is not inside its shard", np.flatnonzero(outside)
    if audio_format == "wav":
        yield "whose sound has not two bytes a sample", np.flatnonzero(num_bytes != 2 * num_samples)
    seconds = -(-num_samples // sample_rate_hz)
    for name in ("checks", "rms"):
        counts = _counts(table, name)
        yield f"that does not have as many {name} as seconds", np.flatnonzero(counts != seconds)
    rms = _Lists.of(table, "rms")
    yield "whose level is no number from 0 on", rms.clips(~((rms.values >= 0) & (rms.values <= FARTHEST)))
    _Lists.of(table, "checks")
    duration = table["duration"].to_numpy()
    near = np.abs(duration - num_samples / sample_rate_hz) < 1e-3 + 1e-6 * duration
    yield "whose duration is not that of its samples", np.flatnonzero(~near)


def _wrong_pictures(table: pa.Table, size: np.ndarray) -> _Wrong:
    offsets, sizes, _, seconds = (_Lists.of(table, name) for name in _FRAMES)
    for name in _FRAMES[1:]:
        counts = _counts(table, name)
        yield f"whose pictures have not as many {name}", np.flatnonzero(counts != offsets.counts)
    yield (
        "with a picture that is not inside its shard",
        offsets.clips(_is_outside(offsets.values, sizes.values.astype(np.int64), np.repeat(size, offsets.counts))),
    )
    yield "with a picture at no time", seconds.clips(~(np.abs(seconds.values) <= FARTHEST))
    valid = [table[name].is_valid().to_numpy() for name in _MASK]
    yield "with half of a mask", np.flatnonzero((valid[0] != valid[1]) | (valid[0] != valid[2]))
    masks = np.flatnonzero(valid[0])
    of_masks = table.select(_MASK).take(pa.array(masks))
    begins, num_bytes = (of_masks[name].to_numpy().astype(np.int64) for name in _MASK[:2])
    yield "with a mask that is not inside its shard", masks[_is_outside(begins, num_bytes, size[masks])]
    yield "with a mask and no picture", masks[offsets.counts[masks] == 0]


def _is_outside(offset: np.ndarray, num_bytes: np.ndarray, size: np.ndarray) -> np.ndarray:
    too_large = (num_bytes < 0) | (num_bytes > np.minimum(size, MAX_PICTURE_BYTES))
    return (offset < 0) | too_large | (offset > size - num_bytes)


def _wrong_boxes(table: pa.Table, num_classes: int) -> _Wrong:
    if table["boxes"].null_count == len(table):
        return
    boxes = _Lists.of(table, "boxes", raw=True)
    flat = boxes.raw
    if any(flat.field(name).null_count for name in ("picture", *_CORNERS)):
        raise UntrustworthyError("has boxes without a picture or a corner")
    number = flat.field("picture").to_numpy()
    # Of a picture that was not stored, or far outside of one, as in VGG-SS: such a box is honest, and no truth.
    yield "with a box in a picture before the first", boxes.clips(number < 0)
    class_id = flat.field("class_id").fill_null(0).to_numpy()
    yield (
        "with a box of a class that is none",
        boxes.clips(
            flat.field("class_id").is_valid().to_numpy(zero_copy_only=False)
            & ((class_id < 0) | (class_id >= num_classes))
        ),
    )
    for name in _CORNERS:
        yield "with a box that lies nowhere", boxes.clips(~np.isfinite(flat.field(name).to_numpy()))


class _Lists:
    """A column of lists, as values and how many each clip has. Raises UntrustworthyError for a null among them."""

    def __init__(self, counts: np.ndarray, raw: Any, values: np.ndarray, name: str) -> None:
        if raw.null_count:
            raise UntrustworthyError(f"has {name} that are none")
        self.counts, self.raw, self.values = counts, raw, values

    @classmethod
    def of(cls, table: pa.Table, name: str, *, as_text: bool = False, raw: bool = False) -> _Lists:
        """With texts, their lengths are the values; with structs, there are none."""
        flat = pc.list_flatten(table[name])  # pyright: ignore[reportAttributeAccessIssue]
        counts = _counts(table, name)
        if raw:
            return cls(counts, flat.combine_chunks(), np.empty(0), name)
        numbers = pc.utf8_length(flat) if as_text else flat  # pyright: ignore[reportAttributeAccessIssue]
        return cls(counts, flat, numbers.fill_null(0).to_numpy(), name)

    def clips(self, is_wrong: np.ndarray) -> np.ndarray:
        """The clips of which a value is wrong, bool [V]."""
        if not is_wrong.any():
            return np.empty(0, np.int64)
        return np.unique(np.repeat(np.arange(len(self.counts)), self.counts)[is_wrong])


def _counts(table: pa.Table, name: str) -> np.ndarray:
    """Values of each clip in a column of lists, int64 [R]; none where it is null."""
    lengths = pc.list_value_length(table[name])  # pyright: ignore[reportAttributeAccessIssue]
    return lengths.fill_null(0).to_numpy().astype(np.int64)


def check_sidecar(sidecar: Mapping[str, Any], name: str, columns: pa.Schema, quarantine_columns: pa.Schema) -> None:
    """Raise UntrustworthyError for a sidecar, of a shard of that name, that could not have been written by a job.

    `columns` and `quarantine_columns` are those of the manifest and the quarantine.
    """
    if sidecar.get("name") != name or not is_plain_name(name):
        raise UntrustworthyError("is of another shard than its name says")
    if not all(is_text(sidecar.get(entry)) for entry in ("plan_hash", "deal_hash")):
        raise UntrustworthyError("has no hash of its plan")
    if not is_sha256(sidecar.get("tar_sha256")):
        raise UntrustworthyError("has a SHA-256 of its tar that is not 64 hexadecimal digits")
    if not is_count(sidecar.get("tar_bytes"), MAX_SHARD_BYTES):
        raise UntrustworthyError(f"has a size of its tar that is not between 0 and {MAX_SHARD_BYTES} bytes")
    settings = sidecar.get("settings")
    if not isinstance(settings, dict) or not is_text(settings.get("dataset")):
        raise UntrustworthyError("has no settings")
    rate, audio_format = settings.get("sample_rate_hz"), settings.get("audio_format")
    _require_rate(rate)
    if audio_format not in get_args(AudioFormat):
        raise UntrustworthyError(f"has sound of the format {str(audio_format)[:80]!r}")
    samples, quarantined = sidecar.get("samples"), sidecar.get("quarantined")
    if not isinstance(samples, list) or not isinstance(quarantined, list):
        raise UntrustworthyError("has no lists of clips")
    for item in (*samples, *quarantined):
        if not isinstance(item, dict):
            raise UntrustworthyError("has a clip that is none")
    shard = {"shard": f"{name}.tar"}
    assert isinstance(rate, int)
    table = _table([_completed(sample, shard, rate) for sample in samples], columns)
    check_clips(table, {shard["shard"]: sidecar["tar_bytes"]}, rate, str(audio_format), MAX_CLASSES)
    set_aside = _table([{**item, **shard} for item in quarantined], quarantine_columns)
    if any(set_aside[name].null_count for name in set_aside.column_names):
        raise UntrustworthyError("has clips that were set aside without saying which or why")
    for sample in samples:
        _check_members(sample, sidecar["tar_bytes"])


def _completed(sample: Mapping[str, Any], shard: Mapping[str, str], rate: int) -> dict[str, Any]:
    num_samples = sample.get("num_samples")
    if not is_count(num_samples, (1 << 31) - 1):
        raise UntrustworthyError("has a clip of no number of samples")
    assert isinstance(num_samples, int)
    return {**sample, **shard, "recording": "", "duration": num_samples / rate}


def _table(rows: Sequence[Mapping[str, Any]], columns: pa.Schema) -> pa.Table:
    try:
        return pa.Table.from_pylist(list(rows), columns)
    except (pa.ArrowException, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise UntrustworthyError(f"has a clip of another form: {str(error)[:200]}") from error


def _check_members(sample: Mapping[str, Any], most_bytes: int) -> None:
    members = sample.get("members")
    if not isinstance(members, list):
        raise UntrustworthyError("has a clip without members")
    for member in members:
        if not isinstance(member, list) or len(member) != 3 or not is_plain_name(member[0]) or len(member[0]) > 100:
            raise UntrustworthyError("has a member that is none, or not of a plain name")
        if not is_count(member[1], most_bytes) or not is_sha256(member[2]):
            raise UntrustworthyError(f"has a member {member[0]} without a size inside its tar, or a SHA-256")
