"""A manifest's hash vouches for its bytes, not for whoever wrote them: what cannot be is refused when it is opened."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocktail.foreign import bounded
from cocktail.foreign.bounded import UntrustworthyError, parse_json, parse_parquet
from cocktail.storage import write_atomic
from cocktail.types import UsageError
from pipelines.shards import manifest
from pipelines.shards.cache import ShardCache
from pipelines.shards.dataset import notes_on_lengths
from pipelines.shards.manifest import MANIFEST_COLUMNS, Manifest, open_manifest
from pipelines.shards.sidecars import read_sidecar
from pipelines.shards.signed_json import canonical_json, digest, parse_signed, sign
from tests.made.corpora.toy_shards import make_toy_shards


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Manifest:
    return make_toy_shards(tmp_path_factory.mktemp("toy"), num_shards=2, with_pictures=True)


def forge(toy: Manifest, folder: Path, table: pa.Table | None = None, **metadata: str) -> Path:
    """The manifest of other clips or other metadata, signed as if it were in order."""
    sink = pa.BufferOutputStream()
    pq.write_table(toy.table if table is None else table, sink)
    write_atomic(str(folder / "manifest.parquet"), sink.getvalue())
    document = parse_signed(Path(toy.folder, "manifest.json").read_bytes())
    assert document is not None
    document["metadata"] |= metadata
    if "shards" in metadata and "root_hash" not in metadata:
        shards = json.loads(metadata["shards"])
        document["metadata"]["root_hash"] = digest(sorted([name[:-4], value[0]] for name, value in shards.items()))
    document["clips_sha256"] = hashlib.sha256(sink.getvalue()).hexdigest()
    write_atomic(str(folder / "manifest.json"), sign(document))
    return folder


def changed_shards(toy: Manifest, **values: object) -> str:
    """The list of shards with another SHA-256 or size of its first, or another name."""
    shards: dict[str, list[object]] = {name: list(value) for name, value in toy.shards.items()}
    first = next(iter(shards))
    sha256, size = shards.pop(first)
    shards[str(values.get("name", first))] = [values.get("sha256", sha256), values.get("size", size)]
    return canonical_json(shards).decode()


def test_what_is_in_order_opens_and_is_the_same(toy, tmp_path):
    assert open_manifest(str(forge(toy, tmp_path))).table.equals(toy.table)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sha256": "../lab/shards/x"}, "SHA-256 of .* not 64 hexadecimal digits"),
        ({"sha256": "A" * 64}, "64 hexadecimal digits"),
        ({"sha256": None}, "64 hexadecimal digits"),
        ({"size": 1 << 60}, "size of .* not between 0 and"),
        ({"size": -1}, "size of"),
        ({"size": 1.5}, "size of"),
        ({"size": True}, "size of"),
        ({"name": "../../etc/x.tar"}, "no plain name of a tar"),
        ({"name": ".x.tar"}, "no plain name of a tar"),
        ({"name": "x\n.tar"}, "no plain name of a tar"),
        ({"name": "other"}, "no plain name of a tar"),
    ],
)
def test_shards_that_lead_elsewhere_are_refused(toy, tmp_path, values, said):
    with pytest.raises(UsageError, match=rf"manifest\.json has .*{said}.*get them again from whoever made them"):
        open_manifest(str(forge(toy, tmp_path, shards=changed_shards(toy, **values))))


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"sample_rate_hz": "0"}, "at 0 Hz"),
        ({"sample_rate_hz": "-5"}, "not a whole number"),
        ({"sample_rate_hz": "9" * 30}, "not a whole number"),
        ({"sample_rate_hz": "²"}, "not a whole number"),
        ({"audio_format": "pickle"}, "format 'pickle'"),
        ({"classes": '{"bell": 0}'}, "no list of texts"),
        ({"classes": json.dumps(["b" * 1001])}, "up to 1000 letters"),
        ({"classes": '["bell", "bell"]'}, "class twice"),
        ({"classes": '["\\ud800"]'}, "no list of texts"),
        ({"classes": "[" * 100_000}, "nested too deep|no JSON"),
        ({"notes": "[NaN]"}, "no JSON"),
        ({"shards": "[]"}, "lists no shards"),
        ({"root_hash": "0" * 64}, "root hash"),
    ],
)
def test_metadata_that_no_job_writes_are_refused(toy, tmp_path, metadata, said):
    if metadata.get("shards") == "[]":
        metadata = metadata | {"root_hash": ""}
    with pytest.raises(UsageError, match=said):
        open_manifest(str(forge(toy, tmp_path, **metadata)))


def with_first(table: pa.Table, name: str, value: object) -> pa.Table:
    """The table with another value of its first clip."""
    column = table[name].to_pylist()
    place = table.column_names.index(name)
    return table.set_column(place, MANIFEST_COLUMNS.field(name), pa.array([value, *column[1:]], table[name].type))


BOX = {"picture": 0, "class_id": 0, "x0": 0.1, "y0": 0.1, "x1": 0.5, "y1": 0.5}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("clip_id", None, "without clip_id"),
        ("clip_id", "x" * 1001, "longer than 1000 letters"),
        ("labels", ["x" * 1001], "label of more than 1000 letters"),
        ("labels", [None], "labels that are none"),
        ("shard", "elsewhere.tar", "in a shard that is not listed"),
        ("class_ids", [5], "of a class that is none"),
        ("class_ids", [-1], "of a class that is none"),
        ("audio_offset", -44, "not inside its shard"),
        ("audio_offset", 1 << 62, "not inside its shard|out of the order"),
        ("audio_bytes", 1 << 62, "not inside its shard"),
        ("num_samples", 0, "without a sample"),
        ("num_samples", 2**31 - 1, "two bytes a sample"),
        ("checks", [], "as many checks as seconds"),
        ("rms", [0.1] * 6, "as many rms as seconds"),
        ("rms", [float("nan")] * 5, "level is no number"),
        ("duration", float("inf"), "duration"),
        ("frame_sizes", [-1], "picture that is not inside"),
        ("frame_sizes", [2**31 - 1], "picture that is not inside"),
        ("frame_offsets", [-1], "picture that is not inside"),
        ("frame_offsets", [], "as many frame_"),
        ("frame_seconds", [float("nan")], "picture at no time"),
        ("mask_offset", None, "half of a mask"),
        ("mask_bytes", 2**31 - 1, "mask that is not inside"),
        ("boxes", [BOX | {"picture": -1}], "picture before the first"),
        ("boxes", [BOX | {"class_id": 99}], "box of a class that is none"),
        ("boxes", [BOX | {"x1": float("inf")}], "lies nowhere"),
        ("boxes", [BOX | {"y0": None}], "without a picture or a corner"),
    ],
)
def test_clips_that_cannot_be_are_refused(toy, tmp_path, column, value, said):
    with pytest.raises(UsageError, match=rf"manifest\.parquet has .*({said})"):
        open_manifest(str(forge(toy, tmp_path, with_first(toy.table, column, value))))


def test_clips_that_somebody_looked_at_and_found_no_box_in_are_in_order(toy, tmp_path):
    assert open_manifest(str(forge(toy, tmp_path, with_first(toy.table, "boxes", []))))


def test_clips_of_a_class_outside_those_there_are_are_refused_at_the_edge(toy, tmp_path):
    last = len(toy.classes) - 1
    assert open_manifest(str(forge(toy, tmp_path / "in", with_first(toy.table, "class_ids", [last]))))
    with pytest.raises(UsageError, match="class that is none"):
        open_manifest(str(forge(toy, tmp_path / "out", with_first(toy.table, "class_ids", [last + 1]))))


def test_columns_that_are_others_are_refused_before_they_are_read(toy, tmp_path):
    other = toy.table.set_column(0, "clip_id", toy.table["num_samples"])
    with pytest.raises(UsageError, match="clip_id is of type int32, not string"):
        open_manifest(str(forge(toy, tmp_path / "type", other)))
    with pytest.raises(UsageError, match="there is no boxes"):
        open_manifest(str(forge(toy, tmp_path / "absent", toy.table.drop_columns(["boxes"]))))


def parquet(table: pa.Table, compression: str = "snappy") -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression=compression, store_schema=False)
    return sink.getvalue().to_pybytes()


def same(value: object, count: int) -> pa.Table:
    """One value so many times, which is written as it is made: once."""
    return pa.table({"a": pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), pa.array([value]))})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (same(7, 1_000_000), r"claims 1000000 rows in \d+ bytes"),
        (same("x" * 100_000, 3000), r"would take 0\.\d GB for a alone"),
        (pa.table({"a": pa.array([["x" * 100_000] * 3000])}), r"would take 0\.3 GB for a alone"),
    ],
)
def test_kilobytes_that_hold_gigabytes_are_refused_before_they_expand(table, said):
    data = parquet(table)
    assert len(data) < 150_000
    before = pa.total_allocated_bytes()
    with pytest.raises(UntrustworthyError, match=said):
        parse_parquet(data)
    assert pa.total_allocated_bytes() - before < 50_000_000


def test_a_list_of_one_value_that_fills_the_memory_is_refused_by_its_count():
    values = pa.ListArray.from_arrays(pa.array([0, 40_000_000], pa.int32()), pa.nulls(40_000_000, pa.int8()))
    with pytest.raises(UntrustworthyError, match="would take"):
        parse_parquet(parquet(pa.table({"a": values})))


def test_text_beside_other_columns_is_read_as_arrow_reads_it():
    table = pa.table({"n": range(3000), "text": ["é" * 9000] * 2999 + [None], "all": [[None, "y", "x" * 9000]] * 3000})
    data = parquet(table)
    assert parse_parquet(data).equals(table)


def test_many_different_texts_come_back_in_few_pieces():
    long, count = "y" * 9000, 200_000
    table = pa.table({"text": [long if n < 3 else f"clip {n % 40_000:09d}" for n in range(count)]})
    data = parquet(table)
    assert bounded._mistrusted(bounded.read_footer(data), bounded.LEAST_EXPANDED_BYTES), "read piece by piece"
    read = parse_parquet(data)
    assert read.equals(table)
    assert read["text"].num_chunks < 5


@pytest.mark.parametrize("in_lists", [False, True])
def test_texts_that_are_no_utf_8_are_refused(in_lists):
    texts = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    column = pa.ListArray.from_arrays(pa.array([0, 1], pa.int32()), texts) if in_lists else texts
    with pytest.raises(UntrustworthyError, match="UTF8"):
        parse_parquet(parquet(pa.table({"text": column})))


def test_tables_beyond_all_bounds_are_not_read(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "MAX_TABLE_BYTES", 1000)
    with pytest.raises(UsageError, match=r"manifest\.parquet has \d+ MB: no such file has over"):
        open_manifest(str(forge(toy, tmp_path)))


def test_codecs_that_we_do_not_write_are_refused():
    with pytest.raises(UntrustworthyError, match="compressed by GZIP"):
        parse_parquet(parquet(same(0, 10), "gzip"))


def test_json_that_is_too_deep_too_large_or_no_number_is_refused():
    for text, said in (
        ("[" * 200_000 + "]" * 200_000, "too deep"),
        ("[1e5, NaN]", "NaN"),
        ("[" + "1" * 5000 + "]", "is no JSON"),
    ):
        with pytest.raises(UntrustworthyError, match=said):
            parse_json(text)
    with pytest.raises(UntrustworthyError, match="more than 0"):
        parse_json("[1, 2, 3]", most_bytes=4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "../x"}, "of another shard"),
        ({"tar_sha256": "../x"}, "64 hexadecimal digits"),
        ({"tar_bytes": 1 << 60}, "size of its tar"),
        ({"settings": {}}, "no settings"),
        ({"samples": {}}, "no lists of clips"),
        ({"samples": [1]}, "a clip that is none"),
        ({"samples": [{}]}, "no number of samples"),
        ({"quarantined": [{"clip_id": "a"}]}, "without saying which or why"),
        ({"plan_hash": 5}, "no hash of its plan"),
    ],
)
def test_sidecars_that_no_job_writes_are_refused(toy, tmp_path, change, said):
    sidecar = read_sidecar(f"{toy.folder}/train-00000.index.json")
    write_atomic(str(tmp_path / "train-00000.index.json"), sign(sidecar | change))
    with pytest.raises(UsageError, match=said):
        read_sidecar(str(tmp_path / "train-00000.index.json"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"num_samples": 1 << 40}, "no number of samples"),
        ({"audio_offset": "0"}, "another form"),
        ({"checks": []}, "as many checks"),
        ({"members": [["clip000.wav", 1 << 60, "0" * 64]]}, "size inside its tar"),
        ({"members": [["../clip000.wav", 1, "0" * 64]]}, "plain name"),
        ({"members": "x"}, "without members"),
        ({"labels": [3]}, "another form"),
    ],
)
def test_clips_of_a_sidecar_that_cannot_be_are_refused(toy, tmp_path, change, said):
    sidecar = read_sidecar(f"{toy.folder}/train-00000.index.json")
    sidecar["samples"][0] |= change
    write_atomic(str(tmp_path / "train-00000.index.json"), sign(sidecar))
    with pytest.raises(UsageError, match=said):
        read_sidecar(str(tmp_path / "train-00000.index.json"))


def test_a_cache_neither_deletes_nor_counts_what_it_did_not_write(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    others = [folder / name for name in ("train-00000.tar", "a.part", "0" * 63 + ".tar", "0" * 63 + ".part")]
    for path in others:
        path.write_bytes(bytes(900_000))
    cache = ShardCache(chosen_folder=str(folder), max_bytes=250_000)
    for number in range(4):
        data = bytes([number]) * 100_000
        (tmp_path / f"{number}.tar").write_bytes(data)
        descriptor, _ = cache.open(str(tmp_path / f"{number}.tar"), hashlib.sha256(data).hexdigest(), len(data))
        os.close(descriptor)
    assert all(path.exists() for path in others)
    assert len([path for path in folder.glob("*.tar") if path not in others]) == 2


def test_a_cache_refuses_a_hash_that_is_a_path(tmp_path):
    (tmp_path / "x.tar").write_bytes(b"x")
    cache = ShardCache(chosen_folder=str(tmp_path / "cache"), max_bytes=1000)
    with pytest.raises(UsageError, match="no SHA-256"):
        cache.open(str(tmp_path / "x.tar"), "../lab/x", 1)
    with pytest.raises(UsageError, match="no SHA-256"):
        cache.discard("../lab/x")
    assert not (tmp_path / "lab").exists()


def test_a_shard_said_to_be_huge_makes_no_room_that_it_does_not_need(tmp_path):
    cache = ShardCache(chosen_folder=str(tmp_path / "cache"), max_bytes=250_000)
    for number, size in ((1, 100_000), (2, 240_000)):
        data = bytes([number]) * 100_000
        (tmp_path / f"{number}.tar").write_bytes(data)
        descriptor, _ = cache.open(str(tmp_path / f"{number}.tar"), hashlib.sha256(data).hexdigest(), size)
        os.close(descriptor)
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 2


def test_a_shard_larger_than_it_is_said_to_be_takes_no_more_room_than_that(tmp_path, capfd):
    (tmp_path / "1.tar").write_bytes(bytes(200_000))
    cache = ShardCache(chosen_folder=str(tmp_path / "cache"), max_bytes=250_000)
    descriptor, _ = cache.open(str(tmp_path / "1.tar"), hashlib.sha256(bytes(100_000)).hexdigest(), 100_000)
    assert os.fstat(descriptor).st_size == 100_000
    os.close(descriptor)
    assert "is damaged" in capfd.readouterr().out


def test_groups_of_unequal_length_are_said():
    clips = pa.table({"group": ["a", "a", "b", "b", None], "num_samples": [10, 12, 7, 7, 3]})
    assert list(notes_on_lengths(clips)) == [
        "1 of 2 groups have clips of unequal length, as 'a', 10 to 12 samples: "
        "mixtures are cut from where all of a group sound"
    ]
    assert list(notes_on_lengths(clips.slice(2))) == []
