"""Other people's WebDataset shards become an index as the webdataset package reads them, and shards as any data set."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from webdataset import WebDataset  # pyright: ignore[reportAttributeAccessIssue]

from cocktail.types import UsageError
from pipelines.datasets.webdataset_shards import Members, index_webdataset, shard_names
from pipelines.shards.plan import ShardSettings, plan_shards
from pipelines.shards.write import write_shard

RATE = 8000


def sound(hertz: float = 440.0, seconds: float = 1.5, ending: str = "WAV") -> bytes:
    data = io.BytesIO()
    waveform = 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * RATE)) / RATE)
    soundfile.write(data, waveform, RATE, format=ending)
    return data.getvalue()


def picture(gray: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (32, 24), (gray, gray, gray)).save(data, "JPEG")
    return data.getvalue()


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def columns(index, *names):
    return [tuple(row[name] for name in names) for row in index.to_pylist()]


def notes(index):
    return json.loads(index.schema.metadata[b"cocktail.notes"])


def shard(index, folder: Path, **settings) -> dict[str, dict]:
    """Shards written here, without Ray: what became of each clip."""
    settings = ShardSettings(dataset="others", sample_rate_hz=RATE, num_frames=0, **settings)
    became = {}
    for row in plan_shards(index, settings).to_pylist():
        write_shard(row, settings, str(folder))
        sidecar = json.loads((folder / f"{row['shard']}.index.json").read_text())
        sidecar = sidecar.get("document", sidecar)
        became |= {each["clip_id"]: each for each in (*sidecar["samples"], *sidecar["quarantined"])}
    return became


@pytest.fixture
def tars(tmp_path) -> Path:
    """Two tars of three samples: a FLAC with two pictures, a WAV, and one without a sound."""
    folder = tmp_path / "others"
    folder.mkdir()
    write_tar(
        folder / "train-0.tar",
        [
            ("./a/0001.flac", sound(ending="FLAC")),
            ("./a/0001.1.jpg", picture(200)),
            ("./a/0001.0.jpg", picture(100)),
            ("./a/0001.cls", b"1"),
            ("./a/0001.json", b'{"video": {"id": "v1"}, "tags": ["wren", "rain"]}'),
            ("./a/0002.wav", sound(880)),
            ("./a/0002.cls", b"0\n"),
            ("./a/0002.json", b'{"video": {"id": "v1"}, "tags": "tit"}'),
        ],
    )
    write_tar(folder / "val-0.tar", [("0001.cls", b"1"), ("0001.pyd", b"never read"), ("0002.wav", sound())])
    return folder


def test_samples_and_their_members_are_those_of_the_webdataset_package(tars, tmp_path):
    index = index_webdataset(str(tars), Members(splits="names"))
    found = [row["clip_id"] for row in index.to_pylist()]
    read = [
        f"{Path(sample['__url__']).stem}/{sample['__key__']}"
        for tar in ("train-0.tar", "val-0.tar")
        for sample in WebDataset(str(tars / tar), shardshuffle=False)
    ]
    assert found == read == ["train-0/./a/0001", "train-0/./a/0002", "val-0/0001", "val-0/0002"]
    assert index["split"].to_pylist() == ["train", "train", "val", "val"]
    named = index_webdataset(f"{tars}/{{train,val}}-0.tar", Members(splits="names"))
    assert named.equals(index)


def test_a_label_is_a_text_a_number_of_a_list_or_a_field_of_a_json(tars, tmp_path):
    assert index_webdataset(str(tars))["labels"].to_pylist() == [["1"], ["0"], ["1"], []]
    (tmp_path / "classes.txt").write_text("tit\nwren\n")
    index = index_webdataset(str(tars), Members(classes=str(tmp_path / "classes.txt")))
    assert columns(index, "labels", "class_ids") == [(["wren"], [1]), (["tit"], [0]), (["wren"], [1]), ([], [])]
    assert notes(index) == ["samples without a label that can be read (.cls): 1, as 'val-0/0002'"]
    by_field = index_webdataset(str(tars), Members(label="json:tags"))
    assert by_field["labels"].to_pylist()[:2] == [["wren", "rain"], ["tit"]]


def test_samples_of_one_recording_are_in_one_split(tars):
    index = index_webdataset(str(tars), Members(recording="json:video.id"))
    assert index["recording"].to_pylist() == ["v1", "v1", "val-0/0001", "val-0/0002"]
    assert index["split"][0] == index["split"][1]
    by_key = index_webdataset(str(tars), Members(recording="/(000)[0-9]$"))
    assert set(by_key["recording"].to_pylist()) == {"000"}


def test_sound_and_pictures_are_read_out_of_the_tars_and_nothing_is_unpickled(tars, tmp_path, monkeypatch):
    def unpickle(*_, **__):
        raise AssertionError("something is unpickled")

    monkeypatch.setattr(pickle, "loads", unpickle)
    index = index_webdataset(str(tars), Members(splits="names"))
    monkeypatch.undo()
    became = shard(index, tmp_path)
    assert became["train-0/./a/0001"]["num_samples"] == became["val-0/0002"]["num_samples"] == 1.5 * RATE
    assert became["val-0/0001"]["reason"] == "missing file"
    first = next(row for row in WebDataset(f"{tmp_path}/train-00000-of-00001.tar", shardshuffle=False)
                 if "1.jpg" in row)  # fmt: skip
    grays = [np.asarray(Image.open(io.BytesIO(first[f"{number}.jpg"]))).mean() for number in range(2)]
    np.testing.assert_allclose(grays, [100, 200], atol=2)  # in the order of their numbers


def test_what_is_damaged_is_set_aside_with_the_reason_and_its_neighbours_are_good(tmp_path):
    good, cut = sound(), sound()[:2000]
    whole = write_tar(
        tmp_path / "whole.tar",
        [("a.wav", good), ("b.wav", b""), ("c.wav", b"no sound at all"), ("d.wav", cut), ("e.wav", good)],
    )
    data = write_tar(tmp_path / "longer.tar", [("f.wav", good), ("g.wav", good)]).read_bytes()
    (tmp_path / "longer.tar").write_bytes(data[: 512 + len(good) + 512 + 700])
    index = index_webdataset(f"{{{whole},{tmp_path / 'longer.tar'}}}", Members())
    became = {name: each.get("reason") for name, each in shard(index, tmp_path / "out").items()}
    assert became == {
        "whole/a": None, "whole/b": "empty file", "whole/c": "not media", "whole/d": "truncated", "whole/e": None,
        "longer/f": None, "longer/g": "truncated",
    }  # fmt: skip


def test_a_tar_that_ends_in_garbage_is_read_up_to_there_and_that_is_noted(tmp_path):
    data = write_tar(tmp_path / "a.tar", [("a.wav", sound()), ("b.wav", sound())]).read_bytes()
    second = data.index(b"b.wav")
    (tmp_path / "a.tar").write_bytes(data[:second] + b"\xff" * 600)
    index = index_webdataset(str(tmp_path))
    assert index["clip_id"].to_pylist() == ["a/a"]
    assert notes(index) == [
        "a.tar is damaged after 1 members: what follows is not read",
        "samples without a label that can be read (.cls): 1, as 'a/a'",
    ]


def negative(name: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = -1024
    return info.tobuf(tarfile.GNU_FORMAT)


def negative_by_pax(name: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.pax_headers = {"size": "-1536"}
    return info.tobuf(tarfile.PAX_FORMAT)


def no_number(name: str) -> bytes:
    info = tarfile.TarInfo(name)
    info.pax_headers = {"GNU.sparse.size": "many"}
    return info.tobuf(tarfile.PAX_FORMAT)


def headers_of_headers(name: str) -> bytes:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    return (info.tobuf(tarfile.GNU_FORMAT) + b"x".ljust(512, b"\0")) * 2000 + tarfile.TarInfo(name).tobuf()


@pytest.mark.parametrize("header", [negative, negative_by_pax, no_number, headers_of_headers])
def test_a_tar_is_read_up_to_a_header_that_leads_back_or_nowhere(tmp_path, monkeypatch, header):
    read, times = tarfile.TarFile.next, iter(range(10))

    def once(archive):
        assert next(times, None) is not None, "the same members are read over and over"
        return read(archive)

    monkeypatch.setattr(tarfile.TarFile, "next", once)
    data = write_tar(tmp_path / "a.tar", [("a.wav", sound())]).read_bytes()
    end = data.rstrip(b"\0")
    whole = data[: -(-len(end) // 512) * 512]
    (tmp_path / "a.tar").write_bytes(whole + header("b.wav") + whole)
    index = index_webdataset(str(tmp_path))
    assert index["clip_id"].to_pylist() == ["a/a"]
    assert notes(index)[0] == "a.tar is damaged after 1 members: what follows is not read"


def test_tars_of_one_name_in_several_folders_are_told_apart_and_others_keep_their_names(tmp_path):
    for name in ("a/000", "b/000", "b/001"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_tar(tmp_path / f"{name}.tar", [("1.wav", sound())])
    tars = [f"{tmp_path}/{name}.tar" for name in ("a/000", "b/000", "b/001")]
    index = index_webdataset("::".join(tars))
    assert columns(index, "clip_id", "problem") == [("a/000/1", None), ("b/000/1", None), ("001/1", None)]
    assert shard_names(["/d/0.tar", "/d/e/0.tar"]) == {"/d/0.tar": "0", "/d/e/0.tar": "e/0"}
    assert shard_names([tars[0], tars[0]]) == {tars[0]: "000"}


def test_a_picture_whose_number_has_no_end_is_none(tmp_path):
    write_tar(tmp_path / "a.tar", [("a.wav", sound()), ("a.1.jpg", picture(9)), (f"a.{'7' * 5000}.jpg", picture(9))])
    (pictures,) = index_webdataset(str(tmp_path))["pictures"].to_pylist()
    assert len(pictures) == 1


@pytest.mark.parametrize("ending", ["pyd", "0.pickle", "npy"])
def test_members_that_may_be_pickles_are_refused(ending):
    with pytest.raises(UsageError, match=f"members that end in .{ending} may hold pickles"):
        Members(label=ending)


def test_what_is_no_set_of_shards_is_refused_with_what_is_there(tars, tmp_path):
    with pytest.raises(UsageError, match="no tar lies in"):
        index_webdataset(str(tmp_path))
    with pytest.raises(UsageError, match=r"1 of 2 tars are not there, as .*/train-1\.tar"):
        index_webdataset(f"{tars}/train-{{0..1}}.tar")
    with pytest.raises(UsageError, match=r"has a sound that ends in ogg: their members end in \.cls \(2\)"):
        index_webdataset(str(tars), Members(sound=("ogg",)))
    (tars / "more.tar.gz").touch()
    with pytest.raises(UsageError, match="is no plain tar"):
        index_webdataset(str(tars))
