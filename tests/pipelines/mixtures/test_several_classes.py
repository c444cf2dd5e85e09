"""Clips of several classes are sources, one each, where mixtures are asked to have them."""

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.media.pictures import to_jpeg
from cocktail.types import NO_CLASS, MixtureBatch, UsageError
from pipelines.datasets.index import Box, IndexRow, make_index
from pipelines.mixtures.batches import read_mixtures
from pipelines.mixtures.replay import write_mixture
from pipelines.mixtures.stream import MixtureStream
from pipelines.plans.evaluation import classes_without_clips, in_classes_of, untaught_in_words
from pipelines.plans.frozen_list import read_test_list, write_test_list
from pipelines.plans.plan import mixtures_in_words, plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.manifest import Manifest
from pipelines.shards.reader import ClipSource
from tests.made.corpora.toy_shards import CLASSES, RATE, make_toy_shards, toy_audio, toy_clip, write_shards

ONE = Mixing(sample_rate_hz=RATE, segment_samples=2000, window_shards=4, pictures_per_source=1, picture_side=8)
SEVERAL = replace(ONE, several_classes=True)
LABELS = (("bell",), ("drum", "bell"), ("harp",), ("horn", "harp"), ("lute",), ("harp", "bell"))
ROOMY = (("bell",), ("drum",), ("harp",), ("horn", "harp"), ("lute",))
"""Whichever share no class, four can sound together."""
LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)
GREY = to_jpeg(Image.new("RGB", (40, 30), (90, 90, 90)), 30)


def make_band(folder, num_clips: int = 24, labels: tuple[tuple[str, ...], ...] = LABELS) -> Manifest:
    """Clips of one and of two classes in four shards; both classes of clip 1 have a box, in clip 3 only the horn."""
    boxes = {1: (Box(0, "drum", *LEFT), Box(0, "bell", *RIGHT)), 3: (Box(0, "horn", *LEFT),)}
    shards: dict[str, list] = {}
    for number in range(num_clips):
        row = IndexRow(
            clip_id=f"clip{number:02d}",
            recording=f"clip{number:02d}",
            media_path="",
            labels=labels[number % len(labels)],
            split="train",
            nominal_seconds=5,
            boxes=boxes.get(number),
            group=f"song{number // 4}",
            partner=f"clip{(number + 1) % num_clips:02d}",
        )
        clip = replace(toy_clip(toy_audio(number)), pictures=(GREY,), picture_seconds=(2.5,))
        name = f"train-{number % 4:05d}"
        shards.setdefault(name, []).append((make_index([row], CLASSES).to_pylist()[0], clip))
    return write_shards(folder, shards, CLASSES)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_band(tmp_path_factory.mktemp("band"))


def names_of(batch: MixtureBatch, classes=CLASSES) -> list[list[set[str]]]:
    """The classes of each source of each mixture."""
    assert batch.labels is not None
    return [[{classes[c] for c in source.nonzero()[:, 0]} for source in mixture] for mixture in batch.labels]


def of_clips(clip_ids: list[str]) -> list[set[str]]:
    return [set(LABELS[int(clip_id[4:]) % len(LABELS)]) for clip_id in clip_ids]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**31), epoch=st.integers(0, 1000), numbers=st.sampled_from([(1, 1), (1, 2), (2, 2)]))
def test_sources_of_a_mixture_share_no_class_and_rows_say_all_that_they_have(manifest, seed, epoch, numbers):
    mixing = replace(SEVERAL, min_sources=numbers[0], num_sources=numbers[1], passes_per_epoch=2)
    rows = plan_epoch(usable_clips(manifest, mixing, "train"), seed=seed, epoch=epoch).to_pylist()
    for begin in range(0, len(rows), 24):
        assert len({row["clip_id"][0] for row in rows[begin : begin + 24]}) == 24
    for row in rows:
        labels = of_clips(row["clip_id"])
        assert mixing.fewest_sources <= len(labels) <= mixing.num_sources
        assert sum(map(len, labels)) == len(set().union(*labels)), "two sources share a class"
        assert [{CLASSES[c] for c in ids} for ids in row["label_ids"]] == labels
        assert row["class_id"] == [ids[0] if len(ids) == 1 else NO_CLASS for ids in row["label_ids"]]
        assert row["num_classes"] == len(CLASSES)


@pytest.mark.parametrize("num_sources", [2, 3, 4])
@pytest.mark.parametrize("distinct", [True, False])
def test_where_clips_have_one_class_the_setting_only_adds_the_labels(tmp_path, num_sources, distinct):
    one_each = make_toy_shards(tmp_path)
    one = replace(ONE, num_sources=num_sources, distinct_classes=distinct, pictures_per_source=0)
    alone, labelled = (
        plan_epoch(usable_clips(one_each, mixing, "train"), seed=3, epoch=1)
        for mixing in (one, replace(one, several_classes=True))
    )
    assert labelled.drop_columns(["label_ids", "num_classes"]).equals(alone)
    assert labelled["label_ids"].to_pylist() == [[[c] for c in row] for row in alone["class_id"].to_pylist()]


def test_more_than_two_sources_share_no_class_either(tmp_path):
    mixing = replace(SEVERAL, num_sources=4, min_sources=3, passes_per_epoch=20)
    plan = plan_epoch(usable_clips(make_band(tmp_path, labels=ROOMY), mixing, "train"), seed=0, epoch=0)
    counts = Counter(map(len, plan["label_ids"].to_pylist()))
    assert counts.keys() == {3, 4}
    for sources in plan["label_ids"].to_pylist():
        assert sum(map(len, sources)) == len({class_id for ids in sources for class_id in ids})


def test_partners_are_drawn_evenly_among_clips_of_other_classes(manifest):
    pool = usable_clips(manifest, replace(SEVERAL, passes_per_epoch=300), "train")
    partners = Counter(
        row["clip_id"][1] for row in plan_epoch(pool, seed=0, epoch=0).to_pylist() if row["clip_id"][0] == "clip01"
    )
    # Clip 1 has drum and bell: four clips each of harp, of harp and horn, and of lute can join it.
    assert {clip for clip in partners if not of_clips([clip])[0] & {"drum", "bell"}} == set(partners)
    assert len(partners) == 12
    assert max(abs(count / 25 - 1) for count in partners.values()) < 0.6


def test_without_the_setting_clips_of_several_classes_are_left_out_and_counted(manifest):
    assert mixtures_in_words(usable_clips(manifest, ONE, "train")) == (
        "train: 12 clips of 3 classes; left out 12 of several classes"
    )
    assert mixtures_in_words(usable_clips(manifest, SEVERAL, "train")) == "train: 24 clips of 5 classes, 12 of several"


def test_released_sources_and_official_pairs_share_no_class_either(manifest):
    released = replace(SEVERAL, arrangement="released")
    rows = plan_epoch(usable_clips(manifest, released, "train"), seed=0, epoch=0).to_pylist()
    labels = [of_clips(row["clip_id"]) for row in rows]
    assert labels
    assert all(not first & second for first, second in labels)
    official = Evaluation(split="train", pairs="official", num_mixtures=None)
    pairs = plan_test(usable_clips(manifest, SEVERAL, "train"), official)["clip_id"].to_pylist()
    following = [[f"clip{n:02d}", f"clip{(n + 1) % 24:02d}"] for n in range(24)]
    assert pairs == [pair for pair in following if not set.intersection(*of_clips(pair))]


def test_a_clip_that_nothing_can_sound_with_is_named(tmp_path):
    manifest = make_band(tmp_path, num_clips=4)
    with pytest.raises(UsageError, match=r"no clip that shares no class with clip0. \(.*\): raise --mixing.window-sh"):
        plan_epoch(usable_clips(manifest, replace(SEVERAL, num_sources=3), "train"), seed=0, epoch=0)


def test_batches_say_all_classes_and_where_all_of_a_source_is(manifest):
    mixing = replace(SEVERAL, num_sources=1)
    plan = plan_test(usable_clips(manifest, mixing, "train"), Evaluation(split="train", num_mixtures=None))
    batch = read_mixtures(plan, ClipSource.of(manifest), mixing)
    assert [names[0] for names in names_of(batch)] == of_clips([f"clip{n:02d}" for n in range(24)])
    assert batch.class_ids[:4, 0].tolist() == [0, NO_CLASS, 2, NO_CLASS]
    assert batch.truth is not None
    assert batch.has_truth is not None
    assert batch.has_truth[:5, 0].tolist() == [False, True, False, True, False]
    assert batch.truth[1].all(), "one class alone fills half of the picture"
    assert batch.truth[3, 0, :, :4].all()
    assert not batch.truth[3, 0, :, 4:].any()
    assert names_of(batch.rows(3, 5)) == names_of(batch)[3:5]
    assert read_mixtures(plan.drop_columns("label_ids"), ClipSource.of(manifest), mixing).labels is None


def test_a_source_of_no_class_has_no_label(manifest):
    table = manifest.table
    ids = [[] if n == 0 else row for n, row in enumerate(table["class_ids"].to_pylist())]
    place = table.column_names.index("class_ids")
    partly = replace(manifest, table=table.set_column(place, "class_ids", pa.array(ids, pa.list_(pa.int32()))))
    mixing = replace(SEVERAL, num_sources=1, distinct_classes=False)
    plan = plan_test(usable_clips(partly, mixing, "train"), Evaluation(split="train", num_mixtures=None))
    batch = read_mixtures(plan, ClipSource.of(partly), mixing)
    assert batch.labels is not None
    assert batch.labels.shape == (24, 1, 5)
    assert [not label for label in batch.labels.any(dim=2)[:, 0]] == [
        clips == [table["clip_id"][0].as_py()] for clips in plan["clip_id"].to_pylist()
    ]


def test_executors_and_ranks_give_the_same_labels(manifest, local_ray):
    mixing = replace(SEVERAL, min_sources=1)
    stream = MixtureStream(
        folder=manifest.folder, mixing=mixing, split="train", seed=5, batch_size=8, executor="inline"
    )
    whole = list(stream.batches(0, 0, 0, 1))
    rows = plan_epoch(stream.pool, seed=5, epoch=0).to_pylist()
    names = [name for batch in whole for name in names_of(batch)]
    assert names == [of_clips(row["clip_id"]) + [set()] * (2 - len(row["clip_id"])) for row in rows]
    for executor, world_size in (("inline", 2), ("ray", 1), ("ray", 2)):
        other = replace(stream, executor=executor)
        parts = [list(other.batches(0, 0, rank, world_size)) for rank in range(world_size)]
        for number, batch in enumerate(whole):
            assert batch.labels is not None
            labels = [part[number].labels for part in parts]
            assert torch.equal(torch.cat([each for each in labels if each is not None]), batch.labels)


def test_a_models_classes_take_the_place_of_the_data_sets(manifest):
    mixing = replace(SEVERAL, num_sources=1)
    plan = plan_test(usable_clips(manifest, mixing, "train"), Evaluation(split="train", num_mixtures=None))
    for classes in (("anvil", *reversed(CLASSES)), (*CLASSES, "anvil")):
        batch = read_mixtures(in_classes_of(classes, manifest, plan), ClipSource.of(manifest), mixing)
        assert batch.labels is not None
        assert batch.labels.shape == (24, 1, 6)
        assert [names[0] for names in names_of(batch, classes)] == of_clips([f"clip{n:02d}" for n in range(24)])
        assert batch.truth is not None
        assert batch.truth[1].all()
    with pytest.raises(UsageError, match=r"does not know 1 classes of .* among them horn"):  # which no clip has alone
        in_classes_of(tuple(name for name in CLASSES if name != "horn"), manifest, plan)


def test_classes_that_only_clips_of_several_have_are_counted_as_tested(manifest):
    mixing = replace(SEVERAL, num_sources=1)
    plan = plan_test(usable_clips(manifest, mixing, "train"), Evaluation(split="train", num_mixtures=None))
    untaught = classes_without_clips(usable_clips(manifest, ONE, "train"))
    assert untaught == ("drum", "horn")
    assert str(untaught_in_words(untaught, CLASSES, plan)).endswith("(test mixtures): drum (4), horn (4)")


def test_a_frozen_list_keeps_its_labels(manifest, tmp_path):
    pool, location = usable_clips(manifest, SEVERAL, "train"), str(tmp_path / "list.parquet")
    plan = plan_test(pool, Evaluation(split="train", num_mixtures=30))
    write_test_list(location, plan, pool)
    assert read_test_list(location, pool).equals(plan)
    with pytest.raises(UsageError, match=r"cannot be used here.*--mixing.several-classes"):
        read_test_list(location, usable_clips(manifest, ONE, "train"))


def test_replayed_sources_are_named_by_all_of_their_classes(manifest, tmp_path):
    pool = usable_clips(manifest, SEVERAL, "train")
    row = plan_epoch(pool, seed=0, epoch=0).slice(0, 1)
    files = {path.name for path in write_mixture(tmp_path, row, manifest, SEVERAL).iterdir()}
    stems = [
        f"source-{n}-{'-'.join(sorted(labels, key=CLASSES.index))}"
        for n, labels in enumerate(of_clips(row["clip_id"].to_pylist()[0]))
    ]
    assert files == {"mixture.wav", "row.json", *(f"{s}.wav" for s in stems), *(f"{s}-0.png" for s in stems)}
    assert any(len(stem.split("-")) > 3 for stem in stems)


def test_settings_that_it_does_not_go_with_are_refused():
    with pytest.raises(UsageError, match="whole takes each class of a clip for a source of its own"):
        replace(SEVERAL, arrangement="whole")
    with pytest.raises(UsageError, match="balance classes counts clips by their only class"):
        replace(SEVERAL, balance="classes")
    # Whoever learns from duets as sources may be tested on them as they are.
    assert Evaluation(arrangement="whole").test_mixing(SEVERAL) == replace(ONE, arrangement="whole")
    assert Evaluation(arrangement="released").test_mixing(SEVERAL) == replace(SEVERAL, arrangement="released")
