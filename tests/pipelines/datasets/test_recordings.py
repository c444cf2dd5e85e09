"""Every data set's index says what each of its clips was cut out of, by what its layout tells of it."""

import csv
import json

import pytest

from pipelines.datasets.audioset_singlesource import index_audioset_singlesource
from pipelines.datasets.fsd50k import SourceLabels
from pipelines.datasets.fuss import index_fuss
from pipelines.datasets.musdb18 import index_musdb18
from pipelines.datasets.music import MusicSettings, index_music
from pipelines.datasets.vgginstruments import index_vgginstruments
from pipelines.datasets.vggsound import index_vggsound
from pipelines.datasets.vggss import index_vggss
from pipelines.embedded.corpus import EmbeddedCorpus, plan_clips

PLAIN, ODD = "aaaaaaaaaaa", "bbbb_000030"
"""Ids of videos; the second ends as a clip's name does."""


def touch(folder, *names):
    """Empty files: indexes open none of them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_csv(path, *rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def write_json(path, content):
    path.write_text(json.dumps(content))
    return str(path)


CLIPS = {f"{PLAIN}_000001": PLAIN, f"{PLAIN}_000020": PLAIN, f"{ODD}_000001": ODD}
"""Clips of VGG-Sound, and their videos."""


def make_vggsound(folder, label="playing harp"):
    touch(folder / "videos", *(f"{name}.mp4" for name in CLIPS))
    rows = [(video, int(name[-6:]), label, "train") for name, video in CLIPS.items()]
    return write_csv(folder / "vggsound.csv", *rows), str(folder / "videos")


def vggsound(folder):
    return index_vggsound(*make_vggsound(folder)), CLIPS


def vggss(folder):
    _, videos = make_vggsound(folder)
    items = [{"file": name, "class": "playing harp", "bbox": [[0, 0, 1, 1]]} for name in CLIPS]
    return index_vggss(write_json(folder / "vggss.json", items), videos), CLIPS


def vgginstruments(folder):
    touch(folder / "test", "frames/sample0003.jpg", "audio/sample0003.wav", "masks/sample0003.npy")
    listed = write_csv(folder / "test.csv", ("sample0003", "harp"))
    index = index_vgginstruments(*make_vggsound(folder), test=str(folder / "test"), test_list=listed)
    return index, CLIPS | {"sample0003": "sample0003"}


def embedded(folder):
    plans = plan_clips(
        EmbeddedCorpus(seed=0, train_clips_per_class=6, test_clips_per_class=2, classes=("playing flute",))
    )
    touch(folder / "videos", *(f"{plan.name}.mp4" for plan in plans))
    rows = [(plan.clip_id, plan.start_second, plan.label, plan.split) for plan in plans]
    index = index_vggsound(write_csv(folder / "vggsound.csv", *rows), str(folder / "videos"))
    pieces = {plan.name: plan.clip_id for plan in plans}
    assert len(set(pieces.values())) == 8
    return index, pieces


def music(folder):
    for video in (PLAIN, ODD):
        touch(folder, f"audio/cello/{video}.mp3", f"frames/cello/{video}.mp4/000001.jpg")
    videos = write_json(folder / "solo.json", {"videos": {"cello": [PLAIN, ODD]}})
    return index_music(str(folder), [videos], MusicSettings()), {PLAIN: PLAIN, ODD: ODD}


def musdb18(folder):
    touch(folder / "train", "A - B_000001.stem.mp4", "A - B_000002.stem.mp4")
    songs = ("train/A - B_000001", "train/A - B_000002")
    return index_musdb18(str(folder)), {
        f"{song}/{stem}": song for song in songs for stem in ("drums", "bass", "other", "vocals")
    }


def make_fuss(folder, jams):
    """A mixture a split of a background and a foreground, both of the same Freesound recording in each of them."""
    for split in ("train", "validation", "eval"):
        sources = [f"{split}/a_sources/{role}_sound.wav" for role in ("background0", "foreground0")]
        touch(folder, *sources)
        (folder / f"{split}_example_list.txt").write_text("\t".join([f"{split}/a.wav", *sources]) + "\n")
        told = [
            {"time": 0, "duration": 9, "value": {"role": role, "source_file": f"/fsd_data/{split}/sound/{name}.wav"}}
            for role, name in (("background", 900), ("foreground", 64760))
        ]
        if jams:
            write_json(folder / split / "a.jams", {"annotations": [{"data": told}]})
    return str(folder)


def fuss(folder):
    index = index_fuss(make_fuss(folder, jams=True), labels=SourceLabels({"900": ("wind",), "64760": ("bell",)}))
    of_role = {"background0": "900", "foreground0": "64760"}
    splits = ("train", "validation", "eval")
    return index, {f"{split}-a-{role}": name for split in splits for role, name in of_role.items()}


def unlabelled_fuss(folder):
    roles, splits = ("background0", "foreground0"), ("train", "validation", "eval")
    return index_fuss(make_fuss(folder, jams=False)), {f"{s}-a-{role}": f"{s}-a" for s in splits for role in roles}


def audioset_singlesource(folder):
    names = {
        f"violin/{PLAIN}_30": PLAIN,
        f"violin/{PLAIN}_30.000_40.000": PLAIN,
        f"dog/{PLAIN}": PLAIN,
        f"dog/{ODD}": ODD,
        "dog/bark_1": "dog/bark_1",
        "dog/bark_2": "dog/bark_2",
        "dog/a_much_longer_name_1": "dog/a_much_longer_name_1",
    }
    touch(folder, *(f"{name}.mp4" for name in names))
    return index_audioset_singlesource(str(folder)), names


@pytest.mark.parametrize(
    "data_set",
    [
        vggsound,
        vggss,
        vgginstruments,
        embedded,
        music,
        musdb18,
        fuss,
        unlabelled_fuss,
        audioset_singlesource,
    ],
)
def test_the_index_says_what_each_clip_was_cut_out_of(tmp_path, data_set):
    index, recordings = data_set(tmp_path)
    assert dict(zip(index["clip_id"].to_pylist(), index["recording"].to_pylist(), strict=True)) == recordings
