"""Whatever a stranger's files hold, one kind of error comes out of reading them, soon, and without filling the memory.

Each parser gets mutated bytes, and documents of the right form with other values in them, signed where ours are. A
process of its own, whose memory is limited, does so: what ends it would end a job.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cocktail.config.evaluation import Evaluation
from cocktail.config.mixing import Mixing
from cocktail.types import UsageError
from pipelines.datasets import avgn_lists, fsd50k, fuss, music, music_boxes, vggsound, vggss
from pipelines.mixtures.render import render
from pipelines.plans.frozen_list import read_test_list, write_test_list
from pipelines.plans.plan import plan_epoch, plan_test
from pipelines.plans.pool import usable_clips
from pipelines.shards.manifest import open_manifest, read_quarantine
from pipelines.shards.reader import ClipSource
from pipelines.shards.sidecars import ShardTotals, manifest_rows, quarantine_rows, read_sidecar
from pipelines.shards.signed_json import digest, parse_signed, sign
from tests.made.corpora.toy_shards import RATE, make_toy_shards

SECONDS = float(os.environ.get("COCKTAIL_FUZZ_SECONDS", "60"))
LONGEST_SECONDS = 20.0
"""Time that one file may take, on a busy machine."""
MOST_BYTES = 3 << 30
"""Memory that the process may address beyond what it has at its start."""
MIXING = Mixing(sample_rate_hz=RATE, segment_samples=2000, pictures_per_source=1, picture_side=8)

VALUES = (
    None, True, 0, -1, 1, 2**31, 2**63, 10**30, -0.5, 1e308, "", "x", "../../x", "/etc/passwd", "\x00", "\x1b[31m",
    "\ud800", "=1+1", "9" * 5000, "x" * 2000, [], {}, [[]], [None], ["x"] * 50, {"x": []},
)  # fmt: skip
TOKENS = (
    b"[" * 3000,
    b"\xff\xfe",
    b"\x00",
    b'"',
    b"NaN",
    b"1e999",
    b"9" * 5000,
    b",,,,",
    b"\n",
    b"\t",
    b"{",
    b"-1",
    b"../",
)


def mutated_bytes(data: bytes, chance: random.Random) -> bytes:
    """A few bits turned, a piece left out, doubled or replaced."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        place = chance.randrange(len(changed) + 1)
        end = min(place + chance.choice((1, 4, 64)), len(changed))
        kind = chance.randrange(5)
        if kind == 0 and place < len(changed):
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del changed[place:end]
        elif kind == 2:
            changed[place:place] = changed[place:end]
        elif kind == 3:
            changed[place:place] = chance.choice(TOKENS)
        else:
            changed[place:end] = bytes(chance.randrange(256) for _ in range(end - place))
    return bytes(changed)


def mutated(value: Any, chance: random.Random) -> Any:
    """A document with one value in it replaced, left out or doubled."""
    if chance.random() < 0.2 or not isinstance(value, dict | list) or not value:
        return chance.choice(VALUES)
    if isinstance(value, dict):
        name = chance.choice(list(value))
        if chance.random() < 0.1:
            return {key: item for key, item in value.items() if key != name}
        if chance.random() < 0.1:
            return {**value, str(chance.choice(VALUES)): value[name]}
        return {**value, name: mutated(value[name], chance)}
    place = chance.randrange(len(value))
    if chance.random() < 0.1:
        return value[:place] + value[place + 1 :]
    return [*value[:place], mutated(value[place], chance), *value[place + 1 :]]


def mutated_table(table: pa.Table, chance: random.Random) -> pa.Table:
    """A table with another value of one clip, in the type of its column where that takes it."""
    name = chance.choice(table.column_names)
    column = table[name].to_pylist()
    place = chance.randrange(len(column))
    column[place] = chance.choice(VALUES) if chance.random() < 0.5 else mutated(column[place], chance)
    try:
        values = pa.array(column, table[name].type if chance.random() < 0.95 else None)
        to_parquet(pa.table([values], [name]))
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return table
    return table.set_column(table.column_names.index(name), name, values)


def to_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def resigned(document: dict[str, Any]) -> bytes:
    try:
        return sign(document)
    except UnicodeEncodeError:
        return json.dumps(document).encode()


Parser = tuple[Callable[[random.Random], None], Callable[[], object]]
"""What writes a changed file, and what reads it."""


def manifests(folder: Path) -> Parser:
    toy = make_toy_shards(folder, num_shards=2, clips_per_shard=4, num_test=2, with_pictures=True)
    raw, clips = (folder / "manifest.json").read_bytes(), (folder / "manifest.parquet").read_bytes()
    document = parse_signed(raw)
    assert document is not None

    def write(chance: random.Random) -> None:
        kind = chance.randrange(4)
        table, said = clips, document
        if kind == 0:
            (folder / "manifest.json").write_bytes(mutated_bytes(raw, chance))
            return
        if kind == 1:
            table = mutated_bytes(clips, chance)
        elif kind == 2:
            table = to_parquet(mutated_table(toy.table, chance))
        else:
            name = chance.choice(list(document["metadata"]))
            inner = document["metadata"][name]
            if name in ("shards", "classes", "notes"):
                inner = json.dumps(mutated(json.loads(inner), chance))
            else:
                inner = mutated(inner, chance)
            said = mutated(document, chance) if chance.random() < 0.2 else document
            if isinstance(said, dict) and isinstance(said.get("metadata"), dict):
                said = {**said, "metadata": {**said["metadata"], name: inner}}
        (folder / "manifest.parquet").write_bytes(table)
        if isinstance(said, dict):
            said = {**said, "clips_sha256": hashlib.sha256(table).hexdigest()} if "clips_sha256" in said else said
            (folder / "manifest.json").write_bytes(resigned(said))

    def read() -> None:
        manifest = open_manifest(str(folder))
        read_quarantine(manifest)
        pool = usable_clips(manifest, MIXING, "train")
        render(plan_epoch(pool, seed=0, epoch=0).slice(0, 2), ClipSource.of(manifest), MIXING)

    return write, read


def sidecars(folder: Path) -> Parser:
    make_toy_shards(folder, num_shards=1, clips_per_shard=3, with_pictures=True)
    path = folder / "train-00000.index.json"
    raw = path.read_bytes()
    document = parse_signed(raw)
    assert document is not None

    def write(chance: random.Random) -> None:
        changed = mutated(document, chance)
        is_raw = chance.random() < 0.3 or not isinstance(changed, dict)
        path.write_bytes(mutated_bytes(raw, chance) if is_raw else resigned(changed))

    def read() -> None:
        sidecar = read_sidecar(str(path))
        manifest_rows(sidecar, {sample["clip_id"]: "" for sample in sidecar["samples"]})
        list(quarantine_rows([sidecar]))
        totals = ShardTotals()
        totals.add(sidecar)
        totals.metadata()

    return write, read


def frozen_lists(folder: Path) -> Parser:
    pool = usable_clips(make_toy_shards(folder / "toy", num_test=4, with_pictures=True), MIXING, "test")
    path = folder / "list.parquet"
    write_test_list(str(path), plan_test(pool, Evaluation(num_mixtures=4)), pool)
    raw, table = path.read_bytes(), pq.read_table(path)
    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}

    def write(chance: random.Random) -> None:
        if chance.random() < 0.4:
            path.write_bytes(mutated_bytes(raw, chance))
            return
        changed, said = mutated_table(table, chance), dict(metadata)
        if chance.random() < 0.3:
            said["cocktail.mixing"] = json.dumps(mutated(json.loads(said["cocktail.mixing"]), chance))
        said["cocktail.content"] = digest(changed.to_pylist())
        path.write_bytes(to_parquet(changed.replace_schema_metadata(said)))

    return write, lambda: read_test_list(str(path), pool)


def text_file(path: Path, text: str, read: Callable[[str], object]) -> Parser:
    """A csv file or another list."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def write(chance: random.Random) -> None:
        path.write_bytes(mutated_bytes(text.encode(), chance))

    return write, lambda: read(str(path))


def json_file(path: Path, value: Any, read: Callable[[str], object]) -> Parser:
    def write(chance: random.Random) -> None:
        text = json.dumps(value if chance.random() < 0.3 else mutated(value, chance)).encode()
        path.write_bytes(mutated_bytes(text, chance) if chance.random() < 0.3 else text)

    return write, lambda: read(str(path))


BOXES = {"AAAAAAAAAAA_000_00001/frame_000_00010.jpg": {"bbox": [{"category_id": 1, "normbox": [0.1, 0.1, 0.2, 0.2]}]}}
ONTOLOGY = [{"id": "/m/1", "name": "a", "child_ids": ["/m/2"]}, {"id": "/m/2", "name": "b", "child_ids": []}]
JAMS = {"annotations": [{"data": [
    {"time": 0.5, "duration": 2.0, "value": {"role": "foreground", "source_file": "a/123.wav"}}
]}]}  # fmt: skip
EXAMPLES = (
    "train_example/00.wav\ttrain_example/00_sources/background0_a.wav\ttrain_example/00_sources/foreground0_b.wav\n"
)


def fuss_lists(folder: Path) -> Parser:
    for split in fuss.SPLITS:
        (folder / f"{split}_example_list.txt").write_text(EXAMPLES)
    path = folder / "train_example_list.txt"
    return text_file(path, EXAMPLES * 2, lambda _: list(fuss.read_examples(str(folder))))


def read_jams(location: str) -> None:
    """The file is one of thousands: what is wrong with it is counted by who reads it."""
    if fuss.read_events(location) is None:
        raise UsageError("another file")


def listed(read: Callable[[str], Any]) -> Callable[[str], object]:
    return lambda location: list(read(location))


PARSERS: dict[str, Callable[[Path], Parser]] = {
    "manifest": manifests,
    "sidecar": sidecars,
    "frozen list": frozen_lists,
    "vggsound.csv": lambda folder: text_file(
        folder / "a.csv", 'abc,1,"people marching",test\nd-e,30,"dog, barking",train\n', listed(vggsound.read_clips)
    ),
    "vggss.json": lambda folder: json_file(
        folder / "a.json",
        [{"file": "a_000001", "class": "dog", "bbox": [[0, 0.1, 0.5, 1]]}] * 2,
        listed(vggss.read_items),
    ),
    "vggss.json's classes": lambda folder: json_file(
        folder / "a.json", [{"file": "a_000001", "class": "dog", "bbox": []}], vggsound.vggss_classes
    ),
    "MUSIC's videos": lambda folder: json_file(
        folder / "a.json", {"videos": {"cello": ["AAAAAAAAAAA"], "cello tuba": ["BBBBBBBBBBB"]}}, music.read_videos
    ),
    "DSOL's boxes": lambda folder: json_file(folder / "a.json", BOXES, listed(music_boxes.read_annotations)),
    "AVGN's boxes": lambda folder: json_file(
        folder / "a.json",
        [{"file": "AAAAAAAAAAA_1_10", "class": "cello", "bbox": [0, 0, 1, 1]}],
        listed(music_boxes.read_annotations),
    ),
    "AVGN's singles": lambda folder: text_file(
        folder / "a.csv", "a_000001,dog\nb_000002,cat\n", avgn_lists.read_singles
    ),
    "AVGN's pairs": lambda folder: text_file(folder / "a.csv", "a_000001,dog,b_000002,cat\n", avgn_lists.read_pairs),
    "FUSS's lists": fuss_lists,
    "FUSS's jams": lambda folder: json_file(folder / "a.jams", JAMS, read_jams),
    "FSD50K's collection": lambda folder: text_file(
        folder / "a.csv", 'fname,labels,mids\n64760,"Guitar,Strum","/m/1,/m/2"\n', listed(fsd50k.read_collection)
    ),
    "FSD50K's vocabulary": lambda folder: text_file(
        folder / "a.csv", "1,Accordion,/m/0mkg\n2,Bell,/m/1\n", fsd50k.read_vocabulary
    ),
    "AudioSet's ontology": lambda folder: json_file(
        folder / "a.json",
        ONTOLOGY,
        fsd50k.read_ancestors,
    ),
    "a table of labels": lambda folder: json_file(
        folder / "a.json", {"1": "dog", "2": {"label": "cat"}}, fsd50k.read_table
    ),
}


def fuzz(name: str, folder: str, seconds: float, told: Any) -> None:
    """Tell what came out that may not, or what it took: runs in a process of its own."""
    write, read = PARSERS[name](Path(folder))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, resource.RLIM_INFINITY))
    begin, seed, slowest, refused = time.monotonic(), 0, 0.0, 0
    while time.monotonic() - begin < seconds:
        write(random.Random(seed))
        started = time.monotonic()
        try:
            read()
        except UsageError as error:
            refused += 1
            str(error)
        except BaseException as error:
            told.put(f"seed {seed}: {type(error).__name__}: {str(error)[:300]!r}")
            raise
        slowest, seed = max(slowest, time.monotonic() - started), seed + 1
    told.put((seed, refused, slowest))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_only_one_kind_of_error_comes_out_of_a_strangers_file(name, tmp_path):
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    process = context.Process(target=fuzz, args=(name, str(tmp_path), SECONDS, told))
    process.start()
    process.join(SECONDS + 300)
    if process.is_alive():
        process.kill()
        pytest.fail("it hangs")
    said = told.get(timeout=10) if process.exitcode in (0, 1) else f"the process ended: {process.exitcode}"
    assert not isinstance(said, str), said
    num_read, num_refused, slowest = said
    assert slowest < LONGEST_SECONDS
    assert 0 < num_refused < num_read
