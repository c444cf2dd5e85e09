"""Rendering reads exactly what a row names; any number of ranks and both executors give the same bytes."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import ray
import ray.data

from cocktail.config import Mixing
from cocktail.types import UsageError
from pipelines.clips import ClipSource, DamagedMemberError
from pipelines.mixtures import MixtureStream, render
from pipelines.plans import plan_epoch
from tests.toy_shards import RATE, make_toy_shards, toy_audio

MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=2)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def stream(manifest) -> MixtureStream:
    return MixtureStream(folder=manifest.folder, mixing=MIXING, split="train", seed=5, batch_size=8, executor="inline")


def expected_audio(clip_id: str) -> np.ndarray:
    number = int(clip_id.removeprefix("clip"))
    return toy_audio(number, mostly_silent=number % 10 == 9 and number < 40)


def test_rendered_sources_are_the_clips_samples(manifest):
    plan = plan_epoch(manifest, MIXING, split="train", seed=0, epoch=0).slice(3, 7)
    columns = render(plan, ClipSource.of(manifest), 2000)
    assert columns["sources"].shape == (7, 2, 2000)
    assert columns["sources"].dtype == np.int16
    for b, row in enumerate(plan.to_pylist()):
        assert columns["mixture_ids"][b] == row["mixture_id"]
        np.testing.assert_array_equal(columns["class_ids"][b], row["class_id"])
        np.testing.assert_array_equal(columns["gains"][b], np.float32(row["gain"]))
        for n, clip_id in enumerate(row["clip_id"]):
            start = row["start"][n]
            np.testing.assert_array_equal(columns["sources"][b, n], expected_audio(clip_id)[start : start + 2000])


def test_a_short_clip_is_repeated(manifest):
    longer = replace(MIXING, segment_samples=7000)
    plan = plan_epoch(manifest, longer, split="train", seed=0, epoch=0).slice(0, 1)
    row = plan.to_pylist()[0]
    audio = expected_audio(row["clip_id"][0])
    sources = render(plan, ClipSource.of(manifest), 7000)["sources"]
    np.testing.assert_array_equal(sources[0, 0], np.concatenate([audio, audio[:2000]]))


def test_a_shard_cut_short_is_named(tmp_path):
    manifest = make_toy_shards(tmp_path / "cut")
    for path in Path(manifest.folder).glob("train-*.tar"):
        path.write_bytes(path.read_bytes()[:2000])
    plan = plan_epoch(manifest, MIXING, split="train", seed=0, epoch=0)
    with pytest.raises(DamagedMemberError, match=r"train-0000\d\.tar: clip clip\d+ is damaged: its sound ends early"):
        render(plan, ClipSource.of(manifest), 2000)


def hashes(stream: MixtureStream, first: int = 0, world_size: int = 1) -> list[str]:
    """One hash a global batch, over its mixtures in order, gathered from all ranks."""
    parts: list[list[str]] = []
    for rank in range(world_size):
        for number, batch in enumerate(stream.batches(epoch=2, first=first, rank=rank, world_size=world_size)):
            while len(parts) <= number:
                parts.append([])
            for i, mixture_id in enumerate(batch.mixture_ids):
                tensors = (batch.sources[i], batch.gains[i], batch.class_ids[i])
                digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()
                parts[number].append(f"{mixture_id}:{digest}")
    return [hashlib.sha256("".join(batch).encode()).hexdigest() for batch in parts]


def test_any_number_of_ranks_sees_the_same_global_batches(stream):
    whole = hashes(stream)
    assert len(whole) == stream.batches_per_epoch == 5
    assert hashes(stream, world_size=2) == whole
    assert hashes(stream, world_size=4) == whole


def test_an_epoch_can_be_entered_at_any_batch(stream):
    assert hashes(stream, first=3) == hashes(stream)[3:]


@pytest.mark.parametrize("prefetch", [1, 4])
def test_prefetching_changes_nothing(stream, prefetch):
    assert hashes(replace(stream, prefetch_batches=prefetch)) == hashes(stream)


def test_both_executors_give_the_same_bytes(stream, local_ray):
    assert ray.is_initialized()
    through_ray = replace(stream, executor="ray")
    assert hashes(through_ray) == hashes(stream)
    assert hashes(through_ray, first=3, world_size=2) == hashes(stream)[3:]


def test_ray_data_does_not_cut_large_batches(stream, local_ray, monkeypatch):
    # A batch of 8 mixtures has 64 KB; Ray Data cuts blocks of more than one and a half times this.
    monkeypatch.setattr(ray.data.DataContext.get_current(), "target_max_block_size", 10_000)
    assert hashes(replace(stream, executor="ray")) == hashes(stream)


def test_fewer_mixtures_than_a_batch_name_the_setting(stream):
    with pytest.raises(UsageError, match="40 mixtures, fewer than a batch of 64"):
        _ = replace(stream, batch_size=64).batches_per_epoch
