"""A folder of recordings is put to a model by Ray: each file once, bad ones set aside, again only what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from cocktail.checkpoints.store import CheckpointStore
from cocktail.inference.trained import about
from cocktail.recordings.sources import Choice
from cocktail.types import UsageError
from pipelines.recordings.run import FolderJob, main
from tests.made.models.small_experiment import SMALL

CLASSES = ("bell", "drum", "harp")
EXPERIMENT = replace(SMALL, model=replace(SMALL.model, masks="ratio"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    torch.manual_seed(0)
    state = {"model": EXPERIMENT.model.build(len(CLASSES)).state_dict()}
    store = CheckpointStore(str(tmp_path_factory.mktemp("run")), about=about(EXPERIMENT, CLASSES, "shards"))
    return store.save(1, state, {}, keep=1)


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "in"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("a.wav", "b.flac", "more/a.wav")):
        sound = np.random.default_rng(number).uniform(-0.3, 0.3, (3000 + 1000 * number, 1 + number))
        soundfile.write(folder / name, sound, 2000)
    (folder / "bad.mp3").write_bytes(b"no sound" * 100)
    return folder


def job(folder: Path, checkpoint: str, **more) -> FolderJob:
    settings = {"choice": Choice(classes=("harp", "bell")), "max_bad_share": 0.3, "actors": 1, **more}
    return FolderJob(input=str(folder), output=str(folder.parent / "out"), model=checkpoint, **settings)


def markers(folder: Path) -> dict[str, int]:
    out = folder.parent / "out"
    return {path.parent.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.rglob("separation.json")}


def test_each_file_gets_its_folder_and_only_what_is_missing_is_done_again(folder, checkpoint, local_ray, capsys):
    main(job(folder, checkpoint), "separate")
    first = markers(folder)
    assert sorted(first) == ["a.wav", "b.flac", "more/a.wav"]
    out = folder.parent / "out"
    files = {row["name"]: row for row in pq.read_table(out / "files.parquet").to_pylist()}
    assert {name: row["status"] for name, row in files.items()} == {
        "a.wav": "done", "b.flac": "done", "bad.mp3": "set aside", "more/a.wav": "done",
    }  # fmt: skip
    assert files["bad.mp3"]["reason"] == "not media" and files["b.flac"]["seconds"] == 2.0
    found = pq.read_table(out / "found.parquet").to_pylist()
    expected = [("a.wav", "harp"), ("a.wav", "bell"), ("b.flac", "harp")]
    assert [(row["name"], row["source"]) for row in found[:3]] == expected
    assert len(found) == 6 and (out / found[0]["file"]).exists()
    assert "4 files: 3 done, 0 nothing heard, 1 set aside" in capsys.readouterr().out
    # A part that a killed task left, a file that has changed, and one whose marker is gone.
    soundfile.write(folder / "a.wav", np.zeros(1234), 2000)
    (out / "more/a.wav/separation.json").unlink()
    with pytest.raises(UsageError, match=r"1 of 4 files were set aside, more than --max-bad-share 0.1"):
        main(job(folder, checkpoint, max_bad_share=0.1), "separate")
    second = markers(folder)
    assert {name for name in second if second[name] != first[name]} == {"a.wav", "more/a.wav"}, "all good ones are done"
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []


def test_an_output_among_the_inputs_is_refused(folder, checkpoint):
    inside = replace(job(folder, checkpoint), output=str(folder / "out"))
    with pytest.raises(UsageError, match="lies in --input"):
        main(inside, "separate")


def test_a_model_that_does_not_localize_is_refused(folder, checkpoint):
    with pytest.raises(UsageError, match="small does not localize"):
        main(job(folder, checkpoint), "localize")
