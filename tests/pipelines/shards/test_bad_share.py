"""As many bad clips as were accepted are accepted, and more are told with what to do."""

import dataclasses
import re
from pathlib import Path

import pyarrow as pa
import pytest

from cocktail.types import UsageError
from pipelines.shards.dataset import _check_bad_share, shard_dataset
from pipelines.shards.manifest import QUARANTINE_COLUMNS, open_manifest
from tests.made.corpora.miniature_shards import SETTINGS, contents, write_all


def test_too_many_bad_clips_fail_with_the_reasons_and_no_manifest(index, undisturbed, tmp_path):
    strict = dataclasses.replace(SETTINGS, max_bad_share=0.5)
    with pytest.raises(UsageError, match=r"22 of 32 clips are bad") as caught:
        write_all(index, strict, tmp_path)
    needed = float(re.findall(r"--max-bad-share ([\d.]+):", str(caught.value))[0])
    assert len(re.findall(r"^ +\d+  (.*)$", str(caught.value).split("of these classes")[0], re.M)) == 10
    with pytest.raises(UsageError, match=r"no manifest.json: sharding did not finish, or too many clips were bad"):
        open_manifest(str(tmp_path))
    tars = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")}
    lenient = dataclasses.replace(SETTINGS, max_bad_share=needed)
    assert write_all(index, lenient, tmp_path).root_hash == undisturbed.root_hash
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.tar")} == tars


def test_a_stricter_run_says_that_the_manifest_of_the_lenient_one_stays(index, undisturbed, tmp_path):
    for path in Path(undisturbed.folder).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(UsageError, match=r"22 of 32 clips are bad") as caught:
        shard_dataset(index, dataclasses.replace(SETTINGS, max_bad_share=0.001), str(tmp_path))
    told = str(caught.value)
    assert "manifest.json that is there, of a run that accepted as many, stays as it is" in told
    assert "taken up by deleting manifest.json and running again" in told
    assert "No manifest" not in told
    assert contents(tmp_path) == contents(undisturbed.folder)


def bad_clips(number):
    item = {"clip_id": "", "labels": [], "split": "train", "shard": "", "reason": "silent", "detail": ""}
    return pa.Table.from_pylist([item] * number, QUARANTINE_COLUMNS)


def test_as_many_bad_clips_as_accepted_are_accepted_and_the_share_that_is_told_is_enough():
    for num_planned, accepted in ((1000, 0.001), (100, 0.29), (7, 3 / 7), (10, 0.0)):
        settings = dataclasses.replace(SETTINGS, max_bad_share=accepted)
        limit = round(num_planned * accepted)
        _check_bad_share(num_planned, bad_clips(limit), settings, False)
        with pytest.raises(UsageError, match=f"{limit + 1} of {num_planned}"):
            _check_bad_share(num_planned, bad_clips(limit + 1), settings, False)
    none = dataclasses.replace(SETTINGS, max_bad_share=0.0)
    for num_planned in (7, 100, 997, 1000):
        for num_bad in range(1, num_planned + 1, 9):
            with pytest.raises(UsageError) as caught:
                _check_bad_share(num_planned, bad_clips(num_bad), none, False)
            needed = float(re.findall(r"--max-bad-share ([\d.]+):", str(caught.value))[0])
            assert needed - num_bad / num_planned < 0.001
            _check_bad_share(num_planned, bad_clips(num_bad), dataclasses.replace(none, max_bad_share=needed), False)
