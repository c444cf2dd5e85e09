"""Shards of another plan, files of others and manifests of other versions are refused and left as they are."""

import dataclasses
import hashlib
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cocktail.types import UsageError
from pipelines.shards.dataset import find_committed, shard_dataset
from pipelines.shards.manifest import open_manifest
from pipelines.shards.plan import plan_shards
from pipelines.shards.signed_json import parse_signed, sign
from tests.made.corpora.miniature_shards import SETTINGS, contents, synthetic_index


@pytest.mark.parametrize("finished", [True, False])
def test_shards_of_another_plan_are_not_touched(index, undisturbed, tmp_path, finished):
    for path in Path(undisturbed.folder).iterdir():
        if finished or path.suffix != ".parquet":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    before = contents(tmp_path)
    other = dataclasses.replace(SETTINGS, sample_rate_hz=16000)
    with pytest.raises(
        UsageError, match=r"another plan: in .* sample_rate_hz is 11025, not 16000. Give another --shards"
    ):
        shard_dataset(index, other, str(tmp_path))
    fewer = index.slice(0, 20)
    with pytest.raises(UsageError, match=r"another plan"):
        shard_dataset(fewer, SETTINGS, str(tmp_path))
    assert contents(tmp_path) == before


def test_a_tar_of_unknown_origin_is_not_mixed_with_ours(index, tmp_path):
    (tmp_path / "shard-000000.tar").write_bytes(b"")
    with pytest.raises(UsageError, match=r"shard-000000.tar is not part"):
        shard_dataset(index, SETTINGS, str(tmp_path))


@pytest.mark.parametrize(
    "foreign", [b'{"name": "an app", "icons": []}', b"no JSON", sign({"schema": "cocktail-manifest/1"})]
)
def test_a_manifest_json_of_others_is_not_overwritten(index, tmp_path, foreign):
    (tmp_path / "manifest.json").write_bytes(foreign)
    with pytest.raises(UsageError, match=f"{tmp_path}/manifest.json is not of shards .* Give another --shards folder"):
        shard_dataset(index, SETTINGS, str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_bytes() == foreign


def test_a_manifest_without_recordings_is_refused_until_the_job_that_made_it_has_run_again(
    index, undisturbed, tmp_path, capsys
):
    """As version 2 wrote it; the shards are kept."""
    for path in Path(undisturbed.folder).iterdir():
        shutil.copy2(path, tmp_path / path.name)
    pq.write_table(undisturbed.table.drop_columns(["recording"]), tmp_path / "manifest.parquet")
    document = parse_signed((tmp_path / "manifest.json").read_bytes())
    assert document is not None
    clips_sha256 = hashlib.sha256((tmp_path / "manifest.parquet").read_bytes()).hexdigest()
    older = {**document, "schema": "cocktail-manifest/2", "clips_sha256": clips_sha256}
    (tmp_path / "manifest.json").write_bytes(sign(older))
    with pytest.raises(UsageError, match=r"does not say which recordings .*run the command that made these .* again"):
        open_manifest(str(tmp_path))
    manifest = shard_dataset(index, SETTINGS, str(tmp_path))
    assert manifest.table["recording"].equals(undisturbed.table["recording"])
    assert manifest.root_hash == undisturbed.root_hash
    assert contents(tmp_path) == contents(undisturbed.folder)
    assert "0 clips done now" in capsys.readouterr().out


def test_a_manifest_json_of_ours_that_is_damaged_is_written_again(index, undisturbed, tmp_path):
    for path in Path(undisturbed.folder).iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (tmp_path / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(whole.replace(b'"miniature"', b'"miniatures'))
    shard_dataset(index, SETTINGS, str(tmp_path))
    assert contents(tmp_path) == contents(undisturbed.folder)


def test_opening_says_what_to_do_where_there_are_no_shards_or_others(undisturbed, tmp_path):
    with pytest.raises(UsageError, match=f"no shards at {tmp_path}. Make them with the job of its data set"):
        open_manifest(str(tmp_path))
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(sign({"schema": "cocktail-manifest/0"}))
    with pytest.raises(UsageError, match="another schema: cocktail-manifest/0, this version reads cocktail-manifest/3"):
        open_manifest(str(tmp_path))
    manifest.write_bytes(b"no manifest")
    with pytest.raises(UsageError, match=r"manifest.json is damaged or gone"):
        open_manifest(str(tmp_path))
    manifest.unlink()
    sidecar = parse_signed(next(Path(undisturbed.folder).glob("train-00000*.json")).read_bytes())
    assert sidecar is not None
    (tmp_path / "train-00000-of-00001.index.json").write_bytes(sign(sidecar | {"schema": "cocktail-shard/0"}))
    with pytest.raises(UsageError, match="another schema: cocktail-shard/0"):
        find_committed(plan_shards(synthetic_index(3), SETTINGS), SETTINGS, str(tmp_path))
