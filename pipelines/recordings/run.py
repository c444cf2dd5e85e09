"""A folder of recordings put to a trained model through Ray Data: decoding in tasks, the model in actors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tyro

from cocktail.cluster.connection import connect, one_line_errors
from cocktail.cluster.ray_data import actor_pool, settle
from cocktail.config.experiment import given_tracking_uri
from cocktail.inference.loaded import LoadedModel, load
from cocktail.recordings.inputs import InputFile, find_inputs
from cocktail.recordings.sources import Choice
from cocktail.recordings.stems import Form
from cocktail.storage import absolute, delete_temporary, join, open_atomic, require_writable
from cocktail.text.printable import on_one_line
from cocktail.types import UsageError, require
from pipelines.progress import ClipProgress
from pipelines.recordings.files import (
    FILES,
    FOUND,
    PACKED,
    Apply,
    Kind,
    Row,
    Work,
    decoding,
    file_row,
    found_rows,
    pack,
    unpack,
)

FILES_TABLE, FOUND_TABLE = "files.parquet", "found.parquet"
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class FolderJob:
    """A folder of recordings, put to a model."""

    input: str
    """Folder or URI of sound or video files, with all folders in it."""
    output: str
    """Folder or URI to write to: a folder of each file's name, and the tables files.parquet and found.parquet."""
    model: str
    """A checkpoint (step-...), a run's folder or name, models:/NAME/VERSION, models:/NAME@ALIAS, or an exported folder,
    that every node reaches."""
    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)
    max_bad_share: float = 0.05
    """Share of files that may be set aside; with more, the job ends with an error after all has been tried."""
    actors: int | None = None
    """Copies of the model; None is one a GPU, or without GPUs one for two CPUs."""
    tracking_uri: str | None = field(default_factory=given_tracking_uri)
    """MLflow server or database to ask for models:/... and runs (MLFLOW_TRACKING_URI sets the default)."""


def main(job: FolderJob, kind: Kind, form: Form | None = None, maps_per_second: float = 2.0) -> None:
    """Do what is missing, write the tables, and say what was found.

    Raises UsageError for what cannot be done with the model or place, and if too many files were set aside.
    """
    source, output = absolute(job.input, "--input").rstrip("/"), absolute(job.output, "--output").rstrip("/")
    require(0 <= job.max_bad_share <= 1, f"max_bad_share must be from 0 to 1, not {job.max_bad_share}")
    require(
        output != source and not output.startswith(f"{source}/"),
        f"--output {job.output} lies in --input: what is made would be taken for input the next time",
    )
    files = find_inputs([source], "--input")
    model = load(job.model, tracking_uri=job.tracking_uri, device="cpu")
    work = _work(job, kind, output, model, form or Form(), maps_per_second)
    require_writable(output)
    delete_temporary(output)
    connect()
    rows: list[Row] = []
    with ClipProgress(len(files), f"{kind}d", "files") as progress:
        for row in put_all(files, work, job.actors):
            rows.append(row)
            progress.advance(int(row.status != "set aside"), int(row.status == "set aside"))
    _write_tables(output, rows)
    print(summary(rows, output), flush=True)
    _require_few_bad(rows, job.max_bad_share, output)


def _work(job: FolderJob, kind: Kind, output: str, model: LoadedModel, form: Form, maps_per_second: float) -> Work:
    asked = model.asked
    require(
        asked.separates if kind == "separate" else asked.localizes,
        f"{model.trained.name} does not {kind}: take another model",
    )
    assert model.origin is not None
    return Work(
        kind=kind,
        model=model.origin.fixed,
        weights_sha256=model.origin.weights_sha256,
        output=output,
        choice=job.choice,
        form=form,
        maps_per_second=maps_per_second,
        tracking_uri=job.tracking_uri,
        sees=kind == "localize" or asked.sees,
    )


def put_all(files: Sequence[InputFile], work: Work, actors: int | None) -> Iterator[Row]:
    """Each file's row as it gets done, in any order."""
    import ray
    import ray.data

    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    number = min(actors or gpus or max(int(resources.get("CPU", 1)) // 2, 1), len(files))
    rows = [pa.table({PACKED: pa.array([pack(Row(file=file))[PACKED]], pa.large_binary())}) for file in files]
    data = ray.data.from_arrow(rows)
    settle(data.context)
    done = data.map(decoding(work), num_cpus=0.5).map_batches(
        Apply,
        fn_constructor_args=(work, bool(gpus)),
        batch_size=1,
        batch_format="pyarrow",
        compute=actor_pool(number, number),
        num_cpus=0.5,
        num_gpus=1 if gpus else 0,
    )
    for row in done.iter_rows():
        yield unpack(row)


def _write_tables(output: str, rows: Sequence[Row]) -> None:
    ordered = sorted(rows, key=lambda row: row.file.name)
    tables: dict[str, tuple[list[dict[str, Any]], pa.Schema]] = {
        FILES_TABLE: ([file_row(row) for row in ordered], FILES),
        FOUND_TABLE: ([found for row in ordered for found in found_rows(row)], FOUND),
    }
    for name, (values, schema) in tables.items():
        with open_atomic(join(output, name)) as file:
            pq.write_table(pa.Table.from_pylist(values, schema), file)


def summary(rows: Sequence[Row], output: str) -> str:
    """How many files ended how, and what was found in them, for people."""
    counts = {status: sum(row.status == status for row in rows) for status in ("done", "nothing heard", "set aside")}
    lines = [f"{len(rows)} files: " + ", ".join(f"{count} {status}" for status, count in counts.items())]
    found: dict[str, int] = {}
    for row in rows:
        for each in found_rows(row):
            found[each["source"]] = found.get(each["source"], 0) + 1
    ranked = sorted(found, key=lambda name: -found[name])
    lines += [f"  {on_one_line(name)}: in {found[name]} files" for name in ranked[:20]]
    bad = [row for row in rows if row.status == "set aside"]
    lines += [f"  set aside: {on_one_line(f'{row.file.name}: {row.reason}: {row.detail}')}" for row in bad[:_SHOWN]]
    lines.append(f"tables: {output}/{FILES_TABLE}, {output}/{FOUND_TABLE}")
    return "\n".join(lines)


def _require_few_bad(rows: Sequence[Row], max_bad_share: float, output: str) -> None:
    bad = sum(row.status == "set aside" for row in rows)
    if bad > max_bad_share * len(rows):
        raise UsageError(
            f"{bad} of {len(rows)} files were set aside, more than --max-bad-share {max_bad_share:g}: the reasons are "
            f"in {output}/{FILES_TABLE}. The others are done"
        )


def run_job(job_type: type[FolderJob], kind: Kind, description: str | None) -> None:
    """Read the command line of a job, and do it."""
    with one_line_errors():
        job = tyro.cli(job_type, description=description)
        main(job, kind, getattr(job, "form", None), getattr(job, "maps_per_second", 2.0))
