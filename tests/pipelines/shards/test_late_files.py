"""A clip whose file was not there is taken up by a later run, until the data set is finished."""

import dataclasses
import shutil

import pyarrow.parquet as pq
import pytest
from PIL import Image

from cocktail.types import UsageError
from pipelines.datasets.index import IndexRow, PictureFile, make_index
from pipelines.shards.dataset import find_committed, finish
from pipelines.shards.plan import plan_shards
from pipelines.shards.write import write_shard
from tests.made.corpora.miniature_shards import CLIP_MB, SETTINGS, with_problem, write_all


def test_a_clip_that_was_missing_is_taken_up_unless_the_data_set_is_finished(index, undisturbed, tmp_path):
    before = with_problem(index, index["clip_id"].to_pylist()[3])
    for row in plan_shards(before, SETTINGS).to_pylist():
        write_shard(row, SETTINGS, str(tmp_path))
    plan = plan_shards(index, SETTINGS)
    assert len(find_committed(plan, SETTINGS, str(tmp_path))) == len(plan) - 1
    assert write_all(index, SETTINGS, tmp_path).root_hash == undisturbed.root_hash
    with pytest.raises(UsageError, match=r"another plan: .* the clips or their files differ"):
        find_committed(plan_shards(before, SETTINGS), SETTINGS, str(tmp_path))


@pytest.fixture
def late(corpus, tmp_path):
    """Six clips, and of two of them a file that is not there, which their index does not know."""
    (tmp_path / "media").mkdir()
    good = sorted(path for path in (corpus[0] / "videos").iterdir() if path.name.startswith("good"))[:6]
    for number, path in enumerate(good):
        shutil.copyfile(path, tmp_path / "media" / f"{number}.mp4")
    Image.new("RGB", (8, 8)).save(tmp_path / "media" / "5.png")
    (tmp_path / "media" / "0.mp4").rename(tmp_path / "late.mp4")
    (tmp_path / "media" / "5.png").rename(tmp_path / "late.png")
    rows = [
        IndexRow(
            clip_id=f"clip{number}",
            recording=f"video{number}",
            media_path=str(tmp_path / "media" / f"{number}.mp4"),
            pictures=(PictureFile(str(tmp_path / "media" / "5.png"), 0.5),) if number == 5 else None,
            labels=("thunder",),
            split="train",
            nominal_seconds=10.0,
        )
        for number in range(6)
    ]
    settings = dataclasses.replace(SETTINGS, shard_mb=2 * CLIP_MB)
    plan = plan_shards(make_index(rows, ["thunder"]), settings)
    (shard_0, shard_5) = (
        row["shard"] for name in ("clip0", "clip5") for row in plan.to_pylist() if name in str(row["clips"])
    )
    assert shard_0 != shard_5
    return plan, settings, tmp_path / "shards", shard_0, shard_5


def write_missing(plan, settings, folder):
    """Write what `find_committed` does not name; return what it names."""
    committed = find_committed(plan, settings, str(folder))
    for row in plan.to_pylist():
        if row["shard"] not in committed:
            write_shard(row, settings, str(folder))
    return committed


def reasons_in(folder):
    quarantine = pq.read_table(folder / "quarantine.parquet").to_pylist()
    return {item["clip_id"]: (item["reason"], item["detail"]) for item in quarantine}


def test_a_file_that_only_sharding_found_missing_is_taken_up_once_it_is_there(late, tmp_path):
    plan, settings, folder, shard_0, shard_5 = late
    assert write_missing(plan, settings, folder) == set()
    with pytest.raises(UsageError, match=r"(?s)2 of 6 clips are bad.*missing file.*taken up by running again"):
        finish(plan, dataclasses.replace(settings, max_bad_share=0.001), str(folder))
    missing = {"clip0": ("missing file", "no file 0.mp4"), "clip5": ("missing file", "no picture 5.png")}
    assert reasons_in(folder) == missing
    assert write_missing(plan, settings, folder) == set(plan["shard"].to_pylist())
    (tmp_path / "late.mp4").rename(tmp_path / "media" / "0.mp4")
    assert write_missing(plan, settings, folder) == set(plan["shard"].to_pylist()) - {shard_0}
    with pytest.raises(UsageError, match="1 of 6"):
        finish(plan, dataclasses.replace(settings, max_bad_share=0.001), str(folder))
    assert reasons_in(folder) == {"clip5": missing["clip5"]}
    (tmp_path / "late.png").rename(tmp_path / "media" / "5.png")
    assert write_missing(plan, settings, folder) == set(plan["shard"].to_pylist()) - {shard_5}
    assert len(finish(plan, dataclasses.replace(settings, max_bad_share=0.0), str(folder)).table) == 6


def test_a_clip_whose_mask_is_not_there_is_set_aside_and_taken_up_once_it_is(late, tmp_path):
    media = tmp_path / "media"
    Image.new("L", (40, 30), 255).save(tmp_path / "late_mask.png")
    rows = [
        IndexRow(
            clip_id=name,
            recording=name,
            media_path=str(media / "1.mp4"),
            mask_path=str(media / f"{name}_mask.png"),
            labels=("thunder",),
            split="test",
            nominal_seconds=10.0,
        )
        for name in ("with", "without")
    ]
    shutil.copy(tmp_path / "late_mask.png", media / "with_mask.png")
    settings = dataclasses.replace(SETTINGS, num_frames=1)
    plan, folder = plan_shards(make_index(rows, ["thunder"]), settings), tmp_path / "masked"
    write_missing(plan, settings, folder)
    manifest = finish(plan, settings, str(folder))
    assert manifest.table["clip_id"].to_pylist() == ["with"]
    assert manifest.table["mask_bytes"][0].as_py() > 0
    assert reasons_in(folder) == {"without": ("missing file", "no mask without_mask.png")}
    (folder / "manifest.json").unlink()
    (tmp_path / "late_mask.png").rename(media / "without_mask.png")
    write_missing(plan, settings, folder)
    assert set(finish(plan, settings, str(folder)).table["clip_id"].to_pylist()) == {"with", "without"}


def test_a_finished_data_set_stays_as_it_is_when_a_missing_file_comes(late, tmp_path):
    plan, settings, folder, *_ = late
    write_missing(plan, settings, folder)
    finish(plan, settings, str(folder))
    (tmp_path / "late.mp4").rename(tmp_path / "media" / "0.mp4")
    assert find_committed(plan, settings, str(folder)) == set(plan["shard"].to_pylist())


def test_a_file_that_the_system_does_not_read_stops_the_run_by_name_and_is_no_verdict(late, tmp_path):
    plan, settings, folder, shard_0, _ = late
    row = next(row for row in plan.to_pylist() if row["shard"] == shard_0)
    (tmp_path / "media" / "0.mp4").mkdir()
    with pytest.raises(UsageError, match=rf"cannot read {tmp_path}/media/0.mp4: Is a directory"):
        write_shard(row, settings, str(folder))
    assert list(folder.iterdir()) == []
