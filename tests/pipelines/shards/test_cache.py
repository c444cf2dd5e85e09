"""The node's cache: a shard is fetched once, kept whole, checked, and makes room; over S3, an epoch is read once."""

import errno
import hashlib
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cocktail.config.mixing import Mixing
from cocktail.storage import list_names, read_bytes, write_atomic
from cocktail.types import UsageError
from pipelines.mixtures.render import render
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.plan import plan_epoch
from pipelines.shards import cache as cache_module
from pipelines.shards.cache import ShardCache
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_shards import RATE, make_toy_shards
from tests.services.s3_server import failing_proxy, point_to, s3_server

KB = 1000


def make_shard(folder: Path, number: int, size: int = 100 * KB) -> tuple[str, str, int]:
    """(location, sha256, size)."""
    data = bytes([number]) * size
    path = folder / f"{number}.tar"
    path.write_bytes(data)
    return str(path), hashlib.sha256(data).hexdigest(), size


def read(cache: ShardCache, shard: tuple[str, str, int]) -> tuple[bytes, bool]:
    descriptor, hit = cache.open(*shard)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(), hit


def kept(cache: ShardCache) -> set[str]:
    return {path.stem for path in Path(cache.folder).glob("*.tar")}


@pytest.fixture
def cache(tmp_path) -> ShardCache:
    return ShardCache(chosen_folder=str(tmp_path / "cache"), max_bytes=250 * KB)


def test_a_shard_is_fetched_once(tmp_path, cache):
    shard = make_shard(tmp_path, 1)
    assert read(cache, shard) == (bytes([1]) * 100 * KB, False)
    Path(shard[0]).unlink()
    assert read(cache, shard) == (bytes([1]) * 100 * KB, True)


def test_what_was_not_used_for_longest_makes_room(tmp_path, cache):
    one, two, three = (make_shard(tmp_path, number) for number in (1, 2, 3))
    for shard in (one, two, one):
        read(cache, shard)
        time.sleep(0.02)  # the file system's clock
    descriptor, _ = cache.open(*two)
    os.utime(Path(cache.folder) / f"{two[1]}.tar", (0, 0))
    read(cache, three)
    assert kept(cache) == {one[1], three[1]}
    with os.fdopen(descriptor, "rb") as file:  # who still reads what was deleted is not disturbed
        assert file.read() == bytes([2]) * 100 * KB
    assert sum(path.stat().st_size for path in Path(cache.folder).iterdir()) <= cache.max_bytes


def test_a_shard_that_others_delete_the_moment_it_is_there_is_fetched_once(tmp_path, cache, monkeypatch):
    shard = make_shard(tmp_path, 1)
    copies = []
    copy, replace_file = cache_module._copy, Path.replace

    def count(location: str, part: Path, most_bytes: int) -> str:
        copies.append(location)
        assert len(copies) < 5, "fetched again and again"
        return copy(location, part, most_bytes)

    def delete_at_once(part: Path, path: Path) -> None:
        replace_file(part, path)
        path.unlink()

    monkeypatch.setattr(cache_module, "_copy", count)
    monkeypatch.setattr(Path, "replace", delete_at_once)
    assert read(cache, shard) == (bytes([1]) * 100 * KB, False)
    assert len(copies) == 1


def test_a_shard_larger_than_the_cache_names_the_setting(tmp_path, cache):
    with pytest.raises(UsageError, match=r"0\.000300 GB, the cache 0\.000250 GB: raise --resources\.cache-gb"):
        cache.open(*make_shard(tmp_path, 1, 300 * KB))


def test_a_shard_damaged_in_the_store_is_named_and_kept_for_what_is_sound_in_it(tmp_path, cache, capfd):
    location, sha256, size = make_shard(tmp_path, 1)
    Path(location).write_bytes(bytes([9]) * size)
    assert read(cache, (location, sha256, size))[0] == bytes([9]) * size
    assert f"{location} is damaged: its SHA-256 is not {sha256}" in capfd.readouterr().out


def test_a_shard_that_cannot_be_fetched_leaves_nothing(tmp_path, cache):
    location, sha256, size = make_shard(tmp_path, 1)
    Path(location).unlink()
    with pytest.raises(FileNotFoundError):
        cache.open(location, sha256, size)
    assert kept(cache) == set()


@pytest.fixture
def remote(tmp_path, cache, monkeypatch):
    """A stream out of a folder that is taken for a store, through a cache; and that folder."""
    manifest = make_toy_shards(tmp_path / "store")
    monkeypatch.setattr("pipelines.shards.reader.is_remote", lambda location: True)
    stream = MixtureStream(
        folder=manifest.folder,
        mixing=Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=4),
        split="train",
        seed=0,
        batch_size=8,
        executor="inline",
        cache=replace(cache, max_bytes=10**9),
    )
    return stream, Path(manifest.folder)


def read_epoch(stream: MixtureStream) -> tuple[int, int, int, int]:
    """(mixtures, dropped, bytes fetched, misses) of an epoch."""
    batches = list(stream.batches(0, 0, 0, 1))
    statistics = [batch.read_statistics for batch in batches]
    return (
        sum(map(len, batches)),
        sum(len(batch.dropped) for batch in batches),
        sum(read.bytes_fetched for read in statistics),
        sum(read.cache_misses for read in statistics),
    )


def open_files() -> int:
    """How many this process has open; 0 where nobody says."""
    return len(list(Path("/proc/self/fd").iterdir())) if sys.platform == "linux" else 0


def flip_all(path: Path) -> None:
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))


def test_what_was_fetched_is_counted_whoever_fetched_it(remote):
    stream, folder = remote
    size = sum(path.stat().st_size for path in folder.glob("train-*.tar"))
    assert read_epoch(stream) == (40, 0, size, 4)
    assert read_epoch(stream) == (40, 0, 0, 0)


def test_a_cold_task_fetches_several_shards_at_a_time(remote, monkeypatch):
    stream, _ = remote
    copy, all_four = cache_module._copy, threading.Barrier(4)

    def with_the_others(location: str, part: Path, most_bytes: int) -> str:
        all_four.wait(timeout=60)  # broken, and so an error, where fewer run at a time
        return copy(location, part, most_bytes)

    monkeypatch.setattr(cache_module, "_copy", with_the_others)
    planned = plan_epoch(stream.pool, seed=0, epoch=0).slice(0, 8)
    columns = render(planned, ClipSource.of(stream.manifest, stream.cache), stream.mixing)
    assert (columns["cache_misses"].sum(), columns["cache_misses"][0]) == (4, 4)
    assert columns["bytes_fetched"].sum() == sum(
        size for name, (_, size) in stream.manifest.shards.items() if "tr" in name
    )


def test_shards_that_cannot_be_fetched_are_named_and_leave_no_open_file(remote):
    stream, folder = remote
    gone = sorted(folder.glob("train-*.tar"))[1]
    gone.unlink()
    source = ClipSource.of(stream.manifest, stream.cache)
    shards = sorted(name for name in source.shards if name.startswith("train"))
    before = open_files()
    with pytest.raises(UsageError, match=f"{gone.name} is gone"):
        source.fetch(shards)
    assert open_files() == before


def test_a_shard_that_cannot_be_named_leaves_no_open_file(tmp_path, cache, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    shard, before = make_shard(tmp_path, 1), open_files()
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UsageError, match=os.strerror(errno.EIO)):
        cache.open(*shard)
    assert open_files() == before


def test_what_is_damaged_in_the_cache_alone_is_fetched_anew(remote):
    stream, _ = remote
    read_epoch(stream)
    for path in Path(stream.cache.folder).glob("*.tar"):
        flip_all(path)
    mixtures, dropped, fetched, misses = read_epoch(stream)
    assert (mixtures, dropped, misses) == (40, 0, 4)
    assert fetched > 0


def test_what_is_damaged_in_the_store_is_dropped_until_it_is_mended_there(remote, tmp_path, capfd):
    stream, folder = remote
    victim = folder / "train-00001.tar"
    whole = victim.read_bytes()
    flip_all(victim)
    mixtures, dropped, _, misses = read_epoch(stream)
    assert mixtures + dropped == 40
    assert dropped >= 10
    assert misses == 5  # the damaged one twice, and no more
    assert f"{victim} is damaged: its SHA-256 is not" in capfd.readouterr().out
    victim.write_bytes(whole)
    code = f"""
        import pickle, pathlib, pipelines.shards.reader
        pipelines.shards.reader.is_remote = lambda location: True
        stream = pickle.loads(pathlib.Path({str(tmp_path / "stream")!r}).read_bytes())
        print(sum(len(batch.dropped) for batch in stream.batches(0, 0, 0, 1)))
    """
    (tmp_path / "stream").write_bytes(pickle.dumps(stream))
    another_run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert another_run.stdout.split() == ["0"]


def test_a_cache_too_small_for_a_window_says_so(remote, capfd, monkeypatch):
    monkeypatch.setattr("pipelines.shards.cache._warned", set())
    stream, folder = remote
    size = (folder / "train-00000.tar").stat().st_size
    tight = replace(stream, cache=replace(stream.cache, max_bytes=2 * size))
    mixtures, dropped, _, misses = read_epoch(tight)
    assert (mixtures, dropped) == (40, 0)
    assert misses > 4
    assert capfd.readouterr().out.count("is smaller than what is read from at one time") == 1


def test_a_cache_that_cannot_be_written_names_the_settings(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot keep shards in .*: .*--resources\.cache-folder"):
        ShardCache(chosen_folder=str(tmp_path / "file"), max_bytes=10**6).open(*make_shard(tmp_path, 1))


def test_each_node_has_its_own_folder(monkeypatch):
    cache = ShardCache(max_bytes=1)
    monkeypatch.setenv("COCKTAIL_CACHE", "/of/this/node")
    assert pickle.loads(pickle.dumps(cache)).folder == "/of/this/node"


def fetch_all(cache: ShardCache, shards, counts) -> None:
    hits = 0
    for _ in range(20):
        for shard in shards:
            data, hit = read(cache, shard)
            assert data == Path(shard[0]).read_bytes()
            hits += hit
    counts.put(20 * len(shards) - hits)


@pytest.mark.parametrize(("max_kb", "misses"), [(450, 4), (250, None)])
def test_processes_share_what_one_of_them_fetched(tmp_path, forkserver, max_kb, misses):
    cache = ShardCache(chosen_folder=str(tmp_path / "cache"), max_bytes=max_kb * KB)
    shards = [make_shard(tmp_path, number) for number in range(1, 5)]
    counts = forkserver.Queue()
    processes = [forkserver.Process(target=fetch_all, args=(cache, shards, counts)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    fetched = sum(counts.get() for _ in processes)
    assert fetched >= 4 if misses is None else fetched == misses
    assert sum(path.stat().st_size for path in Path(cache.folder).iterdir()) <= cache.max_bytes
    assert not list(Path(cache.folder).glob("*.part"))


def test_a_fetch_that_is_killed_leaves_no_shard_and_the_next_one_succeeds(tmp_path, cache):
    shard = make_shard(tmp_path, 1)
    code = f"""
        import time
        from pipelines.shards import cache as shard_cache
        shard_cache._FETCH_BYTES = 1000
        slowly = shard_cache._read
        shard_cache._read = lambda *a: (print("reading", flush=True), time.sleep(0.01), slowly(*a))[-1]
        shard_cache.ShardCache(chosen_folder={cache.folder!r}, max_bytes=250_000).open(*{shard!r})
    """
    python_path = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": python_path},
    )
    assert process.stdout is not None
    for _ in range(5):
        assert process.stdout.readline() == b"reading\n"
    process.kill()
    process.wait()
    assert kept(cache) == set()
    assert len(list(Path(cache.folder).glob("*.part"))) == 1
    # The half is not counted for long: two more shards fit, and it is gone.
    other = make_shard(tmp_path, 2)
    assert read(cache, other) == (bytes([2]) * 100 * KB, False)
    assert not list(Path(cache.folder).glob("*.part"))
    assert read(cache, shard) == (bytes([1]) * 100 * KB, False)


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_out_of_a_store_the_second_epoch_reads_nothing_over_the_network(tmp_path, monkeypatch, executor, local_ray):
    local = make_toy_shards(tmp_path / "local")
    with s3_server(monkeypatch) as s3, failing_proxy(s3, fail_every=7) as (address, counts):
        if executor == "inline":
            point_to(address, monkeypatch)  # Ray's workers know the address from their own start
        for path in Path(local.folder).iterdir():
            write_atomic(f"s3://bucket/shards/{path.name}", path.read_bytes())
        assert read_bytes("s3://bucket/shards/manifest.json") == Path(local.folder, "manifest.json").read_bytes()
        assert len(list_names("s3://bucket/shards")) == len(list(Path(local.folder).iterdir()))
        stream = MixtureStream(
            folder=local.folder,
            mixing=Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2),
            split="train",
            seed=0,
            batch_size=8,
            executor="inline",
        )
        # Ray's workers do not see this process's environment: what they need, they find in the cache.
        cache = ShardCache(chosen_folder=str(tmp_path / "cache"), max_bytes=10**9)
        stored = replace(stream, folder="s3://bucket/shards", cache=cache)
        for epoch in range(2):
            through = replace(stored, executor=executor) if epoch and executor == "ray" else stored
            requests, fetched, hits = counts[0], 0, 0
            pairs = zip(stream.batches(epoch, 0, 0, 1), through.batches(epoch, 0, 0, 1), strict=True)
            for expected, batch in pairs:
                assert batch.mixture_ids == expected.mixture_ids
                assert (batch.sources == expected.sources).all()
                fetched += batch.read_statistics.bytes_fetched
                hits += batch.read_statistics.cache_hits
            if epoch:
                assert (counts[0], fetched) == (requests, 0)
                assert hits > 0
            else:
                assert len(list(Path(cache.folder).glob("*.tar"))) == 4
