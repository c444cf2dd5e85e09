"""Pictures that are withheld reach no batch, and pictures that are lent take the place of a source's own."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import MixtureBatch, Query
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.replay import find_mixtures, write_mixture
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.evaluation import make_test_list
from pipelines.plans.plan import plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_shards import RATE, make_toy_shards

MIXING = Mixing(
    sample_rate_hz=RATE, segment_samples=2000, num_sources=3, min_sources=2, pictures_per_source=1, picture_side=8
)
WITHHELD = replace(MIXING, shown_sources="some")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_toy_shards(tmp_path_factory.mktemp("toy"), with_pictures=True)


def trained(
    manifest, mixing, executor: Literal["ray", "inline"] = "inline", world_size=1, first=1
) -> list[MixtureBatch]:
    stream = MixtureStream(
        folder=manifest.folder, mixing=mixing, split="train", seed=5, batch_size=8, executor=executor
    )
    return [
        batch
        for rank in range(world_size)
        for batch in stream.batches(epoch=2, first=first, rank=rank, world_size=world_size)
    ]


def same_but_withheld(withheld: MixtureBatch, whole: MixtureBatch) -> None:
    """Assert that nothing differs but the ids, and the pictures of sources that are not seen."""
    assert withheld.seen is not None and withheld.pictures is not None and whole.pictures is not None
    assert whole.seen is None
    for name in ("sources", "gains", "class_ids", "present"):
        assert getattr(withheld, name).equal(getattr(whole, name)), name
    shown = withheld.seen[:, :, None, None, None, None]
    assert withheld.pictures.equal(whole.pictures * shown)
    assert whole.pictures.flatten(2).any(dim=2).equal(whole.present)
    assert not (withheld.seen & ~withheld.present).any()
    assert not set(withheld.mixture_ids) & set(whole.mixture_ids)


@pytest.mark.parametrize(("executor", "world_size", "first"), [("inline", 1, 0), ("inline", 2, 1), ("ray", 1, 3)])
def test_training_batches_are_as_without_but_for_what_is_withheld(manifest, local_ray, executor, world_size, first):
    withheld = trained(manifest, WITHHELD, executor, world_size, first)
    whole = trained(manifest, MIXING, "inline", world_size, first)
    for one, other in zip(withheld, whole, strict=True):
        same_but_withheld(one, other)
    assert {int(batch.seen.sum()) for batch in withheld if batch.seen is not None} != {0}


def test_the_pictures_of_unseen_sources_are_not_even_read(manifest):
    withheld, whole = trained(manifest, replace(MIXING, shown_sources="none")), trained(manifest, MIXING)
    for one, other in zip(withheld, whole, strict=True):
        assert one.pictures is not None and not one.pictures.any()
        assert one.read_statistics.bytes_read < other.read_statistics.bytes_read


def test_a_question_says_who_is_seen(manifest):
    batch = trained(manifest, WITHHELD)[0]
    query = Query.of(batch)
    assert query.seen is not None and batch.seen is not None and query.seen.equal(batch.seen)
    assert query.asked.equal(batch.present) and query.unseen.equal(batch.present & ~batch.seen)
    assert Query.of(trained(manifest, MIXING)[0]).unseen.any().item() is False
    assert Query.of(replace(batch, pictures=None)).seen is None
    part = batch.rows(2, 5)
    assert part.seen is not None and part.seen.equal(batch.seen[2:5])
    of_some = query.rows(torch.tensor([1]), 2).seen
    assert of_some is not None and of_some.equal(batch.seen[1:2, :2])


def test_places_in_withheld_pictures_are_unknown(manifest):
    pool = usable_clips(manifest, WITHHELD, "test")
    batch = read_mixtures(plan_test(pool, Evaluation(num_mixtures=8)), ClipSource.of(manifest), WITHHELD)
    assert batch.has_truth is not None and batch.seen is not None and batch.truth is not None
    assert batch.has_truth.equal(batch.seen) and batch.truth.flatten(2).any(dim=2).equal(batch.seen)


def test_a_withheld_mixture_is_replayed_without_the_pictures(manifest, tmp_path):
    evaluation = Evaluation(num_mixtures=6, shown_sources="some")
    test_list = make_test_list(manifest, MIXING, evaluation)
    name = test_list["mixture_id"][4].as_py()
    rows = find_mixtures([name], manifest, MIXING, evaluation, split="train", seed=0, epochs=0)
    folder = write_mixture(tmp_path, rows[name], manifest, evaluation.test_mixing(MIXING))
    seen = test_list["seen"][4].as_py()
    assert {int(path.name[7]) for path in folder.glob("source-*.png")} == {n for n, shown in enumerate(seen) if shown}
    assert len(list(folder.glob("source-*.wav"))) == len(seen)


def test_lent_pictures_are_those_of_the_lenders(manifest, tmp_path):
    evaluation = Evaluation(num_mixtures=6, frames_from="train")
    lent, own = (make_test_list(manifest, MIXING, each) for each in (evaluation, replace(evaluation, frames_from=None)))
    source = ClipSource.of(manifest)
    batch, before = read_mixtures(lent, source, MIXING), read_mixtures(own, source, MIXING)
    assert batch.sources.equal(before.sources) and batch.class_ids.equal(before.class_ids) and batch.truth is None
    assert batch.pictures is not None and before.pictures is not None
    for b, row in enumerate(lent.to_pylist()):
        for n, lender in enumerate(row["lender"]):
            pixels = np.random.default_rng(int(lender[4:])).integers(0, 255, (24, 32, 3), np.uint8)
            expected = np.asarray(Image.fromarray(pixels).resize((8, 8), Image.Resampling.BICUBIC))
            # What a JPEG leaves of noise.
            assert abs(batch.pictures[b, n, 0].numpy().astype(int) - expected).mean() < 15
            assert abs(before.pictures[b, n, 0].numpy().astype(int) - expected).mean() > 15
    name = lent["mixture_id"][2].as_py()
    found = find_mixtures([name], manifest, MIXING, evaluation, split="train", seed=0, epochs=0)[name]
    assert found.equals(lent.drop_columns(["recording"]).slice(2, 1)) or found["lender"] == lent["lender"].slice(2, 1)
    assert list(write_mixture(tmp_path, found, manifest, MIXING).glob("*.png"))


def test_a_damaged_lent_picture_names_the_lender(manifest):
    lent = make_test_list(manifest, MIXING, Evaluation(num_mixtures=3, frames_from="train"))
    checks = [[[1] for _ in source] for source in lent["frame_checks"].to_pylist()]
    broken = lent.set_column(
        lent.column_names.index("frame_checks"), "frame_checks", pa.array(checks, lent["frame_checks"].type)
    )
    with pytest.raises(Exception, match=lent["lender"][0].as_py()[0]):
        read_mixtures(broken, ClipSource.of(manifest), MIXING)
