"""VGGSound-Instruments: an index of the 37 instruments' clips in VGG-Sound, and of the frames marked for tests.

Hu et al., "Mix and Localize: Localizing Sound Sources in Mixtures". No list of the training clips is released.
Taken here are the clips of the 37 classes in VGG-Sound's train split; its test split is left out whole.

The test set is a folder with `frames/<sample>.jpg`, `audio/<sample>.wav` and `masks/<sample>`, with any ending or
none, where the released masks are pickled arrays. Sample numbers have gaps; AVGN's lists tell which there are. It
was drawn from these classes without naming the clips, so some of them may lie in the train split: clips that were
found to be in it can be excluded.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from cocktail.storage import join
from cocktail.types import UsageError
from pipelines.datasets.avgn_lists import base_name, check_pairs, count, read_pairs, read_singles
from pipelines.datasets.index import IndexRow, PictureFile, make_index
from pipelines.datasets.layouts import Folder, read_text
from pipelines.datasets.vggsound import CLIP_SECONDS, ListedClip, clip_row, read_clips

_RENAMED = {
    "steel_guitar": "playing steel guitar, slide guitar",
    "violin": "playing violin, fiddle",
    "xylophone": "playing marimba, xylophone",
}
_NAMES = """
    accordion acoustic_guitar banjo bass_drum bass_guitar bongo cello clarinet congas cornet cymbal djembe double_bass
    drum_kit electric_guitar electronic_organ erhu flute glockenspiel guiro hammond_organ harp harpsichord mandolin
    piano saxophone sitar snare_drum steel_guitar tabla timbales trumpet ukulele vibraphone violin xylophone zither
""".split()  # noqa: SIM905 - as a list it takes a line a name
CLASSES = {name: _RENAMED.get(name, f"playing {name.replace('_', ' ')}") for name in _NAMES}
"""Classes, sorted, as AVGN's lists name them, with their labels in VGG-Sound."""

_CONVERTED = (".png", ".npy")
"""Endings of masks that are taken before others of the same sample: pickles that someone converted."""

_TEST_EXPECTED = "the folder of marked frames: frames/<sample>.jpg, audio/<sample>.wav, masks/<sample> with any ending"


def index_vgginstruments(
    csv: str,
    videos: str,
    test: str | None = None,
    test_list: str | None = None,
    multi: str | None = None,
    exclude: str | None = None,
) -> pa.Table:
    """One row a train clip, in the order of the csv of VGG-Sound, then one a test sample, in the order of its list.

    A class id is the place in the 37 sorted classes. `test` is the folder of marked frames, `test_list` AVGN's list
    of them, `multi` AVGN's list of their partners, `exclude` a text file with a clip id a line. Raises UsageError for
    files and folders that cannot be what they should be, and for an excluded clip that the csv does not have.
    """
    if (test is None) != (test_list is None) or (multi is not None and test is None):
        raise UsageError("a test set is a folder of marked frames and a list of its samples: give both, or neither")
    names = {label: name for name, label in CLASSES.items()}
    clips = list(read_clips(csv))
    excluded = _read_ids(exclude, {clip.clip_id for clip in clips}, csv) if exclude is not None else set()
    clips = [clip._replace(label=names[clip.label]) for clip in clips if clip.label in names]
    if not clips:
        raise UsageError(f"{csv} has no clip of the 37 instruments, as {CLASSES['violin']!r}")
    taken = [clip for clip in clips if clip.split == "train" and clip.clip_id not in excluded]
    folder = Folder(videos, "the folder of clips, named <id>_<start, six digits>.mp4")
    rows = [clip_row(clip, folder) for clip in taken]
    notes = _train_notes(clips, taken, excluded, csv)
    if test is not None and test_list is not None:
        samples, test_notes = sample_rows(test, test_list, multi)
        rows += samples
        notes += test_notes
    return make_index(rows, list(CLASSES), notes)


def _read_ids(location: str, known: set[str], csv: str) -> set[str]:
    ids = {line.strip() for line in read_text(location, "a clip id a line, as in ---g-f_I2yQ_000001").splitlines()}
    unknown = sorted(ids - known - {""})
    if unknown:
        raise UsageError(f"{location}: {csv} has no clip {unknown[0]!r}, nor {len(unknown) - 1} others of these ids")
    return ids - {""}


def _train_notes(clips: list[ListedClip], taken: list[ListedClip], excluded: set[str], csv: str) -> list[str]:
    absent = [name for name in CLASSES if name not in {clip.label for clip in taken}]
    tested = [clip.clip_id for clip in clips if clip.split != "train"]
    return [
        *count(tested, f"clips of {base_name(csv)}'s test split are left out"),
        *count(
            [clip.clip_id for clip in clips if clip.split == "train" and clip.clip_id in excluded],
            "train clips are excluded",
        ),
        *count(absent, f"of {len(CLASSES)} classes have no train clip"),
    ]


def sample_rows(test: str, test_list: str, multi: str | None = None) -> tuple[list[IndexRow], list[str]]:
    """The index rows of the marked samples, and what there is to tell of them.

    A sample whose sound, frame or mask is not there has a problem. Raises UsageError as `index_vgginstruments` does.
    """
    names = read_singles(test_list)
    foreign = sorted(set(names.values()) - set(CLASSES))
    if foreign:
        raise UsageError(f"{test_list}: class {foreign[0]!r}. Expected one of {', '.join(CLASSES)}")
    pairs = {} if multi is None else read_pairs(multi)
    notes = [] if multi is None else check_pairs(pairs, names, multi)
    audio, frames, masks = (Folder(join(test, kind), _TEST_EXPECTED) for kind in ("audio", "frames", "masks"))
    mask_names = _choose_masks(masks.names)
    rows = [
        IndexRow(
            clip_id=sample,
            recording=sample,  # which clip it is of was not released
            media_path=audio.path(f"{sample}.wav"),
            pictures=(PictureFile(frames.path(f"{sample}.jpg"), 0.0),),
            mask_path=masks.path(mask_names[sample]) if sample in mask_names else None,
            labels=(name,),
            split="test",
            partner=pairs[sample].partner if sample in pairs else None,
            nominal_seconds=CLIP_SECONDS,
            problem=audio.problem(f"{sample}.wav")
            or frames.problem(f"{sample}.jpg")
            or (None if sample in mask_names else "missing file"),
        )
        for sample, name in names.items()
    ]
    for folder, ending in ((audio, ".wav"), (frames, ".jpg")):
        absent = [sample for sample in names if folder.problem(sample + ending)]
        notes += count(absent, f"samples have no file in {base_name(folder.location)}")
    absent = [sample for sample in names if sample not in mask_names]
    return rows, notes + count(absent, f"samples have no file in {base_name(masks.location)}")


def _choose_masks(names: Iterable[str]) -> dict[str, str]:
    """The mask file of each sample."""
    ordered = sorted(names, key=lambda name: (not name.endswith(_CONVERTED), name), reverse=True)
    return {name.partition(".")[0]: name for name in ordered}
