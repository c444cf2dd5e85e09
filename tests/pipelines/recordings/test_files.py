"""What a task and an actor do with one file: decoded, separated, set aside, or left as it is done."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from cocktail.inference.loaded import load
from cocktail.inference.registry import Scored, register
from cocktail.recordings.inputs import InputFile, find_inputs
from cocktail.recordings.sources import Choice
from cocktail.recordings.stems import Form
from cocktail.tracking.run import TrackedRun
from cocktail.types import UsageError
from pipelines.recordings import files
from pipelines.recordings.files import Apply, Row, Work, decode, file_row, found_rows, pack, unpack
from pipelines.recordings.run import FolderJob, _work
from tests.pipelines.recordings.test_folders import checkpoint as checkpoint  # a fixture


@pytest.fixture
def work(checkpoint, tmp_path) -> Work:
    origin = load(checkpoint, device="cpu").origin
    assert origin is not None
    return Work(
        kind="separate",
        model=checkpoint,
        weights_sha256=origin.weights_sha256,
        output=str(tmp_path / "out"),
        choice=Choice(classes=("harp", "bell")),
        form=Form(),
        maps_per_second=2.0,
        tracking_uri=None,
        sees=False,
    )


@pytest.fixture
def file(tmp_path) -> InputFile:
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", np.random.default_rng(0).uniform(-0.3, 0.3, (3000, 2)), 2000)
    return find_inputs([str(tmp_path / "in")])[0]


def done(file: InputFile, work: Work) -> Row:
    return Apply(work, gpu=False).one(unpack(decode(pack(Row(file=file)), work)))


def test_a_file_is_decoded_separated_and_then_left_alone(work, file, tmp_path):
    row = done(file, work)
    assert row.status == "done"
    marker = tmp_path / "out/a.wav/separation.json"
    assert json.loads(marker.read_text()) == json.loads(json.dumps(row.told))
    assert [(found["source"], found["windows_active"]) for found in found_rows(row)] == [("harp", 1), ("bell", 1)]
    assert file_row(row)["seconds"] == 1.5
    again = unpack(decode(pack(Row(file=file)), work))
    assert (again.status, again.samples) == ("done", None)
    assert found_rows(again) == found_rows(row)
    other = Work(**{**vars(work), "choice": Choice(classes=("drum",))})
    assert unpack(decode(pack(Row(file=file)), other)).status is None
    assert list((tmp_path / "out").glob(".*")) == []


def test_a_worker_where_another_model_lies_is_refused(work):
    with pytest.raises(UsageError, match=r"has other weights on this worker than where the job was begun"):
        Apply(replace(work, weights_sha256="0" * 64), gpu=False)


def test_workers_are_told_a_whole_path_or_a_version_and_never_what_may_come_to_mean_another(
    checkpoint, tmp_path, monkeypatch
):
    run = Path(shutil.copytree(checkpoint, tmp_path / "runs/small-1/checkpoints" / Path(checkpoint).name))
    shutil.copytree(checkpoint, tmp_path / "exported")
    tracked = TrackedRun.open(
        f"sqlite:///{tmp_path}/mlflow.db", f"{tmp_path}/artifacts", experiment="small", name="small-1", key="k",
        params={},
    )  # fmt: skip
    tracked.tag({"checkpoint": str(run)})
    register(tracked, str(run), Scored(headline={"sdr": "1.0"}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COCKTAIL_OUTPUT", str(tmp_path))

    def told(name: str) -> str:
        job = FolderJob(input="in", output="out", model=name)
        return _work(job, "separate", "out", load(name, device="cpu"), Form(), 2.0).model

    assert told("exported") == told("./exported") == str(tmp_path / "exported")
    assert told("small-1") == told("runs/small-1") == str(run)
    assert told("models:/small@best") == told("models:/small/latest") == "models:/small/1"


def test_a_long_file_is_decoded_where_the_model_is_and_gives_the_same(work, file, tmp_path, monkeypatch):
    short = done(file, work)
    (tmp_path / "out/a.wav/separation.json").unlink()
    monkeypatch.setattr(files, "MOST_TRAVELLING_VALUES", 5000)
    decoded = unpack(decode(pack(Row(file=file)), work))
    assert decoded.samples is None and decoded.status is None
    row = Apply(work, gpu=False).one(decoded)
    assert short.told is not None and row.told is not None
    assert row.told["stems"] == short.told["stems"]


def test_bad_and_missing_files_are_set_aside_with_a_reason(work, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound" * 100)
    for name, reason in (("bad.wav", "not media"), ("absent.wav", "missing file")):
        row = unpack(decode(pack(Row(file=InputFile(location=str(tmp_path / name), name=name))), work))
        assert (row.status, row.reason) == ("set aside", reason)
        assert Apply(work, gpu=False).one(row) is row
    assert not Path(work.output).exists()


@pytest.mark.parametrize(
    ("value", "channels", "form", "reason", "detail"),
    [
        (np.nan, 1, Form(), "not finite", "3000 samples"),
        (0.1, 9, Form(format="flac"), "sample rate out of range", "flac holds no 9 channels"),
    ],
)
def test_what_only_the_actor_finds_wrong_with_a_file_sets_that_file_aside(
    work, tmp_path, value, channels, form, reason, detail
):
    path = tmp_path / "bad.wav"
    soundfile.write(path, np.full((3000, channels), value), 2000, subtype="FLOAT")
    undecoded = Row(file=find_inputs([str(path)])[0])
    row = Apply(replace(work, form=form), gpu=False).one(undecoded)
    assert (row.status, row.reason) == ("set aside", reason) and detail in str(row.detail)
    assert not (Path(work.output) / "bad.wav").exists()


def test_where_nothing_is_heard_that_is_kept_too(work, file):
    by_presence = Work(**{**vars(work), "choice": Choice(on=1.0, off=1.0)})
    row = done(file, by_presence)
    assert row.status == "nothing heard" and found_rows(row) == []
    assert unpack(decode(pack(Row(file=file)), by_presence)).status == "nothing heard"
