"""Processes of a node keep the clips of a data set once, and nothing that is computed from them changes."""

import multiprocessing
import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from cocktail.config.mixing import Mixing
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans import shared_pool
from pipelines.plans.plan import plan_epoch
from pipelines.plans.shared_pool import share_table
from pipelines.shards.cache import ShardCache
from tests.made.corpora.toy_shards import RATE, make_toy_shards

SPAWN = multiprocessing.get_context("spawn")
MB = 1_000_000


def large_table(seed: int = 0, num_bytes: int = 16 * MB) -> pa.Table:
    """A table that is large enough to be shared, the same in any process."""
    return pa.table({"checks": np.random.default_rng(seed).integers(0, 2**63, num_bytes // 8, np.uint64)})


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("tables-*/*"))


def keep_table(folder: str | None, all_there, told) -> None:
    """What keeping a table takes of this process's own memory, in bytes, while others keep it, too."""
    kept = partial(share_table, folder=folder) if folder else lambda table: table
    kept(large_table())  # what the first call alone takes is no matter of the table's
    before = psutil.Process().memory_full_info().uss
    table = kept(large_table(1, 64 * MB))
    all_there.wait(60)
    told.put((psutil.Process().memory_full_info().uss - before, int(table["checks"][-1].as_py())))
    all_there.wait(60)


def own_bytes(folder: Path | None) -> list[int]:
    """What keeping a table takes of each of two processes, in bytes."""
    all_there, told = SPAWN.Barrier(2), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=keep_table, args=(folder and str(folder), all_there, told), daemon=True) for _ in range(2)
    ]
    for process in processes:
        process.start()
    answers = [told.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(60)
    assert {last for _, last in answers} == {large_table(1, 64 * MB)["checks"][-1].as_py()}
    return [own for own, _ in answers]


def test_a_further_process_keeps_a_table_in_no_memory_of_its_own(tmp_path):
    assert min(own_bytes(None)) > 60 * MB
    assert max(own_bytes(tmp_path)) < 16 * MB
    assert len(list(tmp_path.glob("tables-*/*.arrow"))) == 2


@pytest.fixture
def stream(tmp_path, monkeypatch) -> MixtureStream:
    monkeypatch.setattr(shared_pool, "LEAST_SHARED_BYTES", 0)
    manifest = make_toy_shards(tmp_path / "toy", with_pictures=True)
    mixing = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2, pictures_per_source=1, picture_side=16)
    return MixtureStream(folder=manifest.folder, mixing=mixing, split="train", seed=5, batch_size=8, executor="inline")


def test_plans_and_pools_out_of_shared_memory_are_the_same_to_the_bit(stream, tmp_path):
    shared = replace(stream, cache=ShardCache(max_bytes=1, chosen_folder=str(tmp_path / "cache")))
    assert shared.manifest.table.equals(stream.manifest.table)
    assert shared.pool.table.equals(stream.pool.table)
    assert shared.pool.next_loud.equals(stream.pool.next_loud)
    for name in ("shard", "class_id", "num_samples", "loudest"):
        ours, theirs = getattr(stream.pool, name), getattr(shared.pool, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert plan_epoch(shared.pool, seed=5, epoch=1).equals(plan_epoch(stream.pool, seed=5, epoch=1))
    assert len(list((tmp_path / "cache").glob("tables-*/*.arrow"))) == 2


def test_a_file_is_written_once_and_is_neither_counted_nor_deleted_as_a_shard(stream, tmp_path):
    cache = ShardCache(max_bytes=1000, chosen_folder=str(tmp_path / "cache"))
    written = share_table(large_table(), cache.folder)
    (path,) = (tmp_path / "cache").glob("tables-*/*.arrow")
    number = path.stat().st_ino
    assert share_table(large_table(), cache.folder).equals(written)
    assert path.stat().st_ino == number
    shard = tmp_path / "toy" / next(iter(stream.manifest.shards))
    sha256, size = stream.manifest.shards[shard.name]
    descriptor, _ = replace(cache, max_bytes=size).open(str(shard), sha256, size)
    os.close(descriptor)
    assert path.exists()


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def open_to_others(path: Path) -> None:
    path.chmod(0o666)


def link_elsewhere(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("spoil", [damage, open_to_others, link_elsewhere, empty])
def test_a_file_that_is_damaged_or_that_others_may_write_is_written_anew(tmp_path, spoil):
    table = large_table()
    share_table(table, str(tmp_path))
    (path,) = tmp_path.glob("tables-*/*.arrow")
    spoil(path)
    assert share_table(table, str(tmp_path)).equals(table)
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    damage(path)  # what others may still do to the file of before reaches nobody, and this is seen again
    assert share_table(table, str(tmp_path)).equals(table)


def test_a_folder_that_others_may_write_is_not_used_and_that_is_said(tmp_path, capsys):
    (tmp_path / f"tables-{os.getuid()}").mkdir()
    (tmp_path / f"tables-{os.getuid()}").chmod(0o777)
    assert share_table(large_table(), str(tmp_path)).equals(large_table())
    assert "others may write to it. Choose another --resources.cache-folder" in capsys.readouterr().out
    assert not files(tmp_path)


def test_what_nobody_maps_for_a_week_or_has_not_written_to_its_end_is_deleted_when_another_is_written(tmp_path):
    tables = [large_table(seed) for seed in range(3)]
    kept = share_table(tables[0], str(tmp_path))
    (old,) = tmp_path.glob("tables-*/*.arrow")
    share_table(tables[1], str(tmp_path))
    os.utime(old, (0, 0))
    half = old.with_suffix(".part")
    half.write_bytes(b"half")
    share_table(tables[2], str(tmp_path))
    assert not old.exists()
    assert not half.exists()
    assert len(list(tmp_path.glob("tables-*/*.arrow"))) == 2
    assert kept.equals(tables[0])  # as long as it is mapped
