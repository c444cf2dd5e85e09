"""MUSIC's folders, lists and boxes in the layouts that others released, of empty files."""

from __future__ import annotations

import json

from pipelines.datasets.music import MusicSettings, index_music

BOX = [0.25, 0.5, 0.125, 0.25]
CORNERS = (0.25, 0.5, 0.375, 0.75)


def video(number):
    """An id as YouTube's can be."""
    return f"-_A{number:08d}"


def make(folder, num_frames=2, ending=".mp3", **categories):
    """Folders of empty files, `num_frames` of each video; such sounds tell no length. Returns the JSON file."""
    videos = {name.replace("__", " "): [video(number) for number in numbers] for name, numbers in categories.items()}
    for category, youtube_ids in videos.items():
        (folder / "audio" / category).mkdir(parents=True)
        for youtube_id in youtube_ids:
            (folder / "audio" / category / (youtube_id + ending)).touch()
            frames = folder / "frames" / category / f"{youtube_id}.mp4"
            frames.mkdir(parents=True)
            for number in range(1, num_frames + 1):
                (frames / f"{number:06d}.jpg").touch()
    return write_json(folder / f"{'-'.join(videos)}.json", {"version": 1.0, "videos": videos})


def write_json(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def write_lines(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines))
    return str(path)


def index(folder, *videos, **settings):
    return index_music(str(folder), videos, MusicSettings(**{"frames_per_second": 1.0, **settings}))


def notes(table):
    return json.loads(table.schema.metadata[b"cocktail.notes"])


def splits(table):
    return dict(zip(table["clip_id"].to_pylist(), table["split"].to_pylist(), strict=True))


def names(row):
    return [picture["path"].rsplit("/", 1)[1] for picture in row["pictures"]]


def seconds(row):
    return [picture["seconds"] for picture in row["pictures"]]


def boxes(row):
    return [(box["picture"], box["class_id"], *(box[corner] for corner in ("x0", "y0", "x1", "y1"))) for box in row]


def frame(youtube_id, second, number):
    """The name of an annotated frame in DSOL's files."""
    return f"{youtube_id}_0_1000/frame_{second:03d}/{number:05d}.jpg"


def dsol(entries):
    """{(video, second, frame): [(category, x y w h)]} as DSOL writes it, its misspelt key included."""
    return {
        frame(youtube_id, second, number): {
            "bbox": [{"box": [0, 0, 9, 9], "normbox": box, "category_id": category} for category, box in objects],
            "wdith": 640,
            "height": 360,
        }
        for (youtube_id, second, number), objects in entries.items()
    }
