"""The job as a user types it: it shards, says what it did, and turns mistakes into one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest
import ray

import jobs.shard_vggsound
from pipelines.datasets.vggss import index_with_boxes
from pipelines.shards.command_line import main
from pipelines.shards.manifest import open_manifest
from tests.made.corpora.miniature_clips import make_corpus

JOB = Path(__file__).resolve().parents[2] / "jobs" / "shard_vggsound.py"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    make_corpus(folder, num_good=3)
    return folder


def run():
    """The job in this process."""
    main(jobs.shard_vggsound.ShardVGGSound, index_with_boxes, jobs.shard_vggsound.__doc__)


def shard(*arguments, cwd, ray_address="nowhere: no Ray is needed"):
    """The job without the test's PYTHONPATH, so that it finds its own code."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["RAY_ADDRESS"] = ray_address
    command = [sys.executable, str(JOB), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=120)


def test_too_many_bad_clips_fail_and_the_named_option_finishes_the_job(local_ray, corpus, tmp_path):
    inputs = ("--csv", "vggsound.csv", "--videos", "videos", "--shards", tmp_path / "shards", "--shard-mb", 4)
    failed = shard(*inputs, cwd=corpus, ray_address=ray.get_runtime_context().gcs_address)
    assert failed.returncode == 2, failed.stderr
    assert "error: 22 of 25 clips are bad" in failed.stderr
    assert "Traceback" not in failed.stderr
    needed = re.findall(r"--max-bad-share ([\d.]+):", failed.stderr)[0]
    finished = shard(*inputs, "--max-bad-share", needed, cwd=corpus)
    assert finished.returncode == 0, finished.stderr
    assert "planned 25, good 3, quarantined 22" in finished.stdout
    assert "0 clips done now" in finished.stdout
    assert len(open_manifest(str(tmp_path / "shards")).table) == 3
    other = shard(*inputs, "--frames", 3, cwd=corpus)
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    assert "holds shards of another plan" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--csv", "none.csv", "--videos", "videos"), "no file .*none.csv. Expected the released vggsound.csv"),
        (("--csv", "vggsound.csv", "--videos", "."), "holds none of the 25 clips"),
    ],
)
def test_a_mistake_is_told_in_one_line(corpus, tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(corpus)
    monkeypatch.setattr(sys, "argv", ["shard_vggsound.py", *arguments, "--shards", str(tmp_path / "shards")])
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    assert re.fullmatch(rf"error: .*{told}.*\n", capsys.readouterr().err)
    assert not (tmp_path / "shards").exists()


def test_boxes_of_a_file_are_those_of_its_clips_which_keep_their_middle_frame(local_ray, corpus, tmp_path):
    clips = index_with_boxes(str(corpus / "vggsound.csv"), str(corpus / "videos"))
    names = clips.filter(pc.field("media_path").is_valid())["clip_id"].to_pylist()
    labels = dict(zip(clips["clip_id"].to_pylist(), clips["labels"].to_pylist(), strict=True))
    boxes = [{"file": name, "class": labels[name][0], "bbox": [[0.1, 0.2, 0.5, 0.6]]} for name in names[:1]]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    inputs = ("--csv", "vggsound.csv", "--videos", "videos", "--boxes", tmp_path / "boxes.json", "--frames", 3)
    settings = ("--shards", tmp_path / "shards", "--max-bad-share", 1)
    done = shard(*inputs, *settings, cwd=corpus, ray_address=ray.get_runtime_context().gcs_address)
    assert done.returncode == 0, done.stderr
    table = open_manifest(str(tmp_path / "shards")).table
    kept = {row["clip_id"]: (len(row["frame_sizes"]), len(row["boxes"] or ())) for row in table.to_pylist()}
    assert kept.pop(names[0]) == (1, 1)
    assert len(kept) == 2 and set(kept.values()) == {(3, 0)}


def test_a_setting_that_cannot_be_is_told_before_anything_is_read(monkeypatch, capsys):
    arguments = ["--csv", "none", "--videos", "none", "--shards", "none", "--frames", "-1"]
    monkeypatch.setattr(sys, "argv", ["shard_vggsound.py", *arguments])
    with pytest.raises(SystemExit) as stopped:
        run()
    assert stopped.value.code == 2
    assert "num_frames is -1: expected 0 or more" in capsys.readouterr().err


def test_relative_paths_of_a_submitted_job_are_refused(corpus, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "working_dir_files" / "_ray_pkg_0"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    inputs = ["--csv", str(corpus / "vggsound.csv"), "--videos", str(corpus / "videos"), "--shards", "out"]
    monkeypatch.setattr(sys, "argv", ["shard_vggsound.py", *inputs])
    with pytest.raises(SystemExit):
        run()
    assert "--shards out is relative" in capsys.readouterr().err
    assert list(copy.iterdir()) == []
