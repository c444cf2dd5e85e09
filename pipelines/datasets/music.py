"""MUSIC as Sound of Pixels lays it out: an index of its solos and duets.

Zhao et al., "The Sound of Pixels" (SoP): the videos, the folders and the csv lists. The released JSON files hold
YouTube ids by class; duets are classes of two instruments, "cello acoustic_guitar". Sound lies at
`audio/<class>/<id>.mp3`, pictures at `frames/<class>/<id>.mp4/<six digits>.jpg`, numbered from 1. No split was
released, so there are several: SoP's csv lists, drawn anew by whoever makes them; the first two videos of a class
held out (Gao and Grauman, "Co-Separating Sounds of Visual Objects"; Rahman and Sigal, "Weakly-supervised
Audio-visual Sound Source Detection and Separation"); the text files of Hu et al., "Discriminative Sounding Objects
Localization via Self-supervised Audiovisual Matching" (DSOL) and of Mo and Tian, "Audio-Visual Grouping Network for
Sound Localization from Mixtures" (AVGN).

Folders are listed here. Of media only the headers of a few sounds are read, to find frames of another rate.
"""

from __future__ import annotations

import hashlib
import math
import re
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import av
import pyarrow as pa
from av.error import FFmpegError

from cocktail.media.bad_clips import Reason
from cocktail.media.clips import ANY_TITLE
from cocktail.storage import absolute, join, local_copy
from cocktail.types import UsageError
from pipelines.datasets.index import Box, IndexRow, PictureFile, make_index
from pipelines.datasets.layouts import Folder, read_csv, read_json, read_text
from pipelines.datasets.music_boxes import Truth, read_truths

SOUND_ENDINGS = (".mp3", ".wav", ".m4a")

NOMINAL_SECONDS = 120.0
"""Length taken for every video, since most last a few minutes. One read off the frames that are here would change when
more of them come, and with it which clips share a shard: the shards that are written could not be kept."""

CHECKED_CLIPS = 5
"""Number of clips whose frames are compared with the length of their sound."""
FARTHEST_RATE = 1.2
"""Frames that last more times longer, or shorter, than the sound were extracted at another rate."""

EXPECTED_VIDEOS = 'the released MUSIC_solo_videos.json or MUSIC_duet_videos.json: {"videos": {class: [YouTube ids]}}'
EXPECTED_LAYOUT = "Sound of Pixels' folders: audio/<class>/<id>.mp3, frames/<class>/<id>.mp4/<six digits>.jpg"
EXPECTED_CSV = "Sound of Pixels' train.csv or val.csv: .../audio/<class>/<id>.mp3,.../frames/<class>/<id>.mp4,<count>"
EXPECTED_LIST = "lines as <id>_0_1000.flac <id>_0_1000.mp4 (DSOL) or <id>_000_00000,<class> (AVGN)"

_ID = "[A-Za-z0-9_-]{11}"
_PIECE = re.compile(rf"({_ID})_\d+_\d+", re.ASCII)
_FRAME = re.compile(r"(\d+)\.jpg", re.ASCII)
_CATEGORY = re.compile(r"[^ /]+( [^ /]+)?")
_SOUND_FORMATS = "mp3,wav,mov"
"""FFmpeg's names of those of the endings."""


@dataclass(frozen=True, kw_only=True)
class MusicSettings:
    """Split of the clips, choice of their pictures, and files of the objects in them."""

    split: Literal["stratified", "first-second", "csv", "lists"] = "stratified"
    """80 and 20 percent of each class as released, drawn; the first clip of a class for val, the second for test; the
    lists given, either Sound of Pixels' csv or the text files of DSOL or AVGN."""
    split_seed: int = 0
    """Decides the stratified split."""
    train_list: tuple[str, ...] = ()
    """Lists of the training clips, for split csv or lists."""
    val_list: tuple[str, ...] = ()
    """Lists of the validation clips, the same."""
    test_list: tuple[str, ...] = ()
    """Lists of the test clips, the same."""
    frames_per_second: float = 8.0
    """Rate at which the frames were extracted; 8 by Sound of Pixels' scripts."""
    seconds_between_pictures: float = 1.0
    """Distance of pictures: of the frames, one in so many seconds is taken."""
    boxes: tuple[str, ...] = ()
    """JSON files of DSOL's or AVGN's boxes, or of a detector's in the same layouts, of any of MUSIC's instruments."""
    box_frames: str | None = None
    """Folder of the very pictures that were annotated. None: the frames nearest in time stand in for them."""

    def __post_init__(self) -> None:
        for name in ("frames_per_second", "seconds_between_pictures"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}: expected more than 0")
        given = [split for split in ("train", "val", "test") if getattr(self, f"{split}_list")]
        if self.split in ("csv", "lists") and not given:
            raise UsageError(f"--split {self.split} without lists. Give --train-list, --val-list or --test-list")
        if self.split not in ("csv", "lists") and given:
            raise UsageError(f"--{given[0]}-list is given, but --split is {self.split}. Give --split csv or lists")
        if self.box_frames is not None and not self.boxes:
            raise UsageError("--box-frames is given, but no --boxes that lie in them")

    def located(self) -> MusicSettings:
        """These settings with locations that mean the same in every process. Raises UsageError as `absolute` does."""
        lists = {
            name: tuple(absolute(location, "--" + name.replace("_", "-")) for location in getattr(self, name))
            for name in ("train_list", "val_list", "test_list", "boxes")
        }
        return replace(self, **lists, box_frames=self.box_frames and absolute(self.box_frames, "--box-frames"))


class Video(NamedTuple):
    """An entry of the released JSON."""

    category: str
    """Class that the JSON files it under, and the name of its folder: an instrument, or two with a space between."""
    youtube_id: str

    @property
    def labels(self) -> tuple[str, ...]:
        """The instruments."""
        return tuple(self.category.split(" "))


class LocatedVideo(NamedTuple):
    """A video as it lies on the disk."""

    video: Video
    media_path: str
    frames: Sequence[PictureFile]
    """Pictures of the whole video, in time order."""
    problem: Reason | None


def index_released_music(root: str, solo: str | None, duet: str | None, music: MusicSettings) -> pa.Table:
    """`index_music` of the released JSON files that are given."""
    return index_music(root, [location for location in (solo, duet) if location is not None], music.located())


def index_music(root: str, videos: Sequence[str], settings: MusicSettings) -> pa.Table:
    """One row a video of the JSON files (solo, duet or both), in their order; with lists, of the videos on them.

    A class id is an instrument's place in the sorted list of all instruments of the JSON files. The picture file
    numbered n is shown at (n - 1) / `frames_per_second`. A clip has boxes if a frame of it is annotated: an empty
    list if there is no object in any. Raises UsageError for files that are not what they should be, for a clip
    on the lists of two splits, and for frames of another rate.
    """
    if not videos:
        raise UsageError("no list of videos. Give --solo, --duet or both")
    released = [video for location in videos for video in read_videos(location)]
    wanted, notes = released, []
    if settings.split in ("csv", "lists"):
        listed = read_split(settings, released)
        wanted = [video for video in released if video.youtube_id in listed]
        if not wanted:
            raise UsageError(f"none of the {len(listed)} clips on the lists is in {' or '.join(videos)}")
        splits = [listed[video.youtube_id] for video in wanted]
        num_unknown = len(listed.keys() - {video.youtube_id for video in released})
        notes.append(f"{num_unknown} clips of the lists are not in the JSON files: left out")
        notes.append(f"{len(released) - len(wanted)} clips of the JSON files are on no list: left out")
    elif settings.split == "first-second":
        splits = split_first_second(released)
    else:
        splits = split_stratified(released, settings.split_seed)
    clips = find_clips(root, wanted, settings.frames_per_second)
    require_frame_rate(clips, settings.frames_per_second)
    frames = {clip.video.youtube_id: clip.frames for clip in clips}
    classes = sorted({label for video in released for label in video.labels})
    truths, box_notes = read_truths(settings.boxes, settings.box_frames, frames, settings.frames_per_second, classes)
    rows = [
        index_row(clip, split, truths.get(clip.video.youtube_id), settings)
        for clip, split in zip(clips, splits, strict=True)
    ]
    return make_index(rows, classes, [note for note in notes if not note.startswith("0 ")] + box_notes)


def read_videos(location: str) -> list[Video]:
    """The videos of one of the released JSON files, in its order."""
    content = read_json(location, EXPECTED_VIDEOS)
    categories = content.get("videos") if isinstance(content, dict) else None
    if not isinstance(categories, dict) or not all(isinstance(ids, list) for ids in categories.values()):
        raise UsageError(f"{location} is something else. Expected {EXPECTED_VIDEOS}")
    videos = [Video(category, youtube_id) for category, ids in categories.items() for youtube_id in ids]
    for category, youtube_id in videos:
        if not _CATEGORY.fullmatch(category):
            raise UsageError(f"{location}: class {category!r}. Expected an instrument, or two with a space between")
        if not isinstance(youtube_id, str) or not re.fullmatch(_ID, youtube_id):
            raise UsageError(f"{location}, {category}: {youtube_id!r}. Expected a YouTube id of 11 characters")
    return videos


def find_clips(root: str, videos: Sequence[Video], frames_per_second: float) -> list[LocatedVideo]:
    """Sound and frames of each video, with what is missing as its problem. Raises UsageError without the folders."""
    categories = {video.category for video in videos}
    sounds, frames = (_category_folders(join(root, part), categories) for part in ("audio", "frames"))

    def find(video: Video) -> LocatedVideo:
        names = [video.youtube_id + ending for ending in SOUND_ENDINGS]
        name = next((name for name in names if _problem(sounds, video, name) is None), names[0])
        folder = f"{video.youtube_id}.mp4"
        problem = _problem(frames, video, folder)
        pictures = []
        if problem is None:
            pictures = read_frames(Folder(frames[video.category].path(folder), EXPECTED_LAYOUT), frames_per_second)
            problem = None if pictures else "missing file"
        path = join(root, "audio", video.category, name)
        return LocatedVideo(video, path, pictures, _problem(sounds, video, name) or problem)

    with ThreadPoolExecutor(16) as threads:  # an object store answers slowly, but many at once
        return list(threads.map(find, videos))


def _category_folders(location: str, categories: Collection[str]) -> dict[str, Folder]:
    """Folders of the categories that are there."""
    present = [name for name in Folder(location, EXPECTED_LAYOUT).names if name in categories]
    return {category: Folder(join(location, category), EXPECTED_LAYOUT) for category in present}


def _problem(folders: Mapping[str, Folder], video: Video, name: str) -> Reason | None:
    folder = folders.get(video.category)
    return "missing file" if folder is None else folder.problem(name)


def read_frames(folder: Folder, frames_per_second: float) -> list[PictureFile]:
    """The frames in a folder, in time order. Other files in it are none."""
    numbered = sorted((int(match[1]), name) for name in folder.names if (match := _FRAME.fullmatch(name)))
    if numbered and numbered[0][0] == 0:
        raise UsageError(f"{folder.path(numbered[0][1])}: frames are numbered from 1. Rename them all, by one")
    return [PictureFile(folder.path(name), (number - 1) / frames_per_second) for number, name in numbered]


def require_frame_rate(clips: Sequence[LocatedVideo], frames_per_second: float) -> None:
    """Raise UsageError if the frames of a few clips, spread over all, do not last as long as their sound.

    Clips whose sound does not tell its length are passed over: sharding finds out what is wrong with them.
    """
    whole = [clip for clip in clips if clip.problem is None]
    count = min(CHECKED_CLIPS, len(whole))
    checked = [whole[place * len(whole) // count] for place in range(count)]
    with ThreadPoolExecutor(CHECKED_CLIPS) as threads:
        lengths = list(threads.map(sound_seconds, [clip.media_path for clip in checked]))
    # A frame's number decides its time, so the last one counts, and not how many are there.
    compared = [
        (clip.frames[-1].seconds * frames_per_second + 1, seconds)
        for clip, seconds in zip(checked, lengths, strict=True)
        if seconds
    ]
    if not compared:
        return
    rate = statistics.median(num_frames / seconds for num_frames, seconds in compared)
    if max(rate / frames_per_second, frames_per_second / rate) > FARTHEST_RATE:
        rates = ", ".join(f"{num_frames:.0f} in {seconds:.1f} s" for num_frames, seconds in compared)
        raise UsageError(
            f"--frames-per-second is {frames_per_second:g}, but by the sound there are about {rate:.2g} frames a "
            f"second: {rates}. Give the rate at which they were extracted"
        )


def sound_seconds(location: str) -> float | None:
    """Length of a sound by its header; None for a file that is gone, is no sound or does not tell."""
    options = {"protocol_whitelist": "file", "format_whitelist": _SOUND_FORMATS}
    try:
        with local_copy(location) as path, av.open(str(path), options=options, **ANY_TITLE) as container:
            return None if container.duration is None else container.duration / av.time_base
    except (FFmpegError, FileNotFoundError):
        return None


def split_stratified(videos: Sequence[Video], seed: int) -> list[str]:
    """Splits of videos: train for the first floor(0.8 n) of the n videos of each class in an order drawn by the seed,
    val for the rest.

    All released videos count, also those that are not here or too short: whatever of them can still be had, a video
    is in the same split everywhere. Their order does not matter.
    """
    train: set[Video] = set()
    for category in {video.category for video in videos}:
        released = {video for video in videos if video.category == category}
        drawn = sorted(released, key=lambda video: hashlib.sha256(f"{seed} {video.youtube_id}".encode()).digest())
        train.update(drawn[: len(drawn) * 4 // 5])
    return ["train" if video in train else "val" for video in videos]


def split_first_second(videos: Iterable[Video]) -> list[str]:
    """Splits of videos: val for the first video of each class, test for the second, train for the rest, whether or not
    it is there."""
    seen: Counter[str] = Counter()
    splits = []
    for video in videos:
        splits.append(("val", "test", "train")[min(seen[video.category], 2)])
        seen[video.category] += 1
    return splits


def read_split(settings: MusicSettings, released: Iterable[Video]) -> dict[str, str]:
    """The split of each id on the lists. Raises UsageError for one that is on the lists of two."""
    read = {"csv": _read_sop_csv, "lists": _read_ids}[settings.split]
    released = set(released)
    ids = {video.youtube_id for video in released}
    splits: dict[str, str] = {}
    for split in ("train", "val", "test"):
        for location in getattr(settings, f"{split}_list"):
            for where, youtube_id, category in read(location):
                if category is not None and youtube_id in ids and Video(category, youtube_id) not in released:
                    raise UsageError(f"{where}: {youtube_id} is of another class than {category} in the JSON file")
                if splits.setdefault(youtube_id, split) != split:
                    raise UsageError(
                        f"{where}: {youtube_id} is on a {split} list and on a {splits[youtube_id]} list. Give lists "
                        "that share no clip (DSOL's solo_testing.txt lies within its solo_validation.txt)"
                    )
    return splits


def _read_sop_csv(location: str) -> Iterator[tuple[str, str, str | None]]:
    """Place, id and class of each row. Its paths start wherever its author stood: only their ends count."""
    for where, (sound, frames, _) in read_csv(location, EXPECTED_CSV, num_columns=3):
        category, name = ["", *sound.split("/")][-2:]
        youtube_id = name.rpartition(".")[0]
        if not re.fullmatch(_ID, youtube_id) or not _CATEGORY.fullmatch(category):
            raise UsageError(f"{where}: {sound} does not end in a class and an id. Expected {EXPECTED_CSV}")
        if frames.rstrip("/").split("/")[-2:] != [category, f"{youtube_id}.mp4"]:
            raise UsageError(f"{where}: {frames} are not the frames of {sound}. Expected {EXPECTED_CSV}")
        yield where, youtube_id, category


def _read_ids(location: str) -> Iterator[tuple[str, str, None]]:
    """Place and id of each line. What AVGN gives as classes the JSON files say, too."""
    for number, line in enumerate(read_text(location, EXPECTED_LIST).splitlines(), start=1):
        names = line.partition(",")[0].split()
        ids = {match and match[1] for match in (_PIECE.fullmatch(name.partition(".")[0]) for name in names)}
        youtube_id = ids.pop() if len(ids) == 1 else None
        if youtube_id is not None:
            yield f"{location}, line {number}", youtube_id, None
        elif line.strip():
            raise UsageError(f"{location}, line {number}: {line!r}. Expected {EXPECTED_LIST}")


def index_row(clip: LocatedVideo, split: str, truths: Sequence[Truth] | None, settings: MusicSettings) -> IndexRow:
    """The index row of a clip: its regular pictures and those with boxes, in time order."""
    regular = {math.floor(p.seconds / settings.seconds_between_pictures + 1e-6): p for p in reversed(clip.frames)}
    annotated = {truth.picture for truth in truths or ()}
    pictures = sorted({*regular.values(), *annotated}, key=lambda picture: (picture.seconds, picture.path))
    places = {picture: place for place, picture in enumerate(pictures)}
    pictures_per_second = min(1 / settings.seconds_between_pictures, settings.frames_per_second)
    boxes = [Box(places[truth.picture], label, *corners) for truth in truths or () for label, corners in truth.boxes]
    return IndexRow(
        clip_id=clip.video.youtube_id,
        recording=clip.video.youtube_id,
        media_path=clip.media_path,
        labels=clip.video.labels,
        split=split,
        nominal_seconds=NOMINAL_SECONDS,
        nominal_pictures=round(NOMINAL_SECONDS * pictures_per_second),
        pictures=tuple(pictures),
        boxes=None if truths is None else tuple(sorted(boxes, key=lambda box: box.picture)),
        problem=clip.problem,
    )
