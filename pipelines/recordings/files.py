"""What a job does with each recording of a folder, where, and what a table says of it.

A row of the plan is a file. A task decodes it, an actor puts it to the model and writes its folder of results, whose
marker comes last: a row whose marker is there, of the same model and settings, is done. Files that are too long to
travel are decoded where the model is, block by block.
"""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from cocktail.inference.loaded import BadRecordingError, LoadedModel, load
from cocktail.media.bad_clips import BadClip
from cocktail.media.decoding_process import DecoderStoppedError
from cocktail.media.recording import ArrayRecording, Recording
from cocktail.media.recordings import FileRecording, decode_whole
from cocktail.recordings.inputs import InputFile
from cocktail.recordings.results_folder import read_marker, results_folder
from cocktail.recordings.sources import Choice, NothingHeardError
from cocktail.recordings.stems import Form
from cocktail.recordings.write_localized import LOCALIZATION
from cocktail.recordings.write_separated import SEPARATION
from cocktail.storage import join, local_copy, open_reader, write_atomic
from cocktail.text.redaction import redacted_uri
from cocktail.types import UsageError, require
from pipelines.shards.write import decoding_process

Kind = Literal["separate", "localize"]
MARKERS: Mapping[Kind, str] = {"separate": SEPARATION, "localize": LOCALIZATION}
MOST_TRAVELLING_VALUES = 80_000_000
"""Samples times channels that a task decodes at once, 15 minutes of stereo at 44.1 kHz; what is longer is decoded block
by block."""
PACKED = "packed"
"""The one column of what travels."""
Status = Literal["done", "nothing heard", "set aside"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is done with every file. Small: travels to any worker."""

    kind: Kind
    model: str
    """What means the same model to every worker (`cocktail.inference.origin.Origin.fixed`)."""
    weights_sha256: str
    output: str
    choice: Choice
    form: Form
    maps_per_second: float
    tracking_uri: str | None
    sees: bool
    """Whether the model looks at pictures, for which it needs the file itself."""

    @property
    def marker(self) -> str:
        return MARKERS[self.kind]

    @property
    def settings(self) -> dict[str, Any]:
        """What results depend on, as their marker holds it."""
        settings = {"choice": asdict(self.choice), "weights_sha256": self.weights_sha256}
        if self.kind == "separate":
            settings["form"] = asdict(self.form)
        else:
            settings["maps_per_second"] = self.maps_per_second
        return json.loads(json.dumps(settings))


@dataclass(frozen=True, kw_only=True)
class Row:
    """A file on its way."""

    file: InputFile
    status: Status | None = None
    """None while there is something to do."""
    told: dict[str, Any] | None = None
    """What its marker says."""
    reason: str | None = None
    detail: str | None = None
    num_bytes: int = 0
    samples: np.ndarray | None = None
    """float32 [C, T] of a file that has been decoded."""
    sample_rate_hz: int = 0


def pack(row: Row) -> dict[str, Any]:
    return {PACKED: pickle.dumps(row)}


def unpack(row: Mapping[str, Any]) -> Row:
    """What `pack` made; only these tasks and actors have written it."""
    return pickle.loads(row[PACKED])


def decode(packed: Mapping[str, Any], work: Work) -> dict[str, Any]:
    """A task: is the file done? If not, its samples, unless it is long or has to be seen; or why it is set aside."""
    file = unpack(packed).file
    try:
        with open_reader(file.location) as opened:
            num_bytes = opened.size()
        told = read_marker(join(work.output, file.name), work.marker)
        if told is not None and _is_of(told, work, num_bytes):
            status: Status = "done" if told.get("stems") or told.get("sources") else "nothing heard"
            return pack(Row(file=file, status=status, told=told))
        row = Row(file=file, num_bytes=num_bytes)
        if work.sees:
            return pack(row)
        with local_copy(file.location) as path:
            found = decoding_process().call(decode_whole, path, MOST_TRAVELLING_VALUES)
    except BadClip as bad:
        return pack(set_aside(file, bad))
    except FileNotFoundError:
        return pack(set_aside(file, BadClip("missing file", f"no file {file.name}")))
    except DecoderStoppedError as error:
        raise UsageError(f"{file.name}: {error}") from error
    if found is None:
        return pack(row)
    samples, sample_rate_hz = found
    return pack(Row(file=file, num_bytes=num_bytes, samples=samples, sample_rate_hz=sample_rate_hz))


def _is_of(told: Mapping[str, Any], work: Work, num_bytes: int) -> bool:
    """Whether a marker is of the same model, settings and file."""
    was = told.get("job")
    return was == {**work.settings, "input_bytes": num_bytes}


def set_aside(file: InputFile, bad: BadClip) -> Row:
    return Row(file=file, status="set aside", reason=bad.reason, detail=bad.detail)


class Apply:
    """The actor: the model, put to one file after the other."""

    def __init__(self, work: Work, gpu: bool) -> None:
        """Raises UsageError if another model lies here than the job was begun with."""
        torch.set_num_threads(1) if not gpu else None
        self.work = work
        self.model = load(work.model, tracking_uri=work.tracking_uri, device="cuda" if gpu else "cpu")
        assert self.model.origin is not None
        require(
            self.model.origin.weights_sha256 == work.weights_sha256,
            f"--model {redacted_uri(work.model)} has other weights on this worker than where the job was begun: give a "
            "place that all nodes share, or a registered model, models:/NAME/VERSION",
        )

    def __call__(self, rows: pa.Table) -> pa.Table:
        done = [pickle.dumps(self.one(pickle.loads(row.as_buffer()))) for row in rows[PACKED]]
        return pa.table({PACKED: pa.array(done, pa.large_binary())})

    def one(self, row: Row) -> Row:
        """The row of a file when its results are written, or it is set aside."""
        if row.status is not None:
            return row
        try:
            if row.samples is not None:
                return self._put(row, ArrayRecording(row.samples, row.sample_rate_hz, row.file.name))
            with local_copy(row.file.location) as path:
                return self._put(row, FileRecording(path, row.file.name))
        except BadClip as bad:
            return set_aside(row.file, bad)
        except BadRecordingError as error:
            return set_aside(row.file, error.bad)
        except FileNotFoundError:
            return set_aside(row.file, BadClip("missing file", f"no file {row.file.name}"))

    def _put(self, row: Row, recording: Recording) -> Row:
        work, folder = self.work, join(self.work.output, row.file.name)
        job = {**work.settings, "input_bytes": row.num_bytes}
        try:
            with results_folder(folder, work.marker, work.output) as place:
                told = {**apply(self.model, recording, place, work), "job": job}
                write_atomic(str(place / work.marker), json.dumps(told, indent=1).encode())
        except NothingHeardError as nothing:
            told = {"input": {"name": row.file.name}, "nothing_heard": str(nothing), "job": job}
            with results_folder(folder, work.marker, work.output) as place:
                write_atomic(str(place / work.marker), json.dumps(told, indent=1).encode())
            return Row(file=row.file, status="nothing heard", told=told)
        return Row(file=row.file, status="done", told=told)


def apply(model: LoadedModel, recording: Recording, place: Any, work: Work) -> dict[str, Any]:
    """Put a recording to a model, into a folder; what its marker says."""
    if work.kind == "separate":
        return model.separate_file(recording, place, work.choice, work.form)
    assert isinstance(recording, FileRecording)
    return model.localize_file(recording, place, work.choice, work.maps_per_second)


FILES = pa.schema(
    [
        ("name", pa.string()),
        ("location", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("seconds", pa.float64()),
    ]
)
FOUND = pa.schema(
    [
        ("name", pa.string()),
        ("source", pa.string()),
        ("class_id", pa.int64()),
        ("windows_active", pa.int64()),
        ("windows", pa.int64()),
        ("first_seconds", pa.float64()),
        ("last_seconds", pa.float64()),
        ("mean_presence", pa.float64()),
        ("rms_dbfs", pa.float64()),
        ("file", pa.string()),
    ]
)


def file_row(row: Row) -> dict[str, Any]:
    """A row of FILES."""
    return {
        "name": row.file.name,
        "location": row.file.location,
        "status": row.status,
        "reason": row.reason,
        "detail": row.detail,
        "seconds": (row.told or {}).get("input", {}).get("seconds"),
    }


def found_rows(row: Row) -> list[dict[str, Any]]:
    """Rows of FOUND: a source each."""
    told = row.told or {}
    stems = told.get("stems") or [{"name": name} for name in told.get("sources", [])]
    return [_found_row(row.file.name, stem, told["windows"]) for stem in stems]


def _found_row(name: str, stem: Mapping[str, Any], windows: Mapping[str, Any]) -> dict[str, Any]:
    source = stem["name"]
    active = np.flatnonzero(windows["active"][source])
    starts = windows["starts_seconds"]
    presence = (windows["presence"] or {}).get(source)
    return {
        "name": name,
        "source": source,
        "class_id": stem.get("class_id"),
        "windows_active": len(active),
        "windows": len(starts),
        "first_seconds": starts[active[0]] if len(active) else None,
        "last_seconds": starts[active[-1]] + windows["seconds"] if len(active) else None,
        "mean_presence": None if presence is None else float(np.mean(presence)),
        "rms_dbfs": stem.get("rms_dbfs"),
        "file": stem.get("file") and f"{name}/{stem['file']}",
    }


def decoding(work: Work) -> Any:
    """`decode` with its work."""
    return functools.partial(decode, work=work)
