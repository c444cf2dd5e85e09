"""Any number of ranks, both executors and any entry give the same bytes of the same mixtures."""

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import ray.data

from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.mixtures.stream import MixtureStream
from tests.made.corpora.toy_shards import RATE, make_toy_shards

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


@pytest.fixture
def stream(manifest) -> MixtureStream:
    mixing = replace(MIXING, num_sources=3, min_sources=2, pictures_per_source=1, picture_side=16)
    return MixtureStream(folder=manifest.folder, mixing=mixing, split="train", seed=5, batch_size=8, executor="inline")


def hashes(stream: MixtureStream, first: int = 0, world_size: int = 1) -> list[str]:
    """One hash a global batch, over its mixtures in order, gathered from all ranks."""
    parts: list[list[str]] = []
    for rank in range(world_size):
        for number, batch in enumerate(stream.batches(epoch=2, first=first, rank=rank, world_size=world_size)):
            while len(parts) <= number:
                parts.append([])
            assert batch.pictures is not None
            for i, mixture_id in enumerate(batch.mixture_ids):
                tensors = (batch.sources, batch.gains, batch.class_ids, batch.present, batch.pictures)
                digest = hashlib.sha256(b"".join(tensor[i].numpy().tobytes() for tensor in tensors)).hexdigest()
                parts[number].append(f"{mixture_id}:{digest}")
    return [hashlib.sha256("".join(batch).encode()).hexdigest() for batch in parts]


def test_any_number_of_ranks_prefetches_and_entries_see_the_same_global_batches(stream):
    whole = hashes(stream)
    assert len(set(whole)) == len(whole) == stream.batches_per_epoch == 5
    for world_size in (1, 2, 4):
        for prefetch in (1, 4):
            for first in (1, 3):
                again = hashes(replace(stream, prefetch_batches=prefetch), first=first, world_size=world_size)
                assert again == whole[first:]


def test_both_executors_give_the_same_bytes(stream, local_ray):
    assert ray.is_initialized()
    whole = hashes(stream)
    for world_size, prefetch, first in ((1, 2, 0), (1, 1, 3), (2, 2, 3), (2, 4, 1), (4, 1, 1)):
        through_ray = replace(stream, executor="ray", prefetch_batches=prefetch)
        assert hashes(through_ray, first=first, world_size=world_size) == whole[first:]


def test_ray_data_does_not_cut_large_batches(stream, local_ray, monkeypatch):
    # A batch of 8 mixtures has 64 KB; Ray Data cuts blocks of more than one and a half times this.
    monkeypatch.setattr(ray.data.DataContext.get_current(), "target_max_block_size", 10_000)
    assert hashes(replace(stream, executor="ray")) == hashes(stream)


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_damaged_mixture_is_dropped_by_whoever_renders_it(tmp_path, local_ray, executor):
    manifest = make_toy_shards(tmp_path)
    victim = manifest.table.to_pylist()[12]
    tar = Path(manifest.folder, victim["shard"])
    data = bytearray(tar.read_bytes())
    for second in range(5):
        data[victim["audio_offset"] + 2 * (RATE * second + 500)] ^= 1
    tar.write_bytes(data)
    stream = MixtureStream(
        folder=manifest.folder, mixing=MIXING, split="train", seed=5, batch_size=8, executor=executor
    )
    for world_size in (1, 2):
        ids, dropped = [], []
        for rank in range(world_size):
            for batch in stream.batches(0, 0, rank, world_size):
                ids += batch.mixture_ids
                dropped += batch.dropped
        assert len(ids) + len(dropped) == 40
        assert dropped
        assert all(f"clip {victim['clip_id']} is damaged" in line for line in dropped)


@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_an_epoch_can_be_left_at_any_batch(stream, local_ray, executor):
    batches = replace(stream, executor=executor).batches(0, 0, 0, 1)
    next(batches)
    batches.close()


def test_the_state_says_where_a_step_lies(stream, manifest):
    state = stream.state(13)
    assert (state["epoch"], state["batch"], state["seed"], state["batch_size"]) == (2, 3, 5, 8)
    assert state["manifest"] == manifest.root_hash


def test_a_stream_travels_without_what_it_has_read(stream):
    size = len(pickle.dumps(stream))
    assert stream.batches_per_epoch == 5
    assert len(pickle.dumps(stream)) == size
    assert pickle.loads(pickle.dumps(stream)).batches_per_epoch == 5


def test_fewer_mixtures_than_a_batch_name_the_setting(stream):
    with pytest.raises(UsageError, match="40 mixtures, fewer than a batch of 64"):
        _ = replace(stream, batch_size=64).batches_per_epoch
